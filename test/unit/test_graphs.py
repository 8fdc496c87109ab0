"""The capture of a graph, with a stand-in for torch's part of it."""

from contextlib import contextmanager, nullcontext
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch

from trt_openvla_ros.engines.torch import graphs

CUDA = torch.device('cuda')


@pytest.fixture
def events(monkeypatch):
    """What was asked of the GPU, in order."""
    found = []
    stream = SimpleNamespace(wait_stream=lambda other: found.append('wait'))

    @contextmanager
    def graph(*_, **__):
        found.append(('begin', torch.is_inference_mode_enabled()))
        yield
        found.append(('end', torch.is_inference_mode_enabled()))

    monkeypatch.setattr(torch.cuda, 'device', lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda: stream)
    monkeypatch.setattr(torch.cuda, 'stream', lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, 'graph', graph)
    monkeypatch.setattr(
        torch.cuda, 'CUDAGraph', lambda: SimpleNamespace(replay=lambda: found.append('replay'))
    )
    monkeypatch.setattr(graphs, '_capturing', lambda device: stream)
    return found


@torch.inference_mode()
def test_work_runs_before_it_is_captured_and_all_in_inference_mode(events):
    replay = graphs.captured(
        lambda: events.append(('run', torch.is_inference_mode_enabled())), CUDA
    )
    work = ('run', True)
    assert events == ['wait', work, work, 'wait', ('begin', True), work, ('end', True)]
    replay()
    assert events[-1] == 'replay'


def test_nobody_captures_or_replays_while_another_thread_captures(events):
    replay = graphs.captured(lambda: None, CUDA)
    events.clear()
    begun, go_on = Event(), Event()

    def slow():
        begun.set()
        assert go_on.wait(60)

    threads = [Thread(target=graphs.captured, args=(slow, CUDA))]
    threads[0].start()
    assert begun.wait(60)
    threads += [Thread(target=replay), Thread(target=graphs.captured, args=(begun.set, CUDA))]
    begun.clear()
    for thread in threads[1:]:
        thread.start()
    assert not begun.wait(0.2)
    assert 'replay' not in events
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert events.count('replay') == 1
    assert begun.is_set()
