"""The passes of a Llama over static buffers: a prompt, one token, or some tokens at once.

On CUDA each pass of a shape is captured as one graph. The chosen token goes into the next pass on
the device, so several passes may run before the host looks. On a CPU the same code is called
plainly, with exact lengths instead of buckets.

L: positions of the prompt, N: image embeddings, R: rows that choose a token, D: width, V: rows of
the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from trt_openvla_ros.engines.torch.graphs import captured, shared_memory
from trt_openvla_ros.engines.torch.llama import Llama, round_up
from trt_openvla_ros.engines.torch.picking import pick

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
    from trt_openvla_ros.engines.torch.llama_weights import LlamaWeights

# Most rows of one pass that choose a token: one and its draft.
MOST_ROWS = 64
# On CUDA a prompt is padded to a multiple of this many positions, and a draft to one of these
# numbers of rows, so that few graphs serve all lengths.
_PROMPT_STEP, _ROWS = 32, (1, 8, 16, 32, MOST_ROWS)
# Positions that padding may take behind a sequence.
_PADDING = _PROMPT_STEP + MOST_ROWS
# Padded lengths of prompts that are captured before the first request; others when they come.
_PROMPTS = 3

# Smallest and one past the largest id of an action.
Range = tuple[int, int]


class Passes:
    """The passes of one sequence.

    Attributes:
        llama: The model.
        ahead: Tokens that are worth choosing before the host looks.
    """

    @torch.inference_mode()
    def __init__(
        self, config: LlamaConfig, weights: LlamaWeights, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Hold the weights; the cache comes with `reserve`.

        Args:
            config: Shape of the model.
            weights: Its weights, on the device.
            device: Device that computes.
            dtype: Precision of the states between layers and of the cache.
        """
        self.llama, self._head = Llama(config, weights, device, dtype), weights.head
        self._device = device
        self._bucketed = device.type == 'cuda'
        # The host waits some 20 µs whenever it looks. A CPU only computes tokens that it discards.
        self.ahead = 8 if self._bucketed else 1
        self._forget()

        def ids(size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        self._text = ids(config.max_positions + _PADDING)
        self._rows, self._tokens = ids(MOST_ROWS), ids(MOST_ROWS)
        self._token, self._position, self._count = ids(1), ids(1), ids(1)
        # Chosen ids and their logits, in a type that holds both exactly.
        self._record = torch.zeros(MOST_ROWS, 4, dtype=torch.float64, device=device)
        shape = MOST_ROWS, config.hidden_size
        self._hidden = torch.zeros(shape, dtype=dtype, device=device)
        self._image = torch.zeros(0, config.hidden_size, dtype=dtype, device=device)
        self._window: int | None = None

    @torch.inference_mode()
    def reserve(self, positions: int) -> None:
        """Make room for a sequence; what is cached stays."""
        if self.llama.reserve(positions + _PADDING):
            self._forget()

    def _forget(self) -> None:
        """Forget all captures: they belong to tensors that are gone."""
        self._runs: dict[tuple, Callable[[], None]] = {}
        self._memory = shared_memory(self._device)

    @torch.inference_mode()
    def clear(self) -> None:
        """Forget the cached values: zero times NaN is NaN, so one would spoil later answers."""
        self.llama.cache.zero_()

    @torch.inference_mode()
    def prompt(
        self,
        ids: Sequence[int],
        image: torch.Tensor,
        draft: Sequence[int],
        actions: Range | None,
        constrained: bool,
    ) -> None:
        """Run the prompt and its draft, and choose tokens.

        Args:
            ids: Token ids, <s> first.
            image: [N, D] image embeddings, placed behind <s>.
            draft: Ids that may follow. If there are none, the chosen token goes into the next
                `step`; else each position chooses, for `read_rows`.
            actions: Range of action ids; None if there are none.
            constrained: Whether `step` continues with an action id; a draft chooses both ways.
        """
        length, rows = len(ids) + len(image), 1 + len(draft)
        padded, wide = length + len(draft), rows
        if self._bucketed:
            wide = _bucket(rows)
            padded = round_up(length, _PROMPT_STEP) + (wide if draft else 0)
        if len(image) != len(self._image):
            self._forget()
            self._image = self._hidden.new_empty(len(image), self._hidden.shape[1])
        self._image.copy_(image)
        written = [*ids, *draft]
        text = padded - len(image)
        self._text[:text].copy_(_host([*written, *[0] * (text - len(written))]))
        chosen = range(length - 1, length - 1 + rows)
        self._rows[:wide].copy_(_host([*chosen, *[chosen[-1]] * (wide - rows)]))
        self._position.fill_(length - 1)  # of the token that chose; a step moves on first
        self._count.zero_()
        self._run('prompt', text, wide, actions, constrained and not draft)

    def capture(
        self,
        ids: Sequence[int],
        image: torch.Tensor,
        actions: Range | None,
        kinds: Sequence[bool],
        drafts: bool,
    ) -> None:
        """Capture the passes that answers will need, so that none waits; what is cached goes.

        Args:
            ids: Token ids of a short prompt, <s> first.
            image: [N, D] image embeddings.
            actions: Range of action ids; None if there are none.
            kinds: Values of `constrained`, that of the first token in front.
            drafts: Whether there will be drafts.
        """
        if not self._bucketed:
            return
        rows = _ROWS if drafts else _ROWS[:1]
        for longer in range(_PROMPTS):
            prompt = [*ids, *[ids[-1]] * (longer * _PROMPT_STEP)]
            for size in rows:
                self.prompt(prompt, image, ids[:1] * (size - 1), actions, kinds[0])
        for kind in kinds:
            self.resume(ids[0], len(prompt))
            self.step(actions, kind)
        for size in rows[1:]:
            self.verify(ids[0], ids[:1] * (size - 1), len(prompt), actions)
        self.clear()

    @torch.inference_mode()
    def step(self, actions: Range | None, constrained: bool) -> None:
        """Run the chosen token at the next position, and choose another."""
        self._run('step', 1, 1, actions, constrained)

    @torch.inference_mode()
    def verify(
        self, token: int, draft: Sequence[int], position: int, actions: Range | None
    ) -> None:
        """Run a token and its draft, from a position on; each row chooses, for `read_rows`."""
        rows = 1 + len(draft)
        wide = _bucket(rows) if self._bucketed else rows
        self._tokens[:wide].copy_(_host([token, *draft, *[token] * (wide - rows)]))
        self._position.fill_(position)
        self._window = None if self._bucketed else self.llama.window(position + wide)
        self._run('verify', wide, wide, actions, False)

    @torch.inference_mode()
    def resume(self, token: int, position: int) -> None:
        """Let the next `step` run this token at this position."""
        self._token.fill_(token)
        self._position.fill_(position - 1)
        self._count.zero_()

    @torch.inference_mode()
    def read(self, count: int, constrained: bool) -> list[list[float]]:
        """Wait for the chosen tokens since `prompt`, `resume` or the last read.

        Args:
            count: Number of them.
            constrained: Whether they were chosen so.

        Returns:
            For each token its id, its logit, the id that all rows of the head would have chosen,
            and that one's logit.
        """
        record = self._record[:count]
        if constrained:
            # One product for all of them, instead of one for each.
            best, free = self._logits(self._hidden[:count]).max(dim=-1)
            record[:, 2:] = torch.stack([free.double(), best.double()], dim=1)
        else:
            record[:, 2:] = record[:, :2]
        self._count.zero_()
        return record.tolist()

    @torch.inference_mode()
    def read_rows(self, count: int) -> list[list[float]]:
        """Wait for the first rows of a pass with a draft.

        Returns:
            For each row its constrained id and logit, then its free id and logit.
        """
        return self._record[:count].tolist()

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], image: torch.Tensor, every: bool = False) -> torch.Tensor:
        """Run a prompt and give the [1 or L, V] logits at its last or at every position."""
        text, last = _host(ids).to(self._device), len(ids) + len(image) - 1
        rows = None if every else _host([last]).to(self._device)
        return self._logits(self.llama.prompt(text, image.to(self._hidden), rows))

    @torch.inference_mode()
    def token_logits(self, token: int, position: int) -> torch.Tensor:
        """Run one token at the position behind the cached ones, and give [V] logits."""
        self.reserve(position + 1)
        window = None if self._bucketed else self.llama.window(position + 1)
        tokens, start = (_host([number]).to(self._device) for number in (token, position))
        return self._logits(self.llama.step(tokens, start, window))[0]

    def _run(self, kind: str, size: int, rows: int, *choice: object) -> None:
        if kind == 'step' and not self._bucketed:
            self._window = self.llama.window(int(self._position) + 2)
        key = (kind, size, rows, *choice)
        if key not in self._runs:
            body = partial(getattr(self, f'_{kind}'), size, rows, *choice)
            # Before a capture the pass runs, which moves what it and the next one start from.
            state = self._token, self._position, self._count
            kept = [part.clone() for part in state]
            self._runs[key] = captured(body, self._device, self._memory)
            for part, value in zip(state, kept, strict=True):
                part.copy_(value)
        self._runs[key]()

    def _prompt(self, text: int, rows: int, actions: Range | None, constrained: bool) -> None:
        hidden = self.llama.prompt(self._text[:text], self._image, self._rows[:rows])
        if rows > 1:
            self._choose_rows(hidden, actions)
        else:
            self._choose(hidden, actions, constrained)

    def _step(self, _size: int, _rows: int, actions: Range | None, constrained: bool) -> None:
        self._position.add_(1)
        hidden = self.llama.step(self._token, self._position, self._window)
        self._choose(hidden, actions, constrained)

    def _verify(self, size: int, _rows: int, actions: Range | None, _constrained: bool) -> None:
        hidden = self.llama.step(self._tokens[:size], self._position, self._window)
        self._choose_rows(hidden, actions)

    def _choose(self, hidden: torch.Tensor, actions: Range | None, constrained: bool) -> None:
        """Choose the token that goes into the next step."""
        head = self._head
        # While constrained, only the action's rows of the head; `read` makes up for the others.
        first, end = actions if constrained else (0, len(head))
        best, token = pick(hidden, head, self.llama.norm, first, end - first)
        self._token.copy_(token)
        chosen = torch.stack([token.double(), best.double()], dim=1)
        self._record[:, :2].index_copy_(0, self._count, chosen)
        self._hidden.index_copy_(0, self._count, hidden)
        self._count.add_(1)

    def _choose_rows(self, hidden: torch.Tensor, actions: Range | None) -> None:
        logits = self._logits(hidden)
        best, free = logits.max(dim=-1)
        bound_best, bound = best, free
        if actions is not None:
            bound_best, bound = logits[:, slice(*actions)].max(dim=-1)
            bound = bound + actions[0]
        columns = [part.double() for part in (bound, bound_best, free, best)]
        self._record[: len(hidden)].copy_(torch.stack(columns, dim=1))

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map [R, D] final hidden states to [R, V] logits."""
        return F.linear(self.llama.norm(hidden), self._head)


def _host(ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int64)


def _bucket(rows: int) -> int:
    return next(size for size in _ROWS if size >= rows)
