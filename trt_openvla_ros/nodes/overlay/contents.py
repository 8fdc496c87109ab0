"""From what was heard to what is shown.

H, W: size of the picture.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from trt_openvla_ros.drawing.content import Box, Content, Gate, Rule, Step
from trt_openvla_ros.errors import InputError
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.overlay.heard import Heard, REPORTS
from trt_openvla_ros.nodes.overlay.place import camera_of, CameraPlace
from trt_openvla_ros.nodes.overlay.way import way_of
from trt_openvla_ros.policy.pointing import boxes_of, points_of
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.timings import PARTS

_WATCHED = ('action', 'gate', 'pose')


def step_of(action: VlaAction) -> Step:
    """Say what the numbers of an action are."""
    return Step(
        np.array(action.action),
        np.array(action.normalised_action),
        translation_unit=action.meaning.translation_unit,
        rotation_unit=action.meaning.rotation_unit,
        gripper=action.meaning.gripper,
        limited=action.limited,
        sequence=action.sequence,
    )


def gate_of(report: GateReport) -> Gate:
    """Take over a report of the motion gate."""
    rules = [
        Rule(r.rule, r.verdict, r.value, r.limit, r.unit, r.reason, r.count) for r in report.rules
    ]
    return Gate(report.state, report.reason, report.verdict, rules)


def timings_of(action: VlaAction) -> dict[str, float]:
    """Give the parts of an action's time [s] by the names of contracts.PARTS."""
    times = {part: getattr(action, f'{part}_time', 0.0) for part in PARTS}
    return {**times, 'total': action.inference_time}


@lru_cache(maxsize=8)
def fields_of(reasoning: str) -> dict[str, str]:
    """Take a reasoning apart; the same one comes with every picture until the next action."""
    return parse_fields(reasoning)


@lru_cache(maxsize=8)
def pointed_of(reasoning: str) -> tuple[list[tuple[str, np.ndarray]], np.ndarray]:
    """Find the boxes and points of a reasoning, as boxes_of and points_of give them."""
    fields = fields_of(reasoning)
    return boxes_of(fields), points_of(fields)


class Contents:
    """Makes what is shown; it keeps the camera's calibration from picture to picture."""

    def __init__(
        self,
        heard: Heard,
        place: CameraPlace,
        max_age: float,
        rectified: bool,
    ) -> None:
        """Read from `heard` whenever something is asked for.

        Args:
            heard: What came so far.
            place: Where the camera is.
            max_age: Age at which something is old [s].
            rectified: Whether the pictures are rectified.
        """
        self._heard, self._place = heard, place
        self._max_age, self._rectified = max_age, rectified

    def make(self, at: int, age: float, size: tuple[int, int], camera_frame: str) -> Content:
        """Gather everything for one picture.

        Args:
            at: Stamp of the picture [ns].
            age: Its age [s].
            size: H, W.
            camera_frame: Frame in its header.
        """
        heard = self._heard
        boxes, points = self._pointed(size)
        ages = {'image': age}
        for name in _WATCHED:
            if np.isfinite(heard.age(name)):
                ages[name] = heard.age(name)
        arrow, note = self._arrow(at, size, camera_frame)
        return Content(
            instruction=heard.instruction,
            reasoning=fields_of(heard.reasoning),
            boxes=boxes,
            points=points,
            arrow=arrow,
            arrow_note=note,
            step=None if heard.action is None else step_of(heard.action),
            gate=None if heard.gate is None else gate_of(heard.gate),
            timings={} if heard.action is None else timings_of(heard.action),
            ages=ages,
            stale=frozenset(name for name, value in ages.items() if value > self._limit(name)),
        )

    def _limit(self, name: str) -> float:
        return self._max_age + (REPORTS if name == 'gate' else 0.0)

    def _pointed(self, size: tuple[int, int]) -> tuple[list[Box], np.ndarray]:
        """Give the boxes, and the points [N, 2], in pixels of the camera's picture."""
        named, points = pointed_of(self._heard.reasoning)
        if not named and not len(points):
            return [], np.empty((0, 2))
        view = self._heard.view
        boxes = [Box(name, corners) for name, corners in view.boxes_to_camera(named, size)]
        return boxes, view.to_camera(points, size)

    def _arrow(
        self, at: int, size: tuple[int, int], camera_frame: str
    ) -> tuple[np.ndarray | None, str]:
        """Give the arrow [2, 2] px and what there is to say of it."""
        heard = self._heard
        if heard.action is None and heard.target is None:
            return None, ''
        try:
            if heard.camera is None:
                raise InputError('no camera_info came; remap camera_info')
            camera = camera_of(heard.camera, self._rectified)
            if (camera.height, camera.width) != size:
                raise InputError(
                    f'camera_info is of {camera.width} x {camera.height}, and the picture of '
                    f'{size[1]} x {size[0]}'
                )
            way = way_of(heard, at, self._max_age)
            ends = np.stack([way.start.pose.position, way.tip.position])
            frame = camera_frame or heard.camera.header.frame_id
            pixels = camera.project(self._place.to_camera(ends, way.start.frame, frame, at))
            if not np.isfinite(pixels).all():
                raise InputError('the camera does not look that way')
        except InputError as error:
            return None, f'no arrow: {error}'
        return pixels, '' if way.checked else 'arrow: as the policy asks; no gate has checked it'
