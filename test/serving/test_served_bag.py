"""A policy at a server over a recording."""

from bag_writer import act, ACTION, IMAGE, image, INSTRUCTION, text, write
import numpy as np
import pytest

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.evaluation.bag.run import evaluate
from trt_openvla_ros.evaluation.bag.settings import EvaluateBagSettings

BEGIN = 1_700_000_000 * 10**9
PUSH = 'push the cup'


@pytest.fixture
def evaluated(server, policy, tmp_path):
    """Evaluate over images whose recorded actions are those of `seen(image)`; give the facts."""

    def run(seen, **values):
        messages = [(INSTRUCTION, BEGIN, text(PUSH))]
        pictures = np.random.default_rng(1).integers(0, 256, (3, 24, 32, 3), np.uint8)
        for number, pixels in enumerate(pictures, 1):
            when = BEGIN + number * 10**8
            action = policy.predict(seen(pixels), PUSH).action
            messages.append((IMAGE, when, image(pixels, when)))
            messages.append((ACTION, when + 1, act(action, when, PUSH)))
        bag = str(write(tmp_path / 'bag', messages))
        given = {'bag': bag, 'out': str(tmp_path / 'out'), 'server': server.url}
        return evaluate(EvaluateBagSettings(**given | values))

    return run


def test_server_is_asked_about_every_image(evaluated):
    facts = evaluated(np.asarray)
    # PNG is exact, and so is the answer.
    assert (facts['frames'], facts['identical']) == (3, 1.0)
    assert facts['latency']['round_trip']['p50_ms'] > 0


def test_server_gets_images_as_the_settings_of_the_camera_have_them(evaluated):
    facts = evaluated(lambda pixels: np.ascontiguousarray(np.rot90(pixels, -1)), rotation=90)
    assert (facts['frames'], facts['identical']) == (3, 1.0)


def test_settings_of_the_camera_that_the_server_does_not_follow_are_refused(evaluated):
    with pytest.raises(ConfigError, match='center_crop is true here, and the server serves with'):
        evaluated(np.asarray, center_crop='true')


def test_checkpoint_beside_a_server_is_refused(evaluated):
    with pytest.raises(ConfigError, match='checkpoint and server are both given'):
        evaluated(np.asarray, checkpoint='somewhere')
