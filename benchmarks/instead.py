"""Is what `evonas mobile` delivers better than what one would pick instead?

On one data set, for every budget and seed, all trained by the same loop with the same settings and tested once:

  ours       the whole run, and ten random peers of its budget trained exactly as the winner was (`--peers`)
  by hand    networks of our own space: the largest that fits, the deepest, and every operator everywhere (MobileNetV2 has mb6_k3)
  off the shelf  torchvision's MobileNetV2, MobileNetV3-small, ShuffleNetV2 and MnasNet, at the width that keeps both bounds when measured
  whole time the best of those, trained for as long as ours took from beginning to end, search included
  levers     ours with one part taken out, on the same supernet (only where asked for)

Latency bounds are resolved once, on this machine, and are the same for everybody. Rows are kept; run again to go on. Several processes may
share the work with `--only`; `--tables` prints what is known.

    OMP_NUM_THREADS=1 python benchmarks/instead.py --data cifar16.npz --out runs/instead
"""

from __future__ import annotations

import argparse
import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hand_made import HAND_MADE, adapted, begin_as_ours, costs_of, widest
from rows import Rows
from scipy.stats import t as student

from evonas import Budget, parse_bounds
from evonas.budget import Cost
from evonas.extremes import cheapest_and_dearest
from evonas.files import read_json
from evonas.hand_made import hand_made
from evonas.space import IDLE, SearchSpace
from predictors import costs, read_table
from predictors.devices.runtime import measure
from predictors.devices.table import corrected, measure_blocks, spread
from recipes.mobile import mobile
from supernet import ImageData, StandAlone, accuracy, load, mbconv, train

BUDGETS = {"A": ("macs=2.5M", "latency=25%"), "B": ("macs=4M", "latency=40%")}
PEERS, SEEDS = 10, (0, 1, 2)
FINAL: dict[str, Any] = {"batch_size": 64, "lr": 0.2, "weight_decay": 5e-4, "average": 0.99}
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="images, as evonas mobile takes them")
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS), choices=BUDGETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--epochs", type=int, default=20, help="of the supernet, and of every network that is trained on its own")
    parser.add_argument("--retrain-epochs", type=int, help="of the winner of ours and of its peers; as many unless told otherwise")
    parser.add_argument("--evaluations", type=int, default=250)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=("ours", "peers", "hand", "shelf", "whole", "levers"),
        default=["ours", "peers", "hand", "shelf", "whole"],
    )
    parser.add_argument("--tables", action="store_true", help="print what is known, and measure nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_instead"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images, rows = load(a.data), Rows(a.out / "bounds.jsonl")
    bounds = {name: rows.row(f"bounds {name}", partial(resolved, name, images, a.out), True)["bounds"] for name in a.budgets}
    if not a.tables:
        for part in a.only:
            kept = Rows(a.out / f"{part}-{'-'.join(a.budgets)}-{'-'.join(map(str, a.seeds))}.jsonl")
            for budget in a.budgets:
                for seed in a.seeds:
                    PARTS[part](a, kept, budget, bounds[budget], seed, images)
    tables(everything(a.out), a.budgets)


def resolved(name: str, images: ImageData, out: Path) -> dict[str, Any]:
    """The bounds of a budget in plain numbers, by a latency table of this machine that is measured once."""
    supernet = mbconv(images.image_shape, len(images.classes))
    space, parts, file = supernet.space, supernet.parts(), out / "latency.json"
    if not file.exists():
        table = measure_blocks(space, parts)
        networks = spread(space, table, 10, 0)
        corrected(table, networks, [measure(supernet.subnet(row), images.image_shape) for row in networks]).save(file, space)
    known: dict[str, Cost] = {**costs.counted(space, parts), "latency": read_table(file, space)}
    return {"bounds": {bound.cost: bound.upper for bound in parse_bounds(BUDGETS[name], space, known)}}


def request(a: argparse.Namespace, budget: str, bounds: dict[str, float], seed: int) -> dict[str, Any]:
    """What `evonas mobile` is asked for."""
    return {
        "data": a.data,
        "budget": [f"macs={bounds['macs']:.0f}", f"latency={bounds['latency']:.6f}ms"],
        "out": str(a.out / f"{budget}-{seed}"),
        "seed": seed,
        "epochs": a.epochs,
        "retrain_epochs": a.retrain_epochs or a.epochs,
        "evaluations": a.evaluations,
    }


def ours(a: argparse.Namespace, kept: Rows, budget: str, bounds: dict[str, float], seed: int, images: ImageData) -> None:
    """The whole run."""
    asked = request(a, budget, bounds, seed)
    out = Path(asked["out"])

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        mobile(**asked)
        seconds = time.perf_counter() - start
        result = read_json(out / "result.json")
        by_hand = [entry["by_hand"] for entry in result["finalists"] if entry["won"]]
        found = {"test": result["accuracy"]["test"], "seconds": seconds, "costs": result["costs"], "architecture": result["architecture"]}
        return found | {"winner by hand": by_hand[0] if by_hand else None}

    kept.row(f"{budget} {seed} ours", run)


def peers(a: argparse.Namespace, kept: Rows, budget: str, bounds: dict[str, float], seed: int, images: ImageData) -> None:
    """Random networks of the budget, trained as the winner was; the run folder of `ours` is continued."""

    def run() -> dict[str, Any]:
        asked = request(a, budget, bounds, seed)
        mobile(**asked, peers=PEERS)
        found = read_json(Path(asked["out"]) / "result.json")["peers"]
        return {"test": [peer["test"] for peer in found], "architectures": [peer["architecture"] for peer in found]}

    kept.row(f"{budget} {seed} peers", run)


def levers(a: argparse.Namespace, kept: Rows, budget: str, bounds: dict[str, float], seed: int, images: ImageData) -> None:
    """The whole recipe with one part taken out, on the supernet of the whole one."""
    taken_out: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "teacher": ({"teacher": "none"}, []),
        "finalists": ({"finalists": 1}, []),
        "finalists that are far apart": ({}, [mock.patch("recipes.runner.finalists.APART", 0.0)]),
        "likelihood, fused": ({"finalists": 1}, [mock.patch("recipes.runner.one_shot.scored_by", by_accuracy)]),
        "networks by hand first": ({"finalists": 1}, [mock.patch("recipes.runner.one_shot.hand_made", nothing)]),
        "learning rate and weight decay": ({"lr": 0.1}, [mock.patch("recipes.runner.options.SMALL_DECAY", 4e-5)]),
        "weights drawn anew": ({"inherit": True}, []),
    }
    for name, (options, patches) in taken_out.items():

        def run(name: str = name, options: dict[str, Any] = options, patches: list[Any] = patches) -> dict[str, Any]:
            out = a.out / f"{budget}-{seed}-without-{name.replace(' ', '-')}"
            asked = {**request(a, budget, bounds, seed), "out": str(out), "from_run": str(a.out / f"{budget}-{seed}"), **options}
            with contextlib.ExitStack() as stack:
                for patch in patches:
                    stack.enter_context(patch)
                mobile(**asked)
            result = read_json(out / "result.json")
            return {"test": result["accuracy"]["test"], "architecture": result["architecture"]}

        kept.row(f"{budget} {seed} without {name}", run)


def by_accuracy(run: Any, fitness: Any, cheap: Any, explorer: Any, study: Any, evaluations: int) -> tuple[Any, np.ndarray]:
    """Inherited accuracy, as it was before, in place of `recipes.runner.scoring.scored_by`."""
    return fitness, np.zeros((0, len(explorer.space)), dtype=np.int64)


def nothing(space: SearchSpace, budget: Budget, size: Cost, depth: Cost) -> np.ndarray:
    """No network by hand."""
    return np.zeros((0, len(space)), dtype=np.int64)


def hand(a: argparse.Namespace, kept: Rows, budget: str, bounds: dict[str, float], seed: int, images: ImageData) -> None:
    """Networks of the space that one would take without a search."""
    supernet = mbconv(images.image_shape, len(images.classes))
    space, parts = supernet.space, supernet.parts()
    known: dict[str, Cost] = {"macs": costs.macs(space, parts), "latency": read_table(a.out / "latency.json", space)}
    limits = Budget(known, [f"macs={bounds['macs']:.0f}", f"latency={bounds['latency']:.6f}ms"])
    for name, row in named_by_hand(space, limits).items():
        kept.row(f"{budget} {seed} {name}", partial(alone, supernet.subnet(row, fresh_seed=seed), a.epochs, seed, images))


def named_by_hand(space: SearchSpace, limits: Budget) -> dict[str, np.ndarray]:
    """The largest network, the deepest, and those with one operator everywhere."""
    size, depth = limits.costs["macs"], costs.operators(space)
    by_hand = hand_made(space, limits, size, depth)
    networks = {"largest": cheapest_and_dearest(space, size, limits)[1], "deepest": by_hand[np.argmax(depth(by_hand))]}
    for row in by_hand:
        if len(options := set(space.to_names(row).values()) - set(IDLE)) == 1:
            networks[f"{options.pop()} everywhere"] = row
    return networks


def shelf(a: argparse.Namespace, kept: Rows, budget: str, bounds: dict[str, float], seed: int, images: ImageData) -> None:
    """Off the shelf, at the width that fits; the width is found once for a budget."""
    for name in HAND_MADE:
        width = kept.row(f"{budget} {name} width", partial(width_of, name, bounds, images), True)
        if width["width"] is not None:
            kept.row(f"{budget} {seed} {name}", partial(alone, at_width(name, width["width"], images, seed), a.epochs, seed, images))


def whole(a: argparse.Namespace, kept: Rows, budget: str, bounds: dict[str, float], seed: int, images: ImageData) -> None:
    """The best off the shelf, for as long as ours took."""
    found = everything(a.out)
    tested = {name: [found[f"{budget} {s} {name}"]["test"] for s in a.seeds if f"{budget} {s} {name}" in found] for name in HAND_MADE}
    missing = [f"{budget} {seed} ours", *(f"{budget} {s} {name}" for name, t in tested.items() if t for s in a.seeds)]
    if left := [key for key in missing if key not in found]:
        raise SystemExit(f"{left[0]} is not known yet; run the other parts first")
    best = max((name for name in tested if tested[name]), key=lambda name: float(np.mean(tested[name])))
    ours_, once = found[f"{budget} {seed} ours"], found[f"{budget} {seed} {best}"]
    epochs = max(a.epochs, round(a.epochs * ours_["seconds"] / once["seconds"]))
    network = at_width(best, found[f"{budget} {best} width"]["width"], images, seed)
    kept.row(f"{budget} {seed} whole", lambda: {"network": best, "epochs": epochs, **alone(network, epochs, seed, images)})


PARTS = {"ours": ours, "peers": peers, "hand": hand, "shelf": shelf, "whole": whole, "levers": levers}


def width_of(name: str, bounds: dict[str, float], images: ImageData) -> dict[str, Any]:
    """The largest width multiplier of a network that keeps both bounds, and what it costs then."""
    shape, classes = images.image_shape, len(images.classes)

    def fits(network: torch.nn.Module) -> bool:
        return costs.count_macs(network, shape) <= bounds["macs"] and measure(network, shape) <= bounds["latency"]

    found = widest(HAND_MADE[name], shape, classes, fits)
    if found is None:
        return {"width": None}
    return {"width": found[0], "costs": costs_of(found[1], shape, lambda network: measure(network, shape))}


def at_width(name: str, width: float, images: ImageData, seed: int) -> torch.nn.Module:
    return begin_as_ours(adapted(HAND_MADE[name], width, images.image_shape, len(images.classes)), seed)


def alone(network: torch.nn.Module, epochs: int, seed: int, images: ImageData) -> dict[str, Any]:
    """Test accuracy after a training from scratch."""
    start = time.perf_counter()
    train(network, StandAlone(), images.train, epochs=epochs, seed=seed, **FINAL)
    return {"test": accuracy(network, images.test, CPU), "seconds": time.perf_counter() - start}


def everything(out: Path) -> dict[str, dict[str, Any]]:
    """All rows by key."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(out.glob("*.jsonl")):
        kept = Rows(file)
        found |= {key: kept.row(key, dict, True) for key in kept.known()}
    return found


def tables(found: dict[str, dict[str, Any]], budgets: list[str]) -> None:
    """Means over seeds with their intervals; where the winner stands among its peers."""
    for budget in budgets:
        print(f"\n| {budget} | test accuracy, mean of seeds (95 %) | each seed | ours ahead in |\n|---|---|---|---|")
        rows = {
            tuple(key.split(maxsplit=2)[1:]): row for key, row in found.items() if key.split()[0] == budget and key.split()[1].isdigit()
        }
        names = list(dict.fromkeys(name for _, name in rows))
        for name in sorted(names, key=lambda name: -np.mean([np.mean(rows[key]["test"]) for key in rows if key[1] == name])):
            values = {seed: float(np.mean(row["test"])) for (seed, other), row in rows.items() if other == name}
            ahead = [rows[seed, "ours"]["test"] > value for seed, value in values.items() if (seed, "ours") in rows]
            each = ", ".join(f"{value:.4f}" for value in values.values())
            print(f"| {name} | {interval(list(values.values()))} | {each} | {sum(ahead)} of {len(ahead)} |")
        for seed in sorted({seed for seed, name in rows if name == "peers"}):
            peers, winner = np.array(rows[seed, "peers"]["test"]), rows[seed, "ours"]["test"]
            ahead, spread_ = (winner > peers).sum(), f"{peers.mean():.4f} +- {peers.std(ddof=1):.4f}"
            print(f"seed {seed}: ahead of {ahead} of {len(peers)} peers; {winner:.4f} against {spread_}")


def interval(values: list[float]) -> str:
    """A mean with its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.4f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.4f} +- {half:.4f}"


if __name__ == "__main__":
    main()
