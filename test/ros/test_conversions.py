"""Camera messages to RGB, against numbers made without the code under test."""

from io import BytesIO
import sys
from types import ModuleType

import numpy as np
from picture_files import READ, REFUSED
from PIL import Image as PilImage
import pytest
from sensor_msgs.msg import CompressedImage, Image

from trt_openvla_ros.errors import InputError, SizeError
from trt_openvla_ros.nodes import conversions
from trt_openvla_ros.nodes.conversions import to_message, to_rgb

HEIGHT, WIDTH = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = RGB[:, :, :1]
ALPHA = 255 - GREY


def message(encoding, values, padding=0, big=False):
    """Lay [rows, WIDTH, channels] values out as a camera would, with bytes of junk behind rows."""
    if values.dtype == np.uint16:
        values = values.astype('>u2' if big else '<u2')
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(len(values), -1)
    rows = np.hstack([rows, np.full((len(rows), padding), 0xA5, np.uint8)])
    return Image(
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=big,
        data=rows.tobytes(),
    )


def deep(values):
    """Make 16-bit values whose low byte would show where the bytes are swapped."""
    return values.astype(np.uint16) << 8 | (values ^ 0xFF)


LAYOUTS = {
    'rgb8': (RGB, RGB),
    'bgr8': (RGB[:, :, ::-1], RGB),
    '8UC3': (RGB[:, :, ::-1], RGB),
    'rgba8': (np.concatenate([RGB, ALPHA], axis=2), RGB),
    'bgra8': (np.concatenate([RGB[:, :, ::-1], ALPHA], axis=2), RGB),
    'mono8': (GREY, GREY.repeat(3, axis=2)),
    '8UC1': (GREY, GREY.repeat(3, axis=2)),
    'mono16': (deep(GREY), GREY.repeat(3, axis=2)),
    'rgb16': (deep(RGB), RGB),
    'bgr16': (deep(RGB[:, :, ::-1]), RGB),
    'rgba16': (deep(np.concatenate([RGB, ALPHA], axis=2)), RGB),
    'bgra16': (deep(np.concatenate([RGB[:, :, ::-1], ALPHA], axis=2)), RGB),
}


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize('encoding', LAYOUTS)
def test_encoding_gives_exact_rgb(encoding, padding):
    values, expected = LAYOUTS[encoding]

    image = to_rgb(message(encoding, values, padding))

    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('encoding', [name for name in LAYOUTS if name.endswith('16')])
def test_big_endian_gives_exact_rgb(encoding):
    values, expected = LAYOUTS[encoding]
    np.testing.assert_array_equal(to_rgb(message(encoding, values, 4, big=True)), expected)


# BT.601 with luma 16..235, what cameras send: Y, U, V of [R, G, B], to the nearest integer.
COLOURS = {
    (255, 0, 0): (81, 90, 240),
    (0, 255, 0): (145, 54, 34),
    (0, 0, 255): (41, 240, 110),
    (255, 255, 255): (235, 128, 128),
    (0, 0, 0): (16, 128, 128),
}


@pytest.mark.parametrize('colour', COLOURS, ids=str)
@pytest.mark.parametrize(
    ('encoding', 'order'),
    [('uyvy', 'UYVY'), ('yuv422', 'UYVY'), ('yuyv', 'YUYV'), ('yuv422_yuy2', 'YUYV')],
)
def test_yuv_gives_the_colour(encoding, order, colour):
    luma, u, v = COLOURS[colour]
    pair = [{'Y': luma, 'U': u, 'V': v}[letter] for letter in order]
    values = np.tile(np.array(pair, np.uint8), (HEIGHT, WIDTH // 2)).reshape(HEIGHT, WIDTH, 2)

    image = to_rgb(message(encoding, values, padding=6))

    assert image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(image.astype(int), np.broadcast_to(colour, image.shape), atol=3)


@pytest.mark.parametrize('colour', COLOURS, ids=str)
def test_nv21_gives_the_colour(colour):
    luma, u, v = COLOURS[colour]
    values = np.full((HEIGHT * 3 // 2, WIDTH, 1), luma, np.uint8)
    values[HEIGHT:] = np.tile(np.array([v, u], np.uint8), WIDTH // 2)[:, None]

    image = to_rgb(message('nv21', values, padding=2))

    assert image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(image.astype(int), np.broadcast_to(colour, image.shape), atol=3)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_keeps_each_sensor_value_in_its_channel(pattern, bits):
    # REP-118's reading: the letters are the colours of the first 2x2 pixels, row by row.
    channel = np.array(['rgb'.index(letter) for letter in pattern]).reshape(2, 2)
    channel = np.tile(channel, (HEIGHT // 2, WIDTH // 2))[:, :, None]
    raw = np.take_along_axis(RGB, channel, axis=2)

    image = to_rgb(message(f'bayer_{pattern}{bits}', raw if bits == 8 else deep(raw), padding=3))

    # Between them it interpolates; the outermost pixels are copied from their neighbours.
    inner = slice(1, -1), slice(1, -1)
    seen = np.take_along_axis(image, channel, axis=2)
    np.testing.assert_array_equal(seen[inner], raw[inner])


def encoded(kind, image, **options):
    buffer = BytesIO()
    PilImage.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_gives_exact_rgb():
    compressed = CompressedImage(format='rgb8; png compressed bgr8', data=encoded('PNG', RGB))
    np.testing.assert_array_equal(to_rgb(compressed), RGB)


def test_grey_png_gives_grey_rgb():
    compressed = CompressedImage(format='mono8; png', data=encoded('PNG', GREY[:, :, 0]))
    np.testing.assert_array_equal(to_rgb(compressed), GREY.repeat(3, axis=2))


def test_jpeg_gives_the_colours():
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24], image[:, 24:] = (200, 40, 10), (10, 60, 220)
    compressed = CompressedImage(
        format='bgr8; jpeg compressed bgr8',
        data=encoded('JPEG', image, quality=95, subsampling=0),
    )
    np.testing.assert_allclose(to_rgb(compressed).astype(int), image, atol=6)


BAD = {
    'unknown encoding': ({'encoding': '32FC1'}, "'32FC1'.*rgb8"),
    'no encoding': ({'encoding': ''}, "encoding ''"),
    'step below a row': ({'step': 23}, 'step 23'),
    'no step': ({'step': 0}, 'step 0'),
    'one byte missing': ({'data': bytes(24 * HEIGHT - 1)}, f'{24 * HEIGHT - 1} bytes'),
    'no data': ({'data': b''}, '0 bytes'),
    'no height': ({'height': 0}, f'{WIDTH}x0'),
    'no width': ({'width': 0}, f'0x{HEIGHT}'),
    'no size': ({'height': 0, 'width': 0, 'step': 0, 'data': b''}, '0x0'),
    'huge size': ({'height': 2**32 - 1}, f'{2**32 - 1} rows'),
    'deeper encoding': ({'encoding': 'rgb16'}, 'step 48'),
}


@pytest.mark.parametrize(('change', 'reason'), BAD.values(), ids=BAD)
def test_impossible_image_is_refused_with_its_values(change, reason):
    bad = message('rgb8', RGB)
    for name, value in change.items():
        setattr(bad, name, value)
    with pytest.raises(InputError, match=reason):
        to_rgb(bad)


@pytest.mark.parametrize(
    ('encoding', 'height', 'width'),
    [('yuyv', 6, 7), ('uyvy', 6, 7), ('nv21', 6, 7), ('nv21', 5, 8), ('uyvy', 1, 1)],
)
def test_size_that_cannot_share_colours_is_refused(encoding, height, width):
    odd = Image(height=height, width=width, encoding=encoding, step=2 * width)
    odd.data = bytes(2 * width * 2 * height)
    with pytest.raises(InputError, match=f'{width}x{height} {encoding}'):
        to_rgb(odd)


@pytest.mark.parametrize('data', [b'', b'junk', encoded('PNG', RGB)[:40]], ids=len)
def test_undecodable_compressed_image_is_refused(data):
    with pytest.raises(InputError, match=rf"{len(data)} bytes, format 'strange'"):
        to_rgb(CompressedImage(format='strange', data=data))


def test_truncated_jpeg_is_refused():
    # OpenCV 4 fills the missing half with grey, on which the policy would act.
    whole = encoded('JPEG', np.tile(RGB, (16, 16, 1)))
    with pytest.raises(InputError, match='cannot be decoded'):
        to_rgb(CompressedImage(format='jpeg', data=whole[: len(whole) // 2]))


def test_message_of_an_image_gives_it_back():
    sent = to_message(RGB[:, ::2])
    assert (sent.height, sent.width, sent.encoding, sent.step) == (6, 4, 'rgb8', 12)
    np.testing.assert_array_equal(to_rgb(sent), RGB[:, ::2])


def test_cv_bridge_without_its_compiled_half_is_not_used(monkeypatch):
    # Such a one is imported without an error and crashes the process at the first image.
    half = ModuleType('cv_bridge')
    half.CvBridge = lambda: pytest.fail('was used')
    monkeypatch.setitem(sys.modules, 'cv_bridge', half)
    conversions._cv_bridge.cache_clear()
    image = np.full((2, 2, 3), 7, np.uint8)
    try:
        np.testing.assert_array_equal(to_rgb(to_message(image)), image)
    finally:
        conversions._cv_bridge.cache_clear()


@pytest.mark.parametrize('name', READ)
def test_files_give_the_pixels_of_every_door(name):
    data, expected = READ[name]
    np.testing.assert_array_equal(to_rgb(CompressedImage(format='jpeg', data=data)), expected)


@pytest.mark.parametrize('name', REFUSED)
def test_files_are_refused_with_the_sentence_of_every_door(name):
    data, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason):
        to_rgb(CompressedImage(format='jpeg', data=data))


def test_the_limit_of_pixels_holds_for_every_image():
    for image in (to_message(RGB), CompressedImage(format='png', data=encoded('PNG', RGB))):
        assert to_rgb(image, HEIGHT * WIDTH).shape == RGB.shape
        with pytest.raises(SizeError, match='8 x 6 pixels; at most 47 are accepted'):
            to_rgb(image, HEIGHT * WIDTH - 1)
