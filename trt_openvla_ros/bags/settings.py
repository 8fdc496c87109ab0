"""What a recording of a robot holds, and where: settings that programs which read one share."""

from __future__ import annotations

from dataclasses import dataclass

from trt_openvla_ros.pictures import PIXELS
from trt_openvla_ros.poses import ANGLES
from trt_openvla_ros.settings import field_of, Setting, setting

ROTATION_OF_MOTION = Setting(
    'subtract',
    'Rotation of motion: the difference of roll, pitch and yaw, as BridgeData labels, or the '
    'rotation that leads from one pose to the next.',
    choices=ANGLES,
)


@dataclass(frozen=True)
class RecordingSettings:
    """Topics of a recording."""

    image_topic: str = setting(
        '/camera/image_raw',
        'Topic of the images (sensor_msgs/msg/Image or CompressedImage).',
    )
    instruction_topic: str = setting(
        '/instruction',
        'Topic of the instructions (std_msgs/msg/String). An instruction applies to the images '
        'after it, until the next; a blank one ends it.',
    )
    action_topic: str = setting(
        '/policy/action', "Topic of the policy's actions (trt_openvla_ros/msg/VlaAction)."
    )
    pose_topic: str = setting(
        '/pose', 'Topic of the pose of the end effector (geometry_msgs/msg/PoseStamped).'
    )
    gripper_topic: str = setting(
        '/joint_states',
        'Topic of the gripper: sensor_msgs/msg/JointState, or std_msgs/msg/Float64 or Float32.',
    )
    gripper_joint: str = setting(
        '', 'Joint of the gripper in a JointState; may be empty if there is only one joint.'
    )
    gripper_closed: float = setting(
        0.0, 'Value of a closed gripper on its topic, in its unit.', low=-1e3, high=1e3
    )
    gripper_open: float = setting(
        1.0, 'Value of an open gripper on its topic, in its unit.', low=-1e3, high=1e3
    )
    clock: str = setting(
        'header',
        'Time that orders images and poses: the stamps of their headers, or the time at which '
        'they were recorded, which counts for a gripper of numbers in any case.',
        choices=('header', 'received'),
    )
    max_pixels: int = field_of(PIXELS)
