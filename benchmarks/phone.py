"""A device that nobody measured before, and no other one known: ten or twenty cells of NAS-Bench-201 measured on it.

Eight devices of the published tables stand in for it. Mean over draws of the cells that are measured, of the Spearman correlation on all
others and of the share predicted within 10 %. Beside ours: ridge regression on the options, on counts of options and the host's table,
this host's table alone (measured blocks), and multiply-accumulates. Devices that other devices are known beside: benchmarks/transfer.py.

    OMP_NUM_THREADS=1 python benchmarks/phone.py --data DATA [--networks 10 20] [--draws 20]

Rows are kept; run again to go on.
"""

from __future__ import annotations

import argparse
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from transfer import REPORTED, cells, within

from evonas.budget import Cost
from predictors.accuracy.encoding import one_hot, option_counts
from predictors.costs import macs
from predictors.devices.alone import LikeThisHost
from predictors.devices.known import MeasuredDevice
from predictors.devices.table import LatencyTable, measure_blocks
from supernet import nasbench201

PENALTY = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--networks", type=int, nargs="*", default=(10, 20), help="measured on the new device")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_phone"))
    a = parser.parse_args()
    space, devices, batch = cells(a.data)
    rows = Rows(a.out / "rows.jsonl")
    for networks in a.networks:
        found = []
        for wanted in REPORTED:
            device = next(device for device in devices if device.name == wanted.format(batch))
            found.append(rows.row(f"{device.name} {networks}", partial(at_nasbench201, space, device, networks, a.draws), quiet=True))
        names = [name for name in found[0] if name != "key"]
        print(f"\n{networks} networks measured, mean of {a.draws} draws: Spearman, within 10 %\n\n| device | {' | '.join(names)} |")
        print("|---" * (len(names) + 1) + "|")
        for row in found:
            print(f"| {row['key'].split()[0]} | " + " | ".join(f"{row[name][0]:.3f}, {row[name][1]:.2f}" for name in names) + " |")
        means = {name: np.mean([row[name] for row in found], axis=0) for name in names}
        print("| **mean** | " + " | ".join(f"{means[name][0]:.4f}, {means[name][1]:.3f}" for name in names) + " |")


@cache
def here() -> tuple[LatencyTable, Any]:
    """This host's table, and multiply-accumulates."""
    network = nasbench201((3, 32, 32), 10)
    return measure_blocks(network.space, network.parts()), macs(network.space, network.parts())


def at_nasbench201(space: Any, device: MeasuredDevice, networks: int, draws: int) -> dict[str, list[float]]:
    """See `compared`."""
    return compared(space, device, networks, draws, *here())


def compared(space: Any, device: MeasuredDevice, networks: int, draws: int, table: Cost, cost: Cost) -> dict[str, list[float]]:
    """All of them on the same draws; `table` is this host's, `cost` multiply-accumulates."""
    X, logs = device.population, np.log(device.milliseconds)
    columns = {"ridge on options": one_hot(space.sizes).fit_transform(X)}
    host = np.log(table(X))[:, None]
    columns["ridge on counts and host"] = np.concatenate([host, option_counts(space, X)], axis=1)
    columns = {name: (part - part.mean(axis=0)) / part.std(axis=0) for name, part in columns.items()}
    columns |= {"this host alone": host, "multiply-accumulates": np.log(cost(X))[:, None]}
    scores: dict[str, list[tuple[float, float]]] = {}
    for draw in range(draws):
        taken = np.random.default_rng([0, draw]).choice(len(X), networks, replace=False)
        left = np.setdiff1d(np.arange(len(X)), taken)
        predicted = {"ours": np.log(LikeThisHost(space, table).fit(X[taken], device.milliseconds[taken]).predict(X[left]))}
        for name, part in columns.items():
            predicted[name] = Ridge(PENALTY if part.shape[1] > 1 else 1e-6).fit(part[taken], logs[taken]).predict(part[left])
        for name, values in predicted.items():
            told = float(spearmanr(values, logs[left]).statistic), within(np.exp(values), device.milliseconds[left])
            scores.setdefault(name, []).append(told)
    return {name: np.mean(values, axis=0).tolist() for name, values in scores.items()}


if __name__ == "__main__":
    main()
