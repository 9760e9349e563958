"""What a person sees while a recipe runs: one line a movement, with a bar on those that take more than a few seconds, and the whole run."""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column, Table

from evonas.profile import Profile
from evonas.units import format_quantity

if TYPE_CHECKING:
    from supernet import ImageData

console = Console(highlight=False)
WHOLE = "whole run"
NOTEBOOK_PAUSE_S = 0.2
TAKEN = 56  # columns beside the note: name, bar, percent, times
SLOWEST, FASTEST = 4.0, 0.25  # how far a training that runs may correct what was foretold of others
_now: list[Any] = []
_whole: list[Whole] = []


class Whole:
    """How much of a run is done, from what was foretold of its movements and what they turn out to take.

    Args:
        seconds: that each movement was foretold to take, in their order.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds, self.total = dict(seconds), sum(seconds.values())
        self.start = time.perf_counter()
        self._pace = 1.0  # of trainings, beside what was foretold
        self._now, self._since, self._from, self._position = "", self.start, 0.0, 0

    def at(self, what: str, share: float) -> tuple[float, float]:
        """The share of the run that is done, and the seconds that are left, where a movement has come so far.

        Movements of several bars, "finalist 3 of 8", are one, "finalists"; how far they are is told from the time they took.
        """
        now, several = self._movement(what)
        if now != self._now:
            self._now, self._since, self._from = now, time.perf_counter(), share
        own, elapsed, names = self.seconds.get(now, 0.0), time.perf_counter() - self._since, list(self.seconds)
        if now in names:
            self._position = names.index(now)
        position = self._position  # of the last one that was foretold, where this one was not
        if several:
            share = min(elapsed / max(own * self._pace, 1e-9), 0.99)
        elif share - self._from > 0.02 and own > 0 and _trains(now):
            self._pace = min(max(elapsed / (share - self._from) / own, FASTEST), SLOWEST)
        before = sum(self.seconds[name] for name in names[:position])
        left = sum(self.seconds[name] * (self._pace if _trains(name) else 1.0) for name in names[position + 1 :])
        left += own * (self._pace if _trains(now) else 1.0) * (1 - share)
        return (before + share * own) / max(self.total, 1e-9), left

    def _movement(self, what: str) -> tuple[str, bool]:
        several = re.sub(r" \d+( of |/)\d+$", "s", what)
        return (what, False) if what in self.seconds or several not in self.seconds else (several, True)


def _trains(movement: str) -> bool:
    return movement.startswith("train") or movement in ("finalists", "peers")


def show_whole(seconds: Mapping[str, float] | None) -> None:
    """From now on bars show the whole run beside their movement; with None, no longer."""
    _whole[:] = [Whole(seconds)] if seconds else []


@contextmanager
def bar(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar; call what it gives with (share done, note)."""
    with (_in_notebook if console.is_jupyter else _in_terminal)(what) as show:

        def update(share: float, note: str = "") -> None:
            _now[:] = [what, share]
            show(share, note)

        update(0.0)
        yield update
    _now[:] = []


@contextmanager
def _in_terminal(what: str) -> Iterator[Callable[[float, str], None]]:
    columns = (
        TextColumn("{task.description:<18}", table_column=Column(no_wrap=True, min_width=18)),
        BarColumn(),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        TextColumn("{task.fields[times]}", style="cyan", table_column=Column(no_wrap=True, min_width=19)),
    )
    start = time.perf_counter()
    progress = Progress(*columns, console=console)
    task = progress.add_task(what, total=1.0, note="", times="")
    run = progress.add_task(WHOLE, total=1.0, note="", times="") if _whole else None

    def show(share: float, note: str) -> None:
        elapsed, room = time.perf_counter() - start, console.width - TAKEN
        shown = note if len(note) <= room else note.partition(" (")[0]
        progress.update(task, completed=share, note=shown, times=_times(elapsed, elapsed / share - elapsed if share else None))
        if run is not None:
            done, left = _whole[0].at(what, share)
            progress.update(run, completed=done, times=_times(time.perf_counter() - _whole[0].start, left))

    progress.start()
    try:
        yield show
    finally:
        if run is not None:
            progress.remove_task(run)  # what stays on the screen is the movement
        if progress.tasks[0].completed:
            progress.stop()
        else:  # or nothing, where all of it was done before
            progress.live.transient = True
            progress.live.stop()


@contextmanager
def _in_notebook(what: str) -> Iterator[Callable[[float, str], None]]:
    """With what every notebook has; rich would want ipywidgets."""
    from IPython.display import display

    start, shown = time.perf_counter(), [0.0]
    handle = display(_page([]), raw=True, display_id=True)

    def show(share: float, note: str, last: bool = False) -> None:
        if not last and time.perf_counter() - shown[0] < NOTEBOOK_PAUSE_S and share < 1:
            return
        elapsed = shown[0] = time.perf_counter()
        elapsed -= start
        lines = [(what, share, note, _times(elapsed, elapsed / share - elapsed if share else None))]
        if _whole and not last:
            done, left = _whole[0].at(what, share)
            lines.append((WHOLE, done, "", _times(time.perf_counter() - _whole[0].start, left)))
        handle.update(_page(lines), raw=True)

    held: list[Any] = [0.0, ""]

    def keep(share: float, note: str) -> None:
        held[:] = [share, note]
        show(share, note)

    yield keep
    if not held[0]:
        handle.update(_page([]), raw=True)
        return
    show(held[0], held[1], last=True)


def _page(lines: list[tuple[str, float, str, str]]) -> dict[str, str]:
    """Bars as a notebook shows them, and as one without pictures does."""
    rows = "".join(
        f"<tr><td>{html.escape(what)}</td><td><progress value='{share:.4f}' max='1'></progress></td><td>{100 * share:.0f} %</td>"
        f"<td>{html.escape(note)}</td><td>{times}</td></tr>"
        for what, share, note, times in lines
    )
    text = "\n".join(f"{what}: {100 * share:.0f} % {note} {times}" for what, share, note, times in lines)
    return {"text/html": f"<table>{rows}</table>", "text/plain": text}


def _times(elapsed: float, left: float | None) -> str:
    return str(timedelta(seconds=round(elapsed))) + ("" if left is None else f", {in_words(left)} left")


def in_words(seconds: float) -> str:
    """A duration as people say it: 8 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def best_so_far(accuracy: float) -> str:
    """The best accuracy in percent; nothing where there is none yet."""
    return "" if math.isnan(accuracy) else f"best {100 * accuracy:.1f} %"


def where_it_stands() -> str:
    """What the bar that is shown now says, in words; empty between bars."""
    return f" at {100 * _now[1]:.0f} % of: {_now[0]}" if _now else ""


def say(text: str) -> None:
    """One line."""
    console.print(text, markup=False, soft_wrap=True)


def show_profile(found: Profile, count: int) -> None:
    """The profile of a space of so many networks as a table."""
    networks = f"{count:,}" if count < 1e6 else f"{count:.2g}"
    title = f"The search space: {networks} networks"
    table = Table("cost", "smallest", "median", "largest", title=title, title_justify="left", title_style="bold")
    for r in found.ranges:
        values = (format_quantity(value, r.unit) for value in (r.smallest, r.median, r.largest))
        table.add_row(r.cost, *values)
    console.print(table)


def show_images(data: ImageData) -> None:
    """What was read, and what guessing would give."""
    parts = f"{len(data.train):,} train, {len(data.search):,} search, {len(data.test):,} test"
    shown = ", ".join(data.classes[:5]) + (", ..." if len(data.classes) > 5 else "")
    shape, guessed = "x".join(map(str, data.image_shape)), 100 / len(data.classes)
    say(f"images of {data.name}: {parts}, {shape}; {len(data.classes)} classes ({shown}), of which guessing names {guessed:.3g} %")


def show_forecast(seconds: Mapping[str, float]) -> None:
    """What a run is foretold to take, as a table."""
    table = Table("movement", "about", title="What it will take", title_justify="left", title_style="bold")
    for movement, each in seconds.items():
        table.add_row(movement, in_words(each))
    table.add_row(WHOLE, in_words(sum(seconds.values())), style="bold")
    console.print(table)
