"""The protocol of a policy: who has it, what crosses a wire, and what is refused."""

from dataclasses import fields, replace
import inspect
import json

import numpy as np
import pytest
from stand_in_policy import StandInPolicy

from trt_openvla_ros.codec import (
    decode_description,
    decode_prediction,
    encode_description,
    encode_prediction,
    prediction_schema,
)
from trt_openvla_ros.contracts import ActionStatistics, BasePolicy, Prediction
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.remote import RemotePolicy
from trt_openvla_ros.timings import PARTS, Timings

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
MEMBERS = ('check', 'prepare', 'predict', 'preview', 'close')


def through_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize('kind', [Policy, RemotePolicy, StandInPolicy])
@pytest.mark.parametrize('member', MEMBERS)
def test_every_policy_is_asked_in_the_same_way(kind, member):
    wanted = inspect.signature(getattr(BasePolicy, member))
    assert inspect.signature(getattr(kind, member)) == wanted


def test_the_key_of_a_prediction_is_an_argument_and_stays_with_it(fused):
    for asked, applied in (('other_arm', 'other_arm'), (None, 'toy_arm'), ('toy_arm', 'toy_arm')):
        assert fused.predict(IMAGE, 'pick up the cup', asked).unnorm_key == applied


def test_a_prepared_image_is_used_and_changes_nothing_but_the_time(fused, monkeypatch):
    wanted = fused.predict(IMAGE, 'pick up the cup')
    prepared = fused.prepare(IMAGE)
    monkeypatch.setattr(type(fused.spec.views), '__call__', lambda *_: pytest.fail('resized'))
    found = fused.predict(prepared, 'pick up the cup')
    np.testing.assert_array_equal(found.actions, wanted.actions)
    np.testing.assert_array_equal(found.generated_ids, wanted.generated_ids)
    assert found.timings['preprocess'] < wanted.timings['preprocess']


@pytest.mark.parametrize(
    'image', [IMAGE[None], IMAGE[:, :, 0], IMAGE / 255], ids=['batch', 'grey', 'float']
)
def test_what_is_no_image_is_not_prepared(fused, image):
    for ask in (fused.prepare, StandInPolicy().prepare, lambda i: fused.predict(i, 'go')):
        with pytest.raises(InputError, match='uint8 RGB is needed'):
            ask(image)


def test_one_step_is_a_chunk_of_one(fused):
    prediction = fused.predict(IMAGE, 'pick up the cup')
    assert prediction.actions.shape == prediction.normalised_actions.shape == (1, 7)
    np.testing.assert_array_equal(prediction.actions[0], prediction.action)
    assert fused.description.horizon == 1


@pytest.mark.parametrize(
    ('given', 'reason'),
    [
        ({'wrist_images': [IMAGE]}, r'1 wrist image\(s\) given.*leave wrist_images out'),
        ({'state': np.zeros(8)}, 'a state was given.*leave state out'),
    ],
)
def test_what_the_model_does_not_take_is_refused(fused, given, reason):
    with pytest.raises(InputError, match=reason):
        fused.predict(IMAGE, 'pick up the cup', **given)


@pytest.mark.parametrize(
    ('arguments', 'error', 'reason'),
    [
        (('pick up the cup', 'nobody'), ConfigError, "unnorm_key 'nobody' is not in"),
        (('   ',), InputError, 'is empty'),
        (('say </s>',), InputError, 'special token'),
    ],
)
def test_check_says_what_predict_would(fused, arguments, error, reason):
    for ask in (fused.check, lambda *a: fused.predict(IMAGE, *a)):
        with pytest.raises(error, match=reason):
            ask(*arguments)


def test_a_prediction_survives_the_wire(fused):
    there = fused.predict(IMAGE, 'pick up the cup')
    here = decode_prediction(through_json(encode_prediction(there)))
    for entry in fields(Prediction):
        if entry.name != 'transcript':  # no wire carries it
            np.testing.assert_equal(getattr(here, entry.name), getattr(there, entry.name))
    assert here.transcript is None
    assert set(encode_prediction(there)) <= set(prediction_schema())


def test_an_older_server_does_not_say_how_often_its_model_ran(fused):
    sent = encode_prediction(fused.predict(IMAGE, 'pick up the cup'))
    assert 1 <= sent.pop('passes') <= len(sent['generated_ids'])
    assert decode_prediction(through_json(sent)).passes == 0


def test_a_chunk_survives_the_wire_and_its_first_step_stands_where_one_always_did(fused):
    one = fused.predict(IMAGE, 'pick up the cup')
    rows = np.arange(21.0).reshape(3, 7)
    there = replace(one, actions=rows, normalised_actions=rows / 21)
    sent = through_json(encode_prediction(there))
    assert sent['action'] == rows[0].tolist()
    np.testing.assert_array_equal(decode_prediction(sent).actions, rows)
    np.testing.assert_array_equal(decode_prediction(sent).normalised_actions, rows / 21)


@pytest.mark.parametrize(
    'change',
    [
        {'action': None},
        {'action': [[1.0]]},
        {'action': ['a'] * 7},
        {'action': [1e999] * 7},
        {'normalised_action': [0.0]},
        {'timings': [1]},
        {'generated_ids': [1e30]},
        {'passes': 1.5},
    ],
    ids=str,
)
def test_what_is_no_prediction_is_a_value_error(fused, change):
    sent = {**encode_prediction(fused.predict(IMAGE, 'pick up the cup')), **change}
    with pytest.raises(ValueError, match=r'.'):
        decode_prediction(sent)


@pytest.mark.parametrize('name', ['fused', 'single'])
def test_a_description_survives_the_wire(request, name):
    there = request.getfixturevalue(name).description
    here = decode_description(through_json(encode_description(there)))
    assert list(here.statistics) == list(there.statistics)
    for key, one in there.statistics.items():
        for part in ('q01', 'q99', 'mask'):
            np.testing.assert_array_equal(getattr(here.statistics[key], part), getattr(one, part))
    assert replace(here, statistics={}) == replace(there, statistics={})


def test_a_description_tells_what_answers(fused, single):
    description = fused.description
    assert description.checkpoint.endswith('fused')
    assert (description.engine, description.dtype, description.device) == (
        'torch', 'float32', 'cpu',
    )  # fmt: skip
    assert description.unnorm_key == 'toy_arm'
    assert set(description.statistics) == {'toy_arm', 'other_arm'}
    assert (description.prompt_style, description.reasons) == ('openvla', False)
    assert (single.description.prompt_style, single.description.reasons) == ('vicuna', True)
    assert description.image_tokens == 256
    assert len(description.vision_towers) == 2


def test_the_transcript_is_prompt_image_and_answer(fused):
    prediction = fused.predict(IMAGE, 'pick up the cup')
    ids = prediction.transcript.ids.tolist()
    image = [i for i in ids if i >= fused.spec.checkpoint.llm.vocab_size]
    assert len(image) == fused.description.image_tokens
    assert ids[1 : 1 + len(image)] == image
    assert ids[-7:] == prediction.action_ids.tolist()
    assert prediction.transcript.text.startswith(prediction.prompt)


def test_the_timings_of_a_prediction_are_those_that_are_named_once(fused):
    assert tuple(fused.predict(IMAGE, 'pick up the cup').timings) == PARTS
    assert set(PARTS) < set(Timings.__annotations__)


@pytest.mark.parametrize(
    ('q01', 'q99', 'mask', 'reason'),
    [
        ([0.0], [1.0, 2.0], [True], 'shapes'),
        ([0.0], [np.inf], [True], 'not finite'),
        ([[0.0]], [[1.0]], [[True]], 'shapes'),
    ],
)
def test_impossible_statistics_cannot_be_made(q01, q99, mask, reason):
    with pytest.raises(ConfigError, match=reason):
        ActionStatistics(np.array(q01), np.array(q99), np.array(mask))
