"""What the node does to the camera's pictures, as ~/prompt_image shows it."""

from pathlib import Path

import numpy as np
from probe import values_of
import pytest

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.policy.images import ImageProcessor
from trt_openvla_ros.policy.resampling import center_crop, jpeg_round_trip, lanczos3

DATA = Path(__file__).parents[1] / 'data' / 'golden'
FRAME = np.load(DATA / 'libero' / 'golden.npz')
LIBERO = {'center_crop': 'true', 'jpeg_round_trip': 'true', 'resize': 'lanczos3'}
WIDE = np.random.default_rng(4).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def shown_by(probe, image):
    """Give what ~/prompt_image shows of an image that the node acted on."""
    action = probe.act(image)
    probe.wait(lambda: probe.prompt_images, 'prompt image')
    shown = probe.prompt_images[-1]
    assert shown.header.stamp == action.header.stamp
    return np.frombuffer(shown.data, np.uint8).reshape(shown.height, shown.width, 3)


def test_prompt_image_is_tensorflows_with_the_settings_of_libero(graph):
    probe = graph.start(publish_prompt_image=True, rotation=180, **LIBERO)
    probe.instruct('push it')
    for name in ('libero', 'noise'):
        shown = shown_by(probe, FRAME[f'{name}_raw'])
        np.testing.assert_array_equal(shown, FRAME[f'{name}_cropped'])
        probe.prompt_images.clear()
    status = probe.status(lambda status: 'camera' in values_of(status))
    assert values_of(status)['camera'] == (
        'rotation 180, jpeg_round_trip, resize lanczos3, center_crop'
    )


def by_hand(image, region=None, turns=0, flip=None, steps=()):
    """Do the steps by functions of numpy, in the documented order."""
    if region:
        x, y, width, height = region
        image = image[y : y + height, x : x + width]
    image = np.rot90(image, -turns)
    image = np.ascontiguousarray(image if flip is None else np.flip(image, flip))
    if 'jpeg' in steps:
        image = jpeg_round_trip(image)
    if 'lanczos3' in steps:
        image = lanczos3(image, 224, 224)
    view = ImageProcessor.from_config(Checkpoint.open(DATA / 'fused').preprocessor).preview(image)
    return center_crop(view) if 'crop' in steps else view


REGION = {'region_x': 3, 'region_y': 5, 'region_width': 40, 'region_height': 31}


@pytest.mark.parametrize(
    ('parameters', 'done'),
    [
        ({'rotation': 90}, {'turns': 1}),
        ({'rotation': 270, 'mirror': 'horizontal'}, {'turns': 3, 'flip': 1}),
        ({'mirror': 'vertical', **REGION}, {'flip': 0, 'region': (3, 5, 40, 31)}),
        # As a launch file or a command line gives it.
        ({'center_crop': True, 'jpeg_round_trip': False}, {'steps': ('crop',)}),
        (
            {'rotation': 90, 'mirror': 'vertical', **REGION, **LIBERO},
            {
                'region': (3, 5, 40, 31), 'turns': 1, 'flip': 0,
                'steps': ('jpeg', 'lanczos3', 'crop'),
            },
        ),
    ],
    ids=str,
)  # fmt: skip
def test_prompt_image_has_passed_every_step(graph, parameters, done):
    probe = graph.start(publish_prompt_image=True, **parameters)
    probe.instruct('push it')
    np.testing.assert_array_equal(shown_by(probe, WIDE), by_hand(WIDE, **done))


def test_a_picture_that_the_region_does_not_fit_is_ignored_with_both_sizes(graph):
    probe = graph.start(**REGION)
    probe.instruct('push it')
    probe.send(np.zeros((20, 30, 3), np.uint8))
    probe.counted(images_rejected=1)
    reason = 'region of 40 x 31 px at 3, 5 is outside the picture of 30 x 20'
    assert any(reason in log for log in probe.logs)
    probe.act(WIDE)  # the node goes on


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'rotation': 45}, 'rotation is 45; one of 0, 90, 180, 270 is needed'),
        ({'region_width': 40}, 'the region at 0, 0 is 40 x 0 px; set region_width and'),
    ],
)
def test_impossible_settings_leave_the_node_unconfigured_with_the_reason(
    graph, parameters, reason
):
    graph.add(**parameters)
    probe = graph.probe()
    assert not probe.transit('configure')
    probe.wait(lambda: any(reason in log for log in probe.logs), reason)


def test_the_steps_cannot_be_changed_while_the_node_runs(graph):
    node = graph.add()
    probe = graph.probe()
    for name, value in (('center_crop', True), ('rotation', 90), ('mirror', 'vertical')):
        (result,) = probe.set(**{name: value})
        assert not result.successful
        assert 'read-only' in result.reason
    assert node.get_parameter('rotation').value == 0
