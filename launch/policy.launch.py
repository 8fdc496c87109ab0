"""Start the policy node; it configures and activates itself."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

DEFAULT_PARAMS = PathJoinSubstitution(
    [FindPackageShare('trt_openvla_ros'), 'config', 'policy.yaml']
)
BOOLS = ['true', 'True', 'false', 'False']
ARGUMENTS = [
    ('params_file', DEFAULT_PARAMS, 'YAML file with the parameters of the node'),
    ('checkpoint', '', 'checkpoint directory or Hub id; wins over params_file'),
    ('engine', '', 'torch, tensorrt_llm or remote; wins over params_file'),
    ('remote_url', '', 'URL of the server for engine remote; wins over params_file'),
    ('unnorm_key', '', 'data set of the statistics; wins over params_file'),
    ('image_transport', '', 'raw or compressed; wins over params_file'),
    ('center_crop', '', 'show the middle 0.9 of the area: true or false; wins over params_file'),
    ('jpeg_round_trip', '', 'write and read as JPEG first: true or false; wins over params_file'),
    ('resize', '', 'resizing: processor or lanczos3; wins over params_file'),
    ('rotation', '', 'turn of the picture [deg]: 0, 90, 180 or 270; wins over params_file'),
    ('mirror', '', 'mirror image: none, horizontal or vertical; wins over params_file'),
    ('autostart', '', 'configure and activate on start: true or false; wins over params_file'),
    ('namespace', '', 'namespace of the node and its topics'),
    ('image_topic', 'image', 'camera topic (sensor_msgs/Image)'),
    ('instruction_topic', 'instruction', 'instruction topic (std_msgs/String)'),
    ('use_sim_time', '', 'take time from /clock: true or false; wins over params_file'),
    (
        'respawn',
        'false',
        'start the node again, without its instruction, when its process ends, unless it refused '
        'its arguments: true or false',
    ),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
]
# A type, because YAML would read a checkpoint named 2024 as a number.
OVERRIDES = {
    'checkpoint': str,
    'engine': str,
    'remote_url': str,
    'unnorm_key': str,
    'image_transport': str,
    'center_crop': str,
    'jpeg_round_trip': str,
    'resize': str,
    'rotation': int,
    'mirror': str,
    'autostart': bool,
    'use_sim_time': bool,
}
SWITCH = ['', 'true', 'false']
# A value that is neither stops the launch, which would take it for false.
CHOICES = {
    'autostart': ['', *BOOLS],
    'use_sim_time': ['', *BOOLS],
    'respawn': BOOLS,
    'center_crop': SWITCH,
    'jpeg_round_trip': SWITCH,
    'rotation': ['', '0', '90', '180', '270'],
}
REFUSED = 1  # exit code of a node that cannot use its arguments, and could not the next time


def start_node(context: LaunchContext) -> list[Node]:
    """Make the node; an empty argument overrides nothing in params_file."""
    value = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    given = {
        name: ParameterValue(value[name], value_type=kind)
        for name, kind in OVERRIDES.items()
        if value[name].perform(context)
    }
    return [
        Node(
            package='trt_openvla_ros',
            executable='policy_node',
            name='policy',
            namespace=value['namespace'],
            output='screen',
            respawn=value['respawn'].perform(context).lower() == 'true',
            respawn_delay=2.0,
            on_exit=give_up_if_refused,
            parameters=[given] if given else [],
            remappings=[
                ('image', value['image_topic']),
                ('instruction', value['instruction_topic']),
            ],
            # Not one of `parameters`, because launch would ignore a missing file there.
            ros_arguments=[
                '--params-file',
                value['params_file'],
                '--log-level',
                value['log_level'],
            ],
        )
    ]


def give_up_if_refused(event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
    """End the respawning of a node that would end in the same way again."""
    if event.returncode != REFUSED:
        return None
    return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))


def generate_launch_description() -> LaunchDescription:
    """Describe the launch; `ros2 launch -s` lists the arguments."""
    declared = [
        DeclareLaunchArgument(
            name, default_value=default, description=text, choices=CHOICES.get(name)
        )
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_node)])
