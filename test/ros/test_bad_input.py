"""One bad frame, or one bad answer of the model, and the node goes on."""

from io import BytesIO
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from PIL import Image as PilImage
import pytest
from sensor_msgs.msg import CompressedImage, Image

from trt_openvla_ros.nodes.conversions import to_message

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
PUT, PUSH = 'put the spoon on the towel', 'push the red block left'


def test_bad_images_are_counted_and_the_next_good_one_acted_on(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))

    unknown = probe.send(Image(height=4, width=4, encoding='32FC1', step=16, data=bytes(64)))
    probe.wait(lambda: any('image ignored' in log for log in probe.logs), 'warning')
    assert any("'32FC1'" in log for log in probe.logs)
    assert probe.act(golden.image('case20')).sequence == 2

    truncated = probe.send(Image(height=4, width=4, encoding='rgb8', step=12, data=bytes(47)))
    status = probe.counted(images_rejected=2, actions=2)
    assert status.level == DiagnosticStatus.WARN
    assert 'images_rejected' in status.message

    action = probe.act(golden.image('case20'))
    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
    assert not {str(unknown), str(truncated)} & {str(a.header.stamp) for a in probe.actions}


def test_large_and_deep_images_are_ignored_and_lost_colours_told_once(graph, golden):
    graph.add(image_transport='compressed', max_pixels=50_000, max_image_age=0.0)
    probe = graph.probe(image_topic='image/compressed', compressed=True)
    assert probe.transit('configure')
    assert probe.transit('activate')
    probe.connect()
    probe.instruct(PUT)

    def compressed(form, pixels):
        file = BytesIO()
        PilImage.fromarray(pixels).save(file, 'PNG')
        return CompressedImage(format=form, data=file.getvalue())

    probe.send(compressed('rgb8; png compressed bgr8', np.zeros((224, 224, 3), np.uint8)))
    probe.wait(lambda: any('at most 50000 are accepted' in log for log in probe.logs), 'size')
    grey = golden.image('case20')[:, :, 0]
    probe.send(compressed('16UC1; png compressed ', grey.astype(np.uint16)))
    probe.counted(images_rejected=2)
    for number in (1, 2, 3):
        assert probe.act(compressed('yuv422_yuy2; png compressed mono8', grey)).sequence == number
    assert sum('lost the colours' in log for log in probe.logs) == 1


def test_row_padding_and_channel_order_do_not_change_the_action(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    image = golden.image('case20')
    height, width = image.shape[:2]
    rows = np.full((height, 3 * width + 5), 255, np.uint8)
    rows[:, : 3 * width] = image[:, :, ::-1].reshape(height, -1)
    padded = to_message(image)
    padded.encoding, padded.step, padded.data = 'bgr8', 3 * width + 5, rows.tobytes()

    action = probe.act(padded)

    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)


def test_broken_weights_for_one_word_are_counted_and_others_acted_on(
    graph, golden, edited_checkpoint
):
    def poison(weights):
        # A piece of 'push the red block left', and of neither the other nor the self-test's.
        weights['language_model.model.embed_tokens.weight'][413] = float('nan')

    probe = graph.start(checkpoint=edited_checkpoint('fused', poison))
    probe.instruct(PUSH)
    unanswered = [probe.send(golden.image('case20'))]
    status = probe.counted(output_errors=1)

    assert status.level == DiagnosticStatus.WARN
    assert any('no action' in log and 'nan' in log for log in probe.logs)
    probe.instruct(PUT)
    action = probe.act(golden.image('case20'))
    assert action.header.stamp not in unanswered
    assert action.sequence == 1
    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)


def prefer_text(weights):
    weights['language_model.lm_head.weight'][31744:32000] = 0


def test_text_where_an_action_belongs_is_never_motion(graph, golden, edited_checkpoint):
    probe = graph.start(checkpoint=edited_checkpoint('fused', prefer_text), constrain=False)
    probe.instruct(PUT)

    probe.send(golden.image('case20'))
    probe.wait(lambda: any('no action' in log for log in probe.logs), 'warning')
    probe.send(golden.image('case20'))
    probe.counted(output_errors=2, actions=0)

    assert any('no action' in log and '31744 to 31999' in log for log in probe.logs)
    assert not probe.actions


@pytest.mark.parametrize('most', [0, 255])
def test_an_action_of_forced_tokens_alone_is_never_motion(graph, golden, edited_checkpoint, most):
    checkpoint = edited_checkpoint('fused', prefer_text)
    probe = graph.start(checkpoint=checkpoint, max_forced_tokens=most)
    probe.instruct(PUT)

    probe.send(golden.image('case20'))
    probe.counted(output_errors=1, actions=0)

    assert any('7 of 7' in log and 'Set prompt_style' in log for log in probe.logs)
    assert not probe.actions


def test_a_reasoning_model_asked_in_another_style_does_not_move(graph, golden):
    probe = graph.start(checkpoint='models/tiny_ecot', unnorm_key='', prompt_style='vicuna_v01')
    probe.instruct('pick up the red block')

    probe.send(golden.image('case20'))
    probe.counted(output_errors=1, actions=0)
    probe.send(golden.image('case20'))
    probe.counted(output_errors=2, actions=0)

    assert any("now 'vicuna_v01'" in log for log in probe.logs)
    assert not probe.actions


def test_some_forced_tokens_are_told_and_counted_where_they_are_allowed(graph, golden):
    # Random weights, asked in a style that is not theirs, begin some tokens as text.
    wrong = {'checkpoint': str(GOLDEN / 'single'), 'prompt_style': 'openvla'}
    probe = graph.start(**wrong, max_forced_tokens=6)
    probe.instruct(PUT)

    action = probe.act(golden.image('case20'))

    assert 0 < action.out_of_range < 7
    probe.counted(out_of_range_tokens=action.out_of_range)


def test_a_whole_prompt_is_read_as_the_server_reads_it(graph, golden):
    probe = graph.start()
    probe.instruct(golden.cases['case20']['prompt'] + ' \r\n')

    action = probe.act(golden.image('case20'))

    assert action.prompt == golden.cases['case20']['prompt']
    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    'wrong', ['USER: push it ASSISTANT:', 'In: What action should the robot take to push it?']
)
def test_the_prompt_of_another_style_stops_the_robot(graph, golden, wrong):
    probe = graph.start()
    probe.instruct(PUT)
    probe.act(golden.image('case20'))
    probe.instruct(wrong)

    probe.counted(instructions_rejected=1)
    assert any('give the instruction alone' in log for log in probe.logs)
    before = len(probe.actions)
    probe.send(golden.image('case20'))
    probe.counted(images_received=2)
    assert len(probe.actions) == before


def test_endless_reasoning_is_an_output_error(graph, golden, edited_checkpoint):
    # Random weights write random words, by the reference too, and never 'ACTION:'.
    checkpoint = edited_checkpoint('single', lambda weights: None)
    probe = graph.start(checkpoint=checkpoint, max_new_tokens=32)
    probe.instruct('place the watermelon on the towel')

    probe.send(golden.image('case20'))
    probe.counted(output_errors=1, actions=0)

    assert any('32 tokens without reaching an action' in log for log in probe.logs)


def test_endless_instruction_is_refused_and_the_next_one_followed(graph, golden):
    probe = graph.start()
    # Few enough characters, but each of several tokens.
    probe.instruct('\N{GRINNING FACE}' * 1900)

    probe.send(golden.image('case20'))
    probe.wait(lambda: any('shorten the instruction' in log for log in probe.logs), 'reason')
    assert not probe.actions

    probe.instruct(PUT)
    action = probe.act(golden.image('case20'))
    np.testing.assert_allclose(action.action, golden.action('case20'), rtol=0, atol=1e-12)
