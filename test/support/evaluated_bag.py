"""A policy for tests of evaluate_bag, and runs of it for bags."""

from types import SimpleNamespace

from bag_writer import act, ACTION, IMAGE, image, INSTRUCTION, text, write
import numpy as np

from trt_openvla_ros.evaluation.bag.run import evaluate
from trt_openvla_ros.evaluation.bag.settings import EvaluateBagSettings
from trt_openvla_ros.timings import PARTS

PICTURES = np.random.default_rng(5).integers(0, 256, (6, 32, 48, 3), np.uint8)
BEGIN, PERIOD = 1_700_000_000 * 10**9, 200_000_000
PUSH, LIFT = 'push the cup', 'lift the cup'
MEANING = """
toy_arm:
  translation_unit: 0.05
  rotation_unit: 0.5
  rotation: rotation_vector
  reference: measured
  frame: base
  gripper: open
  control_rate: 5.0
"""


class QuickPolicy:
    """A real policy whose model is replaced by a function of pixels and instruction.

    Attributes:
        calls: Number of predictions so far.
        last: Number of the prediction at which the process is interrupted; None for none.
    """

    def __init__(self, policy):
        self._policy, self.calls, self.last = policy, 0, None
        self.description = policy.description

    def close(self):
        """Leave the real policy open: it outlives each run."""

    def predict(self, pixels, instruction):
        self._policy.check(instruction)
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt
        action = answer(pixels, instruction)
        timings = dict.fromkeys(PARTS, 0.01)
        return SimpleNamespace(action=action, reasoning=instruction.upper(), timings=timings)


def answer(pixels, instruction=PUSH):
    """[7]: what a QuickPolicy does."""
    seed = [int(pixels.sum()), len(instruction), ord(instruction[0])]
    action = np.random.default_rng(seed).uniform(-0.5, 0.5, 7)
    action[6] = action[6] > 0
    return action


class Comparison:
    """Evaluates over messages, in bags of its own below a directory."""

    def __init__(self, folder):
        self.folder = folder
        (folder / 'meanings.yaml').write_text(MEANING)
        self._count = 0

    def __call__(self, messages, storage='mcap', **values):
        """Give the facts; with messages None the setting bag says over which."""
        bag = ''
        if messages is not None:
            self._count += 1
            bag = str(write(self.folder / f'bag {self._count}', messages, storage))
        given = {'bag': bag, 'out': str(self.folder / 'out'), 'video': False}
        given['action_meanings'] = str(self.folder / 'meanings.yaml')
        return evaluate(EvaluateBagSettings(**given | values))


def when(index):
    return BEGIN + PERIOD * index


def run_of(actions, stamps=None, instruction=PUSH, **values):
    """An image and its action at 5 Hz."""
    messages = [(INSTRUCTION, BEGIN - 1, text(instruction))]
    for index, action in enumerate(actions):
        stamp = when(index) if stamps is None else stamps[index]
        messages.append((IMAGE, when(index), image(PICTURES[index], stamp)))
        answer = act(action, stamp, instruction, **values)
        messages.append((ACTION, when(index) + 1, answer))
    return messages
