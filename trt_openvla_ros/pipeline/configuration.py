"""The settings of the pipeline: of all of it, and of each stage in a section of its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.opening import ModelSettings
from trt_openvla_ros.pipeline import build_engine, openvla_run, quantize, save_backbone, verify
from trt_openvla_ros.settings import field_of, list_settings, read_settings, setting

STAGES = ('save_backbone', 'quantize', 'build_engine', 'verify')
_MODEL = list_settings(ModelSettings)


@dataclass(frozen=True)
class Config:
    """Every setting; each stage has its own section."""

    artifact: str = setting('', 'Directory that the pipeline writes.')
    checkpoint: str = setting('', 'OpenVLA checkpoint: a directory, or its Hub id.')
    unnorm_key: str = field_of(_MODEL['unnorm_key'])
    prompt_style: str = field_of(_MODEL['prompt_style'])
    device: str = field_of(_MODEL['device'])
    max_new_tokens: int = field_of(_MODEL['max_new_tokens'])
    stages: tuple[str, ...] = setting(
        STAGES, 'What the command pipeline runs, always in this order.', choices=STAGES
    )
    save_backbone: save_backbone.Settings = field(default_factory=save_backbone.Settings)
    quantize: quantize.Settings = field(default_factory=quantize.Settings)
    build_engine: build_engine.Settings = field(default_factory=build_engine.Settings)
    verify: verify.Settings = field(default_factory=verify.Settings)
    openvla_run: openvla_run.Settings = field(default_factory=openvla_run.Settings)


def read_configuration(arguments: Sequence[str], stage: str = '') -> Config:
    """Read the command line of a stage, or of the whole pipeline.

    Args:
        arguments: As `read_settings` takes them.
        stage: The stage whose settings may be given short; '' for none.

    Raises:
        ConfigError: An argument, a file or a value cannot be used.
    """
    config = read_settings(Config, arguments, 'pipeline', stage)
    for name in ('artifact', 'checkpoint'):
        if not getattr(config, name):
            raise ConfigError(
                f'{name} is empty; set it in the parameter file or by -p {name}:=...'
            )
    return config
