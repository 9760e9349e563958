"""The devices that were measured: what is in a folder of device files, and how like each other they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from scipy.stats import spearmanr

from evonas.errors import UsageError, first_line
from evonas.space import Choice, SearchSpace
from predictors.devices.known import FEWEST_ALONE, FEWEST_TO_LEARN, MILLISECONDS, KnownDevices, MeasuredDevice, read_device
from recipes.runner.progress import console, say

FEWEST_COMMON, SAMPLED = 5, 1000


def devices(folder: Annotated[str, typer.Argument(help="A folder of device files (CSV), as evonas measure writes them.")]) -> None:
    """Show the devices in a folder: how many networks were measured on each, and which devices rank networks alike.

    A new device is foretold from those that it is like. To add one, measure it into the folder (evonas measure) or copy its file there.
    Devices of different spaces cannot be compared (-).

    Example: evonas devices devices/
    """
    found = _devices(Path(folder))
    table = Table("device", "networks", "fastest", "slowest", *(device.name for _, device in found), title="Spearman correlation")
    for space, device in found:
        alike = ["" if other is device else _alike(space, device, other) if there == space else "-" for there, other in found]
        ends = (f"{end:.3g} ms" for end in (device.milliseconds.min(), device.milliseconds.max()))
        table.add_row(device.name, str(len(device.population)), *ends, *alike)
    console.print(table)
    if few := [device.name for _, device in found if len(device.population) < FEWEST_ALONE]:
        say(f"measured on fewer than {FEWEST_ALONE} networks, which is too few to teach others: {', '.join(few)}")


def _devices(folder: Path) -> list[tuple[SearchSpace, MeasuredDevice]]:
    """Each with the space that the files of its columns span together.

    Raises:
        UsageError: there is none, or a file cannot be read.
    """
    options: dict[tuple[str, ...], list[set[str]]] = {}
    columns: dict[Path, tuple[str, ...]] = {}
    for path in sorted(folder.glob("*.csv")):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *rows = [row for row in csv.reader(file) if row]
        except (OSError, ValueError, csv.Error) as error:
            raise UsageError(f"Cannot read {path}: {first_line(error)}. Expected a device file.") from None
        if MILLISECONDS not in header or any(len(row) != len(header) for row in rows):
            raise UsageError(f"{path} is no device file; expected a column for every choice, and {MILLISECONDS}.")
        names = tuple(name for name in header if name != MILLISECONDS)
        columns[path] = tuple(sorted(names))
        known = options.setdefault(columns[path], [set() for _ in names])
        for k, name in enumerate(columns[path]):
            known[k] |= {row[header.index(name)] for row in rows}
    if not columns:
        raise UsageError(f"There is no device file in {folder}; expected CSV files, as evonas measure writes them.")
    spaces = {
        names: SearchSpace(tuple(Choice(name, tuple(sorted(told))) for name, told in zip(names, found, strict=True)))
        for names, found in options.items()
    }
    return [(spaces[names], read_device(path, spaces[names])) for path, names in columns.items()]


def _alike(space: SearchSpace, one: MeasuredDevice, other: MeasuredDevice) -> str:
    """By the networks that both have run; else by what a device of enough networks is smoothed to."""
    at = {key: i for i, key in enumerate(map(tuple, other.population.tolist()))}
    both = [(i, at[key]) for i, key in enumerate(map(tuple, one.population.tolist())) if key in at]
    if len(both) >= FEWEST_COMMON:
        mine, theirs = zip(*both, strict=True)
        return f"{spearmanr(one.milliseconds[list(mine)], other.milliseconds[list(theirs)]).statistic:.2f}"
    if min(len(one.population), len(other.population)) < FEWEST_TO_LEARN or max(len(one.population), len(other.population)) < FEWEST_ALONE:
        return "-"
    features = KnownDevices(space, [one, other]).fit().transform(space.sample(SAMPLED, np.random.default_rng(0)))
    return f"~{spearmanr(features[:, 0], features[:, 1]).statistic:.2f}"
