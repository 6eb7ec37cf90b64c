"""Result table of the sweep, which tries each model family as a student."""

from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence

from rich.console import Console
from rich.table import Table

COLUMNS = ('Family', 'equivalence', 'theta', 'fmkt', 'Config', 'Reason')


def row(key: str, checks: Dict[str, dict]) -> List[str]:
    """Return a family's row: status of each check, config and reasons.

    Args:
        key (str): Library and name of the family.
        checks (dict): Results of the family by check, ``equivalence`` and
            ``variants`` (coverage_sweep.py).
    """
    equivalence = checks.get('equivalence', {})
    variants = checks.get('variants', {})
    both_checks = [equivalence, variants]
    cells = [equivalence.get('status', '')]
    cells += [
        variants.get(name, variants.get('status', ''))
        for name in ('theta', 'fmkt')
    ]
    reasons = [x['reason'] for x in both_checks if x.get('reason')]
    config = next((x['config'] for x in both_checks if x.get('config')), '')
    return [key, *cells, config, '; '.join(dict.fromkeys(reasons))]


def counts(rows: Sequence[List[str]], library: str) -> List[str]:
    """Return a line per check: the number of families with each status."""
    lines = []
    for column in (1, 2, 3):
        statuses = Counter(
            x[column]
            for x in rows
            if x[0].startswith(f'{library}/') and x[column]
        )
        if statuses:
            lines.append(
                f'{library}, {COLUMNS[column]}: '
                + ', '.join(
                    f'{count} {status}'
                    for status, count in statuses.most_common()
                )
            )
    return lines


def report(
    results: Dict[str, Dict[str, dict]], path: Path, console: Console
) -> None:
    """Print and write a row for each family, and the counts.

    Args:
        results (dict): Results by family and check.
        path (Path): Markdown file to write.
        console (Console): Console to print to.
    """
    table = Table(*COLUMNS, title='Families as students')
    rows = [row(*item) for item in sorted(results.items())]
    for cells in rows:
        table.add_row(*cells)
    console.print(table)
    libraries = dict.fromkeys(cells[0].split('/')[0] for cells in rows)
    summary = [line for x in libraries for line in counts(rows, x)]
    for line in summary:
        console.print(line)
    lines = [COLUMNS, ['---'] * len(COLUMNS), *rows]
    text = ['| ' + ' | '.join(line) + ' |' for line in lines]
    path.write_text('\n'.join([*(f'- {x}' for x in summary), '', *text, '']))
