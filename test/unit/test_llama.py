"""The torch language engine against transformers.LlamaForCausalLM and against itself."""

import dataclasses

import pytest
from random_checkpoint import TINY_LLM, write_random_checkpoint
from reference import llama, with_image
import torch
import transformers

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.engines.base import Decoding
from trt_openvla_ros.engines.torch.language import TorchLanguage
from trt_openvla_ros.errors import ConfigError, InputError, OutputError

VARIANTS = {
    'plain': {},
    'grouped': {'num_key_value_heads': 2},
    'tied': {'tie_word_embeddings': True},
    'wide_heads': {'head_dim': 16},
    'eps_theta': {'rms_norm_eps': 1e-2, 'rope_theta': 100.0},
}
IDS = [1, 512, 29901, 1724, 3158, 29871]


def load(path, dtype=torch.float32):
    return TorchLanguage(Checkpoint.open(path), torch.device('cpu'), dtype)


@pytest.fixture(scope='module', params=VARIANTS)
def pair(request, tmp_path_factory):
    """Our engine and transformers' model, of the same weights."""
    path = tmp_path_factory.mktemp(request.param)
    variant = VARIANTS[request.param]
    if 'head_dim' in variant and not hasattr(transformers.LlamaConfig(), 'head_dim'):
        pytest.skip(f'LlamaConfig of transformers {transformers.__version__} has no head_dim')
    write_random_checkpoint(path, llm={**TINY_LLM, **variant})
    return load(path), llama(Checkpoint.open(path))


@pytest.fixture(scope='module')
def embeddings():
    return torch.randn(16, 32, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_logits_equal_transformers(pair, embeddings):
    engine, model = pair
    expected = model(inputs_embeds=with_image(model, IDS, embeddings)).logits[0]
    actual = engine.prefill(IDS, embeddings, every=True)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    # The shortcut through the last layer gives the same last row.
    last = engine.prefill(IDS, embeddings)
    torch.testing.assert_close(last, expected[-1:], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_generated_ids_equal_transformers(pair, embeddings):
    engine, model = pair
    expected = model.generate(
        inputs_embeds=with_image(model, IDS, embeddings),
        max_new_tokens=40,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=2,
    )[0].tolist()
    decoding = Decoding(max_new_tokens=40, eos_id=2)
    assert engine.generate(IDS, embeddings, decoding).ids == expected


def test_prefill_and_cached_decode_equal_full_recompute(pair, embeddings):
    engine, _ = pair
    # Over the edge of a window of the cache, where the shapes change.
    ids = [1, *range(100, 100 + 300)]
    split = 230
    engine.prefill(ids[:split], embeddings)
    steps = [engine.step(token, 16 + split + i) for i, token in enumerate(ids[split:])]
    whole = engine.prefill(ids, embeddings, every=True)[16 + split :]
    torch.testing.assert_close(torch.stack(steps), whole, rtol=0, atol=1e-4)


def test_constrained_ids_stay_inside_and_the_others_are_counted(tmp_path, embeddings):
    engine = load(write_random_checkpoint(tmp_path))
    actions = first, end = 31744, 31808  # some of what the model wants to write
    free = engine.generate(IDS, embeddings, Decoding(7, 2, actions, 7, constrain=False))
    assert free.out_of_range == sum(not first <= i < end for i in free.ids)
    assert 0 < free.out_of_range < 7
    bound = engine.generate(IDS, embeddings, Decoding(7, 2, actions, 7))
    assert all(first <= token < end for token in bound.ids)
    # Forced ids lead elsewhere, so count against the full logits along the same path.
    logits = engine.prefill([*IDS, *bound.ids[:-1]], embeddings, every=True)[-7:]
    wanted = logits.argmax(dim=-1).tolist()
    assert bound.out_of_range == sum(not first <= token < end for token in wanted)


def test_free_text_before_an_action_is_not_constrained(tmp_path, embeddings):
    engine = load(write_random_checkpoint(tmp_path))
    plain = engine.generate(IDS, embeddings, Decoding(20, 2)).ids
    begins = 5
    decoding = Decoding(
        20, 2, (31744, 32000), 7, action_begins=lambda ids: len(ids) == begins, action_first=False
    )
    generation = engine.generate(IDS, embeddings, decoding)
    assert generation.ids[: begins + 1] == plain[: begins + 1]
    assert len(generation.ids) == begins + 7


def test_not_a_number_is_an_error_and_leaves_nothing_behind(tmp_path, embeddings):
    engine = load(write_random_checkpoint(tmp_path))
    decoding = Decoding(7, 2, (31744, 32000), 7)
    before = engine.generate(IDS, embeddings, decoding)
    for constrain in (True, False):
        with pytest.raises(OutputError, match='nan'):
            engine.generate(
                [*IDS, 5, 6, 7],
                torch.full_like(embeddings, torch.nan),
                Decoding(7, 2, (31744, 32000), 7, constrain=constrain),
            )
    assert engine.generate(IDS, embeddings, decoding).ids == before.ids


def test_a_prompt_longer_than_the_context_is_refused(tmp_path, embeddings):
    short = {**TINY_LLM, 'max_position_embeddings': 20}
    engine = load(write_random_checkpoint(tmp_path, llm=short))
    with pytest.raises(InputError, match='22 positions and the model 20'):
        engine.generate(IDS, embeddings, Decoding(7, 2))


def test_generation_ends_where_the_context_ends(tmp_path, embeddings):
    short = {**TINY_LLM, 'max_position_embeddings': 25}
    engine = load(write_random_checkpoint(tmp_path, llm=short))
    assert len(engine.generate(IDS, embeddings, Decoding(100, 2)).ids) == 4


def test_missing_weights_are_named(tmp_path):
    path = write_random_checkpoint(tmp_path)
    text = (path / 'config.json').read_text()
    (path / 'config.json').write_text(
        text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    with pytest.raises(
        ConfigError, match=r'model\.layers\.2\.self_attn\.q_proj\.weight is missing'
    ):
        load(path)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_narrow_dtypes_stay_close_to_float32(tmp_path, embeddings, dtype):
    path = write_random_checkpoint(tmp_path)
    wide = load(path).first_logits(IDS, embeddings)
    narrow = load(path, dtype).first_logits(IDS, embeddings)
    assert abs(narrow - wide).max() < 0.05 * abs(wide).max()


@pytest.mark.parametrize('actions', [None, (31744, 32000)])
def test_generation_ends_with_the_end_of_sequence(tmp_path, embeddings, actions):
    engine = load(write_random_checkpoint(tmp_path))
    decoding = Decoding(20, 2, actions, 7, lambda ids: False, action_first=False)
    ids = engine.generate(IDS, embeddings, decoding).ids
    assert len(ids) == 20
    ending = dataclasses.replace(decoding, eos_id=ids[5])
    assert engine.generate(IDS, embeddings, ending).ids == ids[: ids.index(ids[5]) + 1]
