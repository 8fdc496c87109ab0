"""Checks of this machine's disk and memory, and records of its GPU and libraries."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import shutil
import sys
from typing import Any, TYPE_CHECKING

from trt_openvla_ros.errors import ArtifactError, EngineError
from trt_openvla_ros.version import package_version

if TYPE_CHECKING:
    import torch

_LIBRARIES = (
    'torch',
    'transformers',
    'timm',
    'safetensors',
    'nvidia-modelopt',
    'onnx',
    'onnxruntime',
    'tensorrt',
    'tensorrt_llm',
)


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ('B', 'kB', 'MB'):
        if count < 1000:
            return f'{count:.3g} {unit}'
        count /= 1000
    return f'{count:.1f} GB'


def check_disk(directory: Path, needed: int) -> None:
    """Refuse to write more than the disk has space for.

    Args:
        directory: Existing directory on the disk.
        needed: Bytes that will be written.

    Raises:
        ArtifactError: The disk has less space.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ArtifactError(
            f'{directory} has {size(free)} free and {size(needed)} are needed; free some, or set '
            'artifact to a directory on another disk'
        )


def available_memory() -> int | None:
    """Give the bytes that are free without swapping; None if the system does not say."""
    limits = []
    try:
        memory = dict(
            line.split(':') for line in Path('/proc/meminfo').read_text('ascii').splitlines()
        )
        limits.append(int(memory['MemAvailable'].removesuffix('kB')) * 1024)
        # A container may be allowed less than the machine has.
        group = Path('/sys/fs/cgroup')
        allowed = (group / 'memory.max').read_text(encoding='ascii').strip()
        if allowed != 'max':
            # The group counts cached files as used, but the kernel frees them on demand.
            used = int((group / 'memory.current').read_text(encoding='ascii'))
            stat = dict(line.split() for line in (group / 'memory.stat').read_text().splitlines())
            limits.append(int(allowed) - used + int(stat.get('file', 0)))
    except (OSError, ValueError, KeyError):
        pass
    return min(limits, default=None)


def check_memory(needed: int, way_out: str) -> None:
    """Refuse to start work that would swap for hours or be killed.

    Args:
        needed: Bytes that the work takes.
        way_out: Advice for the message: how to need less memory.

    Raises:
        EngineError: The machine has less memory.
    """
    available = available_memory()
    if available is not None and available < needed:
        raise EngineError(
            f'{size(available)} of memory are available and {size(needed)} are needed; {way_out}'
        )


def check_gpu_memory(device: torch.device, needed: int, way_out: str) -> None:
    """Refuse to start work that a GPU has too little free memory for; pass the CPU.

    Args:
        device: Where the work is done.
        needed: Bytes that the work takes there.
        way_out: Advice for the message: how to need less memory.

    Raises:
        EngineError: The GPU has less free memory.
    """
    if device.type != 'cuda':
        return
    import torch

    free, total = torch.cuda.mem_get_info(device)
    if free < needed:
        raise EngineError(
            f'{device} has {size(free)} of {size(total)} free and {size(needed)} are needed; end '
            f'other programs on it, or {way_out}'
        )


def versions() -> dict[str, str]:
    """Give the versions of Python, of this package and of the libraries that are installed."""
    found = {'python': sys.version.split()[0], 'trt_openvla_ros': package_version()}
    for name in _LIBRARIES:
        for installed in metadata.distributions(name=name):
            found[name] = installed.version
            break
    return found


def gpu() -> dict[str, Any] | None:
    """Give the name, compute capability and memory [byte] of the first GPU; None without a GPU."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(0)
    return {
        'name': about.name,
        'capability': f'{about.major}.{about.minor}',
        'memory': about.total_memory,
    }
