"""The reference implementation's own numbers, for every golden case."""

import json
from pathlib import Path

import numpy as np
import pytest

from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.policy import Policy

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
CASES = [
    (name, case)
    for name in ('fused', 'single')
    for case in json.loads((GOLDEN / name / 'golden.json').read_text())
]


@pytest.fixture(scope='module')
def golden():
    loaded = {}

    def load(name):
        if name not in loaded:
            arrays = dict(np.load(GOLDEN / name / 'golden.npz'))
            policy = Policy.from_checkpoint(GOLDEN / name, 'toy_arm', device='cpu')
            loaded[name] = policy, arrays
        return loaded[name]

    return load


@pytest.mark.parametrize(('name', 'case'), CASES, ids=[f'{n}-{c["case"]}' for n, c in CASES])
def test_reference_numbers(golden, name, case):
    policy, arrays = golden(name)
    key = case['case']
    image = arrays[f'{key[:5]}0_image']
    instruction = case['prompt'].split('take to ')[1].split('?')[0]

    prompt, ids = policy.prompter(instruction)
    assert prompt == case['prompt']
    assert ids == case['input_ids']
    pixels = policy.processor(image)
    expected = arrays[f'{key[:5]}0_pixel_values'].reshape(pixels.shape)
    np.testing.assert_array_equal(pixels, expected)
    features = policy.vision.patch_features(pixels).numpy()
    expected = arrays[f'{key}_patch_features'].reshape(features.shape)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)
    embeddings = policy.vision.encode(pixels)
    expected = arrays[f'{key}_image_embeddings'].reshape(embeddings.shape)
    np.testing.assert_allclose(embeddings.numpy(), expected, rtol=0, atol=1e-4)
    logits = policy.language.first_logits(ids, embeddings)
    expected = arrays[f'{key}_last_logits'].reshape(logits.shape)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    free = Decoding(max_new_tokens=len(case['generated_ids']), eos_id=2)
    assert policy.language.generate(ids, embeddings, free).ids == case['generated_ids']
    for unnorm_key in ('toy_arm', 'other_arm'):
        if unnorm_key in case:
            policy.set_unnorm_key(unnorm_key)
            prediction = policy.predict(image, instruction)
            np.testing.assert_allclose(prediction.action, case[unnorm_key], rtol=0, atol=1e-12)
