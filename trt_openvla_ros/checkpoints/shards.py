"""The files with a model's tensors, whose names other tools may have wrapped, or quantised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import logging
from pathlib import Path
import re
from typing import Any

from trt_openvla_ros.checkpoints import llama, vision
from trt_openvla_ros.checkpoints.tensor_files import Piece, stored_tensors
from trt_openvla_ros.errors import ConfigError

_log = logging.getLogger(__name__)

# Parts of names that a wrapper put in: torch.compile, DDP, FSDP, activation checkpointing, and the
# default adapter of peft.
_WRAPPERS = {'_orig_mod', 'module', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}
_PEFT = 'base_model.model.'
_ADAPTER = re.compile(
    r'\.(lora_(A|B|embedding_A|embedding_B|magnitude_vector)|base_layer|modules_to_save)\.'
)
# Ends of names that GPTQ, AWQ, bitsandbytes, compressed-tensors and FP8 exports store.
_QUANTISED = re.compile(
    r'\.(qweight|qzeros|scales|g_idx|SCB|absmax|(nested_)?quant_map|weight_format|weight_packed'
    r'|(weight|input|output)_scale(_inv)?|weight_zero_point|weight_shape|quant_state.*'
    r'|weight\.(absmax|(nested_)?quant_map|nested_absmax|quant_state.*))$'
)
_FLOATS = ('BF16', 'F16', 'F32', 'F64')
QUANTISED_WAY_OUT = (
    'take the checkpoint in bfloat16 (the stage quantize of the pipeline makes FP8, INT4 or INT8 '
    'of it)'
)
_WANTED = (vision.TOWERS, vision.PROJECTOR, llama.PREFIX)


@dataclass(frozen=True)
class Shard:
    """A file with tensors.

    Attributes:
        path: The file.
        pieces: Tensors by their names in the release.
        keys: Their names in the file, by their names in the release.
    """

    path: Path
    pieces: Mapping[str, Piece]
    keys: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, prefix: str = '') -> Shard:
        """List the tensors of a file.

        Args:
            path: The file.
            prefix: Beginning of the names that the file leaves out.

        Raises:
            ConfigError: The file cannot be read, or two tensors have one name.
        """
        pieces, keys = {}, {}
        for key, piece in stored_tensors(path).items():
            name = prefix + _plain(key)
            if name in keys:
                raise ConfigError(
                    f'{path}: {keys[name]} and {key} are both {name}; save the unwrapped model '
                    'again'
                )
            pieces[name], keys[name] = piece, key
        return cls(path, pieces, keys)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open the file with safetensors, for tensors of torch.

        Raises:
            ConfigError: The file cannot be read.
        """
        from safetensors import safe_open, SafetensorError

        try:
            with safe_open(self.path, framework='pt') as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f'{self.path} cannot be read: {error}; if it comes from a clone, run '
                '`git lfs pull`'
            ) from error


def check_stored(shards: Sequence[Shard], source: Path) -> None:
    """Refuse tensors that are no weights of the released form.

    Args:
        shards: All files of the model.
        source: The checkpoint, for messages.

    Raises:
        ConfigError: The weights are those of an adapter, quantised, of no floating-point type, or
            not a single one is of the policy.
    """
    pieces = {name: piece for shard in shards for name, piece in shard.pieces.items()}
    for name, piece in pieces.items():
        if _ADAPTER.search(name):
            raise ConfigError(
                f'{source}: {name} belongs to a LoRA adapter that is not merged into the model; '
                'merge it (merge_and_unload of peft) and save the model again'
            )
        if _QUANTISED.search(name):
            raise ConfigError(
                f'{source}: {name} belongs to a quantised model; {QUANTISED_WAY_OUT}'
            )
        if name.startswith(_WANTED) and piece.dtype not in _FLOATS:
            raise ConfigError(
                f'{source}: {name} is stored as {piece.dtype}, and only {", ".join(_FLOATS)} are '
                f'read; {QUANTISED_WAY_OUT}'
            )
    missing = [start for start in _WANTED if not any(name.startswith(start) for name in pieces)]
    if missing:
        there = sorted({'.'.join(name.split('.')[:2]) for name in pieces})[:6]
        raise ConfigError(
            f'{source}: no tensor begins with {missing[0]}; names there begin with '
            f'{", ".join(there) or "nothing"}; save the whole, unwrapped model again'
        )
    wrapped = [
        key for shard in shards for name, key in shard.keys.items() if not name.endswith(key)
    ]
    if wrapped:
        _log.info('%s: %s and others are read without what wrapped the model', source, wrapped[0])


def _plain(name: str) -> str:
    """Give the name of a tensor without what wrappers put in.

    For example, `base_model.model.language_model._orig_mod.lm_head.weight` is
    `language_model.lm_head.weight`. No name of the release has these parts.
    """
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS).removeprefix(_PEFT)
