"""Only an action that is finite, in range, of the announced length and meant passes the gate."""

from dataclasses import replace

import numpy as np
import pytest
from stand_in_policy import StandInPolicy

from trt_openvla_ros.contracts import ActionStatistics
from trt_openvla_ros.errors import ConfigError, OutputError
from trt_openvla_ros.safety.gate import admit, admit_command

IMAGE = np.zeros((8, 8, 3), np.uint8)
EDGE = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])


def asked(normalised=EDGE, **changes):
    policy = StandInPolicy(normalised)
    return replace(policy.predict(IMAGE, 'go'), **changes), policy.description


@pytest.mark.parametrize('normalised', [EDGE, -EDGE, 0 * EDGE, np.stack([EDGE, -EDGE, 0 * EDGE])])
def test_every_action_of_the_range_passes(normalised):
    prediction, description = asked(normalised)
    assert admit(prediction, description) is prediction


def test_what_float32_rounds_passes():
    prediction, description = asked()
    rounded = prediction.actions.astype(np.float32).astype(np.float64)
    assert (rounded != prediction.actions).any()
    admit(replace(prediction, actions=rounded), description)


@pytest.mark.parametrize('name', ['actions', 'normalised_actions'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e308, -1.001, 1.001])
@pytest.mark.parametrize('place', [(0, 0), (0, 6), (2, 3)])
def test_one_bad_value_anywhere_is_no_action(name, value, place):
    prediction, description = asked(np.zeros((3, 7)))
    getattr(prediction, name)[place] = value
    with pytest.raises(OutputError, match=rf'dimension {place[1]} of step {place[0]}, outside'):
        admit(prediction, description)


@pytest.mark.parametrize(
    'edit',
    [
        lambda actions: actions[0],
        lambda actions: actions[:, :6],
        lambda actions: np.concatenate([actions, actions], 1),
        lambda actions: np.concatenate([actions, actions]),
        lambda actions: actions[:0],
        lambda actions: actions.astype(np.float32),
        lambda actions: actions.astype(int),
        lambda actions: actions.astype(object),
        lambda actions: actions.astype(complex),
        lambda actions: actions.tolist(),
        lambda actions: None,
    ],
)
@pytest.mark.parametrize('name', ['actions', 'normalised_actions'])
def test_another_shape_or_type_is_no_action(name, edit):
    prediction, description = asked(0 * EDGE)
    wrong = replace(prediction, **{name: edit(getattr(prediction, name))})
    with pytest.raises(OutputError, match=r'the policy announced \[1, 7\], as float64'):
        admit(wrong, description)


@pytest.mark.parametrize('key', ['nobody', '', None, ['first_arm']])
def test_statistics_that_were_never_announced_are_no_ground_to_move(key):
    prediction, description = asked(unnorm_key=key)
    with pytest.raises(OutputError, match='never announced'):
        admit(prediction, description)


@pytest.mark.parametrize(('forced', 'most'), [(1, 0), (6, 0), (6, 5), (7, 0), (7, 7), (7, 255)])
def test_forced_tokens_are_no_action(forced, most):
    prediction, description = asked(out_of_range=forced)
    with pytest.raises(OutputError, match=f'{forced} of 7 action tokens.*prompt_style, now'):
        admit(prediction, description, most)


def test_all_tokens_of_an_action_may_be_one_or_those_of_a_chunk():
    chunk, description = asked(np.zeros((2, 7)), out_of_range=13)
    assert admit(chunk, description, 13) is chunk
    with pytest.raises(OutputError, match='no token was meant'):
        admit(replace(chunk, out_of_range=14), description, 255)
    one = StandInPolicy(
        [0.5], statistics={'slider': ActionStatistics(*np.array([[-1.0], [1.0], [1.0]]))},
        unnorm_key='slider',
    )  # fmt: skip
    with pytest.raises(OutputError, match='1 of 1'):
        admit(replace(one.predict(IMAGE, 'go'), out_of_range=1), one.description, 255)


@pytest.mark.parametrize('forced', [-1, 8, 1.0, True, None, '0'])
def test_a_number_of_tokens_that_cannot_be_is_refused(forced):
    prediction, description = asked(out_of_range=forced)
    with pytest.raises(OutputError, match='0 to 7 tokens can be'):
        admit(prediction, description, 255)


def test_a_constant_dimension_passes_and_any_other_value_does_not():
    fixed = np.array([0.0, 0.25])
    policy = StandInPolicy(
        np.zeros(2),
        statistics={'fixed': ActionStatistics(fixed, fixed, np.array([True, True]))},
        unnorm_key='fixed',
    )
    prediction = policy.predict(IMAGE, 'go')
    admit(prediction, policy.description)
    with pytest.raises(OutputError, match='outside'):
        admit(replace(prediction, actions=prediction.actions + 1e-5), policy.description)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_command_is_finite(bad):
    assert admit_command(EDGE) is EDGE
    with pytest.raises(OutputError, match='max_translation'):
        admit_command(np.where(EDGE > 0, bad, EDGE))


@pytest.mark.parametrize(
    ('q01', 'q99'), [(0.1, -0.1), (-1.7e308, 1.7e308), (np.nan, 1), (0, np.inf)]
)
def test_a_range_that_is_none_is_refused(q01, q99):
    with pytest.raises(ConfigError, match=r'finite'):
        ActionStatistics(np.array([0.0, q01]), np.array([1.0, q99]), np.array([True, True]))
