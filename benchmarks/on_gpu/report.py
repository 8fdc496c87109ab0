"""The report: a JSON file that grows with each row, a table, and a picture."""

from __future__ import annotations

from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

from on_gpu.runner import PARTS

_COLOURS = {
    'preprocess': '#b0b0b0',
    'upload': '#7a7a7a',
    'vision': '#e69f00',
    'prefill': '#56b4e9',
    'token': '#0072b2',
}
_LEFT, _WIDTH, _LINE, _TOP = 350, 520, 26, 60  # [px]


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the report so that a run that is broken off leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix('.new')
    new.write_text(json.dumps(report, indent=1) + '\n')
    new.replace(path)


def print_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table, the first column to the left."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print('  '.join([first, *others]).rstrip())


def print_rows(report: dict[str, Any]) -> None:
    """Print the table of rows, and what was not measured."""
    if report['rows']:
        print()
        print_table(
            [
                *('p50 [ms]', *PARTS, 'p95', 'p99', 'passes', 'load [s]', 'peak [GB]'),
                *('of roof', 'measured', 'model', 'n', 'answers'),
            ],
            (_cells(name, row) for name, row in report['rows'].items()),
        )
        print(
            "'of roof' and 'measured': the time of a token by the vendor's rates and by those "
            "measured in this run,\nas a part of the time that it took. 'model': the action's "
            "time by the model [ms]. 'answers': right, or how many were wrong."
        )
    for name, reason in report['skipped'].items():
        print(f'not measured: {name}: {reason}')


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    ms, against = row['ms'], row.get('against_roof', {})
    share = against.get('share_of_roof', {})
    model = against.get('model_ms', {}).get('action')
    return [
        name,
        *(f'{ms[part]["p50"]:.2f}' for part in PARTS),
        *(f'{ms["action"][which]:.2f}' for which in ('p95', 'p99')),
        str(row['passes']),
        f'{row["load_s"] + row["first_s"]:.1f}',
        f'{row["peak_bytes"] / 1e9:.1f}',
        *(_percent(share.get(which, {}).get('token')) for which in ('nominal', 'measured')),
        f'{model:.1f}' if model else '-',
        str(row['samples']),
        f'{row["wrong_answers"]} wrong' if row['wrong_answers'] else 'right',
    ]


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{100 * share:.0f} %'


def print_model(everywhere: dict[str, Any]) -> None:
    """Print the model of the time: roof and model by GPU, and model with format."""
    print("\nModel of the time, not measured. Roof: the vendor's rates. Model: 95 % of the memory")
    print('rate, and 1.3 µs for each launch of a captured pass. Actions in ms:')
    cells = [
        [
            name,
            gpu,
            *(f'{times["roof_ms"][part]:.2f}' for part in ('vision', 'prefill', 'token')),
            f'{times["roof_ms"]["action"]:.1f}',
            f'{times["model_ms"]["action"]:.1f}',
        ]
        for name, by_gpu in everywhere.items()
        for gpu, times in by_gpu.items()
    ]
    print_table(['', 'GPU', 'vision', 'prefill', 'token', 'roof', 'model'], cells)


def write_svg(path: Path, report: dict[str, Any]) -> None:
    """Draw the parts of the median action of each row of openvla as bars."""
    rows = {n: r for n, r in report['rows'].items() if r['model'] == 'openvla'}
    longest = max((row['ms']['action']['p50'] for row in rows.values()), default=1.0)
    height = _TOP + _LINE * len(rows) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 90}" '
        f'height="{height}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-size="15">One action on {_escaped(report["device"])}: '
        'median [ms]</text>',
    ]
    x = _LEFT
    for name, colour in _COLOURS.items():
        label = 'tokens' if name == 'token' else name
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="45">{label}</text>')
        x += 100
    for index, (name, row) in enumerate(rows.items()):
        y = _TOP + _LINE * index
        parts.append(f'<text x="10" y="{y + 14}">{_escaped(name)}</text>')
        parts += _bar(row, y, _WIDTH / longest)
    path.write_text('\n'.join([*parts, '</svg>']) + '\n')


def _bar(row: dict[str, Any], y: int, scale: float) -> list[str]:
    """Draw the parts, as long together as the whole action was."""
    ms, x = row['ms'], float(_LEFT)
    lengths = {name: ms[name]['p50'] for name in _COLOURS}
    lengths['token'] *= max(row['tokens'] - 1, 0)
    shrink = ms['action']['p50'] / max(sum(lengths.values()), 1e-9)
    drawn = []
    for name, colour in _COLOURS.items():
        width = lengths[name] * shrink * scale
        drawn.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>'
        )
        x += width
    drawn.append(f'<text x="{x + 6:.1f}" y="{y + 14}">{ms["action"]["p50"]:.1f}</text>')
    return drawn


def _escaped(text: str) -> str:
    return text.replace('&', '&amp;').replace('<', '&lt;')
