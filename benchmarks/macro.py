"""A supernet of NAS-Bench-Macro against the published accuracies of its networks, and what each remedy contributes.

CIFAR-10 at 16 pixels. The headline supernets are scored on all 3,969 different networks of the table (its 6,561 rows repeat equal ones)
by the prefix walk, and taus are over all rows. Remedies are compared on a sample: 300 rows, and 200 of the true top tenth. Rows and
checkpoints are kept; run again to go on. About two hours on one core; `--only NAME ...` measures some supernets, so that processes can
share the work.

    OMP_NUM_THREADS=1 python benchmarks/macro.py --data cifar16.npz --table nasbench_macro.npz
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from torch.nn.functional import cross_entropy

from evonas.ranking import best, judge, noise_ceiling, null_band, stability, tau, tau_within
from evonas.ranks import fused, normal_scores
from evonas.tabular import identities_last, nasbench_macro
from predictors import costs
from supernet import FairPaths, FineTunedFitness, ImageData, InheritedFitness, UniformPaths, load, macro, train
from supernet.blocks import Mixture
from supernet.chain import ChainSupernet
from supernet.data import Batch
from supernet.training.way import Moment, Way

CALIBRATION, SEARCHED, CHUNK = 512, 1000, 400
SAMPLED, SAMPLED_TOP = 300, 200
HEADLINE = ("uniform 0", "uniform 1", "uniform 2")


class AllPaths(Way):
    """The sum of all options of every layer, in every step: what single paths are held against. Not a way that the toolkit offers."""

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> torch.Tensor:
        """See `Way.step`."""
        images, labels = batch
        gates = Mixture([torch.ones(len(choice.options)) for choice in network.space.choices])
        return cross_entropy(network(images, gates).float(), labels, label_smoothing=0.1)


@dataclass(frozen=True)
class Setting:
    """How a supernet is trained, and on what it is scored."""

    way: Callable[[], Way] = UniformPaths
    epochs: int = 32
    batch_size: int = 32
    lr: float = 0.05
    weight_decay: float = 5e-4
    seed: int = 0
    equal_networks_share: bool = True


SHORT = {"epochs": 24, "batch_size": 64, "lr": 0.1, "weight_decay": 4e-5}
SETTINGS = {
    **{name: Setting(seed=seed) for seed, name in enumerate(HEADLINE)},
    "longer 0": Setting(epochs=64),
    "short 0": Setting(**SHORT),  # type: ignore[arg-type]
    "raw 0": Setting(**SHORT, equal_networks_share=False),  # type: ignore[arg-type]
    "fair 0": Setting(FairPaths, **{**SHORT, "epochs": 8}),  # type: ignore[arg-type]
    "summed 0": Setting(AllPaths, **{**SHORT, "epochs": 8}),  # type: ignore[arg-type]
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-Macro, the official JSON file or .npz")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, help="supernets to train and score; no table is printed then")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_macro"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images, table = load(a.data), nasbench_macro(a.table)
    networks = macro(images.image_shape).space.enumerate()
    at = {tuple(row): i for i, row in enumerate(networks.tolist())}
    row_of = np.array([at[tuple(row)] for row in identities_last(table.architectures).tolist()])  # table row -> network
    rows, top = sample(table.columns["test"])
    some = np.unique(row_of[np.concatenate([rows, top])])
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in a.only or SETTINGS:
        supernet = trained(name, SETTINGS[name], images, a.out)
        kept = Rows(a.out / f"{name.replace(' ', '-')}.jsonl")
        wanted = np.arange(len(networks)) if name in HEADLINE else some
        scores: dict[str, np.ndarray] = {key: np.full(len(networks), np.nan) for key in ("accuracy", "likelihood")}
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            row = kept.row(f"{start}", partial(scored, supernet, networks[chunk], images, True), quiet=True)
            print(f"{name}: scored {start + len(chunk)} of {len(wanted)}", flush=True)
            for key in scores:
                scores[key][chunk] = row[key]
        if name == HEADLINE[0]:
            for what, measure in (
                ("not recalibrated", partial(scored, supernet, networks[some], images, False)),
                ("after 10 steps of its own", partial(tuned, supernet, networks[some], images)),
            ):
                row = kept.row(what, measure, quiet=True)
                found[f"{name}, {what}"] = {key: spread(some, row[key], len(networks)) for key in row if key != "key"}
        found[name] = scores
    if not a.only:
        tables({name: {key: values[row_of] for key, values in scores.items()} for name, scores in found.items()}, table, rows, top)


def sample(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the table at random, and of its best tenth."""
    rng = np.random.default_rng(5)
    rows = rng.choice(len(runs), SAMPLED, replace=False)
    return rows, rng.choice(np.flatnonzero(best(runs.mean(axis=1), 0.1)), SAMPLED_TOP, replace=False)


def spread(some: np.ndarray, values: list[float], n: int) -> np.ndarray:
    full = np.full(n, np.nan)
    full[some] = values
    return full


def trained(name: str, setting: Setting, images: ImageData, out: Path) -> ChainSupernet:
    """The supernet of a setting, from its checkpoint where that is complete."""
    supernet = macro(images.image_shape, seed=setting.seed)
    if not setting.equal_networks_share:
        supernet.space = replace(supernet.space, canonicalise=None)
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    losses = train(
        supernet,
        setting.way(),
        images.train,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        lr=setting.lr,
        weight_decay=setting.weight_decay,
        seed=setting.seed,
        checkpoint=out / f"{name.replace(' ', '-')}.pt",
        identity={"supernet": name, "epochs": setting.epochs},
    )
    print(f"{name}: {time.perf_counter() - start:.0f} s of training in this process, loss {losses[-1]['loss']:.3f}", flush=True)
    return supernet


def scored(supernet: ChainSupernet, networks: np.ndarray, images: ImageData, recalibrated: bool) -> dict[str, Any]:
    """Accuracy and likelihood with shared weights."""
    calibration = images.train.head(CALIBRATION) if recalibrated else None
    accuracy, likelihood = InheritedFitness(supernet, images.search.head(SEARCHED), calibration).both(networks)
    return {"accuracy": accuracy.tolist(), "likelihood": likelihood.tolist()}


def tuned(supernet: ChainSupernet, networks: np.ndarray, images: ImageData) -> dict[str, Any]:
    """Accuracy and likelihood after ten steps of each network's own."""
    fitness = FineTunedFitness(supernet, images.search.head(SEARCHED), images.train, steps=10)
    accuracy, likelihood = fitness.both(networks)
    return {"accuracy": accuracy.tolist(), "likelihood": likelihood.tolist()}


def tables(found: dict[str, dict[str, np.ndarray]], table: Any, rows: np.ndarray, top: np.ndarray) -> None:
    """Everything printed; scores are by row of the table."""
    runs = table.columns["test"]
    truth = runs.mean(axis=1)
    space, parts = macro().space, macro().parts()
    known = {"MACs": costs.macs(space, parts), "operators": costs.operators(space), "params": costs.params(space, parts)}
    cheap = {name: np.asarray(cost(table.architectures)) for name, cost in known.items()}
    print(f"\nceiling {noise_ceiling(runs):.3f}, in the top tenth {noise_ceiling(runs, 0.1):.3f}; null band {null_band(len(truth)):.3f}")
    heads = (
        "all 6,561 rows",
        "tau (95 %)",
        "in the true top tenth",
        "in the predicted top tenth",
        "P@1 %",
        "P@10 %",
        "best rank of 10",
        "regret",
    )
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, values in cheap.items():
        line(name, values, runs)
    line("MACs and operators", normal_scores(cheap["MACs"]) + normal_scores(cheap["operators"]), runs)
    for name in HEADLINE:
        for key in ("accuracy", "likelihood"):
            line(f"{name}, {key}", found[name][key], runs)
        line(f"{name}, likelihood fused with MACs and operators", fused(found[name]["likelihood"], cheap["MACs"], cheap["operators"]), runs)
    together = np.mean([normal_scores(found[name]["likelihood"]) for name in HEADLINE], axis=0)
    line("three supernets, likelihood", together, runs)
    line("three supernets, fused", fused(together, cheap["MACs"], cheap["operators"]), runs)
    for key in ("accuracy", "likelihood"):
        print(f"S-Tau of the three, {key}: {stability([found[name][key] for name in HEADLINE]):.3f}")
    print(f"\n| {len(rows)} rows, {len(top)} of the top tenth | accuracy | likelihood | fused | in the top tenth |\n|{'---|' * 5}")
    both = np.concatenate([rows, top])
    for name, scores in found.items():
        mixed = fused(scores["likelihood"][both], cheap["MACs"][both], cheap["operators"][both])
        columns = [(scores[key][rows], scores[key][top]) for key in ("accuracy", "likelihood")]
        columns.append((mixed[: len(rows)], mixed[len(rows) :]))
        inside = ", ".join(f"{tau(values, truth[top]):.3f}" for _, values in columns)
        print(f"| {name} | {' | '.join(f'{tau(values, truth[rows]):.3f}' for values, _ in columns)} | {inside} |")
    alone = {name: (tau(values[rows], truth[rows]), tau_within(values[top], truth[top], truth[top], 1.0)) for name, values in cheap.items()}
    print("; ".join(f"{name} {everywhere:.3f}, {inside:.3f}" for name, (everywhere, inside) in alone.items()))


def line(name: str, scores: np.ndarray, runs: np.ndarray) -> None:
    found = judge(scores, runs, draws=200)
    low, high = found["interval"]
    cells = [
        f"{found['tau']:.3f} ({low:.3f} to {high:.3f})",
        f"{found['tau_in_true_top']:.3f}",
        f"{found['tau_in_predicted_top']:.3f}",
        f"{found['precision']['0.01']:.2f}",
        f"{found['precision']['0.1']:.2f}",
        f"{found['best_rank']['10'] * len(runs):.0f}",
        f"{found['regret_points']:.2f}",
    ]
    print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
