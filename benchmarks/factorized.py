"""Factorised activations on cells of NAS-Bench-201: what they cost, and what they find in as much time as ReLU alone.

  costs     step of weights, step of architecture and bytes kept for the gradients, against the number of activations
            (cells of NAS-Bench-201 and of DARTS, the best of three in turn, CIFAR-10's size at 16 pixels)
  pre       operators x six activations, activations mixed first
  full      every pair by itself
  relu      ReLU alone: DARTS

CIFAR-10 at 16 pixels, one cell a stage of 8, 16 and 32 channels; half of the images held out, warm-up of 30 % of the epochs; each search
runs for `--seconds` of this machine (a step of each is timed first), and its derived cell, all edges kept, is retrained from scratch. The
published accuracy of the operators is told as well, which is with ReLU. Rows are kept; run again to go on.

    OMP_NUM_THREADS=1 python benchmarks/factorized.py --data cifar16.npz --table nasbench201_accuracy.npz
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from setn import SETTINGS, WIDTHS, truth_of
from torch.nn import Parameter

from evonas.tabular import nasbench201 as read_table
from supernet import ImageData, LearnedMixtures, StandAlone, accuracy, darts, load, nasbench201, train
from supernet.activations import SIX
from supernet.blocks import Mixture
from supernet.chain import ChainSupernet

KINDS = {"pre": (SIX, "pre"), "full": (SIX, "full"), "relu": (("relu",), "pre")}
HELD_OUT, WARMUP, BATCH = 0.5, 0.3, 64
FEWEST, ROUNDS = 2, 3  # epochs of a search; steps that are timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201, .npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=150, help="of a search")
    parser.add_argument("--architecture-lr", type=float, default=0.05)
    parser.add_argument("--retrain-epochs", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=("costs", *KINDS), default=("costs", *KINDS))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_factorized"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    if "costs" in a.only:
        costs()
    images, table = load(a.data), read_table(a.table)
    rows = Rows(a.out / "rows.jsonl")
    for seed in a.seeds:
        for kind in KINDS:
            if kind in a.only:
                key = f"{kind} {seed} {a.seconds:g} {a.architecture_lr:g} {a.retrain_epochs}"
                found = rows.row(key, partial(measured, kind, images, table, seed, a), quiet=True)
                print(f"{kind}, seed {seed}: {', '.join(f'{name} {value}' for name, value in found.items() if name != 'key')}", flush=True)


def measured(kind: str, images: ImageData, table: Any, seed: int, a: argparse.Namespace) -> dict[str, Any]:
    """A search of a kind, and its derived cell trained on its own."""
    activations, form = KINDS[kind]
    made = partial(nasbench201, images.image_shape, cells=1, widths=WIDTHS, activations=activations, form=form)
    epochs = max(FEWEST, round(a.seconds / epoch_seconds(made(), images)))
    supernet = made(seed=seed)
    way = LearnedMixtures(supernet.space, held_out=HELD_OUT, warmup=WARMUP, architecture_lr=a.architecture_lr, seed=seed)
    start = time.perf_counter()
    train(supernet, way, images.train, epochs=epochs, seed=seed, **SETTINGS)
    seconds = time.perf_counter() - start
    row = way.weights.derived(supernet, None)
    names = supernet.space.to_names(row)
    network = supernet.network(row, seed=seed)
    train(network, StandAlone(), images.train, epochs=a.retrain_epochs, seed=seed, **{**SETTINGS, "final_lr": 0.0})
    operators = np.array([[supernet.space.choices[i].options.index(names[name]) for i, name in enumerate(supernet.space.names)]])
    operators = operators if len(activations) == 1 else operators[:, ::2]
    entropies = [float(-(p * np.log(p + 1e-12)).sum() / np.log(len(p))) for p in way.weights.distribution(supernet.space)]
    return {
        "epochs": epochs,
        "seconds": round(seconds, 1),
        "cell": "|".join(names.values()),
        "skip connections": sum(value == "skip_connect" for value in names.values()),
        "searched with": a.architecture_lr,
        "cut": sum(value == "none" for value in names.values()),
        "test accuracy": accuracy(network, images.test, torch.device("cpu")),
        "published accuracy of its operators with ReLU": float(truth_of(table, operators)[0]),
        "entropy of the weights, of the largest": round(float(np.mean(entropies)), 3),
    }


def epoch_seconds(supernet: ChainSupernet, images: ImageData) -> float:
    """About how long an epoch of a search takes past its warm-up, as a mean over all of it."""
    x = torch.zeros(BATCH, *images.image_shape)
    by_weights, by_architecture, _ = np.array([step_costs(supernet, x) for _ in range(ROUNDS)]).min(axis=0)
    return float(by_weights + (1 - WARMUP) * by_architecture) * len(images.train) * (1 - HELD_OUT) / BATCH


def costs() -> None:
    """Steps and bytes of every form, as multiples of ReLU alone; all are timed in turn, `ROUNDS` times."""
    spaces = {
        "nasbench201": partial(nasbench201, (3, 16, 16), cells=1, widths=WIDTHS),
        "darts": partial(darts, (3, 16, 16), channels=8, cells=3),
    }
    x = torch.randn(BATCH, 3, 16, 16)
    forms = [("pre", 1), *(("pre", n) for n in (2, 4, 6)), ("post", 6), ("post-exact", 6), *(("full", n) for n in (2, 4, 6))]
    for name, made in spaces.items():
        supernets = [made(activations=SIX[:count], form=form) for form, count in forms]
        rounds = np.array([[step_costs(supernet, x) for supernet in supernets] for _ in range(ROUNDS)])
        found = rounds.min(axis=0)
        for (form, count), each in zip(forms, found, strict=True):
            ratios = ", ".join(f"{value:.2f}" for value in each / found[0])
            print(
                f"{name}, {form}, {count} activations: {1000 * each[0]:.0f} ms, {1000 * each[1]:.0f} ms, {each[2] / 2**20:.0f} MiB; "
                f"times ReLU alone: {ratios}; both steps {each[:2].sum() / found[0, :2].sum():.2f}",
                flush=True,
            )


def step_costs(supernet: ChainSupernet, x: torch.Tensor) -> tuple[float, float, float]:
    """Seconds of a step of the weights and of one of the architecture, and bytes that the latter keeps."""
    supernet.train()
    weights = [torch.full((len(choice.options),), 1 / len(choice.options)).requires_grad_() for choice in supernet.space.choices]
    fixed = Mixture([weight.detach() for weight in weights])
    start = time.perf_counter()
    supernet(x, fixed).sum().backward()
    middle = time.perf_counter()
    torch.autograd.grad(supernet(x, Mixture(weights)).sum(), weights)
    end = time.perf_counter()
    return middle - start, end - middle, float(kept_bytes(supernet, x, Mixture(weights)))


def kept_bytes(supernet: ChainSupernet, x: torch.Tensor, weights: Mixture) -> int:
    """Of activations that a forward keeps for its gradients, each tensor once; parameters are not counted."""
    found: dict[tuple[int, int], int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, Parameter):
            storage = tensor.untyped_storage()
            found[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
        alive.append(tensor.detach())  # so that no address is used twice
        return alive[-1]  # kept itself, a result would hold the graph that holds it

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        supernet(x, weights).sum()
    return sum(found.values())


if __name__ == "__main__":
    main()
