"""The commands without an installation: python -m trt_openvla_ros.pipeline COMMAND."""

from __future__ import annotations

import sys

from trt_openvla_ros.pipeline.command import COMMANDS, main

name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
if name not in COMMANDS:
    sys.exit(f'usage: python -m trt_openvla_ros.pipeline {{{",".join(COMMANDS)}}} ARGUMENTS')
main(name)
