"""Start the policy node; it configures and activates itself."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node, SetParameter, SetParametersFromFile
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

DEFAULT_PARAMS = PathJoinSubstitution(
    [FindPackageShare('trt_openvla_ros'), 'config', 'policy.yaml']
)
ARGUMENTS = [
    ('params_file', DEFAULT_PARAMS, 'YAML file with the parameters of the node'),
    ('checkpoint', '', 'checkpoint directory or Hub id; wins over params_file'),
    ('namespace', '', 'namespace of the node and its topics'),
    ('image_topic', 'image', 'camera topic (sensor_msgs/Image)'),
    ('instruction_topic', 'instruction', 'instruction topic (std_msgs/String)'),
    ('use_sim_time', 'false', 'take time from /clock: true or false'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
]


def generate_launch_description():
    """Describe the launch; `ros2 launch -s` lists the arguments."""
    value = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    given = IfCondition(PythonExpression(["'", value['checkpoint'], "' != ''"]))
    node = Node(
        package='trt_openvla_ros',
        executable='policy_node',
        name='policy',
        namespace=value['namespace'],
        output='screen',
        parameters=[{'use_sim_time': ParameterValue(value['use_sim_time'], value_type=bool)}],
        remappings=[
            ('image', value['image_topic']),
            ('instruction', value['instruction_topic']),
        ],
        arguments=['--ros-args', '--log-level', value['log_level']],
    )
    # Of the parameters set in a group, the later ones win, and before the node's own.
    group = GroupAction(
        [
            SetParametersFromFile(value['params_file']),
            SetParameter('checkpoint', value['checkpoint'], condition=given),
            node,
        ]
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, group])
