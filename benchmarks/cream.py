"""Cream on NAS-Bench-Macro: what it is worth that prioritised paths teach the others, at equal images and at equal wall time.

CIFAR-10 at 16 pixels, the settings of benchmarks/within.py, whose uniform and sandwich supernets it is held against (their rows are taken
from `--within`, or measured). Cream sets a tenth of the images aside, so that 18 of its epochs see what 16 uniform ones see:

  cream-images   as many training images as uniform paths
  cream-time     as long as uniform paths, on this machine, one core

and, at equal images, who teaches: the matching network's choice (Cream), the best of the board at weight 1/2, a random one of the board,
the largest path, nobody. Every supernet scores all 3,969 networks; rows and checkpoints are kept, run again to go on.

    OMP_NUM_THREADS=1 python benchmarks/cream.py --data cifar16.npz --table nasbench_macro.npz --within runs/benchmark_within
"""

from __future__ import annotations

import argparse
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import within
from rows import Rows

from evonas.budget import Budget
from evonas.extremes import cheapest_and_dearest
from evonas.ranking import tau
from evonas.space import Architecture
from evonas.tabular import nasbench_macro
from predictors import costs
from supernet import ImageData, load, macro, train
from supernet.chain import ChainSupernet
from supernet.training.prioritised import PrioritisedPaths

SETTINGS: dict[str, Any] = {"size": 5, "every": 20, "meta_lr": 1e-3}
HELD_OUT, RANDOM = 0.1, 200


class BestTeaches(PrioritisedPaths):
    """The best of the board, at weight 1/2."""

    def teacher(self, network: Any, path: Architecture, rng: np.random.Generator) -> tuple[Architecture, float] | None:
        """See `PrioritisedPaths.teacher`."""
        return self.board.entries[0].path, 0.5


class RandomTeaches(PrioritisedPaths):
    """A random one of the board, at weight 1/2."""

    def teacher(self, network: Any, path: Architecture, rng: np.random.Generator) -> tuple[Architecture, float] | None:
        """See `PrioritisedPaths.teacher`."""
        return self.board.entries[int(rng.integers(len(self.board)))].path, 0.5


class LargestTeaches(PrioritisedPaths):
    """The path of the most MACs, at weight 1/2; it is trained no more than any other."""

    def teacher(self, network: Any, path: Architecture, rng: np.random.Generator) -> tuple[Architecture, float] | None:
        """See `PrioritisedPaths.teacher`."""
        return tuple(cheapest_and_dearest(network.space, self._cost, Budget())[1].tolist()), 0.5


class NobodyTeaches(PrioritisedPaths):
    """Uniform paths on as few images."""

    def teacher(self, network: Any, path: Architecture, rng: np.random.Generator) -> tuple[Architecture, float] | None:
        """See `PrioritisedPaths.teacher`."""
        return None


WAYS: dict[str, type[PrioritisedPaths]] = {
    "cream-images": PrioritisedPaths,
    "cream-time": PrioritisedPaths,
    "best": BestTeaches,
    "random": RandomTeaches,
    "largest": LargestTeaches,
    "nobody": NobodyTeaches,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-Macro, the official JSON file or .npz")
    parser.add_argument("--within", type=Path, default=Path("runs/benchmark_within"))
    parser.add_argument("--epochs", type=int, default=16, help="of uniform paths")
    parser.add_argument("--scored-on", default="cpu", help="device that scores; training is on the CPU")
    parser.add_argument("--only", nargs="*", help="supernets, such as 'cream-images 0'")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_cream"))
    a = parser.parse_args()
    within.EPOCHS, within.SCORED_ON = a.epochs, torch.device(a.scored_on)
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    images, table = load(a.data), nasbench_macro(a.table)
    networks = macro(images.image_shape).space.enumerate()
    truth = within.published(table, networks)
    both = [f"{kind} {seed}" for seed in within.SEEDS for kind in ("cream-images", "cream-time")]
    others = [f"{kind} {seed}" for seed in within.SEEDS for kind in ("uniform", "sandwich")]
    for name in a.only or [*others, *both, "best 0", "random 0", "largest 0", "nobody 0"]:
        kind, seed = name.split()
        out = a.within if kind in within.KINDS else a.out
        kept = Rows(out / f"{name.replace(' ', '-')}.jsonl")
        if kind in within.KINDS:
            supernet = within.trained(kind, int(seed), images, out, kept)
        else:
            supernet = trained(kind, int(seed), images, out, kept)
        scores = within.all_scored(supernet, networks, images, kept)
        some = np.random.default_rng(0).choice(len(networks), RANDOM, replace=False)
        taus = ", ".join(f"tau by {key} {tau(values, truth):.3f}" for key, values in scores.items())
        print(
            f"{name}: mean inherited accuracy of {RANDOM} random paths {scores['accuracy'][some].mean():.4f}; all networks: {taus}",
            flush=True,
        )
        within.report(name, networks, truth, scores)
        if kind.startswith("cream"):
            uniform = Rows(a.within / f"uniform-{seed}.jsonl")
            if "0" not in uniform:
                print(f"{name}: its picks are told once 'uniform {seed}' is scored", flush=True)
                continue
            known = within.all_scored(supernet, networks, images, uniform)["accuracy"]
            picks(name, kept.row("board", dict, quiet=True)["board"], networks, truth, known, scores["accuracy"])


def picks(name: str, board: list[list[Any]], networks: np.ndarray, truth: np.ndarray, uniform: np.ndarray, inherited: np.ndarray) -> None:
    """The best of the board by its published accuracy, against what else costs as little as it does."""
    macs = costs.macs(macro().space, macro().parts())
    at = {tuple(row): i for i, row in enumerate(networks.tolist())}
    known = np.asarray(macs(networks))
    mean = np.mean([truth[at[tuple(path)]] for path, *_ in board])
    path, _, cost = board[0]  # of 16 pixels, and known is of 32: the order is the same
    chosen = at[tuple(path)]
    inside = np.flatnonzero((known <= known[chosen]) & (known >= 0.8 * known[chosen]))
    spos, own = (inside[scores[inside].argmax()] for scores in (uniform, inherited))
    random = np.random.default_rng(7).choice(inside, 5, replace=False)
    rank = (truth[inside] > truth[chosen]).mean()
    print(
        f"{name}: best of the board {''.join(map(str, path))}, {cost / 1e6:.1f}M MACs, true accuracy {truth[chosen]:.4f} "
        f"(board's mean {mean:.4f}), "
        f"better are {100 * rank:.0f} % of {len(inside)} networks of 80 to 100 % of its MACs; first there by a uniform supernet "
        f"{truth[spos]:.4f}, by this one {truth[own]:.4f}, 5 random {truth[random].mean():.4f} (best {truth[random].max():.4f})",
        flush=True,
    )


def trained(kind: str, seed: int, images: ImageData, out: Path, kept: Rows) -> ChainSupernet:
    """The supernet of a kind of Cream, from its checkpoint where that is complete."""
    supernet = macro(images.image_shape, seed=seed)
    macs = costs.macs(supernet.space, supernet.parts())
    way = WAYS[kind](macs, len(images.classes), held_out=HELD_OUT, **SETTINGS)
    epochs = round(within.EPOCHS / (1 - HELD_OUT))
    if kind == "cream-time":
        epochs = round(within.EPOCHS * float(kept.row("share", partial(share, images), quiet=True)["share"]))
    start = time.perf_counter()
    train(
        supernet,
        way,
        images.train,
        epochs=epochs,
        seed=seed,
        checkpoint=out / f"{kind}-{seed}.pt",
        identity=[kind, epochs],
        on_record=lambda epoch, record: print(f"{kind} {seed}, epoch {epoch + 1}: board {told(record.attributes['board'])}", flush=True),
        **within.SETTINGS,
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{kind} {seed}: {epochs} epochs, {time.perf_counter() - start:.0f} s of training in this process, {memory:.0f} MB", flush=True)
    kept.row("board", lambda: {"board": way.board.plain()}, quiet=True)
    return supernet


def told(board: list[dict[str, Any]]) -> str:
    """Mean accuracy and cost of a board."""
    return f"{np.mean([e['accuracy'] for e in board]):.3f}, {np.mean([e['cost'] for e in board]) / 1e6:.1f}M MACs"


def share(images: ImageData) -> dict[str, Any]:
    """Epochs of Cream, past its warm-up, for an epoch of uniform paths in the same time, and its seconds a step beside theirs."""
    seconds: dict[str, list[float]] = {"uniform": [], "cream": []}
    for name in ("uniform", "cream", "uniform", "cream"):
        supernet = macro(images.image_shape)
        size = within.TIMED_STEPS * within.SETTINGS["batch_size"]
        if name == "uniform":
            way: Any = within.KINDS["uniform"].way(supernet)
            part = images.train.head(size)
        else:
            way = PrioritisedPaths(
                costs.macs(supernet.space, supernet.parts()), len(images.classes), held_out=HELD_OUT, warmup=0.0, **SETTINGS
            )
            part = images.train.head(round(size / (1 - HELD_OUT)))
        start = time.perf_counter()
        train(supernet, way, part, epochs=1, **within.SETTINGS)
        seconds[name].append(time.perf_counter() - start)
    uniform, cream = (min(values) / within.TIMED_STEPS for values in seconds.values())
    # a sixth of the epochs is warm-up, which costs what uniform paths cost
    return {"share": uniform / (uniform / 6 + cream * 5 / 6) / (1 - HELD_OUT), "uniform": uniform, "cream": cream}


if __name__ == "__main__":
    main()
