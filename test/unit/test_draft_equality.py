"""Answers with drafts are those without, whatever the drafts are."""

from hypothesis import given, settings, strategies
import pytest
from random_checkpoint import TINY_LLM, write_random_checkpoint
import torch

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.drafting import PreviousAnswer
from trt_openvla_ros.engines.torch.language import TorchLanguage

IDS = [1, 512, 29901, 1724, 3158, 29871]
EOS, ACTIONS = 2, (31744, 32000)
CPU = torch.device('cpu')


def reasoning(constrain, begin):
    return Decoding(
        40,
        EOS,
        ACTIONS,
        7,
        action_begins=lambda ids: len(ids) >= begin,
        action_first=False,
        constrain=constrain,
    )


# The random head nearly always writes action ids. So the range of the first two is wide for text.
DECODINGS = [
    Decoding(30, EOS),
    Decoding(7, EOS, ACTIONS, 7),
    Decoding(7, EOS, ACTIONS, 7, constrain=False),
    reasoning(True, 6),
    reasoning(False, 6),
    Decoding(7, EOS, (31900, 32000), 7),
    Decoding(7, EOS, (31900, 32000), 7, constrain=False),
    Decoding(1000, EOS),
]


class Planned:
    """A drafter that follows a plan of right and wrong drafts."""

    def __init__(self, plan, truth):
        self.plan, self.truth, self.calls, self.drafts = plan, truth, 0, 0

    def propose(self, ids):
        kind, number = self.plan[self.calls % len(self.plan)]
        self.calls += 1
        rest = self.truth[len(ids) :]
        near = rest[: number % 6]
        draft = {
            'none': [],
            'right': rest[:number],
            'replaced': [*near, (number * 977) % 32000, *rest[len(near) + 1 :]],
            'left out': [*near, *rest[len(near) + 1 :]],
            'end': [*near, EOS, *rest[len(near) :]],
            'action': [*near, ACTIONS[0] + number, *rest[len(near) + 1 :]],
            'too long': [*rest, *[number] * 200],
            'noise': [(number * k * 7919) % 32000 for k in range(1, 1 + number)],
        }[kind]
        self.drafts += bool(draft)
        return draft


KINDS = ('none', 'right', 'replaced', 'left out', 'end', 'action', 'too long', 'noise')
PLANS = strategies.lists(
    strategies.tuples(strategies.sampled_from(KINDS), strategies.integers(0, 70)),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope='module')
def engines(tmp_path_factory):
    """Load an engine as it is on a CPU, and one with CUDA's buckets."""
    llm = {**TINY_LLM, 'num_key_value_heads': 2, 'max_position_embeddings': 64}
    path = write_random_checkpoint(tmp_path_factory.mktemp('llm'), llm=llm)
    plain, padded = (TorchLanguage(Checkpoint.open(path), CPU, torch.float32) for _ in range(2))
    padded.passes._bucketed, padded.passes.ahead = True, 8
    return plain, padded


@pytest.fixture(scope='module')
def ways(engines):
    """Give each way to generate with its greedy answer."""
    plain, _ = engines
    image = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))

    def way(engine, decoding):
        def generate(drafter):
            return engine.generate(IDS, image, replace_drafter(decoding, drafter))

        return generate, plain.generate(IDS, image, decoding)

    return [way(engine, decoding) for engine in engines for decoding in DECODINGS]


def replace_drafter(decoding, drafter):
    return Decoding(**{**vars(decoding), 'drafter': drafter})


def test_the_answers_differ_as_much_as_the_test_needs(ways):
    greedy = [found for _, found in ways[: len(DECODINGS)]]
    assert len({tuple(found.ids) for found in greedy}) >= 4
    assert any(found.out_of_range for found in greedy)
    # The context has 64 positions, and no token follows the last.
    assert len(greedy[-1].ids) == 64 - len(IDS) - 16 + 1


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(index=strategies.integers(0, 2 * len(DECODINGS) - 1), plan=PLANS)
def test_any_draft_leaves_the_answer_as_it_is(ways, index, plan):
    generate, greedy = ways[index]
    drafter = Planned(plan, greedy.ids)
    found = generate(drafter)
    assert (found.ids, found.out_of_range) == (greedy.ids, greedy.out_of_range)
    assert 1 <= found.passes <= greedy.passes + 8  # ahead of the host, as on CUDA
    if all(kind == 'right' and number for kind, number in plan):
        assert found.passes < max(2, len(greedy.ids))


@pytest.mark.parametrize('index', range(len(DECODINGS)))
def test_the_previous_answer_leaves_the_answer_as_it_is(engines, index):
    generator = torch.Generator().manual_seed(index)
    first, second = (torch.randn(16, 32, generator=generator) for _ in range(2))
    greedy = passes = 0
    for engine in engines:
        drafter = PreviousAnswer(31)
        # From one image to another, and back.
        for share in (0.0, 0.001, 0.002, 0.1, 0.2, 1.0, 1.0, 0.0, 0.0):
            image = (1 - share) * first + share * second
            wanted = engines[0].generate(IDS, image, DECODINGS[index])
            drafter.begin()
            found = engine.generate(IDS, image, replace_drafter(DECODINGS[index], drafter))
            drafter.keep(found.ids)
            assert (found.ids, found.out_of_range) == (wanted.ids, wanted.out_of_range)
            greedy, passes = greedy + len(wanted.ids), passes + found.passes
    assert passes < 0.8 * greedy


def test_a_drafter_is_told_what_each_row_chose(ways):
    generate, greedy = ways[0]
    drafter = Planned([('replaced', 2)], greedy.ids)
    told = []
    drafter.observe = told.append
    assert generate(drafter).ids == greedy.ids
    assert told[0][:3] == greedy.ids[:3]
    assert len(told[0]) == len(greedy.ids)
    assert len(told) == drafter.drafts
