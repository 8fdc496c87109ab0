from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
import torch

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.statistics import read_statistics
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.errors import OutputError
from trt_openvla_ros.policy import Policy
from trt_openvla_ros.policy.actions import ActionTokens
from trt_openvla_ros.policy.prompt import PROMPT_STYLES
from trt_openvla_ros.policy.reasoning import parse_fields
from trt_openvla_ros.sim.goals import SHAPES
from trt_openvla_ros.training import loop
from trt_openvla_ros.training.demonstrations import demonstrations, LOOKS
from trt_openvla_ros.training.export import text_config
from trt_openvla_ros.training.language import blurred_targets, Student
from trt_openvla_ros.training.lessons import action_statistics, normalise, Teacher
from trt_openvla_ros.training.recipes import IMAGE_SIZE, PATCH_ROWS
from trt_openvla_ros.training.towers import patch_labels
from trt_openvla_ros.training.train_tiny import main, make_checkpoint, sentences
from trt_openvla_ros.training.vocabulary import BINS, write_vocabulary


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    return tmp_path_factory.mktemp('training')


@pytest.fixture(scope='module')
def demos(work):
    return demonstrations(work / 'demonstrations', 3, IMAGE_SIZE, workers=1)


@pytest.fixture(scope='module')
def tokenizer(work, demos):
    write_vocabulary(work / 'vocabulary', sentences(demos, 100, seed=0))
    return Tokenizer(work / 'vocabulary')


def test_both_tokenizer_files_say_the_same(work, demos, tokenizer):
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(work / 'vocabulary/tokenizer.model')
    )
    texts = [*sentences(demos, 30, seed=1), 'MOVE: move left [7, 12, 255, 256] 1000 é\n', ' a  b']
    for text in texts:
        assert tokenizer.encode(text)[1:] == pieces.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text.strip()


def test_numbers_are_one_token_and_the_last_tokens_are_free_for_actions(demos, tokenizer):
    spelled = tokenizer.encode('x [7, 123, 255]')[1:]
    assert [tokenizer.piece_id(p) for p in ('▁[7', ',', '▁123', ',', '▁255', ']')] == spelled[-6:]
    first_action = tokenizer.vocab_size - BINS
    for text in sentences(demos, 30, seed=1):
        assert max(tokenizer.encode(text)) < first_action
    assert tokenizer.vocab_size % 64 == 0


def test_a_target_is_spread_over_neighbouring_numbers_only(tokenizer):
    target = blurred_targets(tokenizer.vocab_size + 64, tokenizer)
    assert torch.allclose(target.sum(1), torch.ones(len(target)))
    number = tokenizer.piece_id('▁100')
    near = target[number].nonzero().flatten()
    assert tokenizer.piece_id('▁99') in near
    assert target[number].argmax() == number
    assert target[tokenizer.eos_id].nonzero().flatten().tolist() == [tokenizer.eos_id]


def test_normalising_is_the_inverse_of_what_the_policy_does(demos):
    statistics = read_statistics(action_statistics(demos, 0), 'demos')
    actions = np.array([[0.01, -0.02, 0.03, 0, 0, 0, 1], [-0.04, 0.04, 0, 0, 0, 0, 0]])
    back = [statistics.unnormalise(normalise(action, statistics)) for action in actions]
    assert np.allclose(back, actions, atol=1e-12)


@pytest.fixture(scope='module', params=['openvla', 'vicuna'])
def teacher(request, demos, tokenizer):
    statistics = read_statistics(action_statistics(demos, 0), 'demos')
    looks, _ = patch_labels(demos, PATCH_ROWS)
    return Teacher(demos, request.param, tokenizer, statistics, looks, seed=0)


def test_goals_that_share_a_row_do_not_see_each_other(teacher):
    torch.manual_seed(0)
    student = Student(text_config(teacher.tokenizer.vocab_size), 8, towers=1).eval()
    lesson = teacher.lesson(0, 1, 3)
    features = torch.randn(1, PATCH_ROWS**2, 8)
    with torch.inference_mode():
        together = [part.clone() for part in student(features, lesson)]
        segment = lesson.segments[0]
        for goal in (1, 2, 3):
            kept = (segment == 0) | (segment == goal)
            place = kept.cumsum(0) - 1
            mine = segment[lesson.columns] == goal
            named = segment[lesson.mention_columns] == goal
            alone = replace(
                lesson,
                ids=lesson.ids[:, kept],
                positions=lesson.positions[:, kept],
                segments=lesson.segments[:, kept],
                rows=lesson.rows[mine],
                columns=place[lesson.columns[mine]],
                mention_rows=lesson.mention_rows[named],
                mention_columns=place[lesson.mention_columns[named]],
            )
            answers = student(features, alone)
            for whole, part, of in zip(together, answers, (mine, mine, named), strict=True):
                assert torch.allclose(whole[of], part, atol=1e-4)


def test_answers_are_what_the_policy_reads_back(teacher):
    lesson = teacher.lesson(1, 4, 2)
    ends = (lesson.labels == teacher.tokenizer.eos_id).nonzero().flatten().tolist()
    begin = 0
    for end in ends:
        answer = lesson.labels[begin:end].tolist()
        begin = end + 1
        tokens = ActionTokens(teacher.tokenizer.vocab_size)
        assert np.abs(tokens.decode(np.array(answer[-7:]))).max() <= 1
        if PROMPT_STYLES[teacher.style].reasons:
            text = teacher.tokenizer.decode(answer[:-7])
            assert {'PLAN', 'VISIBLE OBJECTS', 'MOVE'} <= set(parse_fields(text))


def test_mentions_are_where_an_object_is_named(teacher):
    lesson = teacher.lesson(2, 2, 2)
    first = [0, *(lesson.mention_columns.diff() != 1).nonzero().flatten().add(1).tolist()]
    for at in first:
        row, column = lesson.mention_rows[at], lesson.mention_columns[at]
        text = teacher.tokenizer.decode(lesson.ids[row, max(0, column - 4) : column + 1].tolist())
        colour, shape = LOOKS[lesson.named[at]]
        assert text.endswith(tuple(f'{colour} {word}' for word in SHAPES[shape])), text


def test_every_object_of_a_picture_is_in_a_patch(demos):
    looks, _ = patch_labels(demos, PATCH_ROWS)
    seen = [set(row) for row in looks]
    there = [set(row[row >= 0]) for row in demos.looks]
    found = sum(len(s & t) for s, t in zip(seen, there, strict=True))
    assert found >= 0.95 * sum(map(len, there))


def test_an_interrupted_training_ends_like_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, '_SAVE', 0.0)

    def trained(progress, interrupted_at):
        def losses_of(step):
            if step == interrupted_at:
                raise KeyboardInterrupt
            inputs = torch.from_numpy(np.random.default_rng(step).normal(size=(4, 3))).float()
            return {'square': module(inputs).square().mean()}

        torch.manual_seed(0)
        module = torch.nn.Linear(3, 2)
        loop.train(module, losses_of, 20, 0.1, progress)
        return module.weight.detach()

    whole = trained(tmp_path / 'whole.pt', None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / 'parts.pt', 11)
    assert torch.equal(trained(tmp_path / 'parts.pt', None), whole)


def test_from_nothing_to_both_checkpoints(work, demos, tokenizer):
    places = ['--work', str(work), '--out', str(work / 'models')]
    with pytest.raises(SystemExit) as ended:
        main([*places, '--episodes', '3', '--steps', '2'])
    assert not ended.value.code
    for name, towers in (('tiny_openvla', 2), ('tiny_ecot', 1)):
        checkpoint = Checkpoint.open(work / 'models' / name)
        assert len(checkpoint.towers) == towers
        policy = Policy.from_checkpoint(work / 'models' / name)
        assert policy.description.unnorm_key == 'tabletop_sim'
    policy = Policy.from_checkpoint(work / 'models/tiny_openvla')
    image = np.zeros((256, 256, 3), np.uint8)
    # Two steps teach no action token, and an action that was not meant is none.
    with pytest.raises(OutputError, match='tokens were forced'):
        policy.predict(image, 'push the red block left')


def test_training_goes_on_from_a_checkpoint_that_was_written(work, demos):
    before = work / 'models'
    make_checkpoint('tiny_ecot', demos, work, before, steps=2, seed=0)
    make_checkpoint('tiny_ecot', demos, work, work / 'after', steps=2, seed=0, start=before)
    was, now = (
        dict(Checkpoint.open(d / 'tiny_ecot').tensors('')) for d in (before, work / 'after')
    )
    assert set(was) == set(now)
    same = {name for name in was if torch.equal(was[name], now[name])}
    tower = 'vision_backbone.featurizer.blocks.0.'
    assert {name for name in was if name.startswith(tower)} <= same
    assert 'projector.fc1.weight' not in same
    # It went on: what moved in two steps is little of what was there.
    moved = now['projector.fc1.weight'].float() - was['projector.fc1.weight'].float()
    assert moved.abs().mean() < 0.1 * was['projector.fc1.weight'].float().abs().mean()
    config = [(d / 'tiny_ecot/config.json').read_text() for d in (before, work / 'after')]
    assert config[0] == config[1]
    Policy.from_checkpoint(work / 'after/tiny_ecot')
