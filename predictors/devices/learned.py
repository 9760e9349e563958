"""The latency of a device as a cost, learned from a few measurements on it and from devices that were measured before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import make_pipeline

from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from evonas.tables import Part, TooWide
from predictors.devices.known import FEWEST_ALONE, FEWEST_TO_LEARN, KnownDevices, MeasuredDevice, read_device, read_devices
from predictors.devices.table import LatencyTable, Residual, additive
from predictors.devices.transfer import DeviceTransfer

Floats = npt.NDArray[np.float64]

FOLDS = 20
ENOUGH = 0.9


@dataclass(frozen=True)
class DeviceLatency:
    """Milliseconds of a device as a cost.

    Attributes:
        device: its name.
        model: a fitted regressor of milliseconds over populations.
        residual: how well measured networks are foretold by fits that have not seen them.
    """

    device: str
    model: Any
    residual: Residual
    unit: str = "ms"

    def __call__(self, population: Population) -> Floats:
        """Milliseconds of every row: shape (n,)."""
        return np.asarray(self.model.predict(population), dtype=np.float64)


def learned(space: SearchSpace, device: MeasuredDevice, known: Sequence[MeasuredDevice]) -> DeviceLatency:
    """The latency of a device with a few measurements and the help of known ones; from 20 measurements on, also without.

    Raises:
        UsageError: fewer than three measurements, or too few to do without known devices.
    """
    if len(device.population) < FEWEST_TO_LEARN:
        raise UsageError(
            f"The device {device.name!r} has {len(device.population)} networks; expected {FEWEST_TO_LEARN} or more, best ten. Measure more."
        )
    if len(device.population) < FEWEST_ALONE and all(len(other.population) < FEWEST_ALONE for other in known):
        raise UsageError(
            f"The device {device.name!r} has {len(device.population)} networks, and no device file beside it has {FEWEST_ALONE} to learn "
            f"from; expected {FEWEST_ALONE} networks, or the file of a device that was measured on as many in the same folder."
        )
    alone = all(len(other.population) < FEWEST_ALONE for other in known)
    features = KnownDevices(space, [device] if alone else known).fit()
    X, y = features.transform(device.population), device.milliseconds
    errors = features.errors_[0] if alone else _held_out(X, y)
    residual = Residual(len(errors), float(errors.mean()), float(errors.max()))
    return DeviceLatency(device.name, make_pipeline(features, DeviceTransfer()).fit(device.population, y), residual)


def _held_out(X: Floats, y: Floats) -> Floats:
    """Relative errors on networks that a fit to the others foretells: one at a time, or a twentieth where there are many."""
    errors = np.empty(len(y))
    for part in np.array_split(np.random.default_rng(0).permutation(len(y)), min(FOLDS, len(y))):
        others = np.setdiff1d(np.arange(len(y)), part)
        errors[part] = np.abs(DeviceTransfer().fit(X[others], y[others]).predict(X[part]) / y[part] - 1)
    return errors


def learned_table(path: Path, space: SearchSpace, parts: Sequence[Part]) -> tuple[LatencyTable, list[str]]:
    """A table for the device of a CSV file of measured networks, learned with the devices whose files lie beside it.

    The networks may lie outside of a narrowed space: they were measured before it was.

    Args:
        path: of the device file.
        space: of the networks.
        parts: of the network, see `predictors.costs.Part`.

    Returns:
        The table, and what there is to say about it.

    Raises:
        UsageError: too few networks, or latencies that no sum of blocks describes.
    """
    space = replace(space, allowed=())
    device, known = read_device(path, space), read_devices(path.parent, space, but=path.stem)
    cost = learned(space, device, known)
    table, explained = additive(space, device.name, cost, [part.choices for part in parts if part.choices])
    share = f"{100 * explained:.1f} %"
    try:
        ends = table.extremes(space)
    except TooWide as error:
        raise UsageError(f"The latency of {device.name} cannot be bounded: {error}. Give a latency table (JSON).") from None
    if table(space.population(ends)).min() <= 0:
        raise UsageError(
            f"The latencies in {path} grow so steeply that no sum of blocks describes them (the best explains {share}). Measure more "
            f"networks, or give a latency table (JSON)."
        )
    names = ", ".join(other.name for other in known) or "no other device"
    notes = [
        f"latency of {device.name}: {len(device.population)} measured networks and {names}; held out: {cost.residual}",
        f"the table that the search uses explains {share} of what was learned{'' if explained > ENOUGH else ': too little to rely on'}",
    ]
    errors = np.abs(table(device.population) / device.milliseconds - 1)
    return replace(table, residual=Residual(len(errors), float(errors.mean()), float(errors.max()))), notes
