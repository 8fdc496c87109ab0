"""Life cycles of a robot node that is a process of its own."""

from faults.cycles import cycle
import pytest

pytest.importorskip('moveit_msgs', reason='the node commands MoveIt Servo')
pytest.importorskip('control_msgs', reason='the node commands a gripper by its action')


def test_life_cycles_leave_nothing_behind(domain, tmp_path):
    result = cycle(domain, 20, tmp_path, every=5)
    first, last = result['samples'][1], result['samples'][-1]
    assert (last['cycle'], last['threads']) == (20, first['threads'])
    assert last['descriptors'] <= first['descriptors']
    assert last['memory_mb'] < first['memory_mb'] + 4.0
