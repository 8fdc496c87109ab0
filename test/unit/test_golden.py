"""The reference implementation's own numbers, for every golden case."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trt_openvla_ros.engines.base import Decoding

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


CASES = [
    pytest.param(name, case, id=f'{name}-{case["case"]}')
    for name in ('fused', 'single')
    for case in json.loads((GOLDEN / name / 'golden.json').read_text())
]


@pytest.fixture(scope='module')
def arrays():
    return {name: dict(np.load(GOLDEN / name / 'golden.npz')) for name in ('fused', 'single')}


@pytest.mark.parametrize(('name', 'case'), CASES)
def test_every_stage_gives_the_reference_numbers(request, arrays, name, case):
    policy, arrays = request.getfixturevalue(name), arrays[name]
    key = case['case']
    image = arrays[f'{key[:5]}0_image']
    instruction = case['prompt'].split('take to ')[1].split('?')[0]

    prompt, ids = policy.spec.prompter(instruction)
    assert prompt == case['prompt']
    assert ids == case['input_ids']
    views = policy.spec.views(image)
    vision = policy.engines.vision
    pixels = vision.normalise(torch.from_numpy(views))
    expected = arrays[f'{key[:5]}0_pixel_values']
    np.testing.assert_array_equal(pixels, expected.reshape(pixels.shape))
    features = vision.patch_features(pixels).numpy()
    expected = arrays[f'{key}_patch_features'].reshape(features.shape)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)
    embeddings = vision.encode(views)
    expected = arrays[f'{key}_image_embeddings'].reshape(embeddings.shape)
    np.testing.assert_allclose(embeddings.numpy(), expected, rtol=0, atol=1e-4)
    logits = policy.engines.language.first_logits(ids, embeddings)
    expected = arrays[f'{key}_last_logits'].reshape(logits.shape)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    free = Decoding(max_new_tokens=len(case['generated_ids']), eos_id=2)
    assert policy.engines.language.generate(ids, embeddings, free).ids == case['generated_ids']


@pytest.mark.parametrize(('name', 'case'), [p for p in CASES if p.values[0] == 'fused'])
@pytest.mark.parametrize('unnorm_key', ['toy_arm', 'other_arm'])
def test_action_is_the_reference_action(fused, arrays, name, case, unnorm_key):
    image = arrays[name][f'{case["case"][:5]}0_image']
    instruction = case['prompt'].split('take to ')[1].split('?')[0]
    prediction = fused.predict(image, instruction, unnorm_key)
    np.testing.assert_allclose(prediction.action, case[unnorm_key], rtol=0, atol=1e-12)
    assert prediction.generated_ids.tolist() == case['generated_ids']
    assert prediction.unnorm_key == unnorm_key
    assert set(prediction.timings) == {'preprocess', 'vision', 'prefill', 'decode', 'total'}
