"""What evaluation counts, and where it finds the checkpoints that come with the package."""

import numpy as np
import pytest

from trt_openvla_ros.errors import ConfigError, OutputError
from trt_openvla_ros.evaluation.agreement import agreement
from trt_openvla_ros.evaluation.models import shipped_model
from trt_openvla_ros.evaluation.scenes import Attempt, attempts, difference, success, tasks
from trt_openvla_ros.pipeline.verify.comparison import Answer
from trt_openvla_ros.sim.expert import expert
from trt_openvla_ros.sim.goals import parse
from trt_openvla_ros.sim.world import MAX_STEPS, World


def answer(*action):
    found = np.array(action, float) if action else None
    ids = np.arange(len(action))
    return Answer(np.ones((2, 3), np.float32), np.ones(4, np.float32), ids, found, 0.1)


def test_frames_and_bins_that_agree_are_counted():
    wanted = [answer(0, 1), answer(2, 3), answer(4, 5), answer()]
    found = [answer(0, 1), answer(2, 9), answer(), answer(0, 0)]
    measured = agreement(wanted, found)
    # Of the three frames in which the original acts: one as a whole, half of another, none.
    assert measured['same_action'] == 1 / 3
    assert measured['same_bin'] == 0.5
    assert measured['frames'] == 3
    assert measured['no_action'] == 1


def test_nothing_agrees_where_nothing_acts():
    measured = agreement([answer(0, 1)], [answer()])
    assert (measured['same_action'], measured['same_bin']) == (0.0, 0.0)


def attempt(reached, instruction='pick up the red ball'):
    return Attempt(0, instruction, reached, 3, False)


def test_success_is_compared_scene_by_scene():
    wanted = [attempt(True)] * 8 + [attempt(False)] * 2
    found = [attempt(False)] + [attempt(True)] * 8 + [attempt(False, 'go to the red ball')]
    apart = difference(wanted, found)
    assert (apart['points'], apart['lost'], apart['won']) == (0.0, 1, 1)
    assert apart['low'] == -apart['high'] < -20  # ten scenes say little
    same = difference(wanted * 10, wanted * 10)
    assert same['points'] == 0
    assert -3 < same['low'] < 0 < same['high'] < 3
    summed = success(found)
    assert (summed['rate'], summed['of']) == (0.8, 10)
    assert summed['kinds']['reach'] == {'rate': 0.0, 'of': 1}
    assert summed['kinds']['push'] == {'rate': 0.0, 'of': 0}


class Expert:
    """A policy that sees the state instead of the image."""

    def __init__(self, world):
        self.world = world

    def predict(self, image, instruction):
        assert image.shape == (256, 256, 3)
        return type('Seen', (), {'action': expert(self.world.state, parse(instruction))})


def test_scenes_are_attempted_until_they_are_reached(monkeypatch):
    world = World()
    monkeypatch.setattr('trt_openvla_ros.evaluation.scenes.World', lambda: world)
    asked = tasks(3)
    assert [parse(text).kind for _, text in asked] == ['reach', 'push', 'pick']
    assert asked == tasks(3)
    done = attempts(Expert(world), asked, 'expert')
    assert [a.reached for a in done] == [True] * 3
    assert all(0 < a.steps < MAX_STEPS for a in done)


def test_answer_that_is_no_action_ends_an_attempt():
    class Silent:
        def predict(self, image, instruction):
            raise OutputError('nothing')

    (stuck,) = attempts(Silent(), tasks(1), 'silent')
    assert stuck.stuck
    assert not stuck.reached


def test_shipped_model_is_found_without_ros(monkeypatch, tmp_path):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r'tiny_openvla is neither installed.*--checkpoint'):
        shipped_model('tiny_openvla')
    (tmp_path / 'models' / 'tiny_openvla').mkdir(parents=True)
    assert shipped_model('tiny_openvla').samefile(tmp_path / 'models' / 'tiny_openvla')


def test_shipped_model_of_an_installation_wins(monkeypatch, tmp_path):
    index = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    (index / 'trt_openvla_ros').touch()
    installed = tmp_path / 'share' / 'trt_openvla_ros' / 'models' / 'tiny_openvla'
    installed.mkdir(parents=True)
    (tmp_path / 'models' / 'tiny_openvla').mkdir(parents=True)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pytest.importorskip('ament_index_python')
    assert shipped_model('tiny_openvla') == installed
