from contextlib import suppress
import json
from pathlib import Path
import shutil
import time

import pytest

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.errors import ConfigError, InputError
from trt_openvla_ros.policy.prompt import (
    make_prompt,
    MAX_INSTRUCTION,
    normalise_instruction,
    prompt_style_of,
    PROMPT_STYLES,
    Prompter,
    refuse_special,
)
from trt_openvla_ros.policy.spec import ModelSpec

# Of the released tokenizer of openvla-7b; only with --tokenizer-dir, because it is not free.
_V01 = (
    '1 319 13563 1546 263 12758 1404 322 385 23116 21082 20255 29889 450 20255 4076 8444 '
    '29892 13173 29892 322 1248 568 6089 304 278 1404 29915 29879 5155 29889 3148 1001 29901 '
    '1724 3158 881 278 19964 2125 304 2058 278 16699 837 295 265 373 278 304 20466 29973 319 '
    '1799 9047 13566 29901'
)
LLAMA_IDS = {
    ('openvla', 'put spoon on towel'): (
        '1 512 29901 1724 3158 881 278 19964 2125 304 1925 805 6150 373 304 20466 29973 13 3744 '
        '29901 29871'
    ),
    ('vicuna_v01', 'place the watermelon on the towel'): _V01 + ' 29871',
    ('vicuna', 'place the watermelon on the towel'): _V01 + ' 323 3289 29968 29901',
}


@pytest.fixture
def released(request):
    directory = request.config.getoption('--tokenizer-dir')
    if not directory:
        pytest.skip("give --tokenizer-dir with openvla-7b's tokenizer to test its ids")
    return Tokenizer(Path(directory))


@pytest.mark.may_skip
@pytest.mark.parametrize(('style', 'instruction'), LLAMA_IDS)
def test_ids_of_the_released_tokenizer(released, style, instruction):
    _, ids = Prompter(released, PROMPT_STYLES[style])(instruction)
    assert ids == [int(i) for i in LLAMA_IDS[style, instruction].split()]


@pytest.mark.may_skip
def test_action_tokens_of_the_released_tokenizer(released):
    assert (released.vocab_size, released.empty_piece_id) == (32000, 29871)
    pieces = {31743: '\u028e', 31744: '忠', 31745: '错', 31872: 'Ÿ', 31998: '弘', 31999: '给'}
    assert {i: released.decode([i]) for i in pieces} == pieces
    action = ''.join(pieces[i] for i in (31744, 31745, 31872, 31998, 31999))
    ids = released.encode(f' ACTION: {action}')
    assert ids[-9:] == [319, 9838, 29901, 29871, 31744, 31745, 31872, 31998, 31999]


@pytest.mark.parametrize(
    ('raw', 'expected'),
    [
        ('Put the Spoon on the TOWEL', 'put the spoon on the towel'),
        ('  pick  up\tthe\ncup.  ', 'pick up the cup'),
        ('stop...', 'stop'),
        ('move\x00 to\u200b it', 'move to it'),
        ('is it 1.5 m?', 'is it 1.5 m?'),
        ('mets la tasse À droite', 'mets la tasse à droite'),
    ],
)
def test_normalise_instruction(raw, expected):
    assert normalise_instruction(raw) == expected


@pytest.mark.parametrize('wrong', [None, b'pick', 7])
def test_what_is_no_text_is_refused(fused, wrong):
    with pytest.raises(InputError, match=type(wrong).__name__):
        fused.spec.prompter(wrong)


def test_prompts_of_every_style(single):
    question = 'What action should the robot take to pick up the cup?'
    system = (
        'A chat between a curious user and an artificial intelligence assistant. The assistant '
        "gives helpful, detailed, and polite answers to the user's questions."
    )
    expected = {
        'openvla': f'In: {question}\nOut:',
        'openvla_reasoning': f'In: {question}\nOut: TASK:',
        'vicuna': f'{system} USER: {question} ASSISTANT: TASK:',
        'vicuna_v01': f'{system} USER: {question} ASSISTANT:',
    }
    tokenizer = single.spec.prompter.tokenizer
    for name, style in PROMPT_STYLES.items():
        prompt, ids = Prompter(tokenizer, style)('Pick up the cup.')
        assert prompt == expected[name]
        # Models that reason write the empty piece themselves, behind their text.
        assert (ids[-1] == tokenizer.empty_piece_id) == (not style.reasons)
        assert style.reasons == (name in ('vicuna', 'openvla_reasoning'))


TEMPLATES = {name: style.template for name, style in PROMPT_STYLES.items()}


@pytest.mark.parametrize('style', TEMPLATES)
@pytest.mark.parametrize(
    'edit',
    [
        str,
        lambda text: f'{text} ',
        lambda text: f'\ufeff{text}\r\n\r\n',
        lambda text: f'\n\t {text}',
        lambda text: text.replace('\n', '\r\n'),
    ],
)
def test_a_whole_prompt_is_read_without_what_training_never_had(style, edit):
    prompt = TEMPLATES[style].format(instruction='Pick Up the cup.')
    assert make_prompt(edit(prompt), TEMPLATES[style], ()) == prompt


def test_begun_reasoning_is_part_of_a_whole_prompt():
    prompt = f'{TEMPLATES["vicuna"].format(instruction="go")} move left. PLAN:'
    assert make_prompt(f'{prompt} ', TEMPLATES['vicuna'], ()) == prompt


@pytest.mark.parametrize('style', TEMPLATES)
@pytest.mark.parametrize('other', TEMPLATES)
def test_the_prompt_of_another_style_is_refused(style, other):
    prompt = TEMPLATES[other].format(instruction='go')
    if style == other:
        return
    with pytest.raises(InputError, match=f'a whole prompt of prompt_style {other!r}'):
        make_prompt(prompt, TEMPLATES[style], ())
    assert make_prompt(prompt, TEMPLATES[style], (), verbatim=True) == prompt


@pytest.mark.parametrize(
    'text',
    [
        'In: What action should the robot take to go?',
        'In: What action should the robot take to go? Out:',
        'In: What action should the robot take to go?\\nOut:',  # by YAML's single quotes
        'In: What action should the robot take to go?\nOut: move',
        'in: what action should the robot take to go?\nout:',
        'In: What action should the robot take to ?\nOut:',
        'In: What action should the robot take to {instruction}?\nOut:',
        'In: What action should the robot take to in: what action should the robot take to go? '
        'out:?\nOut:',
        'In: What action should the robot take to go?\nOut: left\nIn: And now?\nOut:',
        'What action should the robot take to go?',
        'USER: What action should the robot take to go? ASSISTANT:',
        'USER: go ASSISTANT:',
        'In: go',
        'go\nOut:',
    ],
)
@pytest.mark.parametrize('style', TEMPLATES)
def test_a_part_of_a_prompt_is_refused(text, style):
    with pytest.raises(InputError, match='give the instruction alone'):
        make_prompt(text, TEMPLATES[style], ())


@pytest.mark.parametrize(
    'text', ['go in: the box', 'take it out:', 'chat between us', 'in the box', 'do this task:']
)
def test_a_sentence_with_words_of_prompts_is_an_instruction(text):
    found = make_prompt(text, TEMPLATES['openvla'], ())
    assert found == TEMPLATES['openvla'].format(instruction=text)


def test_endless_text_is_judged_at_once():
    begun = time.perf_counter()
    for text in ('\n' * 10**6, '\n ' * 10**6, 'in: ' * 10**6, 'user' * 10**6):
        with suppress(InputError):
            make_prompt(f'go{text}go', TEMPLATES['vicuna'], ())
    assert time.perf_counter() - begun < 30


@pytest.mark.parametrize('empty', ['', ' ', '.', '\n\t', '\x00', '\ud800'])
def test_empty_instruction_is_refused(fused, empty):
    with pytest.raises(InputError, match='empty'):
        fused.spec.prompter(empty)


@pytest.mark.parametrize('token', ['</s>', '<s>', '<PAD>', '<pad>', '<unk>', '<image>'])
def test_special_tokens_in_an_instruction_are_refused(fused, token):
    with pytest.raises(InputError, match='special token'):
        fused.spec.prompter(f'pick up {token} the cup')


def test_braces_in_an_instruction_are_text(fused):
    prompt, _ = fused.spec.prompter('pick up {cup}')
    assert '{cup}' in prompt


@pytest.mark.parametrize(
    ('backbone', 'keys', 'style'),
    [
        ('llama2-7b-pure', ('bridge_orig',), 'openvla'),
        ('mistral-v0.1-7b-pure', ('bridge_orig',), 'openvla'),
        ('vicuna-v15-7b', ('bridge_orig',), 'vicuna'),
        ('vicuna-v15-7b', ('bridge_orig', 'fractal20220817_data'), 'vicuna_v01'),
        ('vicuna-v15-7b', ('bridge_reasoning', 'fractal20220817_data'), 'vicuna'),
        ('vicuna-v15-7b', ('bridge_reasoning',), 'vicuna'),
        # ecot-openvla-7b-oxe, with the backbone and the mix of openvla-7b
        ('llama2-7b-pure', ('fractal20220817_data', 'bridge_reasoning'), 'openvla_reasoning'),
        ('llama2-7b-pure', ('my_robot_reasoning',), 'openvla_reasoning'),
        ('llama2-7b-pure', ('bridge_orig', 'fractal20220817_data'), 'openvla'),
    ],
)
def test_style_follows_from_backbone_and_statistics_and_says_why(backbone, keys, style):
    found, rule = prompt_style_of(backbone, keys)
    assert found == style
    assert backbone in rule
    told = {'vicuna_v01': 'fractal20220817_data mean openvla-v01-7b', 'openvla': 'no statistics'}
    assert told.get(style, 'statistics of') in rule


def test_the_rule_that_chose_the_style_is_logged(golden_dir, tmp_path, caplog):
    caplog.set_level('INFO')
    path = tmp_path / 'oxe'
    shutil.copytree(golden_dir / 'fused', path, copy_function=shutil.copyfile)
    config = json.loads((path / 'config.json').read_text())
    config['norm_stats'] = {'bridge_reasoning': next(iter(config['norm_stats'].values()))}
    (path / 'config.json').write_text(json.dumps(config))
    spec = ModelSpec.read(Checkpoint.open(path))
    assert spec.prompter.style.reasons
    assert spec.prompter('go')[0].endswith('\nOut: TASK:')
    assert 'prompt style openvla_reasoning: llm_backbone_id is llama2-7b-pure, and' in caplog.text
    assert 'bridge_reasoning mean that the model reasons' in caplog.text
    ModelSpec.read(Checkpoint.open(path), prompt_style='openvla')
    assert 'prompt style openvla: the parameter prompt_style' in caplog.text


def test_unknown_backbone_names_the_way_out():
    with pytest.raises(ConfigError, match='set prompt_style to one of openvla'):
        prompt_style_of('llama2-7b-chat', ('bridge_orig',))


def test_empty_piece_ends_openvla_prompts_and_not_those_that_reason(fused, single):
    assert (
        fused.spec.prompter('pick up the cup')[1][-1]
        == fused.spec.prompter.tokenizer.empty_piece_id
    )
    assert (
        single.spec.prompter('pick up the cup')[1][-1]
        != single.spec.prompter.tokenizer.empty_piece_id
    )


@pytest.mark.parametrize('name', ['fused', 'single'])
@pytest.mark.parametrize(
    'text', ['In: What action?\nOut:', 'pick up  two  cups', 'café 忠 🙂', 'TASK: a PLAN: b']
)
def test_sentencepiece_and_tokenizers_agree(golden_dir, tmp_path, name, text):
    fast = Tokenizer(golden_dir / name)
    shutil.copy(golden_dir / name / 'tokenizer.model', tmp_path)
    slow = Tokenizer(tmp_path)
    ids = fast.encode(text)
    assert slow.encode(text) == ids
    assert slow.decode(ids[1:]) == fast.decode(ids[1:])
    assert (slow.vocab_size, slow.bos_id, slow.eos_id, slow.empty_piece_id) == (
        fast.vocab_size,
        fast.bos_id,
        fast.eos_id,
        fast.empty_piece_id,
    )


def test_tokenizer_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r'neither tokenizer.json nor tokenizer.model'):
        Tokenizer(tmp_path)


def test_broken_tokenizer_is_named(tmp_path):
    (tmp_path / 'tokenizer.json').write_text('{')
    with pytest.raises(ConfigError, match=r'tokenizer.json cannot be read'):
        Tokenizer(tmp_path)
    (tmp_path / 'tokenizer.json').unlink()
    (tmp_path / 'tokenizer.model').write_bytes(b'not a model')
    with pytest.raises(ConfigError, match=r'tokenizer.model cannot be read'):
        Tokenizer(tmp_path)


def test_length_is_limited_for_every_door():
    refuse_special('x' * MAX_INSTRUCTION, ())
    with pytest.raises(InputError, match='has 10000000 characters; 2000 are allowed') as refusal:
        refuse_special('x' * 10**7, ())
    assert len(str(refusal.value)) < 200


def test_page_has_the_limit_of_the_server():
    page = Path(__file__).parents[2] / 'trt_openvla_ros' / 'serving' / 'page' / 'index.html'
    assert f'id="instruction" maxlength="{MAX_INSTRUCTION}"' in page.read_text()
