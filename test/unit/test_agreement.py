"""What tools/agreement.py counts."""

from agreement import agreement
import numpy as np

from trt_openvla_ros.pipeline.comparison import Answer


def answer(*action):
    found = np.array(action, float) if action else None
    ids = np.arange(len(action))
    return Answer(np.ones((2, 3), np.float32), np.ones(4, np.float32), ids, found, 0.1)


def test_frames_and_bins_that_agree_are_counted():
    wanted = [answer(0, 1), answer(2, 3), answer(4, 5), answer()]
    found = [answer(0, 1), answer(2, 9), answer(), answer(0, 0)]
    measured = agreement(wanted, found)
    # Of the three frames in which the original acts: one as a whole, half of another, none.
    assert measured['same_action'] == 1 / 3
    assert measured['same_bin'] == 0.5
    assert measured['frames'] == 3
    assert measured['no_action'] == 1


def test_nothing_agrees_where_nothing_acts():
    measured = agreement([answer(0, 1)], [answer()])
    assert (measured['same_action'], measured['same_bin']) == (0.0, 0.0)
