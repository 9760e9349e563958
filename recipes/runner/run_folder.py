"""A run folder: where a run keeps what it has done, so that the same command again goes on from there.

`config.json` holds the arguments. Every output is written whole, under a lock that the system releases when the process dies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import optuna

from evonas.errors import UsageError
from evonas.files import read_json, write_json
from evonas.study import open_study
from evonas.units import split_units
from recipes.runner.registry import RECIPES

LOCK = ".lock"
STUDIES = ("search", "baseline")
OUTPUTS = (
    *("supernet.pt", "retrain.pt", "model.pt", "model.onnx", "study.log", "study.log.lock", "report.html"),
    *("accuracy_*.png", "best_so_far.png", "predicted.png", "architecture.png", "*.losses.json", "losses.png"),
    *("latency.json", "winner.json", "predictions.json", "result.json", "config.json"),
)


class RunFolder:
    """Opens `path` for one process.

    Args:
        path: made if it is not there.
        config: plain data that decides the results; another run's folder is refused.
        fresh: start over; what an earlier run wrote is removed when this one begins.

    Raises:
        UsageError: on entering: the folder cannot be written, another process holds it, it is no run folder, or it was
            made with other arguments.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self.fresh = fresh
        self._lock: filelock.FileLock | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / LOCK, timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise UsageError(f"Another process works in {self.path}; wait for it, or choose another --out.") from None
        except OSError as error:
            raise UsageError(f"Cannot write to {self.path}: {error.strerror or error}. Choose another --out.") from None
        self._lock = lock
        try:
            self._check()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    def begin(self) -> None:
        """Keep the arguments, and drop an earlier run when asked to start over.

        Called when the arguments have been checked, so that a refused run leaves nothing behind and destroys nothing.
        """
        if self.fresh:
            of_recipes = [pattern for entry in RECIPES.values() for pattern in entry.outputs]
            for pattern in (*of_recipes, *OUTPUTS):  # config.json last: killed in between, the folder is still a run
                for file in self.path.glob(pattern):
                    file.unlink()
        if not (self / "config.json").exists():
            write_json(self / "config.json", self.config)

    def _check(self) -> None:
        config = self / "config.json"
        for leftover in self.path.glob(".*.tmp" if config.exists() else ".config.json.*.tmp"):
            leftover.unlink()
        others = [file for file in self.path.iterdir() if file.name != LOCK]
        if not config.exists():
            if others:
                raise UsageError(
                    f"{self.path} holds files but no run ({others[0].name}, ...); expected an empty or a run folder. Choose another --out."
                )
            return
        if self.fresh:
            return
        before = read_json(config)
        for key in {**before, **self.config}:
            if before.get(key) != self.config.get(key):
                raise UsageError(
                    f"{self.path} was made with {key}={before.get(key)!r}, not {self.config.get(key)!r}. "
                    f"Use the same arguments to continue, --fresh to start over, or another --out."
                )

    def _release(self) -> None:
        assert self._lock is not None
        empty = all(file.name == LOCK for file in self.path.iterdir())
        if empty:
            (self / LOCK).unlink(missing_ok=True)
        self._lock.release()
        if empty:
            self.path.rmdir()


def studies_of(folder: Path, storage: str | None) -> list[optuna.Study]:
    """The two studies of a run: its search and its random baseline.

    Raises:
        UsageError: the storage cannot be opened.
    """
    if storage is None:
        return [open_study(folder / "study.log", name) for name in STUDIES]
    return [open_study(storage, f"{folder.name}-{name}") for name in STUDIES]


def finished(path: str | Path) -> Path:
    """The folder of a run that has a result.

    Raises:
        UsageError: there is none at `path`.
    """
    folder = Path(path)
    if not (folder / "result.json").exists():
        raise UsageError(f"There is no finished run in {folder}; expected a run folder with a result.json.")
    return folder


def read_result(path: Path) -> dict[str, Any]:
    """What a run or its search came to, from `result.json` or `winner.json`, whichever version wrote it."""
    result: dict[str, Any] = read_json(path)
    if "costs" in result and "units" not in result:
        result["costs"], result["units"] = split_units(result["costs"])
    return result
