"""The tables of the pages that records in docs/benchmarks hold."""

from __future__ import annotations

import json
from pathlib import Path

from layout import code, markdown

ROOT = Path(__file__).resolve().parents[1]


def drafting_table() -> list[str]:
    """List what `make drafting` measured."""
    found = json.loads((ROOT / 'docs' / 'benchmarks' / 'drafting.json').read_text())
    kept = next(name for name in found['success'] if name.startswith('keep_reasoning_'))
    shown = {
        'greedy': 'draft_tokens: 0',
        'drafted': f'draft_tokens: {found["draft_tokens"]}',
        kept: kept.replace('reasoning_', 'reasoning: '),
    }
    passes = {'greedy': 1, 'drafted': found['passes_per_token']}
    rows = []
    for key, name in shown.items():
        times = [f'{found[key][which]:.0f} ms' for which in ('p50_ms', 'p95_ms')]
        share = passes.get(key) or found[key]['passes_per_token']
        rate = f'{100 * found["success"][key]:.1f} %'
        rows.append([code(name), f'{share:.2f}', *times, rate])
    return markdown('setting, passes per token, step p50, step p95, success', rows)


def overlay_cost_table() -> list[str]:
    """List what `make viewing` measured."""
    found = json.loads((ROOT / 'docs' / 'benchmarks' / 'viewing.json').read_text())
    rows = [
        (
            size.replace('x', ' x '),
            *(
                f'{parts[key][name]:.1f} ms'
                for key in ('messages_cpu', 'messages')
                for name in ('p50_ms', 'p95_ms')
            ),
        )
        for size, parts in found['sizes'].items()
    ]
    return markdown('picture, time of the CPU p50, p95, wall time p50, p95 of it', rows)


def robot_loop_table() -> list[str]:
    """List what `make robot-loop` measured."""
    found = json.loads((ROOT / 'docs' / 'benchmarks' / 'robot_loop.json').read_text())
    rows = []
    for way, details in found['details'].items():
        kinds = [f'{100 * rate:.1f} %' for rate in details['kinds'].values()]
        lost = f'{details["only_direct"]} / {details["only_this"]}'
        age = f'{1e3 * details["image_age_p50_s"]:.0f} ms'
        steps = f'{details["steps_of_success"]:.1f}'
        rows.append([code(way), f'{100 * found[way]:.1f} %', *kinds, lost, steps, age])
    kinds = ', '.join(next(iter(found['details'].values()))['kinds'])
    columns = 'only direct / only this succeeded, steps to success, age of image at action p50'
    return markdown(f'way, success, {kinds}, {columns}', rows)


def kernels_table() -> list[str]:
    """List what kernels.json says: what each kernel reads, and what it takes on each target."""
    record = json.loads((ROOT / 'docs' / 'benchmarks' / 'kernels.json').read_text())
    targets = list(dict.fromkeys(entry['target'] for entry in record['compiled']))
    taken = {(e['kernel'], e['use'], e['target']): e for e in record['compiled']}
    rows = []
    for entry in record['kernels']:
        key = entry['kernel'], entry['use']
        each = [taken.get((*key, target)) for target in targets]
        registers = [str(e['registers']) if e else '' for e in each]
        shared = max(e['shared_bytes'] for e in each if e) / 1024
        kernel = code(entry['kernel'].removesuffix('_kernel'))
        read, least = f'{entry["read_bytes"] / 1e6:.2f}', f'{entry["least_us"]:.1f}'
        rows.append(
            (
                kernel,
                entry['use'],
                read,
                least,
                str(entry['programs']),
                *registers,
                f'{shared:.0f}',
            )
        )
    return markdown(f'kernel, computes, MB, µs, programs, {", ".join(targets)}, shared KiB', rows)


def token_table() -> list[str]:
    """Add up the kernels of one token of openvla-7b from kernels.json, for each format."""
    record = json.loads((ROOT / 'docs' / 'benchmarks' / 'kernels.json').read_text())
    read = {entry['use']: entry['read_bytes'] for entry in record['kernels']}
    least = {entry['use']: entry['least_us'] for entry in record['kernels']}
    layers = 32
    rows = []
    for weights in ('bfloat16', 'fp8', 'int8', 'int4'):
        uses = [f'{use}, {weights}' for use in ('qkv', 'out', 'gate_up', 'down')]
        of_layer = [*uses, '1 new of 292 positions', '1 new']
        once = ['32064 rows of the head', '8016 programs']
        totals = [
            sum(layers * some[use] for use in of_layer) + sum(some[use] for use in once)
            for some in (read, least)
        ]
        launches = layers * len(of_layer) + len(once)
        cells = f'{totals[0] / 1e9:.2f}', f'{totals[1] / 1e3:.2f}', str(launches)
        rows.append((code(weights), *cells, 'not run on a GPU yet'))
    return markdown('weights, GB, ms, launches, measured', rows)


def time_model_table() -> list[str]:
    """List what time_model.json says: the roof and the model of an action and of a token."""
    record = json.loads((ROOT / 'docs' / 'benchmarks' / 'time_model.json').read_text())
    rows = [
        (
            name,
            gpu,
            *(f'{times[kind]["action"]:.1f}' for kind in ('roof_ms', 'model_ms')),
            *(f'{times[kind]["token"]:.2f}' for kind in ('roof_ms', 'model_ms')),
        )
        for name, by_gpu in record['time_model'].items()
        for gpu, times in by_gpu.items()
    ]
    columns = 'model and weights, GPU, roof [ms], model [ms], a token: roof [ms], model [ms]'
    return markdown(columns, rows)


def camera_table() -> list[str]:
    """List what `benchmarks/camera.py` measured: the median of each step, for each size."""
    record = json.loads((ROOT / 'docs' / 'benchmarks' / 'camera.json').read_text())['steps']
    steps = next(iter(record.values()))
    rows = []
    for step in steps:
        times = [sizes[step]['p50_ms'] for sizes in record.values()]
        rows.append((step, *(f'{ms:.{1 if ms >= 1 else 2}f}' for ms in times)))
    return markdown(f'step, {", ".join(record)}', rows)
