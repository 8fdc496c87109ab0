"""Start a policy and what moves a robot, and say on one screen what they will do."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

BOOLS = ['true', 'True', 'false', 'False']
ARGUMENTS = [
    ('preset', 'sim', 'robot: sim, widowx_bridge, franka, ur, google_robot or libero'),
    ('params_file', '', 'YAML file of your own in place of a preset'),
    ('checkpoint', '', 'checkpoint directory or Hub id; wins over the preset'),
    ('unnorm_key', '', 'data set of the statistics; wins over the preset'),
    ('engine', '', 'torch, tensorrt_llm or remote; wins over the preset'),
    ('remote_url', '', 'URL of the server for engine remote; wins over the preset'),
    ('controller', '', 'controller of the robot; wins over the preset'),
    ('dry_run', '', 'send nothing to controller and gripper: true or false; wins over the preset'),
    ('task', 'true', 'start task_node, which is idle until it gets a goal: true or false'),
    ('overlay', 'false', 'start overlay_node, which draws into the picture: true or false'),
    ('image_transport', '', 'raw or compressed; wins over the preset'),
    ('center_crop', '', 'show the middle 0.9 of the area: true or false; wins over the preset'),
    ('jpeg_round_trip', '', 'write and read as JPEG first: true or false; wins over the preset'),
    ('resize', '', 'resizing: processor or lanczos3; wins over the preset'),
    ('rotation', '', 'turn of the picture [deg]: 0, 90, 180 or 270; wins over the preset'),
    ('mirror', '', 'mirror image: none, horizontal or vertical; wins over the preset'),
    ('namespace', '', 'namespace of the nodes and their topics'),
    ('image_topic', 'camera/image_raw', 'camera topic (sensor_msgs/Image)'),
    (
        'camera_info_topic',
        'camera/camera_info',
        'calibration of that camera (sensor_msgs/CameraInfo), for overlay',
    ),
    ('instruction_topic', 'instruction', 'instruction topic (std_msgs/String)'),
    ('use_sim_time', '', 'take time from /clock: true or false; wins over the preset'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
]
OF_POLICY = (
    'checkpoint',
    'unnorm_key',
    'engine',
    'remote_url',
    'image_transport',
    'center_crop',
    'jpeg_round_trip',
    'resize',
    'rotation',
    'mirror',
)
# Of the policy too: the overlay shows where in the picture the policy looks.
OF_OVERLAY = ('image_transport', 'center_crop', 'rotation', 'mirror')
OF_ROBOT = ('controller', 'dry_run')
# A value that is neither stops the launch, which would take it for false.
CHOICES = {
    'dry_run': ['', *BOOLS],
    'use_sim_time': ['', *BOOLS],
    'task': BOOLS,
    'overlay': BOOLS,
    'rotation': ['', '0', '90', '180', '270'],
}


def start(context: LaunchContext) -> list:
    """Read the preset, say what it does, and start its nodes.

    Raises:
        ConfigError: The preset, or a value in it, cannot be used; nothing has been started.
    """
    # Here, so that `ros2 launch -s` lists the arguments without them.
    from trt_openvla_ros.nodes.robot.launching import nodes_of

    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    screen, nodes = nodes_of(
        given['preset'],
        given['params_file'],
        {
            'policy': {name: given[name] for name in OF_POLICY},
            'overlay': {name: given[name] for name in OF_OVERLAY},
            'robot': {name: given[name] for name in OF_ROBOT},
        },
        given['namespace'],
        [name for name in ('task', 'overlay') if given[name].lower() == 'true'],
    )
    clock = {'use_sim_time': given['use_sim_time'].lower() == 'true'}
    camera = [('image', given['image_topic']), ('camera_info', given['camera_info_topic'])]
    return [
        LogInfo(msg=f'\n{screen}'),
        *(
            Node(
                package='trt_openvla_ros',
                executable=node.executable,
                name=node.name,
                namespace=given['namespace'],
                output='screen',
                on_exit=Shutdown(reason=f'{node.executable} ended'),
                parameters=[node.parameters | (clock if given['use_sim_time'] else {})],
                remappings=[
                    ('instruction', given['instruction_topic']),
                    *(camera if node.name in ('policy', 'overlay') else []),
                ],
                # Not one of `parameters`, because launch would ignore a missing file there.
                ros_arguments=[
                    '--params-file',
                    node.params_file,
                    '--log-level',
                    given['log_level'],
                ],
            )
            for node in nodes
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the launch; `ros2 launch -s` lists the arguments."""
    declared = [
        DeclareLaunchArgument(
            name, default_value=default, description=text, choices=CHOICES.get(name)
        )
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
