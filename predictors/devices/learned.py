"""The latency of a device as a cost, learned from a few measurements on it and from devices that were measured before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from evonas.budget import Cost
from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from evonas.tables import Part, TooWide
from predictors.devices.alone import LikeThisHost
from predictors.devices.known import FEWEST_ALONE, FEWEST_TO_LEARN, KnownDevices, MeasuredDevice, read_device, read_devices
from predictors.devices.table import LatencyTable, Residual, additive
from predictors.devices.transfer import DeviceTransfer

Floats = npt.NDArray[np.float64]

FOLDS = 20
ENOUGH = 0.9
UNSURE = 0.1


@dataclass(frozen=True)
class DeviceLatency:
    """Milliseconds of a device as a cost.

    Attributes:
        device: its name.
        model: a fitted regressor of milliseconds over populations.
        residual: how well measured networks are foretold by fits that have not seen them.
        by: what it was learned with beside its own measurements, where that is no known device.
    """

    device: str
    model: Any
    residual: Residual
    by: str = ""
    unit: str = "ms"

    def __call__(self, population: Population) -> Floats:
        """Milliseconds of every row: shape (n,)."""
        return np.asarray(self.model.predict(population), dtype=np.float64)


def learned(
    space: SearchSpace, device: MeasuredDevice, known: Sequence[MeasuredDevice], host: Callable[[], Cost] | None = None
) -> DeviceLatency:
    """The latency of a device with a few measurements and the help of known ones; of this host where no other is known.

    From 20 measurements on it does without any help where that foretells held-out networks better.

    Args:
        space: of the networks.
        device: what is learned.
        known: devices that were measured before.
        host: gives milliseconds of this host; asked only where no device with 20 networks is known.

    Raises:
        UsageError: fewer than three measurements, or too few to do without known devices and without a host.
    """
    if len(device.population) < FEWEST_TO_LEARN:
        raise UsageError(
            f"The device {device.name!r} has {len(device.population)} networks; expected {FEWEST_TO_LEARN} or more, best ten. Measure more."
        )
    alone = all(len(other.population) < FEWEST_ALONE for other in known)
    if len(device.population) < FEWEST_ALONE and alone and host is None:
        raise UsageError(
            f"The device {device.name!r} has {len(device.population)} networks, and no device file beside it has {FEWEST_ALONE} to learn "
            f"from; expected {FEWEST_ALONE} networks, or the file of a device that was measured on as many in the same folder."
        )
    y, fits = device.milliseconds, list[tuple[Any, Floats]]()
    if alone and host is not None and (here := _asked(host, needed=len(y) < FEWEST_ALONE)) is not None:
        like_this_host = LikeThisHost(space, here)
        fits.append((like_this_host, _held_out(like_this_host, device.population, y)))
    if not alone or len(y) >= FEWEST_ALONE:
        features = KnownDevices(space, [device] if alone else known).fit()
        X = features.transform(device.population)
        errors = features.errors_[0] if alone else _held_out(DeviceTransfer(), X, y)
        fits.append((make_pipeline(features, DeviceTransfer()), errors))
    model, errors = min(fits, key=lambda fit: float(fit[1].mean()))
    residual = Residual(len(errors), float(errors.mean()), float(errors.max()))
    return DeviceLatency(device.name, model.fit(device.population, y), residual, by="this host" if isinstance(model, LikeThisHost) else "")


def _asked(host: Callable[[], Cost], *, needed: bool) -> Cost | None:
    """What the host says; a host that cannot be measured is nothing where it can be done without."""
    try:
        return host()
    except UsageError:
        if needed:
            raise
        return None


def _held_out(model: Any, X: npt.NDArray[Any], y: Floats) -> Floats:
    """Relative errors on networks that a fit to the others foretells: one at a time, or a twentieth where there are many."""
    errors = np.empty(len(y))
    for part in np.array_split(np.random.default_rng(0).permutation(len(y)), min(FOLDS, len(y))):
        others = np.setdiff1d(np.arange(len(y)), part)
        errors[part] = np.abs(clone(model, safe=False).fit(X[others], y[others]).predict(X[part]) / y[part] - 1)
    return errors


def learned_table(
    path: Path, space: SearchSpace, parts: Sequence[Part], host: Callable[[], Cost] | None = None
) -> tuple[LatencyTable, list[str]]:
    """A table for the device of a CSV file of measured networks, learned with the devices whose files lie beside it.

    The networks may lie outside of a narrowed space: they were measured before it was.

    Args:
        path: of the device file.
        space: of the networks.
        parts: of the network, see `predictors.costs.Part`.
        host: gives milliseconds of this host, see `learned`.

    Returns:
        The table, and what there is to say about it.

    Raises:
        UsageError: too few networks, or latencies that no sum of blocks describes.
    """
    space = replace(space, allowed=())
    device, known = read_device(path, space), read_devices(path.parent, space, but=path.stem)
    cost = learned(space, device, known, host)
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
    names = cost.by or ", ".join(other.name for other in known) or "no other device"
    notes = [
        f"latency of {device.name}: {len(device.population)} measured networks and {names}; held out: {cost.residual}",
        f"the table that the search uses explains {share} of what was learned{'' if explained > ENOUGH else ': too little to rely on'}",
    ]
    if cost.residual.mean > UNSURE:
        notes.append(
            f"note: {100 * cost.residual.mean:.0f} % is much; the same evonas measure with --networks {2 * len(device.population)} adds "
            f"{len(device.population)} that say most"
        )
    errors = np.abs(table(device.population) / device.milliseconds - 1)
    return replace(table, residual=Residual(len(errors), float(errors.mean()), float(errors.max()))), notes
