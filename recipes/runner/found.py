"""What a run found, for Python and notebooks: `evonas.find(...)`, whatever the recipe.

Everything is read from the run folder when it is asked for, so that `Found("runs/digits")` opens a run of yesterday as well.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from evonas.errors import UsageError
from evonas.files import inside
from evonas.study import score_of
from evonas.units import format_quantity

if TYPE_CHECKING:
    from torch import nn

WIDEST_PICTURE = 640  # pixels


class Found:
    """A finished run.

    Args:
        folder: of the run.

    Raises:
        UsageError: from what is asked for, where the run is not finished or has none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        if front := self.front:
            return f"Found({self.folder}: {len(front)} networks of a front)"
        if not (self.folder / "result.json").exists():
            return f"Found({self.folder}: not finished)"
        return f"Found({self.folder}: {self._in_words()})"

    @property
    def result(self) -> dict[str, Any]:
        """All of `result.json`."""
        from recipes.runner.run_folder import finished, read_result

        return read_result(finished(self.folder) / "result.json")

    @property
    def network(self) -> nn.Module:
        """The trained network, a plain module in evaluation mode: images normalised as `model.pt` says in, logits out."""
        from recipes.runner.delivery import load_model

        return load_model(self.folder / "model.pt")

    @property
    def architecture(self) -> dict[str, str]:
        """The option of every choice, by names."""
        return dict(self._told("architecture"))

    @property
    def costs(self) -> dict[str, float]:
        """What the network costs: latency in ms, energy in mJ, the others as plain numbers."""
        return dict(self._told("costs"))

    @property
    def accuracy(self) -> float:
        """On the test images, in [0, 1]."""
        return float(self._told("accuracy")["test"])

    @property
    def front(self) -> list[Found]:
        """What a run with `front=` delivered, in the order of its points, then what was picked; empty for a run for one budget."""
        from recipes.runner.pages.front import FRONT, delivered

        points = delivered(self.folder) if (self.folder / FRONT).exists() else []
        return [Found(inside(self.folder, str(point["folder"]))) for point in points]

    @property
    def study(self) -> optuna.Study:
        """The search, for `optuna.visualization` and the like. `studies` has the others."""
        studies = self.studies
        return studies["search"] if "search" in studies else next(iter(studies.values()))

    @property
    def studies(self) -> dict[str, optuna.Study]:
        """All studies of the run folder that hold trials, by name: the search, its random baseline, the finalists."""
        from evonas.storage import open_storage
        from recipes.runner.run_folder import storage_of

        opened = open_storage(storage_of(self.folder, None))
        summaries = optuna.get_all_study_summaries(opened)
        found = {s.study_name: optuna.load_study(study_name=s.study_name, storage=opened) for s in summaries if s.n_trials}
        if not found:
            raise UsageError(f"{self.folder} holds no trials; run its command to the end of the search.")
        return found

    def trials(self) -> Any:
        """The trials of the search as a data frame of pandas, best first: choices, costs, score, accuracy with inherited weights."""
        try:
            import pandas
        except ImportError:
            raise UsageError(
                "A data frame needs pandas; expected the extra: pip install 'evonas[notebook]'. `study` has the trials."
            ) from None
        rows = [
            {"number": trial.number, "score": score_of(trial), "state": trial.state.name, **trial.user_attrs, **trial.params}
            for trial in self.study.get_trials(deepcopy=False)
        ]
        frame = pandas.DataFrame(rows).set_index("number")
        return frame.sort_values("score", ascending=False)

    def report(self) -> Path:
        """The page that says what the search was worth, made where it is not there."""
        from recipes.runner.registry import RECIPES

        page = self.folder / "report.html"
        return page if page.exists() else RECIPES.pick(self.result.get("recipe", "mobile")).page(self.folder)

    def _told(self, what: str) -> Any:
        result = self.result
        if what not in result:
            raise UsageError(f"The recipe {result.get('recipe')} tells no {what}; expected a run that delivers a network. See `result`.")
        return result[what]

    def _in_words(self) -> str:
        result = self.result
        test = result.get("accuracy", {}).get("test")
        units = result.get("units", {})
        told = [] if test is None else [f"{100 * test:.2f} % of the test images"]
        told += [f"{name} {format_quantity(value, units.get(name, ''))}" for name, value in result.get("costs", {}).items()]
        if bounds := result.get("budget"):
            told.append(f"budget {', '.join(bounds)}")
        return ", ".join(told) or str(result.get("said", "finished"))

    def _repr_html_(self) -> str:
        """What a notebook shows: the result, the first picture of the report, and where the rest is."""
        if not (self.folder / "result.json").exists():
            return html.escape(repr(self))
        lines = [f"<p><b>{html.escape(str(self.folder))}</b>: {html.escape(self._in_words())}</p>"]
        if said := self.result.get("said"):
            lines.append(f"<p>{html.escape(str(said))}</p>")
        for picture in sorted(self.folder.glob("accuracy_*.png"))[:1]:
            content = base64.b64encode(picture.read_bytes()).decode()
            lines.append(f"<img style='max-width: {WIDEST_PICTURE}px' src='data:image/png;base64,{content}'>")
        lines.append(f"<p>All about it: <code>{html.escape(str(self.folder / 'report.html'))}</code></p>")
        return "".join(lines)


def find(data: str | os.PathLike[str], *budget: str, recipe: str = "mobile", **options: Any) -> Found:
    """Run a recipe: what `evonas RECIPE --data DATA --budget BOUND ...` does, with bars that work in notebooks.

    The same call again goes on where a run was interrupted, or returns at once what a finished one found.

    Example:
        result = evonas.find("photos/", "macs=30M", "latency=8ms", out="runs/phone")

    Args:
        data: `digits`, `cifar10`, ..., a folder of images, or an .npz file.
        budget: bounds, `macs=30M`, `latency=8ms`, `params=1M..2M`, `latency=30%`.
        recipe: whose options the others are, `evonas list` has all.
        options: as on the command line, `retrain_epochs=60`, `out="runs/phone"`, `fresh=True`.

    Raises:
        UsageError: what the command line would say.
    """
    from recipes.runner.registry import RECIPES, default_out

    if budget:
        options["budget"] = [*options.get("budget", []), *budget]
    with _quiet():
        RECIPES.pick(recipe).make(data=os.fspath(data), **options)
    return Found(options.get("out") or default_out(recipe))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line of Optuna's for every trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
