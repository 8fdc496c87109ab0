"""An overlay node, and a person who looks at what it publishes."""

from geometry_msgs.msg import PoseStamped
import numpy as np
from player import Player
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from spun import Spun
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from trt_openvla_ros.msg import ActionMeaning, GateReport, VlaAction
from trt_openvla_ros.nodes.conversions import to_rgb
from trt_openvla_ros.nodes.overlay.node import OverlayNode
from trt_openvla_ros.nodes.overlay.topics import GATE, HAS_FOXGLOVE

HALF = 0.5  # Foxglove's pixels begin at the corner of the first one, and ours at its middle
EXACT = {'show': 'answered'}
REASONING = (
    'push it PLAN: go VISIBLE OBJECTS: red block [40, 60, 79, 99], MOVE: move left '
    'GRIPPER POSITION: [10, 20, 30, 40]'
)
needs_foxglove = pytest.mark.skipif(
    not HAS_FOXGLOVE, reason='foxglove_msgs is missing; make test builds it'
)


def texts(message):
    """All texts of annotations, in one."""
    return ' '.join(text.text for text in message.texts)


METRES = ActionMeaning(
    translation_unit=1.0,
    rotation_unit=1.0,
    rotation='euler_xyz',
    reference='measured',
    frame='base',
    gripper='open',
)
SIM_TOPICS = {
    'image': 'camera/image_raw',
    'camera_info': 'camera/camera_info',
    'pose': 'hand/pose',
}


def camera_pose(world):
    """The parameter camera_pose of the simulated camera."""
    from scipy.spatial.transform import Rotation

    position, rotation = world.camera_pose
    return [*position.tolist(), *Rotation.from_matrix(rotation).as_quat().tolist()]


class Viewer(Player):
    """A player of the simulation who can look at overlay, annotations and markers."""

    def __init__(self, context):
        super().__init__(context)
        self.pictures, self.annotations, self.marker_arrays = [], [], []
        self.gates = self.node.create_publisher(GATE.type, 'robot/gate', GATE.qos)
        self.targets = self.node.create_publisher(PoseStamped, 'robot/target', 10)
        self.reasonings = self.node.create_publisher(String, 'policy/reasoning', 10)

    def look(self):
        return self.node.create_subscription(
            Image, 'overlay/overlay', lambda m: self.pictures.append(m), 10
        )

    def annotate(self):
        from foxglove_msgs.msg import ImageAnnotations

        return self.node.create_subscription(
            ImageAnnotations, 'overlay/annotations', lambda m: self.annotations.append(m), 10
        )

    def mark(self):
        return self.node.create_subscription(
            MarkerArray, 'overlay/markers', lambda m: self.marker_arrays.append(m), 10
        )

    def act(self, image, action, frame='base_link', **fields):
        """Publish an action on an image, in metres unless fields say otherwise."""
        message = VlaAction(
            action=np.asarray(action, float),
            normalised_action=np.clip(np.asarray(action, float) * 20, -1, 1),
            **{'meaning': METRES, 'instruction': self.instructions[-1], **fields},
        )
        message.header.stamp = image.header.stamp
        message.header.frame_id = frame
        self.actions.publish(message)

    def report(self, state, **fields):
        self.gates.publish(GateReport(state=state, **fields))

    def aim(self, position, frame='base_link'):
        message = PoseStamped()
        message.header.frame_id = frame
        place = message.pose.position
        place.x, place.y, place.z = map(float, position)
        message.pose.orientation.w = 1.0
        self.targets.publish(message)

    def keep_acting(self, action, messages, condition, **fields):
        """Answer every image until a message meets a condition; give that message."""
        count, answered = len(messages), []

        def done():
            if self.images and self.images[-1].header.stamp not in answered:
                answered.append(self.images[-1].header.stamp)
                self.act(self.images[-1], action, **fields)
            return any(map(condition, messages[count:]))

        self.wait(done, 'such message')
        return next(filter(condition, messages[count:]))

    def pose_at(self, stamp):
        """[3] m: where the hand was at a stamp."""
        self.wait(lambda: any(m.header.stamp == stamp for m in self.poses), 'pose')
        place = next(m for m in self.poses if m.header.stamp == stamp).pose.position
        return np.array([place.x, place.y, place.z])

    def next_of(self, messages, condition=lambda message: True):
        """Wait for a message from now on that meets a condition."""
        count = len(messages)
        self.wait(lambda: any(map(condition, messages[count:])), 'such message')
        return next(filter(condition, messages[count:]))

    def shown(self, message):
        """The picture [H, W, 3] as it was drawn, and the camera's of the same stamp."""
        stamp = message.header.stamp
        self.wait(lambda: any(i.header.stamp == stamp for i in self.images), 'its picture')
        camera = next(i for i in self.images if i.header.stamp == stamp)
        return to_rgb(message), to_rgb(camera)


def screen(context, remap, parameters):
    """Start an overlay node."""
    rules = [word for old, new in remap.items() for word in ('-r', f'{old}:={new}')]
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return Spun(
        OverlayNode(
            context=context, cli_args=['--ros-args', *rules], parameter_overrides=overrides
        )
    )
