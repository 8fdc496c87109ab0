"""Run a policy over a recording, and compare its actions with what was done there."""

from __future__ import annotations

import logging
from pathlib import Path
import sys

from trt_openvla_ros.arguments import read_settings
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.evaluation.bag.run import evaluate
from trt_openvla_ros.evaluation.bag.settings import EvaluateBagSettings
from trt_openvla_ros.settings import describe_settings

_NAME = 'evaluate_bag'


def main() -> None:
    """Run the command; exit with 1 and a message if it fails.

    Raises:
        KeyboardInterrupt: A signal stopped it; the same command goes on.
    """
    arguments = sys.argv[1:]
    if {'-h', '--help'} & set(arguments):
        print(f'{_NAME} [--params-file FILE] [-p NAME:=VALUE ...] [--NAME VALUE ...]\n')
        print(f'{__doc__}\n\n{describe_settings(EvaluateBagSettings)}')
        return
    logging.basicConfig(format='%(message)s', stream=sys.stderr)
    try:
        settings = read_settings(EvaluateBagSettings, arguments, _NAME)
        evaluate(settings)
    except PolicyError as error:
        sys.exit(f'{_NAME}: {error}')
    except KeyboardInterrupt:
        print(f'{_NAME}: interrupted; the same command goes on', file=sys.stderr)
        raise
    report = Path(settings.out).expanduser() / 'report.md'
    print(report.read_text(encoding='utf-8'))
