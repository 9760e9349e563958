"""Peers: random networks of the same budget, trained exactly as the winner, which says what the search was worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.files import read_json, write_json
from evonas.sampling import draw_feasible
from evonas.space import Architecture, SearchSpace
from recipes.runner.final_training import FinalTraining
from recipes.runner.progress import say
from recipes.runner.run_folder import RunFolder
from recipes.runner.scoring import IN_WORDS
from supernet.evaluation import accuracy

TRIED_FOR_EACH = 20


def train_peers(
    run: RunFolder,
    training: FinalTraining,
    count: int,
    space: SearchSpace,
    budget: Budget,
    measure: Callable[[Architecture], dict[str, float]],
    finish: Callable[[torch.nn.Module], None],
    seed: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Train peers, each into `peers.json` when it is done.

    Args:
        run: keeps them.
        training: the winner's.
        count: how many; none is possible.
        space, budget: random networks that keep every bound, also when they are measured whole.
        measure: costs of a finished network that replace the tables'.
        finish: what is done to the winner after its training.
        seed: of the draw.
        device: to test on.

    Returns:
        {"architecture", "costs", "test"} of each.

    Raises:
        UsageError: of twenty random networks for each peer not enough keep the budget when measured whole.
    """
    if not count:
        return []
    path = run / "peers.json"
    known: list[dict[str, Any]] = read_json(path) if path.exists() else []
    candidates = draw_feasible(space, budget, TRIED_FOR_EACH * count, np.random.default_rng([seed, 29]))
    passed = next((i + 1 for i, row in enumerate(candidates) if known and space.to_names(row) == known[-1]["architecture"]), 0)
    for row in candidates[passed:]:
        if len(known) >= count:
            break
        architecture = tuple(row.tolist())
        costs = {name: float(value[0]) for name, value in budget.values(row[None]).items()}
        costs |= measure(architecture)
        if (budget.violations_of(costs) > 0).any():
            continue
        checkpoint = run / f"peer{len(known)}.pt"
        network = training.full(checkpoint, f"peer {len(known) + 1} of {count}", architecture)
        finish(network)
        known.append({"architecture": space.to_names(row), "costs": costs, "test": accuracy(network, training.images.test, device)})
        write_json(path, known)
        for left in run.path.glob(f"{checkpoint.stem}*"):
            left.unlink()
    if len(known) < count:
        raise UsageError(f"Only {len(known)} random networks keep {budget} when measured whole; expected {count} peers. Ask for fewer.")
    return known[:count]


def standing(winner: float, peers: list[dict[str, Any]]) -> str:
    """Where the winner stands, in words."""
    accuracies = np.array([peer["test"] for peer in peers])
    ahead, spread = int((winner > accuracies).sum()), f" +- {100 * accuracies.std(ddof=1):.2f}" if len(peers) > 1 else ""
    figures = f"{100 * winner:.2f} % against {100 * accuracies.mean():.2f}{spread} %"
    return f"ahead of {ahead} of {len(peers)} random networks of its budget; {figures}"


def beside_random(score: float, control: Mapping[str, Any], ranked_by: str) -> str:
    """Whether the search beat its random baseline, in a sentence."""
    count, best = control["evaluations"], control["score"]
    if best is None:
        return "Random search found no network to compare with."
    verdict = "beat" if score > best else "did not beat"
    return (
        f"The search {verdict} random search with as many evaluations ({count}): its best score ({IN_WORDS[ranked_by]}) "
        f"is {score:.4g} against {best:.4g}; --peers N trains N random networks of the budget as the "
        f"winner was, which says more."
    )


def tell(winner: float, score: float, control: Mapping[str, Any], peers: list[dict[str, Any]], ranked_by: str) -> str:
    """One sentence on what the search was worth; printed, and part of the report."""
    sentence = standing(winner, peers) if peers else beside_random(score, control, ranked_by)
    say(sentence)
    return sentence
