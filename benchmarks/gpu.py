"""Measure the policy on a GPU, beside Hugging Face and the limits of the hardware.

It needs Python, torch, triton, timm and transformers (4.57 or 5), a checkout, and neither ROS nor
an installation:

    python benchmarks/gpu.py --out build/gpu

First the tokens are checked, then random models of openvla-7b's and ecot-7b's size are measured.
It stops when its time is over and keeps what it has. Without a GPU it prints a model of the time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys
import time

_START = time.monotonic()
ROOT = Path(__file__).resolve().parents[1]
for _place in (ROOT / 'test' / 'support', ROOT / 'benchmarks', ROOT):
    sys.path.insert(0, str(_place))


def main() -> int:
    """Run the benchmark; give 1 if tokens were wrong or the process had to be ended, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('build/gpu'), help='directory to write')
    parser.add_argument('--json', type=Path, help='JSON file; default: gpu_NAME.json in --out')
    parser.add_argument('--minutes', type=float, default=5.0, help='time of the whole run [min]')
    parser.add_argument('--device', help="torch device; default: 'cuda' if there is one, or 'cpu'")
    parser.add_argument(
        '--model',
        choices=('7b', 'tiny'),
        help="size of the random models; default: '7b' on a GPU; a CPU measures 'tiny' alone",
    )
    parser.add_argument('--rows', default='', help='measure only rows whose name has this text')
    parser.add_argument('--skip-tokens', action='store_true', help='do not check tokens first')
    args = parser.parse_args()
    try:
        from on_gpu.without_pydantic import import_checkpoints

        import_checkpoints()
        from on_gpu.run import run
    except ImportError as error:
        print(f'this needs torch, timm and numpy, and torchvision with timm: {error}')
        return 1
    return run(args, _START)


if __name__ == '__main__':
    sys.exit(main())
