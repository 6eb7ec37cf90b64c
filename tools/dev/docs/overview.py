"""Draws docs/overview.svg: teacher, student, flow and what is deployed.

    python tools/dev/docs/overview.py

The picture has a background of its own, so it is readable on light and dark
pages.
"""

from pathlib import Path
from typing import List

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'overview.svg'
WIDTH, HEIGHT = 960, 400
FONT = 'font-family="Helvetica, Arial, sans-serif"'
BLUE, ORANGE, GREEN, GRAY = '#1f5fa8', '#b04a00', '#2a7a2a', '#555555'


def text(
    x: int,
    y: int,
    content: str,
    size: int = 14,
    color: str = '#222222',
    anchor: str = 'middle',
    weight: str = 'normal',
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" '
        f'text-anchor="{anchor}" font-weight="{weight}" {FONT}>'
        f'{content}</text>'
    )


def box(
    x: int,
    y: int,
    width: int,
    title: str,
    detail: str,
    color: str,
    dashed: bool = False,
) -> str:
    """Return a box of height 56 with a title and a line below it."""
    dash = ' stroke-dasharray="6 4"' if dashed else ''
    center = x + width // 2
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="56" rx="6" '
        f'fill="#ffffff" stroke="{color}" stroke-width="2"{dash}/>'
        + text(center, y + 24, title, 17, color, weight='bold')
        + text(center, y + 45, detail, 14, GRAY)
    )


def arrow(x1: int, y1: int, x2: int, y2: int, color: str = GRAY) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" '
        f'stroke-width="2" marker-end="url(#arrow)"/>'
    )


def overview() -> str:
    """Return the SVG."""
    parts: List[str] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
        f'{HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        '<title>Teacher, student, flow, and the deployed student</title>',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        f'<path d="M0 0L10 5L0 10z" fill="{GRAY}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#f6f8fa" '
        'stroke="#d0d7de"/>',
        text(24, 32, 'Training', 18, weight='bold', anchor='start'),
        # Teacher.
        box(130, 48, 180, 'Teacher', 'frozen, any config', ORANGE),
        arrow(310, 76, 596, 76),
        text(453, 66, 'teacher feature', 14, GRAY),
        box(600, 48, 190, 'Distillation loss', 'PKD, DIST, KD, ...', ORANGE),
        # Student.
        text(56, 142, 'image', 15),
        arrow(84, 130, 126, 86),
        arrow(84, 144, 126, 184),
        box(130, 160, 180, 'Student', 'backbone and neck', BLUE),
        arrow(310, 188, 376, 188),
        text(343, 178, 'feature', 14, GRAY),
        box(380, 160, 180, 'Flow', 'N Euler steps', GREEN),
        arrow(560, 188, 778, 188),
        arrow(695, 188, 695, 110),
        text(623, 178, 'estimates', 14, GRAY),
        box(782, 160, 154, 'Student head', 'own loss', BLUE),
        # Deployment.
        f'<line x1="24" y1="244" x2="{WIDTH - 24}" y2="244" '
        'stroke="#d0d7de" stroke-width="2"/>',
        text(24, 274, 'Deployment', 18, weight='bold', anchor='start'),
        text(24, 319, 'FM-KT', 15, anchor='start', weight='bold'),
        box(170, 286, 160, 'Student', 'backbone and neck', BLUE),
        arrow(330, 314, 396, 314),
        box(400, 286, 160, 'Flow', 'K Euler steps', GREEN),
        arrow(560, 314, 626, 314),
        box(630, 286, 160, 'Student head', 'predictions', BLUE),
        text(24, 379, 'FM-KT^Theta', 15, anchor='start', weight='bold'),
        text(
            170,
            379,
            'the unchanged student: no flow, same parameters and latency',
            15,
            BLUE,
            'start',
        ),
        '</svg>',
    ]
    return '\n'.join(parts) + '\n'


if __name__ == '__main__':
    PAGE.write_text(overview(), encoding='utf-8')
    print(PAGE)
