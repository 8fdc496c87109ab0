"""The parts of benchmarks/gpu.py that a run on a CPU does not show."""

from dataclasses import replace
import subprocess
import sys
import threading
import time

import numpy as np
from on_gpu import correctness
from on_gpu.counting import count_language, count_vision
from on_gpu.machine import NOMINAL, nominal_rates, Rates
from on_gpu.measure import groups_that_fit
from on_gpu.models import make_model, SIZES
from on_gpu.ours import KnownAnswer
from on_gpu.rows import list_rows, Row
from on_gpu.time_left import at_most, TimeIsOverError, TimeLeft
from on_gpu.time_model import CAPTURED_LAUNCH, count_model
import pytest
import torch

ROOT = correctness.ROOT
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def models():
    return {
        name: make_model(name, size, CPU, torch.bfloat16) for name, size in SIZES['7b'].items()
    }


def test_7b_is_as_large_as_the_released_checkpoint(models):
    # Parameters: shared arithmetic of the model card; 982 and 637 tensors are stored.
    for name, count, parameters in (
        ('openvla', 982, 7_541_237_184),
        ('ecot', 637, 7_188_124_608),
    ):
        shapes = models[name].checkpoint.shapes
        assert len(shapes) == count
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters
    assert models['openvla'].positions == 285
    assert models['ecot'].positions == 325
    assert len(models['ecot'].answer) == 357


def test_passes_are_counted_from_the_engine(models):
    # 32 layers of 4 * 4096² and 3 * 4096 * 11008 weights, two norms each, and the last norm.
    layers = 2 * (32 * (4 * 4096**2 + 3 * 4096 * 11008))
    norms = 2 * 65 * 4096
    row = 2 * 4096
    checkpoint, ids = models['openvla'].checkpoint, models['openvla'].ids
    constrained = count_language(checkpoint, ids, (31744, 32000))
    free = count_language(checkpoint, ids, None)
    assert constrained.token.bytes == layers + norms + 256 * row
    assert free.token.bytes == layers + norms + 32064 * row
    assert constrained.prefill.bytes >= layers + norms
    assert constrained.cache_bytes == 2 * 32 * 4096 * 2
    # Both embeddings are held, though a pass reads one row of the first.
    assert constrained.held_bytes == layers + norms + 2 * 32064 * row
    assert free.token.launches >= 32 * 5
    step = constrained.step(300)
    assert step.bytes == constrained.token.bytes + 300 * constrained.cache_bytes
    assert constrained.step(300, 8).flop == 8 * step.flop


def test_vision_is_counted_from_the_towers(models):
    checkpoint = models['openvla'].checkpoint
    work = count_vision(checkpoint.towers, checkpoint.llm)
    # Products of 23 blocks of 1024 and 26 of 1152, which see 261 and 256 positions.
    dino = 23 * (24 * 261 * 1024**2 + 4 * 261**2 * 1024)
    siglip = 26 * (256 * (8 * 1152**2 + 4 * 1152 * 4304) + 4 * 256**2 * 1152)
    patches = 2 * 256 * 588 * (1024 + 1152)
    projector = 2 * 256 * (2176 * 8704 + 8704 * 4096 + 4096 * 4096)
    assert work.flop == dino + siglip + patches + projector


def test_time_is_bytes_over_bandwidth_and_launches(models):
    counted = count_model(models['openvla'])['bfloat16']
    rates = Rates(1e12, 1e15, 2e15)
    roof, model = counted.times(rates, 0.0), counted.times(rates, CAPTURED_LAUNCH)
    step = counted.step(7)
    assert roof.token == pytest.approx(step.bytes / 1e12)
    assert model.token - roof.token == pytest.approx(
        step.launches * CAPTURED_LAUNCH + step.spilled / 1e12
    )
    assert roof.action == pytest.approx(roof.vision + roof.prefill + 6 * roof.token)
    # A slow machine computes the prompt for longer than it reads the weights.
    slow = counted.times(Rates(1e12, 1e13, 2e13), 0.0)
    assert slow.prefill == pytest.approx(counted.language.prefill.flop / 1e13)
    # Four passes instead of seven, each of which writes two tokens.
    assert counted.times(rates, 0.0, passes=4).action < roof.action - 2.9 * roof.token


def test_vendors_rates_are_found_by_name():
    for name, found in (
        ('NVIDIA H100 80GB HBM3', 'H100'),
        ('NVIDIA H100 PCIe', 'H100 PCIe'),
        ('NVIDIA H200', 'H200'),
        ('NVIDIA GeForce RTX 4090', 'GeForce RTX 4090'),
        ('NVIDIA A100-SXM4-80GB', 'A100-SXM4-80GB'),
        ('Orin', 'Orin'),
    ):
        assert nominal_rates(name) == NOMINAL[found]
    assert nominal_rates('CPU') is None


def test_drafts_are_wrong_as_often_as_asked():
    answer = list(range(1000, 2000))
    assert KnownAnswer(answer, 1.0).propose([]) == answer
    some = KnownAnswer(answer, 0.8).propose(answer[:100])
    right = sum(a == b for a, b in zip(some, answer[100:], strict=True))
    assert 0.75 < right / 900 < 0.85
    assert KnownAnswer(answer, 0.8).propose(answer) == []


def test_rows_that_do_not_fit_together_follow_one_another():
    rows = list_rows()[0]
    together = list(groups_that_fit(rows, 140e9))
    assert together == [rows]
    apart = list(groups_that_fit(rows, 20e9))
    assert [row for group in apart for row in group] == rows
    for group in apart:
        assert sum(row.bytes_of_7b for row in group) <= 20e9
    # Drafts need the engine of the row without, so they may load it again.
    assert len(apart) > 3


def test_time_left_says_why_not():
    left = TimeLeft(10)
    assert left.why_not(5) == ''
    assert left.why_not(50) == 'it takes about 50 s, and 10 s were left'
    assert TimeLeft(10, time.monotonic() - 20).seconds < 0


def test_work_that_takes_too_long_is_broken_off():
    begin = time.monotonic()
    with pytest.raises(TimeIsOverError, match='broken off'), at_most(0.2):
        threading.Event().wait()
    assert time.monotonic() - begin < 5
    with at_most(0.05):
        pass
    time.sleep(0.1)  # nothing rings afterwards
    # Other threads get no signals.
    done = []
    thread = threading.Thread(target=lambda: done.append(_sleep_at_most()))
    thread.start()
    thread.join()
    assert done == ['slept']


def _sleep_at_most():
    with at_most(0.01):
        time.sleep(0.05)
    return 'slept'


def test_a_wrong_token_is_found_and_a_near_tie_is_none():
    made = correctness.References(50).of('golden fused', '')
    same = made.compare(made.answers, 0.0)
    assert same['wrong'] == same['near_ties'] == 0
    assert same['equal_answers'] == same['answers']
    first, *others = made.answers
    changed = [[*first[:-1], (first[-1] + 7) % 300], *others]
    found = made.compare(changed, 0.08)
    assert (found['wrong'], found['equal_answers']) == (1, found['answers'] - 1)
    assert not correctness.is_right(found)
    assert made.compare(changed, 10.0)['near_ties'] == 1
    requests = [replace(made.requests[0], written=changed[0]), *made.requests[1:]]
    assert replace(made, requests=requests).compare(made.answers, 0.0)['wrong'] == 1
    assert not correctness.is_right({'failed': 'an error'})
    assert correctness.is_right({'skipped': 'no time was left'})


def test_reading_kernel_reads_everything():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / 'benchmarks')!r})
import torch
from on_gpu.read_kernel import read_sums
values = torch.randn(3 * 16 * 4096 + 5, generator=torch.Generator().manual_seed(0))
expected = values[: 3 * 16 * 4096].view(3, -1).sum(1)
torch.testing.assert_close(read_sums(values), expected, rtol=1e-4, atol=1e-2)
print('read')
"""
    environment = {'TRITON_INTERPRET': '1', 'PATH': ''}
    command = [sys.executable, '-c', code]
    made = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert made.stdout == 'read\n', made.stderr


def test_names_say_what_a_row_is():
    assert Row('ecot', 'ours', 'captured', 'fp8', 0.9).name == (
        'ecot: ours captured fp8, drafts 90% right'
    )
