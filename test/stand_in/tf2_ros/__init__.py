"""tf2_ros for tests: as much of its documented Python API as the robot node calls.

Written from ros2/geometry2 (Jazzy, 1b005c65), tf2_ros_py: signatures, topics, quality of service
and errors are those. It listens to real /tf and /tf_static over DDS. It knows chains of transforms
at the newest time, from a frame up to one of its parents, and does not interpolate.
"""

from geometry_msgs.msg import TransformStamped
import numpy as np
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from scipy.spatial.transform import Rotation
from tf2_msgs.msg import TFMessage


class TransformException(Exception):  # noqa: N818 - its name
    """Base of the errors of tf2."""


class LookupException(TransformException):
    """A frame is unknown."""


class ConnectivityException(TransformException):
    """Two frames are of two trees."""


class Buffer:
    """Keeps the newest transform of each frame."""

    def __init__(self, cache_time=None, node=None):
        self._parents = {}

    def set_transform(self, transform, authority):
        self._parents[transform.child_frame_id] = transform

    def set_transform_static(self, transform, authority):
        self.set_transform(transform, authority)

    def lookup_transform(self, target_frame, source_frame, time, timeout=None):
        assert not time.nanoseconds, 'this stand-in knows the newest transform only'
        assert timeout is None, 'a wait here would block the executor that fills the buffer'
        found = TransformStamped()
        found.header.frame_id, found.child_frame_id = target_frame, source_frame
        turn, place, frame = Rotation.identity(), [0.0, 0.0, 0.0], source_frame
        stamps = []
        while frame != target_frame:
            if frame not in self._parents:
                known = {target_frame, source_frame} & (
                    self._parents.keys()
                    | {entry.header.frame_id for entry in self._parents.values()}
                )
                if len(known) < 2:
                    raise LookupException(f'"{target_frame}" or "{source_frame}" does not exist')
                raise ConnectivityException(f'no way from "{source_frame}" to "{target_frame}"')
            step = self._parents[frame]
            t, q = step.transform.translation, step.transform.rotation
            here = Rotation.from_quat([q.x, q.y, q.z, q.w])
            place = here.apply(place) + np.array([t.x, t.y, t.z])
            turn, frame = here * turn, step.header.frame_id
            stamps.append((step.header.stamp.sec, step.header.stamp.nanosec))
        out = found.transform
        out.translation.x, out.translation.y, out.translation.z = map(float, place)
        q = turn.as_quat()
        out.rotation.x, out.rotation.y, out.rotation.z, out.rotation.w = map(float, q)
        # The time at which all are known; a static one, which has no time, is always.
        timed = [stamp for stamp in stamps if stamp != (0, 0)]
        found.header.stamp.sec, found.header.stamp.nanosec = min(timed, default=(0, 0))
        return found


class TransformListener:
    """Fills a buffer from /tf and /tf_static."""

    def __init__(
        self,
        buffer,
        node,
        *,
        spin_thread=False,
        qos=None,
        static_qos=None,
        tf_topic='/tf',
        tf_static_topic='/tf_static',
    ):
        assert not spin_thread, 'this stand-in has no thread'
        history = {'depth': 100, 'history': HistoryPolicy.KEEP_LAST}
        latched = QoSProfile(durability=DurabilityPolicy.TRANSIENT_LOCAL, **history)
        self.buffer, self.node = buffer, node
        self.tf_sub = node.create_subscription(
            TFMessage, tf_topic, self.callback, qos or QoSProfile(**history)
        )
        self.tf_static_sub = node.create_subscription(
            TFMessage, tf_static_topic, self.callback, static_qos or latched
        )

    def unregister(self):
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform(transform, 'default_authority')
