"""What people name as a checkpoint and is none: each is told what it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
import logging
from pathlib import Path

from trt_openvla_ros.checkpoints.artifact import MANIFEST
from trt_openvla_ros.checkpoints.json_files import read_object
from trt_openvla_ros.errors import ConfigError

# What a policy reads. Nothing else is downloaded.
_HUB_FILES = ['*.json', '*.safetensors', 'tokenizer.model']
# openvla-oft's finetune.py writes these beside the model.
_OFT = ('action_head--*', 'noisy_action_projector--*', 'proprio_projector--*')
_ADAPTER, _ADAPTER_WEIGHTS = 'adapter_config.json', 'adapter_model*'
_SAFETENSORS, _PICKLED = '*.safetensors', ('*.bin', '*.pt', '*.pth', '*.ckpt')

_log = logging.getLogger(__name__)


def refuse_foreign(path: Path) -> None:
    """Refuse a file or directory that is recognised as something else than a checkpoint.

    Raises:
        ConfigError: It is recognised; the message says as what.
    """
    try:
        if path.is_file():
            raise ConfigError(f'checkpoint {path} is a file; give the directory that it lies in')
        if not path.is_dir():
            return
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise ConfigError(f'checkpoint {path} cannot be read: {error}') from error
    if {'snapshots', 'blobs'} <= names or any(fnmatch(name, 'models--*--*') for name in names):
        found = [str(config.parent) for config in sorted(path.glob('**/snapshots/*/config.json'))]
        raise ConfigError(
            f"{path} is the Hub's cache; give one of the checkpoints in it: "
            f'{", ".join(found) or "there is none, so download one by its Hub id"}'
        )
    refuse_names(names, path)


def refuse_names(names: Iterable[str], source: object) -> None:
    """Refuse a directory, here or on the Hub, by the names of its files.

    Args:
        names: Names of the files.
        source: The directory or Hub id, for messages.

    Raises:
        ConfigError: The names are recognised; the message says as what.
    """
    names = set(names)

    def there(*patterns: str) -> list[str]:
        return sorted(n for n in names for pattern in patterns if fnmatch(n, pattern))

    if heads := there(*_OFT):
        raise ConfigError(
            f'{source} is an OpenVLA-OFT checkpoint: its actions come from {heads[0]}, which is '
            "not supported, and those of the language model's own head would be wrong; give a "
            'checkpoint whose actions are tokens'
        )
    weights = [name for name in there(_SAFETENSORS) if not fnmatch(name, _ADAPTER_WEIGHTS)]
    if weights or MANIFEST in names:
        return
    if there(_ADAPTER, _ADAPTER_WEIGHTS):
        raise ConfigError(
            f'{source} is a LoRA adapter{_base_of(source)}; merge it into that (merge_and_unload '
            'of peft), save the model, and give its directory'
        )
    if graphs := there('*.gguf', '*.onnx', '*.engine'):
        raise ConfigError(
            f'{source} holds {graphs[0]}, which this package did not write; give a Hugging Face '
            'checkpoint, or an artifact of the pipeline'
        )
    pickled = there(*_PICKLED) or (['checkpoints/'] if 'checkpoints' in names else [])
    if pickled:
        raise ConfigError(
            f'{source} has no safetensors, but {pickled[0]}; pickled files are refused, because '
            'loading them runs code; save the model with save_pretrained(..., '
            "safe_serialization=True), or convert a training run by openvla's "
            'vla-scripts/extern/convert_openvla_weights_to_hf.py'
        )


def download(source: str) -> Path:
    """Download a checkpoint from the Hub, and give its directory.

    Args:
        source: Hub id, such as 'openvla/openvla-7b'.

    Raises:
        ConfigError: There is no such checkpoint, it is another thing, or it cannot be downloaded.
    """
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise ConfigError(f'checkpoint {source!r} is neither a directory nor a Hub id (org/name)')
    try:
        from huggingface_hub import list_repo_files, snapshot_download

        try:
            names = list_repo_files(source)
        except (OSError, ValueError) as error:  # offline, where the cache may have the checkpoint
            _log.info('%s: the list of files is not known (%s)', source, error)
            names = []
        refuse_names(names, source)
        _log.info('downloading %s', source)
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f'checkpoint {source!r} is no directory here, and downloading it failed: {error}; '
            'download it elsewhere, and set checkpoint to its directory'
        ) from error


def _base_of(source: object) -> str:
    try:
        base = read_object(Path(str(source)) / _ADAPTER, '', '').get('base_model_name_or_path')
    except ConfigError:
        return ''
    return f' of {base}' if base else ''
