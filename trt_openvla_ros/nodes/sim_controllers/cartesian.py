"""Controllers that take a target pose and drive to it until another comes: FZI's and CRISP's.

Sources: fzi-forschungszentrum-informatik/cartesian_controllers (ros2) at f53f798 and
utiasDSL/crisp_controllers at 8093548. Their dynamics are replaced: FZI's solver by a delay of
first order, CRISP's impedance by the softness of the simulated hand.
"""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node

from trt_openvla_ros.nodes.robot.messages import to_pose
from trt_openvla_ros.nodes.sim_controllers.controller import (
    Controller,
    numbers_of,
    Option,
    rotation_of,
)
from trt_openvla_ros.nodes.sim_messages import BASE_FRAME
from trt_openvla_ros.poses import Pose
from trt_openvla_ros.sim.arm import Arm

_FZI_DELAY = 0.05  # [s] in which two thirds of an error are gone
_FZI_ERROR = 1.0  # [m] and [rad] for each axis
_CRISP_ERROR = 0.1, 0.5  # [m], [rad] for each axis
_CRISP_PERIOD = 0.001  # [s]


class CartesianMotion(Controller):
    """FZI's cartesian_motion_controller: the last target counts, however old it is."""

    NAME = 'cartesian_motion_controller'
    OPTIONS = {  # noqa: RUF012 - nobody changes it
        'robot_base_link': Option(
            BASE_FRAME, 'Frame that a target must name; it is compared as text.'
        ),
        'solver.publish_state_feedback': Option(False, 'Publish ~/current_pose.'),
    }

    def __init__(self, owner: Node, clock: Callable[[], int]) -> None:
        """Make the node, active."""
        super().__init__(owner, clock)
        self._target: Pose | None = None
        self._feedback = self.create_publisher(PoseStamped, '~/current_pose', 3)
        self.create_subscription(PoseStamped, '~/target_frame', self._on_target, 3)

    def restart(self, arm: Arm) -> None:
        """Stay where the arm is, as after activation."""
        self._target = None

    def update(self, arm: Arm, seconds: float) -> Pose | None:
        """Go a part of the way to the target, however far it is."""
        if self.option('solver.publish_state_feedback'):
            self._feedback.publish(to_pose(arm.measured, self.header()))
        if self._target is None:
            return None
        move, turn = (
            np.clip(error, -_FZI_ERROR, _FZI_ERROR)
            for error in arm.commanded.step_to(self._target)
        )
        share = 1.0 - np.exp(-seconds / _FZI_DELAY)
        return arm.commanded.moved(share * move, share * turn)

    def _on_target(self, message: PoseStamped) -> None:
        frame = self.option('robot_base_link')
        if message.header.frame_id != frame:
            self.warn(f'Got target pose in wrong reference frame. Expected: {frame}')
            return
        place, quaternion = numbers_of(message)
        # The real one does not normalise, and only looks for NaN; what follows is not defined.
        rotation = rotation_of(quaternion)
        if np.isnan(place).any() or rotation is None:
            self.warn('NaN detected in target pose. Ignoring input.')
            return
        self._target = Pose(np.clip(place, -1e3, 1e3), rotation)


class Crisp(Controller):
    """CRISP's cartesian controller: it trusts a single publisher, whatever that says."""

    NAME = 'cartesian_controller'
    OPTIONS = {  # noqa: RUF012 - nobody changes it
        'filter.target_pose': Option(
            0.1, 'Share of a new target that counts after a millisecond; 1 is all of it.', high=1.0
        ),
    }

    def __init__(self, owner: Node, clock: Callable[[], int]) -> None:
        """Make the node, active."""
        super().__init__(owner, clock)
        self._target: Pose | None = None
        self._filtered: Pose | None = None
        # Relative to the namespace and not to the node, unlike those of the others.
        self._current = self.create_publisher(PoseStamped, 'current_pose', 1)
        self._targets = self.create_subscription(PoseStamped, 'target_pose', self._on_target, 1)

    def restart(self, arm: Arm) -> None:
        """Stay where the arm is, as after activation."""
        self._target = self._filtered = None

    def update(self, arm: Arm, seconds: float) -> Pose | None:
        """Be pulled to the smoothed target, by at most the clipped error."""
        measured = arm.measured
        self._current.publish(to_pose(measured, self.header()))
        if self._target is None:
            return None
        kept = (1.0 - self.option('filter.target_pose')) ** (seconds / _CRISP_PERIOD)
        self._filtered = (self._filtered or measured).toward(self._target, 1.0 - kept)
        move, turn = (
            np.clip(error, -limit, limit)
            for error, limit in zip(measured.step_to(self._filtered), _CRISP_ERROR, strict=True)
        )
        return measured.moved(move, turn)

    def _on_target(self, message: PoseStamped) -> None:
        others = self.count_publishers(self._targets.topic_name)
        if others > 1:
            self.warn(f'{others} publishers on target_pose; every message is ignored')
            return
        place, quaternion = numbers_of(message)
        rotation = rotation_of(quaternion)
        if not np.isfinite(place).all() or rotation is None:
            # The real one checks nothing: the arm would jerk or trip.
            self.warn(f'{place.tolist()}, {quaternion.tolist()} is no pose; a real arm would trip')
            return
        self._target = Pose(place, rotation)
