"""Ask a server from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys
import time

import numpy as np

from trt_openvla_ros.client import Client, TOKEN_VARIABLE
from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.errors import PolicyError
from trt_openvla_ros.pictures import read_picture_file


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, print, and end with 0 if every answer was an action."""
    parser = argparse.ArgumentParser(
        prog='query_server',
        description=f'Ask a policy server for an action. Its token is read from {TOKEN_VARIABLE}.',
    )
    parser.add_argument('--image', type=Path, required=True, help='JPEG or PNG file')
    parser.add_argument('--instruction', required=True, help='text such as "pick up the cup"')
    parser.add_argument('--unnorm-key', help="data set; the default is the server's")
    parser.add_argument('--host', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=8000)
    parser.add_argument('--url', help='URL instead of host and port, such as https://rack/policy')
    parser.add_argument(
        '--repeat', type=int, default=1, help='number of requests; from 2 on, times are printed'
    )
    parser.add_argument('--timeout', type=float, default=30.0, help='longest wait [s]')
    parser.add_argument('--quality', type=int, default=95, help='JPEG quality; 0 sends a PNG')
    args = parser.parse_args(argv)
    if args.repeat < 1 or args.timeout <= 0:
        parser.error('--repeat and --timeout must be positive')
    url = args.url or f'http://{args.host}:{args.port}'
    try:
        image = read_picture_file(args.image)
        with Client(url, timeout=args.timeout, jpeg_quality=args.quality) as client:
            seconds = []
            for _ in range(args.repeat):
                begun = time.perf_counter()
                prediction = client.predict(image, args.instruction, args.unnorm_key)
                seconds.append(time.perf_counter() - begun)
    except PolicyError as error:
        sys.exit(f'query_server: {error}')
    _show(prediction)
    if args.repeat > 1:
        p50, p95, p99 = 1e3 * np.percentile(seconds, (50, 95, 99))
        print(
            f'{args.repeat} requests: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, '
            f'{args.repeat / sum(seconds):.1f} Hz'
        )


def _show(prediction: Prediction) -> None:
    print(f'action      {" ".join(f"{value:+.5f}" for value in prediction.action)}')
    print(f'            as {prediction.unnorm_key} has it (x, y, z, rotation, gripper)')
    if prediction.reasoning:
        print(f'reasoning   {prediction.reasoning}')
    parts = ', '.join(f'{k} {1e3 * v:.1f}' for k, v in prediction.timings.items())
    print(f'time [ms]   {parts}')
