"""benchmarks/gpu.py: every row on a tiny model and a CPU, its report, its time limit."""

from dataclasses import replace
import json
from pathlib import Path
import subprocess
import sys
import time
from xml.etree import ElementTree

from on_gpu.engines import known_formats
from on_gpu.rows import list_rows
from on_gpu.runner import PARTS
import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / 'benchmarks' / 'gpu.py'


# What a machine with torch, timm and transformers may lack, and the rest of the package uses.
LACKING = (
    *('cv2', 'fastapi', 'matplotlib', 'modelopt', 'msgpack', 'mujoco', 'onnx', 'onnxruntime'),
    *('pydantic', 'pydantic_core', 'rclpy', 'scipy', 'sentencepiece'),
)
BARE = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name.split('.')[0] in {LACKING!r} else find(name, *more)
)
"""


def run(out, *words):
    """Run the program from elsewhere, as on a machine where nothing is installed."""
    (out / 'sitecustomize.py').write_text(BARE)
    command = [sys.executable, str(PROGRAM), '--out', str(out), *words]
    environment = {'PATH': '', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(out)}
    made = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
    return made, json.loads((out / 'gpu_cpu.json').read_text())


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp('gpu')
    return out, *run(out, '--device', 'cpu', '--model', 'tiny', '--minutes', '4')


ROWS = [row for group in list_rows() for row in group]
RUN = [row for row in ROWS if row.weights in ('bfloat16', *known_formats())]


def test_every_row_is_measured(tiny):
    _, made, report = tiny
    assert made.returncode == 0, made.stdout + made.stderr
    assert report['rows'].keys() == {row.name for row in RUN}
    assert report['skipped'].keys() == {row.name for row in ROWS} - report['rows'].keys()
    assert len({row.name for row in ROWS}) == len(ROWS)
    for name, row in report['rows'].items():
        assert row['samples'] >= 3, name
        assert row['ms'].keys() == set(PARTS), name
        for part in row['ms'].values():
            assert 0 <= part['p50'] <= part['p95'] <= part['p99'] < 10_000, name
        whole = row['ms']['action']['p50']
        assert whole > row['ms']['preprocess']['p50'] + row['ms']['vision']['p50'] / 2, name
        assert row['load_s'] + row['first_s'] > 0, name


def test_the_machine_was_bare(tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(BARE)
    code = f"""
import timm, torch
for name in {LACKING!r}:
    try:
        __import__(name)
    except ImportError:
        print(name)
"""
    made = subprocess.run(
        [sys.executable, '-c', code],
        env={'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert made.stdout.split() == list(LACKING)


def test_rows_write_what_the_model_means(tiny):
    _, _, report = tiny
    apart = {'bfloat16': 0.02, 'fp8': 0.1, 'int8': 0.1, 'int4': 0.3}
    for name, row in report['rows'].items():
        assert row['wrong_answers'] == 0, name
        assert row['logits_apart'] < apart[row['weights']], name
        assert (row['positions'], row['tokens']) in ((285, 7), (325, 31)), name
    # The others are compared with it.
    assert report['rows']['openvla: Hugging Face eager bfloat16']['logits_apart'] == 0


def test_drafts_save_passes(tiny):
    _, _, report = tiny
    drafted = [row for row in RUN if row.accepted is not None]
    assert drafted
    for row in RUN:
        if row.accepted is None:
            assert report['rows'][row.name]['passes'] >= report['rows'][row.name]['tokens']
    for row in drafted:
        without = report['rows'][replace(row, accepted=None).name]['passes']
        passes = report['rows'][row.name]['passes']
        assert 1 <= passes < without
        if row.accepted == 1:
            assert passes == 1


def test_tokens_are_checked_first(tiny):
    _, made, report = tiny
    found = {(one['checkpoint'], one['weights']) for one in report['correctness']}
    checkpoints = ('golden fused', 'golden single', 'tiny_openvla', 'tiny_ecot')
    formats = ('float32', 'bfloat16', *known_formats())
    assert found == {(name, weights) for name in checkpoints for weights in formats}
    for one in report['correctness']:
        if one['weights'] == 'int4' and one['checkpoint'].startswith('golden'):
            assert 'divide' in one['skipped']  # 88 inputs
            continue
        assert one['wrong'] == 0, one
        assert one['tokens'] >= 20, one
        if one['weights'] == 'float32':
            assert one['equal_answers'] == one['answers'], one
            assert one['near_ties'] == 0, one
    lines = made.stdout.splitlines()
    tokens = [index for index, line in enumerate(lines) if ' tokens right: ' in line]
    rows = [index for index, line in enumerate(lines) if ROWS[0].name in line]
    assert max(tokens) < min(rows)


def test_report_has_machine_rates_model_and_pictures(tiny):
    out, made, report = tiny
    assert report['device'] == 'CPU'
    assert {'torch', 'timm', 'transformers', 'triton'} <= report['versions'].keys()
    assert all(value > 0 for value in report['rates'].values())
    for name, row in report['rows'].items():
        if row['engine'] == 'ours':
            shares = row['against_roof']['share_of_roof']['measured']
            assert 0 < shares['action'] < 1, name
    assert report['time_model'].keys() == report['work'].keys()
    assert report['seconds'] < 250
    drawn = ElementTree.parse(out / 'gpu_cpu.svg').getroot()
    texts = [one.text for one in drawn.iter('{http://www.w3.org/2000/svg}text')]
    assert {row.name for row in RUN if row.model == 'openvla'} <= set(texts)
    table = made.stdout.partition('p50 [ms]')[2]
    for row in RUN:
        assert f'{row.name}  ' in table
    assert list(out.glob('trace_bfloat16.json.gz'))
    assert report['profiles']['openvla: ours captured bfloat16'][0]['us'] > 0


def test_it_stops_when_its_time_is_over_and_keeps_what_it_has(tmp_path):
    begin = time.monotonic()
    # The time of importing everything, and of a few rows.
    made, report = run(
        tmp_path, '--device', 'cpu', '--model', 'tiny', '--minutes', '0.12', '--skip-tokens'
    )
    assert time.monotonic() - begin < 25
    assert made.returncode == 0, made.stderr
    assert report['skipped']
    assert report['rows'].keys() | report['skipped'].keys() == {row.name for row in ROWS}
    assert not report['rows'].keys() & report['skipped'].keys()
    late = [reason for reason in report['skipped'].values() if 'were left' in reason]
    assert late
    for name in report['skipped']:
        assert f'not measured: {name}: ' in made.stdout


def test_without_a_gpu_it_prints_the_model_of_7b_and_says_so(tmp_path):
    import torch

    if torch.cuda.is_available():
        return
    made, report = run(tmp_path)
    assert made.returncode == 0, made.stderr
    assert 'nothing was measured' in made.stdout
    assert report['rows'] == {}
    assert report['time_model'].keys() >= {'openvla bfloat16', 'ecot bfloat16'}
    for name in ('H100', 'H200', 'GeForce RTX 4090', 'Orin'):
        assert made.stdout.count(f' {name} ') >= 2
        times = report['time_model']['openvla bfloat16'][name]
        assert times['roof_ms']['action'] < times['model_ms']['action']
    # docs/speed.md has it, too.
    recorded = json.loads((ROOT / 'docs' / 'benchmarks' / 'time_model.json').read_text())
    again = 'python benchmarks/gpu.py --json docs/benchmarks/time_model.json && make docs'
    assert recorded['time_model'] == report['time_model'], f'run {again}'
