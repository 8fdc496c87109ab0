"""What a policy keeps between steps: drafts change no answer, kept reasoning is a part of it."""

from pathlib import Path

import numpy as np
import pytest

from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.errors import ConfigError, OutputError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.memory import boundaries, high_level, Memory
from trt_openvla_ros.policy.reasoning import TAGS
from trt_openvla_ros.sim.world import World

TASK = 'reach the blue cylinder'
TOKENIZERS = ['models/tiny_ecot', 'test/data/golden/fused']
TEXT = (
    'push the can PLAN: lower, push VISIBLE OBJECTS: can [1, 22, 133, 4], cup [5, 66, 7, 8] '
    'SUBTASK REASONING: the can is near SUBTASK: push the can MOVE REASONING: the gripper is here '
    'MOVE: move left GRIPPER POSITION: [12, 3] ACTION:'
)


def ecot(**settings):
    return Policy.from_checkpoint('models/tiny_ecot', **settings)


@pytest.fixture(scope='module')
def plain():
    return ecot(draft_tokens=0)


@pytest.fixture(scope='module')
def images(plain):
    # torch is loaded before a renderer, whose LLVM does not stand another one behind it.
    world = World()
    world.reset(1_000_000)
    found = []
    for _ in range(4):
        found.append(world.image())
        world.step(np.array([-0.02, 0.02, 0, 0, 0, 0, 1.0]))
    world.close()
    return found


@pytest.fixture(scope='module')
def greedy(plain, images):
    return [plain.predict(image, TASK) for image in images]


@pytest.mark.parametrize('path', TOKENIZERS)
def test_high_level_reasoning_ends_before_move_reasoning(path):
    tokenizer = Tokenizer(Path(path))
    ids = tokenizer.encode(TEXT)[1:]
    kept = high_level(tokenizer, ids)
    assert tokenizer.decode(kept) == TEXT.partition(' MOVE REASONING:')[0]
    assert ids[: len(kept)] == kept
    assert high_level(tokenizer, kept) == []
    assert high_level(tokenizer, []) == []


@pytest.mark.parametrize('path', TOKENIZERS)
def test_boundaries_are_tags_and_separators_and_no_numbers(path):
    tokenizer = Tokenizer(Path(path))
    found = boundaries(tokenizer)
    ids = tokenizer.encode('PLAN: lower, MOVE: [1')[1:]
    pieces = {tokenizer.decode([i]).strip() for i in found & set(ids)}
    assert {',', ':'} <= pieces
    numbers = {i for text in ('1', ' 22', '[133') for i in tokenizer.encode(text)[1:]}
    assert not {i for i in numbers if tokenizer.decode([i]).strip('[ ').isdigit()} & found
    assert not {tokenizer.bos_id, tokenizer.eos_id, tokenizer.empty_piece_id} & found


def test_reasoning_is_kept_for_as_many_steps_as_asked():
    tokenizer = Tokenizer(Path(TOKENIZERS[0]))
    ids = tokenizer.encode(TEXT)[1:]
    head = high_level(tokenizer, ids)
    memory = Memory(tokenizer, 0, 2)
    found = []
    for _ in range(7):
        found.append(memory.begin('a'))
        memory.end(ids)
    assert found == [[], head, head, [], head, head, []]
    assert memory.begin('b') == []
    memory.end(ids)
    assert memory.begin('b') == head
    # This step failed, so nothing of it is kept.
    assert memory.begin('b') == []


def test_drafts_change_nothing_and_take_fewer_passes(images, greedy):
    policy = ecot()
    for index, (image, wanted) in enumerate(zip(images, greedy, strict=True)):
        found = policy.predict(image, TASK)
        assert found.generated_ids.tolist() == wanted.generated_ids.tolist()
        assert found.actions.tolist() == wanted.actions.tolist()
        assert wanted.passes == len(wanted.generated_ids)
        assert found.passes < 0.5 * wanted.passes if index else found.passes == wanted.passes


def test_an_action_without_reasoning_is_drafted_too(images):
    policy, plain = (Policy.from_checkpoint('models/tiny_openvla', draft_tokens=n) for n in (8, 0))
    for image in [*images, images[-1]]:
        found, wanted = policy.predict(image, TASK), plain.predict(image, TASK)
        assert found.generated_ids.tolist() == wanted.generated_ids.tolist()
        assert wanted.passes == 7
    assert found.passes < 7


def test_kept_reasoning_is_a_part_of_the_prediction(images, greedy):
    policy, told = ecot(keep_reasoning=2), []
    first = policy.predict(images[0], TASK)
    assert first.generated_ids.tolist() == greedy[0].generated_ids.tolist()
    second = policy.predict(images[1], TASK, on_reasoning=told.append)
    head = first.reasoning.partition(' MOVE REASONING:')[0]
    assert second.reasoning.startswith(f'{head} MOVE REASONING:')
    assert set(second.reasoning_fields) == set(TAGS)
    assert told[0].startswith(head)
    assert told[-1] == second.reasoning
    # Prompt, answer and transcript tell the same.
    decode = policy.spec.prompter.tokenizer.decode
    assert decode(second.generated_ids[:-7]).startswith(second.reasoning)
    assert second.transcript.ids[-len(second.generated_ids) :].tolist() == (
        second.generated_ids.tolist()
    )
    assert second.prompt == first.prompt
    # The boxes are old, and the rest is of this image.
    assert second.reasoning_fields['VISIBLE OBJECTS'] == first.reasoning_fields['VISIBLE OBJECTS']
    assert second.passes < len(second.generated_ids) - len(head.split())
    assert policy.predict(images[2], 'reach the red ball').reasoning.startswith('move to the red')


def test_kept_reasoning_without_drafts_is_not_written_again(images):
    policy = ecot(keep_reasoning=1, draft_tokens=0)
    first, second, third = (policy.predict(image, TASK) for image in images[:3])
    assert first.passes == len(first.generated_ids)
    assert second.passes < 0.6 * len(second.generated_ids)
    assert third.passes == len(third.generated_ids)


def test_a_step_that_failed_does_not_disturb_the_next(images, greedy):
    policy = ecot(keep_reasoning=3)
    policy.predict(images[0], TASK)
    generate = policy.engines.language.generate

    def fail(*args):
        generate(*args)
        raise OutputError('the model gave nan')

    policy.engines.language.generate = fail
    with pytest.raises(OutputError):
        policy.predict(images[1], TASK)
    policy.engines.language.generate = generate
    found = policy.predict(images[2], TASK)
    assert found.generated_ids.tolist() == greedy[2].generated_ids.tolist()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match='draft_tokens is -1'):
        ecot(draft_tokens=-1)
    with pytest.raises(ConfigError, match='keep_reasoning is -1'):
        ecot(keep_reasoning=-1)
    with pytest.raises(ConfigError, match=r'keep_reasoning is 5.*tensorrt_llm'):
        ecot(keep_reasoning=5, engine='tensorrt_llm')
