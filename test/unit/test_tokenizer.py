"""tokenizer.json and tokenizer_config.json as trainers and releases of transformers leave them."""

import json
from pathlib import Path
import shutil

import pytest
from transformers import AutoTokenizer

from trt_openvla_ros.checkpoints.tokenizer import copy_tokenizer, Tokenizer
from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.command import run

TINY = Path(__file__).parents[2] / 'models' / 'tiny_openvla'
PROMPT = 'In: What action should the robot take to push the blue cylinder to the left?\nOut:'


def changed(directory, change):
    """Copy a tokenizer, and change the content of its tokenizer.json."""
    directory.mkdir()
    for file in TINY.glob('*token*'):
        shutil.copy(file, directory)
    content = json.loads((directory / 'tokenizer.json').read_text())
    change(content)
    (directory / 'tokenizer.json').write_text(json.dumps(content))
    return directory


def add_end(content):
    content['post_processor'] = {
        'type': 'TemplateProcessing',
        'single': [
            {'SpecialToken': {'id': '<s>', 'type_id': 0}},
            {'Sequence': {'id': 'A', 'type_id': 0}},
            {'SpecialToken': {'id': '</s>', 'type_id': 0}},
        ],
        'pair': [{'Sequence': {'id': 'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}}],
        'special_tokens': {
            text: {'id': text, 'ids': [index], 'tokens': [text]}
            for index, text in enumerate(('<s>', '</s>'), 1)
        },
    }


PAD = {'pad_to_multiple_of': None, 'pad_id': 1408, 'pad_type_id': 0, 'pad_token': '<PAD>'}
CUT = {'direction': 'Right', 'strategy': 'LongestFirst', 'stride': 0}
LEFTOVERS = {
    'fixed': {'padding': {**PAD, 'strategy': {'Fixed': 64}, 'direction': 'Right'}},
    'fixed left': {'padding': {**PAD, 'strategy': {'Fixed': 64}, 'direction': 'Left'}},
    'multiple': {
        'padding': {
            **PAD,
            'strategy': 'BatchLongest',
            'direction': 'Left',
            'pad_to_multiple_of': 16,
        }
    },
    'truncation': {'truncation': {**CUT, 'max_length': 20}},
    'truncation left': {'truncation': {**CUT, 'max_length': 5, 'direction': 'Left'}},
    'both': {
        'padding': {**PAD, 'strategy': {'Fixed': 30}, 'direction': 'Left'},
        'truncation': {**CUT, 'max_length': 30, 'strategy': 'OnlyFirst'},
    },
}


@pytest.mark.parametrize('name', [*LEFTOVERS, 'dropout', 'end'])
def test_what_a_trainer_left_changes_no_id_here_or_in_the_copy(tmp_path, name):
    change = {
        'dropout': lambda content: content['model'].update(dropout=0.9),
        'end': add_end,
    }.get(name) or (lambda content: content.update(LEFTOVERS[name]))
    source = changed(tmp_path / 'source', change)
    wanted = Tokenizer(TINY).encode(PROMPT)
    assert Tokenizer(source).encode(PROMPT) == wanted
    (tmp_path / 'copy').mkdir()
    copy_tokenizer(source, tmp_path / 'copy')
    assert AutoTokenizer.from_pretrained(tmp_path / 'copy')(PROMPT)['input_ids'] == wanted
    stored = json.loads((tmp_path / 'copy' / 'tokenizer.json').read_text())
    assert (stored['padding'], stored['truncation']) == (None, None)


def test_tokenizer_that_transformers_saved_after_padding_gives_the_same_ids(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer([PROMPT, 'hi'], padding='max_length', max_length=64, truncation=True)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / 'tokenizer.json').read_text())['padding'] is not None
    assert Tokenizer(tmp_path).encode(PROMPT) == Tokenizer(TINY).encode(PROMPT)


def test_save_backbone_takes_a_tokenizer_that_pads(golden_dir, tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(golden_dir / 'fused', source)
    content = json.loads((source / 'tokenizer.json').read_text())
    content.update(LEFTOVERS['both'])
    (source / 'tokenizer.json').write_text(json.dumps(content))
    words = ['--checkpoint', str(source), '--artifact', str(tmp_path / 'artifact')]
    facts = run('save_backbone', [*words, '--onnx', 'false', '--device', 'cpu'])
    assert facts['save_backbone']['test_load']['layers_compared'] == 3


# What transformers 5.24.0 wrote for this tokenizer, and what fine-tunes have had.
@pytest.mark.parametrize(
    'config',
    [
        {
            'backend': 'tokenizers',
            'is_local': True,
            'tokenizer_class': 'TokenizersBackend',
            'extra_special_tokens': ['<PAD>'],
            'add_bos_token': True,
            'pad_token': '<PAD>',
        },
        {'tokenizer_class': 'PreTrainedTokenizerFast', 'add_bos_token': False},
        {'tokenizer_class': 'LlamaTokenizerFast', 'add_eos_token': True},
        {'chat_template': '{{ messages }}', 'processor_class': 'PrismaticProcessor'},
        {'auto_map': {'AutoTokenizer': ['evil.Code', None]}, 'add_prefix_space': True},
    ],
)
@pytest.mark.parametrize('sentencepiece', [True, False])
def test_copied_configuration_is_read_by_any_transformers(tmp_path, config, sentencepiece):
    source = changed(tmp_path / 'source', lambda content: None)
    for name in ('special_tokens_map.json', 'added_tokens.json'):
        (source / name).unlink()
    if not sentencepiece:
        (source / 'tokenizer.model').unlink()
    (source / 'tokenizer_config.json').write_text(json.dumps(config))
    (tmp_path / 'copy').mkdir()
    copy_tokenizer(source, tmp_path / 'copy')
    ids = AutoTokenizer.from_pretrained(tmp_path / 'copy')(PROMPT)['input_ids']
    assert ids == Tokenizer(source).encode(PROMPT) == Tokenizer(TINY).encode(PROMPT)


@pytest.mark.parametrize('model', [None, [], {'type': 'BPE'}])
def test_tokenizer_without_a_model_is_named(tmp_path, model):
    source = changed(tmp_path / 'source', lambda content: content.update(model=model))
    with pytest.raises(ConfigError, match=r'tokenizer\.json cannot be read'):
        Tokenizer(source)
