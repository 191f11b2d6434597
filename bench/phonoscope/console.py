"""The console listener: progress bars on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from phonoscope.events import (
    Advanced,
    ColumnUnavailable,
    Event,
    Listener,
    PartSetAside,
    RunFinished,
    RunMeasured,
    SampleFailed,
    StageFinished,
    StageStarted,
)
from phonoscope.leaderboard import (
    Block,
    Column,
    Leaderboard,
    Shown,
    arrow,
    axes_of,
    failed_samples,
    order_lines,
    places,
    sections,
    show,
    show_scalar,
)
from phonoscope.types import Estimate

SHOWN_FAILURES = 5
LONGEST_NAME = 48
STAGES = {"generate": "generate", "view": "look", "measure": "measure"}


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or a dash at the beginning."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "-", style="progress.data.speed")


class Bars:
    """Progress with rate and time left; the first failures are named as they come."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._failures = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StageStarted):
            self._start(event)
        elif isinstance(event, Advanced) and self._bars:
            self._bars.advance(self._tasks[event.stage, event.what], event.count)
        elif isinstance(event, StageFinished) and len(self._tasks):
            self._finish(event)
        elif isinstance(event, SampleFailed):
            self._failed(event)
        elif isinstance(event, ColumnUnavailable):
            self._say(f"[yellow]{event.metric} is unavailable[/]: ", event.error)
        elif isinstance(event, PartSetAside):
            self._say(f"[yellow]set aside[/] {event.path}: ", event.reason)
        elif isinstance(event, RunFinished):
            self._more()

    def _start(self, event: StageStarted) -> None:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bars.start()
        name = f"{STAGES[event.stage]:>8} {event.what}"
        self._tasks[event.stage, event.what] = self._bars.add_task(name, total=event.total)

    def _finish(self, event: StageFinished) -> None:
        del self._tasks[event.stage, event.what]
        if self._bars and not self._tasks:
            self._bars.stop()
            self._bars = None

    def _failed(self, event: SampleFailed) -> None:
        self._failures += 1
        if self._failures <= SHOWN_FAILURES:
            where = " / ".join(part for part in (event.system, event.sample, event.metric) if part)
            self._say("[red]failed[/] ", f"{where}: {event.code}: {event.error}")

    def _more(self) -> None:
        hidden = self._failures - SHOWN_FAILURES
        if hidden > 0:
            self._say("[red]failed[/] ", f"and {hidden} more; the board lists them all")

    def _say(self, head: str, text: str) -> None:
        line = Text.from_markup(head)
        line.append(text)
        self.console.print(line)


class JsonLines:
    """One JSON object per event: for logs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, event: Event) -> None:
        """Write one event; progress and numbers are left to the bars and the board."""
        if isinstance(event, Advanced | RunMeasured):
            return
        fields = {} if isinstance(event, RunFinished) else _fields(event)
        if isinstance(event, RunFinished):
            fields = {"protocol": event.protocol, "files": list(event.files)}
        line = json.dumps({"event": type(event).__name__, **fields}, default=str)
        self.stream.write(line + "\n")
        self.stream.flush()


def _fields(event: Event) -> dict[str, Any]:
    pairs = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {name: _plain(value) for name, value in pairs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, float) and value != value:
        return None
    return _plain(dataclasses.asdict(value)) if isinstance(value, Estimate) else value


def listener(*, quiet: bool = False, stream: TextIO | None = None) -> Listener:
    """Return bars on a terminal, JSON lines elsewhere, or nothing but failures if `quiet`."""
    stream = stream or sys.stderr
    if stream.isatty() and not quiet:
        return Bars(Console(file=stream, highlight=False))
    return _only_failures(stream) if quiet else JsonLines(stream)


def _only_failures(stream: TextIO) -> Listener:
    log = JsonLines(stream)

    def listen(event: Event) -> None:
        if isinstance(event, SampleFailed | ColumnUnavailable | PartSetAside):
            log(event)

    return listen


def print_board(board: Leaderboard) -> None:
    """Print the board to standard output: best in bold, second underlined."""
    axes = axes_of(board)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("system", *axes):
        table.add_column(name, no_wrap=True, max_width=LONGEST_NAME)
    columns = [column for column in board.columns if not column.planned]
    for column in columns:
        table.add_column(f"{column.metric} {arrow(column)}", justify="right")
    for section in sections(board):
        for block in section.blocks:
            _add_block(table, board, block, columns, axes)
    width = None if sys.stdout.isatty() else 60 + 22 * len(columns)
    Console(width=width, highlight=False).print(table)
    _print_orders(board)


def _add_block(
    table: Table, board: Leaderboard, block: Block, columns: list[Column], axes: Sequence[str]
) -> None:
    best = {column.metric: places(block.rows, column) for column in columns}
    for number, row in enumerate(block.rows):
        cells = [_cell(show(row, column, best[column.metric].get(number, 0))) for column in columns]
        point = [show_scalar(row.condition.get(axis)) for axis in axes]
        failed = failed_samples(row)
        name = Text(row.system, style="" if row.kind == "system" else "dim")
        name.append(f" ({failed} failed)" if failed else "", style="red")
        table.add_row(name, *point, *cells)
    table.add_section()


def _cell(shown: Shown) -> Text:
    style = {1: "bold", 2: "underline"}.get(shown.place, "")
    text = Text(shown.value, style=style)
    text.append(f" ±{shown.std}" if shown.std else "", style="dim")
    return text


def _print_orders(board: Leaderboard) -> None:
    for line in order_lines(board):
        sys.stdout.write(line + "\n")
