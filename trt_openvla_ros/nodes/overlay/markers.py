"""Markers for RViz: the step, the boxes of the workspace, and the state of the gate."""

from __future__ import annotations

import itertools

from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Quaternion
from geometry_msgs.msg import Pose as PoseMessage
import numpy as np
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from trt_openvla_ros.drawing.content import Gate, STATE_COLOURS
from trt_openvla_ros.drawing.marks import ACCENT, Colour
from trt_openvla_ros.nodes.overlay.boxes import Boxes
from trt_openvla_ros.nodes.overlay.way import Way

WORKSPACE = 'workspace'
_AXIS = 0.05  # [m] length of the axes at the tip
_LINE = 0.003  # [m]
_ABOVE = 0.05  # [m] of the text above the hand or the workspace
_UNCHECKED: Colour = (245, 190, 40)
_BLUE, _RED, _GREY = (90, 160, 250), (255, 70, 70), (160, 165, 175)
# Should the node die, RViz removes what it showed after so many seconds.
_LIFETIME = Duration(sec=2)


class Markers:
    """Makes messages, each of which deletes what the last one had and this one has not."""

    def __init__(self, boxes: Boxes) -> None:
        """Show these boxes too, as they are at each message."""
        self._of = boxes
        self._shown: set[tuple[str, int]] = set()

    def make(self, way: Way | None, gate: Gate | None) -> MarkerArray:
        """Show a way and the state of a gate, where they are known."""
        markers = [*self._boxes()]
        if way is not None:
            markers += _step(way)
        if gate is not None:
            markers.append(self._state(way, gate))
        now = {(marker.ns, marker.id) for marker in markers}
        gone = [
            Marker(ns=ns, id=number, action=Marker.DELETE)
            for ns, number in sorted(self._shown - now)
        ]
        self._shown = now
        return MarkerArray(markers=[*gone, *markers])

    def _boxes(self) -> list[Marker]:
        # Stamp 0 is the newest transform.
        header = Header(frame_id=self._of.frame)
        found = []
        for name, box in self._of.found.items():
            low, high = np.reshape(box, (2, 3))
            if name != WORKSPACE:
                cube = _marker(
                    'keep_out', int(name[-1]), Marker.CUBE, header, _RED, high - low, 0.3
                )
                cube.pose.position = _point((low + high) / 2)
                found.append(cube)
                continue
            corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
            pairs = [
                (a, b)
                for a, b in itertools.combinations(range(8), 2)
                if (corners[a] != corners[b]).sum() == 1
            ]
            found.append(
                _marker('workspace', 0, Marker.LINE_LIST, header, _BLUE, (_LINE, 0.0, 0.0))
            )
            found[-1].points = [_point(corners[i]) for pair in pairs for i in pair]
        return found

    def _state(self, way: Way | None, gate: Gate) -> Marker:
        colour = STATE_COLOURS.get(gate.state, _GREY)
        header = Header(frame_id=self._of.frame)
        place = np.array([0.0, 0.0, _ABOVE])
        if way is not None:
            header, place = _header(way), way.start.pose.position + place
        elif WORKSPACE in self._of.found:
            low, high = np.reshape(self._of.found[WORKSPACE], (2, 3))
            place = np.array([*(low + high)[:2] / 2, high[2] + _ABOVE])
        size = (0.0, 0.0, 0.03)
        text = _marker('state', 0, Marker.TEXT_VIEW_FACING, header, colour, size)
        text.pose.position = _point(place)
        objection = gate.objections[0] if gate.objections else gate.reason
        text.text = f'{gate.state}: {objection}' if objection else gate.state
        return text


def _step(way: Way) -> list[Marker]:
    header, tip = _header(way), way.tip
    colour = ACCENT if way.checked else _UNCHECKED
    start = way.start.pose.position
    length = float(np.linalg.norm(tip.position - start))
    head = min(0.02, 0.5 * length)
    # Diameters of shaft and head, and length of the head.
    shaft = _marker('step', 0, Marker.ARROW, header, colour, (0.006, 0.012, head))
    shaft.points = [_point(start), _point(tip.position)]
    axes = _marker('step', 1, Marker.LINE_LIST, header, colour, (_LINE, 0.0, 0.0))
    for axis, end in enumerate(tip.rotation.apply(np.eye(3))):
        axes.points += [_point(tip.position), _point(tip.position + _AXIS * end)]
        shade = ColorRGBA(a=1.0, **{'rgb'[axis]: 1.0})
        axes.colors += [shade, shade]
    # An arrow of no length is an error in RViz.
    return [shaft, axes] if length > 1e-6 else [axes]


def _header(way: Way) -> Header:
    seconds, rest = divmod(way.start.stamp, 10**9)
    return Header(frame_id=way.start.frame, stamp=Time(sec=seconds, nanosec=rest))


def _marker(
    ns: str,
    number: int,
    kind: int,
    header: Header,
    colour: Colour,
    scale: tuple[float, ...] | np.ndarray,
    opacity: float = 1.0,
) -> Marker:
    marker = Marker(
        header=header,
        ns=ns,
        id=number,
        type=kind,
        action=Marker.ADD,
        lifetime=_LIFETIME,
        pose=PoseMessage(orientation=Quaternion(w=1.0)),
    )
    marker.scale.x, marker.scale.y, marker.scale.z = map(float, scale)
    red, green, blue = (part / 255 for part in colour)
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=opacity)
    return marker


def _point(point: np.ndarray) -> Point:
    x, y, z = map(float, point)
    return Point(x=x, y=y, z=z)
