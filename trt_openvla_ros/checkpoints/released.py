"""A checkpoint in the released Hugging Face layout, or an artifact: configuration and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.checkpoints.artifact import (
    LLM_BACKBONE,
    MANIFEST,
    Manifest,
    PROJECTOR,
    VISION,
)
from trt_openvla_ros.checkpoints.json_files import read_object
from trt_openvla_ros.checkpoints.llama import LlamaConfig, PREFIX, read_text_config
from trt_openvla_ros.checkpoints.statistics import read_statistics
from trt_openvla_ros.checkpoints.tensor_files import list_shards
from trt_openvla_ros.checkpoints.vision import PATCHES, read_towers, TOWER_PREFIXES, TowerConfig
from trt_openvla_ros.contracts import ActionStatistics, find_statistics
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

CONFIG, PREPROCESSOR = 'config.json', 'preprocessor_config.json'
STATISTICS = 'dataset_statistics.json'  # only fine-tuned checkpoints have it
GENERATION = 'generation_config.json'

_HUB_FILES = ['*.json', '*.safetensors', 'tokenizer.model']


@dataclass(frozen=True)
class Shard:
    """A file with tensors.

    Attributes:
        path: The file.
        prefix: Beginning of the tensor names that the file leaves out.
    """

    path: Path
    prefix: str = ''


@dataclass(frozen=True)
class Checkpoint:
    """Files of one checkpoint. Nothing is executed and nothing is unpickled.

    Attributes:
        path: The directory.
        config: Content of config.json.
        preprocessor: Content of preprocessor_config.json.
        artifact: Manifest of the artifact; None if the pipeline did not write the directory.
    """

    path: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    artifact: Manifest | None = None

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open a directory, or download a Hub id such as 'openvla/openvla-7b'.

        Raises:
            ConfigError: There is no such checkpoint, or it is not of the OpenVLA family.
            ArtifactError: The manifest of an artifact cannot be read.
        """
        path = Path(source).expanduser()
        if not path.is_dir():
            path = _download(str(source))
        return cls._read(path, Manifest.read(path))

    @classmethod
    def open_parts(cls, path: Path) -> Checkpoint:
        """Open the files of the stage save_backbone before they become part of an artifact.

        Raises:
            ConfigError: A file is missing.
        """
        return cls._read(path, Manifest(path))

    @classmethod
    def _read(cls, path: Path, artifact: Manifest | None) -> Checkpoint:
        if artifact is not None and artifact.stages:
            artifact.check_small()
        config = _read_json(path / CONFIG)
        if config.get('model_type') not in ('openvla', 'prismatic'):
            raise ConfigError(
                f'{path}/config.json has model_type {config.get("model_type")!r}; '
                "an OpenVLA checkpoint has 'openvla'; set checkpoint to one"
            )
        return cls(path, config, _read_json(path / PREPROCESSOR), artifact)

    @property
    def llm_backbone_id(self) -> str:
        """Name of the language model, e.g. 'llama2-7b-pure'; the reference's default is v01's."""
        return self.config.get('llm_backbone_id', 'vicuna-v15-7b')

    @property
    def towers(self) -> tuple[TowerConfig, ...]:
        """The vision towers in channel order."""
        return read_towers(self.config, self.path / CONFIG)

    @cached_property
    def image_tokens(self) -> int:
        """Number of embeddings of an image: the patches of each tower.

        All towers have equally many. The number follows from the shape of one weight, so no tensor
        is loaded.
        """
        patch = self._shape(TOWER_PREFIXES[0] + PATCHES)[-1]
        return (self.towers[0].image_size // patch) ** 2

    @cached_property
    def llm(self) -> LlamaConfig:
        """The language model's shape.

        Raises:
            ConfigError: The architecture is no Llama that we support.
        """
        text = self.config.get('text_config') or {}
        return read_text_config(text, self.config.get('llm_max_length', 2048), self.path / CONFIG)

    @property
    def architecture(self) -> str:
        """Model type of the language model in transformers: 'llama' or 'mistral'."""
        return (self.config.get('text_config') or {}).get('model_type', 'llama')

    @property
    def action_bins(self) -> int:
        """Number of bin edges of an action."""
        return self.config.get('n_action_bins', 256)

    @property
    def padding_rows(self) -> int:
        """Rows that config.json adds behind the vocabulary, for padding."""
        return self.config.get('pad_to_multiple_of', 64)

    @cached_property
    def norm_stats(self) -> dict[str, dict]:
        """Stored statistics by unnorm_key; dataset_statistics.json wins over config.json."""
        own = self.path / STATISTICS
        stats = _read_json(own) if own.is_file() else self.config.get('norm_stats')
        if not stats:
            raise ConfigError(
                f'{self.path} has no norm_stats in config.json and no dataset_statistics.json; '
                'without them token ids cannot become metres and radians'
            )
        return stats

    @cached_property
    def statistics(self) -> dict[str, ActionStatistics]:
        """Usable statistics by unnorm_key; a warning names each unusable entry."""
        read = {key: self._usable(key) for key in self.norm_stats}
        return {key: one for key, one in read.items() if one is not None}

    def _usable(self, key: str) -> ActionStatistics | None:
        try:
            return read_statistics(self.norm_stats[key], key)
        except ConfigError as error:
            _log.warning('%s: %s', self.path, error)
            return None

    def find_statistics(self, unnorm_key: str | None) -> tuple[str, ActionStatistics]:
        """Find the statistics of a data set; None is allowed if there is only one.

        Raises:
            ConfigError: There is no such key, or its statistics cannot be used.
        """
        stored = self.norm_stats
        key = unnorm_key or (next(iter(stored)) if len(stored) == 1 else None)
        if key in stored and key not in self.statistics:
            read_statistics(stored[key], key)  # raises, and names the fault
        return find_statistics(self.statistics, key, self.path)

    def tensors(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name without prefix, tensor on the CPU) for each stored tensor under prefix.

        It maps one shard at a time, so that at most one tensor is in memory twice.

        Raises:
            ConfigError: A file with weights is missing, pickled or unreadable.
        """
        for shard in self.shards:
            with _opened(shard.path, 'pt') as file:
                for key in file.keys():  # noqa: SIM118 - not iterable before safetensors 0.6
                    name = shard.prefix + key
                    if name.startswith(prefix):
                        yield name[len(prefix) :], file.get_tensor(key)

    @property
    def files(self) -> dict[str, Path]:
        """All files that a policy reads, by their path inside the directory.

        Raises:
            ConfigError: A file with weights is missing.
        """
        files = {str(shard.path.relative_to(self.path)): shard.path for shard in self.shards}
        for file in self.path.iterdir():
            if file.is_file() and file.suffix in ('.json', '.model') and file.name != MANIFEST:
                files[file.name] = file
        return dict(sorted(files.items()))

    def _shape(self, name: str) -> list[int]:
        for shard in self.shards:
            key = name.removeprefix(shard.prefix)
            with _opened(shard.path, 'np') as file:
                if key in file.keys():  # noqa: SIM118 - not iterable before safetensors 0.6
                    return file.get_slice(key).get_shape()
        raise ConfigError(f'{self.path} has no weight {name}')

    @cached_property
    def shards(self) -> list[Shard]:
        """Files with tensors.

        Raises:
            ConfigError: A file is missing.
        """
        if self.artifact is None:
            shards = [Shard(file) for file in list_shards(self.path)]
        else:
            read = [] if self.artifact.trtllm_checkpoint else [LLM_BACKBONE]
            if self.artifact.stages:
                self.artifact.check([VISION, PROJECTOR, *read])
            shards = [Shard(self.path / VISION), Shard(self.path / PROJECTOR)]
            backbone = self.path / LLM_BACKBONE
            shards += [Shard(file, PREFIX) for file in list_shards(backbone)]
        missing = [str(s.path.relative_to(self.path)) for s in shards if not s.path.is_file()]
        if missing:
            raise ConfigError(
                f'{self.path} lacks {", ".join(missing)}; weights are read from safetensors only '
                '(pickled .bin and .pt files are refused, because loading them runs code); '
                'convert such files, or download the checkpoint again'
            )
        return shards


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    from safetensors import safe_open, SafetensorError

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f'{path} cannot be read: {error}; if it comes from a clone, run `git lfs pull`'
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    return read_object(path, 'the directory is no Hugging Face checkpoint', 'download it again')


def _download(source: str) -> Path:
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise ConfigError(f'checkpoint {source!r} is neither a directory nor a Hub id (org/name)')
    try:
        from huggingface_hub import snapshot_download

        _log.info('downloading %s', source)
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise ConfigError(
            f'checkpoint {source!r} is no directory here, and downloading it failed: {error}; '
            'download it elsewhere, and set checkpoint to its directory'
        ) from error
