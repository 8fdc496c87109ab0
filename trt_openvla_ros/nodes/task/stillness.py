"""Steps without motion."""

from __future__ import annotations

import numpy as np

from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.task.parameters import TaskParameters

_GRIPPER = VlaAction.GRIPPER


class Stillness:
    """Counts steps without motion, in metres and radians.

    Attributes:
        count: Such steps in a row, up to now.
    """

    def __init__(self, parameters: TaskParameters) -> None:
        """Take still_translation [m], still_rotation [rad] and still_gripper [-]."""
        self.count = 0
        self._parameters = parameters
        self._opening: float | None = None

    def see(self, message: VlaAction) -> str:
        """Take a step; give the reason why its motion cannot be told, or ''."""
        meaning, limits = message.meaning, self._parameters
        if not (meaning.translation_unit > 0 and meaning.rotation_unit > 0):
            return (
                f'still_steps needs to know how far a step goes, and the unit of '
                f'{message.unnorm_key!r} is unknown; state it where the policy node reads the '
                'meaning of actions, or use max_steps or success_topic'
            )
        moves = np.array(message.chunk or message.action, float)
        # A chunk that cannot be read moves.
        readable = moves.size % len(message.action) == 0
        moves = moves.reshape(-1, len(message.action)) if readable else np.full((1, 7), np.inf)
        moved = np.linalg.norm(moves[:, :3], axis=1).max() * meaning.translation_unit
        turned = np.linalg.norm(moves[:, 3:_GRIPPER], axis=1).max() * meaning.rotation_unit
        opening = message.unlimited_action[_GRIPPER]
        before, self._opening = self._opening, opening
        still = (
            moved <= limits.still_translation
            and turned <= limits.still_rotation
            and np.ptp(moves[:, _GRIPPER]) <= limits.still_gripper
            and (before is None or abs(opening - before) <= limits.still_gripper)
        )
        self.count = self.count + 1 if still else 0
        return ''
