"""All settings of the pipeline: common settings, and a section for each command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline import openvla_run
from trt_openvla_ros.pipeline.build_engine import stage as build_engine
from trt_openvla_ros.pipeline.quantize import stage as quantize
from trt_openvla_ros.pipeline.save_backbone import stage as save_backbone
from trt_openvla_ros.pipeline.settings import Common
from trt_openvla_ros.pipeline.verify import stage as verify
from trt_openvla_ros.settings import setting

# The stages in the order in which they run.
STAGES = ('save_backbone', 'quantize', 'build_engine', 'verify')


@dataclass(frozen=True)
class Config(Common):
    """Every setting; each command has its own section."""

    stages: tuple[str, ...] = setting(
        STAGES, 'Stages that the command pipeline runs, always in this order.', choices=STAGES
    )
    save_backbone: save_backbone.Settings = field(default_factory=save_backbone.Settings)
    quantize: quantize.Settings = field(default_factory=quantize.Settings)
    build_engine: build_engine.Settings = field(default_factory=build_engine.Settings)
    verify: verify.Settings = field(default_factory=verify.Settings)
    openvla_run: openvla_run.Settings = field(default_factory=openvla_run.Settings)


def read_configuration(arguments: Sequence[str], section: str = '') -> Config:
    """Read the command line of one command, or of the whole pipeline.

    Args:
        arguments: Arguments of `read_settings`.
        section: Command whose settings may be given without its name; '' means no command.

    Raises:
        ConfigError: An argument, a file or a value cannot be used.
    """
    config = read_settings(Config, arguments, 'pipeline', section)
    for name in ('artifact', 'checkpoint'):
        if not getattr(config, name):
            raise ConfigError(
                f'{name} is empty; set it in the parameter file or by -p {name}:=...'
            )
    return config
