"""The commands of the pipeline: one stage, all stages in order, or openvla_run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
import sys
from typing import Any

from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.pipeline import openvla_run
from trt_openvla_ros.pipeline.artifact import Artifact
from trt_openvla_ros.pipeline.build_engine import stage as build_engine
from trt_openvla_ros.pipeline.configuration import Config, read_configuration, STAGES
from trt_openvla_ros.pipeline.quantize import stage as quantize
from trt_openvla_ros.pipeline.save_backbone import stage as save_backbone
from trt_openvla_ros.pipeline.verify import stage as verify
from trt_openvla_ros.settings import describe_settings

_MODULES = {
    'save_backbone': save_backbone,
    'quantize': quantize,
    'build_engine': build_engine,
    'verify': verify,
    'openvla_run': openvla_run,
}
COMMANDS = ('pipeline', *_MODULES)

_USAGE = """\
usage: {name} [--ros-args] --params-file FILE [-p NAME:=VALUE ...] [--NAME VALUE ...] [--force]

{about}

  --force  run the stages even if settings and inputs did not change

settings:
{settings}
"""


def main(command: str) -> None:
    """Run a command with the arguments of this process.

    The process exits with 1 and a message if the command fails.

    Raises:
        KeyboardInterrupt: A signal stopped it; an interrupted stage has left nothing.
    """
    if command not in COMMANDS:
        sys.exit(f'usage: python -m trt_openvla_ros.pipeline {{{",".join(COMMANDS)}}} ARGUMENTS')
    logging.basicConfig(format='%(message)s', stream=sys.stderr)
    logging.getLogger('trt_openvla_ros').setLevel(logging.INFO)
    logging.getLogger('OpenGL').setLevel(logging.ERROR)
    arguments = sys.argv[1:]
    if {'-h', '--help'} & set(arguments):
        print(_help(command))
        return
    force = '--force' in arguments
    try:
        run(command, [word for word in arguments if word != '--force'], force)
    except PolicyError as error:
        sys.exit(f'{command}: {error}')
    except KeyboardInterrupt:
        print(f'{command}: interrupted; the artifact is as it was', file=sys.stderr)
        raise


def run(command: str, arguments: list[str], force: bool = False) -> dict[str, Any]:
    """Run a command; give the facts by stage.

    Args:
        command: One of COMMANDS.
        arguments: Arguments as on the command line.
        force: Whether stages run even if nothing changed.

    Raises:
        PolicyError: The command failed.
    """
    whole = command == 'pipeline'
    config = read_configuration(arguments, '' if whole else command)
    chosen = tuple(name for name in STAGES if name in config.stages) if whole else (command,)
    facts = {}
    with Artifact.open(config.artifact, chosen if force else ()) as artifact:
        for name in chosen:
            facts[name] = _MODULES[name].run(getattr(config, name), config, artifact)
            print(json.dumps({name: facts[name]}, indent=1), flush=True)
    left_out = [name for name in STAGES if name not in chosen]
    if whole and left_out:
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
        about = (_MODULES[command].__doc__ or '').strip()
    return _USAGE.format(name=command, about=about, settings=describe_settings(Config))
