"""Writes bags without ROS, of messages that tests make or that a recorder has heard."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer

from trt_openvla_ros.bags.definitions import typestore

TYPES = typestore()
STORAGES = ('mcap', 'sqlite3')
IMAGE, INSTRUCTION, ACTION = '/camera/image_raw', '/instruction', '/policy/action'
POSE, JOINTS = '/pose', '/joint_states'
SECOND = 10**9


def make(kind, **values):
    """Make a message of a type such as std_msgs/String; fields that are not given are zero."""
    name = kind.replace('/', '/msg/')
    fields = TYPES.fielddefs[name][1]
    made = {field: _zero(description) for field, description in fields}
    assert values.keys() <= made.keys(), (kind, values.keys() - made.keys())
    return TYPES.types[name](**made | values)


def _zero(description):
    kind, detail = description
    if kind.name == 'BASE':
        return {'string': '', 'bool': False}.get(detail[0], 0.0 if 'float' in detail[0] else 0)
    if kind.name == 'NAME':
        return make(detail.replace('/msg/', '/'))
    (inner, of), *length = detail if isinstance(detail[0], tuple) else (detail, 0)
    count = length[0] if kind.name == 'ARRAY' and length else 0
    if inner.name == 'BASE' and of[0] != 'string':
        return np.zeros(count, of[0])
    return []


def header(nanoseconds, frame='camera'):
    seconds, rest = divmod(int(nanoseconds), SECOND)
    return make(
        'std_msgs/Header', stamp=make('builtin_interfaces/Time', sec=seconds, nanosec=rest),
        frame_id=frame,
    )  # fmt: skip


def image(pixels, stamp):
    height, width, _ = pixels.shape
    return make(
        'sensor_msgs/Image', header=header(stamp), height=height, width=width, encoding='rgb8',
        step=3 * width, data=pixels.ravel(),
    )  # fmt: skip


def compressed(pixels, stamp):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'png')
    data = np.frombuffer(file.getvalue(), np.uint8)
    form = 'rgb8; png compressed bgr8'
    return make('sensor_msgs/CompressedImage', header=header(stamp), format=form, data=data)


def text(words):
    return make('std_msgs/String', data=words)


def pose(position, quaternion, stamp):
    x, y, z, w = map(float, quaternion)
    place = make('geometry_msgs/Point', **dict(zip('xyz', map(float, position), strict=True)))
    turn = make('geometry_msgs/Quaternion', x=x, y=y, z=z, w=w)
    return make(
        'geometry_msgs/PoseStamped', header=header(stamp, 'base_link'),
        pose=make('geometry_msgs/Pose', position=place, orientation=turn),
    )  # fmt: skip


def joints(stamp, **positions):
    return make(
        'sensor_msgs/JointState', header=header(stamp), name=list(positions),
        position=np.array([*positions.values()], float),
    )  # fmt: skip


def act(action, stamp, instruction='push the cup', **values):
    action = np.asarray(action, float)
    given = {'unlimited_action': action, 'unnorm_key': 'toy_arm', 'sequence': 1, **values}
    return make(
        'trt_openvla_ros/VlaAction', header=header(stamp), action=action,
        instruction=instruction, **given,
    )  # fmt: skip


def write(path, messages, storage='mcap'):
    """Write (topic, time of recording [ns], message) of each, in this order; give the path."""
    sent = [
        (topic, m.__msgtype__, int(received), TYPES.serialize_cdr(m, m.__msgtype__))
        for topic, received, m in messages
    ]
    return write_bag(path, sent, storage)


def write_bag(path, messages, storage='mcap'):
    """Write (topic, type, time of recording [ns], bytes) of each, in this order."""
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections = {}
        for topic, kind, received, data in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], received, data)
    return Path(path)
