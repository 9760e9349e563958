"""FLASH: twenty-five networks trained, then everything from formulas: the network of most accuracy for its cost.

Li, Mandal, Ogras and Marculescu, 2021, arXiv 2108.00568. A few random networks of the skip space are trained on their own and fit
the accuracy model over NN-Degree; networks measured on this host fit the latency model; a two-level search finds the best network under
the bounds in a fraction of a second; it is trained, measured, tested once, and delivered.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from evonas import (
    Budget,
    RandomExplorer,
    RequestedBound,
    SearchResult,
    SearchSpace,
    UsageError,
    check_reachable,
    open_study,
    parse_bounds,
    profile,
    search,
)
from evonas.budget import Bound
from evonas.errors import unknown
from evonas.explorers.pareto_bayesian import undominated
from evonas.files import read_json, write_json, written_whole
from evonas.storage import repair_journal
from evonas.units import format_quantity
from predictors import flash_search, read_hardware
from predictors.devices import runtime
from predictors.devices.known import MeasuredDevice, read_device, write_device
from predictors.flash.hardware import HardwareCost, fit_hardware
from predictors.flash.objective import ACCURACY, PredictedAccuracy, accuracy_per_cost, require_accuracy_bound
from predictors.flash.two_level import Optimum, two_level_search
from recipes.runner import options as o
from recipes.runner.asked import AskedUnderBudget
from recipes.runner.delivery import about, deliver, versions
from recipes.runner.forecast import alone_seconds, foretell, start
from recipes.runner.front import AskedPoints, deliver_points, spread
from recipes.runner.pages.flash import accuracy_model, write_flash_report
from recipes.runner.pages.front import FRONT
from recipes.runner.progress import bar, best_so_far, say, show_images, show_profile
from recipes.runner.registry import recipe
from recipes.runner.run_folder import RunFolder, read_result
from recipes.runner.training import train_into
from supernet import StandAlone, TrainedFitness, accuracy, load, pick_device, skip_cells
from supernet.data import ImageData
from supernet.spaces.skip import SkipFamily

BASELINE = 20_000
MOST_TRIED = 5
THIS_HOST = "this host, ONNX Runtime, one thread"
SMALL_IMAGES = 24
SEARCHED = 30  # bounds of a front
WITHIN_A_RUN = ("budget", "front", "at", "deliver")  # what may differ where a run goes on

Samples = Annotated[int, typer.Option(help="Networks trained for the accuracy model.", min=5)]
SampleEpochs = Annotated[int, typer.Option(help="Epochs of each of them.", min=1)]
RetrainEpochs = Annotated[int, typer.Option(help="Epochs of the winner's training.", min=1)]
Measured = Annotated[int, typer.Option(help="Networks measured for the latency model.", min=10)]
Connection = Annotated[str, typer.Option(help="How channels skip: concatenation (DenseNet) or addition (ResNet).")]
SkipLayout = Annotated[str | None, typer.Option(help="small or paper (6.8e10 networks). Chosen by the image size unless told otherwise.")]
Hardware = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        help="JSON file with coefficients of latency, energy or area of a device that you know. Latency is measured here otherwise.",
    ),
]
FlashBounds = Annotated[
    list[str],
    typer.Option(
        "--budget",
        help="A bound, NAME=UPPER or NAME=LOWER..UPPER or NAME=LOWER.., any number of times; accuracy needs a lower one. Names: accuracy "
        "(0 to 1, predicted), macs, params, latency, and energy or area where --hardware gives them. Shares of random networks: "
        "accuracy=80%.. or latency=30%.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class AskedFlash(AskedPoints, AskedUnderBudget):
    """With a budget that knows accuracy, or the front of accuracy and a cost."""

    budget: FlashBounds = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what does not belong together before anything else is done."""
        self.check_points()


@recipe(
    "flash",
    summary="25 networks trained, the rest from formulas",
    paper="Li et al. 2021, arXiv 2108.00568",
    page=write_flash_report,
    outputs=("front.json", "front.png", "latency.csv", "hardware.json", "fit.png", "latency.png"),
)
def flash(
    asked: AskedFlash,
    connection: Connection = "concatenation",
    layout: SkipLayout = None,
    samples: Samples = 25,
    sample_epochs: SampleEpochs = 10,
    measured: Measured = 40,
    hardware: Hardware = None,
    retrain_epochs: RetrainEpochs = 40,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRate = 0.1,
) -> None:
    """Train 25 networks, fit accuracy and cost as formulas, and search 1e7 to 1e11 networks in a fraction of a second.

    For DenseNet- and ResNet-like networks of three cells: depth, width and skip connections are free. The winner has the most
    accuracy for its latency (and energy and area) among those that keep the budget; it is measured, trained on its own and delivered.
    With another budget the same command searches again with the samples and measurements that the run folder holds. With --front it
    searches for the most accuracy under each of many bounds on a cost, and delivers a network at each of the points wanted.

    Example: evonas flash --data digits --budget accuracy=60%.. --budget latency=50% --out runs/flash
    """
    given = {} if hardware is None else read_json(Path(hardware))
    arguments = {name: value for name, value in asked.arguments.items() if name not in WITHIN_A_RUN}
    arguments["hardware"] = given or None
    where, seed = pick_device(asked.device), asked.seed
    images = load(asked.data, image_size=asked.image_size)
    show_images(images)
    small = min(images.image_shape[1:]) <= SMALL_IMAGES
    settings: dict[str, Any] = {"connection": connection, "layout": layout or ("small" if small else "paper")}
    family = skip_cells(images.image_shape, len(images.classes), **settings)
    counted = {**_counted(family), **({} if hardware is None else read_hardware(hardware, family.totals))}
    _require_form(family, asked.bounds, counted, asked)
    training: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "weight_decay": 5e-4, "seed": seed}

    settled = {"epochs": retrain_epochs, "device": where, **training}
    some = family.space.sample(3, np.random.default_rng(seed))

    def one_measured() -> float:
        begin = time.perf_counter()
        runtime.measure(family.network(some[0]), family.image_shape)
        return 0.0 if "latency" in counted else measured * (time.perf_counter() - begin)

    movements: dict[str, Callable[[], float]] = {
        "measure latency": one_measured,
        "train samples": lambda: samples * alone_seconds(family, some, images, device=where, epochs=sample_epochs, **training),
        "train winner": lambda: alone_seconds(family, some, images, **settled),
    }
    with RunFolder(asked.out, arguments, fresh=asked.fresh) as run:
        foretold = foretell(run, movements, dry=asked.dry_run)
        if asked.dry_run:
            say("bounds on accuracy and latency are checked once the samples are trained and measured; the others can be met")
            return
        run.begin()
        start(run, foretold)
        if note := repair_journal(run / "study.log"):
            say(note)
        known, held_out = (counted, None) if "latency" in counted else _with_latency(run, family, counted, measured, seed)
        trained = _samples(run, family, images, known, samples, epochs=sample_epochs, device=where, **training)
        model, agreement = accuracy_model(family, trained.history)
        known[ACCURACY] = PredictedAccuracy(model)
        limits = Budget(known, parse_bounds(asked.bounds, family.space, known))
        show_profile(profile(family.space, limits), family.space.count())
        say(f"accuracy model: Kendall tau {agreement:.2f} with the {samples} networks it was fitted to; {limits}")
        device_of_latency = THIS_HOST if held_out else str(given.get("device", hardware))
        fitted = _Fitted(family, images, settings, settled, seed, device_of_latency, held_out, agreement)
        if asked.front is not None:
            _front(run, fitted, limits, asked)
            return
        (run / FRONT).unlink(missing_ok=True)  # of an earlier command in this folder
        divided_by = [name for name in ("latency", "energy", "area") if name in limits.costs]
        _delivered(run, fitted, limits, divided_by)


@dataclass(frozen=True)
class _Fitted:
    """What all networks of a run share: the family, the images, and what the models were fitted to."""

    family: SkipFamily
    images: ImageData
    settings: Mapping[str, Any]
    settled: Mapping[str, Any]
    seed: int
    device: str
    held_out: dict[str, Any] | None
    agreement: float


def _delivered(run: RunFolder, fitted: _Fitted, limits: Budget, divided_by: Sequence[str]) -> None:
    """The winner under the limits, trained, tested and delivered into a run folder."""
    family, images, where = fitted.family, fitted.images, fitted.settled["device"]
    winner = _winner(run, family, limits, divided_by, measured=fitted.held_out is not None, seed=fitted.seed)
    architecture = family.space.from_names(winner["architecture"])
    network = family.network(architecture, seed=fitted.seed)
    identity = {"architecture": list(architecture)}
    train_into(run / "retrain.pt", "train winner", network, StandAlone(), images.train, identity=identity, **fitted.settled)
    scores = {"predicted": winner["predicted"], "search": accuracy(network, images.search, where)}
    scores["test"] = accuracy(network, images.test, where)
    settings = dict(fitted.settings)
    difference = deliver(network, images, winner["architecture"], settings, run.path, family="skip", tested=scores["test"])
    result = {
        "recipe": "flash",
        "family": {**settings, "image_shape": list(images.image_shape), "classes": len(images.classes)},
        **winner,
        "accuracy": scores,
        "latency": {"device": fitted.device, "model": fitted.held_out},
        "accuracy_model_tau": fitted.agreement,
        "onnx_difference": difference,
        **about(network, images, winner["architecture"], timed=False),
        "seed": fitted.seed,
        "versions": versions(),
    }
    write_json(run / "result.json", result)
    write_flash_report(run.path)
    say(f"delivered to {run.path}: {_in_one_line(result, limits)}; all about it: {run / 'report.html'}")


def _front(run: RunFolder, fitted: _Fitted, limits: Budget, asked: AskedFlash) -> None:
    """The most accuracy under each of many bounds on a cost, by the models; and a run of its own for every point that is wanted."""
    cost, space = str(asked.front), fitted.family.space
    kept = [bound for bound in limits.bounds if bound.cost != cost]
    sampled = space.sample(BASELINE, np.random.default_rng([asked.seed, 9]))
    sampled = sampled[Budget(limits.costs, kept).feasible(sampled)]
    if not len(sampled):
        raise UsageError(f"None of {BASELINE:,} random networks keeps {Budget(limits.costs, kept)}; expected some. Loosen a bound.")
    unit, costs = limits.costs[cost].unit, limits.costs[cost](sampled)

    def best(upper: float) -> tuple[dict[str, str], float, float]:
        row = np.array([_searched(space, Budget(limits.costs, [*kept, Bound(cost, upper=upper, unit=unit)]), []).architecture])
        return space.to_names(row[0]), float(limits.costs[ACCURACY](row)[0]), float(limits.costs[cost](row)[0])

    found = [best(float(upper)) for upper in np.geomspace(costs.min(), costs.max(), SEARCHED)]
    order = undominated(np.array([[spent] for _, _, spent in found]), np.array([accuracy for _, accuracy, _ in found]))
    networks = [dict(zip(("architecture", "score", "cost"), found[i], strict=True)) for i in order]
    bounds = [f"{cost}={point}" for point in asked.points or spread(np.array([network["cost"] for network in networks]), unit)]

    def make(bound: str, folder: Path) -> None:
        point = parse_bounds([RequestedBound.parse(bound)], space, {cost: limits.costs[cost]})
        with RunFolder(folder, run.config, fresh=asked.fresh) as own:
            own.begin()
            for name in ("study.log", "latency.csv", "hardware.json"):  # what was trained and measured serves all points
                if (run / name).exists() and not (own / name).exists():
                    with written_whole(own / name) as temporary:
                        shutil.copy(run / name, temporary)
            _delivered(own, fitted, Budget(limits.costs, [*kept, *point]), [])

    say(f"the front: {deliver_points(run, asked, unit, networks, bounds, make)}")


def _searched(space: SearchSpace, limits: Budget, divided_by: Sequence[str]) -> Optimum:
    """The optimum of accuracy for costs, or, divided by none, the most accuracy within the limits."""
    return flash_search(space, limits, divided_by) if divided_by else two_level_search(space, limits, accuracy_per_cost([]))


def _require_form(family: SkipFamily, bounds: list[RequestedBound], counted: dict[str, Any], asked: AskedFlash) -> None:
    """Refuse what can be refused before anything is trained or measured: a malformed bound, one that nothing meets, none on accuracy."""
    front = asked.front
    units = {"latency": "ms", ACCURACY: "", **{name: cost.unit for name, cost in counted.items()}}
    checked = [bound.check(units) for bound in bounds]
    if front is None:
        require_accuracy_bound([bound.cost for bound in checked if not bound.lower <= 0])  # a share is not a number yet
    elif front not in units or front == ACCURACY:
        raise unknown("cost for --front", front, sorted(set(units) - {ACCURACY}))
    for point in asked.points:
        wanted = RequestedBound.parse(f"{front}={point}")
        wanted.check(units)
        if front in counted:
            narrow = Budget(counted, parse_bounds([wanted], family.space, counted))
            check_reachable(family.space, narrow, profile(family.space, narrow))
    if any(bound.cost == ACCURACY and bound.lower > 1 for bound in checked):
        wrong = next(bound.text for bound in bounds if bound.cost == ACCURACY)
        raise UsageError(f"The bound {wrong} cannot be met: accuracy lies between 0 and 1. Write 0.7.. for 70 %.")
    limits = Budget(counted, parse_bounds([bound for bound in bounds if bound.cost in counted], family.space, counted))
    check_reachable(family.space, limits, profile(family.space, limits))


def _counted(family: SkipFamily) -> dict[str, Any]:
    return {name: HardwareCost("", {name: 1.0}, family.totals) for name in ("macs", "params")}


def _with_latency(
    run: RunFolder, family: SkipFamily, counted: dict[str, Any], networks: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The costs with latency on this host, and how well its model foretells."""
    device = _measured(run / "latency.csv", family, networks, seed)
    latency, held_out = fit_hardware(family.totals, device.population, device.milliseconds)
    write_json(run / "hardware.json", {"device": THIS_HOST, "latency": {"unit": "ms", **latency.coefficients}})
    say(f"latency model: {held_out}")
    return {**counted, "latency": latency}, asdict(held_out)


def _measured(path: Path, family: SkipFamily, networks: int, seed: int) -> MeasuredDevice:
    """Random networks measured on this host; every measurement is kept as it is made."""
    population = np.unique(family.space.sample(2 * networks, np.random.default_rng([seed, 6])), axis=0)
    population = np.random.default_rng([seed, 7]).permutation(population)[:networks]
    values = read_device(path, family.space).milliseconds.tolist() if path.exists() else []
    with bar("measure latency") as update:
        for i in range(len(values), len(population)):
            values.append(runtime.measure(family.network(population[i]), family.image_shape))
            write_device(path, family.space, MeasuredDevice(path.stem, population[: i + 1], np.array(values)))
            update((i + 1) / len(population), f"{values[-1]:.3g} ms")
    return read_device(path, family.space)


def _samples(run: RunFolder, family: SkipFamily, images: ImageData, costs: dict[str, Any], samples: int, **training: Any) -> SearchResult:
    """Random networks trained on their own, as the trials of a study."""
    fitness = TrainedFitness(family, images, **training)
    budget = Budget(costs)
    with bar("train samples") as update:
        return search(
            family.space,
            fitness,
            RandomExplorer(family.space, budget, seed=training["seed"]),
            evaluations=samples,
            study=open_study(run / "study.log", "samples"),
            budget=budget,
            batch=1,
            on_progress=lambda done, best: update(done / samples, best_so_far(best)),
        )


def _winner(run: RunFolder, family: SkipFamily, limits: Budget, divided_by: Sequence[str], *, measured: bool, seed: int) -> dict[str, Any]:
    """The optimum that keeps the latency bound when it is measured and, beside it, the best of 20,000 random networks; into `winner.json`.

    Where a measured network breaks the bound, the model's bound is tightened by as much, and the search made again.

    Raises:
        UsageError: nothing keeps the bounds, by the models or when measured.
    """
    path, bounds = run / "winner.json", [str(bound) for bound in limits.bounds]
    if path.exists() and (read_json(path)["budget"], read_json(path)["search"]["divided_by"]) == (bounds, list(divided_by)):
        winner = read_result(path)
    else:
        (run / "retrain.pt").unlink(missing_ok=True)
        start = time.perf_counter()
        optimum = _searched(family.space, limits, divided_by)
        seconds = time.perf_counter() - start
        random = family.space.sample(BASELINE, np.random.default_rng([seed, 8]))
        random = random[limits.feasible(random)]
        best = float(accuracy_per_cost(divided_by)(limits.values(random)).min()) if len(random) else None
        winner = {
            "budget": bounds,
            "bounds": limits.plain_bounds(),
            **_kept(family, limits, optimum, divided_by, measured),
            "search": {"objective": optimum.value, "calls": optimum.calls, "seconds": seconds, "divided_by": list(divided_by)},
            "baseline": {"explorer": "random", "evaluations": BASELINE, "objective": best},
        }
        write_json(path, winner)
    found, baseline = winner["search"], winner["baseline"]["objective"]
    say(
        f"search: {found['calls']:,} calls in {found['seconds']:.2f} s, objective {found['objective']:.3f}; "
        f"best of {BASELINE:,} random networks {'none feasible' if baseline is None else f'{baseline:.3f}'} (lower is better)"
    )
    return winner


def _kept(family: SkipFamily, limits: Budget, optimum: Optimum, divided_by: Sequence[str], measured: bool) -> dict[str, Any]:
    """The first of the optima under ever tighter bounds that keeps the latency bound when measured; with all that were tried."""
    upper = next((bound.upper for bound in limits.bounds if bound.cost == "latency"), math.inf)
    tried: list[dict[str, Any]] = []
    for _ in range(MOST_TRIED):
        values = {name: float(value[0]) for name, value in limits.values(np.array([optimum.architecture])).items()}
        milliseconds = runtime.measure(family.network(optimum.architecture), family.image_shape) if measured else None
        entry = {"architecture": family.space.to_names(optimum.architecture), "predicted": values.pop(ACCURACY)}
        tried.append({**entry, "costs": values, "units": limits.units, "measured_ms": milliseconds})
        if milliseconds is None or milliseconds <= upper:
            return {**tried[-1], "tried": tried}
        say(f"{milliseconds:.3g} ms measured where {values['latency']:.3g} ms were predicted, above {upper:.3g} ms: searching again")
        tighter = values["latency"] * upper / milliseconds
        bounds = [replace(bound, upper=tighter) if bound.cost == "latency" else bound for bound in limits.bounds]
        optimum = _searched(family.space, Budget(limits.costs, bounds), divided_by)
    raise UsageError(f"None of {MOST_TRIED} networks keeps latency <= {upper:.3g} ms when measured. Loosen it, or measure more networks.")


def _in_one_line(result: dict[str, Any], limits: Budget) -> str:
    scores = result["accuracy"]
    text = f"test accuracy {100 * scores['test']:.2f} % (predicted after the epochs of a sample: {100 * scores['predicted']:.1f} %)"
    if result["measured_ms"] is not None:
        text += f", {format_quantity(result['measured_ms'], 'ms')} measured, {format_quantity(result['costs']['latency'], 'ms')} predicted"
    return f"{text} (budget: {limits})"
