"""The rows of the benchmark: what each one runs, and about how long it takes."""

from __future__ import annotations

from dataclasses import dataclass

FORMATS = ('fp8', 'int8', 'int4')
# Seconds that a 7B row takes to load, with compiling, and to predict once, with its parts. They
# are guesses until a row was measured, and only decide whether a row may still begin.
_LOAD = {'hugging_face': 12.0, 'compiled': 60.0, 'ours': 20.0, 'shared': 3.0}
# Part of it that a tiny model takes, which loads in no time.
TINY = 0.01


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        model: 'openvla' or 'ecot'.
        engine: 'hugging_face' or 'ours'.
        variant: 'eager', 'compiled' or 'captured'.
        weights: 'bfloat16', or the format of the language model's weights.
        accepted: Share of drafted tokens that are right; None for no drafts.
        again: Whether it was measured before, beside other rows.
    """

    model: str
    engine: str
    variant: str
    weights: str = 'bfloat16'
    accepted: float | None = None
    again: bool = False

    @property
    def name(self) -> str:
        """The row's name in tables."""
        who = 'Hugging Face' if self.engine == 'hugging_face' else 'ours'
        drafts = '' if self.accepted is None else f', drafts {self.accepted:.0%} right'
        again = ', again' if self.again else ''
        return f'{self.model}: {who} {self.variant} {self.weights}{drafts}{again}'

    @property
    def load_seconds(self) -> float:
        """About how long a 7B row takes before it can be measured [s]."""
        if self.variant == 'compiled':
            return _LOAD['compiled']
        return _LOAD[self.engine if self.accepted is None else 'shared']

    @property
    def bytes_of_7b(self) -> float:
        """About how much memory a 7B row takes; those with drafts share another row's."""
        if self.accepted is not None:
            return 0.0
        # A format's own bytes, and what its largest layer takes while it is quantised.
        return {'bfloat16': 17e9, 'fp8': 10e9, 'int8': 10e9, 'int4': 7e9}[self.weights]

    @property
    def samples(self) -> int:
        """Predictions that are enough."""
        if self.model == 'openvla':
            return 100
        return 3 if self.engine == 'hugging_face' else 12


def list_rows() -> list[list[Row]]:
    """List all rows, in groups whose rows are run in turn, the most important first."""
    openvla = [
        Row('openvla', 'hugging_face', 'eager'),
        Row('openvla', 'ours', 'captured'),
        *(Row('openvla', 'ours', 'captured', weights) for weights in FORMATS),
        Row('openvla', 'ours', 'eager'),
    ]
    openvla += _drafted('openvla', {'fp8': (0.5, 0.8, 1.0), 'bfloat16': (0.8,), 'int4': (0.8,)})
    ecot = [
        *(Row('ecot', 'ours', 'captured', weights) for weights in ('bfloat16', 'fp8', 'int4')),
        Row('ecot', 'hugging_face', 'eager'),
    ]
    shares = {'fp8': (0.65, 0.8, 0.9, 0.97), 'bfloat16': (0.9,), 'int4': (0.9,)}
    ecot += _drafted('ecot', shares)
    compiled = [
        Row('openvla', 'hugging_face', 'compiled'),
        Row('openvla', 'ours', 'captured', again=True),  # to take turns with
    ]
    return [openvla, ecot, compiled]


def _drafted(model: str, shares: dict[str, tuple[float, ...]]) -> list[Row]:
    """List the captured rows of a model with drafts, by the format of its weights."""
    return [
        Row(model, 'ours', 'captured', weights, accepted)
        for weights, accepteds in shares.items()
        for accepted in accepteds
    ]
