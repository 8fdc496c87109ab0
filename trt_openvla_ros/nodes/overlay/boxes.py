"""The boxes of the workspace: from parameters, or else from the robot node that is running."""

from __future__ import annotations

import time
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

from trt_openvla_ros.nodes.overlay.parameters import KEEP_OUT, OverlayParameters
from trt_openvla_ros.safety.space import Box

_NAMES = ('workspace', *KEEP_OUT)
_AGAIN = 5.0  # [s] until the robot node is asked again; it may have been started anew


def has_volume(box: tuple[float, ...]) -> bool:
    """Tell whether a box [6], lowest x, y, z then highest, has an inside."""
    return len(box) == 6 and all(low < high for low, high in zip(box[:3], box[3:], strict=True))


class Boxes:
    """The workspace and the boxes to keep out of.

    Attributes:
        frame: Frame of the boxes.
        found: Boxes [6] m with an inside, lowest then highest, by the names of the parameters.
    """

    def __init__(self, node: Node, parameters: OverlayParameters) -> None:
        """Take those of the parameters; if there are none, the robot node will be asked.

        Raises:
            ConfigError: A lowest value of a box is above the highest.
        """
        for name in _NAMES:
            Box(getattr(parameters, name), name)
        self.frame = parameters.base_frame
        self.found = _of({name: getattr(parameters, name) for name in _NAMES})
        self._client = None
        if not self.found:
            self._client = node.create_client(GetParameters, 'robot/get_parameters')
        self._asked = float('-inf')

    def look(self) -> None:
        """Ask the robot node now and then; the answer comes later."""
        now = time.monotonic()
        if self._client is None or now - self._asked < _AGAIN:
            return
        if self._client.service_is_ready():
            self._asked = now
            request = GetParameters.Request(names=[*_NAMES, 'base_frame'])
            self._client.call_async(request).add_done_callback(self._take)

    def _take(self, future: Any) -> None:
        answer = future.result()
        if answer is None or len(answer.values) != len(_NAMES) + 1:
            return  # another node of that name, without these parameters
        *boxes, frame = answer.values
        if frame.type == ParameterType.PARAMETER_STRING:
            self.frame = frame.string_value
        self.found = _of(
            {n: tuple(v.double_array_value) for n, v in zip(_NAMES, boxes, strict=True)}
        )


def _of(boxes: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    return {name: box for name, box in boxes.items() if has_volume(box)}
