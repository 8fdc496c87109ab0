"""What a pass of our engine reads, computes and launches, counted from its own tensors.

The engine is built of fake tensors on the device name cuda, which have shapes and no memory. So a
machine without a GPU counts the very operations that a GPU would run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from on_gpu.models import RandomCheckpoint
from on_gpu.plain import calls_of
from trt_openvla_ros.checkpoints.llama import hugging_face_shapes
from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
from trt_openvla_ros.checkpoints.vision import projector_widths, TowerConfig
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.vision import Projector, Tower

# Tensors between operations stay in the cache of a GPU, except those larger than this [bytes].
_CACHED = 30_000_000
_MAKING = {'empty', 'empty_like', 'new_empty', 'tensor', 'arange'}  # nothing is computed


@dataclass(frozen=True)
class Work:
    """The work of one pass.

    Attributes:
        bytes: Bytes that must be read: weights, cached keys and values.
        spilled: Bytes of results that are too large for the GPU's cache, written and read again.
        flop: Multiplications and additions of products.
        launches: Operations, each of which is at least one kernel.
        eight_bit: Whether products run at the rate of FP8.
    """

    bytes: int
    flop: float
    launches: int
    spilled: int = 0
    eight_bit: bool = False


class _Counter(TorchFunctionMode):
    """Counts operations, and the bytes of weights and of large tensors."""

    def __init__(self, weights: set[int], device: str) -> None:
        super().__init__()
        self._weights, self._device = weights, device
        self.launches = self.bytes = self.spilled = 0
        self.names: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        before = list(_tensors([args, kwargs]))
        result = function(*args, **(kwargs or {}))
        name = getattr(function, '__name__', str(function))
        made = [one for one in _tensors(result) if one.device.type == self._device]
        held = {_storage(one) for one in before}
        in_place = (name.endswith('_') and not name.endswith('__')) or name.startswith('__i')
        fresh = any(_storage(one) not in held for one in made)
        custom = isinstance(function, torch._ops.OpOverload | torch._ops.OpOverloadPacket)
        if (fresh or in_place or custom) and name not in _MAKING:
            self.launches += 1
            self.names.append(name)
            self._count(name, args, before, made if fresh else [])
        return result

    def _count(
        self, name: str, args: Any, read: list[torch.Tensor], made: list[torch.Tensor]
    ) -> None:
        for one in read:
            if _storage(one) not in self._weights:
                self.spilled += _size(one) * (_size(one) > _CACHED)
            elif name.startswith('pick.') and one.dim() == 2:  # some rows of the head
                self.bytes += args[-1] * _size(one[:1])
            elif name != 'embedding':  # which reads a few rows
                self.bytes += _size(one)
        self.spilled += sum(_size(one) for one in made if _size(one) > _CACHED)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(value: Any, seen: set[int] | None = None) -> Iterator[torch.Tensor]:
    """Find all tensors in containers and objects."""
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, str | bytes | type):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list | tuple | set):
        inner = value
    elif is_dataclass(value) or type(value).__module__.startswith('trt_openvla_ros'):
        inner = vars(value).values()
    else:
        return
    for one in inner:
        yield from _tensors(one, seen)


def count_vision(towers: tuple[TowerConfig, ...], llm: LlamaConfig) -> Work:
    """Count the towers and the projector in bfloat16, as operators of torch."""
    with torch.device('meta'), torch.inference_mode():
        modules = [Tower(one).to(torch.bfloat16) for one in towers]
        width = sum(one.vit.embed_dim for one in modules)
        widths = projector_widths(width, llm.hidden_size, len(towers))
        projector = Projector(widths).to(torch.bfloat16)
        side = towers[0].image_size
        pixels = [torch.empty(1, 3, side, side, dtype=torch.bfloat16) for _ in towers]
        weights = [p for one in (*modules, projector) for p in one.parameters()]
        counter = _Counter({_storage(one) for one in weights}, 'meta')
        with FlopCounterMode(display=False) as flop, counter:
            seen = [one(part) for one, part in zip(modules, pixels, strict=True)]
            projector(torch.cat(seen, dim=2))
    read = sum(map(_size, weights))
    return Work(read, flop.get_total_flops(), counter.launches)


class _Fake(RandomCheckpoint):
    """A checkpoint of fake tensors, of some layers of another."""

    @classmethod
    def of(cls, checkpoint: RandomCheckpoint, layers: int) -> _Fake:
        text = {**checkpoint.config['text_config'], 'num_hidden_layers': layers}
        config = {**checkpoint.config, 'text_config': text}
        made = cls(checkpoint.path, config, checkpoint.preprocessor)
        object.__setattr__(made, 'shapes', checkpoint.shapes)  # of the towers
        return made

    def tensors(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        for name, shape in hugging_face_shapes(self.llm).items():
            yield name, torch.empty(shape, dtype=torch.bfloat16, device='cuda')


@dataclass(frozen=True)
class LanguageWork:
    """The work of the language model.

    Attributes:
        prefill: Work of the prompt.
        token: Work of one token behind it, without the cache.
        cache_bytes: Bytes that are cached for one position.
        held_bytes: Bytes of all weights.
    """

    prefill: Work
    token: Work
    cache_bytes: int
    held_bytes: int

    def step(self, positions: float, rows: int = 1) -> Work:
        """Give the work of a pass of some tokens behind so many cached positions."""
        read = self.token.bytes + round(positions * self.cache_bytes)
        return Work(read, rows * self.token.flop, self.token.launches, self.token.spilled)


def count_language(
    checkpoint: RandomCheckpoint,
    ids: list[int],
    actions: tuple[int, int] | None,
    weights: str = '',
) -> LanguageWork:
    """Count the language model's passes.

    Args:
        checkpoint: Shapes of the model.
        ids: Token ids of the prompt.
        actions: Range of ids that a token is chosen from; None chooses from all.
        weights: Format of the weights; '' for bfloat16.
    """
    llm = checkpoint.llm
    # All layers but the last are alike, so a third layer stands for those that are left out.
    two, three = (
        _count_layers(_Fake.of(checkpoint, layers), ids, actions, weights) for layers in (2, 3)
    )
    prefill, token, held = (
        [more + (llm.num_layers - 3) * (more - less) for less, more in zip(*pair, strict=True)]
        for pair in zip(two, three, strict=True)
    )
    # The arithmetic is the same in every format, and in every way to run it.
    products = llm.num_layers * (
        llm.hidden_size * (2 * llm.query_width + 2 * llm.kv_width)
        + 3 * llm.hidden_size * llm.intermediate_size
    )
    positions = len(ids) + checkpoint.image_tokens
    attention = 2 * llm.num_layers * positions**2 * llm.query_width
    head = llm.hidden_size * (actions[1] - actions[0] if actions else llm.vocab_size)
    read, launches, spilled, eight_bit = prefill
    return LanguageWork(
        prefill=Work(
            read,
            2 * (products * positions + head) + attention,
            launches,
            spilled,
            bool(eight_bit),
        ),
        token=Work(token[0], 2 * (products + head), *token[1:3]),
        cache_bytes=2 * llm.num_layers * llm.kv_width * torch.bfloat16.itemsize,
        held_bytes=held[0],
    )


def _count_layers(
    checkpoint: _Fake, ids: list[int], actions: tuple[int, int] | None, weights: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int]]:
    """Count a prompt, a step, and the bytes of all weights, of a model with few layers.

    Returns:
        Bytes, launches, spilled bytes and products in 8 bit of the prompt and of the step, and
        the bytes.
    """
    cuda = torch.device('cuda')
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode(), calls_of(False):
        engine = TorchLanguage(checkpoint, cuda, torch.bfloat16, weights)
        passes = engine.passes
        shape = checkpoint.image_tokens, checkpoint.llm.hidden_size
        image = torch.empty(shape, dtype=torch.bfloat16, device=cuda)
        passes.reserve(len(ids) + len(image) + 8)
        held = {_storage(one): one for one in _tensors(engine.weights)}

        def count(run: Callable[[], None]) -> tuple[int, ...]:
            run()  # The first time of a pass is the one that captures it.
            with _Counter(set(held), 'cuda') as counter:
                run()
            fast = sum('scaled_mm' in name for name in counter.names)
            return counter.bytes, counter.launches, counter.spilled, fast

        bound = actions is not None
        prompt = count(lambda: passes.prompt(ids, image, (), actions, bound))
        step = count(lambda: passes.step(actions, bound))
        return prompt, step, (sum(one.untyped_storage().nbytes() for one in held.values()),)
