"""Doing cases and judging them: what is right is that it works, or one printable line that says what is wrong."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import numpy as np

from evonas.errors import UsageError, one_line
from tests.fuzz.cases import CASES, Kit, Reached

LONGEST_S = 20.0
LONGEST_LINE = 600
TRAINING = (
    *("recipes.runner.movements.train_into", "recipes.flash._samples", "recipes.flash._with_latency", "recipes.gap._trained_truth"),
    *("recipes.gap._train", "recipes.runner.movements.measure_blocks", "recipes.runner.measure.measure", "optuna_dashboard.run_server"),
    *("recipes.gap._tabulated_truth",),
)


@dataclass(frozen=True)
class Violation:
    """A case that went wrong: its number makes it again."""

    number: int
    kind: str
    what: str


@contextmanager
def nothing_is_trained() -> Iterator[None]:
    """Whatever takes long ends the case instead: its arguments were taken."""

    def reached(*arguments: object, **options: object) -> None:
        raise Reached("reached")

    with ExitStack() as stack:
        for name in TRAINING:
            stack.enter_context(mock.patch(name, reached))
        yield


def do(number: int, kit: Kit, seed: int = 0, only: str | None = None) -> tuple[str, float, Violation | None]:
    """Case `number`: its kind, its seconds, and what was wrong with it."""
    rng = np.random.default_rng([seed, number])
    kind = only or list(CASES)[number % len(CASES)]
    start, before = time.perf_counter(), Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "here"
        folder.mkdir()
        os.chdir(folder)
        try:
            with nothing_is_trained(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wrong = _wrong(kind, rng, folder, kit)
        finally:
            os.chdir(before)
        if wrong is None and (left := sorted(path.name for path in Path(place).iterdir() if path.name != "here")):
            wrong = f"left outside of its folder: {left}"
    seconds = time.perf_counter() - start
    if wrong is None and seconds > LONGEST_S:
        wrong = f"took {seconds:.0f} s"
    return kind, seconds, None if wrong is None else Violation(number, kind, wrong)


def _wrong(kind: str, rng: np.random.Generator, folder: Path, kit: Kit) -> str | None:
    try:
        done = CASES[kind](rng, folder, kit)
    except UsageError as error:
        return None if str(error).strip() else "an error without words"
    except Exception:
        return "".join(traceback.format_exc()[-700:])
    if not isinstance(done, CompletedProcess) or done.returncode == 0:
        return None
    lines = done.stderr.splitlines()
    if done.returncode != 2:
        return f"status {done.returncode}: {done.stderr[-300:]}"
    if len(lines) != 1:
        return f"{len(lines)} lines: {done.stderr[-300:]}"
    if len(lines[0]) > LONGEST_LINE or not lines[0].isprintable():
        return f"an error line of {len(lines[0])} characters{'' if lines[0].isprintable() else ' that cannot be printed'}"
    if lines[0] != one_line(lines[0], LONGEST_LINE):
        return "an error line with white space to close up"
    left = sorted(str(path) for path in folder.rglob("*") if path.name in (".lock", "config.json")) if "reached" not in lines[0] else []
    if kind == "arguments" and left:
        return f"refused ({lines[0]}), and left {left}"
    return None
