"""What a goal asks for, and whether it can be followed."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.action import ExecuteInstruction
from trt_openvla_ros.errors import InputError
from trt_openvla_ros.nodes.task.parameters import TaskParameters
from trt_openvla_ros.policy.prompt import normalise_instruction, refuse_special

# Of every tokenizer that OpenVLA's models have; the policy knows its own, and may refuse more.
_SPECIAL = ('<s>', '</s>', '<unk>', '<pad>')


@dataclass(frozen=True)
class Goal:
    """One goal, checked.

    Attributes:
        instruction: As the client wrote it.
        time: Longest time [s].
        max_steps, still_steps: Numbers of steps; 0 if not asked for.
        success_topic: Name before remapping; '' if not asked for.
    """

    instruction: str
    time: float
    max_steps: int
    still_steps: int
    success_topic: str

    @property
    def asks_for_success(self) -> bool:
        """Whether something other than a number of steps can make it done."""
        return bool(self.still_steps or self.success_topic)


def read_goal(request: ExecuteInstruction.Goal, parameters: TaskParameters) -> Goal:
    """Check a request.

    Raises:
        InputError: The instruction is empty, too long or no instruction, or the time allowance is
            negative or more than the node's time_limit.
    """
    refuse_special(request.instruction, _SPECIAL)
    normalise_instruction(request.instruction)
    time = request.time_allowance.sec + 1e-9 * request.time_allowance.nanosec
    if not 0 <= time <= parameters.time_limit:
        raise InputError(
            f'time_allowance is {time:g} s; from 0 to {parameters.time_limit:g} s are allowed '
            '(time_limit of the node)'
        )
    return Goal(
        instruction=request.instruction,
        time=time or parameters.time_limit,
        max_steps=request.max_steps,
        still_steps=request.still_steps,
        success_topic=request.success_topic,
    )
