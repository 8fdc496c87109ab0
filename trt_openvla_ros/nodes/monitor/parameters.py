"""The monitor's parameters."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.settings import field_of, list_settings, setting


@dataclass(frozen=True)
class MonitorParameters:
    """Parameters of the monitor."""

    image_transport: str = field_of(list_settings(PolicyParameters)['image_transport'])
    watch_images: bool = setting(
        True,
        'Count images. They all come to this process, which costs a network their bandwidth.',
    )
    refresh: float = setting(4.0, 'Screens per second [Hz].', low=0.2, high=30.0)
    line_period: float = setting(
        1.0, 'Time between two lines, where the output is no terminal [s].', low=0.1, high=3600.0
    )
