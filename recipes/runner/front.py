"""The whole front in one search, and networks at several points of it.

One supernet, one search for accuracy and a cost at once. A point is a bound on that cost: its network is found, trained and delivered by a
run of its own, in a folder inside of the run's, which begins with the best networks of the search that keep the bound and scores a few
dozens more. It takes the supernet, the latency table and the teacher of the first run. `evonas pick` makes another such run later, for any
budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from evonas import Budget, Explorer, ParetoBayesianExplorer, ParetoExplorer, SearchResult, check_reachable, parse_bounds, profile
from evonas.budget import Cost, RequestedBound
from evonas.errors import UsageError, unknown
from evonas.explorers.pareto import pareto_front
from evonas.files import file_name, inside, read_json, write_json
from evonas.space import Population, SearchSpace
from evonas.study import History
from recipes.runner import options as o
from recipes.runner.asked import Asked, AskedOneShot
from recipes.runner.movements import LATENCY
from recipes.runner.pages.front import FRONT, PICK, told, write_front
from recipes.runner.progress import say
from recipes.runner.registry import RECIPES
from recipes.runner.run_folder import JOURNAL, STUDIES, RunFolder, copied_studies, read_config, readable

POINTS, PICKED, KNOWN = 5, 100, 50  # points, unless they are named; networks that a pick scores; those of the search among them
ALL, NONE = "all", "none"
POINT_DIGITS = 4

FrontOf = Annotated[
    str | None,
    typer.Option("--front", help="Search for accuracy against this cost (latency, macs, params) at once, and deliver several networks."),
]
At = Annotated[
    str | None, typer.Option("--at", help="With --front: the bounds that networks are wanted for, such as 4ms,6ms,8ms; five spread ones.")
]
Deliver = Annotated[
    str | None,
    typer.Option("--deliver", help="With --front: how many of them are trained, the dearest first: all, a number, or none (evonas pick)."),
]
KnownRun = Annotated[
    str | None, typer.Option("--known", help="Run folder whose search is gone on with: its best networks that keep the budget come first.")
]


@dataclass(frozen=True, kw_only=True)
class AskedPoints(Asked):
    """A run that may deliver networks at several points of a front."""

    front: FrontOf = None
    at: At = None
    deliver: Deliver = None

    def check_points(self) -> None:
        """Refuse what does not belong together.

        Raises:
            UsageError: it does not.
        """
        if self.front is None and (self.at is not None or self.deliver is not None):
            raise UsageError("Got --at or --deliver without --front, which says the cost; expected, for example, --front latency.")
        if self.deliver not in (None, ALL, NONE) and not (self.deliver or "").isdigit():
            raise UsageError(f"Got --deliver {self.deliver}; expected all, none, or a number.")
        for text in self.points:
            RequestedBound.parse(f"{self.front}={text}")

    @property
    def points(self) -> list[str]:
        """The bounds that were named."""
        return [text.strip() for text in self.at.split(",")] if self.at else []

    def wanted(self, points: int) -> int:
        """How many of so many points are delivered."""
        return {None: points, ALL: points, NONE: 0}[self.deliver] if self.deliver in (None, ALL, NONE) else min(int(self.deliver), points)


@dataclass(frozen=True, kw_only=True)
class AskedFront(AskedPoints, AskedOneShot):
    """A run that may search the whole front, or go on from one that did."""

    known: KnownRun = None

    def __post_init__(self) -> None:
        """Refuse what does not belong together before anything else is done."""
        super().__post_init__()
        self.check_points()
        if self.front is not None and self.storage is not None:
            raise UsageError("Got --front with --storage; expected one worker, whose trials are kept in the run folder.")
        if self.known_run is not None and not (self.known_run / JOURNAL).exists():
            raise UsageError(f"There are no trials of a search in {self.known}; expected the folder of a run.")

    @property
    def known_run(self) -> Path | None:
        """See `AskedOneShot.known_run`."""
        return None if self.known is None else Path(self.known)


def multi_objective(explorer: Explorer, budget: Budget, cost: str, seed: int) -> Explorer:
    """The explorer of the recipe where it knows of fronts, and NSGA-II in place of any other.

    Raises:
        UsageError: no such cost.
    """
    if cost not in budget.costs:
        raise unknown("cost for --front", cost, sorted({*budget.costs, LATENCY}))
    if isinstance(explorer, ParetoBayesianExplorer):
        size = explorer.generation_size
        return ParetoBayesianExplorer(explorer.space, budget, predictor=explorer.predictor, costs=[cost], seed=seed, generation_size=size)
    return ParetoExplorer(explorer.space, budget, costs=[cost], seed=seed)


def require_points(asked: AskedFront, space: SearchSpace, budget: Budget, of: Callable[[str, Cost], float] | None = None) -> None:
    """Refuse a point that no network keeps, before anything is trained.

    Args:
        of: what shares are shares of, see `OneShot.shares_of`.

    Raises:
        UsageError: the point, and what can be reached.
    """
    for point in asked.points:
        known = None if of is None else lambda name: of(name, budget.costs[name])
        bounds = parse_bounds([RequestedBound.parse(f"{asked.front}={point}")], space, budget.costs, of=known)
        kept = [bound for bound in budget.bounds if bound.cost != asked.front]
        check_reachable(space, narrow := Budget(budget.costs, [*kept, *bounds]), profile(space, narrow))


def best_known(run: Path, space: SearchSpace, budget: Budget) -> Population:
    """The best networks of another run's search that keep a budget, the best first: shape (at most 50, choices).

    Raises:
        UsageError: the run has no trials here.
    """
    with copied_studies(run, STUDIES[:1]) as (study,):
        history = History.of_trials(study.get_trials(deepcopy=False), space)
    rows = history.population[history.scored]
    return rows[budget.feasible(rows)][:KNOWN]


def finish(run: RunFolder, asked: AskedFront, budget: Budget, found: SearchResult) -> None:
    """The front into `front.json`, a run for every point that is wanted, and the report."""
    cost, history = str(asked.front), found.history
    scored = history.scored
    costs = np.asarray(budget.costs[cost](history.population[scored]), dtype=np.float64)
    front = pareto_front(costs, history.scores[scored])
    unit = budget.costs[cost].unit
    bounds = [f"{cost}={point}" for point in asked.points or spread(costs[front], unit)]
    names = [history.space.to_names(history.population[scored[i]]) for i in front]
    networks = [
        {"architecture": name, "score": float(history.scores[scored[i]]), "cost": float(costs[i])}
        for name, i in zip(names, front, strict=True)
    ]
    arguments = dict(asked.arguments) | {"device": asked.device, "fresh": asked.fresh, "peers": asked.peers}

    def make(bound: str, folder: Path) -> None:
        RECIPES[asked.recipe].make(**picked(arguments, run.path, [bound], folder))

    page = deliver_points(run, asked, unit, networks, bounds, make)
    say(f"the front: {page}; another point of it: evonas pick {asked.out} --budget {cost}=...")


def deliver_points(
    run: RunFolder, asked: AskedPoints, unit: str, networks: list[dict[str, Any]], bounds: list[str], make: Callable[[str, Path], None]
) -> Path:
    """Deliver the points that are wanted, the dearest first; write `front.json` and the report, and return the page.

    Args:
        unit: of the cost.
        networks: of the front: {"architecture", "score", "cost"} each.
        bounds: the points, the dearest last.
        make: delivers the network of a bound into a folder.

    Raises:
        UsageError: no network could be delivered. One that cannot is told, and left out.
    """
    wanted = asked.wanted(len(bounds))
    content: dict[str, Any] = {"recipe": asked.recipe, "cost": asked.front, "unit": unit, "points": []}
    content["front"] = sorted(networks, key=lambda network: network["cost"])
    say(f"front: {len(networks)} networks; {wanted} of {len(bounds)} points will be trained: {', '.join(bounds)}")
    failed: list[UsageError] = []
    for i, bound in reversed(list(enumerate(bounds))):
        folder = run / folder_of("at-", [bound])
        if i >= len(bounds) - wanted:
            try:
                make(bound, folder)
            except UsageError as error:  # the others are worth having
                failed.append(error)
                say(f"{bound}: {error} It is left out.")
        content["points"].insert(0, {"bound": bound, **told(folder)})
    if failed and len(failed) == wanted:
        raise failed[0]
    write_json(run / FRONT, content)
    return write_front(run.path)


def folder_of(prefix: str, budget: Sequence[str]) -> str:
    """What the run of a point is called."""
    return file_name(prefix + "-".join(bound.replace("=", "-").replace("%", "-percent") for bound in budget))


def spread(costs: np.ndarray, unit: str) -> list[str]:
    """Five bounds over the costs of a front, each as many times the one before; the last is the dearest."""
    ends = np.geomspace(costs.min(), costs.max(), POINTS + 1)[1:]
    up = [value * (1 + 10.0 ** -(POINT_DIGITS - 1)) for value in ends]  # rounded, the dearest still keeps its bound
    return [np.format_float_positional(value, precision=POINT_DIGITS, fractional=False, trim="-") + unit for value in up]


def picked(arguments: dict[str, Any], run: Path, budget: Sequence[str], out: Path) -> dict[str, Any]:
    """Options of the run that picks a network of another run under a budget, whose bounds replace those on the same costs."""
    replaced = {RequestedBound.parse(bound).cost for bound in budget}
    kept = [bound for bound in arguments.get("budget", []) if RequestedBound.parse(bound).cost not in replaced]
    own = {"out": str(out), "budget": [*kept, *budget], "front": None, "at": None, "deliver": None, "known": str(run)}
    scored = min(arguments.get("evaluations", PICKED), PICKED)
    return {**arguments, **own, "from_run": arguments.get("from_run") or str(run), "evaluations": scored, "storage": None, "study": None}


def pick(
    run: Annotated[str, typer.Argument(help="A run folder with a supernet: of evonas mobile, spos or shrink.")],
    budget: o.Bounds,
    out: Annotated[
        str | None, typer.Option(help="Run folder of what is picked; in RUN, named after the budget, unless told otherwise.")
    ] = None,
    fresh: o.Fresh = False,
    device: o.Device = "auto",
) -> None:
    """Deliver another network of a run: the best of its search under another budget, trained as its winner was.

    The supernet, the latency table and the teacher are those of the run. Bounds replace its bounds on the same costs.

    Example: evonas pick runs/front --budget latency=5ms
    """
    source = Path(run)
    if not (source / "config.json").exists():
        raise UsageError(f"There is no run in {run}; expected the folder of a run of evonas mobile, spos or shrink.")
    arguments = read_config(source)
    known = FRONT if (source / FRONT).exists() else "result.json"
    with readable(source):
        recipe = str(read_json(inside(source, known)).get("recipe", "mobile")) if (source / known).exists() else "mobile"
    if "known" not in arguments:
        raise UsageError(
            f"{run} is a run of evonas {recipe} or of an earlier version, of which nothing can be picked; expected mobile, spos or shrink."
        )
    folder = Path(out) if out else source / folder_of(PICK, budget)
    RECIPES.pick(recipe).make(**picked(arguments, source, budget, folder), fresh=fresh, device=device)
    if (source / FRONT).exists():
        write_front(source)  # shows it as well
