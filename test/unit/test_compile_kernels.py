"""The kernels, compiled for GPUs that are not here: nothing spills, and the record is of them."""

import json
import os
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / 'docs' / 'benchmarks' / 'kernels.json').read_text())


def execute(*words, folder):
    """Run Python where kernels are compiled anew, with the sources and the tools."""
    paths = [str(ROOT), str(ROOT / 'tools'), *filter(None, [os.environ.get('PYTHONPATH')])]
    variables = {'TRITON_CACHE_DIR': str(folder), 'PYTHONPATH': os.pathsep.join(paths)}
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'} | variables
    command = [sys.executable, *map(str, words)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_kernels_compile_without_spilling_and_as_recorded(tmp_path):
    file = tmp_path / 'kernels.json'
    execute(
        ROOT / 'tools' / 'compile_kernels.py', '--targets', 90, '--json', file, folder=tmp_path
    )
    found = json.loads(file.read_text())
    assert found['kernels'] == RECORD['kernels'], 'write docs/benchmarks/kernels.json anew'
    assert len(found['compiled']) == len(found['kernels'])
    assert {entry['spilled_bytes'] for entry in found['compiled']} == {0}
    # A block of an Ada or Orin GPU has at most 99 KiB, which is the least of the four.
    assert max(entry['shared_bytes'] for entry in found['compiled']) <= 99 * 1024


def test_the_record_has_every_kernel_for_every_target():
    uses = {(entry['kernel'], entry['use']) for entry in RECORD['kernels']}
    fp8 = {use for use in uses if 'fp8' in use[1]}
    for target in (80, 87, 89, 90):
        compiled = {
            (entry['kernel'], entry['use']): entry
            for entry in RECORD['compiled']
            if entry['target'] == f'sm_{target}'
        }
        assert compiled.keys() == (uses if target >= 89 else uses - fp8)
        assert {entry['spilled_bytes'] for entry in compiled.values()} == {0}
    assert {(entry['kernel'], entry['use']) for entry in RECORD['skipped']} == fp8


def test_float32_fits_into_the_shared_memory_of_every_gpu(tmp_path):
    code = """
from dataclasses import replace
import torch
from compile_kernels import measure
from kernel_cases import _attend, _rows, _weight
from trt_openvla_ros.engines.torch.kernels import attention, rows

keys = torch.empty(32, 640, 128, device='meta')
for length in (1, 64):
    options = attention.constants(length, 32, keys, False)[2]
    cases = [(_attend(length, 640, False), options)]
    for weights, dtype in (('int8', torch.int8), ('int4', torch.int32)):
        _, options = rows.constants(64 * length, 4096, *_weight(dtype, 12288, 4096), 4)
        cases.append((_rows('qkv', weights, dtype, 64 * length), options))
    for case, options in cases:
        kinds = {n: '*fp32' if k == '*bf16' and n != 'scale' else k for n, k in case.types.items()}
        print(measure(replace(case, types=kinds, options=options), 89)['shared_bytes'])
"""
    taken = [int(line) for line in execute('-c', code, folder=tmp_path).split()]
    assert len(taken) == 6
    assert max(taken) <= 99 * 1024


def test_spilling_would_be_seen(tmp_path):
    code = (
        'from dataclasses import replace; from compile_kernels import measure; '
        'from kernel_cases import cases; '
        'case = next(cases()); few = replace(case, options={**case.options, "maxnreg": 24}); '
        'print(measure(few, 90)["spilled_bytes"])'
    )
    assert int(execute('-c', code, folder=tmp_path)) > 0
