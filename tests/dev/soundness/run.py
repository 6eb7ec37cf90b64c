"""Train unusual configs with MMEngine, with mmfmkt's tools, and as students.

    python tests/dev/soundness/run.py [--only WORD] [--out FILE.json]

Each input is a config of MMDetection or MMPretrain with its data. If MMEngine
trains it without mmfmkt, tools/train.py must train the same config, and a
distillation that inherits it. A run that exceeds the time limit is killed and
counts as failed.
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
        '--only',
        default='',
        help='run only inputs with this word in name or description',
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
        '--keep', help='new folder for configs, data and logs, which are kept'
    )
    return parser.parse_args()


def line(row: Dict[str, Any]) -> str:
    """Return a row of the table, and the errors."""
    if 'skipped' in row:
        return f'{row["name"]:<28} skipped: {row["skipped"]}'
    cells = ' '.join(
        f'{"FAILS" if row[x] else "ok":<6}{row["seconds"][x]:>5.1f}'
        for x in COLUMNS
    )
    errors = [f'{x}: {row[x]}' for x in COLUMNS if row[x]]
    shortened = ['    ' + textwrap.shorten(x, 300) for x in errors]
    return '\n'.join([f'{row["name"]:<28} {cells}', *shortened])


def summary(rows: List[Dict[str, Any]]) -> str:
    """Return the number of inputs that pass."""
    run = [x for x in rows if 'skipped' not in x]
    trained = [x for x in run if not x['plain']]
    passed = [x for x in trained if not x['train'] and not x['distil']]
    return (
        f'{len(rows)} inputs, {len(rows) - len(run)} skipped; MMEngine trains '
        f'{len(trained)}, mmfmkt trains and distills {len(passed)} of them'
    )


def main() -> None:
    args = parse_args()
    inputs = [
        x
        for x in all_inputs()
        if args.only.lower() in f'{x.name} {x.description}'
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
