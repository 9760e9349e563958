"""Workers: the processes that share a study, told apart, and told from those that have ended.

A name is a process: machine, process number and the moment it started, so that no two are the same. Whether a process of this machine
still runs is asked of the system; one of another machine gives a sign of life every ten seconds (Optuna's heartbeats where the storage
has them, a study attribute elsewhere) and counts as ended when it gave none for a minute.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import platform
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import optuna
import psutil
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial

from evonas.storage import GRACE_S, HEARTBEAT_S

WORKER = "worker"
SIGN = "evonas:worker:"
START_TOLERANCE_S = 2
VERY_OLD_S = 10 * GRACE_S

_serial = itertools.count()
_alive_here: set[str] = set()


class Worker:
    """This process as one of those that share a study, from entering to leaving.

    Args:
        study: what is shared.

    Attributes:
        name: in the user attribute `worker` of its trials.
        in_hand: ids of the trials that it works on, kept alive by heartbeats.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.name = f"{machine()}:{os.getpid()}:{_started(os.getpid()):.0f}:{next(_serial)}"
        self.in_hand: Sequence[int] = ()
        self._study = study
        self._joined = False
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._give_signs, name="evonas heartbeat", daemon=True)

    def __enter__(self) -> Worker:
        _alive_here.add(self.name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _alive_here.discard(self.name)
        self._leave.set()
        if self._joined:
            with contextlib.suppress(Exception):  # a storage that is lost now has been told of already
                self._sign(None)

    def join(self) -> None:
        """Be known to the others, who share generations with whoever is; signs of life from now on."""
        if not self._joined and not isinstance(self._study._storage, InMemoryStorage):
            self._sign(time.time())
            self._joined = True
            self._thread.start()

    def take(self, trials: Sequence[FrozenTrial]) -> None:
        """Work on these from now on."""
        self.in_hand = [trial._trial_id for trial in trials]
        if _beats(self._study._storage):
            self._beat()

    def living(self) -> int:
        """How many workers share the study now, this one included."""
        signs = self._signs()
        return max(sum(not has_ended(name, sign) for name, sign in signs.items() if sign is not None), 1)

    def abandoned(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the running trials whose worker has ended."""
        others = [trial for trial in running if trial.user_attrs.get(WORKER) != self.name]
        if not others:
            return []
        signs = self._signs()
        storage: Any = self._study._storage
        beats = _beats(storage)
        stale = set(storage._get_stale_trial_ids(self._study._study_id)) if beats else set()
        return [trial for trial in others if self._is_abandoned(trial, signs, stale, beats)]

    def _is_abandoned(self, trial: FrozenTrial, signs: dict[str, float | None], stale: set[int], beats: bool) -> bool:
        name = trial.user_attrs.get(WORKER)
        age = (datetime.now() - trial.datetime_start).total_seconds() if trial.datetime_start else math.inf
        if name is None:  # another program's, or of a process that was ended before it could sign
            return trial._trial_id in stale or age > VERY_OLD_S
        if (here := _ended_here(name)) is not None:
            return here
        if beats and signs.get(name) is not None:  # by the server's clock; a trial that has no heartbeat yet is not stale
            return trial._trial_id in stale or (age > VERY_OLD_S and has_ended(name, signs[name]))
        return has_ended(name, signs.get(name))

    def knows_ended(self, name: str) -> bool:
        """Whether another worker of the study has ended, or has left it."""
        return name != self.name and has_ended(name, self._signs().get(name))

    def _signs(self) -> dict[str, float | None]:
        """When every worker that ever joined gave its last sign; None where it has left."""
        attributes = self._study._storage.get_study_system_attrs(self._study._study_id)
        return {key.removeprefix(SIGN): value for key, value in attributes.items() if key.startswith(SIGN)}

    def _sign(self, moment: float | None) -> None:
        self._study._storage.set_study_system_attr(self._study._study_id, SIGN + self.name, moment)

    def _beat(self) -> None:
        storage: Any = self._study._storage
        for trial_id in tuple(self.in_hand):
            storage.record_heartbeat(trial_id)

    def _give_signs(self) -> None:
        while not self._leave.wait(HEARTBEAT_S):
            with contextlib.suppress(Exception):  # of a lost storage the loop tells; the next sign may come through
                self._sign(time.time())
                if _beats(self._study._storage):
                    self._beat()
                if self._leave.is_set():
                    self._sign(None)


@functools.cache
def machine() -> str:
    """A name for where process numbers count: the host's, and on Linux its namespace of processes (containers have their own)."""
    try:
        return f"{platform.node()}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return platform.node()


def has_ended(name: str, sign: float | None) -> bool:
    """Whether a worker has ended: by the system where it is of this machine, else by its last sign of life."""
    here = _ended_here(name)
    return here if here is not None else sign is None or time.time() - sign > GRACE_S


def _ended_here(name: str) -> bool | None:
    """Whether a worker of this machine has ended; None for one of another machine, which cannot be asked."""
    place, *rest = name.rsplit(":", 3)
    if len(rest) != 3 or not all(part.isdigit() for part in rest[:2]):
        return True  # a name of an earlier version, whose runs had their study to themselves
    if place != machine():
        return None
    process, started = int(rest[0]), int(rest[1])
    if process == os.getpid() and abs(_started(process) - started) <= START_TOLERANCE_S:
        return name not in _alive_here
    try:
        return abs(_started(process) - started) > START_TOLERANCE_S or psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return None


def _started(process: int) -> float:
    return float(psutil.Process(process).create_time())


def _beats(storage: BaseStorage) -> bool:
    """Whether the storage has heartbeats of its own."""
    return isinstance(storage, optuna.storages._heartbeat.BaseHeartbeat) and storage.get_heartbeat_interval() is not None
