"""Which of the leading networks is best, where reading a score twice gives two numbers: successive rejects.

Audibert, Bubeck and Munos, "Best Arm Identification in Multi-Armed Bandits", COLT 2010. Of K leaders one is dropped after every phase, the
one of the lowest mean, and what is left is read more often. A search that reads everything once ends with the luckiest of good networks;
the reads that made them lead are left out of the means here, because luck chose them. (The paper's arms come without such a read.)

Every read is a trial of the study, marked as a repeat of the network's first: explorers and budgets do not see it, the dashboard does, and
whoever is interrupted goes on from the reads that are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import optuna
from optuna.trial import TrialState

from evonas.errors import UsageError
from evonas.search import Fitness, Scored
from evonas.space import Architecture, SearchSpace
from evonas.study import REPEATS, History, record

READ = "read_again"  # what an Optuna sampler proposes twice repeats a trial as well, with a copy of its score


@dataclass(frozen=True)
class Settled:
    """A leader, and what reading it again said.

    Attributes:
        number: of its first trial.
        architecture: option indices.
        mean: of the reads, the first one left out.
        reads: how many they are.
    """

    number: int
    architecture: Architecture
    mean: float
    reads: int


def phases(leaders: int, reads: int) -> list[int]:
    """How often each network that is left has been read after each phase, at most `reads` reads in all: shape (leaders - 1,).

    Raises:
        UsageError: fewer than two leaders, or not one read for each.
    """
    if leaders < 2 or reads < leaders:
        raise UsageError(f"Got {leaders} leaders and {reads} reads; expected two leaders or more, and a read for each at least.")
    share = 0.5 + sum(1 / i for i in range(2, leaders + 1))
    return [max(1, math.ceil((reads - leaders) / (share * (leaders + 1 - k)))) for k in range(1, leaders)]


def settle(
    study: optuna.Study,
    space: SearchSpace,
    fitness: Fitness,
    positions: Sequence[int] | npt.NDArray[np.int64],
    *,
    reads: int = 40,
    on_progress: Callable[[float], None] | None = None,
) -> list[Settled]:
    """Read the leaders of a search again until most of the reads are of the best of them.

    Example:
        found = search(space, fitness, explorer, evaluations=200, study=study)
        best = settle(study, space, fitness, explorer.recommend(found.history)[:8], reads=40)[0]

    Args:
        study: of the search; it keeps every read.
        space: of the architectures, un-narrowed.
        fitness: that is noisy: asked twice it says two things.
        positions: of the leaders in the history of the study, `History.of(study, space)`.
        reads: in all, those that the study has already included.
        on_progress: called with the share of reads done.

    Returns:
        The leaders, the best first: those that were dropped last come before those that were dropped earlier.

    Raises:
        UsageError: fewer than two leaders, or not one read for each.
    """
    history = History.of(study, space)
    rows = history.population[np.asarray(positions, dtype=np.int64)]
    numbers = [int(history.numbers[position]) for position in positions]
    targets = phases(len(numbers), reads)
    known = _known(study, numbers)
    left, dropped, total = list(range(len(numbers))), list[int](), sum(targets) + targets[-1]  # the last two are read as often
    for target in targets:
        while missing := [i for i in left if len(known[i]) < target]:  # a read of each at a time
            found = fitness(rows[missing])
            scores = np.asarray(found.scores if isinstance(found, Scored) else found, dtype=np.float64)
            for i, score in zip(missing, scores.tolist(), strict=True):
                record(study, space, rows[i], score, attributes={REPEATS: numbers[i], READ: True})
                known[i].append(score if math.isfinite(score) else -math.inf)
            if on_progress is not None:
                on_progress(min(sum(map(len, known)) / total, 1.0))
        worst = min(left, key=lambda i: (_mean(known[i][:target]), -i))
        left.remove(worst)
        dropped.append(worst)
    order = [*left, *reversed(dropped)]
    return [Settled(numbers[i], tuple(rows[i].tolist()), _mean(known[i]), len(known[i])) for i in order]


def _known(study: optuna.Study, numbers: Sequence[int]) -> list[list[float]]:
    """The reads of each leader that the study holds, in the order in which they were made; a failed one is the worst there is."""
    found: dict[int, list[float]] = {number: [] for number in numbers}
    for trial in study.get_trials(deepcopy=False):
        number = trial.user_attrs.get(REPEATS)
        if number in found and READ in trial.user_attrs and trial.state in (TrialState.COMPLETE, TrialState.FAIL):
            found[number].append(-math.inf if trial.values is None else trial.values[0])
    return [found[number] for number in numbers]


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if scores else -math.inf
