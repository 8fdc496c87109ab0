"""Instructions to prompts to token ids, and ids back to text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import logging
import re
import string
import unicodedata

from trt_openvla_ros.checkpoints.released import Checkpoint
from trt_openvla_ros.checkpoints.tokenizer import Tokenizer
from trt_openvla_ros.errors import ConfigError, InputError

_log = logging.getLogger(__name__)

# Characters, of a whole prompt too: far beyond any instruction; a context has 2048 tokens.
MAX_INSTRUCTION = 2000

_QUESTION = 'What action should the robot take to {instruction}?'
_RT1 = 'fractal20220817_data'
_VICUNA = (
    'A chat between a curious user and an artificial intelligence assistant. The assistant gives '
    "helpful, detailed, and polite answers to the user's questions. "
    f'USER: {_QUESTION} ASSISTANT:'
)


@dataclass(frozen=True)
class PromptStyle:
    """The form of the prompts with which a model family was trained.

    Attributes:
        template: The prompt with {instruction}.
        appends_empty_piece: Whether the prompt ends with the lone space piece. In training this
            piece stands before the first action token; models that reason write it themselves.
        reasons: Whether text comes before the action; the answer then has no fixed length.
    """

    template: str
    appends_empty_piece: bool
    reasons: bool


# Sources: deploy.py of openvla/openvla; the prompt of MichalZawalski/embodied-CoT, whose training
# puts the reasoning into the answer of the language model's own prompt.
PROMPT_STYLES = {
    'openvla': PromptStyle(f'In: {_QUESTION}\nOut:', True, False),
    'openvla_reasoning': PromptStyle(f'In: {_QUESTION}\nOut: TASK:', False, True),
    'vicuna': PromptStyle(f'{_VICUNA} TASK:', False, True),
    'vicuna_v01': PromptStyle(_VICUNA, True, False),
}

_ASK = _QUESTION.partition('{')[0]
# What stands in prompts and not in instructions; `ros2 topic pub` may leave \n as two characters.
_PIECES = re.compile(
    rf'{_ASK.strip()}|^a chat between a curious|\b(?:user|assistant):|(?:^|\n|\\n) ?(?:in|out):',
    re.IGNORECASE,
)


def prompt_style_of(llm_backbone_id: str, unnorm_keys: Iterable[str]) -> tuple[str, str]:
    """Choose a style from the checkpoint.

    The language model decides the form of the prompt, and the statistics decide whether the model
    reasons. The configurations of openvla-v01-7b and ecot-openvla-7b-bridge differ only in their
    statistics: v01 was trained on the Open X-Embodiment mix, which includes RT-1's data set. A
    fine-tune of v01 on other data looks like Embodied-CoT, so it needs an explicit style.
    ecot-openvla-7b-oxe has that mix and the backbone of openvla-7b; only its data set
    bridge_reasoning tells that it reasons.

    Returns:
        The style, and the rule that chose it, for people.

    Raises:
        ConfigError: No style is known for the language model.
    """
    vicuna, keys = llm_backbone_id.startswith('vicuna'), tuple(unnorm_keys)
    if not vicuna and not llm_backbone_id.endswith('-pure'):
        raise ConfigError(
            f'no prompt is known for llm_backbone_id {llm_backbone_id!r}; '
            f'set prompt_style to one of {", ".join(PROMPT_STYLES)}'
        )
    rule = f'llm_backbone_id is {llm_backbone_id}'
    reasoning = next((key for key in keys if key.endswith('_reasoning')), None)
    if reasoning:
        style = 'vicuna' if vicuna else 'openvla_reasoning'
        return style, f'{rule}, and statistics of {reasoning} mean that the model reasons'
    if not vicuna:
        return 'openvla', f'{rule}, and no statistics of *_reasoning mean that the model reasons'
    if _RT1 in keys:
        return 'vicuna_v01', f'{rule}, and statistics of {_RT1} mean openvla-v01-7b'
    return 'vicuna', f'{rule}, and no statistics of {_RT1} mean openvla-v01-7b'


def whole_prompt(text: str, template: str) -> str:
    """Recognise a whole prompt, as the clients of other servers send it.

    Args:
        text: Instruction or whole prompt.
        template: Template of the model's style.

    Returns:
        The prompt without the line ends and the spaces around it that training never had; '' if
        the text is an instruction.

    Raises:
        InputError: The text is the prompt of another style, or a part of a prompt. Models answer
            such texts with motion that nobody meant.
    """
    stripped = re.sub('\r\n?', '\n', text).strip(f'{string.whitespace}\ufeff\u200b')
    if not _PIECES.search(stripped):
        return ''
    for name, style in PROMPT_STYLES.items():
        head, tail = style.template.split(_QUESTION)
        # A client may have begun the reasoning.
        begun = stripped.partition(tail)[2] if style.reasons else ''
        middle = stripped.removeprefix(head).removesuffix(begun).removesuffix(tail)
        if head + middle + tail + begun != stripped:
            continue
        asked = middle.removeprefix(_ASK)
        if style.template != template:
            raise InputError(
                f'{text!r:.300} is a whole prompt of prompt_style {name!r}, and this model reads '
                f'{template!r}; give the instruction alone'
            )
        if asked.strip(' ?.') not in ('', '{instruction}') and not _PIECES.search(asked):
            return stripped
    raise InputError(
        f'{text!r:.300} has parts of a prompt and is not a whole one of this model, which is '
        f'{template!r}; give the instruction alone'
    )


def make_prompt(
    instruction: str, template: str, special: Iterable[str], verbatim: bool = False
) -> str:
    """Make the prompt that a model reads.

    Args:
        instruction: Instruction of the user, or a whole prompt.
        template: Template of the model's style.
        special: Special tokens of the tokenizer.
        verbatim: Whether the instruction is a prompt, whatever it looks like.

    Raises:
        InputError: The instruction is empty, holds a special token's text, or is a prompt but not
            one of this model.
    """
    refuse_special(instruction, special)
    if verbatim:
        return instruction
    return whole_prompt(instruction, template) or template.format(
        instruction=normalise_instruction(instruction)
    )


def refuse_special(instruction: str, special: Iterable[str]) -> None:
    """Refuse text that is too long or contains a special token.

    Args:
        instruction: Instruction or whole prompt.
        special: Special tokens of the tokenizer.

    Raises:
        InputError: The instruction is not text, is longer than MAX_INSTRUCTION, or contains a
            special token.
    """
    if not isinstance(instruction, str):
        raise InputError(f'instruction is a {type(instruction).__name__}; text is needed')
    if len(instruction) > MAX_INSTRUCTION:
        raise InputError(
            f'instruction has {len(instruction)} characters; {MAX_INSTRUCTION} are allowed: '
            f'{instruction[:60]!r}...'
        )
    for token in (*special, '<image>'):
        # Compared without case: normalising would turn '<PAD>' into harmless text, but its
        # sender expects a special token.
        if token.lower() in instruction.lower():
            raise InputError(
                f'instruction {instruction!r} contains the special token {token!r}; remove it'
            )


def normalise_instruction(instruction: str) -> str:
    """Bring an instruction into the form of the training data.

    Lower case, no control characters, single spaces, no full stop at the end.

    Raises:
        InputError: Nothing is left of the instruction.
    """
    spaced = ''.join(
        ' ' if unicodedata.category(character) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp') else character
        for character in instruction
    )
    text = re.sub(r'\s+', ' ', spaced).strip().rstrip('.').rstrip().lower()
    if not text:
        raise InputError(f'instruction {instruction!r} is empty')
    return text


def check_vocabulary(tokenizer: Tokenizer, checkpoint: Checkpoint) -> None:
    """Refuse a tokenizer that belongs to another model.

    Raises:
        ConfigError: The tokenizer has more pieces than the model has rows.
    """
    pieces, rows = tokenizer.vocab_size, checkpoint.llm.vocab_size
    if pieces > rows:
        raise ConfigError(
            f'the tokenizer in {checkpoint.path} has {pieces} pieces and the model {rows} rows; '
            'they are not of one checkpoint'
        )
    padding = checkpoint.padding_rows
    if pieces != rows - padding:
        # The reference counts action tokens from config.json's number; training did not.
        _log.warning(
            'the tokenizer has %d pieces and config.json means %d (%d rows minus %d of padding); '
            "action tokens are counted from the tokenizer's",
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
        """Make the prompt and its ids, which begin with <s>.

        Raises:
            InputError: One of the errors of `make_prompt`, whose arguments these are.
        """
        text = make_prompt(instruction, self.style.template, self.tokenizer.special, verbatim)
        ids = self.tokenizer.encode(text)
        empty = self.tokenizer.empty_piece_id
        if self.style.appends_empty_piece and ids[-1] != empty:
            ids.append(empty)
        return text, ids
