"""Reports of evaluation and benchmarks: percentiles, with machine, versions and command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
import json
import os
from pathlib import Path
import platform
import sys
from typing import Any

import numpy as np


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Give the 50th and 95th percentile of times [T] in s; the results are in ms."""
    p50, p95 = 1e3 * np.percentile(seconds, (50, 95))
    return {'p50_ms': round(float(p50), 2), 'p95_ms': round(float(p95), 2)}


def print_latencies(rows: dict[str, tuple[dict[str, float], str]]) -> None:
    """Print a table of latencies; rows has the percentiles and the meaning of each name."""
    print(f'{"":10}{"p50 [ms]":>10}{"p95 [ms]":>10}')
    for name, (values, meaning) in rows.items():
        print(f'{name:10}{values["p50_ms"]:10.1f}{values["p95_ms"]:10.1f}  {meaning}')


def write_json(path: Path, result: dict[str, Any], libraries: Sequence[str]) -> None:
    """Write a result with the machine, versions and command that produced it.

    Args:
        path: File to write; its directory is made if there is none.
        result: Values in JSON types.
        libraries: Names of the modules whose versions are written.
    """
    context = {
        'command': [Path(sys.argv[0]).name, *sys.argv[1:]],
        'machine': f'{os.cpu_count()} x {_processor()}, {platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'versions': {name: import_module(name).__version__ for name in libraries},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**result, **context}, indent=1) + '\n')


def _processor() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':')[1].strip()
    return platform.machine()
