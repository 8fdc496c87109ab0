"""From an image and an instruction to an action, over real topics."""

from pathlib import Path

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from rclpy.time import Time as ClockTime

PUT = 'put the spoon on the towel'


@pytest.mark.parametrize('unnorm_key', ['toy_arm', 'other_arm'])
@pytest.mark.parametrize('case', ['case00', 'case01', 'case10', 'case11', 'case20', 'case21'])
def test_action_on_golden_image_equals_reference(graph, golden, case, unnorm_key):
    probe = graph.start(unnorm_key=unnorm_key)
    probe.instruct(golden.instruction(case))

    action = probe.act(golden.image(case))

    np.testing.assert_allclose(action.action, golden.action(case, unnorm_key), rtol=0, atol=1e-12)
    assert action.unnorm_key == unnorm_key


def test_action_says_what_it_was_made_of(graph, golden):
    probe = graph.start(action_frame='gripper_link')
    probe.instruct(PUT)

    action = probe.act(golden.image('case20'))
    received = probe.node.get_clock().now()

    assert action.header.frame_id == 'gripper_link'
    assert action.instruction == PUT
    assert action.prompt == f'In: What action should the robot take to {PUT}?\nOut:'
    assert action.camera_frame == 'camera'
    assert (action.engine, action.dtype, action.device) == ('torch', 'float32', 'cpu')
    assert Path(action.checkpoint).name == 'fused'
    parts = [
        getattr(action, f'{part}_time') for part in ('preprocess', 'vision', 'prefill', 'decode')
    ]
    assert min(parts) > 0
    assert sum(parts) <= action.inference_time
    age_now = (received - ClockTime.from_msg(action.header.stamp)).nanoseconds * 1e-9
    assert action.inference_time <= action.image_age <= age_now
    assert (action.out_of_range, action.limited) == (0, False)
    # Without statistics: the centre of the bin of each reference id.
    bins = 32000 - np.array(golden.cases['case20']['generated_ids'])
    np.testing.assert_allclose(action.normalised_action, (2 * bins - 1) / 255 - 1, atol=1e-12)


def test_stamp_is_the_images_to_the_nanosecond(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    stamp = Time(sec=123, nanosec=456789012)

    probe.send(golden.image('case20'), stamp)
    probe.wait(lambda: probe.actions[-1].header.stamp == stamp, 'action on that image')


def test_sequence_counts_from_one(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)

    for _ in range(3):
        probe.act(golden.image('case20'))

    assert [action.sequence for action in probe.actions] == [1, 2, 3]


def test_reasoning_is_published_with_each_action(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)

    probe.act(golden.image('case20'))

    # OpenVLA acts without words; a reader of the topic still sees one message per action.
    probe.wait(lambda: probe.reasonings, 'reasoning')
    assert probe.reasonings[0].data == ''


def test_model_that_reasons_publishes_text_and_action(graph, golden, forward_checkpoint):
    checkpoint, ids = forward_checkpoint
    probe = graph.start(checkpoint=checkpoint)
    probe.instruct(PUT)

    action = probe.act(golden.image('case00'))

    probe.wait(lambda: probe.reasonings, 'reasoning')
    assert probe.reasonings[0].data == action.reasoning == 'forward'
    centres = (2 * (1024 - np.array(ids)) - 1) / 255 - 1
    np.testing.assert_allclose(action.normalised_action, centres, atol=1e-12)


def test_prompt_image_is_what_the_model_sees(graph, golden):
    probe = graph.start(publish_prompt_image=True)
    probe.instruct(PUT)
    image = golden.image('case00')

    action = probe.act(image)

    probe.wait(lambda: probe.prompt_images, 'prompt image')
    shown = probe.prompt_images[0]
    assert shown.header.stamp == action.header.stamp
    assert (shown.encoding, shown.header.frame_id) == ('rgb8', 'camera')
    pixels = np.frombuffer(shown.data, np.uint8).reshape(shown.height, shown.width, 3)
    # What the reference fed to the first tower, with its normalisation undone.
    np.testing.assert_array_equal(pixels, golden.tower_image('case00'))


def test_prompt_image_is_off_by_default(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)

    probe.act(golden.image('case20'))
    probe.act(golden.image('case20'))

    assert not probe.prompt_images
