"""The report of a finished `flash` run: what the formulas believed, and what training and measuring said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from sklearn.pipeline import make_pipeline

from evonas import History
from evonas.files import inside
from predictors import DegreeAccuracy, measures, nn_degree
from predictors.devices.known import read_device
from predictors.flash.hardware import read_hardware
from recipes.runner.pages import pictures
from recipes.runner.pages.one_shot import cost_rows, few, named
from recipes.runner.pages.page import Picture, write_page
from recipes.runner.run_folder import copied_studies, finished, read_config, read_result
from supernet import skip_cells
from supernet.spaces.skip import SkipFamily


def accuracy_model(family: SkipFamily, history: History) -> tuple[Any, float]:
    """The curve over NN-Degree through trained networks, and its Kendall tau with them."""
    population, scores = history.population[history.scored], history.scores[history.scored]
    degree = measures(lambda rows: nn_degree(*family.cells(rows), family.connection))
    model = make_pipeline(degree, DegreeAccuracy()).fit(population, scores)
    return model, float(kendalltau(model.predict(population), scores).statistic)


def write_flash_report(path: str | Path) -> Path:
    """Write `report.html` and its pictures, from what stands in the run folder alone.

    Raises:
        UsageError: the run has no result.
    """
    folder = finished(path)
    result, config = read_result(folder / "result.json"), read_config(folder)
    shape = dict(result["family"])
    family = skip_cells(tuple(shape.pop("image_shape")), shape.pop("classes"), **shape)
    with copied_studies(folder, ["samples"]) as (samples,):
        history = History.of(samples, family.space)
    model, _ = accuracy_model(family, history)
    winner = np.array([family.space.from_names(result["architecture"])])
    population, scores = history.population[history.scored], history.scores[history.scored]
    degrees = nn_degree(*family.cells(population), family.connection)
    own = float(nn_degree(*family.cells(winner), family.connection)[0])
    at = np.linspace(min(degrees.min(), own), max(degrees.max(), own), 200)
    curve = (at, *model[-1].predict(at[:, None], return_std=True))
    pictures.accuracy_against_degree(folder / "fit.png", degrees, scores, curve, (own, result["accuracy"]["predicted"]))
    images = [
        Picture("fit.png", f"Accuracy against NN-Degree: {len(scores)} networks trained, and the curve through them", note=few(len(scores)))
    ]
    if (folder / "latency.csv").exists():
        device = read_device(inside(folder, "latency.csv"), family.space)
        predicted = read_hardware(inside(folder, "hardware.json"), family.totals)["latency"](device.population)
        measured = result["measured_ms"]
        star = None if measured is None else (result["costs"]["latency"], measured)
        pictures.latency_against_measured(folder / "latency.png", predicted, device.milliseconds, star)
        images.append(Picture("latency.png", f"The latency model against {len(predicted)} measured networks"))
    options = list(result["architecture"].values())[1:]
    cells = list(zip(options[::2], options[1::2], strict=True))
    data = named(config.get("data"))
    return write_page(
        folder,
        "flash.html",
        result=result,
        config=config,
        images=images,
        rows=cost_rows(result),
        cells=cells,
        data=data,
    )
