"""FLASH: twenty-five networks trained, then everything from formulas: the network of most accuracy for its cost.

Li, Mandal, Ogras and Marculescu, 2021, arXiv 2108.00568. A few random networks of the skip space are trained on their own and fit
the accuracy model over NN-Degree; networks measured on this host fit the latency model; a two-level search finds the best network under
the bounds in a fraction of a second; it is trained, measured, tested once, and delivered.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import kendalltau
from sklearn.pipeline import make_pipeline

from evonas import Budget, RandomExplorer, SearchResult, open_study, parse_bounds, profile, search
from evonas.files import read_json, write_json
from evonas.space import Architecture, Population
from evonas.study import repair_journal
from evonas.units import format_quantity
from predictors import DegreeAccuracy, flash_search, measures, nn_degree, read_hardware, runtime
from predictors.devices import MeasuredDevice, read_device, write_device
from predictors.flash import ACCURACY, PredictedAccuracy, accuracy_per_cost, require_accuracy_bound
from predictors.hardware import HardwareCost, fit_hardware
from predictors.two_level import Optimum
from recipes import options as o
from recipes.delivery import bounds_of, deliver, named_costs, versions
from recipes.flash_report import write_flash_report
from recipes.progress import bar, say, show_profile
from recipes.run_folder import RunFolder
from supernet import StandAlone, TrainedFitness, accuracy, load, pick_device, skip_cells, train
from supernet.data import ImageData
from supernet.spaces.skip import SkipFamily

BASELINE = 20_000
SMALL_IMAGES = 24

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


def flash(
    data: o.Data = "digits",
    budget: FlashBounds = [],  # noqa: B006 (the command line's default; never changed)
    out: o.Out = "runs/flash",
    seed: o.Seed = 0,
    connection: Connection = "concatenation",
    layout: SkipLayout = None,
    image_size: o.ImageSize = None,
    samples: Samples = 25,
    sample_epochs: SampleEpochs = 10,
    measured: Measured = 40,
    hardware: Hardware = None,
    retrain_epochs: RetrainEpochs = 40,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRate = 0.1,
    fresh: o.Fresh = False,
    device: o.Device = "auto",
) -> None:
    """Train 25 networks, fit accuracy and cost as formulas, and search 1e7 to 1e11 networks in a fraction of a second.

    For DenseNet- and ResNet-like networks of three cells: depth, width and skip connections are free. The winner has the most
    accuracy for its latency (and energy and area) among those that keep the budget; it is trained on its own and delivered.

    Example: evonas flash --data digits --budget accuracy=60%.. --budget latency=50% --out runs/flash
    """
    arguments = {name: value for name, value in locals().items() if name not in ("out", "fresh", "device")}
    where = pick_device(device)
    images = load(data, image_size=image_size)
    settings: dict[str, Any] = {
        "connection": connection,
        "layout": layout or ("small" if min(images.image_shape[1:]) <= SMALL_IMAGES else "paper"),
    }
    family = skip_cells(images.image_shape, len(images.classes), **settings)
    _require_form(family, budget, hardware)
    training: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "weight_decay": 5e-4, "seed": seed}

    with RunFolder(out, arguments, fresh=fresh) as run:
        run.begin()
        if note := repair_journal(run / "study.log"):
            say(note)
        costs, held_out = _hardware(run, family, hardware, measured, seed)
        trained = _samples(run, family, images, costs, samples, epochs=sample_epochs, device=where, **training)
        model, agreement = _accuracy_model(family, trained)
        known = {**costs, ACCURACY: PredictedAccuracy(model)}
        limits = Budget(known, parse_bounds(budget, family.space, known))
        divided_by = [name for name in ("latency", "energy", "area") if name in known]
        show_profile(profile(family.space, limits))
        say(f"accuracy model: Kendall tau {agreement:.2f} with the {samples} networks it was fitted to; {limits}")

        winner = _winner(run, family, limits, divided_by)
        architecture = family.space.from_names(winner["architecture"])
        network = family.network(architecture, seed=seed)
        with bar("train winner") as update:
            train(
                network,
                StandAlone(),
                images.train,
                epochs=retrain_epochs,
                checkpoint=run / "retrain.pt",
                identity={"architecture": list(architecture)},
                on_progress=lambda share, loss: update(share, f"loss {loss:.3f}"),
                device=where,
                **training,
            )
        scores = {"predicted": winner["predicted"], "search": accuracy(network, images.search, where)}
        scores["test"] = accuracy(network, images.test, where)
        milliseconds = _milliseconds(family, architecture) if "latency" in known and hardware is None else None
        difference = deliver(network, images, winner["architecture"], settings, run.path, family="skip")
        result = {
            **winner,
            "budget": [str(bound) for bound in limits.bounds],
            "bounds": bounds_of(limits),
            "accuracy": scores,
            "latency": {"device": "this host, ONNX Runtime, one thread", "measured_ms": milliseconds, "model": held_out},
            "accuracy_model_tau": agreement,
            "onnx_difference": difference,
            "seed": seed,
            "versions": versions(),
        }
        write_json(run / "result.json", result)
        write_flash_report(run.path, family, model, trained)
        say(f"delivered to {out}: {_in_one_line(result, limits)}")


def _require_form(family: SkipFamily, budget: list[str], hardware: str | None) -> None:
    """Refuse what can be refused before anything is trained or measured."""
    known: dict[str, Any] = {**_counted(family), **({} if hardware is None else read_hardware(hardware, family.totals))}
    known |= {name: _Unknown(unit) for name, unit in (("latency", "ms"), (ACCURACY, "")) if name not in known}
    require_accuracy_bound(Budget(known, parse_bounds(budget, family.space, known)))


def _counted(family: SkipFamily) -> dict[str, Any]:
    return {name: HardwareCost("", {name: 1.0}, family.totals) for name in ("macs", "params")}


def _hardware(
    run: RunFolder, family: SkipFamily, file: str | None, networks: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """MACs, parameters, and latency, energy and area as far as they are known; and how well the latency model foretells."""
    costs = _counted(family)
    given = {} if file is None else read_hardware(file, family.totals)
    if "latency" in given:
        return {**costs, **given}, None
    device = _measured(run / "latency.csv", family, networks, seed)
    costs["latency"], held_out = fit_hardware(family.totals, device.population, device.milliseconds)
    entry = {"unit": "ms", **costs["latency"].coefficients}
    write_json(run / "hardware.json", {"device": "this host, ONNX Runtime, one thread", "latency": entry})
    say(f"latency model: {held_out}")
    return {**costs, **given}, asdict(held_out)


def _measured(path: Path, family: SkipFamily, networks: int, seed: int) -> MeasuredDevice:
    """Random networks measured on this host; every measurement is kept as it is made."""
    population = np.unique(family.space.sample(2 * networks, np.random.default_rng([seed, 6])), axis=0)
    population = np.random.default_rng([seed, 7]).permutation(population)[:networks]
    values = read_device(path, family.space).milliseconds.tolist() if path.exists() else []
    with bar("measure latency") as update:
        for i in range(len(values), len(population)):
            values.append(_milliseconds(family, tuple(population[i].tolist())))
            write_device(path, family.space, MeasuredDevice(path.stem, population[: i + 1], np.array(values)))
            update((i + 1) / len(population), f"{values[-1]:.3g} ms")
    return MeasuredDevice(path.stem, population, np.array(values))


def _milliseconds(family: SkipFamily, architecture: Architecture) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return runtime.measure(family.network(architecture), family.image_shape, Path(folder))


def _samples(run: RunFolder, family: SkipFamily, images: ImageData, costs: dict[str, Any], samples: int, **training: Any) -> SearchResult:
    """Random networks trained on their own, as the trials of a study."""
    fitness = TrainedFitness(lambda row: family.network(row, seed=training["seed"]), images, **training)
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
            on_progress=lambda done, best: update(done / samples, f"best {100 * best:.1f} %"),
        )


def _accuracy_model(family: SkipFamily, trained: SearchResult) -> tuple[Any, float]:
    """The fitted model, and its Kendall tau with what it was fitted to."""
    history = trained.history
    population, scores = history.population[history.scored], history.scores[history.scored]

    def degree(rows: Population) -> Any:
        return nn_degree(*family.cells(rows), family.connection)

    model = make_pipeline(measures(degree), DegreeAccuracy()).fit(population, scores)
    return model, float(kendalltau(model.predict(population), scores).statistic)


def _winner(run: RunFolder, family: SkipFamily, limits: Budget, divided_by: Sequence[str]) -> dict[str, Any]:
    """The optimum and, beside it, the best of 20,000 random networks; into `winner.json`."""
    path = run / "winner.json"
    if not path.exists():
        start = time.perf_counter()
        optimum: Optimum = flash_search(family.space, limits, divided_by)
        seconds = time.perf_counter() - start
        random = family.space.sample(BASELINE, np.random.default_rng(0))
        random = random[limits.feasible(random)]
        best = float(accuracy_per_cost(divided_by)(limits.values(random)).min()) if len(random) else None
        values = {name: float(value[0]) for name, value in limits.values(np.array([optimum.architecture])).items()}
        content = {
            "architecture": family.space.to_names(optimum.architecture),
            "predicted": values.pop(ACCURACY),
            "costs": named_costs(values, limits),
            "search": {"objective": optimum.value, "calls": optimum.calls, "seconds": seconds, "divided_by": divided_by},
            "baseline": {"explorer": "random", "evaluations": BASELINE, "objective": best},
        }
        write_json(path, content)
    winner: dict[str, Any] = read_json(path)
    baseline = winner["baseline"]["objective"]
    found = winner["search"]
    say(
        f"search: {found['calls']:,} calls in {found['seconds']:.2f} s, objective {found['objective']:.3f}; "
        f"best of {BASELINE:,} random networks {'none feasible' if baseline is None else f'{baseline:.3f}'} (lower is better)"
    )
    return winner


def _in_one_line(result: dict[str, Any], limits: Budget) -> str:
    scores, latency = result["accuracy"], result["costs"].get("latency_ms")
    text = f"test accuracy {100 * scores['test']:.2f} % (predicted after the epochs of a sample: {100 * scores['predicted']:.1f} %)"
    if result["latency"]["measured_ms"] is not None:
        text += f", {format_quantity(result['latency']['measured_ms'], 'ms')} measured, {format_quantity(latency, 'ms')} predicted"
    return f"{text} (budget: {limits})"


class _Unknown:
    """Stands for a cost that nothing is known of yet, while only the form of its bounds is checked."""

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def __call__(self, population: Population) -> Any:
        return np.linspace(0.5, 1.0, len(population))
