"""Every parameter: its description, what it refuses and with which reason."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.msg import ParameterType
from rclpy.exceptions import ParameterException

from trt_openvla_ros.nodes.parameters import PolicyParameters
from trt_openvla_ros.settings import list_settings

PUT = 'put the spoon on the towel'

SPECS = list_settings(PolicyParameters)
CHANGEABLE = [name for name, spec in SPECS.items() if spec.run_time]
READ_ONLY = [name for name, spec in SPECS.items() if not spec.run_time]
RANGED = [name for name, spec in SPECS.items() if spec.low is not None]
CHOICES = [name for name, spec in SPECS.items() if spec.choices]
TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}


def outside(name):
    spec = SPECS[name]
    kind = type(spec.default)
    return [kind(spec.low - 1), kind(spec.high + 1)]


def other_types(name):
    samples = (True, 3, 0.5, 'text', [0.5, 0.5])
    accepted = {type(SPECS[name].default), bool if SPECS[name].is_switch else None}
    return [sample for sample in samples if type(sample) not in accepted]


def test_descriptions_are_served_as_in_the_table(graph):
    graph.add()
    probe = graph.probe()

    answer = probe.call('describe_parameters', names=list(SPECS))

    for served, (name, spec) in zip(answer.descriptors, SPECS.items(), strict=True):
        assert served.name == name
        assert served.type == TYPES[type(spec.default)]
        assert served.description == spec.description
        assert served.read_only != spec.run_time
        ranges = [*served.integer_range, *served.floating_point_range]
        expected = [] if spec.low is None else [(spec.low, spec.high)]
        assert [(limits.from_value, limits.to_value) for limits in ranges] == expected
        assert all(repr(choice) in served.additional_constraints for choice in spec.choices)


def test_defaults_are_those_of_the_table(graph):
    given = {'checkpoint': '', 'unnorm_key': '', 'device': '', 'action_meanings': ''}
    node = graph.add(**given)

    assert {name: node.get_parameter(name).value for name in SPECS} == {
        name: spec.default for name, spec in SPECS.items()
    }


def test_change_out_of_range_is_refused(graph):
    node = graph.add()
    probe = graph.probe()
    for name in sorted(set(RANGED) & set(CHANGEABLE)):
        spec = SPECS[name]
        for value in outside(name):
            (result,) = probe.set(**{name: value})
            assert not result.successful, (name, value)
            assert name in result.reason
            assert 'range' in result.reason
            assert node.get_parameter(name).value == spec.default
        for value in (spec.low, spec.high):
            assert probe.set(**{name: value})[0].successful, (name, value)
            assert node.get_parameter(name).value == value


def test_change_to_another_type_is_refused(graph):
    node = graph.add()
    probe = graph.probe()
    for name in CHANGEABLE:
        before = node.get_parameter(name).value
        # None unsets a parameter, which would leave the node without a value.
        for value in (*other_types(name), None):
            (result,) = probe.set(**{name: value})
            assert not result.successful, (name, value)
            assert result.reason
            assert node.get_parameter(name).value == before


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_change_to_no_number_is_refused(graph, value):
    node = graph.add()
    probe = graph.probe()
    for name in CHANGEABLE:
        if isinstance(SPECS[name].default, float):
            (result,) = probe.set(**{name: value})
            assert not result.successful, name
            assert name in result.reason
            assert node.get_parameter(name).value == SPECS[name].default


def test_change_of_a_read_only_parameter_is_refused(graph):
    node = graph.add()
    probe = graph.probe()
    for name in READ_ONLY:
        before = node.get_parameter(name).value
        value = SPECS[name].choices[-1] if SPECS[name].choices else before
        (result,) = probe.set(**{name: value})
        assert not result.successful, name
        assert 'read-only' in result.reason
        assert node.get_parameter(name).value == before


@pytest.mark.parametrize('name', CHOICES)
def test_start_with_an_unknown_choice_is_refused(graph, name):
    with pytest.raises(ParameterException) as refusal:
        graph.add(**{name: 'spam'})

    assert 'spam' in str(refusal.value)
    assert all(repr(choice) in str(refusal.value) for choice in SPECS[name].choices)


@pytest.mark.parametrize('choice', [(n, c) for n in CHOICES for c in SPECS[n].choices], ids=str)
def test_start_with_each_choice_is_accepted(graph, choice):
    name, value = choice

    node = graph.add(**{name: value})

    assert node.get_parameter(name).value == value


@pytest.mark.parametrize('name', RANGED)
def test_start_out_of_range_is_refused(graph, name):
    beyond = [math.nan] if isinstance(SPECS[name].default, float) else []
    for value in (*outside(name), *beyond):
        with pytest.raises(ParameterException, match=name):
            graph.add(**{name: value})


@pytest.mark.parametrize('name', SPECS)
def test_start_with_another_type_is_refused(graph, name):
    for value in other_types(name):
        with pytest.raises(ParameterException, match=name):
            graph.add(**{name: value})


def test_new_unnorm_key_changes_the_next_action(graph, golden):
    probe = graph.start()
    probe.instruct(PUT)
    before = probe.act(golden.image('case20'))

    assert probe.set(unnorm_key='other_arm')[0].successful
    after = probe.act(golden.image('case20'))

    assert (before.unnorm_key, after.unnorm_key) == ('toy_arm', 'other_arm')
    expected = golden.action('case20', 'other_arm')
    np.testing.assert_allclose(after.action, expected, rtol=0, atol=1e-12)
    assert list(before.normalised_action) == list(after.normalised_action)


@pytest.mark.parametrize('key', ['toy_leg', ''])
def test_unknown_unnorm_key_is_refused_with_the_list(graph, golden, key):
    probe = graph.start()
    probe.instruct(PUT)

    (result,) = probe.set(unnorm_key=key)
    action = probe.act(golden.image('case20'))

    assert not result.successful
    assert 'toy_arm: [-0.0287, 0.0283]' in result.reason
    assert 'other_arm: [-1, 1]' in result.reason
    assert action.unnorm_key == 'toy_arm'


def test_actions_of_another_length_are_refused(graph, edited_checkpoint):
    checkpoint = Path(edited_checkpoint('fused', lambda weights: None))
    config = json.loads((checkpoint / 'config.json').read_text())
    config['norm_stats']['leg'] = {'action': {'q01': [-1.0] * 6, 'q99': [1.0] * 6}}
    (checkpoint / 'config.json').write_text(json.dumps(config))
    probe = graph.start(checkpoint=str(checkpoint))

    (result,) = probe.set(unnorm_key='leg')

    assert not result.successful
    assert "'leg' have 6 dimensions" in result.reason


def test_use_sim_time_may_be_set_while_running(graph):
    graph.add()
    probe = graph.probe()

    assert probe.set(use_sim_time=True)[0].successful
    assert probe.state() == 'unconfigured'
