"""The arm that moves the hand while a controller runs: poses in between, speeds, reach.

World.step takes the hand from rest to rest. An arm is under way when the camera looks.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from trt_openvla_ros.poses import Pose
from trt_openvla_ros.sim.scene import CONTROL_PERIOD, SUBSTEPS
from trt_openvla_ros.sim.world import HAND_HIGH, HAND_LOW, World

SUBSTEP = CONTROL_PERIOD / SUBSTEPS  # [s] of the physics
# What the joints give [m/s, rad/s]: the longest step in a third of a control period.
MAX_SPEED, MAX_TURN = 1.0, 3.0
# The joints end a little outside of the space in which policies are trained.
REACH_LOW, REACH_HIGH = HAND_LOW - 0.01, HAND_HIGH + 0.01


class Arm:
    """Moves the hand of a world.

    Attributes:
        commanded: Pose that the joints are told; the hand follows within some hundredths of a
            second, unless something is in its way.
    """

    def __init__(self, world: World) -> None:
        """Be at the hand's pose."""
        self._world = world
        self.commanded = self.measured

    @property
    def measured(self) -> Pose:
        """The actual pose of the fingertips' centre in the base frame."""
        quaternion = np.roll(self._world.hand_orientation, -1)
        return Pose(self._world.hand.position, Rotation.from_quat(quaternion))

    def rest(self) -> None:
        """Command the pose at which the hand is."""
        self.commanded = self.measured

    def go(self, wanted: Pose, substeps: int) -> None:
        """Move towards a pose for so many steps of the physics.

        Args:
            wanted: Pose to command; the arm gets as near to it as its speed and its reach allow.
            substeps: Steps of SUBSTEP each.
        """
        move, turn = self.commanded.step_to(wanted)
        seconds = substeps * SUBSTEP
        next_pose = self.commanded.moved(
            shortened(move, MAX_SPEED * seconds), shortened(turn, MAX_TURN * seconds)
        )
        place = np.clip(next_pose.position, REACH_LOW, REACH_HIGH)
        self.commanded = Pose(place, next_pose.rotation)
        self._world.advance(place, np.roll(self.commanded.quaternion, 1), substeps)


def reaches(position: np.ndarray) -> np.ndarray:
    """Tell for each axis of a position [3] m whether the arm can be there."""
    return (position >= REACH_LOW) & (position <= REACH_HIGH)


def shortened(vector: np.ndarray, longest: float) -> np.ndarray:
    """Give a vector [3] of the same direction that is at most so long."""
    length = float(np.linalg.norm(vector))
    return vector * (longest / length) if length > longest else vector
