"""Parameters of the robot node: topics, controller and gripper, and those of bridge and gate."""

from __future__ import annotations

from dataclasses import dataclass, fields

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.robot.settings import BridgeSettings
from trt_openvla_ros.settings import setting

SERVO = ('servo_twist', 'servo_pose')
_TICKS = 50.0  # [Hz] lowest rate of the watchdog


@dataclass(frozen=True)
class RobotParameters(BridgeSettings):
    """Parameters of the robot node."""

    autostart: bool = setting(
        True,
        'Configure and activate on start, without a lifecycle manager. Motion is off all the same '
        'until ~/enable is called.',
    )
    dry_run: bool = setting(
        False,
        'Judge actions and publish ~/target, ~/gate and diagnostics, but send nothing to '
        'controller and gripper.',
    )
    controller: str = setting(
        'pose_log',
        'Receiver of the commands: MoveIt Servo by twists or by poses, a Cartesian controller '
        'that takes poses, or nobody but the log.',
        choices=('pose_log', 'servo_twist', 'servo_pose', 'cartesian_pose'),
    )
    rate: float = setting(
        50.0,
        'Rate at which commands are sent [Hz]; the watchdog runs at a multiple of it, at 50 Hz or '
        'faster.',
        low=20.0,
        high=100.0,
    )
    final_commands: int = setting(
        4,
        'Zero twists, or held poses, that are sent when motion ends and nothing is sent any more.',
        low=1,
        high=50,
    )
    servo: str = setting(
        '/servo_node', 'Name of the node of MoveIt Servo, for controllers servo_twist, servo_pose.'
    )
    target_topic: str = setting(
        'target_pose',
        'Topic of the poses for controller cartesian_pose, such as '
        '/cartesian_motion_controller/target_frame.',
    )
    pose_source: str = setting(
        'topic',
        'Source of the measured pose: the topic pose_topic, or TF from tool_frame to base_frame.',
        choices=('topic', 'tf'),
    )
    pose_topic: str = setting('pose', 'Topic of the measured pose in base_frame.')
    joint_states_topic: str = setting(
        '', 'Topic of joint states whose silence holds the robot; empty needs none.'
    )
    joint_states_timeout: float = setting(
        0.2, 'Longest silence of the joint states [s].', low=0.01, high=10.0
    )
    ready_topic: str = setting(
        '',
        'Topic (std_msgs/Bool, latched or not) that must say true before anything is commanded, '
        "such as UR's /io_and_status_controller/robot_program_running; empty needs none.",
    )
    deadman: str = setting(
        '',
        'Switch that a person must hold: the topic ~/deadman, or a button of a joystick on joy; '
        'empty for none. With one, deadman_timeout must be set.',
        choices=('', 'topic', 'joy'),
    )
    deadman_button: int = setting(
        4, 'Index in Joy.buttons of the button for deadman joy.', low=0, high=63
    )
    gripper: str = setting(
        'none',
        'Receiver of the opening: an action of control_msgs, a topic with a number, or nobody.',
        choices=('none', 'gripper_command', 'parallel_gripper_command', 'float'),
    )
    gripper_target: str = setting(
        'gripper_controller/gripper_cmd', 'Name of the action or topic of the gripper.'
    )
    gripper_message: str = setting(
        'float64',
        'Message of gripper float: std_msgs/Float64 or std_msgs/Float64MultiArray.',
        choices=('float64', 'float64_multi_array'),
    )
    gripper_joint: str = setting(
        '', 'Name of the joint in a ParallelGripperCommand; empty names none.'
    )
    gripper_closed: float = setting(
        0.0,
        "Position of the closed gripper in its own unit, mostly [m]; Franka's is half the width.",
        low=-1e3,
        high=1e3,
    )
    gripper_open: float = setting(
        0.04, 'Position of the open gripper, as gripper_closed.', low=-1e3, high=1e3
    )
    max_effort: float = setting(
        0.0,
        'Effort in the goals of gripper actions [N]. Only a controller of positions ignores it: '
        'with 0 a Franka, or an effort controller, grasps with no force.',
        low=0.0,
        high=1e3,
    )
    gripper_timeout: float = setting(
        2.0,
        'Time after which a gripper action that has not answered is a warning in /diagnostics '
        '[s]; nothing ever waits for it.',
        low=0.1,
        high=60.0,
    )

    @property
    def ticks(self) -> int:
        """Ticks of the watchdog for each command, so that it runs at 50 Hz or faster."""
        return max(1, -int(-_TICKS // self.rate))

    @property
    def bridge(self) -> BridgeSettings:
        """Those of the bridge and its gate."""
        return BridgeSettings(**{f.name: getattr(self, f.name) for f in fields(BridgeSettings)})

    def check(self) -> None:
        """See whether they fit each other.

        Raises:
            ConfigError: Two of them contradict each other.
        """
        if self.deadman and not self.deadman_timeout:
            raise ConfigError(
                f'deadman is {self.deadman!r}, but deadman_timeout is 0; set the longest time '
                'without a pressed switch, such as 0.3 s'
            )
        if self.deadman_timeout and not self.deadman:
            raise ConfigError(
                f'deadman_timeout is {self.deadman_timeout:g} s, but nobody listens to a switch; '
                "set deadman to 'topic' or 'joy', or deadman_timeout to 0"
            )
        if self.pose_source == 'tf' and not self.tool_frame:
            raise ConfigError(
                "pose_source is 'tf', but tool_frame is empty; name the frame of the end effector"
            )
        if self.max_gripper_rate and self.gripper.endswith('command'):
            raise ConfigError(
                f'max_gripper_rate is {self.max_gripper_rate:g}, but {self.gripper} sends one '
                "goal for a whole change; set it to 0, and limit the gripper controller's velocity"
            )
        if self.gripper != 'none' and self.gripper_open == self.gripper_closed:
            raise ConfigError(
                f'gripper_open and gripper_closed are both {self.gripper_open:g}; set them to the '
                "gripper's positions"
            )
