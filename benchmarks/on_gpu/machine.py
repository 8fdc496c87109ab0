"""The machine: its GPU, its clocks as nvidia-smi tells them, and the vendor's rates."""

from __future__ import annotations

from importlib import import_module
import os
from pathlib import Path
import platform
import re
import subprocess
import sys
from typing import Any, NamedTuple

import torch


class Rates(NamedTuple):
    """The vendor's rates: memory [bytes/s], and products in bf16, in FP8 or INT8 [FLOP/s]."""

    memory: float
    bf16: float
    eight_bit: float


# Beginnings of GPUs' names, without the vendor; the longer ones first. Products are those of dense
# matrices. Sources: NVIDIA's data sheets and architecture papers. Orin: 64 GB, 8 bit is INT8.
NOMINAL = {
    'H200': Rates(4.8e12, 989e12, 1979e12),
    'H100 PCIe': Rates(2.0e12, 756e12, 1513e12),
    'H100 NVL': Rates(3.9e12, 835e12, 1671e12),
    'H100': Rates(3.35e12, 989e12, 1979e12),
    'A100-SXM4-80GB': Rates(2.039e12, 312e12, 624e12),
    'A100': Rates(1.555e12, 312e12, 624e12),
    'L40S': Rates(864e9, 362e12, 733e12),
    'GeForce RTX 5090': Rates(1.792e12, 209.5e12, 419e12),
    'GeForce RTX 4090': Rates(1.008e12, 165.2e12, 330.3e12),
    'GeForce RTX 3090': Rates(936e9, 71e12, 142e12),
    'Orin': Rates(204.8e9, 42.5e12, 85e12),
}
_QUERY = (
    *('name', 'driver_version', 'pstate', 'temperature.gpu', 'power.draw', 'power.limit'),
    *('clocks.sm', 'clocks.mem', 'clocks.max.sm', 'clocks.max.mem', 'memory.total'),
)
_LIBRARIES = ('numpy', 'timm', 'torch', 'transformers', 'triton')


def name_of(device: torch.device) -> str:
    """Give the device's name."""
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'


def nominal_rates(name: str) -> Rates | None:
    """Find the vendor's rates by the device's name; None if it is not in the table."""
    short = name.removeprefix('NVIDIA ').removeprefix('Jetson AGX ')
    return next((rates for begin, rates in NOMINAL.items() if short.startswith(begin)), None)


def slug(name: str) -> str:
    """Make a part of a file's name of a device's name."""
    return re.sub('[^a-z0-9]+', '_', name.lower()).strip('_')


def read_clocks(device: torch.device) -> dict[str, str]:
    """Ask nvidia-smi, which changes nothing; {} where it cannot be asked."""
    if device.type != 'cuda':
        return {}
    # nvidia-smi counts all GPUs, and torch those that it may see; a UUID means the same to both.
    uuid = f'GPU-{torch.cuda.get_device_properties(device).uuid}'
    command = ['nvidia-smi', f'--query-gpu={",".join(_QUERY)}', '--format=csv,noheader']
    try:
        made = subprocess.run(
            [*command, f'--id={uuid}'], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {'nvidia_smi': str(error)[:200]}
    values = made.stdout.strip().split(', ')
    return dict(zip(_QUERY, values, strict=False))


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Describe device, machine, versions and command, in JSON types."""
    described: dict[str, Any] = {
        'device': name_of(device),
        'command': [Path(sys.argv[0]).name, *sys.argv[1:]],
        'machine': f'{os.cpu_count()} cores, {platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'versions': {name: _version(name) for name in _LIBRARIES},
    }
    if device.type == 'cuda':
        found = torch.cuda.get_device_properties(device)
        described['gpu'] = {
            'memory_bytes': found.total_memory,
            'multiprocessors': found.multi_processor_count,
            'capability': f'{found.major}.{found.minor}',
            'cuda': torch.version.cuda,
        }
    return described


def _version(library: str) -> str:
    try:
        return import_module(library).__version__
    except ImportError:
        return 'missing'
