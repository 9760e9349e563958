"""The page of a finished `gap` run: what the supernet's ranking is worth, and where and why it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from evonas.files import read_json, written_whole
from recipes import gap_pictures as pictures
from recipes.run_folder import finished


def write_gap_report(path: str | Path) -> Path:
    """Write `report.html` and its pictures, from what stands in the run folder alone.

    Raises:
        UsageError: the run has no result.
    """
    folder = finished(path)
    result, config = read_json(folder / "result.json"), read_json(folder / "config.json")
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
    if diagnosis["causes"]:
        text = "Rank correlation with a cause present and with it removed"
        images.append(_drawn(pictures.causes, folder / "gap_causes.png", text, diagnosis["causes"]))
    if any(name in diagnosis["stability"] for name in ("epochs", "steps")):
        text = "The same ranking at the ends of the last epochs, and after each of the last steps"
        images.append(_drawn(pictures.swings, folder / "gap_stability.png", text, diagnosis["stability"]))
    details = {cause["name"]: _readable(cause["details"]) for cause in diagnosis["causes"]}
    page = jinja2.Environment(loader=jinja2.PackageLoader("recipes"), autoescape=True).get_template("gap.html")
    text = page.render(
        name=folder.name, result=result, config=config, images=images, said=in_one_line(diagnosis), details=details, **diagnosis
    )
    with written_whole(folder / "report.html") as temporary:
        temporary.write_text(text)
    return folder / "report.html"


def in_one_line(diagnosis: dict[str, Any]) -> str:
    """What the diagnosis comes to."""
    own, ceiling = diagnosis["supernet"], diagnosis["truth"]["ceiling"]["1"]
    rivals = {name: found["tau"] for name, found in diagnosis["baselines"].items() if found["tau"] is not None}
    best = max(rivals, key=lambda name: rivals[name])
    low, high = own["interval"]
    inside = "unknown" if own["tau_in_true_top"] is None else f"{own['tau_in_true_top']:.3f}"
    text = f"Kendall tau {own['tau']:.3f} ({low:.2f} to {high:.2f}), {inside} inside the true top tenth; "
    text += f"best cheap score: {best} {rivals[best]:.3f}"
    if ceiling is not None:
        text += f"; ceiling {ceiling:.3f}"
    cause = next((cause for cause in diagnosis["causes"] if cause["name"] == diagnosis["largest_cause"]), None)
    return text if cause is None else f"{text}; largest cause: {cause['name']} ({cause['effect']:+.3f} when removed)"


def _readable(value: Any) -> str:
    """Figures by name, in one line: numbers with three digits, names with what stands under them in brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key} ({_readable(v)})" if isinstance(v, dict) else f"{key} {_readable(v)}" for key, v in value.items()).replace(
            "_", " "
        )
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _drawn(draw: Any, file: Path, caption: str, *content: Any) -> tuple[str, str]:
    draw(file, *content)
    return file.name, caption
