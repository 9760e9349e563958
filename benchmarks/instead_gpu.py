"""The trainings of `benchmarks/instead.py` on a GPU, many at once: ours, its peers, what one would pick instead, and parts taken out.

First, on the machine whose latency counts, `instead.py --only ours` searches (a run may be stopped when `finalists.json` is there); then

    python benchmarks/instead_gpu.py prepare --data cifar16.npz --out runs/instead
    python benchmarks/instead_gpu.py train --data cifar16.npz --out runs/instead
    python benchmarks/instead_gpu.py tables --data cifar16.npz --out runs/instead

`prepare` lists what is trained, into `jobs.json`. `train` needs a GPU and no search: for every seed a teacher, the race of the finalists as
`recipes.runner.finalists` runs it, and full trainings; rows are kept, a seed that is there is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hand_made import HAND_MADE, adapted, begin_as_ours
from instead import BUDGETS, PEERS, SEEDS, everything, interval, named_by_hand, width_of
from rows import Rows
from together import Taught, train_together

from evonas import Budget
from evonas.extremes import cheapest_and_dearest
from evonas.files import read_json, write_json
from evonas.sampling import draw_feasible
from predictors import costs, read_table
from predictors.devices.runtime import measure
from recipes.runner.finalists import rungs
from recipes.runner.peers import TRIED_FOR_EACH
from supernet import ImageData, accuracy, load, mbconv
from supernet.chain import ChainSupernet
from supernet.evaluation import accuracy_and_likelihood

Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("prepare", "train", "tables"))
    parser.add_argument("--data", required=True, help="images, as evonas mobile takes them")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_instead"), help="of instead.py")
    a = parser.parse_args()
    images = load(a.data)
    supernet = mbconv(images.image_shape, len(images.classes))
    if a.part == "prepare":
        write_json(a.out / "jobs.json", prepared(a.out, supernet, images))
        return
    rows = Rows(a.out / "gpu.jsonl")
    if a.part == "train":
        jobs = read_json(a.out / "jobs.json")
        for seed in SEEDS:
            rows.row(f"seed {seed}", lambda seed=seed: trained(supernet, images, jobs, seed, a.epochs), True)  # type: ignore[misc]
    tables({seed: rows.row(f"seed {seed}", dict, True) for seed in SEEDS if f"seed {seed}" in rows.known()})


def prepared(out: Path, supernet: ChainSupernet, images: ImageData) -> Found:
    """For every budget and seed: finalists, peers, networks by hand and widths."""
    space, macs, found = supernet.space, costs.macs(supernet.space, supernet.parts()), everything(out)
    jobs: Found = {}
    for name in BUDGETS:
        bounds = found[f"bounds {name}"]["bounds"]
        known = {"macs": macs, "latency": read_table(out / "latency.json", space)}
        budget = Budget(known, [f"macs={bounds['macs']:.0f}", f"latency={bounds['latency']:.6f}ms"])
        by_hand = {kind: row.tolist() for kind, row in named_by_hand(space, budget).items()}
        widths = {network: width_of(network, bounds, images)["width"] for network in HAND_MADE}
        for seed in SEEDS:
            chosen = read_json(out / f"{name}-{seed}" / "finalists.json")["finalists"]
            drawn = draw_feasible(space, budget, TRIED_FOR_EACH * PEERS, np.random.default_rng([seed, 29]))
            fits = (row.tolist() for row in drawn if measure(supernet.subnet(row), images.image_shape) <= bounds["latency"])
            jobs[f"{name} {seed}"] = {
                "finalists": [[int(option) for option in space.from_names(entry["architecture"])] for entry in chosen],
                "peers": [row for row, _ in zip(fits, range(PEERS), strict=False)],
                "hand": by_hand,
                "shelf": {network: width for network, width in widths.items() if width is not None},
            }
    return jobs


def trained(supernet: ChainSupernet, images: ImageData, jobs: Found, seed: int, epochs: int) -> Found:
    """All trainings of a seed: test accuracy by budget and name."""
    device = torch.device("cuda")
    mine = {name: jobs[f"{name} {seed}"] for name in BUDGETS}

    def network(row: list[int]) -> torch.nn.Module:
        return supernet.subnet(tuple(row), fresh_seed=seed)

    def tested(names: list[str], networks: list[torch.nn.Module]) -> dict[str, float]:
        return {name: accuracy(each, images.test, device) for name, each in zip(names, networks, strict=True)}

    largest = [int(option) for option in cheapest_and_dearest(supernet.space, costs.macs(supernet.space, supernet.parts()), Budget())[1]]
    names, networks = ["teacher"], [network(largest)]
    for name, job in mine.items():
        names += [f"{name} {kind}" for kind in (*job["hand"], *job["shelf"])]
        networks += [network(row) for row in job["hand"].values()]
        made = [adapted(HAND_MADE[kind], width, images.image_shape, len(images.classes)) for kind, width in job["shelf"].items()]
        networks += [begin_as_ours(each, seed) for each in made]
    train_together(networks, images.train, epochs=epochs, seed=seed)
    teacher, plain = networks[0], tested(names, networks)

    winners = {name: race(supernet, images, job["finalists"], teacher, seed, epochs) for name, job in mine.items()}
    rows: dict[str, tuple[list[int], Taught | None]] = {}
    for name, job in mine.items():
        rows[f"{name} ours"] = (job["finalists"][winners[name]], Taught())
        rows[f"{name} ours without a teacher"] = (job["finalists"][winners[name]], None)
        rows[f"{name} ours without a race"] = (job["finalists"][0], Taught())
        rows |= {f"{name} peer {i}": (row, Taught()) for i, row in enumerate(job["peers"])}
    networks = [network(row) for row, _ in rows.values()]
    train_together(networks, images.train, epochs=epochs, seed=seed, teacher=teacher, taught=[how for _, how in rows.values()])
    return {"plain": plain, "taught": tested(list(rows), networks), "winners": winners}


def race(supernet: ChainSupernet, images: ImageData, rows: list[list[int]], teacher: torch.nn.Module, seed: int, epochs: int) -> int:
    """Which finalist wins: see `recipes.runner.finalists`."""
    networks = [supernet.subnet(tuple(row), fresh_seed=seed) for row in rows]
    alive = list(range(len(rows)))
    for each, kept in rungs(epochs, len(rows)):
        left = [networks[i] for i in alive]
        train_together(left, images.train, epochs=each, seed=seed, teacher=teacher, taught=[Taught()] * len(left))
        likelihood = {i: accuracy_and_likelihood(networks[i], images.search, torch.device("cuda"))[1] for i in alive}
        alive = sorted(sorted(alive, key=lambda i: -likelihood[i])[:kept])
    return alive[0]


def tables(found: dict[int, Found]) -> None:
    """Means over seeds with their intervals, and where the winner stands among its peers."""
    for budget in BUDGETS:
        print(f"\n| {budget} | test accuracy, mean of seeds (95 %) | ours ahead in |\n|---|---|---|")
        by_name: dict[str, dict[int, float]] = {}
        for seed, row in found.items():
            for name, value in {**row["plain"], **row["taught"]}.items():
                if name.startswith(f"{budget} ") and " peer " not in name:
                    by_name.setdefault(name[2:], {})[seed] = value
        for name, values in sorted(by_name.items(), key=lambda item: -np.mean(list(item[1].values()))):
            ahead = sum(by_name["ours"][seed] > value for seed, value in values.items())
            print(f"| {name} | {interval(list(values.values()))} | {ahead} of {len(values)} |")
        for seed, row in found.items():
            peers = np.array([value for name, value in row["taught"].items() if name.startswith(f"{budget} peer ")])
            ours = row["taught"][f"{budget} ours"]
            print(
                f"seed {seed}: ahead of {(ours > peers).sum()} of {len(peers)}; {ours:.4f}, {peers.mean():.4f} +- {peers.std(ddof=1):.4f}"
            )


if __name__ == "__main__":
    main()
