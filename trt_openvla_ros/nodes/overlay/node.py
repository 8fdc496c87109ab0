"""The overlay node: it draws what policy and robot do into the camera's picture, if asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from trt_openvla_ros.drawing.lettering import font_of
from trt_openvla_ros.drawing.marks import unit_of
from trt_openvla_ros.drawing.overlay import draw, flat_marks
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.nodes.conversions import age_of, stamp_of, to_message, to_rgb
from trt_openvla_ros.nodes.diagnostics import VIEW
from trt_openvla_ros.nodes.overlay import topics
from trt_openvla_ros.nodes.overlay.annotations import annotations_of
from trt_openvla_ros.nodes.overlay.boxes import Boxes
from trt_openvla_ros.nodes.overlay.contents import Contents, gate_of
from trt_openvla_ros.nodes.overlay.heard import Heard, PoseAt, REPORTS
from trt_openvla_ros.nodes.overlay.markers import Markers
from trt_openvla_ros.nodes.overlay.parameters import OverlayParameters
from trt_openvla_ros.nodes.overlay.place import CameraPlace
from trt_openvla_ros.nodes.overlay.way import way_of
from trt_openvla_ros.nodes.parameters import declare, read_checked
from trt_openvla_ros.nodes.robot.poses import TransformPoses
from trt_openvla_ros.nodes.run import run
from trt_openvla_ros.nodes.stamps import NO_CLOCK
from trt_openvla_ros.nodes.topics import Topic
from trt_openvla_ros.nodes.transforms import Transforms
from trt_openvla_ros.pictures import check
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.poses import Pose

_LOOK = 0.2  # [s] between two looks at who subscribes
_MARKERS = 0.1  # [s] between two messages of markers
_PATIENCE = 5.0  # [s] until a clock that has not come is missed
_THROTTLE = 5.0  # [s] between two warnings of one kind
_MOST_PICTURES = 60  # that wait for their action, with `show: answered`


class OverlayNode(Node):
    """Hears everything and publishes pictures, annotations and markers while somebody looks."""

    def __init__(self, **kwargs: Any) -> None:
        """Listen; the arguments are those of rclpy's Node.

        Raises:
            ParameterException: A parameter has an impossible value.
            ConfigError: A choice is none, camera_pose is no pose, pose_topic names no topic, a box
                is upside down, or the font cannot be read.
        """
        super().__init__('overlay', **kwargs)
        declare(self, OverlayParameters)
        self._given = parameters = read_checked(self, OverlayParameters)
        # The errors of these belong to the start.
        font_of(12, parameters.font)
        if parameters.pose_source == 'topic':
            self._check_topic(parameters.pose_topic)
        self._heard = Heard()
        self._heard.view = parameters.over(SeenView())  # until the policy node tells
        transforms = self._listen()
        place = CameraPlace(parameters.camera_pose, parameters.base_frame, transforms)
        self._contents = Contents(self._heard, place, parameters.max_age, parameters.rectified)
        self._boxes = Boxes(self, parameters)
        self._markers = Markers(self._boxes)
        self._pictures: deque[Image | CompressedImage] = deque(maxlen=_MOST_PICTURES)
        self._size: tuple[int, int] | None = None  # of compressed pictures, once one was opened
        self._drawn_at = 0.0
        self._answered = -1  # stamp of the picture that was drawn last
        self._overlays = self._publisher(topics.OVERLAY)
        self._marker_arrays = self._publisher(topics.MARKERS)
        self._annotations = None
        if topics.HAS_FOXGLOVE:
            self._annotations = self._publisher(topics.ANNOTATIONS)
        # Always, because instructions and actions are said once; the rest only while needed.
        for topic, name in (
            (topics.INSTRUCTION, 'instruction'),
            (topics.REASONING, 'reasoning'),
        ):
            self._subscribe(topic, lambda m, name=name: self._heard.hear(name, m.data))
        actions = self._subscribe(topics.ACTION, self._on_action)
        self._policy = actions.topic_name.rpartition('/')[0]
        self._subscribe(topics.HEALTH, self._on_health)
        self._subscribe(topics.GATE, self._on_gate)
        self._transforms = None
        if parameters.pose_source == 'tf':
            self._transforms = TransformPoses(self, parameters, self._hear_transform, transforms)
        self._poses: list[Subscription] = []
        self._cameras: list[Subscription] = []
        self._made_at = time.monotonic()
        # A steady clock, because /clock may never come.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_LOOK, self._look, clock=steady)
        self.create_timer(_MARKERS, self._mark, clock=steady)

    def _check_topic(self, name: str) -> None:
        try:
            self.resolve_topic_name(name)
        except RuntimeError as error:
            raise ConfigError(
                f'pose_topic is {name!r}, which names no topic; give one such as hand/pose'
            ) from error

    def _listen(self) -> Transforms | None:
        """Listen to TF where a parameter says so, or where it may know the camera's place."""
        if self._given.pose_source == 'tf':
            return Transforms(self, 'pose_source tf')
        if any(self._given.camera_pose):
            return None
        try:
            return Transforms(self, 'camera_pose')
        except ConfigError:
            return None  # the panel says so

    def _publisher(self, topic: Topic) -> Publisher:
        return self.create_publisher(topic.type, topic.name, topic.qos)

    def _subscribe(self, topic: Topic, callback: Callable[[Any], None]) -> Subscription:
        return self.create_subscription(topic.type, topic.name, callback, topic.qos)

    def _is_watched(self, *publishers: Publisher | None) -> bool:
        return any(p is not None and p.get_subscription_count() for p in publishers)

    def _look(self) -> None:
        """Subscribe to what is costly while somebody needs it, and no longer."""
        self._answer()  # no target may have come
        if not self.get_clock().now().nanoseconds and time.monotonic() - self._made_at > _PATIENCE:
            self.get_logger().warning(f'ages are wrong: {NO_CLOCK}', once=True)
        pictures = self._is_watched(self._overlays, self._annotations)
        if bool(self._poses) != (pictures or self._is_watched(self._marker_arrays)):
            if self._poses:
                self._end(self._poses)
                self._heard.forget()
            else:
                self._poses.append(self._subscribe(topics.TARGET, self._on_target))
                if self._transforms is None:
                    pose = topics.POSE._replace(name=self._given.pose_topic)
                    self._poses.append(
                        self._subscribe(pose, lambda m: self._heard.hear_pose('pose', m))
                    )
        if bool(self._cameras) != pictures:
            if self._cameras:
                self._end(self._cameras)
                self._pictures.clear()
            else:
                self._cameras += [
                    self._subscribe(topics.CAMERA_INFO, lambda m: self._heard.hear('camera', m)),
                    self._subscribe_to_images(),
                ]

    def _end(self, subscriptions: list[Subscription]) -> None:
        while subscriptions:
            self.destroy_subscription(subscriptions.pop())

    def _subscribe_to_images(self) -> Subscription:
        kind, name = Image, self.resolve_topic_name(topics.IMAGE.name)
        if self._given.image_transport == 'compressed':
            kind, name = CompressedImage, f'{name}/compressed'
        reliability = ReliabilityPolicy[self._given.image_reliability.upper()]
        qos = QoSProfile(depth=topics.IMAGE.qos.depth, reliability=reliability)
        return self.create_subscription(kind, name, self._on_image, qos)

    def _hear_transform(self, pose: Pose, age: float, frame: str) -> None:
        stamp = self.get_clock().now().nanoseconds - round(1e9 * age)
        self._heard.hear('pose', PoseAt(pose, frame, stamp))

    def _on_action(self, message: Any) -> None:
        self._heard.hear('action', message)
        self._answer()

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f'{self._policy}: policy':
                self._see(next((p.value for p in status.values if p.key == VIEW), ''))

    def _see(self, view: str) -> None:
        """Take what the policy node tells of its view; '' before it is configured."""
        if not view:
            return
        try:
            self._heard.view = self._given.over(SeenView.from_text(view))
        except InputError as error:
            self.get_logger().warning(f'{self._policy}: {error}', once=True)

    def _on_gate(self, message: Any) -> None:
        self._heard.hear('gate', message)
        self._answer()

    def _on_target(self, message: Any) -> None:
        self._heard.hear_pose('target', message)
        self._answer()

    def _answer(self) -> None:
        """With `show: answered`, show the picture of the newest action once all is known of it."""
        action = self._heard.action
        if self._given.show != 'answered' or action is None or not self._pictures:
            return
        wanted = stamp_of(action)
        if wanted == self._answered or not self._heard.is_judged(self._given.max_age):
            return
        found = [picture for picture in self._pictures if stamp_of(picture) == wanted]
        if found:
            self._show(found[0])

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._given.show == 'newest':
            pause = 1 / self._given.max_rate if self._given.max_rate else 0.0
            # A little early, or a camera of just that rate would lose every other picture.
            if time.monotonic() - self._drawn_at >= 0.9 * pause:
                self._show(message)
            return
        self._pictures.append(message)
        oldest = stamp_of(message) - round(1e9 * self._given.max_age)
        while stamp_of(self._pictures[0]) < oldest:
            self._pictures.popleft()
        self._answer()  # an action may come before its picture

    def _show(self, message: Image | CompressedImage) -> None:
        self._drawn_at = time.monotonic()
        self._answered = stamp_of(message)
        try:
            self._publish(message)
        except InputError as error:
            self.get_logger().warning(
                f'picture left out: {error}', throttle_duration_sec=_THROTTLE
            )

    def _publish(self, message: Image | CompressedImage) -> None:
        parameters = self._given
        wants_picture = self._is_watched(self._overlays)
        image = None
        size = self._size
        if isinstance(message, Image):
            check(message, parameters.max_pixels)  # also where nobody wants its pixels
            size = message.height, message.width
        if wants_picture or size is None:
            image = to_rgb(message, parameters.max_pixels)
            size = image.shape[:2]
            self._size = size
        if self._transforms is not None:
            self._transforms.look()
        age = age_of(message, self.get_clock())
        content = self._contents.make(stamp_of(message), age, size, message.header.frame_id)
        if wants_picture:
            given = parameters.panel, parameters.min_height, parameters.font
            drawn = draw(image, content, *given, parameters.max_pixels)
            overlay = to_message(drawn)
            overlay.header = Header(stamp=message.header.stamp, frame_id=message.header.frame_id)
            self._overlays.publish(overlay)
        if self._is_watched(self._annotations):
            marks = flat_marks(content, *size, parameters.font)
            self._annotations.publish(annotations_of(marks, unit_of(*size), message.header.stamp))

    def _mark(self) -> None:
        if not self._is_watched(self._marker_arrays):
            return
        if self._transforms is not None:
            self._transforms.look()
        self._boxes.look()
        now = self.get_clock().now().nanoseconds
        try:
            way = way_of(self._heard, now, self._given.max_age)
        except InputError:
            way = None
        gate = None
        if self._heard.age('gate') <= self._given.max_age + REPORTS:
            gate = gate_of(self._heard.gate)
        self._marker_arrays.publish(self._markers.make(way, gate))


def main() -> None:
    """Run the node until it is interrupted."""
    run(OverlayNode)
