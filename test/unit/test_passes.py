"""The static passes of the torch language engine: what CUDA captures, called plainly on a CPU."""

from dataclasses import replace

import numpy as np
import pytest
from random_checkpoint import TINY_LLM, write_random_checkpoint
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.torch import passes
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.engines.torch.linears import Dense
from trt_openvla_ros.engines.torch.llama_weights import LayerWeights, LlamaWeights
from trt_openvla_ros.policy import Policy

IDS = [1, 512, 29901, 1724, 3158, 29871]
ACTIONS = (31744, 32000)
CPU = torch.device('cpu')


def as_on_cuda(engine):
    """Pad to buckets and look ahead as on CUDA."""
    engine.passes._bucketed, engine.passes.ahead = True, 8
    return engine


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    llm = {**TINY_LLM, 'num_key_value_heads': 2, 'max_position_embeddings': 120}
    return Checkpoint.open(write_random_checkpoint(tmp_path_factory.mktemp('llm'), llm=llm))


@pytest.fixture(scope='module')
def embeddings():
    return torch.randn(16, 32, generator=torch.Generator().manual_seed(0))


def begin_at(count):
    return Decoding(
        60, 2, ACTIONS, 7, action_begins=lambda ids: len(ids) >= count, action_first=False
    )


DECODINGS = {
    'text': Decoding(60, 2),
    'action': Decoding(7, 2, ACTIONS, 7),
    'free action': Decoding(7, 2, ACTIONS, 7, constrain=False),
    'to the end of the context': Decoding(1000, 2),
    **{f'action after {n}': replace(begin_at(n), actions=(20000, 32000)) for n in (0, 3, 8, 9)},
}


@pytest.mark.parametrize('name', DECODINGS)
def test_buckets_and_looking_ahead_change_nothing(checkpoint, embeddings, name):
    plain = TorchLanguage(checkpoint, CPU, torch.float32)
    static = as_on_cuda(TorchLanguage(checkpoint, CPU, torch.float32))
    for length in (2, 5, 6):
        for decoding in (DECODINGS[name], DECODINGS['action']):
            expected = plain.generate(IDS[:length], embeddings, decoding)
            found = static.generate(IDS[:length], embeddings, decoding)
            assert (found.ids, found.out_of_range) == (expected.ids, expected.out_of_range)
            assert expected.passes == len(expected.ids)


@pytest.mark.parametrize('name', ['text', 'action', 'action after 3'])
def test_what_is_prepared_is_all_that_is_needed(checkpoint, embeddings, name):
    static = as_on_cuda(TorchLanguage(checkpoint, CPU, torch.float32))
    decoding = replace(DECODINGS[name], drafter=Script([5] * 9), max_new_tokens=20)
    static.prepare(IDS[:3], embeddings, decoding)
    captured, cache = set(static.passes._runs), static.passes.llama.cache
    for length in (3, 6):
        static.generate(IDS[:length], embeddings, decoding)
        static.generate(IDS[:length], embeddings, replace(decoding, drafter=None))
    assert set(static.passes._runs) == captured
    assert static.passes.llama.cache is cache


def warmed(run, device, memory):
    """Do what a capture does: run twice before, and give what runs as often as it is called."""
    for _ in range(2):
        run()
    return run


@pytest.mark.parametrize('name', DECODINGS)
def test_a_capture_in_the_middle_of_an_answer_changes_nothing(
    checkpoint, embeddings, name, monkeypatch
):
    expected = TorchLanguage(checkpoint, CPU, torch.float32)
    expected = expected.generate(IDS, embeddings, DECODINGS[name])
    monkeypatch.setattr(passes, 'captured', warmed)
    for drafter in (None, Script(expected.ids[:5]), Script([5] * 9)):
        static = as_on_cuda(TorchLanguage(checkpoint, CPU, torch.float32))
        decoding = replace(DECODINGS[name], drafter=drafter)
        found = static.generate(IDS, embeddings, decoding)
        assert (found.ids, found.out_of_range) == (expected.ids, expected.out_of_range)


def test_an_action_of_seven_waits_once(checkpoint, embeddings, monkeypatch):
    static = as_on_cuda(TorchLanguage(checkpoint, CPU, torch.float32))
    reads = []
    read = static.passes.read
    monkeypatch.setattr(static.passes, 'read', lambda *args: reads.append(args) or read(*args))
    assert static.generate(IDS, embeddings, DECODINGS['action']).passes == 7
    assert reads == [(7, True)]


@pytest.mark.parametrize('model', ['tiny_openvla', 'tiny_ecot'])
def test_tiny_checkpoints_act_the_same(model):
    plain, static = (Policy.from_checkpoint(f'models/{model}') for _ in range(2))
    as_on_cuda(static.engines.language)
    rng = np.random.default_rng(0)
    for text in ('reach the red cube', 'push the blue cube'):
        image = rng.integers(0, 256, (240, 320, 3), np.uint8)
        answers = []
        for policy in (plain, static):
            embeddings = policy.engines.vision.encode(policy.spec.views(image))
            _, ids = policy.spec.prompter(text)
            decoding = policy.spec.decoding(policy.description.find(None)[1])
            answers.append(policy.engines.language.generate(ids, embeddings, decoding).ids)
        assert answers[0] == answers[1]


def test_a_longer_sequence_keeps_what_is_cached(checkpoint, embeddings):
    engine = TorchLanguage(checkpoint, CPU, torch.float32)
    engine.prefill(IDS, embeddings)
    expected = engine.step(7, 22)
    engine.prefill(IDS, embeddings)
    engine.passes.reserve(1000)
    torch.testing.assert_close(engine.step(7, 22), expected, rtol=0, atol=1e-5)


class Script:
    """A drafter that proposes what a list says."""

    def __init__(self, answer, most=10):
        self.answer, self.most = answer, most

    def propose(self, ids):
        return self.answer[len(ids) : len(ids) + self.most]


@pytest.mark.parametrize('name', DECODINGS)
@pytest.mark.parametrize('cuda', [False, True])
def test_a_draft_saves_passes_and_changes_nothing(checkpoint, embeddings, name, cuda):
    engine = TorchLanguage(checkpoint, CPU, torch.float32)
    decoding = DECODINGS[name]
    greedy = engine.generate(IDS, embeddings, decoding)
    if cuda:
        as_on_cuda(engine)
    wrong = [i + 1 for i in greedy.ids]
    mixed = [i + (n % 5 == 3) for n, i in enumerate(greedy.ids)]
    for draft, most in ((greedy.ids, 10), (greedy.ids, 500), (wrong, 10), (mixed, 10), ([], 1)):
        drafter = Script(draft, most)
        found = engine.generate(IDS, embeddings, replace(decoding, drafter=drafter))
        assert (found.ids, found.out_of_range) == (greedy.ids, greedy.out_of_range)
        if draft is greedy.ids:
            assert found.passes <= -(-len(greedy.ids) // min(most + 1, passes.MOST_ROWS))


def fake_weights(config):
    def weight(*shape):
        return torch.empty(*shape, device='cuda', dtype=torch.bfloat16)

    c, heads = config, config.num_heads + 2 * config.num_kv_heads
    layers = [
        LayerWeights(
            input_norm=weight(c.hidden_size),
            qkv=Dense(weight(heads * c.head_dim, c.hidden_size)),
            out=Dense(weight(c.hidden_size, c.query_width)),
            mlp_norm=weight(c.hidden_size),
            gate_up=Dense(weight(2 * c.intermediate_size, c.hidden_size)),
            down=Dense(weight(c.hidden_size, c.intermediate_size)),
        )
        for _ in range(c.num_layers)
    ]
    vocabulary = weight(c.vocab_size, c.hidden_size)
    return LlamaWeights(vocabulary, layers, weight(c.hidden_size), vocabulary)


def test_no_pass_waits_for_the_host(checkpoint, monkeypatch):
    """Fake CUDA tensors have no values: whoever looks at one gets an exception."""
    monkeypatch.setattr(passes, 'captured', lambda run, device, memory: run)
    cuda = torch.device('cuda')
    with FakeTensorMode():
        config = checkpoint.llm
        run = passes.Passes(config, fake_weights(config), cuda, torch.bfloat16)
        run.reserve(200)
        image = torch.empty(16, config.hidden_size, device=cuda, dtype=torch.bfloat16)
        for actions, constrained in ((ACTIONS, True), (ACTIONS, False), (None, False)):
            run.prompt(IDS, image, (), actions, constrained)
            for _ in range(6):
                run.step(actions, constrained)
            run.prompt(IDS, image, (5, 6, 7), actions, constrained)
            run.verify(5, (6, 7, 8), 30, actions)
            run.resume(5, 30)
        run.capture(IDS, image, ACTIONS, [False, True], drafts=True)
        with pytest.raises(DataDependentOutputException):
            run.read(7, True)
