"""What the overlay node has heard, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo

from trt_openvla_ros.drawing.lettering import MOST
from trt_openvla_ros.errors import InputError
from trt_openvla_ros.msg import GateReport, VlaAction
from trt_openvla_ros.nodes.conversions import stamp_of
from trt_openvla_ros.nodes.robot.messages import from_pose
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.poses import Pose

REPORTS = 1.0  # [s] longest time between two reports of the gate
ANSWER = 0.2  # [s] from an action to its target at the longest: ticks of robot_node are 0.02 s
_MOST_POSES = 2000  # two seconds of a pose at 1 kHz


@dataclass(frozen=True)
class PoseAt:
    """A pose, its frame, and its stamp [ns]."""

    pose: Pose
    frame: str
    stamp: int

    @classmethod
    def of(cls, message: PoseStamped) -> PoseAt:
        """Read a message.

        Raises:
            InputError: It holds no pose.
        """
        return cls(from_pose(message), message.header.frame_id, stamp_of(message))


@dataclass
class Heard:
    """The newest of everything.

    Ages are counted from the arrival, by a steady clock: stamps of another machine would make
    what is new look old.

    Attributes:
        clock: Steady clock [s].
        instruction: Instruction; '' for none.
        reasoning: Text of the newest reasoning; of both at most MOST characters.
        action, gate, camera: Newest messages.
        target: Newest target of robot_node.
        view: What the model sees of the camera's picture.
        poses: Measured poses of the last while, in the order of their arrival.
        refused: Reason why the newest pose or target could not be read; '' if it could.
    """

    clock: Callable[[], float] = time.monotonic
    instruction: str = ''
    reasoning: str = ''
    action: VlaAction | None = None
    gate: GateReport | None = None
    camera: CameraInfo | None = None
    target: PoseAt | None = None
    view: SeenView = field(default_factory=SeenView)
    poses: deque[PoseAt] = field(default_factory=lambda: deque(maxlen=_MOST_POSES))
    refused: str = ''
    _at: dict[str, float] = field(default_factory=dict)

    def hear(self, name: str, value: Any) -> None:
        """Take what came under a name of the attributes, or a PoseAt as 'pose'."""
        self._at[name] = self.clock()
        if name == 'pose':
            self.poses.append(value)
            return
        setattr(self, name, value[:MOST] if isinstance(value, str) else value)
        if name == 'action':
            self.reasoning = value.reasoning[:MOST]
            self.instruction = value.instruction[:MOST] or self.instruction

    def hear_pose(self, name: str, message: PoseStamped) -> None:
        """Take a measured pose ('pose') or a target ('target'); one that is none is refused."""
        try:
            read = PoseAt.of(message)
        except InputError as error:
            self.refused = f'{name}: {error}'
            return
        self.refused = ''
        self.hear(name, read)

    def age(self, name: str) -> float:
        """Give the time since something came [s]; infinite if nothing has."""
        return self.clock() - self._at[name] if name in self._at else float('inf')

    def is_gated(self, max_age: float) -> bool:
        """Tell whether a robot node judges actions now; it reports once a second at least."""
        return self.age('gate') <= max_age + REPORTS and self.gate.state != 'disabled'

    def has_target(self, max_age: float) -> bool:
        """Tell whether there is a target, of the newest action or while its own is under way."""
        age = self.age('target')
        of_newest = age <= self.age('action') or self.age('action') < ANSWER
        return self.target is not None and age <= max_age and of_newest

    def is_judged(self, max_age: float) -> bool:
        """Tell whether nothing more is to be heard of the newest action."""
        if not self.is_gated(max_age) or self.age('action') >= ANSWER:
            return True
        if self.age('target') <= self.age('action'):
            return True
        return self.gate.sequence >= self.action.sequence and self.gate.state != 'moving'

    def forget(self) -> None:
        """Forget what is only heard while somebody looks."""
        self.poses.clear()
        self.target = self.camera = None
        for name in ('pose', 'target', 'camera'):
            self._at.pop(name, None)

    def pose_at(self, stamp: int) -> PoseAt | None:
        """Give the measured pose whose stamp is nearest to one [ns]; None without poses."""
        return min(self.poses, key=lambda pose: abs(pose.stamp - stamp), default=None)
