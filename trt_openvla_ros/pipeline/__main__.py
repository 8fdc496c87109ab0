"""The commands without an installation: python -m trt_openvla_ros.pipeline COMMAND."""

from __future__ import annotations

import sys

from trt_openvla_ros.process import run

run('trt_openvla_ros.pipeline.command', sys.argv.pop(1) if len(sys.argv) > 1 else '')
