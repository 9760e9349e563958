"""NSE: a search space that evolves: a few operators a layer at a time, of which those of the best networks stay, and new ones follow.

Ci et al., "Evolving Search Space for Neural Architecture Search", 2021, arXiv 2011.10904. Every round trains a supernet of its own: its
gates learn which operators are worth their cost, networks are drawn from them, what earlier rounds found is scored again, and the operators
of the Pareto front go into the next round. A run in the second pool continues a finished one in the first.

Departures: networks are drawn within the budget and not in a band around it, from most of it up; scores are log-likelihoods; the networks
of the last round are fused with what is counted, and the best few train a little before one is chosen. Layers run at most two operators.
What rounds are worth beside one supernet of everything: docs/evidence/nse.md.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

from evonas import Budget, DistributionExplorer, open_study, search
from evonas.budget import Cost
from evonas.errors import UsageError
from evonas.explorers.pareto import pareto_front
from evonas.files import read_json, write_json
from evonas.sampling import draw_feasible
from evonas.space import Population, SearchSpace
from evonas.study import attribute_name
from evonas.subspaces import Subspaces, first_subspaces
from predictors import costs
from recipes.runner import options as o
from recipes.runner.asked import AskedOneShot
from recipes.runner.final_training import AVERAGE
from recipes.runner.forecast import training_seconds
from recipes.runner.one_shot import OneShot, Preparation, one_shot
from recipes.runner.pages.one_shot import write_report
from recipes.runner.progress import bar, say
from recipes.runner.registry import recipe
from recipes.runner.run_folder import JOURNAL, RunFolder, copied_studies, read_result
from recipes.runner.training import train_into
from supernet import ImageData, InheritedFitness, load, pick_device
from supernet.branch_chain import BranchSupernet
from supernet.branch_operators import POOLS
from supernet.initialisation import initialise
from supernet.spaces.branches import branches
from supernet.training.gates import GatedBranches

AIM, BAND = 0.95, 0.8  # of a bound: what gates learn to meet, and from where networks are drawn
GATES_LR, WEIGHT = 0.05, 10.0  # of a short training: gates of the paper's 60,000 steps move by 0.005 a step
CALIBRATION = 512

Pool = Annotated[str, typer.Option(help=f"Operators to try: {', '.join(POOLS)} (with grouped convolutions, after a run in the first).")]
Operators = Annotated[int, typer.Option("--operators", help="Operators of a layer in a round (K).", min=2)]
Branches = Annotated[int, typer.Option("--branches", help="Operators that a layer runs at most.", min=1)]
Rounds = Annotated[int, typer.Option(help="Rounds, each with a supernet of its own.", min=1)]
Continued = Annotated[str | None, typer.Option("--continue", help="Folder of a finished run of evonas nse, whose operators are kept.")]
RoundEpochs = Annotated[int, typer.Option("--epochs", help="Epochs of every round.", min=1)]


@recipe(
    "nse",
    summary="a search space that evolves, with several operators a layer",
    paper="Ci et al. 2021, arXiv 2011.10904",
    page=write_report,
    outputs=("round*.pt", "round*.json"),
)
def nse(
    asked: AskedOneShot,
    pool: Pool = "first",
    operators: Operators = 5,
    most: Branches = 2,
    rounds: Rounds = 3,
    continued: Continued = None,
    layout: o.Layout = None,
    widths: o.Widths = None,
    depths: o.Depths = None,
    epochs: RoundEpochs = 40,
    retrain_epochs: o.RetrainEpochs = None,
    batch_size: o.BatchSize = 64,
    lr: o.LearningRateBySize = None,
) -> None:
    """Search a large pool of operators in rounds: every round trains a supernet of a few of them, and keeps those of its best networks.

    Layers may run several operators side by side. The networks that every round scored are trials of the studies round1, round2, ... in
    study.log, those of the last round of the study search; round1.json, ... say what was kept. The winner is trained on its own
    and written to the run folder: model.pt, model.onnx, result.json, report.html.

    Example: evonas nse --data digits --budget macs=600k --epochs 20 --out runs/nse
    """
    if asked.storage is not None:
        raise UsageError("The rounds of evonas nse are trained by one process; expected no --storage.")
    where = pick_device(asked.device)
    images = load(asked.data, image_size=asked.image_size)
    settings: dict[str, Any] = {"pool": pool, "most": most, "layout": layout, "widths": o.numbers(widths), "depths": o.numbers(depths)}
    settings = {name: value for name, value in settings.items() if value}
    supernet = branches(images.image_shape, len(images.classes), **settings, seed=asked.seed)
    if operators > supernet.laid_out.operators:
        raise UsageError(f"Got {operators} operators a round; expected at most the {supernet.laid_out.operators} of the pool {pool}.")
    subspaces, front = begun(supernet, operators, continued, asked.seed)
    training = o.training_by_size(images.image_shape, batch_size, lr, asked.seed, where)
    counted = costs.counted(supernet.space, supernet.parts())
    last = Evolution(supernet, subspaces, front)

    def within(limits: Budget) -> GatedBranches:
        last.limits = limits
        last.way = GatedBranches(supernet, targets(limits), weight=WEIGHT, lr=GATES_LR)
        return last.way

    def prepare(run: RunFolder) -> None:
        if asked.from_run is not None:
            return
        for number in range(1, rounds):
            settled = {"pool": pool, "round": number, "operators": operators, "continued": continued, **settings}
            last.round(run, number, images, settled, {**training, "seed": asked.seed + number, "epochs": epochs}, asked)
        last.narrow()

    job = OneShot(
        supernet=supernet,
        family="branches",
        space=settings,
        way=last.way,
        way_within=within,
        explorer=lambda limits: DistributionExplorer(supernet.space, limits, draw=last.draw, seed=asked.seed, first=last.front),
        training={**training, "epochs": epochs},
        retraining={**training, "epochs": retrain_epochs or epochs, "average": AVERAGE},
        costs=counted,
        trained_as={"family": "branches", "operators": operators, "rounds": rounds, "continued": continued},
        preparation=Preparation(
            "earlier rounds",
            prepare,
            lambda: (rounds - 1) * training_seconds(supernet, last.way, images.train, **training, epochs=epochs),
        ),
    )
    one_shot(job, images, asked)


class Evolution:
    """Where the rounds of a run stand.

    Attributes:
        supernet: of the last round; those before have the same space, and weights of their own.
        subspaces: of the round that comes next.
        front: the networks that the next round scores first: shape (n, choices).
        way: of the last round.
        limits: of the run.
    """

    def __init__(self, supernet: BranchSupernet, subspaces: Subspaces, front: Population) -> None:
        self.supernet, self.subspaces, self.front = supernet, subspaces, front
        self.way, self.limits = GatedBranches(supernet), Budget()

    def draw(self, networks: int, rng: np.random.Generator) -> Population:
        """From the gates of the last round."""
        return self.way.gates.population(self.supernet.space, networks, rng)

    def narrow(self) -> None:
        """The last round is next: its supernet gets its subspaces."""
        self.supernet.space = self._space()
        self.way.kept = self._kept()

    def round(
        self, run: RunFolder, number: int, images: ImageData, settled: dict[str, Any], training: dict[str, Any], asked: AskedOneShot
    ) -> None:
        """Train a round's supernet, score networks with it, and go on with the operators of its front; or read what it came to."""
        file, space, laid_out = run / f"round{number}.json", self.supernet.space, self.supernet.laid_out
        if not file.exists():
            own = copy.deepcopy(self.supernet)
            initialise(own, asked.seed + number)
            own.space = self._space()
            way = GatedBranches(own, targets(self.limits), weight=WEIGHT, lr=GATES_LR, kept=self._kept())
            what = f"round {number}"
            train_into(run / f"round{number}.pt", what, own, way, images.train, identity=settled, **training)
            found = scored(run, number, own, way, self.front, images, banded(own, self.limits, asked.seed), training["device"], asked)
            found["never_tried"] = self.subspaces.never_tried
            found["operators"] = {name: sorted(kept) for name, kept in self._named(self.subspaces.current).items()}
            write_json(file, found)
            (run / f"round{number}.pt").unlink()  # nothing reads it again
        front = read_json(file)["front"]
        self.front = space.population([space.from_names(entry["architecture"]) for entry in front])
        self.subspaces = self.subspaces.evolved(laid_out.sets(self.front))
        kept = sum(map(len, self.subspaces.kept))
        say(f"round {number}: {len(front)} networks on the front keep {kept} operators; {self.subspaces.never_tried} are left to try")

    def _space(self) -> SearchSpace:
        laid_out = self.supernet.laid_out
        return laid_out.narrowed(self.supernet.space, self.subspaces.allowed(laid_out.operators))

    def _kept(self) -> npt.NDArray[np.bool_]:
        return replace(self.subspaces, current=self.subspaces.kept).allowed(self.supernet.laid_out.operators)

    def _named(self, operators: Sequence[Sequence[int]]) -> dict[str, list[str]]:
        choices = self.supernet.space.choices[:: self.supernet.laid_out.branches]
        return {choice.name.rsplit(".", 1)[0]: [choice.options[o] for o in each] for choice, each in zip(choices, operators, strict=True)}


def begun(supernet: BranchSupernet, size: int, continued: str | None, seed: int) -> tuple[Subspaces, Population]:
    """The first subspaces, and the networks that are scored first: none, or the front of the run that is continued.

    Raises:
        UsageError: the run that is continued is none of `evonas nse` with these layers and a smaller pool.
    """
    laid_out, rng, space = supernet.laid_out, np.random.default_rng([seed, 5]), supernet.space
    if continued is None:
        return first_subspaces(laid_out.layers, laid_out.operators, size, rng), np.zeros((0, len(space)), dtype=np.int64)
    result = read_result(Path(continued) / "result.json")
    with copied_studies(Path(continued), ["search"]) as (study,):
        trials = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    known = len(POOLS["first"])
    if not trials or set(trials[0].params) != set(space.names) or known == laid_out.operators:
        raise UsageError(f"{continued} is no run of evonas nse with the same layers and branches in the first pool; expected one.")
    bounds: dict[str, Any] = result["bounds"]
    name = next(iter(bounds), "macs")
    cost = np.array([trial.user_attrs[attribute_name(name, result["units"][name])] for trial in trials])
    scores = np.array([trial.value for trial in trials])
    scores[
        cost < BAND * (bounds.get(name, {}).get("upper") or 0.0)
    ] = -np.inf  # as in the rounds, the front is that of networks near the bound
    front = space.population([space.from_names(trials[i].params) for i in pareto_front(cost, scores)])
    kept = tuple(tuple(np.flatnonzero(used).tolist()) for used in np.any(laid_out.sets(front), axis=0).tolist())
    return Subspaces(size, kept, kept, ((),) * laid_out.layers).continued(known, laid_out.operators, rng), front


def targets(limits: Budget) -> dict[str, tuple[Cost, float]]:
    """What the gates learn to meet: most of every upper bound."""
    return {bound.cost: (limits.costs[bound.cost], AIM * bound.upper) for bound in limits.bounds if bound.upper < np.inf}


def banded(supernet: BranchSupernet, limits: Budget, seed: int) -> Budget:
    """The budget, from most of its first upper bound up, unless nothing is there."""
    upper = [bound for bound in limits.bounds if bound.upper < np.inf]
    if not upper:
        return limits
    bounds = [replace(bound, lower=max(bound.lower, BAND * bound.upper)) if bound is upper[0] else bound for bound in limits.bounds]
    band = Budget(limits.costs, bounds)
    return band if len(draw_feasible(supernet.space, band, 1, np.random.default_rng(seed))) else limits


def scored(
    run: RunFolder,
    number: int,
    supernet: BranchSupernet,
    way: GatedBranches,
    front: Population,
    images: ImageData,
    budget: Budget,
    where: torch.device,
    asked: AskedOneShot,
) -> dict[str, Any]:
    """Networks from the gates, beside the front so far, scored with the weights of a round: the trials of its study, and the new front."""
    fitness = InheritedFitness(supernet, images.search.head(len(images.search)), images.train.head(CALIBRATION), device=where)
    first = front[budget.feasible(front)] if len(front) else front
    explorer = DistributionExplorer(
        supernet.space, budget, draw=lambda n, rng: way.gates.population(supernet.space, n, rng), seed=asked.seed, first=first
    )
    with bar(f"score round {number}") as update:
        history = search(
            supernet.space,
            fitness.likelihood,
            explorer,
            evaluations=asked.evaluations,
            study=open_study(run / JOURNAL, f"round{number}"),
            budget=budget,
            on_progress=lambda done, best: update(done / asked.evaluations, f"best {best:.2f}"),
        ).history
    cost = budget.costs[budget.bounds[0].cost if budget.bounds else "macs"](history.population)
    members = pareto_front(cost, history.scores)
    drawn = way.gates.population(supernet.space, 1000, np.random.default_rng(0))
    return {
        "front": [
            {"architecture": supernet.space.to_names(history.population[i]), "cost": float(cost[i]), "score": float(history.scores[i])}
            for i in members
        ],
        "median": {name: float(np.median(limited(drawn))) for name, limited in budget.costs.items()},
        "distribution": way.told(supernet.space),
    }
