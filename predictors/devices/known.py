"""Devices that were measured: a file each, read and written, and all of them together as features of a new one.

A device file is CSV: a column for every choice of the space, holding option names, and a column `milliseconds`; a row is one network. The
file's name is the device's. A folder of them is what `DeviceTransfer` learns from; a device that is measured becomes one more file.

    stage0.block0.op,stage0.block1.op,milliseconds
    mb3_k3,skip,1.42
    mb6_k5,mb3_k3,2.87
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from evonas.errors import UsageError, first_line, shortened, unknown
from evonas.files import written_whole
from evonas.space import Population, SearchSpace
from predictors.accuracy.boosted import BoostedTrees
from predictors.accuracy.encoding import one_hot
from predictors.devices.transfer import DeviceTransfer

Floats = npt.NDArray[np.float64]

MILLISECONDS = "milliseconds"
FEWEST_ALONE = 20
FEWEST_TO_LEARN = 3
HELD_OUT = 5
FASTEST, SLOWEST = 1e-9, 1e9  # milliseconds that can be believed


@dataclass(frozen=True)
class MeasuredDevice:
    """Latencies of whole networks on one device.

    Attributes:
        name: of the device.
        population: shape (n, choices).
        milliseconds: shape (n,), positive.
    """

    name: str
    population: Population
    milliseconds: Floats


def read_device(path: str | Path, space: SearchSpace) -> MeasuredDevice:
    """Read a device file and check it against a space.

    Raises:
        UsageError: the file is missing, has no row, lacks, repeats or does not know a column, has a row of another length, names an
            option that its choice does not have, or holds something else than positive milliseconds.
    """
    path = Path(path)
    expected = (*space.names, MILLISECONDS)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"Cannot read {shortened(path, 200)}: {first_line(error)}. Expected a CSV file, a column a choice and {MILLISECONDS!r}."
        ) from None
    if missing := [name for name in expected if name not in columns]:
        raise UsageError(
            f"{path} lacks the column {missing[0]!r}; expected {', '.join(expected)}. A folder of devices holds files of one space."
        )
    if extra := [name for name in columns if name not in expected]:
        raise UsageError(f"{path}: {unknown('column', extra[0], expected)}")
    if len(columns) != len(expected):
        raise UsageError(f"{path} has a column twice; expected once each of {', '.join(expected)}.")
    if not rows:
        raise UsageError(f"{path} holds no network; expected a row for every network that was measured.")
    population, values = [], []
    for line, row in rows:
        if len(row) != len(columns):
            raise UsageError(f"{path}, line {line}: {len(row)} cells for {len(columns)} columns. Write decimals with a point.")
        named = dict(zip(columns, row, strict=True))
        values.append(_positive(path, line, named.pop(MILLISECONDS)))
        try:
            population.append(space.from_names(named))
        except UsageError as error:
            raise UsageError(f"{path}, line {line}: {error}") from None
    return MeasuredDevice(path.stem, space.canonical(space.population(population)), np.array(values))


def write_device(path: str | Path, space: SearchSpace, device: MeasuredDevice) -> None:
    """Write a device file, whole or not at all."""
    with written_whole(Path(path)) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*space.names, MILLISECONDS])
        for row, value in zip(device.population, device.milliseconds.tolist(), strict=True):
            writer.writerow([*space.to_names(row).values(), f"{value:.6g}"])


def read_devices(folder: str | Path, space: SearchSpace, *, but: str | None = None) -> list[MeasuredDevice]:
    """Every device file of a folder, by name.

    Args:
        folder: with CSV files.
        space: they belong to.
        but: name of a device that is left out: the new one.

    Raises:
        UsageError: a file cannot be read.
    """
    return [read_device(path, space) for path in sorted(Path(folder).glob("*.csv")) if path.stem != but]


class KnownDevices(TransformerMixin, BaseEstimator):
    """What measured devices say of any architecture of a space: one feature a device, its log latency.

    A device with 20 networks or more is smoothed by a regression over the space's options, so that its features reach architectures that it
    never ran, and carry none of its measurement noise: of ridge regression and boosted trees the one that foretells held-out networks
    better. One with fewer is foretold from the others (`DeviceTransfer`), as it was when it was new.

    Args:
        space: of the architectures.
        devices: at least one of them with 20 networks or more, all with three or more.
    """

    def __init__(self, space: SearchSpace, devices: Sequence[MeasuredDevice]) -> None:
        self.space = space
        self.devices = devices

    def fit(self, X: Any = None, y: Any = None) -> KnownDevices:
        """Smooth every device; X and y are not looked at, and a transformer that is fitted stays as it is.

        Attributes:
            models_: by position in `devices`, a fitted regressor of log milliseconds over populations, where there is one.
            transfers_: by position in `devices`, a fitted `DeviceTransfer` over the features of the models.
            errors_: for each model, the relative errors on a fifth of its device's networks, foretold from the others.

        Raises:
            UsageError: no device with enough networks, or one with fewer than three.
        """
        if hasattr(self, "models_"):
            return self
        long = [i for i, device in enumerate(self.devices) if len(device.population) >= FEWEST_ALONE]
        if not long:
            raise UsageError(f"No device was measured before; expected a device file with {FEWEST_ALONE} networks or more.")
        for device in self.devices:
            if len(device.population) < FEWEST_TO_LEARN:
                raise UsageError(
                    f"The device {device.name!r} has {len(device.population)} networks; expected {FEWEST_TO_LEARN} or more of a device to "
                    f"learn from. Measure more, or take its file away."
                )
        smoothed = [_smoothed(self.space, self.devices[i]) for i in long]
        logs = [np.log(self.devices[i].milliseconds) for i in long]
        self.mean_, self.scale_ = np.array([log.mean() for log in logs]), np.array([log.std() or 1.0 for log in logs])
        self.models_, self.errors_ = dict(zip(long, (model for model, _ in smoothed), strict=True)), [errors for _, errors in smoothed]
        self.transfers_ = {
            i: DeviceTransfer().fit(self._alone(device.population), device.milliseconds)
            for i, device in enumerate(self.devices)
            if i not in self.models_
        }
        return self

    def transform(self, X: Any) -> Floats:
        """Log latencies, standardised for each device: shape (n, devices)."""
        alone = self._alone(np.asarray(X, dtype=np.int64))
        features = np.empty((len(alone), len(self.devices)))
        features[:, list(self.models_)] = alone
        for i, transfer in self.transfers_.items():
            logs = np.log(self.devices[i].milliseconds)
            features[:, i] = (np.log(transfer.predict(alone)) - logs.mean()) / (logs.std() or 1.0)
        return features

    def _alone(self, population: Population) -> Floats:
        population = self.space.canonical(population)
        return (np.stack([model.predict(population) for model in self.models_.values()], axis=1) - self.mean_) / self.scale_


def _smoothed(space: SearchSpace, device: MeasuredDevice) -> tuple[Any, Floats]:
    """The regressor of log milliseconds that foretells a fifth of the networks better, refitted on all; and its errors there."""
    logs = np.log(device.milliseconds)
    held = np.random.default_rng(0).permutation(len(logs)) % HELD_OUT == 0
    makers: list[Callable[[], Any]] = [
        lambda: make_pipeline(one_hot(space.sizes), Ridge(1.0)),
        lambda: make_pipeline(one_hot(space.sizes), BoostedTrees(1, n_estimators=300, max_depth=5, learning_rate=0.1)),
    ]
    errors = []
    for make in makers:
        predicted = make().fit(device.population[~held], logs[~held]).predict(device.population[held])
        errors.append(np.abs(np.expm1(predicted - logs[held])))
    best = int(np.argmin([error.mean() for error in errors]))
    return makers[best]().fit(device.population, logs), errors[best]


def _positive(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not FASTEST <= value <= SLOWEST:  # NaN is neither
        raise UsageError(f"{path}, line {line}: {MILLISECONDS} holds {shortened(text)!r}; expected a positive number.")
    return value
