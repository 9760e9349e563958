"""Delivery: the winner chosen by what it really costs, written as weights and as an ONNX file, and read back."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evonas.app import APP, AS_THEY_ARE, CUT, HIGHEST, LAYOUT, PREPARED, for_app
from evonas.budget import Budget
from evonas.errors import UsageError, first_line
from evonas.explorers import Explorer
from evonas.files import write_json
from evonas.search import SearchResult
from evonas.space import Architecture, Population
from evonas.study import History
from evonas.units import format_quantity
from predictors.breakdown import pieces, times
from predictors.devices import runtime
from predictors.devices.table import LatencyTable
from recipes.runner.program import program_of, read_program
from supernet.archive import load_archive, save_archive
from supernet.data import ImageData, TensorPart
from supernet.family import Family
from supernet.quantisation import QuantisedConv
from supernet.spaces import SPACES

MOST_TRIED = 50
LARGEST_DIFFERENCE = 1e-4
WHITE_FROM = 1000  # training images whose brightest pixel is white, where images are no bytes (the digits of scikit-learn: 16)
MEAN_ROUNDING = 0.05  # of quantised networks: where a sum lies between two levels, another order of summation takes the other one


def first_within(
    explorer: Explorer,
    found: SearchResult,
    measure: Callable[[Architecture], dict[str, float]],
    *,
    wanted: int = 1,
    apart: int = 0,
    accuracy: Callable[[int], float | None] = lambda trial: None,
    by_hand: Population | None = None,
) -> dict[str, Any]:
    """The best architectures that keep every bound when measured whole; in turn with those made by hand, where there are any.

    Args:
        explorer: says in which order the architectures are tried (`Explorer.recommend`), and has the bounds.
        found: the search.
        measure: costs of the finished network that replace the tables' (an empty dict where nothing can be measured).
        wanted: how many are enough.
        apart: choices in which each differs from those before it, at least: the best of a search are often variants of one network, among
            which there is little to choose. Where too few are so far apart, the best of the others are taken as well.
        accuracy: with inherited weights, by the number of the trial; the score of the search where None.
        by_hand: architectures of the search that are tried as well, those to prefer first; at most half of those wanted.

    Returns:
        {"finalists", "tried"}, each a list of {"architecture", "trial", "score", "inherited", "costs", "fits", "by_hand"}; the first are
        those of the second that fit.

    Raises:
        UsageError: none of the 50 best fits.
    """
    history, budget = found.history, explorer.budget

    def fitting(positions: Sequence[int], count: int, made: bool) -> list[dict[str, Any]]:
        """Tries until so many fit."""
        tried: list[dict[str, Any]] = []
        for position in positions[:MOST_TRIED] if count else ():
            row, number, score = history.population[position], int(history.numbers[position]), float(history.scores[position])
            costs = {name: float(value[0]) for name, value in budget.values(row[None]).items()}
            costs |= measure(tuple(row.tolist()))
            fits = bool((budget.violations_of(costs) <= 0).all())
            inherited = accuracy(number)
            entry = {"architecture": history.space.to_names(row), "trial": number, "score": score, "by_hand": made}
            tried.append({**entry, "inherited": score if inherited is None else inherited, "costs": costs, "fits": fits})
            if sum(entry["fits"] for entry in tried) == count:
                break
        return tried

    hand = fitting(_positions(history, by_hand), wanted // 2, True)
    taken = [entry["trial"] for entry in hand]
    known = [position for position, number in enumerate(history.numbers.tolist()) if number in taken]
    searched = fitting(
        _far_first(history.population, explorer.recommend(history), known, wanted, apart), wanted - sum(e["fits"] for e in hand), False
    )
    tried = _in_turn(searched, hand)
    if finalists := _in_turn(*([entry for entry in entries if entry["fits"]] for entries in (searched, hand))):
        return {"finalists": finalists, "tried": tried}
    raise UsageError(
        f"None of the {len(tried)} best networks keeps {budget} when measured whole; expected one. Loosen the bounds a little."
    )


def _positions(history: History, population: Population | None) -> list[int]:
    """Where the scored ones of some architectures are."""
    at = {tuple(history.population[position].tolist()): int(position) for position in history.scored}
    return [at[row] for row in map(tuple, () if population is None else population.tolist()) if row in at]


def _in_turn(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of one, the first of the other, and so on, so that the first few are of both."""
    pairs = itertools.zip_longest(one, other)
    return [entry for pair in pairs for entry in pair if entry is not None]


def _far_first(population: Population, order: npt.NDArray[np.int64], known: Sequence[int], wanted: int, apart: int) -> list[int]:
    """Positions in an order without those that are known, but first those that are far from the known ones and from all before."""
    new = [int(position) for position in order if position not in known]
    if wanted == 1 or not apart:
        return new
    far: list[int] = []
    for position in new:
        if len(far) == max(MOST_TRIED, wanted):
            break
        others = [*known, *far]
        if not others or ((population[others] != population[position]).sum(axis=1) >= apart).all():
            far.append(position)
    first = set(far)
    return [*far, *(position for position in new if position not in first)]


def deliver(
    network: nn.Module,
    data: ImageData,
    architecture: dict[str, str],
    space: dict[str, Any],
    folder: Path,
    *,
    family: str | None,
    tested: float | None = None,
) -> float:
    """Write `model.pt`, `model.onnx` and `app.onnx`; returns the largest difference of the second to the first on 16 test images.

    Args:
        network: trained, on any device.
        data: gives image shape, classes and normalisation.
        architecture: of the network, by names.
        space: arguments that the space of the network was made with.
        folder: to write to.
        family: name of the space in `supernet.spaces.SPACES`; None writes the network's operations beside its weights, so that nothing has
            to make it again.
        tested: accuracy on the test images, for the metadata of `app.onnx`.

    Raises:
        UsageError: the space is not registered or, made again from its arguments, gives another network; or the ONNX file computes
            something else than PyTorch.
    """
    if family is not None:
        require_registered(family)
    network = network.to("cpu").to(memory_format=torch.contiguous_format).eval()
    first = data.train.head(1)
    content: dict[str, Any] = {
        "family": family,
        "architecture": architecture,
        "space": space,
        "image_shape": list(data.image_shape),
        "classes": list(data.classes),
        "mean": first.mean.tolist(),
        "scale": first.scale.tolist(),
        "weights": network.state_dict(),
    }
    if family is None:
        content["program"] = program_of(network, data.image_shape)
    save_archive(folder / "model.pt", content)
    _read_back(network, data, folder / "model.pt")
    runtime.export(network, data.image_shape, folder / "model.onnx", dynamic_batch=True)
    told = {name: content[name] for name in ("classes", "mean", "scale", "image_shape", "architecture")}
    runtime.describe(folder / "model.onnx", {name: json.dumps(value) for name, value in told.items()})
    images, _ = next(iter(data.test.batches(16, torch.device("cpu"))))
    found, logits = runtime.differences(network, folder / "model.onnx", images)
    difference, mean = float(np.abs(found).max()), float(np.abs(found).mean() / logits.std())
    if any(isinstance(layer, QuantisedConv) for layer in network.modules()):
        wrong = None if mean <= MEAN_ROUNDING else f"by {mean:.2g} of the logits' spread on average; expected at most {MEAN_ROUNDING}"
    else:
        wrong = None if difference <= LARGEST_DIFFERENCE else f"by {difference:.2g}; expected at most {LARGEST_DIFFERENCE}"
    if wrong is not None:
        (folder / "model.onnx").unlink()
        raise UsageError(f"The exported network differs from PyTorch's {wrong}.")
    app_file(folder / "model.onnx", folder / APP, data, tested)
    return difference


def about(network: nn.Module, data: ImageData, architecture: Mapping[str, str], *, timed: bool) -> dict[str, Any]:
    """What a report says of the network itself, as plain data.

    Args:
        network: that was delivered.
        data: that it was trained on.
        architecture: of it, by names.
        timed: whether this host's time is shared out among its pieces as well.

    Returns:
        {"input", "pieces"}: what it takes and how many images tested it, and what it is made of (`predictors.breakdown`).
    """
    network = network.to("cpu").to(memory_format=torch.contiguous_format).eval()
    first, ms = data.train.head(1), times(network, data.image_shape) if timed else {}
    found = [
        {**piece, "option": _option(piece["name"], architecture), **({"ms": ms[piece["name"]]} if piece["name"] in ms else {})}
        for piece in pieces(network, data.image_shape)
    ]
    takes = {"image_shape": list(data.image_shape), "classes": list(data.classes), "test_images": len(data.test)}
    return {"input": {**takes, "mean": first.mean.tolist(), "scale": first.scale.tolist()}, "pieces": found}


def _option(piece: str, architecture: Mapping[str, str]) -> str:
    """What the choices of a block took."""
    own, within = piece.replace(".", "_"), piece.replace(".", "_") + "_"
    names = {choice: choice.replace(".", "_") for choice in architecture}
    return " + ".join(architecture[choice] for choice, name in names.items() if name == own or name.startswith(within))


def app_file(source: Path, path: Path, data: ImageData, tested: float | None, **more: str) -> None:
    """Write the file for apps (`evonas.app`) of a network's ONNX file.

    Args:
        data: what the network was trained on.
        tested: accuracy on its test images.
        more: further metadata.
    """
    first = data.train.head(1)
    told = {"classes": list(data.classes), "image_shape": list(data.image_shape), "input": LAYOUT, "prepared": PREPARED}
    told["exact"] = AS_THEY_ARE if isinstance(data.test, TensorPart) else CUT
    told |= {} if tested is None else {"accuracy": f"{tested:.4f}"}
    told |= {"made by": f"evonas {_version('evonas')}", **more}
    white = HIGHEST if first.images.dtype == torch.uint8 else float(data.train.head(WHITE_FROM).images.max())
    for_app(source, path, first.mean.tolist(), first.scale.tolist(), white, told)


def require_registered(family: str) -> None:
    """Refuse a space that `load_model` could not make again.

    Raises:
        UsageError: nobody registered it.
    """
    if family not in SPACES:
        raise UsageError(
            f"The space {family!r} is not registered, so that nobody could read what is delivered; expected one of {', '.join(SPACES)}, or "
            f"your function that makes it with the decorator @supernet.space({family!r}, summary=...)."
        )


def _read_back(network: nn.Module, data: ImageData, path: Path) -> None:
    """Refuse a `model.pt` that does not give the network again."""
    images, _ = next(iter(data.test.batches(16, torch.device("cpu"))))
    try:
        with torch.no_grad():
            same = torch.allclose(load_model(path)(images), network(images), atol=1e-6)
        wrong = None if same else "it computes something else"
    except UsageError as error:
        wrong = str(error)
    if wrong is not None:
        path.unlink()
        raise UsageError(
            f"The network cannot be read back from model.pt: {wrong} Expected a space that its arguments, as plain data, make again."
        )


def write_result(
    folder: Path,
    recipe: str,
    winner: dict[str, Any],
    budget: Budget,
    table: LatencyTable | None,
    test_accuracy: float,
    control: Mapping[str, Any],
    onnx_difference: float,
    seed: int,
    more: Mapping[str, Any],
) -> str:
    """Write `result.json`; returns the result in one line. Costs are those of the finished network, named with their units.

    Args:
        control: what random search came to: `explorer`, `evaluations`, `score` and `inherited` of its best.
        more: what else the result holds, as plain data.
    """
    latency = None
    if table is not None:
        latency = {"device": table.device, "residual": None if table.residual is None else asdict(table.residual)}
    units = {name: budget.units.get(name, "ms") for name in winner["costs"]}  # a latency that nothing bounded was measured in the end
    result = {
        "recipe": recipe,
        "architecture": winner["architecture"],
        "budget": [str(bound) for bound in budget.bounds],
        "bounds": budget.plain_bounds(),
        "costs": winner["costs"],
        "units": units,
        "accuracy": {"inherited": winner["inherited"], "test": test_accuracy},
        "score": winner["score"],
        "baseline": dict(control),
        "tried": winner["tried"],
        "latency": latency,
        "onnx_difference": onnx_difference,
        "seed": seed,
        **more,
        "versions": versions(),
    }
    write_json(folder / "result.json", result)
    spent = ", ".join(f"{name} {format_quantity(value, units[name])}" for name, value in winner["costs"].items())
    return f"test accuracy {100 * test_accuracy:.2f} %, {spent} (budget: {budget})"


def load_model(path: str | Path) -> nn.Module:
    """The delivered network with its weights, ready to classify images normalised as `model.pt` says (`mean`, `scale`).

    Raises:
        UsageError: the file is missing or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"There is no file {path}; expected the model.pt of a finished run.")
    content = load_archive(path, "Expected the model.pt of a finished run.")
    if "program" in content:
        return read_program(path, content["program"])
    try:
        name = content.get("family", "mbconv")
        if name not in SPACES:
            raise UsageError(
                f"{path} holds a network of the space {name!r}, which is not registered here; expected the module that defines it to be "
                f"imported first (or named as an entry point, see evonas list)."
            )
        make = SPACES[name].make
        family: Family = make(tuple(content["image_shape"]), len(content["classes"]), **content["space"])
        network = family.network(family.space.from_names(content["architecture"]))
        network.load_state_dict(content["weights"])
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"Cannot read {path}: {first_line(error)}. Expected the model.pt of a finished run.") from None
    return network.eval()


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    packages = ("evonas", "torch", "torchvision", "optuna", "deap", "xgboost", "scikit-learn", "onnxruntime", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    """Some packages come under other names as well (xgboost-cpu, onnxruntime-gpu): what is imported says its version itself."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", "unknown"))
