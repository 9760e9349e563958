"""The report of a front: what every bound buys, and the networks that were delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evonas import plot
from evonas.files import inside, read_json
from evonas.units import format_quantity
from recipes.runner.pages import pictures
from recipes.runner.pages.one_shot import few, named
from recipes.runner.pages.page import Picture, write_page
from recipes.runner.run_folder import STUDIES, copied_studies, read_config, read_result, readable

FRONT, PICK = "front.json", "pick-"
SAMPLES = ("samples",)
NOTHING = (np.zeros(0), np.zeros(0))
OF_SAMPLES = (
    "Accuracy of the networks that were trained a little each, to fit the formulas that foretell all others, and test accuracy of those "
    "that were delivered, which were trained for longer."
)
CAPTION = (
    "Accuracy with inherited weights of all networks that were scored, and test accuracy of those that were delivered. "
    "The two are different things: inherited weights are shared by all."
)


def write_front(path: str | Path) -> Path:
    """Write `report.html` of a run that searched a front.

    Args:
        path: the run folder.

    Raises:
        UsageError: its files are missing or damaged.
    """
    folder = Path(path)
    with readable(folder):
        found: dict[str, Any] = read_json(inside(folder, FRONT))
        by_formula = found.get("recipe") == "flash"
        with copied_studies(folder, SAMPLES if by_formula else STUDIES[:2]) as studies:
            search, *others = (plot.Scored.of(study) for study in studies)
            control = others[0] if others else plot.Scored.of([])
        cost, unit = found["cost"], found["unit"]
        points = [{**point, "told": _told(point)} for point in delivered(folder)]
        stars = [(point["costs"][cost], point["test"]) for point in points]
        clouds = [(scored.cost(cost, unit), scored.accuracies) if len(scored) else NOTHING for scored in (search, control)]
        pictures.front(folder / "front.png", cost, unit, clouds[0], clouds[1], stars)
        shown = [(*star, plot.under_the_mouse(point["architecture"])) for star, point in zip(stars, points, strict=True)]
        figure = plot.front(search, cost, unit, control=control, delivered=shown)
        images = [Picture("front.png", OF_SAMPLES if by_formula else CAPTION, figure, few(len(search)))]
        left = [point["bound"] for point in found["points"] if not point["folder"]]
        config = read_config(folder)
        data = named(config.get("data"))
        return write_page(folder, "front.html", images=images, found=found, points=points, left=left, config=config, data=data)


def delivered(folder: Path) -> list[dict[str, Any]]:
    """The points of a front that were delivered, then what was picked: plain data each, see `told`."""
    with readable(folder):
        points = [point for point in read_json(inside(folder, FRONT))["points"] if point["folder"]]
    return points + [{"bound": file.parent.name, **told(file.parent)} for file in sorted(folder.glob(f"{PICK}*/result.json"))]


def told(folder: Path) -> dict[str, Any]:
    """What became of a point, as plain data; {"folder": None} where it is not delivered."""
    if not (folder / "result.json").exists():
        return {"folder": None}
    result = read_result(folder / "result.json")
    costs = {name: result[name] for name in ("costs", "units", "architecture")}
    return {"folder": folder.name, "test": result["accuracy"]["test"], **costs}


def _told(point: dict[str, Any]) -> dict[str, str]:
    return {name: format_quantity(value, point["units"][name]) for name, value in point["costs"].items()}
