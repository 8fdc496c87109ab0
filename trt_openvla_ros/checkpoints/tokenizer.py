"""The Llama tokenizer of a checkpoint, and copies of its files."""

from __future__ import annotations

from pathlib import Path
import shutil

from trt_openvla_ros.checkpoints.json_files import read_object, write_json
from trt_openvla_ros.errors import ConfigError

FAST, SENTENCEPIECE, CONFIG = 'tokenizer.json', 'tokenizer.model', 'tokenizer_config.json'
SPECIAL, ADDED = 'special_tokens_map.json', 'added_tokens.json'
TOKENIZER_FILES = (FAST, SENTENCEPIECE, CONFIG, SPECIAL, ADDED)
# Keys of CONFIG. Without them, transformers 5 leaves <s> out if there is only tokenizer.model.
LLAMA = {
    'tokenizer_class': 'LlamaTokenizer',
    'add_bos_token': True,
    'add_eos_token': False,
    'legacy': True,
}


class Tokenizer:
    """The Llama tokenizer of a checkpoint, read with `tokenizers` or `sentencepiece`.

    Attributes:
        vocab_size: Size of the text vocabulary, without added tokens and padding rows.
        bos_id, eos_id, empty_piece_id: Ids of <s>, </s> and the lone space piece.
        special: Texts of the special tokens.
        piece_id: Function that gives the id of a piece; None if there is no such piece.
    """

    def __init__(self, directory: Path) -> None:
        """Read tokenizer.json of a directory, or tokenizer.model if there is no tokenizer.json."""
        if (directory / FAST).is_file():
            self._load_fast(directory / FAST)
        elif (directory / SENTENCEPIECE).is_file():
            self._load_sentencepiece(directory / SENTENCEPIECE)
        else:
            raise ConfigError(f'{directory} has neither tokenizer.json nor tokenizer.model')
        self.bos_id = self._require('<s>')
        self.eos_id = self._require('</s>')
        self.empty_piece_id = self._require('\u2581')

    def _load_fast(self, path: Path) -> None:
        import tokenizers

        try:
            fast = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise ConfigError(f'{path} cannot be read: {error}; download it again') from error
        self.vocab_size = fast.get_vocab_size(with_added_tokens=False)
        self.special = tuple(
            fast.get_added_tokens_decoder()[i].content
            for i in sorted(fast.get_added_tokens_decoder())
        )
        self._encode = lambda text: fast.encode(text, add_special_tokens=False).ids
        self._decode = lambda ids: fast.decode(ids, skip_special_tokens=True)
        self.piece_id = fast.token_to_id

    def _load_sentencepiece(self, path: Path) -> None:
        import sentencepiece

        try:
            model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ConfigError(f'{path} cannot be read: {error}; download it again') from error
        self.vocab_size = model.vocab_size()
        self.special = ('<unk>', '<s>', '</s>', '<PAD>')
        self._encode = model.encode
        # Ids behind the vocabulary stand for padding rows; they have no text.
        self._decode = lambda ids: model.decode([i for i in ids if i < self.vocab_size])
        self.piece_id = {model.id_to_piece(i): i for i in range(self.vocab_size)}.get

    def _require(self, piece: str) -> int:
        index = self.piece_id(piece)
        if index is None:
            raise ConfigError(f'the tokenizer has no piece {piece!r}; it is not a Llama tokenizer')
        return index

    def encode(self, text: str) -> list[int]:
        """Give the ids of text, beginning with <s>."""
        return [self.bos_id, *self._encode(text)]

    def decode(self, ids: list[int]) -> str:
        """Give the text of ids without special tokens."""
        return self._decode([int(i) for i in ids])


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the tokenizer, without the keys that make transformers run the checkpoint's code."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    path = directory / CONFIG
    config = read_object(path, '', 'download it again') if path.is_file() else {}
    config.pop('auto_map', None)
    config.pop('processor_class', None)
    if not (directory / SENTENCEPIECE).is_file():
        # This key makes transformers build the fast tokenizer from tokenizer.model; tokenizer.json
        # already holds it.
        config.pop('add_prefix_space', None)
    write_json(path, {**LLAMA, **config})
