"""The files with a model's tensors, whose names other tools may have wrapped, or quantised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any

from trt_openvla_ros.checkpoints import llama, vision
from trt_openvla_ros.checkpoints.tensor_files import Piece, stored_tensors
from trt_openvla_ros.errors import ConfigError

_log = logging.getLogger(__name__)

# Parts of names that a wrapper put in: torch.compile, DDP, FSDP, activation checkpointing,
# DeepSpeed and Lightning.
_WRAPPERS = {
    *('_orig_mod', 'module', '_forward_module'),
    *('_fsdp_wrapped_module', '_checkpoint_wrapped_module'),
}
# Parts of names that adapters put in, as long as they are not merged (peft).
_ADAPTERS = ('base_layer', 'original_module', 'modules_to_save', 'lora_', 'ia3_', 'oft_', 'hada_')
# Parts of names of what belongs to a quantised weight, and the formats that have them.
_QUANTISED = {
    'g_idx': 'GPTQ',
    **dict.fromkeys(('qweight', 'qzeros', 'scales'), 'GPTQ or AWQ'),
    **dict.fromkeys(('absmax', 'nested_absmax', 'quant_map', 'nested_quant_map'), 'bitsandbytes'),
    **dict.fromkeys(('quant_state', 'SCB', 'SCBt', 'weight_format'), 'bitsandbytes'),
    **dict.fromkeys(('weight_packed', 'weight_shape', 'weight_g_idx'), 'compressed-tensors'),
    'weight_zero_point': 'compressed-tensors',
    **dict.fromkeys(('_amax', 'weight_scale_2'), 'modelopt'),
    **dict.fromkeys(('weight_scale', 'weight_scale_inv', 'scale_weight', 'input_scale'), 'FP8'),
    **dict.fromkeys(('output_scale', 'k_scale', 'v_scale'), 'FP8'),
    **dict.fromkeys(('W_q', '_data', '_scale', 'codes', 'codebooks'), 'HQQ, quanto or AQLM'),
}
_FLOATS = ('BF16', 'F16', 'F32', 'F64')
QUANTISED_WAY_OUT = (
    'take the checkpoint in bfloat16 (the stage quantize of the pipeline makes FP8, INT4 or INT8 '
    'of it)'
)
# Modules of openvla-oft, which make its actions or read what these need.
OFT_MODULES = ('action_head', 'noisy_action_projector', 'proprio_projector')
OFT_UNSUPPORTED = (
    "those of the language model's own head would be wrong; OFT is not supported, so give a "
    'checkpoint of openvla-7b or a plain fine-tune of it'
)
_PARTS = (vision.TOWERS, vision.PROJECTOR, llama.PREFIX)
# Beginnings of names without which there is no whole model; tied embeddings have no lm_head.
_NEEDED = (vision.TOWER_PREFIXES[0], vision.PROJECTOR, f'{llama.PREFIX}model.')


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


def read_shards(files: Mapping[Path, str], source: Path) -> list[Shard]:
    """List the tensors of a model, by their names without what a wrapper of the model left.

    Args:
        files: Beginning of the names that a file leaves out, by its path.
        source: The checkpoint, for messages.

    Raises:
        ConfigError: A file cannot be read, or the tensors are not the floating-point weights of
            one whole model.
    """
    stored = {path: stored_tensors(path) for path in files}
    names = [added + key for path, added in files.items() for key in stored[path]]
    _refuse_other_weights(names, source)
    prefix = _prefix(names, source)
    shards = []
    home: dict[str, str] = {}
    for path, added in files.items():
        keys: dict[str, str] = {}
        for key, piece in stored[path].items():
            name = _unwrapped(added + key).removeprefix(prefix)
            if name in home:
                raise ConfigError(
                    f'{path}: {key} is the same tensor as {home[name]}; one of both is left of '
                    'another save, so delete it or download the checkpoint again'
                )
            if (
                name.startswith(_PARTS)
                and piece.dtype not in _FLOATS
                and not llama.is_buffer(name)
            ):
                raise ConfigError(
                    f'{path}: {key} is stored as {piece.dtype}, and only {", ".join(_FLOATS)} are '
                    f'read; {QUANTISED_WAY_OUT}'
                )
            keys[name], home[name] = key, f'{key} in {path.name}'
        shards.append(Shard(path, {name: stored[path][key] for name, key in keys.items()}, keys))
    _check_whole(home, source)
    return shards


def _refuse_other_weights(names: Sequence[str], source: Path) -> None:
    """Refuse names that adapters, quantised models and OpenVLA-OFT have.

    Raises:
        ConfigError: There is such a name.
    """
    # torchao joins its own names to others with ':'.
    found = {part: name for name in names for part in name.replace(':', '.').split('.')}
    for part, name in found.items():
        if part.startswith(_ADAPTERS):
            raise ConfigError(
                f'{source}: {name} belongs to an adapter (such as LoRA) that is not merged into '
                'the model; merge it (merge_and_unload of peft) and save the model again'
            )
        if part.startswith(OFT_MODULES):
            raise ConfigError(
                f'{source}: {name} is of OpenVLA-OFT, whose actions it makes, and '
                f'{OFT_UNSUPPORTED}'
            )
    for part, tool in _QUANTISED.items():
        if part in found:
            raise ConfigError(
                f'{source}: {found[part]} belongs to a quantised model ({tool}); '
                f'{QUANTISED_WAY_OUT}'
            )


def _unwrapped(name: str) -> str:
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def _prefix(names: Iterable[str], source: Path) -> str:
    """Find the one prefix of the names of all parts of the model, and log what is left out.

    Raises:
        ConfigError: There are several.
    """
    prefixes: dict[str, str] = {}
    left_out = set()
    for name in names:
        plain = f'.{_unwrapped(name)}'
        found = [plain.find(f'.{part}') for part in _PARTS if f'.{part}' in plain]
        if found:
            prefixes.setdefault(plain[1 : min(found) + 1], name)
        left_out |= {f'{part}.' for part in name.split('.') if part in _WRAPPERS}
    if len(prefixes) > 1:
        raise ConfigError(
            f'{source}: names of tensors begin in {len(prefixes)} ways '
            f'({", ".join(list(prefixes.values())[:3])}); they are of more than one model, so '
            'save the one that you want by itself'
        )
    prefix = next(iter(prefixes), '')
    for text in sorted(left_out | set(prefixes) - {''}):
        _log.warning('%s: tensors are read without %r in their names', source, text)
    return prefix


def _check_whole(names: Iterable[str], source: Path) -> None:
    """Check that there is something of each part, and log what nobody reads.

    Raises:
        ConfigError: A part is missing.
    """
    for part in _NEEDED:
        if not any(name.startswith(part) for name in names):
            begin = {'.'.join([*name.split('.')[:2], '']) for name in names}
            # What is unexpected first: it tells which tool wrote the file.
            begin = sorted(begin, key=lambda text: (text.startswith(_NEEDED), text))
            raise ConfigError(
                f'{source}: no tensor begins with {part}; names there begin with '
                f'{", ".join(begin[:5]) or "nothing"}; save the whole, unwrapped model again'
            )
    unread = [name for name in names if not name.startswith(_PARTS)]
    if unread:
        _log.warning(
            '%s: %d tensors are read by no policy: %s', source, len(unread), ', '.join(unread[:5])
        )
