"""The tables of docs/reliability.md, from what `make reliability` and `make soak` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layout import code, markdown

_RECORDS = Path(__file__).resolve().parent / 'benchmarks'


def faults_table(controller: str) -> list[str]:
    """List what came of each fault with one controller."""
    rows = []
    for row in _read('reliability')['faults']:
        if row['controller'] != controller:
            continue
        if 'hold' not in row:
            rows.append([row['fault'], f'not measured: {row["error"]}', *[''] * 6])
            continue
        limit = '' if row['limit_ms'] is None else f'{row["limit_ms"]} ms: '
        came = f'{row["designed"]}: {row["returned"]} of {row["repeats"]}'
        if len(row['states']) > 1:
            came += f' ({", ".join(f"{n} {state}" for state, n in row["states"].items())})'
        rows.append(
            [
                row['fault'],
                limit + row['limit'],
                *_spread(row['hold'], row['held'], row['repeats']),
                _spread(row['said'], row['repeats'], row['repeats'])[0],
                f'{row["hand_rests"]["max_ms"]:.0f} ms' if _rests(row) else 'moves on',
                f'{row["longest_gap_ms"]} ms' if 'ended' not in row['states'] else '',
                str(sum(row['violations'].values())),
                came,
            ]
        )
    columns = 'fault, limit, held p50, held max, gate says p50, hand rests max, longest gap'
    return markdown(f'{columns}, commands out of limits, then', rows)


def details_table() -> list[str]:
    """List what else was measured of some faults."""
    rows = [
        (row['fault'], f'{row["longest_gap_ms"]} ms', _join(row['details']))
        for row in _read('reliability')['faults']
        if row.get('details')
    ]
    return markdown('fault, longest time without a command, what was seen', rows)


def cycles_table() -> list[str]:
    """List what life cycles left behind."""
    found = _read('reliability')['lifecycle']
    samples = [s for s in found['samples'] if s['cycle'] in _some(found['cycles'])]
    rows = [
        [
            str(sample['cycle']),
            f'{sample["memory_mb"]:.1f} MB',
            str(sample['descriptors']),
            str(sample['threads']),
        ]
        for sample in samples
    ]
    return markdown('cycle, memory, file descriptors, threads', rows)


def soak_table() -> list[str]:
    """List the memory of each process of the soak."""
    rows = []
    for name, one in _read('soak')['memory'].items():
        slope = one['slope_mb_per_h']
        rows.append(
            [
                code(name),
                str(one['lives']),
                f'{one["judged_s"] / 60:.1f} min',
                f'{one["memory_mb"]:.0f} MB',
                '' if slope is None else f'{slope:+.1f} MB/h',
                'yes' if one['grows'] else 'no',
            ]
        )
    return markdown('process, lives, longest after its warm-up, memory, slope, grows', rows)


def soak_counts() -> list[str]:
    """List what happened in the soak."""
    found = _read('soak')
    names = {
        'ran_h': 'hours',
        'faults': 'faults',
        'commands': 'commands judged',
        'actions': 'actions',
        'violations': 'commands out of limits',
        'not_as_designed': 'faults after which motion did not come as designed',
        'errors': 'times that the loop had to be started anew',
    }
    return markdown('counted, number', [(text, f'{found[n]:,}') for n, text in names.items()])


def _read(name: str) -> dict[str, Any]:
    return json.loads((_RECORDS / f'{name}.json').read_text())


def _spread(values: dict[str, float] | None, held: int, repeats: int) -> list[str]:
    if values is None:
        return ['never', 'never'] if not held else ['', '']
    some = '' if held == repeats else f' ({held} of {repeats})'
    return [f'{values["p50_ms"]:.0f} ms{some}', f'{values["max_ms"]:.0f} ms']


def _rests(row: dict[str, Any]) -> bool:
    return row['held'] == row['repeats'] or 'ended' in row['states'] or 'SIGSTOP' in row['fault']


def _join(details: list[str]) -> str:
    return '; '.join(dict.fromkeys(details))


def _some(cycles: int) -> set[int]:
    return {0, *(cycles * part // 5 for part in range(1, 6))}
