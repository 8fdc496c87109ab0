"""The vision towers (timm) and the projector, in PyTorch.

G: number of different views of an image, B: batch, C: 3 channels per tower, S: side of a view,
N: patches, D: width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

import timm
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.checkpoints.vision import (
    PROJECTOR,
    projector_widths,
    timm_name,
    TOWER_PREFIXES,
    TowerConfig,
)
from trt_openvla_ros.engines.pixels import Normaliser
from trt_openvla_ros.engines.placement import current
from trt_openvla_ros.engines.torch.graphs import captured, Marks
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from trt_openvla_ros.checkpoints.released import Checkpoint

# Beginnings of timm's names of modules behind the block whose output we use.
_UNUSED = ('norm.', 'fc_norm.', 'attn_pool.', 'head.', 'head_drop.')
# What timm raises for a tag that it does not know, or for numbers that make no ViT.
_UNBUILDABLE = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


class Tower(nn.Module):
    """One ViT, which gives the unnormalised patch features of its second-to-last block.

    Source: PrismaticVisionBackbone of openvla/openvla.
    """

    def __init__(self, config: TowerConfig) -> None:
        """Build the ViT with random weights.

        Raises:
            ConfigError: timm cannot build it.
        """
        super().__init__()
        self.image_size = config.image_size
        try:
            self.vit = timm.create_model(config.timm_id, pretrained=False, **config.arguments)
        except _UNBUILDABLE as error:
            raise ConfigError(
                f'timm {timm.__version__} cannot build {config.timm_id} with {config.arguments}: '
                f'{str(error)[:200]}; take config.json of the checkpoint that it belongs to'
            ) from error
        self.vit.blocks = self.vit.blocks[:-1]
        self.vit.norm = nn.Identity()
        self.vit.fc_norm = nn.Identity()
        self.vit.attn_pool = None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map [B, 3, S, S] to [B, N, D]."""
        return self.vit.get_intermediate_layers(pixels, n={len(self.vit.blocks) - 1})[0]


class Projector(nn.Module):
    """Linear layers with exact GELU between them: three behind fused towers, else two."""

    def __init__(self, widths: list[int]) -> None:
        """Build linear layers from each width to the next, with random weights."""
        super().__init__()
        for index, (inputs, outputs) in enumerate(pairwise(widths), 1):
            self.add_module(f'fc{index}', nn.Linear(inputs, outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map [B, N, D of the towers] to [B, N, D of the language model]."""
        for index, layer in enumerate(self.children()):
            features = layer(F.gelu(features) if index else features)
        return features


class TorchVision:
    """A vision engine in PyTorch; one captured graph on a GPU.

    Attributes:
        device, dtype: Device and precision.
        normalise: Map from views to pixel values.
        towers: The ViTs in channel order.
        projector: Projector from the features of all towers to image embeddings.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Load towers and projector.

        Raises:
            ConfigError: Weights are missing or of another shape than config.json says.
        """
        self.device, self.dtype = device, dtype
        # Without memory: what config.json describes may be far larger than what is stored.
        with torch.device('meta'):
            self.towers = [Tower(config) for config in checkpoint.towers]
        for prefix, tower in zip(TOWER_PREFIXES, self.towers, strict=False):
            weights = {
                timm_name(key): value
                for key, value in checkpoint.tensors(prefix)
                if not key.startswith((*_UNUSED, f'blocks.{len(tower.vit.blocks)}.'))
            }
            load_weights(tower.vit, weights, prefix)
        width = sum(tower.vit.embed_dim for tower in self.towers)
        hidden = checkpoint.llm.hidden_size
        with torch.device('meta'):
            self.projector = Projector(projector_widths(width, hidden, len(self.towers)))
        load_weights(self.projector, dict(checkpoint.tensors(PROJECTOR)), PROJECTOR)
        for module in (*self.towers, self.projector):
            module.to(device, dtype).eval().requires_grad_(False)
        self.normalise = Normaliser(checkpoint.preprocessor, device)
        # What the graph reads and writes on a GPU.
        self._views = torch.zeros(self.normalise.shape, dtype=torch.uint8, device=device)
        self._embeddings = torch.empty(0, device=device)
        self._encode: Callable[[], None] | None = None  # captured by the first call
        self._sides: list[torch.cuda.Stream] = []
        self._marks = Marks(device)

    @property
    def encode_time(self) -> float:
        """Time that the last encode took [s]; waits for its end."""
        return sum(self._marks.seconds())

    @torch.inference_mode()
    def encode(self, views: np.ndarray) -> torch.Tensor:
        """Map [G, S, S, 3] uint8 to image embeddings [N, D] on the engine's device.

        A GPU may still compute them when this returns; what follows on its current stream waits.

        Raises:
            InputError: The views have another shape or dtype.
        """
        host = self.normalise.check(views)
        self._marks = Marks(self.device)
        with current(self.device):
            if self.device.type == 'cuda':
                # Copies from pinned memory do not wait; PyTorch keeps it until they end.
                host = host.pin_memory()
            self._views.copy_(host, non_blocking=True)
            if self._encode is None:
                self._encode = self._capture()
            self._encode()
            # A graph writes into the same tensor each time, and the caller may keep this one.
            embeddings = self._embeddings.clone()
            self._marks.mark()
        return embeddings

    @torch.inference_mode()
    def patch_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map pixel values [1, C, S, S] to the towers' features [1, N, D], side by side."""
        parts = pixels.to(self.dtype).split(3, dim=1)
        features = []
        for stream in self._sides:
            stream.wait_stream(torch.cuda.current_stream(self.device))
        for tower, part, stream in zip_longest(self.towers, parts, self._sides):
            with torch.cuda.stream(stream):  # None is the current one
                features.append(tower(part))
        for stream in self._sides:
            torch.cuda.current_stream(self.device).wait_stream(stream)
        return torch.cat(features, dim=2)

    def _run(self) -> None:
        with _whole_products(self.dtype):
            features = self.patch_features(self.normalise(self._views))
            self._embeddings = self.projector(features)[0]

    def _capture(self) -> Callable[[], None]:
        if self.device.type == 'cuda':
            # The patches of one image do not fill a GPU, so the towers run beside each other.
            self._sides = [torch.cuda.Stream(self.device) for _ in self.towers[1:]]
        return captured(self._run, self.device)


@contextmanager
def _whole_products(dtype: torch.dtype) -> Iterator[None]:
    """Let convolutions in float32 multiply in float32.

    By default cuDNN rounds their inputs to TF32, which has 10 bits. Matrix products do not. There
    are two kinds of settings for it, and torch refuses a mixture, so cuDNN is left out.
    """
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and dtype is not torch.float32
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


def load_weights(module: nn.Module, weights: dict[str, torch.Tensor], prefix: str) -> None:
    """Load weights strictly.

    Raises:
        ConfigError: Names or shapes differ.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [f'{name} is missing' for name in wanted if name not in found]
    faults += [f'{name} has no place' for name in found if name not in wanted]
    faults += [
        f'{name} is of shape {found[name]} instead of {shape}'
        for name, shape in wanted.items()
        if found.get(name, shape) != shape
    ]
    if faults:
        more = f' and {len(faults) - 3} more' if len(faults) > 3 else ''
        raise ConfigError(
            f'the weights {prefix}* do not fit config.json: {", ".join(faults[:3])}{more}; '
            'take config.json and weights of one checkpoint'
        )
    module.load_state_dict(weights, strict=True, assign=True)
