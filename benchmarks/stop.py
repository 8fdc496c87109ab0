"""Measure the time from SIGINT or SIGTERM to the end of each command, at moments of its life.

The moments are counted from the first import, and lie in the imports, in loading and at work.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

from ament_index_python.packages import get_package_prefix
import numpy as np

from trt_openvla_ros.evaluation.report import write_json

ROOT = Path(__file__).parents[1]
COMMANDS = Path(get_package_prefix('trt_openvla_ros')) / 'lib' / 'trt_openvla_ros'
MOMENTS = (0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # [s]
_PATIENCE = 30.0  # [s] longest wait for an end


def arguments(work: Path) -> dict[str, list[str]]:
    """Give each command something to do in a directory."""
    checkpoint = str(ROOT / 'models' / 'tiny_ecot')
    return {
        'policy_node': ['--ros-args', '-p', f'checkpoint:={checkpoint}'],
        'sim_node': [],
        'deploy_server': ['--checkpoint', checkpoint, '--port', '0'],
        'demo': ['--out', str(work / 'demo.gif'), '--checkpoint', checkpoint],
        'evaluate': ['--episodes', '1', '--out', str(work)],
        'pipeline': [
            *('--params-file', str(ROOT / 'config' / 'pipeline' / 'tiny.yaml')),
            *('--artifact', str(work / 'artifact')),
        ],
    }


def measure(command: list[str], moment: float, number: int) -> tuple[float, int]:
    """Stop a command at a moment [s]; give the time to its end [s] and its exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = Path(f'/proc/{process.pid}/status')
    # The handler is there from the first import on.
    while process.poll() is None and not _handles(status.read_text(), signal.SIGTERM):
        pass
    time.sleep(moment)
    begun = time.perf_counter()
    process.send_signal(number)
    code = process.wait(_PATIENCE)
    return time.perf_counter() - begun, code


def _handles(status: str, number: int) -> bool:
    caught = next(line for line in status.splitlines() if line.startswith('SigCgt'))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def main() -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path, help='file for the result')
    args = parser.parse_args()
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    result = {}
    print(f'{"":15}{"median [s]":>12}{"longest [s]":>12}  exit codes')
    with tempfile.TemporaryDirectory() as work:
        for name, words in arguments(Path(work)).items():
            ends = [
                measure([str(COMMANDS / name), *words], moment, number)
                for moment in MOMENTS
                for number in (signal.SIGINT, signal.SIGTERM)
            ]
            seconds, codes = zip(*ends, strict=True)
            result[name] = {
                'median_s': round(float(np.median(seconds)), 2),
                'longest_s': round(max(seconds), 2),
                'seconds': [round(value, 3) for value in seconds],
                'codes': sorted(set(codes)),
            }
            print(f'{name:15}{np.median(seconds):12.2f}{max(seconds):12.2f}  {set(codes)}')
    if args.json:
        write_json(args.json, {'moments_s': MOMENTS, 'commands': result}, ('numpy', 'torch'))


if __name__ == '__main__':
    sys.exit(main())
