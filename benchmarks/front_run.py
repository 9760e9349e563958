"""One search of the front against a search for every budget, with as many evaluations in all: CIFAR-10 at 16 pixels.

One supernet. `front`: evonas mobile --front macs, EVALUATIONS networks, then five points, each of which scores up to 100. `apart`: five
runs of evonas mobile under the same five bounds, which share that many evaluations evenly. Winners train alike. Two figures: the
hypervolume of everything that was scored (accuracy with inherited weights above chance, logarithm of the multiply-accumulates), and the
test accuracy of the five networks that are delivered.

    OMP_NUM_THREADS=1 python benchmarks/front_run.py --data cifar16.npz --out runs/benchmark_front_run [--seeds 0]

Run folders are kept; run again to go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from evonas.files import read_json
from evonas.study import open_study
from recipes.mobile import mobile

EVALUATIONS, PICKED, POINTS = 200, 100, 5
SETTINGS: dict[str, Any] = {"epochs": 20, "retrain_epochs": 12, "finalists": 2, "teacher": "none", "explorer": "bayesian"}
CHANCE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=(0,))
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--epochs", type=int, default=SETTINGS["epochs"])
    parser.add_argument("--retrain-epochs", type=int, default=SETTINGS["retrain_epochs"])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_front_run"))
    a = parser.parse_args()
    settings = {**SETTINGS, "epochs": a.epochs, "retrain_epochs": a.retrain_epochs, "data": a.data, "device": "cpu"}
    for seed in a.seeds:
        out = a.out / f"front-{seed}"
        explorer = {"explorer": "pareto-bayesian"}
        mobile(**{**settings, **explorer}, evaluations=a.evaluations, front="macs", out=str(out), seed=seed)
        points = read_json(out / "front.json")["points"]
        each = (a.evaluations + POINTS * min(PICKED, a.evaluations)) // POINTS
        for i, point in enumerate(points):
            folder = a.out / f"apart-{seed}-{i}"
            mobile(**settings, evaluations=each, budget=[point["bound"]], from_run=str(out), out=str(folder), seed=seed)
        apart = [a.out / f"apart-{seed}-{i}" for i in range(POINTS)]
        together = [out, *(out / point["folder"] for point in points)]
        corner = max(costs.max() for costs, _ in map(scored, [*apart, *together]))
        for name, folders in (("front", together), ("apart", apart)):
            found = [scored(folder) for folder in folders]
            costs, accuracies = (np.concatenate(parts) for parts in zip(*found, strict=True))
            print(f"seed {seed}, {name}: {len(costs)} scored, volume {volume(np.log(corner / costs), accuracies - CHANCE):.4f}", flush=True)
        for i, point in enumerate(points):
            ours, theirs = (read_json(f / "result.json") for f in (out / point["folder"], apart[i]))
            line = ", ".join(
                f"{name} {result['accuracy']['test']:.4f} ({result['costs']['macs'] / 1e6:.2f} M)"
                for name, result in (("front", ours), ("apart", theirs))
            )
            print(f"seed {seed}, {point['bound']}: {line}", flush=True)


def scored(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Multiply-accumulates and accuracies with inherited weights of what a run has scored."""
    trials = [trial for trial in open_study(folder / "study.log", "search").trials if trial.values is not None]
    return np.array([t.user_attrs["macs"] for t in trials]), np.array([t.user_attrs["accuracy"] for t in trials])


def volume(room: np.ndarray, gain: np.ndarray) -> float:
    """The area under a front of two things of which more is better."""
    total, width = 0.0, 0.0
    for i in np.argsort(-gain, kind="stable"):
        if gain[i] > 0 and room[i] > width:
            total, width = total + gain[i] * (room[i] - width), room[i]
    return float(total)


if __name__ == "__main__":
    main()
