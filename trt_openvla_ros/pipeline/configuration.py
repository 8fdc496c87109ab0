"""The pipeline's configuration from a ROS parameter file and the command line, without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline import build_engine, openvla_run, quantize, save_backbone, verify
from trt_openvla_ros.pipeline.settings import (
    list_settings,
    read_section,
    section_of,
    setting,
    unknown,
)
from trt_openvla_ros.policy import MAX_NEW_TOKENS
from trt_openvla_ros.prompt import PROMPT_STYLES

STAGES = ('save_backbone', 'quantize', 'build_engine', 'verify')
# Keys of a parameter file whose parameters are ours: any node's, or the pipeline's own.
_NODES = ('/**', '/*', '/pipeline', 'pipeline')


@dataclass(frozen=True)
class Config:
    """Every setting; each stage has its own section."""

    artifact: str = setting('', 'Directory that the pipeline writes.')
    checkpoint: str = setting('', 'OpenVLA checkpoint: a directory, or its Hub id.')
    unnorm_key: str = setting(
        '', 'Data set whose statistics give m and rad; empty where the checkpoint has one.'
    )
    prompt_style: str = setting(
        '',
        'How the model is asked; empty decides from the checkpoint.',
        choices=('', *PROMPT_STYLES),
    )
    device: str = setting(
        '', 'Torch device such as cpu or cuda:0; empty takes a GPU if there is one.'
    )
    max_new_tokens: int = setting(
        MAX_NEW_TOKENS, 'Most tokens an answer with reasoning may have.', low=1, high=8192
    )
    stages: tuple[str, ...] = setting(
        STAGES, 'What the command pipeline runs, always in this order.', choices=STAGES
    )
    save_backbone: save_backbone.Settings = field(default_factory=save_backbone.Settings)
    quantize: quantize.Settings = field(default_factory=quantize.Settings)
    build_engine: build_engine.Settings = field(default_factory=build_engine.Settings)
    verify: verify.Settings = field(default_factory=verify.Settings)
    openvla_run: openvla_run.Settings = field(default_factory=openvla_run.Settings)


def read_configuration(arguments: Sequence[str], stage: str = '') -> Config:
    """Read a command line such as that of any ROS node.

    Args:
        arguments: `--ros-args --params-file FILE -p NAME:=VALUE`, where what comes later wins.
            `--NAME VALUE` is short for a setting of the stage, or of the whole pipeline.
        stage: The stage whose settings may be given short; '' for none.

    Raises:
        ConfigError: An argument, a file or a value cannot be used.
    """
    values: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        if word in ('--ros-args', '--'):
            continue
        if word == '--params-file':
            _merge(values, _read_file(Path(_next(words, word)).expanduser()))
        elif word in ('-p', '--param'):
            name, found, text = _next(words, word).partition(':=')
            if not found or not name:
                raise ConfigError(f'{word} {name!r} cannot be read; write {word} NAME:=VALUE')
            _merge(values, _nest(name, _read_yaml(text, f'the value of {name}')))
        elif word.startswith('--'):
            name, found, text = word[2:].partition('=')
            name = _full_name(name.replace('-', '_'), stage)
            # As it is, where text is wanted: an instruction may look like anything to YAML.
            text = text if found else _next(words, word)
            _merge(values, _nest(name, text if _is_text(name) else _read_yaml(text, word)))
        else:
            raise ConfigError(f'argument {word!r} is not known; see --help')
    config = read_section(Config, values)
    for name in ('artifact', 'checkpoint'):
        if not getattr(config, name):
            raise ConfigError(
                f'{name} is empty; set it in the parameter file or by -p {name}:=...'
            )
    return config


def _next(words: Any, option: str) -> str:
    try:
        return next(words)
    except StopIteration:
        raise ConfigError(f'{option} needs a value behind it') from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = _read_yaml(path.read_text(encoding='utf-8'), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'parameter file {path} cannot be read: {error}') from error
    values: dict[str, Any] = {}
    found = False
    for node, body in (content if isinstance(content, dict) else {}).items():
        if node not in _NODES:
            continue
        if not isinstance(body, dict) or not isinstance(body.get('ros__parameters'), dict):
            raise ConfigError(f'{path}: {node} has no ros__parameters')
        for name, value in body['ros__parameters'].items():
            _merge(values, _nest(str(name), value))
        found = True
    if not found:
        raise ConfigError(
            f"{path} has no parameters for the pipeline; they stand below '/**: ros__parameters:'"
        )
    return values


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f'{where} is not YAML: {" ".join(str(error).split())}') from error


def _nest(name: str, value: Any) -> dict[str, Any]:
    """Turn quantize.qformat, value into {quantize: {qformat: value}}."""
    for part in reversed(name.split('.')):
        value = {part: value}
    return value


def _merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    """Put more over values, section by section."""
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value


def _full_name(name: str, stage: str) -> str:
    known = list_settings(Config)
    if stage and f'{stage}.{name}' in known:
        return f'{stage}.{name}'
    if name not in known:
        mine = [n for n in known if '.' not in n or n.startswith(f'{stage}.')]
        raise ConfigError(unknown(name, mine))
    return name


def _is_text(name: str) -> bool:
    kind: type = Config
    for part in name.split('.'):
        entry = next(entry for entry in fields(kind) if entry.name == part)
        kind = section_of(entry) or kind
    return isinstance(entry.default, str)
