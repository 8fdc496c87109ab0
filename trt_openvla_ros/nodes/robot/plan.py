"""What a preset's nodes will do, on one screen, before anything can move."""

from __future__ import annotations

from collections.abc import Collection, Sequence
import textwrap

from trt_openvla_ros.nodes.robot.parameters import RobotParameters, SERVO
from trt_openvla_ros.nodes.robot.presets import folder, Preset
from trt_openvla_ros.robot.meaning import Meaning

_WIDTH, _INDENT = 96, 13
_SUFFIX = {'servo_twist': 'delta_twist_cmds', 'servo_pose': 'pose_target_cmds'}
_AXES = 'xyz'


def plan(
    preset: Preset, meaning: Meaning | None, namespace: str = '', beside: Collection[str] = ()
) -> str:
    """Say what a preset does.

    Args:
        preset: The preset.
        meaning: What the numbers of its data set are; None if only the checkpoint knows which
            data set it is.
        namespace: Namespace of the nodes.
        beside: Nodes that start beside policy and robot: task, overlay.

    Returns:
        At most 30 lines of at most 96 characters.
    """
    policy, prefix = preset.policy, f'/{namespace.strip("/")}' if namespace.strip('/') else ''
    rows = [
        ('preset', _origin(preset)),
        ('policy', _policy(preset)),
        ('numbers', _numbers(meaning, policy.unnorm_key, preset.robot)),
        *robot_rows(preset.robot),
    ]
    if preset.sim is not None:
        rows.insert(1, ('simulation', f'sim_node, its hand moved by {preset.sim.controller}'))
    if 'task' in beside:
        goal = f'{prefix}/task/execute_instruction'
        rows.append(('task', f'a goal of {goal} says an instruction too, and ends it'))
    if 'overlay' in beside:
        picture = f'{prefix}/overlay/overlay'
        rows.append(('overlay', f'draws it into the picture while somebody looks at {picture}'))
    lines = [line for name, text in rows for line in _wrapped(name, text)]
    if not policy.checkpoint:
        lines += ['Nothing is loaded: give checkpoint:= of your own.']
    say = f'ros2 topic pub --once {prefix}/instruction std_msgs/msg/String'
    lines += [
        'Nothing moves before both of these:',
        f'  ros2 service call {prefix}/robot/enable std_srvs/srv/SetBool "{{data: true}}"',
        f'  {say} "{{data: \'what to do\'}}"',
        'Stop it, besides the emergency stop of the robot, which alone is made for that:',
        f'  ros2 service call {prefix}/robot/stop std_srvs/srv/Trigger',
    ]
    return '\n'.join(lines)


def robot_plan(robot: RobotParameters) -> str:
    """Say what the robot node alone does, in the words of the plan."""
    return '\n'.join(line for name, text in robot_rows(robot) for line in _wrapped(name, text))


def robot_rows(robot: RobotParameters) -> list[tuple[str, str]]:
    """Say what the robot node listens to, commands and refuses: names and sentences."""
    pose = f'topic {robot.pose_topic}'
    if robot.pose_source == 'tf':
        pose = f'TF from {robot.base_frame} to {robot.tool_frame}'
    return [
        ('pose', f'{pose} in {robot.base_frame}, at most {robot.max_pose_age:g} s old'),
        ('controller', _controller(robot)),
        ('gripper', _gripper(robot)),
        (
            'limits',
            f'{robot.max_step:g} m and {robot.max_step_angle:g} rad a step, '
            f'{robot.max_speed:g} m/s, {robot.max_angular_speed:g} rad/s, '
            f'{robot.max_acceleration:g} m/s^2; {robot.leash:g} m from the measured pose',
        ),
        ('workspace', _workspace(robot)),
        ('silence', _silence(robot)),
        ('deadman', _deadman(robot)),
    ]


def _origin(preset: Preset) -> str:
    own = preset.path.parent == folder()
    where = f'config/robots/{preset.path.name} of this package' if own else str(preset.path)
    return f'{preset.name}: {where}'


def _policy(preset: Preset) -> str:
    policy = preset.policy
    key = policy.unnorm_key or 'the only one of the checkpoint'
    name = policy.checkpoint or 'no checkpoint'
    engine = policy.engine if policy.engine != 'remote' else f'the server {policy.remote_url}'
    return f'{name} on {engine}; data set {key}'


def _numbers(meaning: Meaning | None, key: str, robot: RobotParameters) -> str:
    if meaning is None:
        return (
            'known when the checkpoint is loaded; actions without known units are refused by the '
            'gate'
        )
    if not meaning.has_units:
        return (
            f'NOBODY KNOWS the units of {key}, so the gate refuses every action; say them in '
            'action_meanings'
        )
    steps = f'1 is {meaning.translation_unit:g} m and {meaning.rotation_unit:g} rad'
    hertz = robot.control_rate or meaning.control_rate
    rate = f'{hertz:g} Hz' if hertz else 'at an unknown rate'
    reference = robot.reference or meaning.reference
    when = ' of the time of the image' if robot.latency_compensation else ''
    gripper = robot.gripper_meaning or meaning.gripper
    moves = '' if gripper in ('open', 'closed') else ', so it is never commanded'
    return (
        f'{steps} as {meaning.rotation}, in {meaning.frame} axes, from the pose "{reference}"'
        f'{when}, {rate}; gripper: {gripper}{moves}'
    )


def _controller(robot: RobotParameters) -> str:
    if robot.dry_run:
        return f'DRY RUN: nothing is sent to {robot.controller}'
    if robot.controller == 'pose_log':
        return 'none: targets are published and logged, and nothing is commanded'
    if robot.controller in SERVO:
        topic = f'{robot.servo.rstrip("/")}/{_SUFFIX[robot.controller]}'
    else:
        topic = robot.target_topic
    return f'{robot.controller} to {topic}, {robot.rate:g} Hz, in {robot.base_frame}'


def _gripper(robot: RobotParameters) -> str:
    if robot.gripper == 'none' or robot.dry_run:
        return 'none: it stays as it is'
    sticky = robot.gripper_sticky_steps
    keeps = f', keeps a change for {sticky} steps' if sticky > 1 else ''
    return (
        f'{robot.gripper} to {robot.gripper_target}, closed {robot.gripper_closed:g}, '
        f'open {robot.gripper_open:g}{keeps}'
    )


def _workspace(robot: RobotParameters) -> str:
    if not _volume(robot.workspace):
        return 'NONE: nothing moves before workspace is set'
    boxes = (robot.keep_out_1, robot.keep_out_2, robot.keep_out_3, robot.keep_out_4)
    kept = sum(map(_volume, boxes))
    return f'{_box(robot.workspace)}; {kept or "no"} boxes to keep out of'


def _silence(robot: RobotParameters) -> str:
    limits = [
        f'policy {robot.action_timeout:g} s',
        f'image {robot.max_image_age:g} s',
        f'pose {robot.max_pose_age:g} s',
    ]
    if robot.controller_timeout:
        limits.append(f'controller {robot.controller_timeout:g} s')
    if robot.joint_states_topic:
        limits.append(f'joint states {robot.joint_states_timeout:g} s')
    after = f'a stop after {robot.stop_after:g} s more' if robot.stop_after else 'held for ever'
    return f'{", ".join(limits)}; then it holds its pose, {after}'


def _deadman(robot: RobotParameters) -> str:
    if not robot.deadman:
        return 'none: nobody has to hold a switch'
    where = '~/deadman' if robot.deadman == 'topic' else f'button {robot.deadman_button} on joy'
    return f'{where}, again within {robot.deadman_timeout:g} s'


def _box(box: Sequence[float]) -> str:
    sides = (f'{axis} {box[i]:g} to {box[i + 3]:g}' for i, axis in enumerate(_AXES))
    return f'{", ".join(sides)} m'


def _volume(box: Sequence[float]) -> bool:
    return all(low < high for low, high in zip(box[:3], box[3:], strict=True))


def _wrapped(name: str, text: str) -> list[str]:
    """Put a name into a column of its own before a text."""
    return textwrap.wrap(
        f'{name:<{_INDENT}}{text}',
        _WIDTH,
        subsequent_indent=' ' * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
