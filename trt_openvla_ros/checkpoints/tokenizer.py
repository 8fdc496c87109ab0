"""The Llama tokenizer of a checkpoint, and copies of its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil
from typing import Any, Literal, TYPE_CHECKING

from trt_openvla_ros.checkpoints.json_files import checked, read_object, Schema, write_json
from trt_openvla_ros.errors import ConfigError

if TYPE_CHECKING:
    import tokenizers

FAST, SENTENCEPIECE, CONFIG = 'tokenizer.json', 'tokenizer.model', 'tokenizer_config.json'
SPECIAL, ADDED = 'special_tokens_map.json', 'added_tokens.json'
TOKENIZER_FILES = (FAST, SENTENCEPIECE, CONFIG, SPECIAL, ADDED)
_WAY_OUT = 'download it again'
_TRIAL = 'pick up the cup'  # what a Llama tokenizer reads, it writes again
# Keys of CONFIG. Without them, transformers 5 leaves <s> out if there is only tokenizer.model.
LLAMA = {
    'tokenizer_class': 'LlamaTokenizer',
    'add_bos_token': True,
    'add_eos_token': False,
    'legacy': True,
}
# Keys of CONFIG that a copy keeps. The others are addresses of code, or are read by one release of
# transformers and break another: version 5 writes a tokenizer_class and extra_special_tokens that
# version 4 cannot read.
_KEPT = (
    *('added_tokens_decoder', 'bos_token', 'eos_token', 'unk_token', 'pad_token'),
    *('clean_up_tokenization_spaces', 'legacy', 'model_max_length', 'padding_side'),
)


_Token = str | dict[str, Any] | None


class _Config(Schema):
    added_tokens_decoder: dict[str, dict[str, Any]] | None = None
    bos_token: _Token = None
    eos_token: _Token = None
    unk_token: _Token = None
    pad_token: _Token = None
    add_prefix_space: bool | None = None
    clean_up_tokenization_spaces: bool | None = None
    legacy: bool | None = None
    model_max_length: float | None = None
    padding_side: Literal['left', 'right'] | None = None


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
        fast, sentencepiece = directory / FAST, directory / SENTENCEPIECE
        if not (fast.is_file() or sentencepiece.is_file()):
            raise ConfigError(f'{directory} has neither tokenizer.json nor tokenizer.model')
        path = fast if fast.is_file() else sentencepiece
        with _explained(path):
            load = self._load_fast if path == fast else self._load_sentencepiece
            load(path)
            self.bos_id = self._require('<s>', path)
            self.eos_id = self._require('</s>', path)
            self.empty_piece_id = self._require('\u2581', path)
            read = self.decode(self.encode(_TRIAL)).strip()
        if read != _TRIAL:
            raise ConfigError(
                f'{path} reads {_TRIAL!r} as {read[:80]!r}; it is not a Llama tokenizer'
            )

    def _load_fast(self, path: Path) -> None:
        fast = _read_fast(path)
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

        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.vocab_size = model.vocab_size()
        self.special = ('<unk>', '<s>', '</s>', '<PAD>')
        self._encode = model.encode
        # Ids behind the vocabulary stand for padding rows; they have no text.
        self._decode = lambda ids: model.decode([i for i in ids if i < self.vocab_size])
        self.piece_id = {model.id_to_piece(i): i for i in range(self.vocab_size)}.get

    def _require(self, piece: str, path: Path) -> int:
        index = self.piece_id(piece)
        if index is None:
            raise ConfigError(f'{path} has no piece {piece!r}; it is not a Llama tokenizer')
        return index

    def encode(self, text: str) -> list[int]:
        """Give the ids of text, beginning with <s>."""
        return [self.bos_id, *self._encode(text)]

    def decode(self, ids: list[int]) -> str:
        """Give the text of ids without special tokens."""
        return self._decode([int(i) for i in ids])


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the tokenizer, without the keys that make transformers run the checkpoint's code.

    Raises:
        ConfigError: A file cannot be read.
    """
    for name in TOKENIZER_FILES:
        if name == FAST and (source / name).is_file():
            _read_fast(source / name).save(str(directory / name))
        elif (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    path = source / CONFIG
    config = read_object(path, '', _WAY_OUT) if path.is_file() else {}
    checked(_Config, config, path, _WAY_OUT)
    kept = {key: config[key] for key in _KEPT if key in config}
    if (source / SENTENCEPIECE).is_file() and 'add_prefix_space' in config:
        # Without tokenizer.model, this key makes transformers look for it.
        kept['add_prefix_space'] = config['add_prefix_space']
    write_json(directory / CONFIG, {**LLAMA, **kept})


def _read_fast(path: Path) -> tokenizers.Tokenizer:
    """Read tokenizer.json, without what a trainer's last call left in it.

    transformers saves the padding and truncation of that call, and ignores them when it reads the
    file. Dropout is for training, and makes ids random. A text begins with <s>; nothing ends it.

    Raises:
        ConfigError: The file cannot be read.
    """
    import tokenizers

    with _explained(path):
        fast = tokenizers.Tokenizer.from_file(str(path))
    fast.no_padding()
    fast.no_truncation()
    if getattr(fast.model, 'dropout', None) is not None:
        fast.model.dropout = None
    begin = fast.token_to_id('<s>')
    if begin is not None:
        fast.post_processor = tokenizers.processors.TemplateProcessing(
            single='<s> $A', pair='<s> $A <s> $B', special_tokens=[('<s>', begin)]
        )
    return fast


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of the tokenizers' libraries into one about the file."""
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except BaseException as error:
        # A panic of the Rust library is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != 'PanicException':
            raise
        raise ConfigError(f'{path} cannot be read: {str(error)[:200]}; {_WAY_OUT}') from error
