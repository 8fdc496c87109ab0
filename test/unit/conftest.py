from importlib import import_module

from evaluated_bag import answer, Comparison, PICTURES, QuickPolicy
import numpy as np
import pytest

from trt_openvla_ros.checkpoints.artifact import LANGUAGE_ENGINE
from trt_openvla_ros.evaluation.bag import run as evaluation
from trt_openvla_ros.pipeline.command import run


@pytest.fixture(scope='session')
def split_artifact(golden_dir, tmp_path_factory):
    """Give the artifact of save_backbone of a golden checkpoint, by name; to be read only."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp('artifacts') / f'{name} artifact'
            words = ['--checkpoint', str(golden_dir / name), '--artifact', str(made[name])]
            run('save_backbone', [*words, '--onnx-dtype', 'float32', '--device', 'cpu'])
        return made[name]

    return make


@pytest.fixture
def runtime(stand_in):
    """Import the stand-in's tensorrt_llm.runtime, of a release."""

    def make(release='1.2.1'):
        stand_in(release)
        return import_module('tensorrt_llm.runtime')

    return make


@pytest.fixture
def opened(runtime, engine_artifact):
    """Open the engine of a golden checkpoint by one of the two runners."""

    def make(runner='ModelRunnerCpp', release='1.2.1', **settings):
        place = str(engine_artifact('fused', release) / LANGUAGE_ENGINE)
        return getattr(runtime(release), runner).from_dir(place, **settings)

    return make


@pytest.fixture
def bag_policy(fused, monkeypatch):
    """The policy that evaluate_bag opens."""
    quick = QuickPolicy(fused)
    monkeypatch.setattr(evaluation, 'open_policy', lambda _: quick)
    return quick


@pytest.fixture
def compare(bag_policy, tmp_path, monkeypatch):
    """Evaluate over messages, without plots, which take longest; give the facts."""
    monkeypatch.setattr(evaluation, 'plot', lambda *given: given[-1].touch())
    return Comparison(tmp_path)


@pytest.fixture
def answers():
    """[6, 7]: what the policy does on each picture under PUSH."""
    return np.array([answer(picture) for picture in PICTURES])
