"""Parameter files and command lines to settings."""

from pathlib import Path

import pytest

from trt_openvla_ros.errors import ConfigError
from trt_openvla_ros.pipeline.configuration import Config, read_configuration
from trt_openvla_ros.settings import describe_settings, list_settings

ROOT = Path(__file__).parents[2]
BASE = ['-p', 'artifact:=a', '-p', 'checkpoint:=c']
FILES = sorted((ROOT / 'config' / 'pipeline').glob('*.yaml'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_files_of_this_package_are_read(path):
    config = read_configuration(['--ros-args', '--params-file', str(path)])
    assert Path(config.artifact).name == path.stem
    for qformat in ('bf16', 'fp8', 'int4_awq'):
        if path.stem.endswith(qformat):
            assert config.quantize.qformat == qformat


def test_models_of_the_readme_have_a_file():
    names = {path.stem for path in FILES}
    assert {'openvla_7b_bf16', 'openvla_7b_fp8', 'openvla_7b_int4_awq', 'ecot_7b_fp8'} < names
    longer = read_configuration(['--params-file', str(FILES[0].with_name('ecot_7b_fp8.yaml'))])
    assert longer.build_engine.max_new_tokens == longer.max_new_tokens == 1024


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / 'a file.yaml'
        path.write_text(text)
        return ['--params-file', str(path)]

    return write


def test_later_wins_and_sections_are_merged(write):
    words = write(
        '/**:\n  ros__parameters:\n    artifact: x\n    checkpoint: y\n'
        '    quantize: {qformat: fp8, frames: 7}\n    verify.frames: 3\n'
    )
    config = read_configuration([*words, '-p', 'quantize.frames:=9', '--param', 'artifact:=z'])
    assert (config.artifact, config.checkpoint) == ('z', 'y')
    assert (config.quantize.qformat, config.quantize.frames, config.verify.frames) == ('fp8', 9, 3)
    assert read_configuration(['-p', 'quantize.frames:=9', *words]).quantize.frames == 7


def test_section_of_the_pipeline_itself_and_of_other_nodes(write):
    words = write(
        '/policy:\n  ros__parameters: {engine: torch}\n'
        '/pipeline:\n  ros__parameters: {artifact: x, checkpoint: y}\n'
    )
    assert read_configuration(words).artifact == 'x'


def test_short_options_belong_to_the_stage_or_to_all():
    words = [*BASE, '--instruction', 'stop: now', '--image=a b.jpg', '--max-new-tokens', '9']
    config = read_configuration(words, 'openvla_run')
    assert config.openvla_run.instruction == 'stop: now'
    assert config.openvla_run.image == 'a b.jpg'
    assert config.max_new_tokens == 9


def test_whole_numbers_serve_as_numbers():
    config = read_configuration([*BASE, '-p', 'verify.max_translation_error:=1'])
    assert config.verify.max_translation_error == 1.0


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['-p', 'quantize.qfromat:=fp8'], 'did you mean quantize.qformat?'),
        (['-p', 'qformat:=fp8'], 'did you mean quantize.qformat?'),
        (['-p', 'quantise.qformat:=fp8'], 'did you mean quantize.qformat?'),
        (['-p', 'xyzzy:=1'], 'known: artifact, checkpoint'),
        (['-p', 'quantize.qformat:=fp9'], "'fp9'; one of 'bf16', 'fp8'"),
        (
            ['-p', 'quantize.frames:=0'],
            'frames is 0; a whole number from 1 to 4096 is needed',
        ),
        (['-p', 'quantize.frames:=1.5'], 'quantize.frames is 1.5; a whole number from 1'),
        (['-p', 'quantize.frames:=true'], 'a whole number from 1'),
        (['-p', 'save_backbone.onnx:=1'], 'true or false is needed'),
        (['-p', 'verify.max_logits_error:=.nan'], 'verify.max_logits_error is nan'),
        (['-p', 'stages:=quantize'], 'a list of some of'),
        (['-p', 'stages:=[quantise]'], "('quantise',); a list of some of 'save_backbone'"),
        (['-p', 'quantize:=3'], 'quantize is 3; names and values are needed'),
        (['-p', 'quantize.frames'], 'write -p NAME:=VALUE'),
        (['-p', 'quantize.frames:=['], 'is not YAML'),
        (['-p'], '-p needs a value behind it'),
        (['--frams', '3'], 'did you mean quantize.frames?'),
        (['fp8'], "argument 'fp8' is not known; see --help"),
        (['-p', 'checkpoint:='], 'checkpoint is empty'),
        (['-p', "checkpoint:=''"], 'checkpoint is empty'),
        (['--params-file', '/nowhere/x.yaml'], '/nowhere/x.yaml cannot be read'),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(words, said):
    with pytest.raises(ConfigError) as error:
        read_configuration([*BASE, *words], 'quantize')
    assert said in str(error.value)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('artifact: x\n', "they stand below 'pipeline:' or '/**:'"),
        ('', "they stand below 'pipeline:' or '/**:'"),
        ('/**:\n  artifact: x\n', '/** has no ros__parameters'),
        ('/**: [\n', 'is not YAML'),
        ('/**:\n  ros__parameters:\n    quantize:\n      frame: 3\n', 'mean quantize.frames?'),
    ],
)
def test_files_that_cannot_be_used_are_refused(write, text, said):
    with pytest.raises(ConfigError) as error:
        read_configuration([*BASE, *write(text)])
    assert said in str(error.value)


def test_every_setting_is_described():
    text = describe_settings(Config)
    for name in list_settings(Config):
        assert f'  {name}: ' in text
