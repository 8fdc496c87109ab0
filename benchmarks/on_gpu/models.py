"""Random models of full size, made on the device: no file of 15 GB is read or written.

Their weights mean nothing, and their answers are known: the head makes one token follow another,
along a chain that ends with the seven tokens of an action. So the policy takes all its usual
steps, answers have the wanted length, and rows of different precision write the same tokens.
Times do not depend on the values of weights.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
import math
from pathlib import Path
import shutil
import tempfile
import time
from typing import Any
import zlib

from random_checkpoint import write_configuration
import torch

from trt_openvla_ros.checkpoints.json_files import read_object
from trt_openvla_ros.checkpoints.llama import EMBEDDING_WEIGHT, HEAD_WEIGHT, NORM_WEIGHT, PREFIX
from trt_openvla_ros.checkpoints.released import Checkpoint, CONFIG, PREPROCESSOR
from trt_openvla_ros.checkpoints.statistics import DataSets
from trt_openvla_ros.checkpoints.vision import read_towers, TowerConfig, TOWERS
from trt_openvla_ros.policy.reasoning import ACTION_TAG
from trt_openvla_ros.policy.spec import ModelSpec

_ACTION_TOKENS = 7
# Standard deviation of a token's row that does not follow any other, of the length of one that
# does. The others must not win by chance.
_BACKGROUND = 0.02


@dataclass(frozen=True)
class Size:
    """A model's size.

    Attributes:
        backbone: vision_backbone_id.
        style: Prompt style.
        tower, llm: Arguments of the towers and of the language model that differ from 7B's.
        prompt: Whole prompt that is asked; its length is that of a usual request.
        reasoning: Number of tokens before the action.
    """

    backbone: str
    style: str
    prompt: str
    reasoning: int = 0
    tower: dict[str, Any] = field(default_factory=dict)
    llm: dict[str, Any] = field(default_factory=dict)


# Prompts of 29 and 69 tokens, as long as openvla-7b's own tokenizer makes usual ones: with the
# image they are 285 and 325 positions. None ends with a token of its answer.
_ASK = (
    'In: What action should the robot take to put the spoon, the fork and cup on the red towel? '
    'Out'
)
_REASON = (
    'A chat between a curious user and an artificial intelligence assistant. The assistant gives '
    "helpful, detailed, and polite answers to the user's questions. USER: What action should the "
    'robot take to pick up the red cup, the blue cup and the fork, and put the spoon on the red '
    'towel? ASSISTANT TASK'
)
_SMALL_TOWER = {'embed_dim': 32, 'depth': 3, 'num_heads': 2}
_SMALL_LLM = {
    'hidden_size': 128,
    'intermediate_size': 256,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
}
_FUSED, _SINGLE = 'dinosiglip-vit-so-224px', 'siglip-vit-so400m'
# Sources: config.json of openvla/openvla-7b and of Embodied-CoT/ecot-openvla-7b-bridge. All that
# is not said here is the default of the configuration, which is 7B's.
SIZES = {
    '7b': {
        'openvla': Size(_FUSED, 'openvla', _ASK),
        'ecot': Size(_SINGLE, 'vicuna', _REASON, 350),
    },
    'tiny': {
        'openvla': Size(_FUSED, 'openvla', _ASK, 0, _SMALL_TOWER, _SMALL_LLM),
        'ecot': Size(_SINGLE, 'vicuna', _REASON, 24, _SMALL_TOWER, _SMALL_LLM),
    },
}


@dataclass(frozen=True)
class Later:
    """A tensor that is made when it is moved to a device, as a mapped file is read.

    So an engine that quantises one tensor after the other never holds them all.
    """

    checkpoint: RandomCheckpoint
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def to(self, *place: object) -> torch.Tensor:
        """Make the tensor."""
        return self.checkpoint.made(self.name, self.shape).to(*place)


class RandomCheckpoint(Checkpoint):
    """A checkpoint whose tensors are made when they are asked for, the same ones each time.

    Attributes:
        device, dtype: Device and type of the tensors.
        shapes: Shapes of all tensors by their name.
        chain: Token ids, each of which the head lets follow its predecessor.
        seconds: Time that making tensors took so far [s].
    """

    device: torch.device
    dtype: torch.dtype
    shapes: dict[str, tuple[int, ...]]
    chain: Sequence[int]
    seconds: float

    @classmethod
    def make(
        cls, directory: Path, size: Size, device: torch.device, dtype: torch.dtype
    ) -> RandomCheckpoint:
        """Write configuration and tokenizer to a directory, and hold the rest."""
        shapes = write_configuration(directory, size.backbone, size.tower, size.llm)
        config = read_object(directory / CONFIG, '', '')
        made = cls(directory, config, read_object(directory / PREPROCESSOR, '', ''))
        for name, value in (
            ('device', device),
            ('dtype', dtype),
            ('shapes', shapes),
            ('chain', ()),
            ('seconds', 0.0),
        ):
            object.__setattr__(made, name, value)
        return made

    @cached_property
    def towers(self) -> tuple[TowerConfig, ...]:
        """The vision towers in channel order; no stored weights could contradict them."""
        return read_towers(self.config, self.path)

    @cached_property
    def image_tokens(self) -> int:
        """Number of embeddings of an image."""
        patch = next(
            s[-1] for n, s in self.shapes.items() if n.endswith('patch_embed.proj.weight')
        )
        return (self.towers[0].image_size // patch) ** 2

    @cached_property
    def _data_sets(self) -> DataSets:
        return DataSets(self.path / CONFIG, self.config['norm_stats'])

    def tensors(self, prefix: str) -> Iterator[tuple[str, torch.Tensor | Later]]:
        """Give each tensor under prefix; those of the language model are made later."""
        for name, shape in self.shapes.items():
            if name.startswith(prefix):
                later = Later(self, name, shape, self.dtype)
                yield name[len(prefix) :], later if prefix == PREFIX else later.to(self.device)

    def made(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Make a tensor on the device, and count the time that it takes."""
        begin = time.perf_counter()
        tensor = self._random(name, shape)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        object.__setattr__(self, 'seconds', self.seconds + time.perf_counter() - begin)
        return tensor

    @torch.no_grad()
    def _random(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        values = self._normal(name, shape)
        if name.startswith(TOWERS):
            # timm starts LayerScale at 1e-5, which would hide a whole block.
            mean = 0.3 if name.endswith('.scale_factor') else 0.0
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else 0
            return values.mul_(max(fan_in, 4) ** -0.5).add_(mean)
        if name.startswith(PREFIX) and len(shape) == 1:  # a norm
            return values.mul_(0.1).add_(1)
        if name == PREFIX + EMBEDDING_WEIGHT:
            return values
        values.mul_(shape[-1] ** -0.5)
        if name == PREFIX + HEAD_WEIGHT:
            return self._chained(values)
        if name.startswith(PREFIX) and name.endswith(('o_proj.weight', 'down_proj.weight')):
            # What a layer adds stays small beside the token, so the head knows the token.
            values.mul_((2 * self.llm.num_layers) ** -0.5)
        return values

    def _chained(self, head: torch.Tensor) -> torch.Tensor:
        if self.chain:
            words = self._normal(PREFIX + EMBEDDING_WEIGHT, self.shapes[PREFIX + EMBEDDING_WEIGHT])
            norm = self._random(PREFIX + NORM_WEIGHT, self.shapes[PREFIX + NORM_WEIGHT])
            head.mul_(_BACKGROUND)
            rows = words[list(self.chain[:-1])] * norm
            head[list(self.chain[1:])] = rows * self.llm.hidden_size**-0.5
        return head

    def _normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator(self.device).manual_seed(zlib.crc32(name.encode()))
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Model:
    """A random model and the one request that is put to it.

    Attributes:
        name: Its name in rows, e.g. 'openvla'.
        checkpoint: Its tensors.
        spec: Its specification, with a Decoding of the wanted length.
        prompt: Whole prompt.
        ids: Token ids of the prompt.
        answer: Token ids that the model writes.
    """

    name: str
    checkpoint: RandomCheckpoint
    spec: ModelSpec
    prompt: str
    ids: list[int]
    answer: list[int]

    @property
    def positions(self) -> int:
        """Number of positions of the prompt with the image."""
        return len(self.ids) + self.checkpoint.image_tokens


def make_model(name: str, size: Size, device: torch.device, dtype: torch.dtype) -> Model:
    """Make a random model."""
    directory = Path(tempfile.mkdtemp(prefix=f'random_{name}_'))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    checkpoint = RandomCheckpoint.make(directory, size, device, dtype)
    spec = ModelSpec.read(
        checkpoint,
        prompt_style=size.style,
        max_new_tokens=size.reasoning + _ACTION_TOKENS,
        draft_tokens=0,  # rows with drafts have a drafter of their own
    )
    _, ids = spec.prompter(size.prompt, verbatim=True)
    answer = _answer(spec, ids, size.reasoning)
    object.__setattr__(checkpoint, 'chain', (ids[-1], *answer))
    return Model(name, checkpoint, spec, size.prompt, ids, answer)


def _answer(spec: ModelSpec, prompt: Sequence[int], reasoning: int) -> list[int]:
    """Choose a token's successor for each token of an answer; no token stands in it twice."""
    tokenizer = spec.prompter.tokenizer
    tag = tokenizer.encode(ACTION_TAG)[1:] if reasoning else []
    special = {tokenizer.bos_id, tokenizer.eos_id, *tag, *prompt}
    first = spec.tokens.first
    words = [i for i in range(300, first, 37) if i not in special][: reasoning - len(tag)]
    action = [first + 20 + 31 * index for index in range(_ACTION_TOKENS)]
    answer = [*words, *tag, *action] if reasoning else action
    chain = [prompt[-1], *answer]
    if len(set(chain)) != len(chain) or len(answer) != reasoning + _ACTION_TOKENS:
        raise ValueError(f'no chain of {reasoning} tokens behind token {prompt[-1]} and {tag}')
    return answer
