"""Turns: of all processes that share a study, one at a time reserves trials.

Optuna numbers trials as they are written, so what belongs to a number can only be written whole by a process that knows the number
before. A turn gives it that: a lock that the system or the server ends with the process or the connection that holds it.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import filelock
import optuna
from optuna.storages import journal

from evonas.storage import beside

LONGEST_TURN_S = 3600
_in_memory: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()


def turn(study: optuna.Study) -> AbstractContextManager[Any]:
    """The turn of this process to reserve trials of a study. Not to be entered twice."""
    storage: Any = study._storage
    storage = getattr(storage, "_backend", storage) if not isinstance(storage, optuna.storages.JournalStorage) else storage
    if isinstance(storage, optuna.storages.RDBStorage):
        return _lock_of_engine(storage.engine, study.study_name)
    if isinstance(storage, optuna.storages.JournalStorage):
        backend: Any = storage._backend
        if isinstance(backend, journal.JournalFileBackend):
            return _file_lock(Path(backend._file_path))
        return backend._redis.lock(f"evonas:{study.study_name}", timeout=LONGEST_TURN_S)
    return _in_memory.setdefault(storage, threading.RLock())


@contextmanager
def lock_of_url(url: str) -> Iterator[None]:
    """As `turn`, for a database in which there is no study yet."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    try:
        with _lock_of_engine(engine, "tables"):
            yield
    finally:
        engine.dispose()


def _lock_of_engine(engine: Any, name: str) -> AbstractContextManager[Any]:
    if engine.dialect.name == "sqlite":
        path = engine.url.database
        return _file_lock(Path(path)) if path and path != ":memory:" else _in_memory.setdefault(engine, threading.RLock())
    return _lock_of_server(engine, name)


@contextmanager
def _lock_of_server(engine: Any, name: str) -> Iterator[None]:
    """A lock of the server's own, which ends with the connection."""
    import sqlalchemy

    digest = hashlib.sha256(f"evonas:{name}".encode()).digest()
    with engine.connect() as connection:
        if engine.dialect.name in ("mysql", "mariadb"):
            named = {"key": digest.hex()[:60]}
            if connection.scalar(sqlalchemy.text(f"SELECT GET_LOCK(:key, {LONGEST_TURN_S})"), named) != 1:
                raise TimeoutError(f"no turn for {LONGEST_TURN_S} s")
            try:
                yield
            finally:
                connection.scalar(sqlalchemy.text("SELECT RELEASE_LOCK(:key)"), named)
        else:
            key = int.from_bytes(digest[:8], "big", signed=True)
            with connection.begin():
                connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
                yield


def _file_lock(path: Path) -> AbstractContextManager[Any]:
    if not path.parent.is_dir():  # the lock would make it
        raise FileNotFoundError(f"There is no folder {path.parent}")
    return filelock.FileLock(beside(path, "turn"), timeout=LONGEST_TURN_S, poll_interval=0.005)
