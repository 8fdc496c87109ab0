"""Comparison of a forward pass of the parts that save_backbone wrote with the checkpoint's.

L: positions, N: image embeddings, D: width, V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trt_openvla_ros.checkpoints.artifact import LLM_BACKBONE
from trt_openvla_ros.checkpoints.llama import hugging_face_shapes, layer_of
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.vision import TorchVision
from trt_openvla_ros.errors import ArtifactError

_CPU = torch.device('cpu')
_TEXT = 'In: What action should the robot take to pick up the cup?\nOut:'
# Largest accepted error of logits, relative to the largest logit; both sides compute in float32.
_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


class _FirstLayers(Checkpoint):
    """A checkpoint whose language model ends after some layers."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, layers: int) -> _FirstLayers:
        text = {**(checkpoint.config.get('text_config') or {}), 'num_hidden_layers': layers}
        config = {**checkpoint.config, 'text_config': text}
        return cls(checkpoint.path, config, checkpoint.preprocessor, checkpoint.artifact)

    def tensors(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in super().tensors(prefix):
            layer = layer_of(name)
            if layer is None or layer < self.llm.num_layers:
                yield name, tensor


def compare_reloaded(checkpoint: Checkpoint, reloaded: Checkpoint, memory: int) -> dict[str, Any]:
    """Compare image embeddings, prompt and logits.

    Args:
        checkpoint: Checkpoint that was read.
        reloaded: Parts that were written.
        memory: Bytes that a language model may take. Only its first layers are compared if not
            all of them fit.

    Returns:
        Facts: number of compared layers, and largest error of the logits.

    Raises:
        ArtifactError: The parts differ from the checkpoint.
    """
    embeddings = _compare_vision(checkpoint, reloaded)
    ids = _compare_tokenizers(checkpoint, reloaded.path / LLM_BACKBONE)
    layers = _layers_that_fit(checkpoint, memory)
    total = checkpoint.llm.num_layers
    if layers < total:
        _log.info('test_load: the first %d of %d layers fit into memory', layers, total)
    wanted = TorchLanguage(_FirstLayers.of(checkpoint, layers), _CPU, torch.float32)
    expected = wanted.first_logits(ids, embeddings)
    del wanted
    found = _transformers_logits(reloaded.path / LLM_BACKBONE, layers, ids, embeddings)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= _TOLERANCE:
        raise ArtifactError(
            f'test_load: the logits of {LLM_BACKBONE} are {error:.2g} of the largest away from '
            'those of the checkpoint; the installed transformers computes another Llama than ours'
        )
    return {'layers_compared': layers, 'layers': total, 'logits_relative_error': error}


def _compare_vision(checkpoint: Checkpoint, reloaded: Checkpoint) -> torch.Tensor:
    """Give the [N, D] image embeddings that both compute."""
    views = None
    found = []
    for source in (checkpoint, reloaded):
        vision = TorchVision(source, _CPU, torch.float32)
        if views is None:
            views = np.random.default_rng(1).integers(0, 256, vision.normalise.shape, np.uint8)
        found.append(vision.encode(views))
        del vision
    # The same code runs on the same weights, so any difference is a wrong byte.
    if not torch.equal(*found):
        raise ArtifactError('test_load: the vision weights differ from those of the checkpoint')
    return found[0]


def _compare_tokenizers(checkpoint: Checkpoint, backbone: Path) -> list[int]:
    """Check that our tokenizer and AutoTokenizer's agree on a prompt; give the prompt's ids."""
    from transformers import AutoTokenizer

    ids = Tokenizer(checkpoint.path).encode(_TEXT)
    try:
        theirs = AutoTokenizer.from_pretrained(backbone)(_TEXT)['input_ids']
    except Exception as error:
        raise ArtifactError(
            f'test_load: AutoTokenizer cannot read {backbone.name}: {error!r:.200}; copy the '
            f'tokenizer of the base model into {checkpoint.path}'
        ) from error
    if list(theirs) != ids:
        raise ArtifactError(
            f'test_load: AutoTokenizer reads {backbone.name} as another tokenizer: {theirs} '
            f'instead of {ids}'
        )
    return ids


def _layers_that_fit(checkpoint: Checkpoint, memory: int) -> int:
    shapes = hugging_face_shapes(checkpoint.llm)
    sizes = {name: 4 * int(np.prod(shape)) for name, shape in shapes.items()}
    layer = sum(size for name, size in sizes.items() if layer_of(name) == 0)
    ends = sum(size for name, size in sizes.items() if layer_of(name) is None)
    return min(max((memory - ends) // layer, 1), checkpoint.llm.num_layers)


@torch.inference_mode()
def _transformers_logits(
    backbone: Path, layers: int, ids: list[int], embeddings: torch.Tensor
) -> np.ndarray:
    """Give the [V] logits after <s>, the image embeddings and the rest of ids."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(backbone)
    config.num_hidden_layers = layers
    with _quiet('transformers'):  # it warns about layers that are left out and about sharding
        model = AutoModelForCausalLM.from_pretrained(
            backbone, config=config, torch_dtype=torch.float32
        )
    text = model.get_input_embeddings()(torch.tensor(ids))
    inputs = torch.cat([text[:1], embeddings, text[1:]])[None]
    return model(inputs_embeds=inputs).logits[0, -1].float().numpy()


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
