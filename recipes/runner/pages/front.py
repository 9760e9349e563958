"""The report of a front: what every bound buys, and the networks that were delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evonas.files import inside, read_json
from evonas.study import History, space_of
from evonas.units import format_quantity
from recipes.runner.pages import pictures
from recipes.runner.pages.page import write_page
from recipes.runner.run_folder import STUDIES, copied_studies, read_config, read_result, readable

FRONT, PICK = "front.json", "pick-"


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
        clouds = []
        with copied_studies(folder, STUDIES[:2]) as studies:
            space = space_of(studies[0])
            for study in studies:
                trials = study.get_trials(deepcopy=False)
                history = History.of_trials(trials, space)
                kept = [trials[int(history.numbers[position])].user_attrs for position in history.scored]
                clouds.append((np.array([a[found["cost"]] for a in kept]), np.array([a["accuracy"] for a in kept])))
        points = [{**point, "told": _told(point)} for point in delivered(folder)]
        stars = [(point["costs"][found["cost"]], point["test"]) for point in points]
        pictures.front(folder / "front.png", found["cost"], found["unit"], clouds[0], clouds[1], stars)
        left = [point["bound"] for point in found["points"] if not point["folder"]]
        return write_page(folder, "front.html", found=found, points=points, left=left, config=read_config(folder))


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
