"""Trains legitimate oddities plain, by our tools, and as students.

    python tests/dev/soundness/run.py [--only WORD] [--out FILE.json]

Each input is a config that MMDetection or MMPretrain trains, with the data
that it needs. Where a plain run of MMEngine, which never imports mmfmkt, ends
well, tools/train.py must, too, with the very same config and with the config
of a distillation that inherits it; a run that hangs is killed, and has failed.
"""

import argparse
import json
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.soundness.inputs import all_inputs  # noqa: E402
from dev.soundness.trial import COLUMNS, ROOT, Server, try_input  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--only', default='', help='inputs whose name or text has this in it'
    )
    parser.add_argument('--out', help='JSON file for the results')
    parser.add_argument(
        '--root',
        type=Path,
        default=ROOT,
        help='clone of the repository whose tools are used (%(default)s)',
    )
    parser.add_argument(
        '--limit',
        type=float,
        default=60,
        help='seconds until a command is killed (%(default)s)',
    )
    parser.add_argument(
        '--keep', help='new folder for what the inputs leave behind'
    )
    return parser.parse_args()


def line(row: Dict[str, Any]) -> str:
    """One row of the table, and what is wrong."""
    if 'skipped' in row:
        return f'{row["name"]:<28} skipped: {row["skipped"]}'
    cells = ' '.join(
        f'{"FAILS" if row[x] else "ok":<6}{row["seconds"][x]:>5.1f}'
        for x in COLUMNS
    )
    faults = [f'{x}: {row[x]}' for x in COLUMNS if row[x]]
    short = ['    ' + textwrap.shorten(x, 300) for x in faults]
    return '\n'.join([f'{row["name"]:<28} {cells}', *short])


def summary(rows: List[Dict[str, Any]]) -> str:
    """What came out, in a line."""
    tried = [x for x in rows if 'skipped' not in x]
    good = [x for x in tried if not x['plain']]
    ours = [x for x in good if not x['train'] and not x['distil']]
    return (
        f'{len(rows)} inputs, {len(rows) - len(tried)} skipped: '
        f'{len(good)} plain runs end well, and of those ours '
        f'{len(ours)}'
    )


def main() -> None:
    args = parse_args()
    inputs = [
        x for x in all_inputs() if args.only.lower() in f'{x.name} {x.what}'
    ]
    server = Server(args.root.resolve(), args.limit)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(args.keep or folder)
        print(f'{"input":<28} ' + ' '.join(f'{x:<11}' for x in COLUMNS))
        for item in inputs:
            rows.append(try_input(item, server, home))
            print(line(rows[-1]), flush=True)
            if args.out:
                Path(args.out).write_text(json.dumps(rows, indent=1) + '\n')
        server.close()
    print(summary(rows))
    sys.exit(any(x.get(c) for x in rows for c in COLUMNS))


if __name__ == '__main__':
    main()
