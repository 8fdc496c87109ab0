"""The checkpoints in models/: in the released layout, and good at what they were made for."""

import json
from pathlib import Path

import numpy as np
import pytest
from reference import image_embeddings, llama, with_image
import torch

from trt_openvla_ros.policy import Policy
from trt_openvla_ros.sim.goals import goals_for, KINDS, phrase
from trt_openvla_ros.sim.world import MAX_STEPS, World
from trt_openvla_ros.training.demonstrations import FIRST_TEST_SEED

ROOT = Path(__file__).parents[2]
MODELS = ROOT / 'models'
NAMES = ('tiny_openvla', 'tiny_ecot')


@pytest.fixture(scope='module')
def policies():
    return {name: Policy.from_checkpoint(MODELS / name) for name in NAMES}


@pytest.fixture(scope='module')
def world():
    world = World()
    yield world
    world.close()


@pytest.mark.parametrize(('name', 'golden'), list(zip(NAMES, ('fused', 'single'), strict=True)))
def test_files_and_keys_are_those_of_the_release(name, golden):
    released = ROOT / 'test/data/golden' / golden
    recorded = {'golden.json', 'golden.npz'}
    files = {path.name for path in released.iterdir()} - recorded
    assert files <= {path.name for path in (MODELS / name).iterdir()}
    assert sum(path.stat().st_size for path in (MODELS / name).iterdir()) <= 12e6
    for file in ('config.json', 'preprocessor_config.json'):
        ours = json.loads((MODELS / name / file).read_text())
        theirs = json.loads((released / file).read_text())
        assert set(ours) == set(theirs)
        for key in ('arch_specifier', 'llm_backbone_id', 'vision_backbone_id', 'timm_model_ids'):
            assert ours.get(key) == theirs.get(key)
    text = json.loads((MODELS / name / 'config.json').read_text())['text_config']
    assert text['hidden_size'] % 128 == text['intermediate_size'] % 128 == 0


@pytest.mark.parametrize('name', NAMES)
def test_libraries_compute_the_same_from_it(policies, world, name):
    policy = policies[name]
    world.reset(FIRST_TEST_SEED)
    image = world.image()
    prediction = policy.predict(image, 'pick up the yellow ball')
    views = torch.from_numpy(policy.spec.views(image))
    pixels = policy.engines.vision.normalise(views)[0]
    model = llama(policy.spec.checkpoint)
    _, ids = policy.spec.prompter('pick up the yellow ball')
    inputs = with_image(model, ids, image_embeddings(policy.spec.checkpoint, pixels))
    answer = model.generate(inputs_embeds=inputs, max_new_tokens=400, do_sample=False)[0].tolist()
    answer = answer[: answer.index(policy.spec.prompter.tokenizer.eos_id)]
    assert answer[-7:] == prediction.action_ids.tolist()
    if prediction.reasoning:
        text = policy.spec.prompter.tokenizer.decode(answer[:-7]).strip()
        assert text.removesuffix('ACTION:').strip() == prediction.reasoning


# Less than `make evaluate` finds, of whatever kind: a guard against a model that lost its skill.
@pytest.mark.parametrize(('name', 'least'), [('tiny_openvla', 4), ('tiny_ecot', 5)])
def test_it_does_what_it_is_told(policies, world, name, least):
    reached = []
    for seed in range(FIRST_TEST_SEED, FIRST_TEST_SEED + 6):
        world.reset(seed)
        rng = np.random.default_rng([seed, 1])
        goals = [g for g in goals_for(world.things) if g.kind == KINDS[seed % len(KINDS)]]
        goal = goals[rng.integers(len(goals))]
        instruction = phrase(goal, rng)
        for _ in range(MAX_STEPS):
            world.step(policies[name].predict(world.image(), instruction).action)
            if world.success(goal):
                break
        reached.append(world.success(goal))
    assert sum(reached) >= least
