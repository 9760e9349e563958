"""The page of a finished `gap` run: what the supernet's ranking is worth, and where and why it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recipes.runner.pages import gap_pictures as pictures
from recipes.runner.pages.page import Picture, write_page
from recipes.runner.run_folder import finished, read_config, read_result

ENOUGH_IN_TOP = 20
NOISY = 0.3


def write_gap_report(path: str | Path) -> Path:
    """Write `report.html` and its pictures, from what stands in the run folder alone.

    Raises:
        UsageError: the run has no result.
    """
    folder = finished(path)
    result, config = read_result(folder / "result.json"), read_config(folder)
    diagnosis = result["diagnosis"]
    shared, alone = (np.array(result["accuracies"][side]) for side in ("shared", "alone"))
    images = [
        _drawn(
            pictures.shared_against_alone, folder / "gap_scatter.png", "Every network, with shared weights and on its own", shared, alone
        ),
        _drawn(
            pictures.correlations, folder / "gap_taus.png", "Rank correlation with the truth, beside scores that cost little", diagnosis
        ),
        _drawn(
            pictures.overrated, folder / "gap_options.png", "Percentiles by which options are overrated", diagnosis["profile"]["options"]
        ),
    ]
    if any(cause["effect"] is not None for cause in diagnosis["causes"]):
        text = "Rank correlation with a cause present and with it removed"
        images.append(_drawn(pictures.causes, folder / "gap_causes.png", text, diagnosis["causes"]))
    if any(name in diagnosis["stability"] for name in ("epochs", "steps")):
        text = "64 networks ranked at the ends of the last epochs and after each of the last steps, with running statistics"
        images.append(_drawn(pictures.swings, folder / "gap_stability.png", text, diagnosis["stability"]))
    details = {cause["name"]: _readable(cause["details"]) for cause in diagnosis["causes"]}
    said = in_one_line(diagnosis)
    return write_page(folder, "gap.html", result=result, config=config, images=images, said=said, details=details, **diagnosis)


def in_one_line(diagnosis: dict[str, Any]) -> str:
    """What the diagnosis comes to."""
    own, ceiling = diagnosis["supernet"], diagnosis["truth"]["ceiling"]["1"]
    text = f"Kendall tau {number(own['tau'])}"
    if own["tau"] is not None:
        text += f" ({own['interval'][0]:.2f} to {own['interval'][1]:.2f})"
    if own["top_networks"] >= ENOUGH_IN_TOP:
        text += f", {number(own['tau_in_true_top'])} inside the true top tenth"
    rivals = {name: found["tau"] for name, found in diagnosis["baselines"].items() if found["tau"] is not None and name != "random"}
    if rivals:
        best = max(rivals, key=lambda name: abs(rivals[name]))
        text += f"; best cheap score: {'small ' if rivals[best] < 0 else ''}{best} {abs(rivals[best]):.3f}"
    if ceiling is not None:
        text += f"; ceiling {ceiling:.3f}" + (
            " (the truth is mostly noise: train networks longer, or more often)" if ceiling < NOISY else ""
        )
    cause = next((cause for cause in diagnosis["causes"] if cause["name"] == diagnosis["largest_cause"]), None)
    if cause is not None:
        text += f"; largest cause: {cause['name']} ({cause['effect']:+.3f} when removed)"
    elif diagnosis["causes"]:
        text += "; no cause beyond noise"
    return text


def number(value: float | None) -> str:
    """Three digits, or that it is not known."""
    return "not known" if value is None else f"{value:.3f}"


def _readable(value: Any) -> str:
    """Figures by name, in one line: numbers with three digits, names with what stands under them in brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key} ({_readable(v)})" if isinstance(v, dict) else f"{key} {_readable(v)}" for key, v in value.items()).replace(
            "_", " "
        )
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _drawn(draw: Any, file: Path, caption: str, *content: Any) -> Picture:
    draw(file, *content)
    return Picture(file.name, caption)
