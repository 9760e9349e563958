"""The pictures of a gap report, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evonas.ranking import TOP, best
from recipes.runner.pages.pictures import CONTROL, LIMIT, MARK, SEARCH, TEXT, Floats, drawn, save, sheet


@drawn
def shared_against_alone(path: Path, shared: Floats, alone: Floats) -> None:
    """Accuracies in [0, 1] of every network, shape (n,); the true best tenth stands out."""
    figure, axes = sheet(figsize=(5.6, 4.4))
    top = best(alone, TOP)
    axes.scatter(100 * shared[~top], 100 * alone[~top], s=14, color=SEARCH, alpha=0.6, linewidths=0, label="networks")
    axes.scatter(100 * shared[top], 100 * alone[top], s=16, color=MARK, alpha=0.9, linewidths=0, label="true best tenth")
    axes.set_xlabel("accuracy with shared weights (%)")
    axes.set_ylabel("accuracy on its own (%)")
    axes.legend(loc="lower right", fontsize=9)
    save(figure, path)


@drawn
def correlations(path: Path, diagnosis: Mapping[str, Any]) -> None:
    """Tau of the supernet with its interval and of the baselines, over all networks and inside the true top tenth."""
    own, ceiling = diagnosis["supernet"], diagnosis["truth"]["ceiling"]
    rankings = {"accuracy": own, **diagnosis["variants"]}
    names = [*(f"supernet, {name}" for name in rankings), *diagnosis["baselines"]]
    figure, panels = sheet(1, 2, figsize=(7.6, 0.42 * len(names) + 1.6), sharey=True)
    for axes, title, key, share in ((panels[0], "all networks", "tau", "1"), (panels[1], "true best tenth", "tau_in_true_top", "0.1")):
        values = [found[key] for found in (*rankings.values(), *diagnosis["baselines"].values())]
        at = np.arange(len(names))[::-1]
        axes.barh(
            at, [value or 0.0 for value in values], color=[SEARCH] * len(rankings) + [CONTROL] * len(diagnosis["baselines"]), height=0.62
        )
        if key == "tau":
            for y, found in zip(at, rankings.values(), strict=False):
                low, high = found["interval"]
                if low is None or found["tau"] is None:
                    continue
                axes.errorbar(found["tau"], y, xerr=[[found["tau"] - low], [high - found["tau"]]], color=TEXT, capsize=3, linewidth=1)
            axes.axvspan(-own["null_band"], own["null_band"], color="#eeeeee", zorder=0)
        if ceiling[share] is not None:
            axes.axvline(ceiling[share], color=LIMIT, linestyle="--", linewidth=1.2)
            axes.text(ceiling[share], len(names) - 0.45, "noise ceiling", color=LIMIT, fontsize=8, ha="center", va="bottom")
        axes.set_yticks(at, names)
        axes.axvline(0, color=TEXT, linewidth=0.8)
        axes.set_xlabel(f"Kendall tau, {title}")
        axes.grid(axis="y", visible=False)
    save(figure, path)


@drawn
def overrated(path: Path, options: Mapping[str, Mapping[str, float | None]]) -> None:
    """A square for every choice and option; red where networks that take it are ranked too high, blue where too low."""
    names = list(dict.fromkeys(option for effects in options.values() for option in effects))
    values = np.array([[effects.get(name) if effects.get(name) is not None else np.nan for name in names] for effects in options.values()])
    values = values.astype(float)
    limit = max(float(np.nanmax(np.abs(values))), 1.0)
    figure, axes = sheet(figsize=(1.15 * len(names) + 2.4, 0.42 * len(options) + 1.5))
    axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if abs(value) > 0.6 * limit else TEXT
            axes.text(column, row, f"{value:+.0f}", ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(options)), list(options))
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    save(figure, path)


@drawn
def causes(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """From the tau with a cause present to that with it removed, an arrow each."""
    found = [cause for cause in found if cause["effect"] is not None]  # the report asks for this picture only where one is known
    figure, axes = sheet(figsize=(6.4, 0.5 * len(found) + 1.4))
    for at, cause in enumerate(reversed(found)):
        start, end = cause["tau_present"], cause["tau_removed"]
        axes.annotate("", (end, at), (start, at), arrowprops={"arrowstyle": "-|>", "color": SEARCH if end >= start else LIMIT, "lw": 2})
        axes.scatter([start], [at], color=CONTROL, zorder=3, s=30)
        axes.text(max(start, end), at + 0.22, f"{end - start:+.3f}", fontsize=8, color=TEXT, ha="right")
    taus = [cause[key] for cause in found for key in ("tau_present", "tau_removed")]
    axes.set_xlim(min(taus) - 0.06, max(taus) + 0.06)
    axes.set_ylim(-0.6, len(found) - 0.3)
    axes.set_yticks(range(len(found)), [cause["name"] for cause in reversed(found)])
    axes.set_xlabel("Kendall tau: present (dot), removed (arrow)")
    save(figure, path)


@drawn
def swings(path: Path, stability: Mapping[str, Any]) -> None:
    """Tau over the last epochs and over the last steps, side by side."""
    shown = [name for name in ("epochs", "steps") if name in stability]
    figure, panels = sheet(1, len(shown), figsize=(3.4 * len(shown) + 0.6, 3.2), sharey=True, squeeze=False)
    for axes, name in zip(panels[0], shown, strict=True):
        taus = stability[name]["gt_taus"]
        axes.plot(np.arange(-len(taus) + 1, 1), np.array(taus, dtype=float), color=SEARCH, linewidth=1.6, marker="o", markersize=3)
        if stability[name]["gt_tau_mean"] is not None:
            axes.axhline(stability[name]["gt_tau_mean"], color=CONTROL, linestyle=":", linewidth=1.2)
        axes.set_xlabel(f"{name} before the end")
    panels[0][0].set_ylabel("Kendall tau with the truth")
    save(figure, path)
