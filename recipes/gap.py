"""The gap recipe: how well a supernet ranks networks, against what they score on their own, and why not better.

The study of Zhang et al., 2020, arXiv 2001.01431, and the review of Xie et al., 2020, arXiv 2008.01475, as one command. The truth is a
published table or trainings that the command makes and keeps; supernets of several seeds are scored on it; cheap scores are held beside
them; and each cause of the gap is measured present and removed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from evonas import Budget, RandomExplorer, open_study, search
from evonas.diagnosis import FEWEST, Cause, Repeated, Truth, diagnose
from evonas.errors import UsageError
from evonas.files import read_json, write_json
from evonas.ranks import fused
from evonas.sampling import SMALL_SPACE, draw_feasible
from evonas.space import SearchSpace
from evonas.storage import repair_journal
from evonas.tabular import Table, nasbench_macro
from predictors import costs, naswot
from recipes.runner import options as o
from recipes.runner.asked import Asked
from recipes.runner.delivery import versions
from recipes.runner.forecast import alone_seconds, foretell, scoring_seconds, start, training_seconds
from recipes.runner.pages.gap import in_one_line, write_gap_report
from recipes.runner.progress import bar, best_so_far, say, show_images
from recipes.runner.registry import recipe
from recipes.runner.run_folder import RunFolder
from recipes.runner.training import train_into
from supernet import InheritedFitness, TrainedFitness, load, pick_device
from supernet.chain import ChainSupernet
from supernet.data import ImageData
from supernet.diagnosis import causes as c
from supernet.diagnosis.follow import Follower, ends_of_epochs, last_steps
from supernet.spaces.registry import require_supernet, supernet_of
from supernet.training.registry import WAYS
from supernet.training.way import Way

CAUSES = "ABCDE"
FOLLOWED, COMPARED_ALONE, FINE_TUNED, NASWOT_IMAGES = 64, 24, 64, 64

Space = Annotated[
    str, typer.Option(help="Search space (evonas list): two-node (64 networks), macro (NAS-Bench-Macro), mbconv, shuffle, ...")
]
TableFile = Annotated[
    str | None,
    typer.Option(help="Truth from a file: NAS-Bench-Macro, the official JSON or .npz, for --space macro. Otherwise networks are trained."),
]
Networks = Annotated[int, typer.Option(help="Networks of the truth; all of a space that has fewer.", min=FEWEST)]
Trainings = Annotated[
    int, typer.Option(help="Trainings of each network on its own, with different seeds: they give the noise. A table has its own.", min=1)
]
AloneEpochs = Annotated[int, typer.Option(help="Epochs of a network trained on its own; with a table, for cause C only.", min=1)]
Supernets = Annotated[int, typer.Option(help="Supernets of different seeds, for the stability of the ranking.", min=1)]
WayName = Annotated[
    str,
    typer.Option(
        help="How supernets are trained (evonas list): uniform (one path a step), fair (each option once), warm-up (widest first), ..."
    ),
]
Letters = Annotated[
    str,
    typer.Option(
        help="Causes to measure, by letter; A, B and D each train a supernet or two. A fairness, B discretisation, C configuration, "
        "D size of the space, E statistics and weights. An empty text for none."
    ),
]
LastSteps = Annotated[int, typer.Option(help="Steps at the end of the last epoch after each of which 64 networks are ranked.", min=0)]


@recipe(
    "gap",
    summary="how well a supernet ranks networks, and why not better",
    paper="Zhang et al. 2020, arXiv 2001.01431",
    page=write_gap_report,
    outputs=("supernet-*.pt", "cause-*", "scores-*.json", "followed.json", "naswot.json", "gap_*.png"),
)
def gap(
    asked: Asked,
    space: Space = "two-node",
    table: TableFile = None,
    networks: Networks = 200,
    trainings: Trainings = 3,
    alone_epochs: AloneEpochs = 10,
    epochs: o.Epochs = 60,
    supernets: Supernets = 3,
    way: WayName = "uniform",
    causes: Letters = CAUSES,
    final_steps: LastSteps = 32,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRate = 0.1,
) -> None:
    """Measure how well a supernet ranks networks, and why not better.

    Supernets are trained and networks scored with their weights; the truth is a published table, or the networks trained on
    their own. One page says: rank correlation with its interval, the noise of the truth, what holds among the best networks, stability
    over seeds, epochs and steps, cheap scores that must be beaten, what is over- or underrated, and which cause weighs most. The digits
    take about twenty minutes on one core, half of it for the 192 trainings of the truth; a run that was interrupted goes on.

    Example: evonas gap --data cifar10 --space macro --table nas-bench-macro_cifar10.json --networks 300 --out runs/gap
    """
    _require(asked.data, space, table, way, causes)
    known = None if table is None else nasbench_macro(table)
    where, seed = pick_device(asked.device), asked.seed
    images = load(asked.data, image_size=asked.image_size)
    show_images(images)
    training: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "device": where}

    def make(number: int = 0) -> ChainSupernet:
        return supernet_of(space, images.image_shape, len(images.classes), seed=seed + number)

    with RunFolder(asked.out, asked.arguments, fresh=asked.fresh) as run:
        alone = {**training, "epochs": alone_epochs}
        how_many = {"networks": networks, "trainings": 0 if known else trainings, "supernets": supernets, "causes": len(set(causes))}
        foretold = foretell(run, _movements(make(), WAYS[way].make, images, how_many, training, alone), dry=asked.dry_run)
        if asked.dry_run:
            return
        run.begin()
        start(run, foretold)
        if note := repair_journal(run / "study.log"):
            say(note)
        if known is None:
            truth = _trained_truth(run, make(), images, networks, trainings, alone)
        else:
            truth = _tabulated_truth(known, f"NAS-Bench-Macro ({Path(str(table)).name})", networks, seed)
        say(f"truth: {len(truth.population)} networks, {truth.source}")

        first, repeated = make(), {}
        followed = np.arange(min(FOLLOWED, len(truth.population)))
        fitness = InheritedFitness(first, images.search, None, device=where)
        per_epoch = max(len(images.train) // batch_size, 1)
        moments = {"epochs": ends_of_epochs(per_epoch, epochs), "steps": last_steps(per_epoch, epochs, final_steps)}
        steps = {step for found in moments.values() for step in found}
        follower = Follower(lambda: fitness(truth.population[followed]), steps, run / "followed.json")
        scores = []
        for number in range(supernets):
            supernet = make(number) if number else first
            settings = {**training, "seed": seed + number, "on_step": None if number else follower}
            _train(run / f"supernet-{number}.pt", supernet, WAYS[way].make(supernet), images, **settings)
            scores.append(_kept(run / f"scores-{number}.json", partial(_scores, supernet, truth, images, where)))
        shared, likelihood = np.array(scores[0]["accuracy"]), np.array(scores[0]["likelihood"])
        if supernets > 1:
            repeated["seeds"] = Repeated(np.array([found["accuracy"] for found in scores]), np.arange(len(truth.population)))
        for name, moment in moments.items():
            if len(found := follower.scores(moment)) > 1:
                repeated[name] = Repeated(found, followed)

        counts = {**costs.counted(first.space, first.parts()), "operators": costs.operators(first.space)}
        features = {name: np.asarray(cost(truth.population)) for name, cost in counts.items()}
        images_once = next(images.train.batches(NASWOT_IMAGES, where))[0]
        baselines = {**features, "naswot": np.array(_kept(run / "naswot.json", partial(_naswot, first, truth, images_once, seed)))}
        baselines["random"] = np.random.default_rng(seed).random(len(truth.population))
        train_more = partial(_train_for_cause, run, images, training)
        bench = c.Bench(make, first, way == "fair", epochs * per_epoch, train_more, images, truth, where)
        found_causes = _causes(run, causes, bench, {**training, "epochs": epochs if known is None else alone_epochs})
        diagnosis = diagnose(
            first.space,
            truth,
            shared,
            baselines=baselines,
            features=features,
            variants={"likelihood": likelihood, "fused": fused(likelihood, features["macs"], features["operators"])},
            repeated=repeated,
            causes=found_causes,
        )
        result = {"recipe": "gap", "diagnosis": diagnosis, "accuracies": {"shared": shared.tolist(), "alone": truth.mean.tolist()}}
        write_json(run / "result.json", {**result, "seed": seed, "versions": versions()})
        page = write_gap_report(run.path)
        say(in_one_line(diagnosis))
        say(f"report: {page}")


def _require(data: str, space: str, table: str | None, way: str, causes: str) -> None:
    require_supernet(space)
    WAYS.pick(way)
    unmeasured = {"uniform": "", "fair": "", "warm-up": "AD"}.get(way, "ABD")
    if way == "warm-up" and space != "shuffle-widths":
        raise UsageError(f"Warm-up needs widths, which the space {space} has not; expected --space shuffle-widths.")
    if wrong := set(causes) & set(unmeasured):
        rest = "".join(letter for letter in CAUSES if letter not in unmeasured)
        raise UsageError(f"Cause {min(wrong)} is measured with uniform or fair paths; expected --causes {rest}, or less, with --way {way}.")
    if table is not None and space != "macro":
        raise UsageError(f"A table is the truth of the space macro only, got --space {space}. Leave --table out to train the networks.")
    if wrong := set(causes) - set(CAUSES):
        raise UsageError(f"Unknown cause {min(wrong)!r}; expected some of the letters {CAUSES}.")
    if table is not None and data == "digits":
        say("note: the table holds accuracies on CIFAR-10; a supernet of the digits can hardly know them")


def _tabulated_truth(known: Table, source: str, networks: int, seed: int) -> Truth:
    population = draw_feasible(known.space, Budget(), networks, np.random.default_rng([seed, 9]))
    return Truth(population, known.columns["test"][known.rows(population)], source)


def _trained_truth(run: RunFolder, supernet: ChainSupernet, images: ImageData, networks: int, trainings: int, settings: Any) -> Truth:
    """Every network trained on its own, once for each seed; each training is a trial of a study."""
    runs, networks = [], min(networks, _distinct(supernet.space, networks))
    for number in range(trainings):
        seed = settings["seed"] + number
        fitness = TrainedFitness(supernet, images, **{**settings, "seed": seed})
        with bar(f"training {number + 1} of {trainings}") as update:

            def show(done: int, best: float, update: Any = update) -> None:
                update(done / networks, best_so_far(best))

            found = search(
                supernet.space,
                fitness,
                RandomExplorer(supernet.space, Budget(), seed=settings["seed"]),  # draws the same networks for every training
                evaluations=networks,
                study=open_study(run / "study.log", f"alone-{number}"),
                batch=1,
                on_progress=show,
            ).history
        runs.append(found.scores)
    source = f"trained on their own for {settings['epochs']} epochs, {trainings} times"
    return Truth(found.population, np.array(runs).T, source)


def _movements(
    supernet: ChainSupernet,
    way: Callable[[ChainSupernet], Way],
    images: ImageData,
    counts: dict[str, int],
    training: dict[str, Any],
    alone: dict[str, Any],
) -> dict[str, Callable[[], float]]:
    """How to time each movement; a cause is about the training of a supernet."""
    some = supernet.space.sample(2, np.random.default_rng(0))
    networks, trainings, supernets = (counts[name] for name in ("networks", "trainings", "supernets"))
    count = min(networks, _distinct(supernet.space, networks))

    def one() -> float:
        return training_seconds(supernet, way(supernet), images.train, **training)

    return {
        "trainings": lambda: trainings and trainings * count * alone_seconds(supernet, some, images, **alone),
        **{f"supernet {number}": one for number in range(supernets)},
        "score networks": lambda: supernets * scoring_seconds(supernet, images, c.CALIBRATION_IMAGES, training["device"])(count, count),
        "causes": lambda: counts["causes"] * one(),
    }


def _distinct(space: SearchSpace, enough: int) -> int:
    """How many different networks a space has; counted only where it may be fewer than asked for."""
    return len(space.enumerate()) if space.count() <= SMALL_SPACE else enough


def _train(path: Path, supernet: ChainSupernet, way: Way, images: ImageData, **settings: Any) -> None:
    train_into(path, path.stem.replace("-", " "), supernet, way, images.train, identity={"supernet": path.stem}, **settings)


def _train_for_cause(
    run: RunFolder,
    images: ImageData,
    training: dict[str, Any],
    name: str,
    supernet: ChainSupernet,
    way: Way,
    *,
    scale: float = 1.0,
) -> None:
    _train(run / f"cause-{name}.pt", supernet, way, images, **{**training, "epochs": max(round(scale * training["epochs"]), 1)})


def _causes(run: RunFolder, letters: str, bench: c.Bench, alone: dict[str, Any]) -> list[Cause]:
    """The causes that were asked for; each is kept when it is measured.

    Args:
        alone: settings of training on its own in the supernet's configuration: on its images and, where the truth was trained on
            them as well, for its epochs.
    """
    some = np.arange(min(FINE_TUNED, len(bench.truth.population)))
    measures = c.by_letter(bench, np.arange(COMPARED_ALONE), lambda: _alone(run, bench, alone), some)
    found = []
    for letter in sorted(set(letters)):
        for i, measure in enumerate(measures[letter]):
            say(f"measuring cause {letter}")
            found.append(Cause(**_kept(run / f"cause-{letter}{i}.json", partial(lambda measure: vars(measure()), measure))))
    return found


def _alone(run: RunFolder, bench: c.Bench, settings: dict[str, Any]) -> np.ndarray:
    """Accuracies of the first networks of the truth when each is trained on its own; kept one by one."""
    path = run / "cause-alone.json"
    found: list[float] = read_json(path) if path.exists() else []
    fitness = TrainedFitness(bench.trained, bench.images, **settings)
    with bar("train alone") as update:
        for i in range(len(found), COMPARED_ALONE):
            found.append(float(fitness(bench.truth.population[[i]])[0]))
            write_json(path, found)
            update((i + 1) / COMPARED_ALONE)
    return np.array(found)


def _scores(supernet: ChainSupernet, truth: Truth, images: ImageData, device: torch.device) -> dict[str, list[float]]:
    fitness = InheritedFitness(supernet, images.search, images.train.head(c.CALIBRATION_IMAGES), device=device)
    with bar("score networks") as update:
        accuracy, likelihood = fitness.both(truth.population)
        update(1.0)
    return {"accuracy": accuracy.tolist(), "likelihood": likelihood.tolist()}


def _naswot(supernet: ChainSupernet, truth: Truth, images: torch.Tensor, seed: int) -> list[float]:
    scores = []
    with bar("naswot") as update:
        for i, row in enumerate(truth.population):
            network = supernet.subnet(row, fresh_seed=seed).to(images.device)
            scores.append(naswot(network, images))
            update((i + 1) / len(truth.population))
    return scores


def _kept(path: Path, measure: Callable[[], Any]) -> Any:
    """What `measure` gives, from the file where an earlier process wrote it."""
    if not path.exists():
        write_json(path, measure())
    return read_json(path)
