"""Places in the camera's image and in the model's view, compared with what happens to pixels."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from trt_openvla_ros.camera_steps import CameraSteps, MIRRORS, RESIZES, ROTATIONS
from trt_openvla_ros.checkpoints.preprocessor import write_preprocessor
from trt_openvla_ros.errors import ConfigError, ImageError
from trt_openvla_ros.policy.images import ImageProcessor
from trt_openvla_ros.policy.view_map import view_map
from trt_openvla_ros.policy.views import as_camera_shows, Views

NORM = ([0.5] * 3, [0.5] * 3)


def processor(letterbox: bool, side: int = 224) -> ImageProcessor:
    return ImageProcessor.from_config(write_preprocessor(side, [NORM], letterbox))


@st.composite
def cases(draw) -> tuple[CameraSteps, tuple[int, int]]:
    height, width = draw(st.integers(24, 300)), draw(st.integers(24, 300))
    region = (0, 0, 0, 0)
    if draw(st.booleans()):
        x, y = draw(st.integers(0, width // 3)), draw(st.integers(0, height // 3))
        region = (x, y, draw(st.integers(16, width - x)), draw(st.integers(16, height - y)))
        region = (*region[:2], min(region[2], width - x), min(region[3], height - y))
    steps = CameraSteps(
        region=region,
        rotation=draw(st.sampled_from(ROTATIONS)),
        mirror=draw(st.sampled_from(MIRRORS)),
        resize=draw(st.sampled_from(RESIZES)),
        center_crop=draw(st.booleans()),
    )
    return steps, (height, width)


def ramps(height: int, width: int) -> np.ndarray:
    """Give an image whose red grows with x and whose green grows with y."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.round(255 * np.arange(width) / (width - 1))
    image[..., 1] = np.round(255 * np.arange(height)[:, None] / (height - 1))
    return image


@settings(max_examples=60, deadline=None)
@given(cases(), st.booleans())
def test_a_view_shows_what_the_map_says(case, letterbox):
    steps, (height, width) = case
    views = Views(processor(letterbox), steps)
    seen = views(ramps(height, width))[0].astype(float)
    mapped = views.map(height, width)
    # Inside, where nothing rings and no bar of the letterbox is near.
    y, x = np.mgrid[30:194:4, 30:194:4]
    places = mapped.to_camera(np.stack([x, y], -1))
    left, top, across, down = steps.region if any(steps.region) else (0, 0, width, height)
    margin = np.array([across, down]) / 16 + 2
    inside = (places >= np.array([left, top]) + margin) & (
        places <= np.array([left + across, top + down]) - 1 - margin
    )
    shown = inside.all(-1)
    expected = 255 * places / (np.array([width, height]) - 1)
    error = np.abs(seen[y, x][..., :2] - expected)[shown]
    # Resampling a ramp gives the ramp, up to the rounding of pixels and, where it enlarges, the
    # steps between two of them.
    step = 255 / (np.array([width, height]) - 1)
    assert (error <= 2.5 + step / 2).all()


@settings(max_examples=200, deadline=None)
@given(cases(), st.booleans())
def test_there_and_back(case, letterbox):
    steps, size = case
    mapped = Views(processor(letterbox), steps).map(*size)
    places = np.array([[0, 0], [size[1] - 1, size[0] - 1], [3.25, -7.5]])
    np.testing.assert_allclose(mapped.to_camera(mapped.to_view(places)), places, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_pixels_go_where_the_map_says(case):
    """Region, rotation and mirror move pixels as they are, so that each can be followed."""
    steps, (height, width) = case
    steps = steps.of_camera
    image = (
        np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    )
    picture = as_camera_shows(image, steps)
    mapped = view_map(steps, (height, width), picture.shape[:2])
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    at = np.rint(mapped.to_camera(np.stack([x, y], -1))).astype(int)
    np.testing.assert_array_equal(image[at[..., 1], at[..., 0]], picture)


def test_without_a_checkpoint_the_map_is_the_same():
    steps = CameraSteps((10, 20, 300, 200), 90, 'horizontal', True, 'processor', True)
    for letterbox in (False, True):
        known = Views(processor(letterbox), steps).map(480, 640)
        found = view_map(steps, (480, 640), (224, 224), letterbox)
        np.testing.assert_allclose(found.matrix, known.matrix, atol=1e-12)
        assert found.view_size == known.view_size == (224, 224)


def test_corners_of_plain_images_are_where_everybody_expects_them():
    mapped = view_map(CameraSteps(), (480, 640), (256, 256))
    np.testing.assert_allclose(
        mapped.to_view([[-0.5, -0.5], [639.5, 479.5]]), [[-0.5] * 2, [255.5] * 2]
    )
    # ECoT's boxes in 256 x 256 grow to the camera's image.
    np.testing.assert_allclose(mapped.to_camera([127.5, 127.5]), [319.5, 239.5])
    turned = view_map(CameraSteps(rotation=90), (480, 640), (640, 480))
    np.testing.assert_allclose(turned.to_view([0, 0]), [479, 0])
    half = view_map(CameraSteps(rotation=180), (480, 640), (480, 640))
    np.testing.assert_allclose(half.to_view([0, 0]), [639, 479])


def test_what_the_view_shows():
    cropped = view_map(CameraSteps(center_crop=True), (480, 640))
    places = np.array([[320, 240], [2, 240], [320, 478], [639, 479]])
    assert cropped.shows(places).tolist() == [True, False, False, False]
    assert view_map(CameraSteps(), (480, 640)).shows(places).all()


@pytest.mark.parametrize('region', [(0, 0, 641, 1), (640, 0, 1, 1), (0, 479, 1, 2)])
def test_regions_outside_are_refused_with_both_sizes(region):
    views = Views(processor(False), CameraSteps(region))
    for refused in (
        lambda: views.map(480, 640),
        lambda: views(np.zeros((480, 640, 3), np.uint8)),
        lambda: view_map(CameraSteps(region), (480, 640)),
    ):
        with pytest.raises(ImageError, match=r'region of .* is outside the picture of 640 x 480'):
            refused()


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        ({'rotation': 45}, 'rotation is 45; one of 0, 90, 180, 270'),
        ({'rotation': True}, 'rotation is True'),
        ({'mirror': 'left'}, "mirror is 'left'"),
        ({'resize': 'bicubic'}, "resize is 'bicubic'"),
        ({'center_crop': 1}, 'center_crop is 1'),
        ({'region': (5, 0, 0, 0)}, 'region at 5, 0 is 0 x 0 px; set region_width'),
        ({'region': (0, 0, 5, 0)}, 'is 5 x 0 px'),
        ({'region': (0, 0, -5, 5)}, 'whole numbers from 0 on'),
        ({'region': (0, 0, 5)}, 'x, y, width and height'),
    ],
)
def test_values_that_are_no_steps_are_refused(values, reason):
    with pytest.raises(ConfigError, match=reason):
        CameraSteps(**values)


def test_steps_survive_json():
    steps = CameraSteps((1, 2, 3, 4), 270, 'vertical', True, 'lanczos3', True)
    assert CameraSteps.from_json(steps.to_json()) == steps
    assert CameraSteps.from_json({}) == CameraSteps()
    assert str(steps) == (
        'region 3 x 4 at 1, 2, rotation 270, mirror vertical, jpeg_round_trip, resize lanczos3, '
        'center_crop'
    )
    assert str(CameraSteps()) == 'none'
