"""A view as text: places found by it are those of the policy's own map."""

import dataclasses
import json

import numpy as np
import pytest
from stand_in_policy import DESCRIPTION

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.checkpoints.preprocessor import write_preprocessor
from trt_openvla_ros.errors import ImageError, InputError
from trt_openvla_ros.policy.images import ImageProcessor
from trt_openvla_ros.policy.seen_view import SeenView
from trt_openvla_ros.policy.views import Views

NORM = ([0.5] * 3, [0.5] * 3)
STEPS = CameraSteps((10, 20, 300, 200), 90, 'vertical', center_crop=True)
PLACES = np.array([[0.0, 0.0], [0.25, 0.5], [1.0, 1.0]])


def description(letterbox, steps=STEPS):
    preprocessor = write_preprocessor(224, [NORM], letterbox)
    return dataclasses.replace(DESCRIPTION, preprocessor=preprocessor, camera=steps)


@pytest.mark.parametrize('letterbox', [False, True])
@pytest.mark.parametrize('resize', ['processor', 'lanczos3'])
def test_places_are_where_the_policy_sees_them(letterbox, resize):
    described = description(letterbox, dataclasses.replace(STEPS, resize=resize))

    view = SeenView.from_text(SeenView.of(described).to_text())

    processor = ImageProcessor.from_config(described.preprocessor)
    known = Views(processor, described.camera).map(480, 640).to_camera(224 * PLACES - 0.5)
    np.testing.assert_allclose(view.to_camera(PLACES, (480, 640)), known, atol=1e-9)


def test_unknown_view_is_the_whole_picture():
    found = SeenView().to_camera(PLACES, (480, 640))
    np.testing.assert_allclose(found, PLACES * [640, 480] - 0.5, atol=1e-9)


def test_box_of_a_turned_view_has_its_corners_in_order():
    view = SeenView(CameraSteps(rotation=180))
    ((name, corners),) = view.boxes_to_camera([('cup', np.array([0, 0, 0.25, 0.5]))], (200, 100))
    assert name == 'cup'
    np.testing.assert_allclose(corners, [74.5, 99.5, 99.5, 199.5], atol=1e-9)


def test_region_outside_of_the_picture_is_refused():
    with pytest.raises(ImageError, match='outside the picture of 100 x 100'):
        SeenView(STEPS).to_camera(PLACES, (100, 100))


@pytest.mark.parametrize(
    'change',
    [
        {'letterbox': 1},
        {'size': [0, 1]},
        {'size': 5000},
        {'size': True},
        {'crop': 224},
        {'crop': [1, 2, 3]},
        {'steps': {'rotation': 45}},
        {'steps': {'region': 1}},
        None,
    ],
)
def test_text_of_something_else_is_refused(change):
    text = SeenView().to_text()
    text = '[' if change is None else json.dumps(json.loads(text) | change)
    with pytest.raises(InputError, match='does not describe a view'):
        SeenView.from_text(text)
