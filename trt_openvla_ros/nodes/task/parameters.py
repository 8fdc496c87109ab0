"""The parameters of the task node."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.settings import setting


@dataclass(frozen=True)
class TaskParameters:
    """Parameters of the task node; a goal keeps those with which it began."""

    autostart: bool = setting(
        True, 'Configure and activate on start, without a lifecycle manager.'
    )
    time_limit: float = setting(
        60.0,
        'Longest time of a goal [s]; a goal without time_allowance has it, and one that asks for '
        'more is rejected.',
        low=0.1,
        high=86_400.0,
        run_time=True,
    )
    policy_timeout: float = setting(
        5.0,
        "Longest time without an action that follows the goal's instruction [s].",
        low=0.1,
        high=600.0,
        run_time=True,
    )
    gate_timeout: float = setting(
        3.0,
        'Time without a report after which a robot_node counts as gone [s]; it sends one each '
        'second.',
        low=1.5,
        high=60.0,
        run_time=True,
    )
    still_translation: float = setting(
        0.002,
        'Longest displacement in one step that counts as no motion [m].',
        low=0.0,
        high=1.0,
        run_time=True,
    )
    still_rotation: float = setting(
        0.01,
        'Largest rotation in one step that counts as no motion [rad].',
        low=0.0,
        high=3.15,
        run_time=True,
    )
    still_gripper: float = setting(
        0.05,
        'Largest change of the opening between two steps that counts as no motion, where 0 is '
        'closed and 1 is open [-].',
        low=0.0,
        high=1.0,
        run_time=True,
    )
