"""A run folder: where a run keeps what it has done, so that the same command again goes on from there.

`config.json` holds the arguments. Every output is written whole, under a lock that the system releases when the process dies.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import jinja2
import optuna

from evonas.errors import UsageError, first_line, shortened
from evonas.files import inside, obstacle, read_as, write_json, written_whole
from evonas.storage import open_storage, repair_journal
from evonas.study import open_study
from evonas.units import split_units
from recipes.runner.registry import RECIPES
from recipes.runner.schema import Arguments, Outcome

LOCK = ".lock"
JOURNAL = "study.log"
STUDIES = ("search", "baseline", "finalists")
OUTPUTS = (
    *(
        "supernet.pt",
        "teacher.pt",
        "finalist*.pt",
        "peer*.pt",
        "retrain.pt",
        "model.pt",
        "model.onnx",
        JOURNAL,
        "study.log.lock",
        ".study.log.*",
        "report.html",
    ),
    *(
        "accuracy_*.png",
        "best_so_far.png",
        "predicted.png",
        "architecture.png",
        "*.losses.json",
        "losses.png",
        "distribution.png",
        "board.png",
    ),
    *("front.json", "front.png", "forecast.json", "latency.json", "finalists.json", "reference.json", "peers.json"),
    *("winner.json", "predictions.json", "result.json", "config.json"),
    *("app.onnx", "app-int8.onnx", "model-int8.onnx", "model.safetensors", "model.pte", "model.tflite", "export.json"),
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
        except (OSError, ValueError) as error:
            raise UsageError(
                f"Cannot write to {shortened(self.path, 200)}: {getattr(error, 'strerror', None) or error}. Choose another --out."
            ) from None
        self._lock = lock
        try:
            self._check()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        mendable = isinstance(error, Exception) and not isinstance(error, UsageError)
        wrong = obstacle(error, self.path / "file") if mendable and error is not None else None
        self._release()
        if wrong is not None:
            raise wrong from error

    def begin(self) -> None:
        """Keep the arguments, and drop an earlier run when asked to start over.

        Called when the arguments have been checked, so that a refused run leaves nothing behind and destroys nothing.
        """
        if self.fresh:
            of_recipes = [pattern for entry in RECIPES.values() for pattern in entry.outputs]
            for pattern in (*of_recipes, *OUTPUTS):  # config.json last: killed in between, the folder is still a run
                for file in self.path.glob(pattern):
                    if not file.is_dir():
                        file.unlink()
            self.fresh = False
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
        before = read_config(self.path)
        for key in {**before, **self.config}:
            if before.get(key) != self.config.get(key):
                raise UsageError(
                    f"{self.path} was made with {shortened(key)}={shortened(repr(before.get(key)))}, "
                    f"not {shortened(repr(self.config.get(key)))}. "
                    f"Use the same arguments to continue, --fresh to start over, or another --out."
                )

    def _release(self) -> None:
        assert self._lock is not None
        empty = self.path.exists() and all(file.name == LOCK for file in self.path.iterdir())
        if empty:
            (self / LOCK).unlink(missing_ok=True)
        self._lock.release()
        if empty:
            self.path.rmdir()


def studies_of(
    folder: Path, storage: str | None = None, name: str | None = None, *, trusted: bool = False, costs: Sequence[str] = ()
) -> list[optuna.Study]:
    """The studies of a run: its search, its random baseline, and its finalists.

    Args:
        folder: of the run.
        storage: where they are kept, unless that is the folder's own journal.
        name: of the search in a storage that others use as well; the folder's unless told otherwise.
        trusted: see `evonas.storage.open_storage`.
        costs: what a search of a front minimises beside the score, see `open_study`.

    Raises:
        UsageError: the storage cannot be opened.
    """
    if storage is None:
        return [open_study(inside(folder, JOURNAL), study, costs=costs if study == STUDIES[0] else ()) for study in STUDIES]
    return [open_study(storage, f"{name or folder.name}-{study}", trusted=trusted) for study in STUDIES]


def keep_copy(folder: Path, studies: Sequence[optuna.Study]) -> None:
    """The trials of a search that is kept elsewhere, in the run folder's own journal: what the report is made of.

    What else the journal holds, records of the training, stays in it.
    """
    own = open_storage(folder / JOURNAL)
    with written_whole(folder / JOURNAL) as temporary:
        temporary.unlink(missing_ok=True)
        kept = open_storage(temporary)
        for name in set(optuna.get_all_study_names(own)) - set(STUDIES):
            optuna.copy_study(from_study_name=name, from_storage=own, to_storage=kept)
        for study, name in zip(studies, STUDIES, strict=True):
            _copy(study, kept, name)
        for file in folder.glob(f".{temporary.name}.*"):  # locks of the copy
            file.unlink()


def _copy(study: optuna.Study, storage: optuna.storages.BaseStorage, name: str) -> None:
    """As `optuna.copy_study`, without the dashboard's notes: they name trials by numbers that only their own storage knows."""
    made = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
    for key, value in study._storage.get_study_system_attrs(study._study_id).items():
        if not key.startswith("dashboard:"):
            made._storage.set_study_system_attr(made._study_id, key, value)
    for key, value in study.user_attrs.items():
        made.set_user_attr(key, value)
    made.add_trials(study.get_trials(deepcopy=False))


@contextmanager
def copied_studies(folder: Path, names: Sequence[str] = STUDIES) -> Iterator[list[optuna.Study]]:
    """Studies of a run folder, for reading: nothing in the folder is written, and nothing outside of it is opened.

    Raises:
        UsageError: the folder has no journal, or it is damaged.
    """
    journal = inside(folder, JOURNAL)
    if not journal.is_file():
        raise UsageError(f"{folder} holds no trials ({JOURNAL}); run its command again, which keeps a copy of them there.")
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copy(journal, place))
        repair_journal(copy)
        with readable(folder):
            studies = [open_study(copy, name) for name in names]
            for study in studies:
                study.get_trials(deepcopy=False)
        yield studies


def storage_of(folder: Path, storage: str | None) -> str | Path:
    """Where the trials of a run are: its own journal, or the storage that a person names for a run that was made with one.

    Raises:
        UsageError: no run, or one whose trials are elsewhere.
    """
    if not (folder / "config.json").exists():
        raise UsageError(f"There is no run in {folder}; expected a run folder with a config.json.")
    kept = read_config(folder).get("storage")
    if kept is not None and storage is not None:
        return storage
    journal = inside(folder, JOURNAL)
    if not journal.exists():
        raise UsageError(f"The trials of {folder} are in {kept or 'no journal'}; expected --storage with its URL.")
    return journal


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
    """What a run or its search came to, from `result.json` or `winner.json`, whichever version wrote it.

    Raises:
        UsageError: the file is missing or damaged.
    """
    result: dict[str, Any] = read_as(inside(path.parent, path.name), Outcome).model_dump(exclude_unset=True)
    if "costs" in result and "units" not in result:
        result["costs"], result["units"] = split_units(result["costs"])
    return result


def read_config(folder: Path) -> dict[str, Any]:
    """The arguments of a run.

    Raises:
        UsageError: the file is missing or damaged.
    """
    return read_as(inside(folder, "config.json"), Arguments).model_dump()


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Whatever is wrong with the files of a run folder that somebody else may have written, in one line.

    Raises:
        UsageError: in place of the errors that missing and wrong values raise where they are used.
    """
    try:
        yield
    except UsageError:
        raise
    except _DAMAGES as error:
        raise UsageError(
            f"The files of {folder} do not belong together ({type(error).__name__}: {first_line(error)}). Restore them."
        ) from error


_DAMAGES = (
    *(AssertionError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, MemoryError),
    *(jinja2.TemplateError, optuna.exceptions.OptunaError, RuntimeError),
)
