"""The version of this package, from the one place that says it: package.xml."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree


def package_version() -> str:
    """Give the version that was installed, or that of the checkout; 'unknown' if neither says."""
    try:
        return metadata.version('trt_openvla_ros')
    except metadata.PackageNotFoundError:
        manifest = Path(__file__).parents[1] / 'package.xml'
    if not manifest.is_file():
        return 'unknown'
    return ElementTree.parse(manifest).getroot().findtext('version', 'unknown')
