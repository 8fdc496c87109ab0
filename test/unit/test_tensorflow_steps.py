"""JPEG, resize and crop, compared with what TensorFlow recorded (test/data/golden/libero)."""

import io
from pathlib import Path
import sys

import numpy as np
from PIL import Image
import pytest

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.preprocessor import write_preprocessor
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.policy.images import ImageProcessor
from trt_openvla_ros.policy.resampling import center_crop, jpeg_round_trip, lanczos3
from trt_openvla_ros.policy.views import Views

GOLDEN = np.load(Path(__file__).parents[1] / 'data' / 'golden' / 'libero' / 'golden.npz')
FRAMES = ('libero', 'photo', 'noise')
PROCESSOR = ImageProcessor.from_config(
    write_preprocessor(224, [([0.5] * 3, [0.5] * 3)], letterbox=False)
)
LIBERO = {'jpeg_round_trip': True, 'resize': 'lanczos3', 'center_crop': True}


def frame(name: str, stage: str) -> np.ndarray:
    return GOLDEN[f'{name}_{stage}']


@pytest.mark.parametrize('name', FRAMES)
def test_every_stage_is_tensorflows(name):
    np.testing.assert_array_equal(frame(name, 'raw')[::-1, ::-1], frame(name, 'rotated'))
    np.testing.assert_array_equal(jpeg_round_trip(frame(name, 'rotated')), frame(name, 'decoded'))
    resized = lanczos3(frame(name, 'decoded'), 224, 224)
    np.testing.assert_array_equal(resized, frame(name, 'resized'))
    np.testing.assert_array_equal(center_crop(resized), frame(name, 'cropped'))


@pytest.mark.parametrize('name', FRAMES)
def test_the_file_between_is_tensorflows(name, monkeypatch):
    import simplejpeg

    files = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, 'decode_jpeg', lambda b, **k: files.append(b) or decode(b, **k)
    )
    jpeg_round_trip(frame(name, 'rotated'))
    assert files == [frame(name, 'jpeg').tobytes()]


@pytest.mark.parametrize('name', FRAMES)
def test_the_whole_chain_is_tensorflows(name):
    views = Views(PROCESSOR, CameraSteps(rotation=180, **LIBERO))
    raw = frame(name, 'raw')
    np.testing.assert_array_equal(views(raw)[0], frame(name, 'cropped'))
    np.testing.assert_array_equal(views.preview(raw), frame(name, 'cropped'))


def jpeg_75(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=75)
    return np.asarray(Image.open(file))


def by_pillow(image):
    resized = Image.fromarray(image).resize((224, 224), Image.Resampling.LANCZOS)
    return center_crop(np.asarray(resized))


WRONG = {
    'no rotation': lambda raw: Views(PROCESSOR, CameraSteps(**LIBERO))(raw)[0],
    'mirrored too': lambda raw: Views(
        PROCESSOR, CameraSteps(rotation=180, mirror='horizontal', **LIBERO)
    )(raw)[0],
    'no crop': lambda raw: Views(
        PROCESSOR, CameraSteps(rotation=180, jpeg_round_trip=True, resize='lanczos3')
    )(raw)[0],
    'no JPEG': lambda raw: Views(
        PROCESSOR, CameraSteps(rotation=180, resize='lanczos3', center_crop=True)
    )(raw)[0],
    'two JPEGs': lambda raw: Views(PROCESSOR, CameraSteps(rotation=180, **LIBERO))(jpeg_75(raw))[
        0
    ],
    'JPEG of quality 75': lambda raw: center_crop(lanczos3(jpeg_75(raw[::-1, ::-1]), 224, 224)),
    'resized by the processor': lambda raw: Views(
        PROCESSOR, CameraSteps(rotation=180, jpeg_round_trip=True, center_crop=True)
    )(raw)[0],
    'nothing': lambda raw: Views(PROCESSOR)(raw)[0],
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_variants_are_told_apart(name):
    """The bound of the mean is the one that Pillow's decoder alone would keep."""
    found = WRONG[name](frame('noise', 'raw')).astype(int)
    assert np.abs(found - frame('noise', 'cropped')).mean() > 1.5


def test_a_picture_of_the_models_size_is_neither_compressed_nor_resized_again():
    # OpenVLA's LIBERO client and openvla-oft's send pictures after these two steps.
    views = Views(PROCESSOR, CameraSteps(**LIBERO))
    for name in FRAMES:
        sent = frame(name, 'resized')
        np.testing.assert_array_equal(views(sent)[0], frame(name, 'cropped'))
        np.testing.assert_array_equal(views.reduce(sent), sent)
    region = Views(PROCESSOR, CameraSteps(region=(0, 0, 224, 224), **LIBERO))
    assert (region.reduce(sent) != sent).any()


def test_pillow_resamples_otherwise():
    # On bytes; so the method matters, and not only the filter.
    found = by_pillow(frame('noise', 'decoded')).astype(int)
    assert np.abs(found - frame('noise', 'cropped')).max() > 10


@pytest.mark.parametrize(
    'shape', [(1, 1), (1, 4000), (4000, 1), (3, 5), (224, 224), (225, 223), (2160, 3840)], ids=str
)
def test_pictures_of_any_size_become_views(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for steps in (LIBERO, {'center_crop': True}, {'jpeg_round_trip': True}):
        views = Views(PROCESSOR, CameraSteps(rotation=90, mirror='vertical', **steps))(image)
        assert views.shape == (1, 224, 224, 3)
        assert views.dtype == np.uint8


@pytest.mark.parametrize('value', [0, 1, 127, 254, 255])
def test_a_picture_of_one_colour_keeps_it(value):
    image = np.full((97, 301, 3), value, np.uint8)
    assert (lanczos3(image, 224, 224) == value).all()
    assert (lanczos3(image, 24, 1) == value).all()
    assert (center_crop(image) == value).all()
    assert (jpeg_round_trip(image) == value).all()


@pytest.mark.parametrize('side', [1, 2, 7])
def test_tiny_views_can_be_cropped(side):
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    assert center_crop(image).shape == image.shape


def test_longer_pictures_than_jpeg_allows_are_refused():
    image = np.zeros((1, 65501, 3), np.uint8)
    for steps in ({'jpeg_round_trip': True}, {'resize': 'lanczos3'}):
        with pytest.raises(InputError, match=r'65501 x 1 cannot be preprocessed.*65500'):
            Views(PROCESSOR, CameraSteps(**steps))(image)


@pytest.mark.parametrize(
    ('library', 'steps'),
    [
        ('simplejpeg', {'jpeg_round_trip': True}),
        ('cv2', {'rotation': 90}),
        ('cv2', {'mirror': 'vertical'}),
    ],
)
def test_a_library_that_lacks_is_named_before_the_first_picture(monkeypatch, library, steps):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=f'cannot be done without {library}.*pip install'):
        Views(PROCESSOR, CameraSteps(**steps))
    # Servers without steps need neither.
    assert Views(PROCESSOR)(frame('photo', 'raw')).shape == (1, 224, 224, 3)


def test_images_are_not_changed():
    image = frame('photo', 'raw').copy()
    Views(PROCESSOR, CameraSteps(rotation=90, mirror='horizontal', **LIBERO))(image)
    np.testing.assert_array_equal(image, frame('photo', 'raw'))
