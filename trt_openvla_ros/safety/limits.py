"""The limits of the motion gate."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.settings import setting

_BOX = (0.0,) * 6
_KEEP_OUT = (
    'Box that the end effector must not enter or cross: lowest x, y, z, then highest [m], in '
    'base_frame. One without volume is none.'
)


def _keep_out() -> tuple[float, ...]:
    return setting(_BOX, _KEEP_OUT, low=-100.0, high=100.0)


@dataclass(frozen=True)
class GateSettings:
    """Limits of the motion gate, as parameters of the robot node."""

    base_frame: str = setting(
        'base_link', 'Frame of the pose, of the targets, and of actions in base axes.'
    )
    tool_frame: str = setting(
        '',
        'Frame of actions in end-effector axes; they are refused while it is empty.',
    )
    workspace: tuple[float, ...] = setting(
        _BOX,
        'Box that the end effector must stay in: lowest x, y, z, then highest [m], in '
        'base_frame. Nothing moves while it has no volume.',
        low=-100.0,
        high=100.0,
    )
    keep_out_1: tuple[float, ...] = _keep_out()
    keep_out_2: tuple[float, ...] = _keep_out()
    keep_out_3: tuple[float, ...] = _keep_out()
    keep_out_4: tuple[float, ...] = _keep_out()
    max_tilt: float = setting(
        0.0,
        'Largest angle between tool_axis and upright_axis [rad]; 0 sets no limit.',
        low=0.0,
        high=3.15,
    )
    tool_axis: tuple[float, ...] = setting(
        (0.0, 0.0, 1.0),
        'Axis of the tool in its own axes, of any length but 0; unitless.',
        low=-1.0,
        high=1.0,
    )
    upright_axis: tuple[float, ...] = setting(
        (0.0, 0.0, -1.0),
        'Direction in base_frame that tool_axis has when the tool is not tilted; unitless.',
        low=-1.0,
        high=1.0,
    )
    max_step: float = setting(
        0.1, 'Longest translation of one step [m], direction kept.', low=0.001, high=1.0
    )
    max_step_angle: float = setting(
        0.5, 'Largest rotation of one step [rad], axis kept.', low=0.001, high=3.15
    )
    max_speed: float = setting(
        0.25,
        'Highest speed [m/s], direction kept: of a step over the control period, and of the '
        'command from tick to tick.',
        low=0.001,
        high=10.0,
    )
    max_angular_speed: float = setting(
        1.0, 'Highest angular speed [rad/s], axis kept; as max_speed.', low=0.001, high=30.0
    )
    max_acceleration: float = setting(
        2.0,
        'Largest change of the velocity of the command [m/s^2], braking included.',
        low=0.01,
        high=1000.0,
    )
    max_angular_acceleration: float = setting(
        10.0, 'Largest change of its angular velocity [rad/s^2].', low=0.01, high=10000.0
    )
    max_jump: float = setting(
        0.2,
        'Largest difference of the translation of two steps in a row [m]; 0 sets no limit.',
        low=0.0,
        high=2.0,
    )
    max_jump_angle: float = setting(
        1.0,
        'Largest difference of the rotation of two steps in a row [rad]; 0 sets no limit.',
        low=0.0,
        high=6.3,
    )
    leash: float = setting(
        0.05,
        'Largest distance of the command from the measured pose [m]. The command waits there, '
        'and the next step starts from the measured pose. Twice as far is a stop.',
        low=0.001,
        high=1.0,
    )
    leash_angle: float = setting(
        0.3,
        'Largest angle of the command from the measured pose [rad]; as leash.',
        low=0.001,
        high=3.15,
    )
    max_gripper_rate: float = setting(
        0.0,
        'Fastest change of the opening [1/s], which is 0 to 1, for gripper float; 0 sets no '
        'limit. The first opening is not limited.',
        low=0.0,
        high=100.0,
    )
    max_image_age: float = setting(
        1.0,
        'Largest age of the image behind a step while it is executed [s].',
        low=0.01,
        high=10.0,
    )
    max_action_age: float = setting(
        0.2, 'Largest age of an action when it arrives [s].', low=0.01, high=10.0
    )
    max_pose_age: float = setting(
        0.1, 'Largest age of the measured pose [s].', low=0.005, high=10.0
    )
    max_action_rate: float = setting(
        0.0,
        'Most actions in one second [Hz]; 0 takes twice the control rate, and one more.',
        low=0.0,
        high=1000.0,
    )
    action_timeout: float = setting(
        0.5, 'Longest silence of the policy while it moves the robot [s].', low=0.02, high=10.0
    )
    controller_timeout: float = setting(
        0.0,
        'Longest silence of a controller that reports its status [s]; 0 waits for none.',
        low=0.0,
        high=10.0,
    )
    deadman_timeout: float = setting(
        0.0,
        'Longest time since the deadman was last heard pressed [s]; 0 needs no deadman.',
        low=0.0,
        high=10.0,
    )
    stop_after: float = setting(
        1.0,
        'Time after which a silence of policy, camera, pose, deadman or controller that '
        'interrupted a motion becomes a stop [s]; 0 holds for ever.',
        low=0.0,
        high=3600.0,
    )
    max_tick_gap: float = setting(
        0.25,
        'Longest time between two ticks of the watchdog [s]; the clock jumped if it is longer.',
        low=0.02,
        high=1.0,
    )
    max_errors: int = setting(
        4,
        'Most refused actions in a row; one more is a stop. 0 only holds.',
        low=0,
        high=1000,
    )
    max_forced_tokens: int = setting(
        0, 'Most forced tokens (out_of_range) of an action.', low=0, high=6
    )
