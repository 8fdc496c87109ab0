"""The overlay node's parameters; those named as in policy or robot node mean the same there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trt_openvla_ros.camera_steps import NO_STEPS
from trt_openvla_ros.drawing.overlay import PANELS
from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.nodes.robot.parameters import RobotParameters
from trt_openvla_ros.policy.camera import CameraSettings
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.settings import field_of, list_settings, setting

_POLICY, _ROBOT = list_settings(PolicyParameters), list_settings(RobotParameters)
_STEPS = list_settings(CameraSettings)
KEEP_OUT = tuple(name for name in _ROBOT if name.startswith('keep_out_'))
_BOX = (
    'Box {} that ~/markers shows: lowest x, y, z, then highest [m], in base_frame. If no box is '
    'set, the robot node is asked for its own.'
)


def _shown(name: str) -> object:
    """Take a box of the robot's preset, which here is only shown."""
    meaning = 'of the workspace' if name == 'workspace' else 'that must not be entered'
    return field_of(replace(_ROBOT[name], description=_BOX.format(meaning)))


def _moved(name: str) -> object:
    """Take a step of the policy that belongs to the camera."""
    told = 'With all of rotation, mirror and region_* at their defaults, the policy node tells.'
    return field_of(replace(_STEPS[name], description=f'{_STEPS[name].description} {told}'))


@dataclass(frozen=True)
class OverlayParameters:
    """Parameters of the overlay node."""

    center_crop: str = field_of(
        replace(
            _STEPS['center_crop'],
            description='Whether the policy shows its model the middle 0.9 of the area; if empty, '
            'the policy node tells.',
        )
    )
    rotation: int = _moved('rotation')
    mirror: str = _moved('mirror')
    region_x: int = _moved('region_x')
    region_y: int = _moved('region_y')
    region_width: int = _moved('region_width')
    region_height: int = _moved('region_height')
    image_transport: str = field_of(_POLICY['image_transport'])
    max_pixels: int = field_of(_POLICY['max_pixels'])
    image_reliability: str = field_of(_POLICY['image_reliability'])
    show: str = setting(
        'newest',
        'Picture that is drawn on: the newest one, or the one that the newest action answers '
        '(answered), once for each action.',
        choices=('newest', 'answered'),
    )
    panel: str = setting(
        'beside',
        'Place of the text: beside the picture, over its left, or none.',
        choices=PANELS,
    )
    min_height: int = setting(
        480,
        'Height to which a lower picture is enlarged by a whole number [px]; 0 enlarges none.',
        low=0,
        high=2160,
    )
    max_rate: float = setting(
        15.0, 'Most pictures per second [Hz]; 0 sets no limit.', low=0.0, high=120.0
    )
    font: str = setting('', 'TrueType or OpenType file; the built-in font has Latin letters only.')
    max_age: float = setting(
        1.0,
        'Age at which pose, target, action or report of the gate are old [s]: no arrow then, and '
        'the panel says so.',
        low=0.05,
        high=60.0,
    )
    rectified: bool = setting(
        False, 'Whether the picture is rectified (image_rect): then P of camera_info counts.'
    )
    camera_pose: tuple[float, ...] = setting(
        (0.0,) * 7,
        "Pose of the camera's optical frame in base_frame, if there is no TF of it: x, y, z [m] "
        'and quaternion x, y, z, w. All 0 asks TF.',
        low=-100.0,
        high=100.0,
    )
    pose_source: str = field_of(_ROBOT['pose_source'])
    pose_topic: str = field_of(_ROBOT['pose_topic'])
    tool_frame: str = field_of(
        replace(_ROBOT['tool_frame'], description='Frame of the end effector for pose_source tf.')
    )
    base_frame: str = field_of(
        replace(
            _ROBOT['base_frame'],
            description='Frame of the boxes, of camera_pose, and of poses from TF.',
        )
    )
    workspace: tuple[float, ...] = _shown('workspace')
    keep_out_1: tuple[float, ...] = _shown('keep_out_1')
    keep_out_2: tuple[float, ...] = _shown('keep_out_2')
    keep_out_3: tuple[float, ...] = _shown('keep_out_3')
    keep_out_4: tuple[float, ...] = _shown('keep_out_4')

    def over(self, view: SeenView) -> SeenView:
        """Give a view that the policy node tells of, with the steps that are set here.

        Raises:
            ConfigError: A value is none of a step.
        """
        given = CameraSettings(**{n: getattr(self, n) for n in _STEPS if hasattr(self, n)})
        steps = view.steps
        if given.of_camera != NO_STEPS:
            steps = steps.with_camera(given.of_camera)
        return replace(view, steps=replace(steps, **given.of_checkpoint))
