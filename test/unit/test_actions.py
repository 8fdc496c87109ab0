import numpy as np
import pytest

from trt_openvla_ros.checkpoints.statistics import read_statistics
from trt_openvla_ros.errors import ConfigError, OutputError
from trt_openvla_ros.policy.actions import ActionTokens

LLAMA = ActionTokens(32000)


@pytest.mark.parametrize(
    ('token', 'value'),
    [
        (31999, -0.996078431372549),
        (31998, -0.9882352941176471),
        (31872, 0.0),
        (31745, 0.996078431372549),
        (31744, 0.996078431372549),
    ],
)
def test_decode_gives_the_bin_centre_of_the_reference(token, value):
    assert LLAMA.decode(np.array([token]))[0] == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize('token', [31743, 2, 29871, 32000, 32063, -1])
def test_decode_refuses_what_the_reference_would_clip(token):
    with pytest.raises(OutputError, match=str(token)):
        LLAMA.decode(np.array([31872, token]))


def test_encode_undoes_decode():
    ids = np.arange(31745, 32000)
    np.testing.assert_array_equal(LLAMA.encode(LLAMA.decode(ids)), ids)


def test_encode_clips_to_the_ends_of_the_range():
    np.testing.assert_array_equal(LLAMA.encode(np.array([-9.0, 1.0, 9.0])), [31999, 31744, 31744])


def test_unnormalise_bridge_centre_and_open_gripper():
    q01 = [-0.02872725307941437, -0.04170349963009357, -0.026093858778476715]
    q01 += [-0.08092105075716972, -0.09288699507713317, -0.20718276381492615, 0.0]
    q99 = [0.028309678435325586, 0.040855254605412394, 0.040161586627364146]
    q99 += [0.08192047759890528, 0.07792850524187081, 0.20382574498653397, 1.0]
    entry = {'action': {'q01': q01, 'q99': q99, 'mask': [True] * 6 + [False]}}
    statistics = read_statistics(entry, 'bridge_orig')
    action = statistics.unnormalise(LLAMA.decode(np.array([31872] * 6 + [31744])))
    centre = (np.array(q01) + np.array(q99))[:6] / 2
    np.testing.assert_allclose(action[:6], centre, rtol=0, atol=1e-15)
    assert action[6] == pytest.approx(0.996078431372549)


def test_statistics_without_mask_scale_every_dimension():
    statistics = read_statistics({'action': {'q01': [0.0], 'q99': [4.0]}}, 'x')
    assert statistics.unnormalise(np.array([0.5]))[0] == 3.0


@pytest.mark.parametrize(
    ('entry', 'reason'),
    [
        ({}, 'action is missing'),
        ({'action': {'q01': [0.0]}}, 'q99'),
        ({'action': {'q01': [0.0, 1.0], 'q99': [1.0]}}, 'shapes'),
        ({'action': {'q01': [0.0], 'q99': [float('nan')]}}, 'finite'),
        ({'action': {'q01': 'a', 'q99': [1.0]}}, 'q01'),
    ],
)
def test_statistics_that_cannot_be_used_are_named(entry, reason):
    with pytest.raises(ConfigError, match=f'toy.*{reason}'):
        read_statistics(entry, 'toy')
