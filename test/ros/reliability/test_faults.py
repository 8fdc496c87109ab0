"""Faults of a real loop: installed executables, real signals, and a judge who watched."""

from dataclasses import replace
import random

from faults.cases import CASES
from faults.measuring import strike
from faults.rig import Rig, Setup
import pytest

pytest.importorskip('moveit_msgs', reason='the loop goes through the topics of MoveIt Servo')
pytest.importorskip('control_msgs', reason='the loop goes through the action of a gripper')

LATE = 0.5  # [s] that a busy machine may add to a limit, before a test fails
BY_NAME = {case.name: case for case in CASES if case.setup == Setup()}


@pytest.fixture(scope='module')
def rig(domain, tmp_path_factory):
    with Rig(Setup(), domain, tmp_path_factory.mktemp('loop')) as rig:
        yield rig


def check(rig, case):
    outcome = strike(rig, case, random.Random(case.name))
    assert outcome.hold is not None, 'the last command moves'
    assert outcome.hold < (case.limit_s or 0.0) + LATE
    assert outcome.violations == []
    assert outcome.returned
    return outcome


def test_a_policy_that_is_stopped_holds_the_robot_and_only_enable_lets_it_go_on(rig):
    assert check(rig, BY_NAME['policy stopped (SIGSTOP)']).state == 'stopped'


def test_the_last_command_of_a_robot_node_that_is_ended_is_zero(rig):
    assert check(rig, BY_NAME['robot node: SIGTERM']).state == 'ended'


def test_a_policy_that_is_killed_stops_the_robot(rig):
    # It is not started again, which takes long; `make reliability` does that.
    case = replace(BY_NAME['policy killed (SIGKILL)'], heal=lambda rig: None, returns='')
    assert check(rig, case).state == 'stopped'
