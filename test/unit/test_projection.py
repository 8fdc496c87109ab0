"""Calibrated cameras: against the simulation, OpenCV's own inverse, and where none looks."""

import cv2
import numpy as np
import pytest

from trt_openvla_ros.drawing.projection import Camera
from trt_openvla_ros.errors import InputError
from trt_openvla_ros.sim.world import World

MATRIX = np.array([[400.0, 0, 320], [0, 410, 240], [0, 0, 1]])
BARREL = (-0.3, 0.12, 0.001, -0.002, -0.02)
POINTS = np.random.default_rng(0).uniform((-0.4, -0.3, 1), (0.4, 0.3, 2), (50, 3))


def test_pinhole_is_that_of_the_simulation():
    world = World()
    position, rotation = world.camera_pose
    points = np.random.default_rng(1).uniform((-0.2, -0.2, 0), (0.2, 0.2, 0.2), (50, 3))
    camera = Camera(256, 256, world.camera_matrix, (0.0,) * 5)
    found = camera.project((points - position) @ rotation)
    np.testing.assert_allclose(found, world.project(points), atol=1e-9)


@pytest.mark.parametrize(
    ('model', 'distortion'),
    [
        ('plumb_bob', BARREL),
        ('plumb_bob', BARREL[:4]),
        ('rational_polynomial', (*BARREL, 0.01, 0.02, 0.001)),
    ],
)
def test_distortion_is_what_opencv_takes_away(model, distortion):
    pixels = Camera(640, 480, MATRIX, distortion, model).project(POINTS)
    ideal = cv2.undistortPoints(pixels[:, None], MATRIX, np.array(distortion))[:, 0]
    np.testing.assert_allclose(ideal, POINTS[:, :2] / POINTS[:, 2:], atol=1e-3)
    assert np.abs(pixels - Camera(640, 480, MATRIX).project(POINTS)).max() > 1


def test_fisheye_is_what_opencv_takes_away():
    lens = (0.05, -0.01, 0.002, 0.0)
    pixels = Camera(640, 480, MATRIX, lens, 'equidistant').project(POINTS)
    ideal = cv2.fisheye.undistortPoints(pixels[:, None], MATRIX, np.array(lens))[:, 0]
    np.testing.assert_allclose(ideal, POINTS[:, :2] / POINTS[:, 2:], atol=1e-6)


@pytest.mark.parametrize('point', [(0, 0, -1), (0, 0, 0), (0.1, 0, 0.001), (np.nan, 0, 1)])
def test_what_is_behind_the_camera_has_no_pixel(point):
    found = Camera(640, 480, MATRIX, BARREL).project(np.array([point, (0, 0, 1)], float))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [320, 240])


def test_what_the_distortion_would_fold_into_the_picture_has_no_pixel():
    # Far aside this polynomial turns back: without a look at that, it would be in the middle.
    far = np.array([[1.8, 0.0, 1.0]])
    folded, _ = cv2.projectPoints(far, np.zeros(3), np.zeros(3), MATRIX, np.array((-0.3, 0, 0, 0)))
    assert 0 < folded[0, 0, 0] < 640
    assert np.isnan(Camera(640, 480, MATRIX, (-0.3, 0, 0, 0)).project(far)).all()


def test_region_and_binning_move_the_pixel():
    camera = Camera(160, 120, MATRIX, offset=(100, 50), binning=(2, 2))
    np.testing.assert_allclose(camera.project(np.array([[0, 0, 1.0]])), [[110, 95]])


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'matrix': np.zeros((3, 3))}, 'not calibrated'),
        ({'matrix': MATRIX * np.nan}, 'not calibrated'),
        ({'distortion': (0.1,) * 3}, "'plumb_bob' with 3"),
        ({'distortion': (0.1,) * 4, 'model': 'odd'}, "'odd'"),
        ({'distortion': (0.1, np.inf, 0, 0)}, 'not finite'),
    ],
)
def test_calibration_that_is_none_is_refused(changes, problem):
    with pytest.raises(InputError, match=problem):
        Camera(**{'width': 640, 'height': 480, 'matrix': MATRIX, **changes})
