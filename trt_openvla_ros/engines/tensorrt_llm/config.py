"""The check of a TensorRT-LLM engine's config.json against the requests that it will get.

Nothing here needs TensorRT-LLM or a GPU, so a wrong engine is refused within milliseconds instead
of minutes. The message lists all faults, each with the flag of trtllm-build to change.
Format: Engine.save of tensorrt_llm/builder.py of NVIDIA/TensorRT-LLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from trt_openvla_ros.checkpoints.json_files import checked, read_object, Schema, Size
from trt_openvla_ros.checkpoints.trtllm import CONFIG, config_differences, TrtllmCheckpoint
from trt_openvla_ros.checkpoints.trtllm_config import Tables
from trt_openvla_ros.engines.base import Lengths
from trt_openvla_ros.errors import ConfigError

_BLOCK = 32  # tokens of a block of the cache if config.json does not give them


_Limit = Annotated[int, Field(ge=0, le=(1 << 31) - 1)] | None


class Plugins(Schema):
    """The plugins that an engine was built with, as far as the runner depends on them."""

    tokens_per_block: Size | None = None
    remove_input_padding: bool | None = None


class Limits(Schema):
    """The limits of an engine."""

    max_batch_size: _Limit = None
    max_input_len: _Limit = None
    max_seq_len: _Limit = None
    max_num_tokens: _Limit = None
    max_prompt_embedding_table_size: _Limit = None
    max_draft_len: _Limit = None
    kv_cache_type: str | None = None
    plugin_config: Plugins | None = None


class _Engine(Schema):
    version: str = 'unknown'
    pretrained_config: Tables
    build_config: Limits


@dataclass(frozen=True)
class EngineConfig:
    """The model of a built engine, and its limits.

    Attributes:
        path: The engine's directory.
        version: Version of the TensorRT-LLM that built it.
        model: Content of pretrained_config, which is config.json of the quantised checkpoint.
        ranks: Number of GPUs that the engine runs on.
        build: The limits, of build_config.
    """

    path: Path
    version: str
    model: dict[str, Any]
    ranks: int
    build: Limits

    @classmethod
    def open(cls, path: Path) -> EngineConfig:
        """Read config.json.

        Raises:
            ConfigError: The file is missing, unreadable, or not that of an engine.
        """
        file = path / CONFIG
        config = read_object(file, '', 'build the engine again')
        if not config.keys() >= {'pretrained_config', 'build_config'}:
            raise ConfigError(
                f'{file} has no pretrained_config and build_config, as trtllm-build writes them '
                'since 0.8; build the engine again'
            )
        read = checked(_Engine, config, file, 'build the engine again')
        ranks, model = read.pretrained_config.ranks, config['pretrained_config']
        return cls(path, read.version, model, ranks, read.build_config)

    def limit(self, name: str) -> int:
        """Give a number of build_config; 0 if it is missing."""
        return getattr(self.build, name) or 0

    @property
    def image_room(self) -> int:
        """Most image embeddings of a request, which gets an equal share of the prompt table."""
        return self.limit('max_prompt_embedding_table_size') // (self.limit('max_batch_size') or 1)

    @property
    def plugins(self) -> Plugins:
        """The plugins of the build."""
        return self.build.plugin_config or Plugins()

    @property
    def cache_tokens(self) -> int:
        """Size of a cache for the longest request, in tokens: whole blocks, and one to spare."""
        block = self.plugins.tokens_per_block or _BLOCK
        return (-(-self.limit('max_seq_len') // block) + 1) * block


@dataclass(frozen=True)
class Machine:
    """The machine that built an engine, or that will run it; unknown values are None.

    Attributes:
        version: Version of TensorRT-LLM.
        capability: Compute capability of the GPU, e.g. '9.0'.
    """

    version: str | None = None
    capability: str | None = None


def check_engine(
    config: EngineConfig,
    checkpoint: TrtllmCheckpoint,
    image_tokens: int,
    lengths: Lengths,
    built: Machine,
    here: Machine,
) -> None:
    """Refuse an engine that cannot answer the requests that it will get.

    Args:
        config: Configuration of the engine.
        checkpoint: Checkpoint that the engine should have been built from.
        image_tokens: Number of embeddings of an image.
        lengths: Lengths of prompts and answers.
        built: Machine that built the engine.
        here: Machine that will run the engine.

    Raises:
        ConfigError: The engine does not fit; the message lists all faults with their flags.
    """
    found = [
        *_machine(config, built, here),
        *_model(config, checkpoint),
        *_room(config, image_tokens, lengths),
    ]
    if found:
        lines = ''.join(f'\n  {line}' for line in found)
        raise ConfigError(
            f'engine {config.path} does not fit; build it again (stage build_engine), and change '
            f'the flags behind each fault:{lines}'
        )


def _machine(config: EngineConfig, built: Machine, here: Machine) -> Iterator[str]:
    if here.version and config.version not in ('unknown', here.version):
        yield (
            f'built by TensorRT-LLM {config.version}, and {here.version} is installed: build it '
            'here'
        )
    if built.capability and here.capability and built.capability != here.capability:
        yield (
            f'built for compute capability {built.capability}, and the GPU here has '
            f'{here.capability}: build it here'
        )
    if config.ranks != 1:
        yield f'built for {config.ranks} GPUs, and one runs it: --checkpoint_dir of one rank'


def _model(config: EngineConfig, checkpoint: TrtllmCheckpoint) -> Iterator[str]:
    for name, found, wanted in config_differences(config.model, checkpoint):
        yield (
            f'{name} is {found}, and {wanted} in {checkpoint.path}: --checkpoint_dir '
            f'{checkpoint.path}'
        )


def _room(config: EngineConfig, image_tokens: int, lengths: Lengths) -> Iterator[str]:
    batch = config.limit('max_batch_size')
    if config.image_room < image_tokens:
        table = config.limit('max_prompt_embedding_table_size')
        yield (
            f'max_prompt_embedding_table_size {table} over max_batch_size {batch} leaves '
            f'{config.image_room} image embeddings for a request, and an image has '
            f'{image_tokens}: --max_batch_size 1 --max_prompt_embedding_table_size {image_tokens}'
        )
    prompt = image_tokens + lengths.prompt
    for name in ('max_input_len', 'max_num_tokens'):
        if config.limit(name) < prompt:
            yield (
                f'{name} is {config.limit(name)}, and a short prompt takes {prompt} with its '
                f'image: --{name} {prompt} or, for longer instructions, more'
            )
    longest = prompt + lengths.answer
    if config.limit('max_seq_len') < longest:
        yield (
            f'max_seq_len is {config.limit("max_seq_len")}, and a short prompt with an answer of '
            f'up to {lengths.answer} tokens takes {longest}: --max_seq_len {longest} or more, or '
            'a smaller max_new_tokens of the policy'
        )
    if config.limit('max_draft_len'):
        # Drafts need block reuse, which confuses images: all have the same virtual ids.
        yield (
            f'max_draft_len is {config.limit("max_draft_len")}, for drafts, and nothing drafts: '
            'without --max_draft_len and --speculative_decoding_mode'
        )
    kind = (config.build.kv_cache_type or 'paged').lower()
    if kind != 'paged':
        yield f'kv_cache_type is {kind}, and the runner needs a paged one: --kv_cache_type paged'
    if config.plugins.remove_input_padding is False:
        yield 'remove_input_padding is off, and is needed: --remove_input_padding enable'
