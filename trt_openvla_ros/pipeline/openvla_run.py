"""Stage openvla_run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from trt_openvla_ros.pipeline.artifact import Artifact
    from trt_openvla_ros.pipeline.configuration import Config


@dataclass(frozen=True)
class Settings:
    """What openvla_run can be told."""


def run(config: Config, artifact: Artifact) -> dict[str, Any]:
    """Run the stage."""
    raise NotImplementedError
