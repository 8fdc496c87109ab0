"""The vision engine's work on a GPU, as far as it can be seen without one."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.pixels import Normaliser
from trt_openvla_ros.engines.torch import vision as module
from trt_openvla_ros.engines.torch.vision import TorchVision

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
CPU = torch.device('cpu')


def to_fake_gpu(mode: FakeTensorMode, engine: TorchVision, checkpoint: Checkpoint) -> None:
    """Move an engine to a GPU that has shapes and no numbers; timm cannot build itself there."""
    engine.device = torch.device('cuda')
    tensors = [
        tensors
        for part in (*engine.towers, engine.projector)
        for one in part.modules()
        for tensors in (one._parameters, one._buffers)
    ]
    with mode:
        for group in tensors:
            for name, tensor in group.items():
                if tensor is not None:
                    group[name] = mode.from_tensor(tensor).to('cuda')
        engine.normalise = Normaliser(checkpoint.preprocessor, engine.device)
        engine._views = torch.zeros(engine.normalise.shape, dtype=torch.uint8, device='cuda')


@pytest.fixture(params=['fused', 'single'])
def on_fake_gpu(request):
    """A mode, and an engine in bfloat16 on its GPU."""
    checkpoint = Checkpoint.open(GOLDEN / request.param)
    engine = TorchVision(checkpoint, CPU, torch.bfloat16)
    engine.wanted = checkpoint.image_tokens, checkpoint.llm.hidden_size
    mode = FakeTensorMode()
    to_fake_gpu(mode, engine, checkpoint)
    return mode, engine


def test_nothing_waits_for_the_gpu_or_depends_on_its_numbers(on_fake_gpu):
    mode, engine = on_fake_gpu
    with mode, torch.inference_mode():
        engine._run()
    assert engine._embeddings.device.type == 'cuda'
    assert engine._embeddings.dtype == torch.bfloat16
    assert engine._embeddings.shape == engine.wanted


def test_a_wait_for_the_gpu_would_be_seen(on_fake_gpu, monkeypatch):
    mode, engine = on_fake_gpu
    project = engine.projector.forward

    def waiting(features):
        features.sum().item()
        return project(features)

    monkeypatch.setattr(engine.projector, 'forward', waiting)
    with mode, torch.inference_mode(), pytest.raises(DataDependentOutputException):
        engine._run()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_float32_is_not_rounded_to_tf32(dtype):
    engine = TorchVision(Checkpoint.open(GOLDEN / 'single'), CPU, dtype)
    seen = []
    engine.towers[0].vit.patch_embed.proj.register_forward_pre_hook(
        lambda *_: seen.append(torch.backends.cudnn.enabled)
    )
    engine.encode(np.zeros(engine.normalise.shape, np.uint8))
    assert seen == [dtype is not torch.float32]
    assert torch.backends.cudnn.enabled


def test_the_work_is_captured_once_and_done_at_each_call(monkeypatch, fused):
    captures, replays = [], []

    def captured(run, device):
        captures.append(device)
        run()  # as a capture does before the first replay
        return lambda: (replays.append(1), run())

    monkeypatch.setattr(module, 'captured', captured)
    engine = TorchVision(fused.spec.checkpoint, CPU, torch.float32)
    views = np.random.default_rng(0).integers(0, 256, (3, 1, 224, 224, 3), np.uint8)
    for one in views:
        assert torch.equal(engine.encode(one), fused.engines.vision.encode(one))
    assert captures == [CPU]
    assert len(replays) == 3


class Stream:
    """A stream that notes what waits for what, and is current inside `with`."""

    current: 'Stream'

    def __init__(self, name, events):
        self.name, self._events = name, events

    def wait_stream(self, other):
        self._events.append(f'{self.name} waits for {other.name}')

    def __enter__(self):
        self._before, Stream.current = Stream.current, self

    def __exit__(self, *error):
        Stream.current = self._before


def test_towers_run_beside_each_other_and_are_waited_for(monkeypatch):
    engine = TorchVision(Checkpoint.open(GOLDEN / 'fused'), CPU, torch.float32)
    views = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    wanted = engine.encode(views)
    events = []
    Stream.current = Stream('main', events)
    monkeypatch.setattr('torch.cuda.current_stream', lambda device: Stream.current)
    monkeypatch.setattr('torch.cuda.stream', lambda stream: stream or nullcontext())
    engine._sides = [Stream('side', events)]
    for number, tower in enumerate(engine.towers):
        tower.register_forward_pre_hook(
            lambda *_, n=number: events.append(f'tower {n} on {Stream.current.name}')
        )
    engine.projector.register_forward_pre_hook(
        lambda *_: events.append(f'projector on {Stream.current.name}')
    )
    assert torch.equal(engine.encode(views), wanted)
    assert events == [
        'side waits for main',
        'tower 0 on side',
        'tower 1 on main',
        'main waits for side',
        'projector on main',
    ]
