"""quantize: the source's numbers under TensorRT-LLM's names, and modelopt's on top of them."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest
from random_checkpoint import write_random_checkpoint
from safetensors.torch import load_file, save_file
import torch

from trt_openvla_ros.camera_steps import NO_STEPS
from trt_openvla_ros.checkpoints.artifact import Manifest, TRTLLM_CHECKPOINT
from trt_openvla_ros.checkpoints.llama import trtllm_names
from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.errors import ArtifactError, ConfigError
from trt_openvla_ros.pipeline.command import run
from trt_openvla_ros.pipeline.frames import collect_frames, FrameSettings
from trt_openvla_ros.pipeline.quantize import calibration, modelopt_export

# A width that AWQ can share 128 scales in.
LLM = {
    'hidden_size': 128,
    'intermediate_size': 384,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
}


def quantize(checkpoint, artifact, *words):
    given = ['--checkpoint', str(checkpoint), '--artifact', str(artifact), '--device', 'cpu']
    return run('quantize', [*given, *words])['quantize']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Six images; half of the instructions in one file, half beside the images."""
    path = tmp_path_factory.mktemp('frames of a robot')
    pixels = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(path / f'{index}.png')
    names = {f'{index}.png': f'push block {index}' for index in range(3)}
    (path / 'instructions.json').write_text(json.dumps(names))
    for index in range(3, 6):
        (path / f'{index}.txt').write_text(f'pick up block {index}\n')
    return path


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp('source'), llm=LLM, shards=2)


@pytest.fixture(scope='module')
def split(source, tmp_path_factory):
    """Its artifact behind save_backbone."""
    path = tmp_path_factory.mktemp('quantized') / 'split'
    words = ['--checkpoint', str(source), '--artifact', str(path), '--onnx', 'false']
    run('save_backbone', [*words, '--test-load', 'false'])
    return path


@pytest.fixture(scope='module')
def quantised(source, split, folder, tmp_path_factory):
    """Quantise the same artifact in a format, by name; gives (artifact, facts)."""
    made = {}

    def make(qformat):
        if qformat not in made:
            path = tmp_path_factory.mktemp('quantized') / qformat
            shutil.copytree(split, path)
            words = ['--folder', str(folder), '--frames', '4', '--qformat', qformat]
            made[qformat] = path, quantize(source, path, *words)
        return made[qformat]

    return make


def weights_of(artifact):
    return load_file(artifact / TRTLLM_CHECKPOINT / 'rank0.safetensors')


def language_weights(checkpoint):
    return dict(Checkpoint.open(checkpoint).tensors('language_model.'))


def test_plain_checkpoint_holds_exactly_the_source(source, quantised):
    artifact, facts = quantised('bf16')
    found, wanted = weights_of(artifact), language_weights(source)
    expected = {
        'transformer.vocab_embedding.weight': wanted['model.embed_tokens.weight'],
        'transformer.ln_f.weight': wanted['model.norm.weight'],
        'lm_head.weight': wanted['lm_head.weight'],
    }
    for index in range(2):
        ours, theirs = f'transformer.layers.{index}.', f'model.layers.{index}.'
        attention = [wanted[f'{theirs}self_attn.{name}_proj.weight'] for name in 'qkv']
        expected |= {
            f'{ours}attention.qkv.weight': torch.cat(attention),
            f'{ours}attention.dense.weight': wanted[f'{theirs}self_attn.o_proj.weight'],
            f'{ours}mlp.fc.weight': wanted[f'{theirs}mlp.gate_proj.weight'],
            f'{ours}mlp.gate.weight': wanted[f'{theirs}mlp.up_proj.weight'],
            f'{ours}mlp.proj.weight': wanted[f'{theirs}mlp.down_proj.weight'],
            f'{ours}input_layernorm.weight': wanted[f'{theirs}input_layernorm.weight'],
            f'{ours}post_layernorm.weight': wanted[f'{theirs}post_attention_layernorm.weight'],
        }
    assert found.keys() == expected.keys() == trtllm_names(2).keys()
    assert facts['tensors'] == len(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype == torch.bfloat16, name
        assert torch.equal(found[name], tensor), name


def test_plain_checkpoint_is_what_modelopt_would_write(split, quantised, tmp_path):
    from modelopt.torch.export import export_tensorrt_llm_checkpoint

    model = modelopt_export.load_backbone(split / 'LLM_backbone', torch.device('cpu'))
    with torch.inference_mode():
        export_tensorrt_llm_checkpoint(
            model,
            'llama',
            torch.bfloat16,
            export_dir=tmp_path,
            inference_tensor_parallel=1,
            inference_pipeline_parallel=1,
        )
    artifact, _ = quantised('bf16')
    wanted, found = load_file(tmp_path / 'rank0.safetensors'), weights_of(artifact)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    theirs = json.loads((tmp_path / 'config.json').read_text())
    ours = json.loads((artifact / TRTLLM_CHECKPOINT / 'config.json').read_text())
    chosen = {'producer', 'logits_dtype', 'use_parallel_embedding'}
    for name in (theirs.keys() & ours.keys()) - chosen:
        assert ours[name] == theirs[name], name
    assert ours['logits_dtype'] == 'float32'
    assert 'rank' not in ours['mapping']


def test_fp8_scales_are_the_largest_weights(source, quantised):
    artifact, facts = quantised('fp8')
    assert facts['quantization'] == {
        'quant_algo': 'FP8',
        'kv_cache_quant_algo': 'FP8',
        'exclude_modules': ['lm_head'],
    }
    found, plain = weights_of(artifact), weights_of(quantised('bf16')[0])
    for index in range(2):
        for module in ('attention.qkv', 'attention.dense', 'mlp.fc', 'mlp.gate', 'mlp.proj'):
            name = f'transformer.layers.{index}.{module}'
            weight = plain[f'{name}.weight'].float()
            # One for both, so that TensorRT-LLM may join them into one matrix.
            shares = ('mlp.fc', 'mlp.gate') if module in ('mlp.fc', 'mlp.gate') else (module,)
            layer = f'transformer.layers.{index}'
            largest = max(plain[f'{layer}.{share}.weight'].float().abs().max() for share in shares)
            scale = found[f'{name}.weights_scaling_factor']
            assert scale.shape == found[f'{name}.activation_scaling_factor'].shape == (1,)
            torch.testing.assert_close(scale[0], largest / 448)
            assert found[f'{name}.weight'].dtype == torch.float8_e4m3fn
            assert torch.equal(
                found[f'{name}.weight'].float(), (weight / scale).to(torch.float8_e4m3fn).float()
            )
        scale = found[f'transformer.layers.{index}.attention.kv_cache_scaling_factor']
        assert scale.dtype == torch.float32
        assert scale >= 1
    for name in ('lm_head.weight', 'transformer.vocab_embedding.weight'):
        assert torch.equal(found[name], plain[name])


@pytest.mark.parametrize(
    ('qformat', 'algorithm'),
    [('fp8', 'FP8'), ('int4_awq', 'W4A16_AWQ'), ('int8_sq', 'W8A8_SQ_PER_CHANNEL')],
)
def test_every_format_is_read_by_the_engine(quantised, qformat, algorithm):
    artifact, facts = quantised(qformat)
    assert facts['quantization']['quant_algo'] == algorithm
    assert facts['frames'] == 4
    opened = TrtllmCheckpoint.open(artifact / TRTLLM_CHECKPOINT, Checkpoint.open(artifact).llm)
    assert opened.format == qformat
    assert opened.fp8_cache == (qformat == 'fp8')
    assert opened.group_size == 128
    assert not opened.is_quantised('lm_head')


def test_stage_is_skipped_and_runs_again_with_other_frames(source, quantised, folder, tmp_path):
    artifact, facts = quantised('fp8')
    words = ['--frames', '4', '--qformat', 'fp8']
    started = Manifest.read(artifact).stages['quantize']['started']
    moved = tmp_path / 'moved'
    shutil.copytree(folder, moved)
    assert quantize(source, artifact, '--folder', str(moved), *words) == facts
    assert Manifest.read(artifact).stages['quantize']['started'] == started
    (moved / '3.txt').write_text('push it')
    again = quantize(source, artifact, '--folder', str(moved), *words)
    assert again['calibrated_on'] == str(moved)


def test_cache_in_full_precision_can_be_asked_for(source, split, folder, tmp_path):
    shutil.copytree(split, tmp_path / 'a')
    words = ['--folder', str(folder), '--frames', '1', '--qformat', 'fp8', '--kv-cache', 'none']
    assert quantize(source, tmp_path / 'a', *words)['quantization']['kv_cache_quant_algo'] is None
    assert not [name for name in weights_of(tmp_path / 'a') if 'cache' in name]


def test_other_precisions_and_tied_embeddings_are_converted(source, tmp_path):
    checkpoint = tmp_path / 'float32'
    shutil.copytree(source, checkpoint)
    tied = {**LLM, 'model_type': 'llama', 'vocab_size': 32064, 'tie_word_embeddings': True}
    config = json.loads((checkpoint / 'config.json').read_text())
    (checkpoint / 'config.json').write_text(json.dumps({**config, 'text_config': tied}))
    for file in checkpoint.glob('*.safetensors'):
        save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file)
    words = ['--checkpoint', str(checkpoint), '--artifact', str(tmp_path / 'a')]
    run('save_backbone', [*words, '--onnx', 'false', '--test-load', 'false'])
    quantize(checkpoint, tmp_path / 'a', '--dtype', 'float16')
    found, wanted = weights_of(tmp_path / 'a'), language_weights(source)
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    embedding = wanted['model.embed_tokens.weight'].half()
    assert torch.equal(found['transformer.vocab_embedding.weight'], embedding)
    assert torch.equal(found['lm_head.weight'], embedding)


def test_model_is_calibrated_on_image_prompt_and_its_answer(source, split, folder):
    checkpoint = Checkpoint.open(split)
    frames = collect_frames(FrameSettings(str(folder), 2), 'quantize', 0)
    assert [frame.instruction for frame in frames] == ['push block 0', 'pick up block 5']
    cpu = torch.device('cpu')
    spec = calibration.read_spec(checkpoint, '', NO_STEPS)
    images = calibration.encode_images(spec, frames, cpu, torch.float32)
    model = modelopt_export.load_backbone(split / 'LLM_backbone', cpu)
    prompter = spec.prompter
    inputs = calibration.calibration_inputs(model, prompter, frames, images, answer_tokens=64)
    table = model.get_input_embeddings().weight
    for entry, frame, image in zip(inputs, frames, images, strict=True):
        _, ids = prompter(frame.instruction)
        assert entry.shape[1] == len(ids) + 256 + calibration.ACTION_IDS
        assert torch.equal(entry[0, 0], table[1])
        assert torch.equal(entry[0, 1:257], image.bfloat16())
        assert torch.equal(entry[0, 257 : 256 + len(ids)], table[ids[1:]])
    none = calibration.calibration_inputs(model, prompter, frames, images, answer_tokens=0)
    assert none[0].shape[1] == inputs[0].shape[1] - calibration.ACTION_IDS


def test_simulated_frames_are_always_the_same():
    first, again = (collect_frames(FrameSettings(frames=2), 'verify', 5) for _ in range(2))
    assert [frame.instruction for frame in first] == [frame.instruction for frame in again]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].image, first[1].image)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--qformat', 'int4_awq', '--awq-block-size', '100'], 'does not divide the hidden_size'),
        (['--kv-cache', 'fp8'], 'an fp8 cache is built with fp8 only'),
        (['--qformat', 'fp8', '--folder', '/nowhere'], 'there is no such directory'),
    ],
)
def test_settings_that_do_not_fit_are_sentences(source, split, tmp_path, words, said):
    shutil.copytree(split, tmp_path / 'a')
    with pytest.raises(ConfigError, match=said):
        quantize(source, tmp_path / 'a', *words)


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (lambda path: (path / '4.txt').unlink(), r'4\.png has no instruction; name it in instr'),
        (lambda path: (path / '4.png').write_text('x'), r'image .*4\.png cannot be read'),
        (lambda path: (path / '5.png').unlink(), r'has 5 images and quantize\.frames is 6'),
        (lambda path: (path / 'instructions.json').write_text('{'), 'is not JSON'),
        (lambda path: (path / 'instructions.json').write_text('[]'), 'must map file names'),
        (
            lambda path: (path / 'instructions.json').write_text('{"0.png": ["push"]}'),
            r"instructions\.json must map .*, and '0\.png' has \['push'\]",
        ),
        (
            lambda path: (path / '4.txt').write_bytes('pick up 碗'.encode('gbk')),
            r'4\.txt is not in UTF-8 .*; save it as UTF-8',
        ),
    ],
)
def test_frames_that_cannot_be_used_are_sentences(folder, tmp_path, damage, said):
    shutil.copytree(folder, tmp_path / 'frames')
    damage(tmp_path / 'frames')
    with pytest.raises(ConfigError, match=said):
        collect_frames(FrameSettings(str(tmp_path / 'frames'), 6), 'quantize', 0)


def test_backbone_must_be_there(source, tmp_path):
    with pytest.raises(ArtifactError, match='run the stage save_backbone first'):
        quantize(source, tmp_path / 'a')
    assert not (tmp_path / 'a').exists()
