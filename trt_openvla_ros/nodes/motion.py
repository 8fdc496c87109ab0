"""From a prediction to the published action: the robot's limits and gripper."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.msg import VlaAction
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.safety.gate import admit_command


@dataclass(frozen=True)
class Robot:
    """The limits and the gripper of one robot.

    Attributes:
        max_translation: Longest displacement in one step [m]; 0 sets no limit.
        max_rotation: Longest (roll, pitch, yaw) in one step [rad]; 0 sets no limit.
        gripper_closed, gripper_open: Values published for 0 and for 1, in the robot's unit.
    """

    max_translation: float
    max_rotation: float
    gripper_closed: float
    gripper_open: float

    @classmethod
    def of(cls, parameters: PolicyParameters) -> Robot:
        """Take the parameters of the same names."""
        return cls(**{field.name: getattr(parameters, field.name) for field in fields(cls)})

    def limit(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """Fit [7] float64 (m, rad, gripper 0..1) to the robot; tell whether it was shortened."""
        action = action.copy()
        shortened = _shorten(action[:3], self.max_translation)
        shortened |= _shorten(action[3:6], self.max_rotation)
        opening = np.clip(action[6], 0.0, 1.0)
        action[6] = self.gripper_closed + opening * (self.gripper_open - self.gripper_closed)
        return action, shortened


def to_action(prediction: Prediction, robot: Robot) -> VlaAction:
    """Make a message from a prediction, without the header and the node's own fields.

    Raises:
        OutputError: The robot's limits make the action unusable.
    """
    action, limited = robot.limit(prediction.action)
    return VlaAction(
        action=admit_command(action),
        unlimited_action=prediction.action,
        normalised_action=prediction.normalised_action,
        limited=limited,
        out_of_range=prediction.out_of_range,
        prompt=prediction.prompt,
        reasoning=prediction.reasoning,
        unnorm_key=prediction.unnorm_key,
        inference_time=prediction.timings['total'],
        preprocess_time=prediction.timings['preprocess'],
        vision_time=prediction.timings['vision'],
        prefill_time=prediction.timings['prefill'],
        decode_time=prediction.timings['decode'],
    )


def _shorten(vector: np.ndarray, limit: float) -> bool:
    """Scale vector in place to the limit, keeping its direction."""
    length = float(np.linalg.norm(vector))
    if not limit or length <= limit:
        return False
    vector *= limit / length
    return True
