"""A checkpoint in the released Hugging Face layout, or an artifact: configuration and tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TYPE_CHECKING

from pydantic import Field

from trt_openvla_ros.checkpoints.artifact import (
    LLM_BACKBONE,
    MANIFEST,
    Manifest,
    PROJECTOR,
    VISION,
)
from trt_openvla_ros.checkpoints.foreign import (
    download,
    explain,
    find_directory,
    list_names,
    refuse_config,
    refuse_foreign,
)
from trt_openvla_ros.checkpoints.json_files import checked, OTHER_CONFIG, read_object, Schema
from trt_openvla_ros.checkpoints.llama import PREFIX
from trt_openvla_ros.checkpoints.llama_config import LlamaConfig, read_text_config
from trt_openvla_ros.checkpoints.preprocessor import CAMERA, PIXEL_KEYS
from trt_openvla_ros.checkpoints.shards import read_shards, Shard
from trt_openvla_ros.checkpoints.statistics import DataSets
from trt_openvla_ros.checkpoints.tensor_files import list_shards
from trt_openvla_ros.checkpoints.vision import (
    check_towers,
    PATCHES,
    read_towers,
    TOWER_PREFIXES,
    TowerConfig,
)
from trt_openvla_ros.contracts import ActionStatistics
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    import torch

CONFIG, PREPROCESSOR = 'config.json', 'preprocessor_config.json'
STATISTICS = 'dataset_statistics.json'  # only fine-tuned checkpoints have it
GENERATION = 'generation_config.json'
PROCESSOR = 'processor_config.json'  # transformers 5 writes the image processor into it


class _Config(Schema):
    llm_backbone_id: str = 'vicuna-v15-7b'  # the reference's default is v01's
    llm_max_length: Annotated[int, Field(ge=1, le=1 << 15)] = 2048
    n_action_bins: Annotated[int, Field(ge=2, le=1 << 14)] = 256
    pad_to_multiple_of: Annotated[int, Field(ge=0, le=1 << 14)] = 64
    pad_token_id: Annotated[int, Field(ge=0)] | None = None
    text_config: dict[str, Any] | None = None
    norm_stats: dict[str, Any] | None = None


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
        path = find_directory(source) or download(str(source))
        refuse_foreign(list_names(path), path)
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
        refuse_config(config, path / CONFIG)
        return cls(path, config, _read_preprocessor(path), artifact)

    @cached_property
    def _facts(self) -> _Config:
        return checked(_Config, self.config, self.path / CONFIG, OTHER_CONFIG)

    @property
    def names(self) -> list[str]:
        """Names of the checkpoint: its directory, its Hub id, and what it was loaded from."""
        hub = [part for part in self.path.parts if part.startswith('models--')]
        return [self.path.name, *hub, str(self.config.get('_name_or_path', ''))]

    @property
    def llm_backbone_id(self) -> str:
        """Name of the language model, e.g. 'llama2-7b-pure'."""
        return self._facts.llm_backbone_id

    @cached_property
    def towers(self) -> tuple[TowerConfig, ...]:
        """The vision towers in channel order.

        Raises:
            ConfigError: config.json describes no towers that we support, or not those stored here.
        """
        towers = read_towers(self.config, self.path / CONFIG)
        pieces = {name: piece for shard in self.shards for name, piece in shard.pieces.items()}
        check_towers(towers, pieces, self.path / CONFIG)
        return towers

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
        text = self._facts.text_config or {}
        return read_text_config(text, self._facts.llm_max_length, self.path / CONFIG)

    @property
    def architecture(self) -> str:
        """Model type of the language model in transformers: 'llama' or 'mistral'."""
        return (self._facts.text_config or {}).get('model_type', 'llama')

    @property
    def action_bins(self) -> int:
        """Number of bin edges of an action."""
        return self._facts.n_action_bins

    @property
    def padding_rows(self) -> int:
        """Rows that config.json adds behind the vocabulary, for padding."""
        return self._facts.pad_to_multiple_of

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token; None if config.json does not give it."""
        return self._facts.pad_token_id

    @cached_property
    def _data_sets(self) -> DataSets:
        own = self.path / STATISTICS  # wins over config.json
        if own.is_file():
            return DataSets(own, _read_json(own))
        return DataSets(self.path / CONFIG, self._facts.norm_stats or {})

    @property
    def norm_stats(self) -> Mapping[str, Any]:
        """Stored statistics by unnorm_key."""
        return self._data_sets.entries

    @property
    def statistics(self) -> dict[str, ActionStatistics]:
        """Usable statistics by unnorm_key; a warning names each unusable entry once."""
        return self._data_sets.usable

    def find_statistics(self, unnorm_key: str | None) -> tuple[str, ActionStatistics]:
        """Find the statistics of a data set; None is allowed if there is only one.

        Raises:
            ConfigError: There is no such key, or its statistics cannot be used; the message lists
                all.
        """
        return self._data_sets.find(unnorm_key, self.path)

    def tensors(self, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name without prefix, tensor on the CPU) for each stored tensor under prefix.

        It maps one shard at a time, so that at most one tensor is in memory twice.

        Raises:
            ConfigError: A file with weights is missing, pickled or unreadable.
        """
        for shard in self.shards:
            with shard.open() as file:
                for name, key in shard.keys.items():
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

    def _shape(self, name: str) -> tuple[int, ...]:
        for shard in self.shards:
            if name in shard.pieces:
                return shard.pieces[name].shape
        raise ConfigError(f'{self.path} has no weight {name}')

    @cached_property
    def shards(self) -> list[Shard]:
        """Files with tensors.

        Raises:
            ConfigError: A file is missing.
        """
        if self.artifact is None:
            files = dict.fromkeys(list_shards(self.path), '')
        else:
            read = [] if self.artifact.trtllm_checkpoint else [LLM_BACKBONE]
            if self.artifact.stages:
                self.artifact.check([VISION, PROJECTOR, *read])
            files = dict.fromkeys([self.path / VISION, self.path / PROJECTOR], '')
            files |= dict.fromkeys(list_shards(self.path / LLM_BACKBONE), PREFIX)
        missing = [str(file.relative_to(self.path)) for file in files if not file.is_file()]
        if missing:
            raise ConfigError(
                f'{self.path} lacks {", ".join(missing)}{explain(list_names(self.path))}; '
                'weights are read from safetensors only; download the checkpoint again'
            )
        return read_shards(files, self.path)


def _read_json(path: Path) -> dict[str, Any]:
    # Names are listed for the message alone.
    hint = '' if path.is_file() else explain(list_names(path.parent))
    return read_object(
        path, f'the directory is no Hugging Face checkpoint{hint}', 'download it again'
    )


def _read_preprocessor(path: Path) -> dict[str, Any]:
    """Read the image processor: nested, as transformers 5 writes it, else of a file of its own."""
    flat, nested = path / PREPROCESSOR, path / PROCESSOR
    newer = _read_json(nested).get('image_processor') if nested.is_file() else None
    if newer is None:
        return _read_json(flat)
    if not isinstance(newer, dict):
        raise ConfigError(
            f'{nested}: image_processor is {str(newer)[:80]!r}; an object is needed, so take the '
            'file of the original checkpoint'
        )
    older = _read_json(flat) if flat.is_file() else {}
    # Both describe one image processor. The keys that both have differ only if one of them is old.
    for key in PIXEL_KEYS:
        if key in newer and key in older and newer[key] != older[key]:
            raise ConfigError(
                f'{flat} and {nested} differ in {key}: {str(older[key])[:80]} and '
                f'{str(newer[key])[:80]}; one of both is left of another save, so delete it'
            )
    return {**{key: older[key] for key in (CAMERA,) if key in older}, **newer}
