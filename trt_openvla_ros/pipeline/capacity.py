"""What this machine has: disk, memory, GPU and versions; and what a stage needs of it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import shutil
import sys
from typing import Any
from xml.etree import ElementTree

from trt_openvla_ros.errors import ArtifactError, EngineError

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
    """Refuse to start what will not fit.

    Args:
        directory: One that exists.
        needed: Bytes.

    Raises:
        ArtifactError: There is less space.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ArtifactError(
            f'{directory} has {size(free)} free and {size(needed)} are needed; free some, or set '
            'artifact to a directory on another disk'
        )


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    limits = []
    try:
        memory = dict(
            line.split(':') for line in Path('/proc/meminfo').read_text('ascii').splitlines()
        )
        limits.append(int(memory['MemAvailable'].removesuffix('kB')) * 1024)
        # Inside a container less may be allowed than the machine has.
        group = Path('/sys/fs/cgroup')
        allowed = (group / 'memory.max').read_text(encoding='ascii').strip()
        if allowed != 'max':
            # Cached files count as used there, and are given back on demand.
            used = int((group / 'memory.current').read_text(encoding='ascii'))
            stat = dict(line.split() for line in (group / 'memory.stat').read_text().splitlines())
            limits.append(int(allowed) - used + int(stat.get('file', 0)))
    except (OSError, ValueError, KeyError):
        pass
    return min(limits, default=None)


def check_memory(needed: int, way_out: str) -> None:
    """Refuse to start what would swap for hours or be killed.

    Args:
        needed: Bytes.
        way_out: What needs less, for the message.

    Raises:
        EngineError: There is less memory.
    """
    available = available_memory()
    if available is not None and available < needed:
        raise EngineError(
            f'{size(available)} of memory are available and {size(needed)} are needed; {way_out}'
        )


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that are installed."""
    found = {'python': sys.version.split()[0], 'trt_openvla_ros': package_version()}
    for name in _LIBRARIES:
        for installed in metadata.distributions(name=name):
            found[name] = installed.version
            break
    return found


def package_version() -> str:
    """The version in package.xml, wherever this was installed from."""
    try:
        return metadata.version('trt_openvla_ros')
    except metadata.PackageNotFoundError:
        pass
    # colcon installs no Python metadata, but share/; in a checkout the manifest is at the root.
    for parent in Path(__file__).resolve().parents:
        for manifest in (parent / 'share/trt_openvla_ros/package.xml', parent / 'package.xml'):
            if manifest.is_file():
                return ElementTree.parse(manifest).getroot().findtext('version', 'unknown')
    return 'unknown'


def gpu() -> dict[str, Any] | None:
    """Name, compute capability and memory [byte] of the first GPU; None where there is none."""
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
