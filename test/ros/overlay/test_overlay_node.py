"""The overlay node over real topics: what is in its pictures, and when there are none."""

from io import BytesIO

import numpy as np
from PIL import Image as PilImage
from player import STILL, UP
import pytest
from rcl_interfaces.msg import Log
from sensor_msgs.msg import CompressedImage, Image
from viewer import EXACT, HALF, needs_foxglove, REASONING, SIM_TOPICS, texts

from trt_openvla_ros.msg import ActionMeaning, GateRule
from trt_openvla_ros.nodes.conversions import to_rgb

PLAIN = {'panel': 'none', 'min_height': 0}
STEP = np.array([0.03, -0.04, 0.02, 0, 0, 0, 1.0])
UP_STEP = np.array(UP)  # stays in the picture, however often it is taken


def dots(message):
    """The places [N, 2] of the discs that are as large as that at an arrow's start."""
    large = max((c.diameter for c in message.circles), default=0)
    return (
        np.array([(c.position.x, c.position.y) for c in message.circles if c.diameter == large])
        - HALF
    )


def logs_of(viewer):
    """The lines that nodes log from now on, growing."""
    logs = []
    viewer.node.create_subscription(Log, '/rosout', lambda m: logs.append(m.msg), 100)
    return logs


def test_nothing_is_done_unless_somebody_looks(watch):
    viewer = watch(**PLAIN)
    costly = {'/camera/image_raw', '/camera/camera_info', '/hand/pose', '/robot/target'}

    def heard():
        names = viewer.node.get_subscriber_names_and_types_by_node('overlay', '/')
        return {name for name, _ in names} & costly

    viewer.wait(lambda: viewer.node.count_subscribers('/robot/gate'), 'overlay node')
    assert heard() == set()
    subscription = viewer.look()
    viewer.next_of(viewer.pictures)
    assert heard() == costly
    viewer.node.destroy_subscription(subscription)
    viewer.wait(lambda: heard() == set(), 'end of the subscriptions')


def test_ring_of_a_step_that_stays_is_where_the_hand_is(watch, mirror):
    viewer = watch(**PLAIN, **EXACT)
    viewer.look()

    def is_marked(message):
        drawn, plain = viewer.shown(message)
        return (drawn != plain).any()

    message = viewer.keep_acting(STILL, viewer.pictures, is_marked)

    drawn, plain = viewer.shown(message)
    changed = np.argwhere((drawn != plain).any(2)).mean(0)[::-1]
    np.testing.assert_allclose(changed, mirror.project(viewer.pose_of(message)), atol=0.5)


def test_arrow_in_the_picture_ends_where_the_step_does(watch, mirror):
    viewer = watch(**PLAIN, **EXACT)
    viewer.look()

    def is_marked(message):
        drawn, plain = viewer.shown(message)
        return (drawn != plain).any()

    message = viewer.keep_acting(UP_STEP, viewer.pictures, is_marked)

    drawn, plain = viewer.shown(message)
    hand = viewer.pose_of(message)
    start, end = mirror.project(np.stack([hand, hand + UP_STEP[:3]]))
    changed = np.argwhere((drawn != plain).any(2))[:, ::-1]
    along = (end - start) / np.linalg.norm(end - start)
    reach = (changed - start) @ along
    assert abs(reach.max() - np.linalg.norm(end - start)) < 3.5  # with the arrow's dark edge
    across = np.abs((changed - start) @ [-along[1], along[0]])
    assert across.max() < 8


@needs_foxglove
def test_arrow_goes_from_the_hand_to_where_the_policy_asks(watch, mirror):
    viewer = watch(**EXACT)
    viewer.annotate()

    message = viewer.keep_acting(
        STEP, viewer.annotations, lambda m: 'no gate has checked' in texts(m)
    )

    hand = viewer.pose_at(message.texts[0].timestamp)
    start, end = mirror.project(np.stack([hand, hand + STEP[:3]]))
    np.testing.assert_allclose(dots(message)[-1], start, atol=1e-6)
    tips = [(p.points[0].x - HALF, p.points[0].y - HALF) for p in message.points]
    assert np.abs(np.array(tips) - end).max(1).min() < 1e-6


@needs_foxglove
def test_arrow_goes_to_the_target_that_the_gate_let_pass(watch, mirror):
    viewer = watch(**EXACT)
    viewer.annotate()
    target = np.array([0.05, 0.02, 0.1])
    rule = GateRule(rule='speed', verdict=GateRule.CLIP, value=0.4, limit=0.25, unit='m/s')
    acted = viewer.act

    def act_and_aim(*args, **fields):
        acted(*args, **fields)
        viewer.report('moving', verdict=GateRule.CLIP, rules=[rule])
        viewer.aim(target)

    viewer.act = act_and_aim

    def is_aimed(message):
        tips = [(p.points[0].x - HALF, p.points[0].y - HALF) for p in message.points]
        return np.abs(np.array(tips) - mirror.project(target)).max(1).min() < 1e-6

    message = viewer.keep_acting(STEP, viewer.annotations, is_aimed)

    assert 'gate: moving' in texts(message)
    assert 'clip speed 0.4 > 0.25 m/s' in texts(message)
    assert 'checked' not in texts(message)


@needs_foxglove
def test_action_that_the_gate_holds_has_no_arrow_of_an_older_one(watch):
    viewer = watch(**EXACT)
    viewer.annotate()
    acted, sequence = viewer.act, iter(range(1, 1000))

    def act_and_hold(*args, **fields):
        number = next(sequence)
        if number == 1:
            viewer.aim([0.05, 0.02, 0.1])
        acted(*args, sequence=number, **fields)
        viewer.report('holding', reason='outside of the workspace', sequence=number)

    viewer.act = act_and_hold
    message = viewer.keep_acting(
        STEP, viewer.annotations, lambda m: 'no target: outside of the workspace' in texts(m)
    )

    assert 'gate: holding' in texts(message)


@needs_foxglove
@pytest.mark.parametrize(
    ('parameters', 'fields', 'why'),
    [
        ({'camera_pose': [0.0] * 7}, {}, 'no place of the camera: set camera_pose'),
        ({}, {'meaning': ActionMeaning()}, 'nobody knows the units'),
        ({}, {'frame': 'elsewhere'}, "the action is in 'elsewhere'"),
        ({'base_frame': 'world'}, {}, "the pose is in 'base_link', and camera_pose in 'world'"),
    ],
)
def test_without_knowledge_there_is_no_arrow_and_a_reason(watch, parameters, fields, why):
    viewer = watch(**EXACT, **parameters)
    viewer.annotate()

    message = viewer.keep_acting(
        STEP, viewer.annotations, lambda m: 'no arrow: ' in texts(m), **fields
    )

    assert len(message.circles) == 0
    message = viewer.keep_acting(STEP, viewer.annotations, lambda m: why in texts(m), **fields)
    assert 'x' in texts(message)  # the numbers are there


@needs_foxglove
def test_without_camera_info_there_is_no_arrow_and_the_rest(watch):
    viewer = watch(remap={**SIM_TOPICS, 'camera_info': 'nowhere'}, **EXACT)
    viewer.annotate()

    message = viewer.keep_acting(
        STEP, viewer.annotations, lambda m: 'no camera_info came' in texts(m), reasoning=REASONING
    )

    assert 'red block' in texts(message)
    assert len(message.points) >= 5  # box, points, bars


def test_picture_that_cannot_be_read_is_left_out(watch):
    viewer = watch(remap={**SIM_TOPICS, 'image': 'broken'}, **PLAIN)
    viewer.look()
    images = viewer.node.create_publisher(Image, 'broken', 10)
    viewer.wait(images.get_subscription_count, 'subscription to images')
    images.publish(Image(encoding='32FC1', height=2, width=2, step=8, data=bytes(16)))
    good = Image(encoding='mono8', height=4, width=6, step=6, data=bytes(24))

    def publish():
        images.publish(good)
        return viewer.pictures

    viewer.wait(publish, 'overlay of the good one')
    assert to_rgb(viewer.pictures[0]).shape == (4, 6, 3)


@needs_foxglove
@pytest.mark.parametrize('sides', [(0, 0), (0, 4), (4, 0), (5000, 5000)])
def test_size_that_is_none_is_left_out_of_annotations_too(watch, sides):
    viewer = watch(remap={**SIM_TOPICS, 'image': 'broken'})
    viewer.annotate()
    images = viewer.node.create_publisher(Image, 'broken', 10)
    viewer.wait(images.get_subscription_count, 'subscription to images')
    bad = Image(encoding='mono8', height=sides[0], width=sides[1], step=sides[1])
    bad.data = bytes(sides[0] * sides[1])
    good = Image(encoding='mono8', height=4, width=6, step=6, data=bytes(24))
    logs = logs_of(viewer)

    def publish(image):
        images.publish(image)
        return viewer.annotations or any('picture left out: ' in log for log in logs)

    viewer.wait(lambda: publish(bad), 'warning')
    assert not viewer.annotations
    logs.clear()
    viewer.wait(lambda: publish(good), 'annotations of the good one')
    assert not logs


def test_clock_that_never_comes_stops_nothing_and_is_missed(watch):
    viewer = watch(use_sim_time=True, **PLAIN)
    logs = logs_of(viewer)
    viewer.look()
    viewer.next_of(viewer.pictures)
    viewer.wait(lambda: any('no message has come on /clock' in log for log in logs), 'warning')


def test_compressed_pictures_are_drawn_on(watch):
    viewer = watch(remap={'image': 'small'}, image_transport='compressed', **PLAIN)
    viewer.look()
    images = viewer.node.create_publisher(CompressedImage, 'small/compressed', 10)
    viewer.wait(images.get_subscription_count, 'subscription to images')
    file = BytesIO()
    PilImage.new('RGB', (32, 24), (10, 200, 30)).save(file, 'PNG')

    def publish():
        images.publish(CompressedImage(format='png', data=file.getvalue()))
        return viewer.pictures

    viewer.wait(publish, 'overlay')
    assert (to_rgb(viewer.pictures[0]) == (10, 200, 30)).all()
