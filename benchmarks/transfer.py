"""Latency of a device from ten measured networks: a device is left out together with every setting of the same hardware.

Mean over draws of the networks that are measured: Spearman correlation on all other networks, and the share of them predicted within
10 %. Beside it ridge regression on the raw log latencies of the other devices (penalty 0.1, the best of .01, .1, 1, 3 on the devices
that are reported).

    OMP_NUM_THREADS=2 python benchmarks/transfer.py --data DATA
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from rows import Rows
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from evonas import Choice, SearchSpace
from evonas.tabular import nasbench201, nasbench201_latency, read_arrays
from predictors.devices.known import KnownDevices, MeasuredDevice
from predictors.devices.transfer import DeviceTransfer, worth_measuring

REPORTED = ("titan_rtx_{}", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss", "pixel3", "samsung_a50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--networks", type=int, default=10, help="measured on the new device")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_transfer"))
    a = parser.parse_args()
    for name, (space, devices, batch) in {"NAS-Bench-201": cells(a.data), "FBNet": fbnet(a.data)}.items():
        known = KnownDevices(space, devices).fit()
        rows = Rows(a.out / f"{name}-{a.networks}.jsonl")
        logs = np.stack([np.log(device.milliseconds) for device in devices], axis=1)
        smooth = known.transform(devices[0].population)
        found = []
        for wanted in REPORTED:
            new = next(i for i, device in enumerate(devices) if device.name == wanted.format(batch))
            others = [i for i, device in enumerate(devices) if hardware(device.name) != hardware(devices[new].name)]
            found.append(rows.row(devices[new].name, partial(compared, a, smooth[:, others], logs[:, others], devices[new]), quiet=True))
        print(f"\n{name}, {a.networks} networks measured, mean of {a.draws} draws\n")
        print("| device | ridge, Spearman | ours | ridge, within 10 % | ours |\n|---|---|---|---|---|")
        for row in found:
            print("| {key} | {ridge:.3f} | {ours:.3f} (sd {sd:.3f}) | {ridge_within:.2f} | {within:.2f} |".format(**row))
        means = {key: np.mean([row[key] for row in found]) for key in found[0] if key != "key"}
        print("| **mean** | {ridge:.4f} | **{ours:.4f}** | {ridge_within:.3f} | {within:.3f} |".format(**means))
        chosen = rows.row("chosen", partial(chosen_networks, a, known, devices, batch), quiet=True)
        print(f"networks chosen by worth_measuring instead of drawn: Spearman {chosen['ours']:.4f}, within 10 % {chosen['within']:.3f}")


def cells(data: Path) -> tuple[SearchSpace, list[MeasuredDevice], int]:
    """NAS-Bench-201 on 27 device settings."""
    table = nasbench201_latency(data / "nasbench201_latency.npz", nasbench201(data / "nasbench201_accuracy.npz"))
    return table.space, [MeasuredDevice(name, table.architectures, column) for name, column in table.columns.items()], 256


def fbnet(data: Path) -> tuple[SearchSpace, list[MeasuredDevice], int]:
    """5,000 networks of the FBNet space on 27 device settings."""
    arrays = read_arrays(data / "fbnet_latency.npz", "latency_ms")
    space = SearchSpace(tuple(Choice(f"layer{i}.op", tuple(map(str, arrays["op_names"]))) for i in range(22)))
    rows = arrays["arch"].astype(np.int64)
    columns = zip(map(str, arrays["devices"]), arrays["latency_ms"].astype(np.float64).T, strict=True)
    return space, [MeasuredDevice(name, rows, column) for name, column in columns], 64


def hardware(device: str) -> str:
    """The name without the batch size."""
    name, _, batch = device.rpartition("_")
    return name if batch in ("1", "32", "64", "256") else device


def compared(a: argparse.Namespace, smooth: np.ndarray, logs: np.ndarray, device: MeasuredDevice) -> dict[str, float]:
    """Both sides on the same draws."""
    scores: dict[str, list[float]] = {"ours": [], "within": [], "ridge": [], "ridge_within": []}
    for draw in range(a.draws):
        taken = np.random.default_rng([0, draw]).choice(len(logs), a.networks, replace=False)
        left = np.setdiff1d(np.arange(len(logs)), taken)
        truth = device.milliseconds[left]
        ours = DeviceTransfer().fit(smooth[taken], device.milliseconds[taken]).predict(smooth[left])
        ridge = np.exp(Ridge(0.1).fit(logs[taken], np.log(device.milliseconds[taken])).predict(logs[left]))
        for key, predicted in (("ours", ours), ("ridge", ridge)):
            scores[key].append(float(spearmanr(predicted, truth).statistic))
        scores["within"].append(within(ours, truth))
        scores["ridge_within"].append(within(ridge, truth))
    return {**{key: float(np.mean(values)) for key, values in scores.items()}, "sd": float(np.std(scores["ours"], ddof=1))}


def chosen_networks(a: argparse.Namespace, known: KnownDevices, devices: list[MeasuredDevice], batch: int) -> dict[str, float]:
    """The mean over the reported devices when the tool says which networks of a random pool to measure."""
    smooth, correlations, shares = known.transform(devices[0].population), [], []
    for wanted in REPORTED:
        new = next(device for device in devices if device.name == wanted.format(batch))
        others = [i for i, device in enumerate(devices) if hardware(device.name) != hardware(new.name)]
        for draw in range(a.draws):
            pool = np.random.default_rng([1, draw]).choice(len(smooth), 2000, replace=False)
            taken = pool[worth_measuring(smooth[pool][:, others], a.networks)]
            left = np.setdiff1d(np.arange(len(smooth)), taken)
            predicted = DeviceTransfer().fit(smooth[taken][:, others], new.milliseconds[taken]).predict(smooth[left][:, others])
            correlations.append(float(spearmanr(predicted, new.milliseconds[left]).statistic))
            shares.append(within(predicted, new.milliseconds[left]))
    return {"ours": float(np.mean(correlations)), "within": float(np.mean(shares))}


def within(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float((np.abs(predicted / truth - 1) <= 0.1).mean())


if __name__ == "__main__":
    main()
