"""Boxes and points of the reasoning: where the policy saw them, in the camera's picture."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from player import STILL
import pytest
from viewer import EXACT, HALF, needs_foxglove, REASONING, texts

from trt_openvla_ros.camera_steps import CameraSteps
from trt_openvla_ros.nodes.conversions import to_rgb
from trt_openvla_ros.policy.seen_view import SeenView


@needs_foxglove
def test_boxes_and_points_of_the_reasoning_are_where_it_says(watch):
    viewer = watch(**EXACT)
    viewer.annotate()

    message = viewer.keep_acting(
        STILL, viewer.annotations, lambda m: 'red block' in texts(m), reasoning=REASONING
    )

    corners = [[(p.x - HALF, p.y - HALF) for p in points.points] for points in message.points]
    assert [(40, 60), (79, 60), (79, 99), (40, 99)] in [
        [tuple(np.round(c, 6)) for c in some] for some in corners
    ]
    assert [(10, 20), (30, 40)] in [[tuple(np.round(c, 6)) for c in some] for some in corners]
    assert 'move left' in texts(message)


@pytest.mark.parametrize(
    'reasoning',
    [
        'VISIBLE OBJECTS: a [1, 2, 3], b [4, 3, 2, 1], [], c [x, y, z, w] GRIPPER POSITION: [1]',
        'GRIPPER POSITION: ' + '[9999999999, -1]' + 'x' * 5000,
        '\x00 \ufffd VISIBLE OBJECTS: ' + '[' * 3000,
    ],
)
def test_malformed_reasoning_draws_what_can_be_read(watch, reasoning):
    viewer = watch(**EXACT)
    viewer.look()

    message = viewer.keep_acting(STILL, viewer.pictures, lambda m: True, reasoning=reasoning)

    assert (message.height, message.width) == (512, 875)
    assert to_rgb(message)[:, 512:].std() > 5  # there is text


@needs_foxglove
def test_boxes_of_a_turned_and_cut_view_are_found_in_the_camera_picture(watch):
    region = {'region_x': 32, 'region_y': 16, 'region_width': 128, 'region_height': 128}
    viewer = watch(rotation=180, **region, **EXACT)
    viewer.annotate()

    message = viewer.keep_acting(
        STILL, viewer.annotations, lambda m: 'red block' in texts(m), reasoning=REASONING
    )

    # Half the size, from the lower right corner of the region: 32 + 127.5 - x / 2, and so on.
    corners = [
        sorted((p.x - HALF, p.y - HALF) for p in points.points) for points in message.points
    ]
    left, right = (32 + 127.25 - x / 2 for x in (79, 40))
    top, bottom = (16 + 127.25 - y / 2 for y in (99, 60))
    expected = sorted([(left, top), (left, bottom), (right, top), (right, bottom)])
    assert any(
        len(some) == 4 and np.abs(np.subtract(some, expected)).max() < 1e-6 for some in corners
    )


@needs_foxglove
@pytest.mark.parametrize(
    ('parameters', 'cropped'), [({}, True), ({'center_crop': 'false'}, False)]
)
def test_boxes_are_where_the_policy_node_tells_unless_a_parameter_does(watch, parameters, cropped):
    viewer = watch(**EXACT, **parameters)
    viewer.annotate()
    told = SeenView(CameraSteps(rotation=180, center_crop=True), letterbox=True)
    view = SeenView(CameraSteps(rotation=180, center_crop=cropped))
    health = viewer.node.create_publisher(DiagnosticArray, '/diagnostics', 10)
    values = [('/other: policy', SeenView()), ('/policy: robot', SeenView())]
    statuses = [
        DiagnosticStatus(name=name, values=[KeyValue(key='view', value=one.to_text())])
        for name, one in [*values, ('/policy: policy', told), ('/policy: gate', SeenView())]
    ]
    corners = (np.array([40, 60, 79, 99]) + 0.5) / 256
    ((_, expected),) = view.boxes_to_camera([('red block', corners)], (256, 256))

    def is_there(message):
        health.publish(DiagnosticArray(status=statuses))
        found = [
            [
                p.points[0].x - HALF,
                p.points[0].y - HALF,
                p.points[2].x - HALF,
                p.points[2].y - HALF,
            ]
            for p in message.points
            if len(p.points) == 4
        ]
        return len(found) > 0 and np.abs(np.array(found) - expected).max(1).min() < 1e-6

    viewer.keep_acting(STILL, viewer.annotations, is_there, reasoning=REASONING)
