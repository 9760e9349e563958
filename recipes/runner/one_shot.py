"""The one-shot movements in their order: train a supernet, search it under a budget, retrain the winner, deliver it.

What a recipe chooses (the space, how the supernet is trained, what proposes candidates, the schedule) is a `OneShot`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna
from torch import nn
from torch.distributed import is_initialized

from evonas import Budget, Explorer, SearchResult
from evonas.budget import Cost
from evonas.errors import UsageError
from evonas.explorers.screened import Predictor
from evonas.extremes import cheapest_and_dearest
from evonas.files import read_json
from evonas.fusion import fused_costs
from evonas.hand_made import hand_made
from evonas.plot import in_lines
from evonas.sampling import draw_feasible
from evonas.space import Architecture, Population
from evonas.storage import patiently
from predictors.costs import operators
from predictors.devices import runtime
from recipes.runner import movements
from recipes.runner.asked import AskedOneShot
from recipes.runner.delivery import about, deliver, require_registered, write_result
from recipes.runner.final_training import FinalTraining
from recipes.runner.finalists import choose, crown, decide, judged, rungs, told
from recipes.runner.forecast import foretell, scoring_seconds, start, training_seconds
from recipes.runner.front import AskedFront, best_known, multi_objective, require_points
from recipes.runner.front import finish as finish_front
from recipes.runner.notes import conclude, conclude_front
from recipes.runner.pages.front import FRONT
from recipes.runner.pages.one_shot import write_report
from recipes.runner.peers import tell, train_peers
from recipes.runner.progress import say, show_images
from recipes.runner.recorded import recorder
from recipes.runner.run_folder import RunFolder, keep_copy, read_result, studies_of
from recipes.runner.scoring import REFERENCE, ranked_by, scored_by
from recipes.runner.teacher import LARGEST, NONE, appointed, given
from supernet import ImageData, InheritedFitness, StandAlone, accuracy, train
from supernet.chain import ChainSupernet
from supernet.training.checkpoint import restore
from supernet.training.team import rank
from supernet.training.way import Way

IMAGES_COMPARED = 64


@dataclass(frozen=True)
class Preparation:
    """What comes before the supernet is trained.

    Attributes:
        name: of the movement.
        run: does it, or goes on where it stands in the run folder.
        seconds: about how long it takes.
    """

    name: str
    run: Callable[[RunFolder], None]
    seconds: Callable[[], float]


@dataclass(frozen=True)
class OneShot:
    """What a one-shot recipe is made of.

    Attributes:
        supernet: untrained.
        family: name of its space in `supernet.spaces.SPACES`.
        space: arguments that the space was made with, as plain data.
        way: how the supernet is trained.
        explorer: proposes candidates under a budget.
        training, retraining: settings of `supernet.train` for the supernet and for the winner.
        costs: those that are counted, by name; latency is added where it is `timed`.
        retrain_way: how the winner is trained on its own.
        timed: whether running a network here says how fast it is.
        calibration_images: training images that batch-norm statistics of a candidate are taken from.
        screening: the predictor inside of the explorer, for the report.
        reestimate: take the batch-norm statistics of the retrained winner anew, over all training images.
        trained_as: plain data, beside data and space, that a trained supernet must agree on to be searched.
        teacher: that finalists, the winner and its peers learn from: `largest`, `none`, the folder of a finished run, or a network.
        preparation: what has to be done before the supernet is trained.
        measure: measures this host; block by block unless told otherwise.
        shares_of: what shares in bounds are shares of, by name of the cost.
        alone: what is delivered is read without its space: for networks that no plain data make again.
        about: plain data on the winner for the result, from its architecture.
        way_within: gives the way of training once the budget is known, where it depends on it; `way` then only says of what kind it is.
        by_hand: more networks that one would try by hand, within a budget.
    """

    supernet: ChainSupernet
    family: str
    space: dict[str, Any]
    way: Way
    explorer: Callable[[Budget], Explorer]
    training: dict[str, Any]
    retraining: dict[str, Any]
    costs: Mapping[str, Cost]
    retrain_way: Way = field(default_factory=StandAlone)
    timed: bool = True
    calibration_images: int = 512
    screening: Predictor | None = None
    reestimate: bool = False
    trained_as: Mapping[str, Any] | None = None
    teacher: str | nn.Module = NONE
    preparation: Preparation | None = None
    measure: movements.MeasureTable | None = None
    shares_of: Callable[[str, Cost], float] | None = None
    alone: bool = False
    about: Callable[[Architecture], dict[str, Any]] | None = None
    way_within: Callable[[Budget], Way] | None = None
    by_hand: Callable[[Budget], Population] | None = None


def one_shot(job: OneShot, images: ImageData, asked: AskedOneShot) -> None:
    """Run the movements, each unless its output is in the run folder; under `torchrun`, on all processes.

    Args:
        job: what the recipe chose.
        images: to train, search and test on.
        asked: what the run was asked for.
    """
    if not job.alone:
        require_registered(job.family)
    if asked.dry_run and is_initialized():
        raise UsageError("A dry run times its movements in one process; expected it without torchrun.")
    front = asked if isinstance(asked, AskedFront) and asked.front is not None else None
    if front is not None and is_initialized():
        raise UsageError("A front trains its networks in one process; expected it without torchrun.")
    supernet = job.supernet
    identity = {"data": asked.data, "image_shape": list(images.image_shape), "classes": list(images.classes), **job.space}
    identity = {**(job.trained_as or {}), **identity}
    training = FinalTraining(supernet, job.retrain_way, images, asked.inherit, job.retraining, given(job.teacher, images))
    if rank() > 0:
        if asked.from_run is None:
            train(supernet, job.way, images.train, **job.training)
        training.help()
        return

    show_images(images)
    with RunFolder(asked.out, asked.arguments, fresh=asked.fresh) as run:
        if asked.from_run is not None:  # one that cannot be used is refused before anything is measured or written
            restore(copy.deepcopy(supernet), job.way, movements.trained_supernet(asked.from_run, identity))
        wanted = front is not None and front.front == movements.LATENCY
        limits = movements.bounded(run, supernet, job.costs, asked, timed=job.timed, measure=job.measure, of=job.shares_of, wanted=wanted)
        if front is not None:
            require_points(front, supernet.space, limits.budget, job.shares_of)
            job = replace(job, explorer=_of_fronts(job.explorer, str(front.front), asked.seed))
        job = job if job.way_within is None else replace(job, way=job.way_within(limits.budget))
        explorer = job.explorer(limits.budget)
        search: dict[str, Any] = {
            "recipe": asked.recipe,
            "data": digest_of_images(images),
            "space": {k: v for k, v in identity.items() if k != "data"},
            "explorer": type(explorer).__name__,
        }
        search |= {"seed": asked.seed, "evaluations": asked.evaluations, movements.RANKED_BY: ranked_by(explorer)}
        foretold = {} if is_initialized() else foretell(run, _foretold(job, images, asked, limits), dry=asked.dry_run)
        if asked.dry_run:
            return
        studies = movements.begin(run, limits, supernet.space, asked, plain(search), None if front is None else front.front)
        start(run, foretold)
        if job.preparation is not None:
            job.preparation.run(run)
        explorer, found, control, by_hand = _searched(run, job, images, asked, identity, limits, studies)
        if front is not None:
            finish_front(run, front, limits.budget, found)
            conclude_front(studies[0], str(front.front), read_json(run / FRONT)["points"], f"{asked.out}/report.html")
            return
        chosen = choose(run, explorer, found, studies[0], measuring(job, images, limits, asked), by_hand, wanted=asked.finalists)
        _finals(run, job, images, asked, limits, studies, explorer, chosen, movements.best_of(studies[1], control), training)


def _of_fronts(make: Callable[[Budget], Explorer], cost: str, seed: int) -> Callable[[Budget], Explorer]:
    return lambda limits: multi_objective(make(limits), limits, cost, seed)


def _foretold(job: OneShot, images: ImageData, asked: AskedOneShot, limits: movements.Limits) -> dict[str, Callable[[], float]]:
    """How to time each movement."""
    supernet, where, reference = job.supernet, job.training["device"], min(REFERENCE, asked.evaluations)
    typical = tuple(draw_feasible(supernet.space, limits.budget, 1, np.random.default_rng(asked.seed))[0].tolist())
    largest = cheapest_and_dearest(supernet.space, next(iter(job.costs.values())), Budget())[1]
    epochs, scoring = job.retraining["epochs"], scoring_seconds(supernet, images, job.calibration_images, where)

    @functools.cache
    def whole(row: Architecture) -> float:
        return training_seconds(supernet.network(row, seed=asked.seed), job.retrain_way, images.train, **job.retraining)

    def alone(row: Architecture, share: float) -> float:
        return share * whole(row) if share and epochs else 0.0

    generation = job.explorer(limits.budget).generation_size
    short, left = 0, asked.finalists
    for each, kept in rungs(epochs, asked.finalists):
        short, left = short + left * each, kept
    trains = asked.from_run is None and job.training["epochs"] > 0
    first = {} if job.preparation is None else {job.preparation.name: job.preparation.seconds}
    return {
        **first,
        "train supernet": lambda: training_seconds(supernet, job.way, images.train, **job.training) if trains else 0.0,
        "reference networks": lambda: scoring(reference, reference),
        "search": lambda: scoring(asked.evaluations, generation),
        "random baseline": lambda: scoring(asked.evaluations - reference, generation),
        "train teacher": lambda: alone(tuple(largest), job.teacher == LARGEST),
        "finalists": lambda: alone(typical, short / max(epochs, 1)),
        "train winner": lambda: alone(typical, 1),
        "peers": lambda: alone(typical, asked.peers),
    }


def _searched(
    run: RunFolder,
    job: OneShot,
    images: ImageData,
    asked: AskedOneShot,
    identity: Mapping[str, Any],
    limits: movements.Limits,
    studies: Sequence[optuna.Study],
) -> tuple[Explorer, SearchResult, SearchResult, Population]:
    """A supernet, and what a search finds in it: the explorer, its search, a random one, and the networks that were made by hand."""
    supernet, where, whole, budget = job.supernet, job.training["device"], job.supernet.space, limits.budget
    watched = {"on_record": recorder(run.path, whole, budget)} if type(job.way).record is not Way.record else {}
    movements.train_supernet(run, supernet, job.way, images, identity, asked, studies, **job.training, **watched)
    movements.after_narrowing(whole, supernet, budget)

    calibration = images.train.head(job.calibration_images)
    inherited = InheritedFitness(supernet, images.search.head(len(images.search)), calibration, device=where)
    explorer = job.explorer(budget)
    cheap = fused_costs(job.costs, operators(supernet.space))
    by_hand = hand_made(supernet.space, budget, size=cheap[0], depth=cheap[-1])
    if job.by_hand is not None:  # the same network may be among both
        more = job.by_hand(budget)
        by_hand = np.concatenate([more, by_hand[[not (row == more).all(axis=1).any() for row in by_hand]]])
    if asked.known_run is not None:
        explorer.try_first(best_known(asked.known_run, supernet.space, budget))
    explorer.try_first(by_hand)
    fitness, reference = scored_by(run, inherited, cheap, explorer, studies[0], asked.evaluations)
    found, control = movements.search_beside_random(
        explorer, fitness, reference, studies, asked.evaluations, shared=asked.storage is not None
    )
    if unfinished := explorer.unfinished(found.history):
        say(f"note: {unfinished}")
    return explorer, found, control, by_hand


def _finals(
    run: RunFolder,
    job: OneShot,
    images: ImageData,
    asked: AskedOneShot,
    limits: movements.Limits,
    studies: Sequence[optuna.Study],
    explorer: Explorer,
    chosen: Mapping[str, Any],
    baseline: Mapping[str, Any],
    training: FinalTraining,
) -> None:
    """What follows the search: a teacher, finalists, the winner's training and test, its peers, delivery."""
    supernet, where, shared = job.supernet, job.training["device"], asked.storage is not None

    def finish(network: nn.Module) -> None:
        if job.reestimate:
            movements.reestimate(network, images, where)

    teacher = appointed(asked.known_run or run.path, training, job.teacher, job.costs, where)
    winner = decide(run, training, chosen, explorer, images, studies, where, shared=shared)
    network = training.full(run / "retrain.pt", "train winner", supernet.space.from_names(winner["architecture"]))
    finish(network)
    patiently(lambda: crown(studies[-1], winner["position"], job.retraining["epochs"], judged(network, images.search, where)), say)
    tested = accuracy(network, images.test, where)

    measure = measuring(job, images, limits, asked)
    peers = train_peers(run, training, asked.peers, supernet.space, limits.budget, measure, finish, asked.seed, where)
    training.done()
    # the winner may be one made by hand
    said = tell(tested, max(entry["score"] for entry in chosen["tried"]), baseline, peers, ranked_by(explorer))
    if shared:
        patiently(lambda: keep_copy(run.path, studies), say)

    if job.timed and limits.table is None:  # nothing bounded it; it is good to know
        winner["costs"][movements.LATENCY] = runtime.measure(network, images.image_shape)
    family = None if job.alone else job.family
    difference = deliver(network, images, winner["architecture"], job.space, run.path, family=family, tested=tested)
    job_about = {} if job.about is None else job.about(supernet.space.from_names(winner["architecture"]))
    timed = limits.table is not None and asked.latency_table is None
    more = {
        **job_about,
        **about(network, images, winner["architecture"], timed=timed),
        "said": said,
        "peers": peers,
        "teacher": teacher,
        "finalists": told(studies[-1], supernet.space, chosen["finalists"]),
    }
    result = write_result(run.path, asked.recipe, winner, limits.budget, limits.table, tested, baseline, difference, asked.seed, more)
    write_report(run.path, job.screening)
    told_of, lines = read_result(run / "result.json"), in_lines(winner["architecture"])
    for noted in [studies[0], *(studies_of(run.path)[:1] if shared else [])]:  # and in the folder's own copy
        patiently(functools.partial(conclude, noted, told_of, f"{asked.out}/report.html", lines), say)
    say(f"delivered to {asked.out}: {result}; all about it: {run / 'report.html'}")


def measuring(job: OneShot, images: ImageData, limits: movements.Limits, asked: AskedOneShot) -> Callable[[Architecture], dict[str, float]]:
    """Measures a network whole: costs that replace those of tables; none without a table, or with one of another device."""
    if limits.table is None or asked.latency_table is not None:
        return lambda architecture: {}
    return lambda architecture: {movements.LATENCY: runtime.measure(job.supernet.subnet(architecture), images.image_shape)}


def digest_of_images(images: ImageData) -> str:
    """Tells data sets apart, wherever their files are: by sizes, classes, and the first of the images that score networks."""
    first = images.search.head(IMAGES_COMPARED)
    told = (len(images.train), len(images.search), len(images.test), images.classes, images.image_shape)
    content = repr(told).encode() + first.images.numpy().tobytes() + first.labels.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value, default=str))
