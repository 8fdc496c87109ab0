"""The nodes' parameters: a dataclass for each node, one default for each parameter.

The dataclass declares its fields to rclpy, which checks types and ranges, and takes their values
back. Tests compare the documentation and config/policy.yaml with it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TYPE_CHECKING, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pictures import PIXELS
from trt_openvla_ros.policy.loading import ModelSettings
from trt_openvla_ros.robot.meaning import ACTION_MEANINGS
from trt_openvla_ros.settings import field_of, list_settings, Setting, setting

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter

T = TypeVar('T')

_MODEL = list_settings(ModelSettings)


@dataclass(frozen=True)
class PolicyParameters(ModelSettings):
    """Parameters of the policy node; it shares those of the model with the server."""

    unnorm_key: str = field_of(replace(_MODEL['unnorm_key'], run_time=True))
    engine: str = setting(
        'torch',
        'Backend of the language model: torch, tensorrt_llm for an artifact with its engine, or '
        'remote for a server.',
    )
    remote_url: str = setting(
        '', 'URL of the server for engine remote, such as http://192.168.1.5:8000.'
    )
    remote_token_file: str = setting(
        '', "File with the server's token; TRT_OPENVLA_TOKEN in the environment wins over it."
    )
    remote_jpeg_quality: int = setting(
        90, 'JPEG quality of images for the server; 0 sends PNG, which is exact.', low=0, high=100
    )
    remote_timeout: float = setting(
        1.0,
        'Longest time from an image to the answer of the server [s]; a later answer is dropped.',
        low=0.01,
        high=60.0,
    )
    autostart: bool = setting(
        True, 'Configure and activate on start, without a lifecycle manager.'
    )
    image_transport: str = setting(
        'raw',
        'Subscribe to image (raw) or to image/compressed (compressed).',
        choices=('raw', 'compressed'),
    )
    max_pixels: int = field_of(PIXELS)
    image_reliability: str = setting(
        'best_effort',
        'Reliability of the subscription to images: best_effort hears every camera; reliable asks '
        'for lost parts again, and hears only cameras that are reliable too.',
        choices=('best_effort', 'reliable'),
    )
    image_depth: int = setting(
        5,
        'Images that the middleware keeps until the node takes them.',
        low=1,
        high=1000,
    )
    latched_instruction: bool = setting(
        False,
        'Follow an instruction that was latched (transient_local) before the node listened, so '
        'that the robot may move at once; by default only new instructions count.',
    )
    action_frame: str = setting(
        'base_link', 'Frame of the displacement and the rotation in the action.'
    )
    action_meanings: str = field_of(ACTION_MEANINGS)
    max_image_age: float = setting(
        1.0,
        'Largest age of an image when its action is published, inference included, and largest '
        'lead of its stamp [s], by the clock of the node; other images and actions are dropped. '
        '0 accepts any.',
        low=0.0,
        high=60.0,
        run_time=True,
    )
    max_step_time: float = setting(
        30.0,
        'Time after which a step that still runs is an error in /diagnostics, and longest wait '
        'for it in cleanup [s].',
        low=0.1,
        high=3600.0,
        run_time=True,
    )
    max_translation: float = setting(
        0.0,
        'Longest displacement in one step [m], whatever the unit of the action, direction kept; '
        '0 sets no limit, and is needed if nobody knows the unit.',
        low=0.0,
        high=1.0,
        run_time=True,
    )
    max_rotation: float = setting(
        0.0,
        'Largest rotation in one step, as length of its three numbers [rad], whatever their unit, '
        'direction kept; 0 sets no limit, and is needed if nobody knows the unit.',
        low=0.0,
        high=3.15,
        run_time=True,
    )
    gripper_closed: float = setting(
        0.0, "Value published for a closed gripper, in the robot's unit.", low=-1e3, high=1e3
    )
    gripper_open: float = setting(
        1.0, "Value published for an open gripper, in the robot's unit.", low=-1e3, high=1e3
    )
    publish_prompt_image: bool = setting(
        False, 'Publish ~/prompt_image, the exact image that the model sees.'
    )


@dataclass(frozen=True)
class SimParameters:
    """Parameters of the simulation."""

    seed: int = setting(0, 'Seed of the first scene.', low=0, high=1_000_000_000)
    instruction: str = setting(
        '', 'Instruction of the first scene; if empty, the seed draws a goal.'
    )
    rate: float = setting(
        5.0,
        'Control steps per second of wall time [Hz]; 0 is lock-step: one step for each action.',
        low=0.0,
        high=100.0,
    )
    controller: str = setting(
        'direct',
        'Who moves the hand: actions (direct), MoveIt Servo (servo), the controller of FZI '
        '(cartesian) or CRISP (crisp), each as it is on a robot.',
        choices=('direct', 'servo', 'cartesian', 'crisp'),
    )
    gripper: str = setting(
        'gripper_command',
        'Type of the action of the gripper under a controller: control_msgs/GripperCommand, '
        'control_msgs/ParallelGripperCommand, or none.',
        choices=('gripper_command', 'parallel_gripper_command', 'none'),
    )
    controller_rate: float = setting(
        100.0,
        'Rate of the controller, of the pose and of the joint states under a controller [Hz].',
        low=20.0,
        high=240.0,
    )
    publish_clock: bool = setting(
        False, 'Stamp with simulated time, and publish it on /clock for use_sim_time.'
    )


def declare(node: Node, cls: type) -> None:
    """Declare every parameter; rclpy raises for a wrong type or range, and tells the range."""
    for name, one in list_settings(cls).items():
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        node.declare_parameter(name, default, _descriptor(one))


def read(node: Node, cls: type[T], changes: Iterable[Parameter] = ()) -> T:
    """Read the value of every parameter, as it is now or would be after changes."""
    known = list_settings(cls)
    values = {name: node.get_parameter(name).value for name in known}
    values |= {change.name: change.value for change in changes if change.name in known}
    return cls(**{name: _plain(value, known[name]) for name, value in values.items()})


def read_checked(node: Node, cls: type[T]) -> T:
    """Read the parameters of a node that takes none while it runs.

    Raises:
        ConfigError: A value is none of the choices, or no such vector.
    """
    for name in list_settings(cls):
        reason = why_no_choice(name, node.get_parameter(name).value, cls)
        if reason:
            raise ConfigError(reason)
    return read(node, cls)


def why_no_choice(name: str, value: Any, cls: type) -> str:
    """Say why value is none of the choices of a parameter, or no such vector; '' if it is one."""
    # rclpy asks about every parameter of the node, use_sim_time among them.
    one = list_settings(cls).get(name)
    if one is not None and one.is_vector:
        try:
            one.check(_plain(value, one), name)
        except ConfigError as error:
            return str(error)
    if one is None or not one.choices or _plain(value, one) in one.choices:
        return ''
    return f'{name} is {value!r}; it must be one of {", ".join(map(repr, one.choices))}'


def _plain(value: Any, one: Setting) -> Any:
    if one.is_switch and isinstance(value, bool):
        return str(value).lower()
    # rclpy gives arrays of numbers as array.array.
    return tuple(value) if isinstance(value, array | list) else value


def _descriptor(one: Setting) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=one.description, read_only=not one.run_time)
    # `-p center_crop:=true` is a truth value, and '' is none.
    descriptor.dynamic_typing = one.is_switch
    if one.choices:
        descriptor.additional_constraints = f'one of {", ".join(map(repr, one.choices))}'
    if one.low is not None and isinstance(one.default, int):
        limits = IntegerRange(from_value=one.low, to_value=one.high)
        descriptor.integer_range = [limits]
    elif one.is_vector:  # rcl's ranges are for single numbers
        descriptor.additional_constraints = one.wanted
    elif one.low is not None:
        limits = FloatingPointRange(from_value=one.low, to_value=one.high)
        descriptor.floating_point_range = [limits]
    return descriptor
