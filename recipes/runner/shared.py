"""What several workers of one search share beside its trials: who trains the supernet, and the file that the others take.

Files go through Optuna's artifact stores: a folder that all machines reach, or a bucket (`s3://name`, `gs://name`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from evonas.errors import UsageError, first_line
from evonas.files import written_whole
from evonas.storage import patiently
from evonas.study import agree, agreed
from evonas.turns import turn
from evonas.workers import Worker
from recipes.runner.progress import say

SUPERNET = "supernet"
TRAINER = "evonas:trains"
PAUSE_S = 2.0


def artifact_store(place: str) -> Any:
    """The artifact store in a folder or a bucket.

    Raises:
        UsageError: it cannot be opened.
    """
    scheme, separator, name = place.partition("://")
    try:
        if not separator:
            Path(place).mkdir(parents=True, exist_ok=True)
            return optuna.artifacts.FileSystemArtifactStore(place)
        if scheme == "s3":
            return optuna.artifacts.Boto3ArtifactStore(name)
        if scheme == "gs":
            return optuna.artifacts.GCSArtifactStore(name)
    except Exception as error:
        raise UsageError(
            f"Cannot use the artifacts in {place}: {first_line(error)}. Expected a folder, s3://BUCKET or gs://BUCKET."
        ) from None
    raise UsageError(f"Cannot use the artifacts in {place!r}; expected a folder, s3://BUCKET or gs://BUCKET.")


def trained_once(study: optuna.Study, store: Any, path: Path, train: Callable[[], None]) -> None:
    """Have `path` made by one of the workers that share a study, and taken by the others; whoever comes when the first has died trains.

    Args:
        study: what is shared.
        store: where the file goes.
        path: the file, here.
        train: makes it; goes on where an earlier training of this worker stopped.

    Raises:
        UsageError: the file is not in the store any more.
    """
    with Worker(study) as worker:
        patiently(worker.join, say)
        told = False
        while True:
            known, trainer = patiently(lambda: _trainer(study, worker), say)
            if known is not None:
                _take(store, known, path)  # in place of one whose training was begun here and ended elsewhere
                return
            if trainer == worker.name:
                train()
                made = optuna.artifacts.upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
                if (first := patiently(partial(agree, study, SUPERNET, made), say)) != made:
                    _take(store, first, path)  # somebody took this worker for dead
                return
            if not told:
                say(f"waiting for the supernet that {trainer} trains")
                told = True
            time.sleep(PAUSE_S)


def _trainer(study: optuna.Study, worker: Worker) -> tuple[str | None, str]:
    """The artifact where it is made, and the name of the worker that makes it: this one where nobody does."""
    with turn(study):
        attributes = study._storage.get_study_system_attrs(study._study_id)
        trainer = attributes.get(TRAINER)
        if trainer is None or worker.knows_ended(trainer):
            trainer = worker.name
            study._storage.set_study_system_attr(study._study_id, TRAINER, trainer)
    return agreed(study, SUPERNET), trainer


def _take(store: Any, artifact: str, path: Path) -> None:
    try:
        with written_whole(path) as temporary:
            optuna.artifacts.download_artifact(artifact_store=store, file_path=str(temporary), artifact_id=artifact)
    except optuna.artifacts.exceptions.ArtifactNotFound:
        raise UsageError("The supernet of this search is not among the artifacts; expected the --artifacts that the others use.") from None
    say("supernet: taken from the artifacts")
