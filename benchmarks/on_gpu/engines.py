"""The models that are loaded, of which rows share parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
import time

import torch

from on_gpu.models import make_model, Model, SIZES
from on_gpu.ours import KnownAnswer, Ours
from on_gpu.rows import Row
from on_gpu.runner import Runner
from trt_openvla_ros.engines.base import WEIGHTS
from trt_openvla_ros.engines.memory import free_memory
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.vision import TorchVision


def known_formats() -> tuple[str, ...]:
    """List the formats of weights that the torch engine has beside its own precision."""
    return WEIGHTS[1:] if find_spec('trt_openvla_ros.engines.torch.weight_only') else ()


@dataclass
class Loaded:
    """A runner with what its loading took.

    Attributes:
        runner: The runner.
        seconds: Time of loading, less the time that random tensors took [s].
    """

    runner: Runner
    seconds: float


@dataclass
class Pool:
    """The models of one group of rows.

    Attributes:
        size: 'tiny' or '7b'.
        device, dtype: Device and precision.
    """

    size: str
    device: torch.device
    dtype: torch.dtype
    _models: dict[str, Model] = field(default_factory=dict)
    _visions: dict[tuple[str, str], TorchVision] = field(default_factory=dict)
    _languages: dict[tuple[str, ...], TorchLanguage] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """Give the random model of that name."""
        if name not in self._models:
            size = SIZES[self.size][name]
            self._models[name] = make_model(name, size, self.device, self.dtype)
        return self._models[name]

    def load(self, row: Row) -> Loaded:
        """Load a row.

        Raises:
            LookupError: The engine does not have the row's format in this checkout.
        """
        model = self.model(row.model)
        made, begin = model.checkpoint.seconds, time.perf_counter()

        def spent() -> float:
            if self.device.type == 'cuda':
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - begin - (model.checkpoint.seconds - made)

        if row.engine == 'hugging_face':
            # Only here, because a machine may have no transformers.
            from on_gpu.hugging_face import HuggingFace

            compiled = row.variant == 'compiled'
            runner: Runner = HuggingFace(model, self.device, self.dtype, compiled)
            return Loaded(runner, spent())
        seeing = row.model, row.variant
        if seeing not in self._visions:
            self._visions[seeing] = TorchVision(model.checkpoint, self.device, self.dtype)
        key = row.model, row.variant, row.weights
        if key not in self._languages:
            self._languages[key] = self._language(model, row.weights)
        vision, language = self._visions[seeing], self._languages[key]
        drafter = None
        if row.accepted is not None:
            drafter = KnownAnswer(model.answer, row.accepted)
        return Loaded(Ours(model, vision, language, self.device, drafter), spent())

    def _language(self, model: Model, weights: str) -> TorchLanguage:
        if weights not in ('bfloat16', *known_formats()):
            raise LookupError(f'the engine of this checkout has no format {weights}')
        own = '' if weights == 'bfloat16' else weights
        return TorchLanguage(model.checkpoint, self.device, self.dtype, own)

    def clear(self) -> None:
        """Free the memory of all engines."""
        self._visions.clear()
        self._languages.clear()
        free_memory()
