"""Frames of a recording: written by rosbags, as `ros2 bag record` of several releases would."""

import builtins
import io
import json

import lz4.frame
import numpy as np
from PIL import Image
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from trt_openvla_ros.checkpoints.hashes import Hashes
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings, source_key

TYPES = get_typestore(Stores.ROS2_JAZZY)
HEADER = TYPES.types['std_msgs/msg/Header'](
    stamp=TYPES.types['builtin_interfaces/msg/Time'](sec=0, nanosec=0), frame_id='camera'
)
ZSTD, LZ4 = b'\x28\xb5\x2f\xfd', b'\x04\x22\x4d\x18'  # how compressed data begins
# As `ros2 bag reindex` of some releases writes it; the rest of the line becomes another key.
NOTHING = 'storage_identifier: ""\n  was: '
PICTURES = np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), np.uint8)


def raw(image):
    """Give a bgr8 image with some bytes of padding behind each row."""
    rows = np.pad(image[..., ::-1].reshape(12, 48), ((0, 0), (0, 4)))
    return TYPES.types['sensor_msgs/msg/Image'](
        HEADER, height=12, width=16, encoding='bgr8', is_bigendian=0, step=52, data=rows.ravel()
    )


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'png')
    data = np.frombuffer(file.getvalue(), np.uint8)
    return TYPES.types['sensor_msgs/msg/CompressedImage'](HEADER, format='png', data=data)


def text(words):
    return TYPES.types['std_msgs/msg/String'](data=words)


# One image a second; the first is before any instruction, and the fourth after an empty one.
RECORDED = [
    ('/camera/image_raw', 0, raw(PICTURES[0])),
    ('/instruction', 0.5, text('push the cup')),
    ('/camera/image_raw', 1, raw(PICTURES[1])),
    ('/other', 1.5, text('not this')),
    ('/camera/image_raw', 2, raw(PICTURES[2])),
    ('/instruction', 2.5, text('')),
    ('/camera/image_raw', 3, raw(PICTURES[3])),
    ('/instruction', 3.5, text(' lift the cup ')),
    ('/camera/image_raw', 4, raw(PICTURES[4])),
    ('/camera/image_raw', 5, raw(PICTURES[5])),
]


def record(path, messages=RECORDED, storage=StoragePlugin.MCAP, mode='NONE'):
    writer = Writer(path, version=9, storage_plugin=storage)
    if mode in ('FILE', 'MESSAGE', 'STORAGE'):
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        if mode == 'LZ4':
            writer.storage.compression, writer.storage.compressor = 'lz4', lz4.frame.compress
        connections = {}
        for topic, seconds, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            data = TYPES.serialize_cdr(message, kind)
            writer.write(connections[topic], int((100 + seconds) * 1e9), data)
    return str(path)


def frames(bag, count=4, **settings):
    return collect_frames(FrameSettings(bag=str(bag), frames=count, **settings), 'quantize', 0)


@pytest.mark.parametrize('storage', list(StoragePlugin))
def test_images_have_the_instruction_before_them(tmp_path, storage):
    found = frames(record(tmp_path / 'a bag', storage=storage))
    assert [frame.instruction for frame in found] == ['push the cup'] * 2 + ['lift the cup'] * 2
    for frame, picture in zip(found, PICTURES[[1, 2, 4, 5]], strict=True):
        np.testing.assert_array_equal(frame.image, picture)
    assert found[0].name == 'a bag at 1.000 s'
    # Fewer are spread over the recording.
    few = frames(tmp_path / 'a bag', 2)
    assert [frame.name for frame in few] == ['a bag at 1.000 s', 'a bag at 5.000 s']


@pytest.mark.parametrize('storage', list(StoragePlugin))
@pytest.mark.parametrize('times', [[0, 0, 0, 0, 0, 0, 0.1], [-100] * 7])
def test_images_of_one_time_stay_in_the_order_of_recording(tmp_path, storage, times):
    # As in simulation, where the clock ticks slower than the camera, or does not tick at all.
    image, words = '/camera/image_raw', '/instruction'
    contents = [(words, text('one')), (image, raw(PICTURES[0])), (image, raw(PICTURES[1]))]
    contents += [(words, text('two')), (image, raw(PICTURES[2])), (image, raw(PICTURES[3]))]
    contents += [(image, raw(PICTURES[4]))]
    messages = [(topic, time, one) for time, (topic, one) in zip(times, contents, strict=True)]
    found = frames(record(tmp_path / 'bag', messages, storage), count=5)
    assert [frame.instruction for frame in found] == ['one'] * 2 + ['two'] * 3
    for frame, picture in zip(found, PICTURES, strict=False):
        np.testing.assert_array_equal(frame.image, picture)


def test_compressed_images_and_other_topics(tmp_path):
    messages = [('/task', 0, text('push')), ('/hand/compressed', 1, png(PICTURES[0]))]
    bag = record(tmp_path / 'bag', messages)
    topics = {'image_topic': '/hand/compressed', 'instruction_topic': '/task'}
    (frame,) = frames(bag, 1, **topics)
    np.testing.assert_array_equal(frame.image, PICTURES[0])
    # One file of the bag serves as well.
    (file,) = (tmp_path / 'bag').glob('*.mcap')
    assert frames(file, 1, **topics)[0].instruction == 'push'


def test_bag_without_definitions_of_its_messages_is_read(tmp_path):
    record(tmp_path / 'bag', storage=StoragePlugin.SQLITE3)
    import sqlite3

    (file,) = (tmp_path / 'bag').glob('*.db3')
    with sqlite3.connect(file) as database:  # as Humble wrote them
        database.execute('DROP TABLE message_definitions')
        database.execute('UPDATE schema SET schema_version = 3')
        database.execute("UPDATE topics SET type_description_hash = ''")
    assert len(frames(tmp_path / 'bag')) == 4


def without(topic):
    return [entry for entry in RECORDED if entry[0] != topic]


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        ({'count': 5}, r'bag has 4 images with an instruction and quantize\.frames is 5'),
        ({'image_topic': '/image'}, r"image_topic '/image' is missing .*: /camera/image_raw$"),
        ({'image_topic': '/other'}, r"'/other' is std_msgs/msg/String in the bag"),
        ({'instruction_topic': '/task'}, r"'/task' is missing .*: /instruction, /other$"),
        ({'folder': '/tmp'}, r'quantize\.folder and quantize\.bag are both given'),
    ],
)
def test_settings_that_do_not_fit_are_sentences(tmp_path, settings, said):
    with pytest.raises(ConfigError, match=said):
        frames(record(tmp_path / 'bag'), **settings)


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def replace(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def storage_of(bag):
    (file,) = (path for path in bag.iterdir() if path.suffix != '.yaml')
    return file


@pytest.mark.parametrize('storage', list(StoragePlugin))
@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (cut, r'mcap recover bag\.mcap .*`ros2 bag reindex`|\.recover` of sqlite3'),
        (lambda path: path.write_bytes(b''), r'is empty; remove it'),
        (lambda path: path.unlink(), r'has it one; give what `ros2 bag record` made'),
        (lambda path: (path.parent / 'metadata.yaml').unlink(), r'`ros2 bag reindex` writes its'),
        (lambda path: (path.parent / 'metadata.yaml').write_text('a: ['), r'reindex` .* anew'),
        (
            lambda path: replace(path.parent / 'metadata.yaml', 'storage_identifier: ', NOTHING),
            r'set storage_identifier in \S+metadata\.yaml to (mcap|sqlite3)$',
        ),
    ],
)
def test_broken_bags_are_sentences_with_what_helps(tmp_path, storage, damage, said):
    record(tmp_path / 'bag', storage=storage)
    damage(storage_of(tmp_path / 'bag'))
    with pytest.raises(ConfigError, match=f'bag .* cannot be read: .*({said})'):
        frames(tmp_path / 'bag')


@pytest.mark.parametrize(
    ('mode', 'storage', 'old', 'new'),
    [
        *(('FILE', storage, None, None) for storage in StoragePlugin),  # cut
        *(('MESSAGE', storage, ZSTD, b'hole') for storage in StoragePlugin),
        ('STORAGE', StoragePlugin.MCAP, ZSTD, b'hole'),
        ('LZ4', StoragePlugin.MCAP, LZ4, b'hole'),
    ],
)
def test_damaged_compression_is_a_sentence(tmp_path, mode, storage, old, new):
    record(tmp_path / 'bag', storage=storage, mode=mode)
    assert len(frames(tmp_path / 'bag')) == 4
    file = storage_of(tmp_path / 'bag')
    data = file.read_bytes()
    file.write_bytes(data.replace(old, new) if old else data[:-20])
    with pytest.raises(ConfigError, match=r'bag .* cannot be read: .*(copied again|saves what)'):
        frames(tmp_path / 'bag')


@pytest.mark.parametrize('mode', ['FILE', 'MESSAGE'])
def test_one_file_of_a_compressed_bag_is_refused_with_its_directory(tmp_path, mode):
    record(tmp_path / 'bag', mode=mode)
    with pytest.raises(ConfigError, match=rf'only its directory says how; give {tmp_path}/bag$'):
        frames(storage_of(tmp_path / 'bag'))


@pytest.mark.parametrize('mode', ['NONE', 'FILE'])
@pytest.mark.parametrize('name', ['run #3', 'what?', '100%20', 'monday.bag'])
def test_names_mean_nothing_to_a_reader(tmp_path, name, mode):
    record(tmp_path / 'bag', storage=StoragePlugin.SQLITE3, mode=mode)
    bag = (tmp_path / 'bag').rename(tmp_path / name)
    assert len(frames(bag)) == 4
    # The recorder gives its files the name of the directory.
    file = storage_of(bag)
    renamed = file.rename(bag / file.name.replace('bag', name))
    replace(bag / 'metadata.yaml', file.name, f"'{renamed.name}'")
    assert len(frames(bag)) == 4
    if mode == 'NONE':
        assert len(frames(renamed)) == 4


def test_bag_of_ros_1_is_refused(tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    with pytest.raises(ConfigError, match=r'of ROS 1; `rosbags-convert --src old\.bag --dst old`'):
        frames(tmp_path / 'old.bag')


def test_what_is_no_bag_and_no_image_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"quantize\.bag is '.*nowhere'; there is no such"):
        frames(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ConfigError, match='cannot be read'):
        frames(tmp_path / 'empty')
    depth = raw(PICTURES[0])
    depth.encoding = '32FC1'
    bag = record(tmp_path / 'depth', [RECORDED[1], ('/camera/image_raw', 1, depth)])
    with pytest.raises(ConfigError, match=r"at 0\.500 s: image encoding '32FC1' is not a colour"):
        frames(bag, 1)


def test_missing_library_is_a_sentence(tmp_path, monkeypatch):
    bag = record(tmp_path / 'bag')
    load = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith('rosbags'):
            raise ModuleNotFoundError(f'No module named {name!r}')
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(ConfigError, match=r"No module named 'rosbags.*pip install rosbags, or"):
        frames(bag)


def test_stage_depends_on_the_bag_and_the_topics_read(tmp_path):
    bag = record(tmp_path / 'bag')
    names = Hashes({}, tmp_path).of({'frames': tmp_path / 'bag'})
    assert {name.split('.')[-1] for name in names} == {'mcap', 'yaml'}
    key = source_key(FrameSettings(bag=bag))
    assert key == source_key(FrameSettings(bag='/moved'))
    assert key != source_key(FrameSettings(bag=bag, image_topic='/other'))
    # Topics mean nothing where no bag is read.
    folder = source_key(FrameSettings(folder='x'))
    assert folder == source_key(FrameSettings(folder='y', image_topic='/other'))
    json.dumps(key)
