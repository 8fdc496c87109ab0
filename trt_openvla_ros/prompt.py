"""Instructions to prompts to token ids, and ids back to text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import logging
from pathlib import Path
import re
from typing import TYPE_CHECKING
import unicodedata

from trt_openvla_ros.errors import ConfigError, InputError

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoint import Checkpoint

_log = logging.getLogger(__name__)

_QUESTION = 'What action should the robot take to {instruction}?'
_VICUNA = (
    'A chat between a curious user and an artificial intelligence assistant. The assistant gives '
    "helpful, detailed, and polite answers to the user's questions. "
    f'USER: {_QUESTION} ASSISTANT:'
)


@dataclass(frozen=True)
class PromptStyle:
    """How a model family was asked during training.

    Attributes:
        template: The prompt with {instruction}.
        appends_empty_piece: The prompt ends with the lone space piece, which stands before the
            first action token in training; models that reason write it themselves.
        reasons: Text comes before the action and the length of the answer is open.
    """

    template: str
    appends_empty_piece: bool
    reasons: bool


# Sources: deploy.py of openvla/openvla; the prompt of MichalZawalski/embodied-CoT.
PROMPT_STYLES = {
    'openvla': PromptStyle(f'In: {_QUESTION}\nOut:', True, False),
    'vicuna': PromptStyle(f'{_VICUNA} TASK:', False, True),
    'vicuna_v01': PromptStyle(_VICUNA, True, False),
}


def prompt_style_of(llm_backbone_id: str, unnorm_keys: tuple[str, ...]) -> str:
    """Choose a style from the checkpoint.

    openvla-7b-v01 and the Embodied-CoT models have the same configuration but for their
    statistics: v01 was trained on the Open X-Embodiment mix, RT-1's set included; of the
    Embodied-CoT models the one with that mix has 'bridge_reasoning' in it. A fine-tune of v01
    on other data cannot be told apart and needs the explicit style.

    Raises:
        ConfigError: The backbone was never asked in one of the known styles.
    """
    if llm_backbone_id.startswith('vicuna'):
        plain = 'fractal20220817_data' in unnorm_keys and 'bridge_reasoning' not in unnorm_keys
        return 'vicuna_v01' if plain else 'vicuna'
    if llm_backbone_id.endswith('-pure'):
        return 'openvla'
    raise ConfigError(
        f'no prompt is known for llm_backbone_id {llm_backbone_id!r}; '
        f'set prompt_style to one of {", ".join(PROMPT_STYLES)}'
    )


def is_prompt(text: str) -> bool:
    """Tell whether a text is a whole prompt of one of the styles and no instruction."""
    return text.startswith(('In: ', _VICUNA.partition('.')[0]))


def refuse_special(instruction: str, special: Iterable[str]) -> None:
    """Refuse text that the tokenizer, or whoever wrote it, takes for something else.

    Args:
        instruction: What the user says, or a prompt.
        special: The tokenizer's special tokens.

    Raises:
        InputError: It is no text, or contains a special token.
    """
    if not isinstance(instruction, str):
        raise InputError(f'instruction is a {type(instruction).__name__}; text is needed')
    for token in (*special, '<image>'):
        # Compared without case: normalising would turn '<PAD>' into harmless text, but
        # whoever sends it expects something else to happen.
        if token.lower() in instruction.lower():
            raise InputError(
                f'instruction {instruction!r} contains the special token {token!r}; remove it'
            )


def normalise_instruction(instruction: str) -> str:
    """Bring an instruction into the form of the training data.

    Lower case, no control characters, single spaces, no full stop at the end.

    Raises:
        InputError: Nothing is left.
    """
    spaced = ''.join(
        ' ' if unicodedata.category(character) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp') else character
        for character in instruction
    )
    text = re.sub(r'\s+', ' ', spaced).strip().rstrip('.').rstrip().lower()
    if not text:
        raise InputError(f'instruction {instruction!r} is empty')
    return text


class Tokenizer:
    """The checkpoint's Llama tokenizer, by `tokenizers` or `sentencepiece`.

    Attributes:
        vocab_size: Size of the text vocabulary, without added tokens and padding rows.
        bos_id, eos_id, empty_piece_id: Ids of <s>, </s> and the lone space piece.
        piece_id: Gives the id of a piece, None where there is no such piece.
    """

    def __init__(self, directory: Path) -> None:
        """Read tokenizer.json, or tokenizer.model where there is none, from directory."""
        if (directory / 'tokenizer.json').is_file():
            self._load_fast(directory / 'tokenizer.json')
        elif (directory / 'tokenizer.model').is_file():
            self._load_sentencepiece(directory / 'tokenizer.model')
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
        # Ids past the vocabulary are padding rows; they have no text.
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


def check_vocabulary(tokenizer: Tokenizer, checkpoint: Checkpoint) -> None:
    """Refuse a tokenizer that is not of the checkpoint's model.

    Raises:
        ConfigError: It has more pieces than the model has rows.
    """
    pieces, rows = tokenizer.vocab_size, checkpoint.llm.vocab_size
    if pieces > rows:
        raise ConfigError(
            f'the tokenizer in {checkpoint.path} has {pieces} pieces and the model {rows} rows; '
            'they are not of one checkpoint'
        )
    padding = checkpoint.config.get('pad_to_multiple_of', 64)
    if pieces != rows - padding:
        # The reference counts action tokens from there; training counted from the tokenizer.
        _log.warning(
            'the tokenizer has %d pieces and config.json means %d (%d rows less %d); actions are '
            'counted from the tokenizer',
            pieces,
            rows - padding,
            rows,
            padding,
        )


@dataclass(frozen=True)
class Prompter:
    """Makes prompts of one style for one tokenizer."""

    tokenizer: Tokenizer
    style: PromptStyle

    def __call__(self, instruction: str, verbatim: bool = False) -> tuple[str, list[int]]:
        """Make the prompt and its ids, <s> first; verbatim: the instruction is the prompt.

        Raises:
            InputError: The instruction is empty or holds a special token's text.
        """
        refuse_special(instruction, self.tokenizer.special)
        text = instruction
        if not verbatim:
            text = self.style.template.format(instruction=normalise_instruction(instruction))
        ids = self.tokenizer.encode(text)
        empty = self.tokenizer.empty_piece_id
        if self.style.appends_empty_piece and ids[-1] != empty:
            ids.append(empty)
        return text, ids
