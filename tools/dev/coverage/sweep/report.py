"""Result table of the sweep, which tries each model family as a student."""

from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence

from mmfmkt.apis.compare.results import markdown_table

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


def report(results: Dict[str, Dict[str, dict]], path: Path) -> None:
    """Write a table with a row for each family; print and write the counts.

    Args:
        results (dict): Results by family and check.
        path (Path): Markdown file to write.
    """
    rows = [row(*item) for item in sorted(results.items())]
    libraries = dict.fromkeys(cells[0].split('/')[0] for cells in rows)
    summary = [line for x in libraries for line in counts(rows, x)]
    print(*summary, f'table: {path}', sep='\n')
    items = [f'- {line}' for line in summary]
    table = markdown_table(COLUMNS, rows)
    path.write_text('\n'.join([*items, '', table, '']))
