"""The reader of pictures, and its doors that need neither ROS nor a server."""

from contextlib import suppress
from types import SimpleNamespace as Message

import cv2
import numpy as np
from picture_files import (
    DEEP,
    encoded,
    exif,
    GREY,
    JPEG,
    PNG,
    png,
    PROGRESSIVE,
    READ,
    REFUSED,
    RGB,
)
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from trt_openvla_ros.errors import ConfigError, InputError, PolicyError, SizeError
from trt_openvla_ros.pictures import decompress, files, read_picture, unpack
from trt_openvla_ros.pipeline import openvla_run
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings
from trt_openvla_ros.pipeline.openvla_run import Settings

TYPES = get_typestore(Stores.ROS2_JAZZY)


def by_folder(data, directory):
    (directory / 'a.png').write_bytes(data)
    (directory / 'a.txt').write_text('go')
    return collect_frames(FrameSettings(folder=str(directory), frames=1), 'quantize', 0)[0].image


def by_image(data, directory):
    (directory / 'a.jpg').write_bytes(data)
    settings = Settings(image=str(directory / 'a.jpg'))
    return openvla_run._read(settings.image, settings.max_pixels)


def by_bag(data, directory):
    stamp = TYPES.types['builtin_interfaces/msg/Time'](sec=0, nanosec=0)
    header = TYPES.types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')
    image = TYPES.types['sensor_msgs/msg/CompressedImage'](
        header, format='jpeg', data=np.frombuffer(data, np.uint8)
    )
    text = TYPES.types['std_msgs/msg/String'](data='go')
    with Writer(directory / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for number, (topic, message) in enumerate((('/instruction', text), ('/camera', image))):
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connection, 10**9 + number, TYPES.serialize_cdr(message, kind))
    settings = FrameSettings(bag=str(directory / 'bag'), frames=1, image_topic='/camera')
    return collect_frames(settings, 'quantize', 0)[0].image


DOORS = {
    'reader': lambda data, directory: read_picture(data),
    'message': lambda data, directory: decompress(Message(format='jpeg', data=data)),
    'folder': by_folder,
    'openvla_run': by_image,
    'bag': by_bag,
}


@pytest.mark.parametrize('name', READ)
@pytest.mark.parametrize('door', DOORS)
def test_every_door_gives_the_same_pixels(door, name, tmp_path):
    data, expected = READ[name]
    image = DOORS[door](data, tmp_path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('door', DOORS)
def test_every_door_refuses_with_the_same_sentence(door, name, tmp_path):
    data, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason) as refused:
        read_picture(data)
    with pytest.raises(PolicyError) as again:
        DOORS[door](data, tmp_path)
    assert str(refused.value) in str(again.value)


@pytest.mark.parametrize('file', [JPEG, PROGRESSIVE], ids=['baseline', 'progressive'])
@pytest.mark.parametrize('end', [b'', b'\xff\xd9'], ids=['no end', 'end'])
def test_a_jpeg_that_is_cut_anywhere_is_refused(file, end):
    # But for the last two blocks of 8 x 8 pixels, which a decoder makes of what it looks ahead.
    for length in range(4, len(file) - 40, 7):
        with pytest.raises(InputError):
            read_picture(file[:length] + end)


def test_a_whole_jpeg_is_read_whatever_its_encoder_chose():
    rng = np.random.default_rng(1)
    for _ in range(150):
        height, width = rng.integers(1, 70, 2)
        image = cv2.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), (int(width), int(height)))
        options = (
            (cv2.IMWRITE_JPEG_QUALITY, rng.integers(1, 101)),
            (cv2.IMWRITE_JPEG_PROGRESSIVE, rng.integers(2)),
            (cv2.IMWRITE_JPEG_OPTIMIZE, rng.integers(2)),
            (cv2.IMWRITE_JPEG_RST_INTERVAL, rng.integers(3)),
        )
        file = cv2.imencode('.jpg', image, np.ravel(options).tolist())[1]
        np.testing.assert_array_equal(
            read_picture(file.tobytes()), cv2.imdecode(file, cv2.IMREAD_COLOR)[:, :, ::-1]
        )


def test_the_limit_of_pixels_is_the_callers():
    assert read_picture(PNG, 64 * 48).shape == (48, 64, 3)
    with pytest.raises(SizeError, match='64 x 48 pixels; at most 3071 are accepted'):
        read_picture(PNG, 64 * 48 - 1)
    raw = raw_image('rgb8', RGB)
    with pytest.raises(SizeError, match='at most 3071'):
        unpack(raw, 3071)
    with pytest.raises(SizeError, match='at most 3071'):
        decompress(Message(format='png', data=PNG), 3071)


def test_reading_stops_between_scans_and_parts(monkeypatch):
    large = encoded(np.tile(RGB, (20, 20, 1)), 'JPEG', progressive=True)
    asked = []

    def stopped():
        asked.append(1)
        return len(asked) > 20

    with pytest.raises(InputError, match='nobody waits'):
        read_picture(large, stopped=stopped)
    assert len(asked) == 21
    read_picture(large, stopped=lambda: asked.append(1))
    assert len(asked) > 60
    monkeypatch.setattr(files, '_MAX_SECONDS', 0.0)
    with pytest.raises(InputError, match='not decoded within 0 s'):
        read_picture(large)


def test_a_file_that_does_not_end_is_not_read_to_its_end():
    with pytest.raises(PolicyError, match='/dev/zero cannot be read: it is longer than'):
        openvla_run._read('/dev/zero', 1000)


def raw_image(encoding, values):
    height, width = values.shape[:2]
    return Message(
        encoding=encoding,
        height=height,
        width=width,
        step=values.nbytes // height,
        is_bigendian=0,
        data=values.tobytes(),
    )


def mosaic_of(pattern, image):
    channel = np.array(['rgb'.index(letter) for letter in pattern]).reshape(2, 2)
    return np.take_along_axis(image, np.tile(channel, (24, 32))[:, :, None], axis=2)[:, :, 0]


@pytest.mark.parametrize('form', ['{}; png compressed ', '{}; jpeg compressed mono8', '{}'])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_compressed_mosaic_gets_the_colours_of_the_raw_one(pattern, form):
    mosaic = mosaic_of(pattern, RGB)
    name = f'bayer_{pattern}8'
    raw = unpack(raw_image(name, mosaic))
    jpeg = 'jpeg' in form
    data = encoded(mosaic, 'JPEG', quality=100) if jpeg else encoded(mosaic, 'PNG')
    image = decompress(Message(format=form.format(name), data=data))
    np.testing.assert_allclose(image.astype(int), raw, atol=8 if jpeg else 0)
    # A file in colours that are all equal is one too, and what has colours is left alone.
    message = Message(format=form.format(name), data=encoded(np.dstack(3 * [mosaic]), 'PNG'))
    np.testing.assert_array_equal(decompress(message), raw)
    message.data = PNG
    np.testing.assert_array_equal(decompress(message), RGB)


def test_a_deep_and_turned_mosaic_gets_its_colours_first():
    mosaic = mosaic_of('rggb', DEEP)
    message = Message(format='bayer_rggb16; png compressed ', data=png(mosaic, 16, 0))
    raw = raw_image('bayer_rggb8', mosaic_of('rggb', RGB))
    np.testing.assert_array_equal(decompress(message), unpack(raw))
    message.format = 'bayer_rggb8; png compressed '
    message.data = encoded(mosaic_of('rggb', RGB), 'PNG', exif=exif(6))
    np.testing.assert_array_equal(decompress(message), np.rot90(unpack(raw), -1))


@pytest.mark.parametrize(
    ('form', 'reason'),
    [
        ('16UC1; png compressed ', "encoding '16UC1' is not a colour or grey image"),
        ('32FC1; jpeg compressed ', "encoding '32FC1'"),
        ('16UC1', "encoding '16UC1'"),
        ('32FC1', "encoding '32FC1'"),
        ('16SC1 ; png', "encoding '16SC1'"),
        ('bayer_xyzw8; jpeg compressed ', "encoding 'bayer_xyzw8'"),
        ('nv12; jpeg compressed mono8', "encoding 'nv12'"),
        ('nv21; jpeg compressed ', 'the colours of nv21 are not in it'),
        ('16UC1; compressedDepth png', 'compressedDepth'),
        ('16UC1; compressedDepth', 'compressedDepth'),
        ('32FC1; compressedDepth rvl', 'compressedDepth'),
        ('compressedDepth png', 'compressedDepth'),
    ],
)
def test_what_is_no_image_before_compression_is_none_after(form, reason):
    with pytest.raises(InputError, match=reason):
        decompress(Message(format=form, data=encoded(GREY, 'PNG')))


@pytest.mark.parametrize(
    'form',
    ['', 'png', 'jpeg', 'JPEG', 'jpg', 'image/png', 'rgb8', 'rgb8; png compressed bgr8',
     'bgr8;png compressed bgr8', '8UC3; png', 'jpeg; quality 90', 'rgba16; png compressed bgra16'],
)  # fmt: skip
def test_other_formats_say_nothing_against_a_colour_image(form):
    np.testing.assert_array_equal(decompress(Message(format=form, data=PNG)), RGB)


def test_lost_colours_are_told():
    said = []
    grey = encoded(GREY, 'PNG')
    for form in ('yuv422_yuy2; jpeg compressed mono8', 'rgb8; jpeg compressed '):
        image = decompress(Message(format=form, data=grey), warn=said.append)
        np.testing.assert_array_equal(image, np.dstack(3 * [GREY]))
        assert form in said[-1]
        assert 'lost the colours' in said[-1]
    for form in ('mono8; jpeg compressed ', 'mono16; png', '8UC1; png', 'jpeg'):
        decompress(Message(format=form, data=grey), warn=pytest.fail)


def test_lost_colours_are_logged_once(caplog):
    message = Message(format='uyvy; jpeg compressed mono8', data=encoded(GREY, 'PNG'))
    for _ in range(3):
        decompress(message)
    assert caplog.text.count('lost the colours') == 1


def test_a_damaged_file_is_read_or_refused_and_nothing_else():
    rng = np.random.default_rng(2)
    for data, _ in READ.values():
        for _ in range(20):
            damaged = bytearray(data)
            for _ in range(rng.integers(1, 5)):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            with suppress(InputError):
                image = read_picture(bytes(damaged), 10**5)
                assert image.shape[2] == 3
                assert image.dtype == np.uint8


@pytest.mark.parametrize('kind', ['bmp', 'tiff', 'gif', 'webp'])
def test_a_directory_leaves_no_image_out_in_silence(kind, tmp_path):
    (tmp_path / f'a.{kind}').write_bytes(REFUSED[kind][0])
    (tmp_path / f'a.{kind}').with_suffix('.txt').write_text('go')
    with pytest.raises(ConfigError, match=f'a.{kind} cannot be read: .*save it as one of them'):
        collect_frames(FrameSettings(folder=str(tmp_path), frames=1), 'quantize', 0)
