"""What people give as a checkpoint that is none: each is told what it is, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain, islice
import logging
from pathlib import Path
import re
from typing import Any

from trt_openvla_ros.checkpoints.shards import OFT_MODULES, OFT_UNSUPPORTED, QUANTISED_WAY_OUT
from trt_openvla_ros.checkpoints.tensor_files import INDEX, WEIGHTS
from trt_openvla_ros.errors import ConfigError

_log = logging.getLogger(__name__)

_CONFIG = 'config.json'
# What a policy reads. Nothing else is downloaded.
_HUB_FILES = ['*.json', '*.safetensors', 'tokenizer.model']
_MOST_NAMES = 10_000  # a home directory, given by mistake, has more
# Files that openvla-oft writes beside the model.
_OFT = re.compile(rf'[^/]*({"|".join(OFT_MODULES)})[^/]*\.\w+|vision_backbone--[^/]*')
_ADAPTER = re.compile(r'adapter_(config\.json|model\..*)')
_MODEL = "give the directory of the model in Hugging Face's layout"
# Pattern of a path in the directory, what it tells, and the way out. The first that fits counts.
_KINDS = (
    (
        r'checkpoints/[^/]*\.pt',
        "is a training run of openvla's or prismatic's own code",
        'convert it with vla-scripts/extern/convert_openvla_weights_to_hf.py of openvla',
    ),
    (
        r'models--.*/.*',
        "is the Hub's cache of several repositories",
        'give one of its models--* directories, or a Hub id',
    ),
    (r'.*\.gguf', 'is a model of llama.cpp', _MODEL),
    (r'.*\.(engine|plan)', 'is a built engine', "give the artifact's directory that it is in"),
    (r'.*\.onnx(\.data)?', 'is an ONNX graph', _MODEL),
    (
        r'.*zero_to_fp32\.py|global_step\d+/.*|.*\.distcp',
        'is the state of a training that several processes saved (DeepSpeed or FSDP)',
        'gather it with the tool of the trainer, and save the model with save_pretrained()',
    ),
    (
        r'[^/]+/config\.json',
        'has a checkpoint in a directory of its own',
        'give that directory',
    ),
    (
        r'[^/]*\.(bin|pt|pth|ckpt|pkl)',
        'is pickled, and loading it runs code, so it is refused',
        'load it where it was made, and save it with '
        'save_pretrained(directory, safe_serialization=True)',
    ),
    (r'[^/]*\.(msgpack|h5|npz)', 'has the weights of Flax, JAX or TensorFlow', _MODEL),
    (
        r'[^/]*\.safetensors',
        'has weights that are not named model.safetensors, or whose index is missing',
        'download model.safetensors.index.json too, or rename a single file',
    ),
)


def find_directory(source: str | Path) -> Path | None:
    """Find the files of a checkpoint: in a directory, or in a repository of the Hub's cache.

    Returns:
        The directory; None if there is none of that name.

    Raises:
        ConfigError: The path is a file or cannot be read, or no one snapshot can be chosen.
    """
    try:
        path = Path(source).expanduser()
        if path.is_file():
            raise ConfigError(
                f'checkpoint {path} is a file{explain([path.name])}; a checkpoint is a directory '
                f'with {_CONFIG}'
            )
        return _snapshot(path) if path.is_dir() else None
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f'checkpoint {str(source)[:200]!r} cannot be read: {str(error)[:200]}; give another '
            'directory'
        ) from error


def _snapshot(path: Path) -> Path:
    """Go from a repository in the Hub's cache to its snapshot; leave other directories alone."""
    inside = path.name in ('snapshots', 'blobs', 'refs') and (path.parent / 'snapshots').is_dir()
    root = path.parent if inside else path
    if not (root / 'snapshots').is_dir() or (path / _CONFIG).exists():
        return path
    found = sorted(entry for entry in (root / 'snapshots').iterdir() if entry.is_dir())
    main = root / 'refs' / 'main'
    commit = main.read_text(encoding='ascii', errors='replace').strip() if main.is_file() else ''
    chosen = [entry for entry in found if entry.name == commit] or found
    if len(chosen) != 1:
        listed = ', '.join(map(str, found[:5])) or 'another, because it has none'
        raise ConfigError(
            f"{root} is a repository of the Hub's cache, and refs/main names none of its "
            f'{len(found)} snapshots; give one of them: {listed}'
        )
    _log.info("%s is a repository of the Hub's cache; reading %s", root, chosen[0])
    return chosen[0]


def list_names(directory: Path) -> list[str]:
    """List what is in a directory, and in the directories in it, by its path inside it."""
    found = chain(directory.glob('*'), directory.glob('*/*'))
    return [str(path.relative_to(directory)) for path in islice(found, _MOST_NAMES)]


def refuse_foreign(names: Collection[str], source: object) -> None:
    """Refuse a checkpoint whose actions do not come from its language model alone.

    Args:
        names: Paths of its files, in a directory or in a repository of the Hub.
        source: Directory or Hub id, for messages.

    Raises:
        ConfigError: It is of OpenVLA-OFT, or an adapter lies in it.
    """
    heads = sorted(name for name in names if _OFT.fullmatch(name))
    if heads:
        raise ConfigError(
            f'{source} is an OpenVLA-OFT checkpoint: its actions come from {", ".join(heads)}, '
            f'and {OFT_UNSUPPORTED}'
        )
    adapters = sorted(name for name in names if _ADAPTER.fullmatch(name))
    if adapters:
        beside = ' beside a whole model' if _CONFIG in names else ''
        raise ConfigError(
            f'{source} has {", ".join(adapters)}{beside}: an adapter (such as LoRA), which is not '
            'applied; merge it into its base model with merge_and_unload() of peft, and save that '
            'into a directory of its own'
        )


def refuse_config(config: Mapping[str, Any], source: Path) -> None:
    """Refuse the configuration of another kind of model.

    Args:
        config: Content of config.json.
        source: Path of config.json.

    Raises:
        ConfigError: The model is of another family, of OpenVLA-OFT, or quantised.
    """
    kind = config.get('model_type')
    if 'oft' in f'{kind} {config.get("architectures")}'.lower():
        raise ConfigError(
            f'{source} describes an OpenVLA-OFT model ({kind!r}, {config.get("architectures")}); '
            f'its actions are made elsewhere, {OFT_UNSUPPORTED}'
        )
    if kind not in ('openvla', 'prismatic'):
        hint = explain(list_names(source.parent))
        if kind in ('llama', 'mistral'):
            hint = ' (the language model alone; of an artifact, give the directory above)'
        raise ConfigError(
            f"{source} has model_type {kind!r}{hint}; an OpenVLA checkpoint has 'openvla'; set "
            'checkpoint to one'
        )
    for part in (config, config.get('text_config')):
        for key in ('quantization_config', 'compression_config'):
            found = part.get(key) if isinstance(part, Mapping) else None
            if found:
                method = found.get('quant_method') if isinstance(found, Mapping) else found
                raise ConfigError(
                    f'{source} has {key} ({method!r}): the model is quantised, which is not read; '
                    f'{QUANTISED_WAY_OUT}; if its weights are floats again, delete the key'
                )


def explain(names: Collection[str]) -> str:
    """Say what files are instead of a checkpoint, and the way out; '' if nobody knows."""
    if WEIGHTS in names or INDEX in names:
        return ''
    for pattern, what, way_out in _KINDS:
        for name in sorted(names):
            if re.fullmatch(pattern, name):
                return f' ({name} {what}; {way_out})'
    return '' if names else ' (it is empty)'


def download(source: str) -> Path:
    """Download a checkpoint from the Hub, and give its directory.

    Args:
        source: Hub id, such as 'openvla/openvla-7b'.

    Raises:
        ConfigError: There is no such checkpoint, it is another thing, or it cannot be downloaded.
    """
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise ConfigError(
            f'checkpoint {source[:200]!r} is neither a directory nor a Hub id (org/name)'
        )
    try:
        from huggingface_hub import snapshot_download

        _check_listing(source)
        _log.info('downloading %s', source)
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f'checkpoint {source!r} is no directory here, and downloading it failed: {error}; '
            'download it elsewhere, and set checkpoint to its directory'
        ) from error


def _check_listing(source: str) -> None:
    """Refuse a repository by its list of files, before its gigabytes are downloaded."""
    from huggingface_hub import model_info

    try:
        names = [file.rfilename for file in model_info(source).siblings or ()]
    except Exception as error:  # noqa: BLE001 - the library under it differs by release
        # There is no network, and a copy in the cache may do; it is checked as well.
        _log.info('the Hub does not list the files of %s: %s', source, error)
        return
    refuse_foreign(names, source)
    if not any(name.endswith('.safetensors') for name in names):
        raise ConfigError(
            f'{source} has no weights in safetensors{explain(names)}; weights are read from '
            'safetensors only'
        )
