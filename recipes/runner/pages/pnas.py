"""The report of a finished `pnas` run: what was trained level by level, and the cell that won."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evonas.cells import cell_sizes
from evonas.study import History, space_of
from recipes.runner.pages import pictures
from recipes.runner.pages.one_shot import cost_rows, named
from recipes.runner.pages.page import Picture, write_page
from recipes.runner.run_folder import copied_studies, finished, read_config, read_result


def levels_of(grown: History, random: History) -> list[dict[str, Any]]:
    """For every level what was trained: how many, mean and best accuracy; last, random cells of the largest size."""
    sizes, rows = cell_sizes(grown.population), []
    for size in sorted(set(sizes.tolist())):
        scores = grown.scores[sizes == size]
        scores = scores[np.isfinite(scores)]
        if len(scores):
            rows.append({"level": f"{size}", "networks": len(scores), "mean": float(scores.mean()), "best": float(scores.max())})
    found = random.scores[random.scored]
    if len(found):
        rows.append({"level": "random", "networks": len(found), "mean": float(found.mean()), "best": float(found.max())})
    return rows


def write_pnas_report(path: str | Path) -> Path:
    """Write `report.html` and its picture, from what stands in the run folder alone.

    Raises:
        UsageError: the run has no result.
    """
    folder = finished(path)
    result, config = read_result(folder / "result.json"), read_config(folder)
    with copied_studies(folder, ["search", "baseline"]) as (search, baseline):
        space = space_of(search)
        grown, random = (History.of(study, space) for study in (search, baseline))
    pictures.levels(folder / "levels.png", cell_sizes(grown.population), grown.scores, cell_sizes(random.population), random.scores)
    images = [Picture("levels.png", "Networks in the order in which they were trained; random cells of the largest size beside them")]
    cell = [
        (number, *(result["architecture"][f"block{number}.{part}"] for part in ("input1", "op1", "input2", "op2")))
        for number in range(1, int(result["architecture"]["blocks"]) + 1)
    ]
    data = named(config.get("data"))
    return write_page(folder, "pnas.html", result=result, config=config, images=images, rows=cost_rows(result), cell=cell, data=data)
