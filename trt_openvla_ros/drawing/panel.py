"""The panel of text: instruction, gate, action, reasoning, latency and ages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from trt_openvla_ros.drawing.content import (
    AXES,
    Content,
    Gate,
    STATE_COLOURS,
    Step,
    VERDICT_COLOURS,
    verdict_name,
)
from trt_openvla_ros.drawing.lettering import LINE, wrap
from trt_openvla_ros.drawing.marks import ACCENT, Colour, Dot, Label, Mark, Stroke, WHITE

WIDTH = 340.0  # units that the panel is wide
GROUND: Colour = (24, 27, 34)
_LARGE, _PLAIN, _SMALL = 17.0, 13.0, 11.0
_GREY: Colour = (150, 156, 168)
_RED: Colour = (255, 85, 85)
_RECORDED: Colour = (110, 180, 255)
_PAD = 12.0
_GAUGE = 34.0  # height of the bars
_MOST_RULES = 4
_TAGS = ('STEP', 'SUBTASK', 'MOVE', 'PLAN', 'SUBTASK REASONING', 'MOVE REASONING')
_PARTS = (('preprocess', 'image'), ('vision', 'vision'), ('prefill', 'prompt'), ('decode', 'text'))


class _Column:
    """Lines from the top of an area to its bottom; those that do not fit are left out."""

    def __init__(self, left: float, top: float, width: float, bottom: float, unit: float) -> None:
        self.marks: list[Mark] = []
        self.left, self.width, self.unit = left, width, unit
        self.at, self.bottom = top, bottom
        self.font = ''
        self.ground: Colour | None = None

    def gap(self, units: float) -> None:
        self.at += units * self.unit

    def fits(self, size: float, lines: int = 1) -> bool:
        return self.at + lines * LINE * size * self.unit <= self.bottom

    def lines(self, text: str, size: float, indent: float = 0.0) -> Sequence[str]:
        width = self.width - indent * self.unit
        return wrap(text, width, max(8, round(size * self.unit)), self.font)

    def put(
        self, text: str, size: float, colour: Colour = WHITE, most: int = 99, indent: float = 0.0
    ) -> None:
        """Write a text in as many lines as it takes and fit; the last one tells of a cut."""
        lines = list(self.lines(text, size, indent))
        room = int((self.bottom - self.at + 0.01) // (LINE * size * self.unit))
        count = min(len(lines), most, max(room, 0))
        if 0 < count < len(lines):
            lines[count - 1] = lines[count - 1][:-1].rstrip(' .,') + '…'
        for line in lines[:count]:
            self.at += LINE * size * self.unit
            corner = np.array([self.left + indent * self.unit, self.at])
            self.marks.append(Label(corner, line, size, colour, self.ground))


def panel_marks(
    content: Content,
    area: tuple[float, float, float, float],
    unit: float,
    font: str = '',
    ground: Colour | None = None,
) -> list[Mark]:
    """Lay out the panel.

    Args:
        content: What to show.
        area: Left, top, width and height [px].
        unit: Unit of sizes [px].
        font: Font file; '' takes the built-in one.
        ground: Colour behind each line, where nothing dark is behind the panel.
    """
    left, top, width, height = area
    pad = _PAD * unit
    inside = left + pad, top + pad, width - 2 * pad, top + height - pad
    foot = _Column(*inside, unit)
    head = _Column(*inside, unit)
    for column in (head, foot):
        column.font, column.ground = font, ground
    # The foot first, because it always has its place: laid out at the top, then moved down.
    _foot(foot, content)
    down = np.array([0, inside[3] - foot.at])
    feet = [replace(mark, corner=mark.corner + down) for mark in foot.marks]
    head.bottom -= foot.at - inside[1] + 6 * unit
    if content.instruction:
        head.put(f'“{content.instruction}”', _LARGE, most=3)
    else:
        head.put('no instruction', _LARGE, _GREY)
    head.gap(5)
    if content.gate is not None:
        _gate(head, content.gate, stale='gate' in content.stale)
    if content.step is not None:
        _step(head, content.step, content)
    _reasoning(head, content)
    return head.marks + feet


def _gate(column: _Column, gate: Gate, stale: bool) -> None:
    colour = _GREY if stale else STATE_COLOURS.get(gate.state, _GREY)
    if not column.fits(_PLAIN):
        return
    middle = column.at + 0.5 * LINE * _PLAIN * column.unit
    spot = np.array([column.left + 5 * column.unit, middle])
    column.marks.append(Dot(spot, 5, colour))
    text = f'gate: {gate.state}' + (' (no report)' if stale else '')
    column.put(text + (f', {gate.reason}' if gate.reason else ''), _PLAIN, colour, 2, 16)
    for rule in gate.objections[:_MOST_RULES]:
        verdict = VERDICT_COLOURS[min(rule.verdict, len(VERDICT_COLOURS) - 1)]
        column.put(str(rule), _SMALL, _GREY if stale else verdict, 2, 16)
    if not gate.objections and gate.state == 'moving':
        column.put(f'verdict: {verdict_name(gate.verdict)}', _SMALL, colour, 1, 16)
    column.gap(5)


def _step(column: _Column, step: Step, content: Content) -> None:
    title = f'action {step.sequence}' if step.sequence else 'action'
    colour = _RED if 'action' in content.stale else _GREY
    notes = [step.units, *(['limited'] if step.limited else [])]
    notes += ['old'] if 'action' in content.stale else []
    column.put(f'{title} [{", ".join(notes)}]', _SMALL, colour, 1)
    # The colours of each step's bars and numbers.
    rows = [(step, ACCENT, WHITE)]
    if step.recorded is not None:
        rows.append((step.recorded, _RECORDED, _RECORDED))
        _legend(column, ('predicted', ACCENT), ('recorded', _RECORDED))
    unit = column.unit
    height = (8 + _GAUGE + (1 + len(rows)) * LINE * _SMALL) * unit
    if column.at + height > column.bottom:
        return
    cell = column.width / len(AXES)
    middle = column.at + (4 + _GAUGE / 2) * unit
    bottom = column.at + (8 + _GAUGE) * unit
    for index, axis in enumerate(AXES):
        left = column.left + index * cell
        line = np.array([(left + 0.12 * cell, middle), (left + 0.88 * cell, middle)])
        column.marks.append(Stroke(line, _GREY, 1))
        texts = [(axis, _GREY), *((one.numbers[index], colour) for one, _, colour in rows)]
        for row, (text, colour) in enumerate(texts, 1):
            corner = np.array([left + 0.1 * cell, bottom + row * LINE * _SMALL * unit])
            column.marks.append(Label(corner, text, _SMALL, colour, column.ground))
        edges = np.linspace(left + 0.28 * cell, left + 0.72 * cell, len(rows) + 1)
        for (one, colour, _), (west, east) in zip(rows, pairwise(edges), strict=True):
            share = float(np.clip(one.normalised[index], -1, 1))
            if np.isfinite(share) and share:
                end = middle - share * _GAUGE / 2 * unit
                bar = np.array([(west, middle), (west, end), (east, end), (east, middle)])
                column.marks.append(Stroke(bar, colour, closed=True, filled=True))
    column.at += height
    if content.arrow_note:
        column.gap(2)
        column.put(content.arrow_note, _SMALL, _GREY, 2)
    column.gap(7)


def _legend(column: _Column, *entries: tuple[str, Colour]) -> None:
    """Name colours in one line, if it fits."""
    if not column.fits(_SMALL):
        return
    unit, left = column.unit, column.left
    middle = column.at + 0.5 * LINE * _SMALL * unit
    column.gap(LINE * _SMALL)
    for name, colour in entries:
        column.marks.append(Dot(np.array([left + 4 * unit, middle]), 4, colour))
        corner = np.array([left + 14 * unit, column.at])
        column.marks.append(Label(corner, name, _SMALL, WHITE, column.ground))
        left += column.width / 3


def _reasoning(column: _Column, content: Content) -> None:
    fields = content.reasoning
    # What is done now stands first, because a long reasoning does not fit.
    tags = [tag for tag in _TAGS if fields.get(tag)]
    for tag in tags:
        if not column.fits(_PLAIN, 2):
            column.put('…', _SMALL, _GREY)
            return
        column.put(tag.lower(), _SMALL, _GREY, 1)
        column.put(fields[tag], _PLAIN)
        column.gap(3)


def _foot(column: _Column, content: Content) -> None:
    times = content.timings
    if 'total' in times:
        parts = [f'{name} {1e3 * times[key]:.0f}' for key, name in _PARTS if times.get(key)]
        text = f'step {1e3 * times["total"]:.0f} ms'
        column.put(text + (f': {", ".join(parts)}' if parts else ''), _SMALL, _GREY, 2)
    if content.ages:
        shown = [
            f'{name} {age:.2f} s' + (' (old)' if name in content.stale else '')
            for name, age in content.ages.items()
        ]
        colour = _RED if content.stale & content.ages.keys() else _GREY
        column.put(f'age: {", ".join(shown)}', _SMALL, colour, 2)
