"""Comparison of recorded and new results."""

from typing import Any, Dict, Iterator, List, Optional, Tuple

# Largest numbers of differences to print, in total and for each entry.
SHOWN, SHOWN_OF_ENTRY = 30, 3


def leaves(part: Any, name: str = '') -> Iterator[Tuple[str, Any]]:
    """Yield path and value of all values in a recording."""
    if isinstance(part, (dict, list)):
        rows = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in rows:
            yield from leaves(value, f'{name} / {key}' if name else str(key))
    else:
        yield name, part


def difference_of(left: Any, right: Any) -> Optional[Tuple[float, float]]:
    """Return the absolute and relative difference of two numbers."""
    if not all(isinstance(x, str) and '0x' in x for x in (left, right)):
        return None  # hashes, NaN or Inf
    a, b = float.fromhex(left), float.fromhex(right)
    return abs(a - b), abs(a - b) / (max(abs(a), abs(b)) or 1.0)


def differences_of(
    expected: Any, found: Any, tolerance: float = 0.0
) -> Tuple[List[str], Tuple[float, float]]:
    """Return descriptions of the differences, and the largest difference.

    With a tolerance, hashes are not compared, but the projections are.
    """
    if isinstance(found, dict) and 'error' in found:
        return [f'fails: {found["error"][-600:]}'], (0.0, 0.0)
    actual, recorded = dict(leaves(found)), dict(leaves(expected))
    numbers, others, largest = [], [], (0.0, 0.0)
    for name in dict.fromkeys([*recorded, *actual]):
        if name not in actual or name not in recorded:
            where = 'not recorded' if name in actual else 'missing'
            others.append(f'{name}: {where}')
        elif actual[name] != recorded[name]:
            difference = difference_of(recorded[name], actual[name])
            text = f'{name}: {recorded[name]} became {actual[name]}'
            if difference is None:
                if not (tolerance and name.endswith('sha')):
                    others.append(text)
                continue
            if min(difference) <= tolerance:
                continue
            largest = tuple(map(max, largest, difference))
            absolute, relative = difference
            numbers.append(f'{text} (by {absolute:.3g}, rel. {relative:.3g})')
    return numbers + others, largest


def compare(
    part: str,
    expected: Dict[str, Any],
    found: Dict[str, Any],
    tolerance: float = 0.0,
) -> int:
    """Print the differences of two parts; return their number."""
    total, differing, largest, lines = 0, 0, (0.0, 0.0), []
    for name in sorted({*expected, *found}):
        problems, gaps = differences_of(
            expected.get(name), found.get(name), tolerance
        )
        total += len(problems)
        differing += bool(problems)
        largest = tuple(map(max, largest, gaps))
        lines += [f'    {name}: {x}' for x in problems[:SHOWN_OF_ENTRY]]
    print(
        f'{part}: {len(expected)} entries with {len(list(leaves(expected)))} '
        f'values compared; {total} differences in {differing} entries, the '
        f'largest {largest[0]:.3g}, relative {largest[1]:.3g}'
    )
    print(*lines[:SHOWN], sep='\n', end='\n' if lines else '')
    return total
