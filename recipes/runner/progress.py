"""What a person sees while a recipe runs: one line a movement, with a bar on those that take more than a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from evonas.profile import Profile
from evonas.units import format_quantity

console = Console(highlight=False)
_now: list[Any] = []


@contextmanager
def bar(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar; call what it gives with (share done, note)."""
    columns = (TextColumn("{task.description:<18}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(what, total=1.0, note="")

        def update(share: float, note: str = "") -> None:
            _now[:] = [what, share]
            progress.update(task, completed=share, note=note)

        update(0.0)
        yield update
    _now[:] = []


def where_it_stands() -> str:
    """What the bar that is shown now says, in words; empty between bars."""
    return f" at {100 * _now[1]:.0f} % of: {_now[0]}" if _now else ""


def say(text: str) -> None:
    """One line."""
    console.print(text, markup=False, soft_wrap=True)


def show_profile(found: Profile) -> None:
    """The profile of a space as a table."""
    table = Table("cost", "smallest", "median", "largest", title="The search space", title_justify="left", title_style="bold")
    for r in found.ranges:
        values = (format_quantity(value, r.unit) for value in (r.smallest, r.median, r.largest))
        table.add_row(r.cost, *values)
    console.print(table)
