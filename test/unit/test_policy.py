import json
import shutil

import numpy as np
import pytest
import torch

from trt_openvla_ros.engines.base import Generation
from trt_openvla_ros.errors import ConfigError, EngineError, InputError, OutputError
from trt_openvla_ros.policy import Policy

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def prefer_text(tensors):
    """Put the head's action rows where no argmax finds them."""
    tensors['language_model.lm_head.weight'][31744:32000] *= 1e-3
    tensors['language_model.lm_head.weight'][100:31000] += torch.randn(30900, 32).bfloat16()


def test_unknown_key_lists_all_keys_with_their_ranges(golden_dir):
    with pytest.raises(ConfigError) as error:
        Policy.from_checkpoint(golden_dir / 'fused', 'bridge', device='cpu')
    for part in (
        "'bridge'",
        'toy_arm: [-0.0287, 0.0283]',
        'other_arm: [-1, 1]',
        "data set's units",
    ):
        assert part in str(error.value)


def test_a_key_is_needed_where_there_are_several(golden_dir):
    with pytest.raises(ConfigError, match='no unnorm_key for'):
        Policy.from_checkpoint(golden_dir / 'fused', device='cpu')


def test_a_refused_key_changes_nothing(fused):
    with pytest.raises(ConfigError):
        fused.predict(IMAGE, 'pick up the cup', 'nobody')
    assert fused.predict(IMAGE, 'pick up the cup').unnorm_key == 'toy_arm'


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ({'engine': 'tensorflow'}, "unknown engine 'tensorflow'; known: torch"),
        ({'dtype': 'int8'}, "unknown dtype 'int8'"),
        ({'device': 'abacus'}, "device 'abacus' cannot be used"),
        ({'device': 'meta'}, "device 'meta' cannot be used"),
        ({'max_new_tokens': 0}, 'max_new_tokens is 0'),
        ({'prompt_style': 'haiku'}, "unknown prompt_style 'haiku'"),
    ],
)
def test_impossible_argument_is_named(golden_dir, arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', **{'device': 'cpu', **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_missing_gpu_is_named(golden_dir):
    with pytest.raises(EngineError, match='torch sees 0 GPUs'):
        Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', device='cuda')


def test_text_instead_of_an_action_never_becomes_one(edited_checkpoint):
    policy = Policy.from_checkpoint(
        edited_checkpoint('fused', prefer_text), 'toy_arm', device='cpu', constrain=False
    )
    with pytest.raises(OutputError, match='31744 to 31999'):
        policy.predict(IMAGE, 'pick up the cup')


def test_an_action_that_the_constraint_made_is_none(edited_checkpoint):
    def no_action_token(tensors):
        tensors['language_model.lm_head.weight'][31744:32000] = 0

    path = edited_checkpoint('fused', no_action_token)
    for allowed in ({}, {'max_forced_tokens': 6}, {'max_forced_tokens': 255}):
        policy = Policy.from_checkpoint(path, 'toy_arm', device='cpu', **allowed)
        with pytest.raises(OutputError, match=r'7 of 7 action tokens were forced.*prompt_style'):
            policy.predict(IMAGE, 'pick up the cup')


def test_some_forced_tokens_pass_if_they_are_allowed(golden_dir):
    def predict(**allowed):
        # Random weights, asked in a style that is not theirs, begin some tokens as text.
        style = {'prompt_style': 'openvla', 'device': 'cpu'}
        policy = Policy.from_checkpoint(golden_dir / 'single', 'toy_arm', **style, **allowed)
        return policy.predict(IMAGE, 'pick up the cup')

    prediction = predict(max_forced_tokens=6)
    forced = prediction.out_of_range
    assert 1 < forced < 7
    assert predict(max_forced_tokens=forced).out_of_range == forced
    for allowed in ({}, {'max_forced_tokens': forced - 1}):
        most = allowed.get('max_forced_tokens', 0)
        with pytest.raises(OutputError, match=f'{forced} of 7 .* max_forced_tokens is {most}'):
            predict(**allowed)


def test_a_whole_prompt_gives_the_action_of_its_instruction(fused):
    wanted = fused.predict(IMAGE, 'pick up the cup')
    for text in (wanted.prompt, f' {wanted.prompt} \n', wanted.prompt.replace('\n', '\r\n')):
        fused.check(text)
        found = fused.predict(IMAGE, text)
        assert found.prompt == wanted.prompt
        np.testing.assert_array_equal(found.action, wanted.action)
    with pytest.raises(InputError, match='give the instruction alone'):
        fused.check(f'{wanted.prompt} USER:')


def test_a_confident_model_is_not_out_of_range(fused):
    assert fused.predict(IMAGE, 'pick up the cup').out_of_range == 0


def test_reasoning_that_never_reaches_an_action_is_an_error(single):
    with pytest.raises(OutputError, match='without reaching an action'):
        single.predict(IMAGE, 'pick up the cup')


def test_reasoning_and_action_are_told_apart(single, monkeypatch):
    tokenizer = single.spec.prompter.tokenizer
    text = ' move it. PLAN: reach MOVE: move left ACTION:'
    action = single.spec.tokens.encode(np.linspace(-0.9, 0.9, 7)).tolist()
    ids = [*tokenizer.encode(text)[1:], tokenizer.empty_piece_id, *action, tokenizer.eos_id]
    monkeypatch.setattr(
        single.engines.language, 'generate', lambda *arguments: Generation(ids, 0, 0.0, 0.0)
    )
    prediction = single.predict(IMAGE, 'pick up the cup')
    assert prediction.reasoning_fields == {
        'TASK': 'move it.',
        'PLAN': 'reach',
        'MOVE': 'move left',
    }
    np.testing.assert_allclose(prediction.normalised_action, np.linspace(-0.9, 0.9, 7), atol=4e-3)


def test_broken_weights_are_refused_at_start(edited_checkpoint):
    def poison(tensors):
        tensors['language_model.model.norm.weight'][0] = torch.nan

    with pytest.raises(EngineError, match='not finite'):
        Policy.from_checkpoint(edited_checkpoint('fused', poison), 'toy_arm', device='cpu')


@pytest.mark.parametrize(
    ('part', 'reason'),
    [('vision', 'have the same image embeddings'), ('language', 'lead to the same logits')],
)
def test_a_policy_that_does_not_see_is_refused_at_start(edited_checkpoint, part, reason):
    def blind(tensors):
        if part == 'vision':
            tensors['projector.fc1.weight'].zero_()
            return
        # Attention's output is what carries the image to the last position.
        for name, tensor in tensors.items():
            if name.endswith('self_attn.o_proj.weight'):
                tensor.zero_()

    with pytest.raises(EngineError, match=reason):
        Policy.from_checkpoint(edited_checkpoint('fused', blind), 'toy_arm', device='cpu')


def test_explicit_prompt_style_wins(golden_dir):
    policy = Policy.from_checkpoint(
        golden_dir / 'single',
        'toy_arm',
        device='cpu',
        prompt_style='openvla',
        max_forced_tokens=6,
    )
    prediction = policy.predict(IMAGE, 'Pick up the CUP.')
    assert prediction.prompt == 'In: What action should the robot take to pick up the cup?\nOut:'
    assert prediction.reasoning == ''


def test_tokenizer_of_another_checkpoint_is_refused(golden_dir, tmp_path):
    path = tmp_path / 'mixed'
    shutil.copytree(golden_dir / 'single', path, copy_function=shutil.copyfile)
    shutil.copyfile(golden_dir / 'fused' / 'tokenizer.json', path / 'tokenizer.json')
    with pytest.raises(ConfigError, match='not of one checkpoint'):
        Policy.from_checkpoint(path, 'toy_arm', device='cpu')


def test_action_length_follows_from_the_statistics(golden_dir, tmp_path):
    path = tmp_path / 'short'
    shutil.copytree(golden_dir / 'fused', path, copy_function=shutil.copyfile)
    stats = {'planar': {'action': {'q01': [-1.0] * 3, 'q99': [1.0] * 3}}}
    (path / 'dataset_statistics.json').write_text(json.dumps(stats))
    prediction = Policy.from_checkpoint(path, device='cpu').predict(IMAGE, 'go')
    assert prediction.action.shape == prediction.action_ids.shape == (3,)


def test_a_gpu_that_is_full_while_loading_is_a_sentence(golden_dir, monkeypatch):
    def fail(*arguments):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 13.00 GiB')

    monkeypatch.setattr('trt_openvla_ros.engines.torch.language.TorchLanguage.__init__', fail)
    with pytest.raises(EngineError, match=r'CUDA out of memory.*load the policy again'):
        Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', device='cpu')


def test_a_closed_policy_says_so(golden_dir):
    policy = Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', device='cpu')
    policy.close()
    with pytest.raises(EngineError, match='closed'):
        policy.predict(IMAGE, 'pick up the cup')


def test_a_backend_that_fails_while_it_checks_is_a_sentence(golden_dir, monkeypatch):
    def fail(*arguments):
        raise RuntimeError('CUDA error: no device')

    monkeypatch.setattr('trt_openvla_ros.engines.placement.resolve_placement', fail)
    with pytest.raises(EngineError, match=r'no device.*load the policy again'):
        Policy.from_checkpoint(golden_dir / 'fused', 'toy_arm', device='cpu')
