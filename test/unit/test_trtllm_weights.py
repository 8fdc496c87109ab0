"""TensorRT-LLM checkpoints that modelopt exported, read and computed with by the torch engine.

The truth is modelopt's own emulation of the quantised model.
"""

import copy
from types import SimpleNamespace

from modelopt_reference import FORMATS, quantise, random_llama
import pytest
from reference import with_image
import torch

from trt_openvla_ros.checkpoints.trtllm import TrtllmCheckpoint
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.torch.language import TorchLanguage

IDS = [1, 5, 7, 300, 12]
CPU = torch.device('cpu')


def narrow(model):
    """Convert to bfloat16 all but the frequencies of RoPE, as transformers loads such a model."""
    frequencies = model.model.rotary_emb.inv_freq.clone()
    model.bfloat16().model.rotary_emb.inv_freq = frequencies
    return model


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope='module', params=FORMATS)
def case(request, tmp_path_factory):
    """A format: the exported directory, modelopt's emulation in float32, and the original."""
    directory = tmp_path_factory.mktemp(request.param)
    emulated = random_llama(torch.float32)
    if request.param == 'bf16':
        # The others keep weights of more precision, which is lost in the quantisation.
        emulated = narrow(emulated).float()
    original = copy.deepcopy(emulated)
    quantise(emulated, request.param, random(8, 24, 128, seed=1), directory)
    return SimpleNamespace(
        format=request.param, directory=directory, emulated=emulated, original=original
    )


def load(case, dtype=torch.float32):
    return TorchLanguage(TrtllmCheckpoint.open(case.directory), CPU, dtype)


@torch.inference_mode()
def logits_of(model, embeddings):
    return model(inputs_embeds=with_image(model, IDS, embeddings)).logits[0].float()


def rms(values):
    return values.square().mean().sqrt().item()


def test_format_is_read(case):
    checkpoint = TrtllmCheckpoint.open(case.directory)
    assert (checkpoint.format, checkpoint.dtype) == (case.format, 'bfloat16')
    assert checkpoint.fp8_cache == (case.format == 'fp8')
    c = case.original.config
    assert checkpoint.llm.head_dim == 32
    assert (checkpoint.llm.num_kv_heads, checkpoint.llm.vocab_size) == (2, 320)
    assert (checkpoint.llm.rms_norm_eps, checkpoint.llm.rope_theta) == (1e-5, c.rope_theta)


@torch.inference_mode()
def test_every_product_equals_modelopts(case):
    """Measured: 1e-6 of the largest output, in every format: the order of the sum.

    In FP8 one weight or input among thousands lies so near the middle of two FP8 numbers that the
    last bit of a scale decides, and moves one row or column of the outputs.
    """
    for ours, theirs in zip(load(case).weights.layers, case.emulated.model.layers, strict=True):
        attention, mlp = theirs.self_attn, theirs.mlp
        hidden, inner = 3 * random(64, 128, seed=2), 3 * random(64, 384, seed=3)
        for linear, parts, inputs in (
            (ours.qkv, (attention.q_proj, attention.k_proj, attention.v_proj), hidden),
            (ours.out, (attention.o_proj,), hidden),
            (ours.gate_up, (mlp.gate_proj, mlp.up_proj), hidden),
            (ours.down, (mlp.down_proj,), inner),
        ):
            expected = torch.cat([part(inputs) for part in parts], dim=-1)
            difference = (linear(inputs) - expected).abs() / expected.abs().max()
            moved = (difference > 5e-6).float().mean()
            assert moved < (0.03 if case.format == 'fp8' else 1e-9)
            assert difference.max() < 0.05


def test_logits_equal_modelopts(case):
    """Measured: bf16 and int4_awq differ by at most 2e-5 in logits of up to 7.

    FP8 differs by 0.002 to 0.007 rms, where quantisation makes 0.25 to 0.41: a difference of one
    ulp puts an activation near the middle of two FP8 numbers onto the other one, and all that
    follows differs by a step of FP8. INT8 rounds activations too, and on some processors one of
    them goes to the other side. Products of the same inputs do not differ (above).
    """
    engine = load(case)
    for seed in range(3, 7):
        embeddings = random(16, 128, seed=seed)
        expected = logits_of(case.emulated, embeddings)
        difference = engine.prefill(IDS, embeddings, every=True) - expected
        if case.format in ('fp8', 'int8_sq'):
            effect = rms(expected - logits_of(case.original, embeddings))
            assert rms(difference) < 0.1 * effect
        else:
            assert difference.abs().max() < 5e-5


def test_bfloat16_is_as_near_to_the_original_as_modelopts_is(case):
    """Two bfloat16 models round differently; neither may be the better one by much.

    Measured, ours to theirs: bf16 0.85, the others 0.99 to 1.00.
    """
    engine = load(case, torch.bfloat16)
    theirs = narrow(copy.deepcopy(case.emulated))
    errors = []
    for seed in range(3, 7):
        embeddings = random(16, 128, seed=seed).bfloat16()
        original = logits_of(case.original, embeddings.float())
        errors.append(
            (
                rms(engine.prefill(IDS, embeddings, every=True).float() - original),
                rms(logits_of(theirs, embeddings) - original),
            )
        )
    ours, modelopts = (sum(column) for column in zip(*errors, strict=True))
    assert ours < 1.2 * modelopts


def test_cached_decode_equals_full_recompute(case):
    engine, embeddings = load(case), random(16, 128, seed=3)
    whole = engine.prefill([*IDS, 4, 9, 30], embeddings, every=True)
    engine.prefill(IDS, embeddings)
    steps = [engine.step(token, 21 + i) for i, token in enumerate((4, 9, 30))]
    difference = torch.stack(steps) - whole[-3:]
    assert rms(difference) < (0.05 if case.format == 'fp8' else 1e-5)
    assert len(engine.generate(IDS, embeddings, Decoding(20, 2)).ids) > 1


@torch.inference_mode()
def test_cache_holds_what_fp8_holds(case):
    engine = load(case)
    engine.prefill(IDS, 400 * random(16, 128, seed=3))
    held = engine.passes.llama.cache[:, :, :, :21]
    rounded = held.to(torch.float8_e4m3fn).float()
    assert torch.equal(rounded, held) == (case.format == 'fp8')


def test_bf16_holds_the_source_weights(tmp_path):
    source = narrow(random_llama(torch.float32))
    quantise(source, 'bf16', None, tmp_path)
    engine = TorchLanguage(TrtllmCheckpoint.open(tmp_path), CPU, torch.bfloat16)
    assert torch.equal(engine.weights.embedding, source.model.embed_tokens.weight)
    assert torch.equal(engine.weights.head, source.lm_head.weight)
    assert torch.equal(engine.weights.norm, source.model.norm.weight)
    for ours, theirs in zip(engine.weights.layers, source.model.layers, strict=True):
        a, m, w = theirs.self_attn, theirs.mlp, ours
        qkv = torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])
        assert torch.equal(w.qkv.weight, qkv)
        assert torch.equal(w.out.weight, a.o_proj.weight)
        assert torch.equal(w.gate_up.weight, torch.cat([m.gate_proj.weight, m.up_proj.weight]))
        assert torch.equal(w.down.weight, m.down_proj.weight)
        assert torch.equal(w.input_norm, theirs.input_layernorm.weight)
        assert torch.equal(w.mlp_norm, theirs.post_attention_layernorm.weight)
