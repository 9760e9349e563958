"""Optuna storages by path or URL: which of them need trust, which driver they need, and what a lost one looks like.

runs/x/study.log                    a journal: lines of JSON in a file. Whoever can write to it can write trials, and no more.
sqlite:///x.db                      a file, for the workers of one machine; the same.
postgresql://..., mysql://...       a server, for workers on many machines. Whoever can write to it can write trials, and no more.
redis://...                         Optuna keeps pickled snapshots of its journal there: whoever can write to that server runs code in
                                    every worker. Refused unless the server is said to be trusted.
@FILE                               the first line of a file, which is one of the above: a password belongs in no command line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
import optuna
from optuna.storages import journal
from optuna.storages.journal._file import BaseJournalFileLock

from evonas.errors import UsageError, first_line
from evonas.redaction import hide, redacted

T = TypeVar("T")

HEARTBEAT_S, GRACE_S = 10, 60
PATIENCE_S = 600.0
LONGEST_PAUSE_S = 10.0
LOCK_WAIT_S = 60.0
EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "redis": "redis", "rediss": "redis"}
OTHER_DRIVERS = {"postgresql": ("psycopg", "psycopg2"), "mysql": ("pymysql", "MySQLdb"), "mariadb": ("pymysql", "MySQLdb")}


def storage_url(storage: str) -> str:
    """The path or URL that `storage` stands for: itself, or with `@FILE` the first line of that file.

    Raises:
        UsageError: the file cannot be read, or is empty.
    """
    if not storage.startswith("@"):
        return storage
    try:
        lines = Path(storage[1:]).read_text().split()
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the storage from {storage[1:]}: {first_line(error)}. Expected a file that holds its URL.") from None
    if not lines:
        raise UsageError(f"{storage[1:]} is empty; expected the URL of a storage in it.")
    redacted(lines[0])  # so that it is hidden from now on
    return lines[0]


def check_storage(storage: str, *, trusted: bool = False) -> None:
    """What can be told of a storage before anything else is done, without making it: form, trust, driver, and that a server answers.

    Raises:
        UsageError: it is none that Optuna takes, lacks its driver, needs trust that was not given, or does not answer.
    """
    url = storage_url(storage)
    if "://" not in url:
        return
    scheme = url.split("://")[0].split("+")[0]
    if scheme in ("redis", "rediss"):
        if not trusted:
            raise UsageError(
                f"The storage {redacted(url)} keeps pickled data: whoever can write to that server runs code here. Use PostgreSQL or "
                f"MySQL, or say --trust-storage where you trust everybody who can reach it."
            )
        _require_driver(scheme, "redis")
        return
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(_with_driver(url))
        dialect = parsed.get_dialect()
    except Exception as error:
        raise cannot_open(url, error) from None
    try:
        dialect.import_dbapi()
    except ImportError as error:
        raise _no_driver(scheme, error.name or parsed.get_driver_name()) from None
    if parsed.get_backend_name() == "sqlite":
        return
    engine = sqlalchemy.create_engine(parsed, **_engine_settings(parsed.get_backend_name()))
    try:
        with engine.connect():
            pass
    except Exception as error:
        raise cannot_open(url, error) from None
    finally:
        engine.dispose()


def open_storage(storage: str | Path | optuna.storages.BaseStorage | None, *, trusted: bool = False) -> Any:
    """The Optuna storage behind a path or URL; heartbeats are on where the storage has them.

    Args:
        storage: a path (an Optuna journal file), a storage URL, `@FILE`, a storage, or None for memory only.
        trusted: whether everybody who can write to a Redis server may run code here.

    Raises:
        UsageError: it cannot be opened.
    """
    if storage is None or isinstance(storage, optuna.storages.BaseStorage):
        return storage
    url = storage_url(str(storage))
    try:
        if "://" not in url:
            return optuna.storages.JournalStorage(journal.JournalFileBackend(url, lock_obj=_WholeLines(Path(url))))
        check_storage(url, trusted=trusted)
        if url.startswith("redis"):
            return optuna.storages.JournalStorage(journal.JournalRedisBackend(url))
        from evonas.turns import lock_of_url

        url = _with_driver(url)
        with lock_of_url(url):  # tables that several processes make at once are made twice
            settings = _engine_settings(url.split("://")[0].split("+")[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of heartbeats
                return optuna.storages.RDBStorage(url, settings, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S)
    except UsageError:
        raise
    except Exception as error:
        raise cannot_open(url, error) from error


def patiently(step: Callable[[], T], note: Callable[[str], None]) -> T:
    """Do a step that reads and writes a storage; where the storage is lost meanwhile, wait and do it again, for ten minutes at most.

    Args:
        step: finds what it has done already, so that it can be done twice.
        note: told once when the storage is lost and once when it is back.

    Raises:
        UsageError: the storage did not come back.
    """
    lost_at, pause = None, 0.5
    while True:
        try:
            result = step()
        except Exception as error:
            if not is_lost(error):
                raise
            now = time.monotonic()
            if lost_at is None:
                lost_at = now
                note(f"the storage does not answer ({hide(first_line(_cause(error)))}); trying again for {PATIENCE_S / 60:.0f} minutes")
            if now - lost_at > PATIENCE_S:
                raise UsageError(
                    f"The storage has not answered for {PATIENCE_S / 60:.0f} minutes ({hide(first_line(_cause(error)))}). "
                    f"When it is back, the same command goes on from here."
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        else:
            if lost_at is not None:
                note(f"the storage is back after {time.monotonic() - lost_at:.0f} s")
            return result


def is_lost(error: BaseException) -> bool:
    """Whether an error means that a storage was out of reach for the moment, and not that something is wrong with what was asked of it."""
    import sqlalchemy.exc as exc

    cause = _cause(error)
    if isinstance(cause, exc.OperationalError | exc.InterfaceError | exc.TimeoutError):
        return "disk is full" not in str(cause)
    if isinstance(cause, exc.DBAPIError):
        return bool(cause.connection_invalidated)
    return type(cause).__module__.startswith("redis") and type(cause).__name__ in ("ConnectionError", "TimeoutError")


def repair_journal(path: Path) -> str | None:
    """Cut a torn last line, which a killed process leaves, from a journal file; returns what was done, or None.

    Only for a file that no other process writes to.

    Raises:
        UsageError: a line before the last is damaged, which no kill explains.
    """
    if not path.exists():
        return None
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            sound = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            sound = False
        if not sound:
            raise UsageError(
                f"Line {number} of {path} is damaged; expected one JSON object a line. Restore the file, or start over with --fresh."
            )
    if len(whole) == len(content):
        return None
    with path.open("r+b") as file:
        file.truncate(len(whole))
    return f"cut {len(content) - len(whole)} bytes of a torn last line from {path.name}"


class _WholeLines(BaseJournalFileLock):
    """The lock of a journal that is written to: the system ends it with its process. A torn last line is cut before more is written."""

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():  # the lock would make it
            raise FileNotFoundError(f"There is no folder {path.parent}")
        self._path = path
        self._lock = filelock.FileLock(beside(path, "append"), timeout=LOCK_WAIT_S, poll_interval=0.002)

    def acquire(self) -> bool:
        """Waits for other processes."""
        self._lock.acquire()
        try:
            with self._path.open("r+b") as file:
                if (size := file.seek(0, os.SEEK_END)) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.seek(max(size - (1 << 20), 0))
                    last = file.read()
                    file.truncate(size - len(last) + last.rfind(b"\n") + 1)
        except FileNotFoundError:
            pass
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Lets others write."""
        self._lock.release()


def beside(path: Path, what: str) -> Path:
    """The file beside a storage's file that is locked for something."""
    return path.with_name(f".{path.name}.{what}")


def _with_driver(url: str) -> str:
    """The URL with a driver that is installed, where it names none and SQLAlchemy's habit is not."""
    scheme, rest = url.split("://", 1)
    usual, other = OTHER_DRIVERS.get(scheme, ("", ""))
    if usual and not importlib.util.find_spec(other) and importlib.util.find_spec(usual):
        return f"{scheme}+{usual}://{rest}"
    return url


def _engine_settings(backend: str) -> dict[str, Any]:
    if backend == "sqlite":
        return {"connect_args": {"timeout": LOCK_WAIT_S}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}


def _require_driver(scheme: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise _no_driver(scheme, module)


def _no_driver(scheme: str, module: str) -> UsageError:
    extra = EXTRAS.get(scheme)
    how = f"pip install 'evonas[{extra}]'" if extra else f"the package {module}"
    return UsageError(f"Cannot open the storage: the driver {module} of {scheme} is not installed; expected it: {how}.")


def cannot_open(url: str, error: Exception) -> UsageError:
    """The error for a storage that cannot be opened, without its password."""
    shown, why = redacted(url), hide(first_line(_cause(error)))
    return UsageError(f"Cannot open the storage {shown!r}: {why}. Expected a file path or an Optuna storage URL.")


def _cause(error: BaseException) -> BaseException:
    """The driver's error behind Optuna's."""
    while isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error
