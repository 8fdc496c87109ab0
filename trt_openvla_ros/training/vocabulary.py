"""A small vocabulary in Llama's format.

As Llama's: SentencePiece BPE, <unk> <s> </s>, byte fallback, the 256 last pieces unused in text
and so free for actions. Unlike it: a number up to 255 is one piece, which halves the length of a
reasoning with boxes and lets neighbouring pixels share a loss.
"""

from __future__ import annotations

from collections.abc import Iterable
import io
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2, SentencePieceTrainer
from tokenizers import AddedToken, decoders, models, normalizers, processors, Tokenizer

from trt_openvla_ros.checkpoints.json_files import write_json
from trt_openvla_ros.checkpoints.tokenizer import (
    ADDED,
    CONFIG,
    FAST,
    LLAMA,
    SENTENCEPIECE,
    SPECIAL,
)
from trt_openvla_ros.checkpoints.tokenizer import (
    Tokenizer as LlamaTokenizer,
)

BINS = 256
PADDING = 64  # rows behind the vocabulary, as in the released models
_ALIGN = 64
_SPACE = '\u2581'


def write_vocabulary(directory: Path, corpus: Iterable[str]) -> int:
    """Write the tokenizer's files to directory and return the number of pieces.

    Args:
        directory: Is made; complete or absent when this returns or is interrupted.
        corpus: Sentences such as the model will read and write; numbers do not matter.
    """
    model = sentencepiece_model_pb2.ModelProto.FromString(_train(corpus))
    known = {piece.piece for piece in model.pieces}
    lowest = min(piece.score for piece in model.pieces)

    def append(piece: str) -> None:
        nonlocal lowest
        if piece not in known:
            lowest -= 1
            known.add(piece)
            model.pieces.add(piece=piece, score=lowest)

    for digit in '0123456789[':
        append(digit)
    for start in (_SPACE, f'{_SPACE}['):
        if start != _SPACE:
            append(start)
        # Shorter first: a merge needs both its halves.
        for number in sorted(range(256), key=lambda n: (len(str(n)), n)):
            append(f'{start}{number}')
    rare = 0x4E00
    while (len(model.pieces) + BINS) % _ALIGN:
        append(chr(rare))
        rare += 1
    for index in range(BINS):
        append(chr(rare + index))
    unfinished = directory.with_suffix('.part')
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / SENTENCEPIECE).write_bytes(model.SerializeToString())
    count = len(model.pieces)
    _fast(model, count).save(str(unfinished / FAST))
    special = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<PAD>'}
    files = {
        ADDED: {'<PAD>': count},
        SPECIAL: special,
        CONFIG: {
            **LLAMA,
            'clean_up_tokenization_spaces': False,
            'model_max_length': 2048,
            'padding_side': 'right',
            **special,
        },
    }
    for name, content in files.items():
        write_json(unfinished / name, content)
    unfinished.rename(directory)
    return count


def number_runs(tokenizer: LlamaTokenizer) -> list[range]:
    """List the ids of consecutive numbers: an action's bins, then pixels, which may be no pieces.

    Args:
        tokenizer: Tokenizer that `write_vocabulary` wrote, or any other in Llama's format.
    """
    last = tokenizer.vocab_size
    runs = [range(last - BINS, last)]
    for start in (_SPACE, f'{_SPACE}['):
        first = tokenizer.piece_id(f'{start}0')
        ids = [tokenizer.piece_id(f'{start}{number}') for number in range(256)]
        if ids == list(range(first, first + 256)):
            runs.append(range(first, first + 256))
    return runs


def _train(corpus: Iterable[str]) -> bytes:
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=written,
        model_type='bpe',
        vocab_size=600,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name='identity',
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def _fast(model: sentencepiece_model_pb2.ModelProto, pad: int) -> Tokenizer:
    """Say the same in the format of `tokenizers`."""
    vocabulary = {piece.piece: index for index, piece in enumerate(model.pieces)}
    merges = []
    for piece in sorted(model.pieces, key=lambda piece: -piece.score):
        if piece.type == piece.NORMAL:
            halves = ((piece.piece[:at], piece.piece[at:]) for at in range(1, len(piece.piece)))
            merges += [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
    fast = Tokenizer(
        models.BPE(vocabulary, merges, unk_token='<unk>', fuse_unk=True, byte_fallback=True)
    )
    fast.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), normalizers.Replace(' ', _SPACE)]
    )
    fast.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, ' '),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(' ', 1, 0),
        ]
    )
    fast.post_processor = processors.TemplateProcessing(
        single='<s> $A', pair='<s> $A <s> $B', special_tokens=[('<s>', 1)]
    )
    special = ('<unk>', '<s>', '</s>', '<PAD>')
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    assert fast.token_to_id('<PAD>') == pad
    return fast
