"""The commands: one stage, or all of them in order."""

from __future__ import annotations

from importlib import import_module
import json
import logging
from pathlib import Path
import signal
import sys
from typing import Any

from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.configuration import Config, read_configuration, STAGES
from trt_openvla_ros.settings import describe_settings

COMMANDS = ('pipeline', *STAGES, 'openvla_run')

_USAGE = """\
usage: {name} [--ros-args] --params-file FILE [-p NAME:=VALUE ...] [--NAME VALUE ...] [--force]

{about}

  --force  run even where settings and inputs did not change

settings:
{settings}
"""


def main(command: str) -> None:
    """Run a stage by its name, or 'pipeline', with the arguments of this process.

    Exits with 1 and a sentence where it cannot be done, with 130 or 143 where it was stopped.
    """
    logging.basicConfig(format='%(message)s', stream=sys.stderr)
    logging.getLogger('trt_openvla_ros').setLevel(logging.INFO)
    logging.getLogger('OpenGL').setLevel(logging.ERROR)
    arguments = sys.argv[1:]
    if {'-h', '--help'} & set(arguments):
        print(_help(command))
        return
    # So that what a container's stop interrupts is cleaned up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    force = '--force' in arguments
    try:
        run(command, [word for word in arguments if word != '--force'], force)
    except PolicyError as error:
        sys.exit(f'{command}: {error}')
    except KeyboardInterrupt:
        print(f'{command}: interrupted; the artifact is as it was', file=sys.stderr)
        sys.exit(130)


def run(command: str, arguments: list[str], force: bool = False) -> dict[str, Any]:
    """Run a stage, or 'pipeline'; gives the facts by stage.

    Raises:
        PolicyError: It cannot be done.
    """
    stage = '' if command == 'pipeline' else command
    config = read_configuration(arguments, stage)
    wanted = (stage,) if stage else tuple(name for name in STAGES if name in config.stages)
    facts = {}
    with Artifact.open(config.artifact, wanted if force else ()) as artifact:
        for name in wanted:
            module = import_module(f'trt_openvla_ros.pipeline.{name}')
            facts[name] = module.run(config, artifact)
            print(json.dumps({name: facts[name]}, indent=1), flush=True)
    left_out = [name for name in STAGES if name not in wanted]
    if not stage and left_out:
        logging.getLogger(__name__).info(
            'left out, as `stages` says: %s; the artifact is %s',
            ', '.join(left_out),
            Path(config.artifact).expanduser().absolute(),
        )
    return facts


def _help(command: str) -> str:
    if command == 'pipeline':
        about = f'Runs {", ".join(STAGES)} in order.'
    else:
        about = (import_module(f'trt_openvla_ros.pipeline.{command}').__doc__ or '').strip()
    return _USAGE.format(name=command, about=about, settings=describe_settings(Config))
