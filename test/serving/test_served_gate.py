"""No action that the policy did not mean leaves a server, and none is taken from one."""

import base64
from dataclasses import replace
import io
import json
import logging

import json_numpy
from lying_server import lying
import msgpack
import numpy as np
from PIL import Image
import pytest
from stand_in_policy import StandInPolicy
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from trt_openvla_ros.errors import EngineError, OutputError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.remote import RemotePolicy

IMAGE = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)


class Wrong(StandInPolicy):
    """A policy whose predictions have the changes that a test sets."""

    changes: dict = {}  # noqa: RUF012 - tests replace it

    def _answer(self, *arguments):
        return replace(super()._answer(*arguments), **self.changes)


def row(**places):
    values = np.zeros((1, 7))
    for place, value in places.items():
        values[0, int(place[1:])] = value
    return values


WRONG = [
    {'actions': row(_0=np.nan)},
    {'actions': row(_6=np.inf)},
    {'actions': row(_2=0.021)},
    {'actions': np.zeros((1, 6))},
    {'actions': np.zeros((2, 7)), 'normalised_actions': np.zeros((2, 7))},
    {'actions': np.zeros((1, 7), np.float32)},
    {'normalised_actions': row(_3=-2)},
    {'out_of_range': 1},
    {'out_of_range': 7},
    {'unnorm_key': 'third_arm'},
]


def requests():
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, 'PNG')
    array = json.loads(json_numpy.dumps(IMAGE))
    return {
        'modern': {'image': base64.b64encode(file.getvalue()).decode()},
        'openvla': {'image': array},
        'oft': {'full_image': array},
        'original': {'image': json_numpy.dumps(IMAGE)},
    }


def observation():
    image = {
        b'__ndarray__': True,
        b'data': IMAGE.tobytes(),
        b'dtype': '|u1',
        b'shape': IMAGE.shape,
    }
    return msgpack.packb({'image': image, 'prompt': 'go'})


@pytest.mark.parametrize('changes', WRONG, ids=str)
def test_no_dialect_sends_what_is_no_action(serve, changes):
    policy = Wrong(np.zeros(7))
    with serve(policy=policy) as server:
        for count, (dialect, asked) in enumerate(requests().items(), 1):
            policy.changes = changes
            answer = server.act(**asked, instruction='go')
            assert (answer.status_code, list(answer.json())) == (502, ['error']), dialect
            assert f'trt_openvla_output_errors_total {count}.0' in server.http.get('/metrics').text
            policy.changes = {}
            assert server.act(**asked, instruction='go').status_code == 200
        policy.changes = changes
        with connect(f'ws://127.0.0.1:{server.port}', compression=None) as openpi:
            openpi.recv()
            openpi.send(observation())
            assert isinstance(openpi.recv(), str)
            with pytest.raises(ConnectionClosed):
                openpi.recv()
        assert server.http.get('/healthz').status_code == 200


def test_a_server_allows_as_many_forced_tokens_as_it_is_told(serve):
    policy = Wrong(np.zeros(7))
    with serve(policy=policy, max_forced_tokens=3) as server:
        asked = {**requests()['modern'], 'instruction': 'go'}
        for forced, status in ((3, 200), (4, 502), (7, 502)):
            policy.changes = {'out_of_range': forced}
            assert server.act(**asked).status_code == status


def test_many_refusals_are_one_line_in_the_log(serve, caplog):
    policy = Wrong(np.zeros(7))
    policy.changes = {'out_of_range': 7}
    asked = {**requests()['modern'], 'instruction': 'go'}
    with serve(policy=policy) as server, caplog.at_level(logging.WARNING):
        assert [server.act(**asked).status_code for _ in range(20)] == [502] * 20
    lines = [record for record in caplog.records if 'no action: 7 of 7' in record.message]
    assert 1 <= len(lines) < 20


def test_a_reasoning_model_asked_in_another_style_gives_no_action(serve):
    policy = Policy.from_checkpoint('models/tiny_ecot', device='cpu', prompt_style='vicuna_v01')
    with serve(policy=policy) as server:
        answer = server.act(**requests()['modern'], instruction='pick up the red block')
        assert answer.status_code == 502
        assert '7 of 7 action tokens were forced' in answer.json()['error']
        assert 'Set prompt_style' in answer.json()['error']


def set_(*path_and_value):
    *path, last, value = path_and_value

    def edit(data):
        for key in path:
            data = data[key]
        data[last] = value

    return edit


@pytest.mark.parametrize(
    ('edit', 'error'),
    [
        (set_('action', 0, float('nan')), EngineError),
        (set_('action', 0, float('inf')), EngineError),
        (set_('action', 0, None), EngineError),
        (set_('action', [True] * 7), EngineError),
        (set_('action', ['0.01'] * 7), EngineError),
        (set_('action', '0123456'), EngineError),
        (set_('action', [10**400] * 7), EngineError),
        (set_('action', [[0.0] * 7]), EngineError),
        (set_('action', [0.0] * 6), EngineError),
        (set_('normalised_action', 0, float('nan')), EngineError),
        (set_('out_of_range', '0'), EngineError),
        (set_('out_of_range', 0.5), EngineError),
        (set_('unnorm_key', 'second_arm'), EngineError),
        (set_('action', 0, 0.0201), OutputError),
        (set_('action', 6, 1.01), OutputError),
        (set_('normalised_action', 0, 1.5), OutputError),
        (set_('out_of_range', 1), OutputError),
        (set_('out_of_range', 7), OutputError),
        (set_('out_of_range', -1), OutputError),
        (lambda answer: answer.update(actions=[[0.0] * 7] * 2, normalised_actions=[[0.0] * 7] * 2),
         OutputError),
    ],
)  # fmt: skip
def test_a_policy_at_a_server_passes_the_gate_here(edit, error):
    with lying(answer=edit) as url:
        policy = RemotePolicy(url, timeout=20.0)
        with pytest.raises(error):
            policy.predict(IMAGE, 'go')
        policy.close()


def test_what_the_robot_allows_wins_over_what_the_server_allows():
    with lying(answer=set_('out_of_range', 2)) as url:
        policy = RemotePolicy(url, timeout=20.0, max_forced_tokens=2)
        assert policy.predict(IMAGE, 'go').out_of_range == 2
        policy.close()


RANGE = ('unnorm_keys', 'first_arm')


@pytest.mark.parametrize(
    'edit',
    [
        set_(*RANGE, 'q01', 0, float('nan')),
        set_(*RANGE, 'q99', 0, float('inf')),
        set_(*RANGE, 'q99', 2, -0.5),
        set_(*RANGE, 'q99', 0, None),
        set_(*RANGE, 'q01', ['-1'] * 7),
        lambda facts: facts['unnorm_keys']['first_arm'].update(q01=[-1e308] * 7, q99=[1e308] * 7),
        set_(*RANGE, 'q01', [-1.0] * 6),
        set_(*RANGE, 'q99', 1.0),
        set_(*RANGE, 'mask', ['false'] * 7),
        set_(*RANGE, 'mask', [1] * 7),
        set_(*RANGE, None),
    ],
)
def test_a_server_that_announces_no_range_is_refused(edit):
    with (
        lying(describe=edit) as url,
        pytest.raises(EngineError, match=r"does not describe its policy.*'first_arm'"),
    ):
        RemotePolicy(url)


@pytest.mark.parametrize('horizon', [0, -1, 1.5, '1', True, None])
def test_a_server_that_announces_no_length_is_refused(horizon):
    with (
        lying(describe=set_('horizon', horizon)) as url,
        pytest.raises(EngineError, match='does not describe its policy'),
    ):
        RemotePolicy(url)
