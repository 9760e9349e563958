"""Runs beside one another, on one page: what each delivered, under which budget, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evonas import plot
from evonas.errors import UsageError
from evonas.files import inside, read_json
from evonas.units import format_quantity
from recipes.runner.pages.front import FRONT, delivered
from recipes.runner.pages.one_shot import chance, named
from recipes.runner.pages.page import Picture, write_page
from recipes.runner.run_folder import finished, read_config, read_result, readable

Delivered = dict[str, Any]

LATENCY, HERE = "latency", "the host of the run"


def write_comparison(runs: Sequence[str | Path], page: str | Path) -> Path:
    """Write a page that shows runs side by side.

    Args:
        runs: folders of finished runs; one that searched a front shows every network that it delivered.
        page: file to write.

    Raises:
        UsageError: fewer than two runs, one is not finished or delivers no network, or its files are damaged.
    """
    if len(runs) < 2:
        raise UsageError(f"Got {len(runs)} run; expected at least two to compare.")
    names = _names([Path(run) for run in runs])
    rows = [row for name, run in zip(names, runs, strict=True) for row in _delivered(Path(run), name)]
    devices = list(dict.fromkeys(row["device"] for row in rows))
    costs = [cost for cost in rows[0]["costs"] if all(math.isfinite(row["costs"].get(cost, math.nan)) for row in rows)]
    costs = [cost for cost in costs if cost != LATENCY or len(devices) == 1]  # milliseconds of two devices belong on no one axis
    images = []
    for cost in costs:
        unit = rows[0]["units"].get(cost, "")
        found = {name: [(row["costs"][cost], row["test"], row["network"]) for row in rows if row["run"] == name] for name in names}
        images.append(Picture("", f"Test accuracy against {cost}", plot.compared(found, cost, unit)))
    path = Path(page)
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for the page; expected one that is there.")
    data = list(dict.fromkeys(row["data"] for row in rows))
    every = list(dict.fromkeys(cost for row in rows for cost in row["costs"]))
    return write_page(
        path.parent,
        "compare.html",
        page=path.name,
        images=images,
        rows=rows,
        costs=every,
        data=data,
        devices=devices,
        runs=names,
        config={},
    )


def _names(runs: Sequence[Path]) -> list[str]:
    """The names of run folders; where two have the same, with as much of their paths as tells them apart."""
    parts = [run.resolve().parts for run in runs]
    depth = next((n for n in range(1, max(map(len, parts)) + 1) if len({p[-n:] for p in parts}) == len(parts)), None)
    if depth is None:
        raise UsageError("One run was given twice; expected different runs to compare.")
    return ["/".join(part[-depth:]) for part in parts]


def _delivered(run: Path, name: str) -> list[Delivered]:
    """What a run delivered, a row each."""
    folders = [run]
    with readable(run):
        if (run / FRONT).exists():
            folders = [inside(run, str(point["folder"])) for point in delivered(run)]
            if not folders:
                cost = read_json(inside(run, FRONT))["cost"]
                raise UsageError(f"{run} delivered no network of its front yet; expected evonas pick {run} --budget {cost}=... first.")
        return [_row(folder, name) for folder in folders]


def _row(folder: Path, name: str) -> Delivered:
    result, config = read_result(finished(folder) / "result.json"), read_config(folder)
    test = result.get("accuracy", {}).get("test")
    if test is None or not result.get("architecture"):
        raise UsageError(f"{folder} is a run of {result.get('recipe', 'mobile')}, which delivers no network; expected runs that do.")
    units = result.get("units", {})
    tested = (result.get("input") or {}).get("test_images")
    return {
        "run": name,
        "recipe": result.get("recipe", "mobile"),
        "data": named(config.get("data")),
        "budget": result.get("budget", []),
        "test": test,
        "chance": chance(test, tested),
        "costs": result.get("costs", {}),
        "units": units,
        "told": {cost: format_quantity(value, units.get(cost, "")) for cost, value in result.get("costs", {}).items()},
        "scored": result.get("baseline", {}).get("evaluations"),
        "seed": result.get("seed"),
        "said": result.get("said", ""),
        "device": (result.get("latency") or {}).get("device", HERE),
        "lines": plot.in_lines(result["architecture"]),
        "network": plot.under_the_mouse(result["architecture"]),
    }
