"""Start the simulation and the policy that acts in it."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
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


def generate_launch_description() -> LaunchDescription:
    """Describe the launch; `ros2 launch -s` lists the arguments."""
    value = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}

    def typed(name: str, kind: type) -> ParameterValue:
        # YAML would read a checkpoint named 2024 as a number.
        return ParameterValue(value[name], value_type=kind)

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            Node(
                package='trt_openvla_ros',
                executable='sim_node',
                name='sim',
                output='screen',
                parameters=[
                    {'seed': typed('seed', int), 'instruction': typed('instruction', str)}
                ],
            ),
            Node(
                package='trt_openvla_ros',
                executable='policy_node',
                name='policy',
                output='screen',
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
