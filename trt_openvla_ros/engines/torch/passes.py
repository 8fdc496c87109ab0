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

from trt_openvla_ros.engines.torch.graphs import captured
from trt_openvla_ros.engines.torch.llama import DecoderLayer, rotary_table

if TYPE_CHECKING:
    from trt_openvla_ros.checkpoints.llama_config import LlamaConfig
    from trt_openvla_ros.engines.torch.llama_weights import LlamaWeights

# Most rows of one pass that choose a token: one and its draft.
MOST_ROWS = 64
# On CUDA a prompt is padded to a multiple of this many positions, and a draft to one of these
# numbers of rows, so that few graphs serve all lengths.
_PROMPT_STEP, _ROWS = 32, (1, 8, 16, 32, MOST_ROWS)
# The cache grows by this many positions. A step on the CPU reads a multiple of it, because an
# operator is prepared anew for each new shape.
_WINDOW = 256

# Smallest and one past the largest id of an action.
Range = tuple[int, int]


class Passes:
    """The passes of one sequence.

    Attributes:
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
        self._config, self._weights = config, weights
        self._device, self._dtype = device, dtype
        self._bucketed = device.type == 'cuda'
        # The host waits some 20 µs whenever it looks. A CPU only computes tokens that it discards.
        self.ahead = 8 if self._bucketed else 1
        self.layers = [DecoderLayer(config, layer) for layer in weights.layers]
        room = config.max_positions + MOST_ROWS
        self._rotation = rotary_table(config, room, device, dtype)
        self._runs: dict[tuple, Callable[[], None]] = {}

        def ids(size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int64, device=device)

        self._text, self._rows, self._tokens = ids(room), ids(MOST_ROWS), ids(MOST_ROWS)
        self._token, self._position, self._count = ids(1), ids(1), ids(1)
        # Chosen ids and their logits, in a type that holds both exactly.
        self._record = torch.zeros(MOST_ROWS, 4, dtype=torch.float64, device=device)
        shape = MOST_ROWS, config.hidden_size
        self._hidden = torch.zeros(shape, dtype=dtype, device=device)
        self._image = torch.zeros(0, config.hidden_size, dtype=dtype, device=device)
        shape = config.num_layers, 2, config.num_kv_heads, 0, config.head_dim
        self.cache = torch.zeros(shape, dtype=dtype, device=device)
        self._window: int | None = None

    @torch.inference_mode()
    def reserve(self, positions: int) -> None:
        """Make room for a sequence; what is cached stays."""
        c, old = self._config, self.cache
        # Behind the last position stand the rows of padding of a draft.
        length = _round_up(positions + MOST_ROWS, _WINDOW)
        if length <= old.shape[3]:
            return
        self._runs.clear()
        shape = (c.num_layers, 2, c.num_kv_heads, length, c.head_dim)
        self.cache = torch.zeros(shape, dtype=self._dtype, device=self._device)
        self.cache[:, :, :, : old.shape[3]] = old
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            layer.keys, layer.values = keys, values

    @torch.inference_mode()
    def clear(self) -> None:
        """Forget the cached values: zero times NaN is NaN, so one would spoil later answers."""
        self.cache.zero_()

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
            padded, wide = _round_up(padded, _PROMPT_STEP), _bucket(rows)
        if image.shape != self._image.shape:
            self._runs.clear()
            self._image = torch.empty_like(image, dtype=self._dtype, device=self._device)
        self._image.copy_(image)
        written = [*ids, *draft]
        text = padded - len(image)
        self._text[:text].copy_(_host([*written, *[0] * (text - len(written))]))
        chosen = range(length - 1, length - 1 + rows)
        self._rows[:wide].copy_(_host([*chosen, *[chosen[-1]] * (wide - rows)]))
        self._position.fill_(length - 1)  # of the token that chose; a step moves on first
        self._count.zero_()
        self._run('prompt', text, wide, actions, constrained and not draft)

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
        self._window = None if self._bucketed else self._window_of(position + wide)
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
            best, free = F.linear(self._hidden[:count], self._weights.head).max(dim=-1)
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
        if not every:
            self.prompt(ids, image, (), None, False)
            return F.linear(self._hidden[:1], self._weights.head)
        text = _host(ids).to(self._device)
        hidden = self._over_prompt(text, image.to(self._rotation), None)
        return F.linear(hidden, self._weights.head)

    @torch.inference_mode()
    def token_logits(self, token: int, position: int) -> torch.Tensor:
        """Run one token at the position behind the cached ones, and give [V] logits."""
        self.reserve(position + 1)
        self.verify(token, (), position, None)
        return F.linear(self._hidden[:1], self._weights.head)[0]

    def _run(self, kind: str, size: int, rows: int, *choice: object) -> None:
        if kind == 'step' and not self._bucketed:
            self._window = self._window_of(int(self._position) + 2)
        key = (kind, size, rows, *choice)
        if key not in self._runs:
            body = getattr(self, f'_{kind}')
            self._runs[key] = captured(partial(body, size, rows, *choice), self._device)
        self._runs[key]()

    def _window_of(self, positions: int) -> int:
        return min(_round_up(positions, _WINDOW), self.cache.shape[3])

    def _prompt(self, text: int, rows: int, actions: Range | None, constrained: bool) -> None:
        hidden = self._over_prompt(self._text[:text], self._image, self._rows[:rows])
        if rows > 1:
            self._choose_rows(hidden, actions)
        else:
            self._choose(hidden, actions, constrained)

    def _over_prompt(
        self, text: torch.Tensor, image: torch.Tensor, rows: torch.Tensor | None
    ) -> torch.Tensor:
        words = F.embedding(text, self._weights.embedding)
        hidden = torch.cat([words[:1], image, words[1:]])
        for layer in self.layers[:-1]:
            hidden = layer.prompt(hidden, self._rotation, None)
        # Only these rows of the last layer are read, which costs less.
        return self._normalise(self.layers[-1].prompt(hidden, self._rotation, rows))

    def _step(self, _size: int, _rows: int, actions: Range | None, constrained: bool) -> None:
        self._position.add_(1)
        self._choose(self._over_step(self._token), actions, constrained)

    def _verify(self, size: int, _rows: int, actions: Range | None, _constrained: bool) -> None:
        self._choose_rows(self._over_step(self._tokens[:size]), actions)

    def _over_step(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = F.embedding(tokens, self._weights.embedding)
        for layer in self.layers:
            hidden = layer.step(hidden, self._rotation, self._position, self._window)
        return self._normalise(hidden)

    def _normalise(self, hidden: torch.Tensor) -> torch.Tensor:
        norm = self._weights.norm
        return F.rms_norm(hidden, norm.shape, norm, self._config.rms_norm_eps)

    def _choose(self, hidden: torch.Tensor, actions: Range | None, constrained: bool) -> None:
        """Choose the token that goes into the next step."""
        head = self._weights.head
        # While constrained, only the action's rows of the head; `read` makes up for the others.
        first, end = actions if constrained else (0, len(head))
        best, token = F.linear(hidden, head[first:end]).max(dim=-1)
        token += first
        self._token.copy_(token)
        chosen = torch.stack([token.double(), best.double()], dim=1)
        self._record[:, :2].index_copy_(0, self._count, chosen)
        self._hidden.index_copy_(0, self._count, hidden)
        self._count.add_(1)

    def _choose_rows(self, hidden: torch.Tensor, actions: Range | None) -> None:
        logits = F.linear(hidden, self._weights.head)
        best, free = logits.max(dim=-1)
        bound_best, bound = best, free
        if actions is not None:
            bound_best, bound = logits[:, slice(*actions)].max(dim=-1)
            bound = bound + actions[0]
        columns = [part.double() for part in (bound, bound_best, free, best)]
        self._record[: len(hidden)].copy_(torch.stack(columns, dim=1))
        self._hidden[: len(hidden)].copy_(hidden)


def _host(ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int64)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _bucket(rows: int) -> int:
    return next(size for size in _ROWS if size >= rows)
