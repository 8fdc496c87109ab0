"""One bad frame, or one bad answer of the model, and the node goes on."""

from io import BytesIO

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image

from trt_openvla_ros.nodes.conversions import to_message

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


def test_constrained_model_tells_how_much_was_out_of_range(graph, golden, edited_checkpoint):
    probe = graph.start(checkpoint=edited_checkpoint('fused', prefer_text))
    probe.instruct(PUT)

    action = probe.act(golden.image('case20'))

    assert action.out_of_range == 7
    # All action ids score the same; the first of them is the last bin.
    np.testing.assert_allclose(action.normalised_action, 7 * [254 / 255], atol=1e-12)
    probe.counted(out_of_range_tokens=7)


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
