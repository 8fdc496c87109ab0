"""A snapshot as text: a screen for a terminal, or one line for a pipe."""

from __future__ import annotations

from collections.abc import Iterator
import textwrap

from rich.text import Text

from trt_openvla_ros.drawing.content import AXES, verdict_name, VERDICTS
from trt_openvla_ros.drawing.lettering import clean
from trt_openvla_ros.nodes.monitor.snapshot import Report, Snapshot

_PARTS = {
    'total': 'step',
    'preprocess': 'image',
    'vision': 'vision',
    'prefill': 'prompt',
    'decode': 'text',
}
_LEVELS = (('OK', 'green'), ('WARN', 'yellow'), ('ERROR', 'bold red'), ('STALE', 'magenta'))
_VERDICTS = ('green', 'yellow', 'dark_orange', 'bold red')
_STATES = {'moving': 'green', 'holding': 'dark_orange', 'stopped': 'bold red', 'disabled': 'dim'}
_TAGS = ('SUBTASK', 'MOVE', 'PLAN', 'SUBTASK REASONING', 'MOVE REASONING', 'TASK')
_OLD = 3.0  # [s] after which a status of /diagnostics is old
_LEFT = 44  # columns of the table of topics
_DEAD = 'bold red'


def screen(snapshot: Snapshot, width: int, height: int, hint: str = 'q quits') -> list[Text]:
    """Lay out a screen.

    Args:
        snapshot: What to show.
        width: Columns of the terminal; nothing is wider.
        height: Its lines; nothing is longer.
        hint: Last words of the first line.

    Returns:
        At most `height` lines.
    """
    head = [_title(snapshot, width, hint), *_tables(snapshot)]
    tail = [*_action(snapshot), *_gate(snapshot), *_reports(snapshot)]
    room = height - len(head) - len(tail)
    lines = [*head, *_said(snapshot, width, max(room, 1)), *tail]
    for line in lines:
        line.truncate(width, overflow='ellipsis')
        line.no_wrap = True
    return lines[:height]


def one_line(snapshot: Snapshot) -> str:
    """Say the most important in one line."""
    parts = [snapshot.title]
    dead = []
    if not any(topic.publishers or topic.age is not None for topic in snapshot.topics):
        parts.append('no node is there yet')
    for topic in snapshot.topics:
        if topic.is_dead:
            dead.append(f'{topic.name} ({topic.state})')
        elif topic.age is not None:
            parts.append(f'{topic.name} {topic.rate:.1f} Hz')
    if 'total' in snapshot.latency:
        parts.append('step {:.0f}/{:.0f} ms'.format(*snapshot.latency['total']))
    if snapshot.action_age is not None:
        parts.append(f'image age {snapshot.action_age:.2f} s')
    if snapshot.gate is not None:
        counts = ', '.join(f'{rule.name} {rule.count}' for rule in _counted(snapshot))
        verdict = verdict_name(snapshot.gate.verdict)
        parts.append(f'gate {snapshot.gate.state} {verdict}' + (f' ({counts})' if counts else ''))
    if snapshot.instruction:
        parts.append(f'"{snapshot.instruction}"')
    bad = [r for r in snapshot.reports if r.level]
    parts += [f'{_level(r)[0]} {r.name}: {r.message}' for r in bad]
    parts += [f'DEAD: {", ".join(dead)}'] if dead else []
    return clean(' | '.join(parts))


def _title(snapshot: Snapshot, width: int, hint: str) -> Text:
    line = Text.assemble((clean(snapshot.title), 'bold'))
    line.append(' ' * max(1, width - line.cell_len - len(hint)))
    return line.append(hint, 'dim')


def _tables(snapshot: Snapshot) -> Iterator[Text]:
    """Topics on the left, latency on the right."""
    left = [Text.assemble((f'{"topic":16}{"Hz":>6}{"age s":>7}', 'dim'))]
    for topic in snapshot.topics:
        style = _DEAD if topic.is_dead else '' if topic.age is not None else 'dim'
        age = '' if topic.age is None else f'{topic.age:.2f}'
        rate = '' if topic.age is None else f'{topic.rate:.1f}'
        name = topic.name if len(topic.name) < 16 else f'…{topic.name[-14:]}'
        row = f'{name:16}{rate:>6}{age:>7}  {topic.state}'
        left.append(Text.assemble((row, style)))
    right = [Text(f'{"latency":10}{"p50 ms":>9}{"p95 ms":>9}', 'dim')]
    for key, name in _PARTS.items():
        if key in snapshot.latency:
            p50, p95 = snapshot.latency[key]
            style = 'bold' if key == 'total' else ''
            right.append(Text.assemble((f'{name:10}{p50:9.1f}{p95:9.1f}', style)))
    for name, age in (('image age', snapshot.image_age), ('at action', snapshot.action_age)):
        if age is not None:
            right.append(Text(f'{name:10}{1e3 * age:9.1f}'))
    for index in range(max(len(left), len(right))):
        line = left[index].copy() if index < len(left) else Text()
        line.truncate(_LEFT, overflow='ellipsis')
        line.append(' ' * (_LEFT + 2 - line.cell_len))
        yield line.append_text(right[index]) if index < len(right) else line


def _said(snapshot: Snapshot, width: int, room: int) -> list[Text]:
    """Instruction and reasoning, in at most so many lines."""
    said = clean(snapshot.instruction)
    lines = [Text(f'“{said}”', 'bold') if said else Text('no instruction', 'dim')]
    for tag in _TAGS:
        text = clean(snapshot.reasoning.get(tag, ''))
        if not text:
            continue
        name = f'{tag.lower()}: '
        for index, part in enumerate(textwrap.wrap(name + text, width)):
            line = Text(part)
            if index == 0:
                line.stylize('dim', 0, len(name))
            lines.append(line)
    if len(lines) > room:
        lines = lines[:room]
        if room > 1:
            lines[-1].truncate(width - 2)
            lines[-1].append(' …')
    return lines


def _action(snapshot: Snapshot) -> list[Text]:
    step = snapshot.step
    if step is None:
        return [Text('no action', 'dim')]
    head = Text.assemble((f'action {step.sequence} [{step.units}]  gripper ', 'dim'), step.hand)
    if step.limited:
        head.append('  limited', 'yellow')
    line = Text(' ')
    for axis, number in list(zip(AXES, step.numbers, strict=True))[:-1]:
        line.append(f' {axis} ', 'dim').append(number)
    return [head, line]


def _counted(snapshot: Snapshot) -> list:
    rules = [rule for rule in snapshot.gate.rules if rule.count]
    return sorted(rules, key=lambda rule: -rule.count)


def _gate(snapshot: Snapshot) -> list[Text]:
    gate = snapshot.gate
    if gate is None:
        return [Text('no gate: robot_node is not heard', 'dim')]
    state = clean(gate.state), _STATES.get(gate.state, '')
    line = Text.assemble(('gate ', 'dim'), state)
    verdict = _VERDICTS[min(gate.verdict, len(VERDICTS) - 1)]
    line.append(' verdict ', 'dim').append(verdict_name(gate.verdict), verdict)
    if snapshot.gate_is_old:
        line.append(' (no report)', _DEAD)
    if gate.reason:
        line.append(f'  {clean(gate.reason)}')
    objections = [
        Text(f'  {clean(str(rule))}', _VERDICTS[min(rule.verdict, 3)])
        for rule in gate.objections[:1]
    ]
    lines = [line, *objections]
    counts = ', '.join(f'{rule.name} {rule.count}' for rule in _counted(snapshot))
    return [*lines, Text(clean(f'counts: {counts}'), 'dim')] if counts else lines


def _level(report: Report) -> tuple[str, str]:
    return _LEVELS[3] if report.age > _OLD else _LEVELS[min(report.level, 3)]


def _reports(snapshot: Snapshot, most: int = 4) -> Iterator[Text]:
    """The statuses of /diagnostics, the worst first."""
    ordered = sorted(snapshot.reports, key=lambda r: (-r.level, r.age <= _OLD, r.name))
    shown = ordered[:most] if len(ordered) <= most else ordered[: most - 1]
    for report in shown:
        name, style = _level(report)
        said = clean(report.message)
        yield Text.assemble((f'{name:6}', style), (f'{clean(report.name)}: ', 'dim'), said)
    if len(ordered) > len(shown):
        yield Text(f'and {len(ordered) - len(shown)} more of /diagnostics', 'dim')
