"""The settings of the bridge; those of its gate are among them."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.safety.limits import GateSettings
from trt_openvla_ros.settings import setting


@dataclass(frozen=True)
class BridgeSettings(GateSettings):
    """Parameters of the robot node that say how steps become commands."""

    reference: str = setting(
        '',
        'Pose that a step starts from: bridge, target or measured; empty takes that of the '
        "action's meaning.",
        choices=('', 'bridge', 'target', 'measured'),
    )
    control_rate: float = setting(
        0.0,
        "Steps per second [Hz]; 0 takes the rate of the action's meaning.",
        low=0.0,
        high=200.0,
    )
    data_axes: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0),
        "Rotation of the data set's axes in those of the robot (base or tool, as the meaning's "
        'frame says): roll, pitch, yaw about fixed axes [rad]. A UR whose base_frame is '
        'base_link needs yaw 3.14159 for data in base.',
        low=-6.3,
        high=6.3,
    )
    interpolation: str = setting(
        'linear',
        'Way of the command through a control period: linear in position with slerp, or hold, '
        'which commands the target at once.',
        choices=('hold', 'linear'),
    )
    latency_compensation: bool = setting(
        False,
        'Start from the reference at the time of the image, so that what it moved since then '
        'shortens the step; of a chunk, leave out the steps whose time has passed.',
    )
    twist_gain: float = setting(
        4.0,
        'Share of the distance from the measured pose to the command that the twist makes up '
        'for in a second [1/s]; 0 sends the velocity of the command alone.',
        low=0.0,
        high=10.0,
    )
    gripper_meaning: str = setting(
        '',
        'Meaning of the last number: open, closed or none; empty takes that of the action.',
        choices=('', 'open', 'closed', 'none'),
    )
    gripper_mode: str = setting(
        'binary',
        'Openings that are commanded: 0 and 1 alone, or every opening (continuous).',
        choices=('binary', 'continuous'),
    )
    gripper_close_below: float = setting(
        0.4, 'Opening below which a binary gripper closes.', low=0.0, high=1.0
    )
    gripper_open_above: float = setting(
        0.6, 'Opening above which a binary gripper opens.', low=0.0, high=1.0
    )
    gripper_confirm_steps: int = setting(
        1, 'Steps in a row that must ask for a change of a binary gripper.', low=1, high=100
    )
    gripper_sticky_steps: int = setting(
        1,
        'Steps for which a binary gripper keeps a change, whatever they ask for.',
        low=1,
        high=1000,
    )
    gripper_deadband: float = setting(
        0.02, 'Smallest change of a continuous opening that is commanded.', low=0.0, high=1.0
    )
