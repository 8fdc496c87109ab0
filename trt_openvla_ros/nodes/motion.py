"""From a prediction to the published action: the robot's limits and gripper, and the meaning."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from trt_openvla_ros.contracts import Prediction
from trt_openvla_ros.msg import ActionMeaning, VlaAction
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.robot.meaning import Meaning
from trt_openvla_ros.safety.gate import admit_command

_LIMITS = (  # parameter, its unit, and the field that says how long a unit of the action is
    ('max_translation', 'm', 'translation_unit'),
    ('max_rotation', 'rad', 'rotation_unit'),
)


@dataclass(frozen=True)
class Robot:
    """The limits and the gripper of one robot.

    Attributes:
        max_translation: Longest displacement in one step [m]; 0 sets no limit.
        max_rotation: Largest rotation in one step, as length of its numbers [rad]; 0: no limit.
        gripper_closed, gripper_open: Values published for closed and for open, in the robot's
            unit.
    """

    max_translation: float
    max_rotation: float
    gripper_closed: float
    gripper_open: float

    @classmethod
    def of(cls, parameters: PolicyParameters) -> Robot:
        """Take the parameters of the same names."""
        return cls(**{field.name: getattr(parameters, field.name) for field in fields(cls)})

    def why_unlimited(self, meaning: Meaning, unnorm_key: str) -> str:
        """Say why a limit cannot be kept, because nobody knows the unit; '' if all can."""
        for name, unit, field in _LIMITS:
            if getattr(self, name) and not getattr(meaning, field):
                return (
                    f'{name} is {getattr(self, name):g} {unit}, but nobody knows how much a unit '
                    f'of {unnorm_key!r} is; set {name} to 0, or state {field} of {unnorm_key} in '
                    'a file for the parameter action_meanings'
                )
        return ''

    def limit(self, action: np.ndarray, meaning: Meaning) -> tuple[np.ndarray, bool]:
        """Fit [7] float64 in a data set's units to the robot; tell whether it was shortened."""
        action = action.copy()
        shortened = False
        for part, (name, _, field) in zip((action[:3], action[3:6]), _LIMITS, strict=True):
            limit = getattr(self, name)
            shortened |= _shorten(part, limit / getattr(meaning, field) if limit else 0.0)
        opening = np.clip(action[6], 0.0, 1.0)
        if meaning.gripper == 'closed':
            opening = 1.0 - opening
        action[6] = self.gripper_closed + opening * (self.gripper_open - self.gripper_closed)
        return action, shortened

    def as_published(self, meaning: Meaning) -> Meaning:
        """Give the meaning of an action after its gripper became the robot's."""
        ends = self.gripper_closed, self.gripper_open
        known = {(0.0, 1.0): 'open', (1.0, 0.0): 'closed'}.get(ends, 'unknown')
        return (
            replace(meaning, gripper=known) if meaning.gripper in ('open', 'closed') else meaning
        )


def to_action(prediction: Prediction, robot: Robot, meaning: Meaning) -> VlaAction:
    """Make a message from a prediction, without the header and the node's own fields.

    Raises:
        OutputError: The robot's limits make the action unusable.
    """
    limited = [robot.limit(step, meaning) for step in prediction.actions]
    steps = np.array([admit_command(step) for step, _ in limited])
    return VlaAction(
        action=steps[0],
        unlimited_action=prediction.action,
        normalised_action=prediction.normalised_action,
        meaning=ActionMeaning(**asdict(robot.as_published(meaning))),
        chunk=steps.ravel() if len(steps) > 1 else [],
        limited=any(shortened for _, shortened in limited),
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
