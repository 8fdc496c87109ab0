"""The nodes' parameters: a table for each node, one default per setting.

rclpy checks types and ranges against it, and tests check the README and config/policy.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from trt_openvla_ros.opening import ModelSettings
from trt_openvla_ros.settings import list_settings, Setting

if TYPE_CHECKING:
    from rclpy.node import Node


@dataclass(frozen=True)
class Spec(Setting):
    """One parameter: a setting, and whether it is fixed once the node has started."""

    read_only: bool = True

    def descriptor(self) -> ParameterDescriptor:
        """Describe it to rclpy."""
        descriptor = ParameterDescriptor(description=self.description, read_only=self.read_only)
        if self.choices:
            descriptor.additional_constraints = f'one of {", ".join(map(repr, self.choices))}'
        if self.low is not None and isinstance(self.default, int):
            limits = IntegerRange(from_value=self.low, to_value=self.high)
            descriptor.integer_range = [limits]
        elif self.low is not None:
            limits = FloatingPointRange(from_value=self.low, to_value=self.high)
            descriptor.floating_point_range = [limits]
        return descriptor


_MODEL = list_settings(ModelSettings)
# Of the policy node.
SPECS: dict[str, Spec] = {
    **{name: Spec(**vars(model)) for name, model in _MODEL.items()},
    'unnorm_key': Spec(**vars(_MODEL['unnorm_key']), read_only=False),
    'engine': Spec(
        'torch',
        'Backend that runs the model: torch, tensorrt_llm (an artifact with its engine) or remote '
        '(a server).',
    ),
    'remote_url': Spec('', 'Of engine remote: the server, such as http://192.168.1.5:8000.'),
    'remote_token_file': Spec(
        '', "File with the server's token; TRT_OPENVLA_TOKEN of the environment wins over it."
    ),
    'remote_jpeg_quality': Spec(
        90, 'Quality of the JPEG that is sent to the server; 0 sends PNG, exact.', low=0, high=100
    ),
    'remote_timeout': Spec(
        1.0,
        'Longest time from image to action of the server [s]; a later answer is dropped.',
        low=0.01,
        high=60.0,
    ),
    'autostart': Spec(True, 'Configure and activate on start, without a lifecycle manager.'),
    'image_transport': Spec(
        'raw',
        'Subscribe to image (raw) or to image/compressed (compressed).',
        choices=('raw', 'compressed'),
    ),
    'action_frame': Spec(
        'base_link', 'Frame in which displacement and rotation of the action are expressed.'
    ),
    'max_image_age': Spec(
        0.5,
        'Images older than this, or stamped further ahead, are dropped, by the clock of the node '
        '[s]; 0 accepts any.',
        low=0.0,
        high=60.0,
        read_only=False,
    ),
    'max_translation': Spec(
        0.0,
        'Longest displacement in one step [m], direction kept; 0 sets no limit.',
        low=0.0,
        high=1.0,
        read_only=False,
    ),
    'max_rotation': Spec(
        0.0,
        'Largest rotation in one step, as length of (roll, pitch, yaw) [rad], direction kept; '
        '0 sets no limit.',
        low=0.0,
        high=3.15,
        read_only=False,
    ),
    'gripper_closed': Spec(
        0.0, "Published where the model says closed, in the robot's unit.", low=-1e3, high=1e3
    ),
    'gripper_open': Spec(
        1.0, "Published where the model says open, in the robot's unit.", low=-1e3, high=1e3
    ),
    'publish_prompt_image': Spec(
        False, 'Publish ~/prompt_image: the exact image that the model sees.'
    ),
}

# Of the simulation.
SIM_SPECS: dict[str, Spec] = {
    'seed': Spec(0, 'Seed of the first scene.', low=0, high=1_000_000_000),
    'instruction': Spec('', 'What is asked in the first scene; empty draws a goal of it.'),
    'rate': Spec(
        5.0,
        'Control steps per second of wall time [Hz]; 0 is lock-step: one step for each action.',
        low=0.0,
        high=100.0,
    ),
    'publish_clock': Spec(
        False, 'Stamp with simulated time, and publish it on /clock for use_sim_time.'
    ),
}


def declare(node: Node, specs: dict[str, Spec] = SPECS) -> None:
    """Declare every parameter; a value of the wrong type or range raises, with the range."""
    for name, spec in specs.items():
        node.declare_parameter(name, spec.default, spec.descriptor())


def check_choice(name: str, value: Any) -> str:
    """Say why value is none of the choices of a parameter; '' where it is fine."""
    # rclpy asks about every parameter of the node, use_sim_time among them.
    choices = SPECS[name].choices if name in SPECS else ()
    if not choices or value in choices:
        return ''
    return f'{name} is {value!r}; it must be one of {", ".join(map(repr, choices))}'
