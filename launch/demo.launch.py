"""Start the simulation and the policy that acts in it."""

from ament_index_python.packages import get_package_prefix, PackageNotFoundError
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('trt_openvla_ros')
CHECKPOINT = PathJoinSubstitution([SHARE, 'models', 'tiny_openvla'])
ARGUMENTS = [
    ('checkpoint', CHECKPOINT, 'checkpoint directory or Hub id'),
    ('seed', '0', 'seed of the first scene'),
    ('instruction', '', 'instruction of the first scene; if empty, the seed draws a goal'),
    ('rviz', 'false', 'show camera and hand in rviz2, if it is installed: true or false'),
]
CHOICES = {'rviz': ['true', 'True', 'false', 'False']}


def check_rviz(context: LaunchContext) -> None:
    """Look for rviz2 before anything starts: a launch that fails leaves running what runs.

    Raises:
        RuntimeError: rviz2 is asked for and is not installed.
    """
    if LaunchConfiguration('rviz').perform(context).lower() != 'true':
        return
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError as error:
        raise RuntimeError(
            'rviz:=true, but rviz2 is not installed; install it '
            '(apt install ros-$ROS_DISTRO-rviz2), or leave rviz:=true out'
        ) from error


def generate_launch_description() -> LaunchDescription:
    """Describe the launch; `ros2 launch -s` lists the arguments."""
    value = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}

    def typed(name: str, kind: type) -> ParameterValue:
        # YAML would read a checkpoint named 2024 as a number.
        return ParameterValue(value[name], value_type=kind)

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=CHOICES.get(name)
                )
                for name, default, text in ARGUMENTS
            ),
            OpaqueFunction(function=check_rviz),
            Node(
                package='trt_openvla_ros',
                executable='sim_node',
                name='sim',
                output='screen',
                on_exit=Shutdown(reason='the simulation ended'),
                parameters=[
                    {'seed': typed('seed', int), 'instruction': typed('instruction', str)}
                ],
            ),
            Node(
                package='trt_openvla_ros',
                executable='policy_node',
                name='policy',
                output='screen',
                on_exit=Shutdown(reason='the policy node ended'),
                parameters=[{'checkpoint': typed('checkpoint', str)}],
                remappings=[('image', 'camera/image_raw')],
            ),
            Node(
                package='rviz2',
                executable='rviz2',
                arguments=['-d', PathJoinSubstitution([SHARE, 'config', 'demo.rviz'])],
                condition=IfCondition(value['rviz']),
            ),
        ]
    )
