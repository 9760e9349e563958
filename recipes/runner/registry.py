"""`RECIPES`, the list of recipes, and the decorator that puts one into it and makes it a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from evonas.errors import UsageError, unknown
from evonas.redaction import redacted
from evonas.registry import Entry, Registry
from evonas.storage import storage_url
from recipes.runner.progress import show_whole

NOT_ASKED = ("recipe", "arguments")
NOT_KEPT = ("out", "fresh", "device", "trust_storage", "artifacts", "peers", "dry_run")


@dataclass(frozen=True)
class RecipeEntry(Entry[Callable[..., Any]]):
    """A recipe; `make` runs it.

    Attributes:
        page: writes `report.html` of a finished run folder and returns its path.
        team: whether it trains with many processes under `torchrun`.
        outputs: patterns of the files that it leaves in a run folder beside those of every run.
    """

    page: Callable[[Path], Path]
    team: bool = False
    outputs: tuple[str, ...] = ()


RECIPES: Registry[RecipeEntry] = Registry("recipe", "recipes")


def recipe(
    name: str, *, summary: str, page: Callable[[Path], Path], paper: str = "", team: bool = False, outputs: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the command `evonas NAME`.

    Its first parameter is what was asked for: `recipes.runner.asked.Asked` or a subclass, whose fields become options. Its other parameters
    become options too; annotate them as typer does. Its docstring is the help. The decorated function takes all options as keywords.

    Args:
        name, summary, paper: as in `evonas.registry.Entry`.
        page, team, outputs: as in `RecipeEntry`.
    """

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        command = _command(name, run)
        RECIPES.add(RecipeEntry(name, summary, paper, command, page, team, outputs))
        return command

    return register


def _command(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """The recipe as a function of its options."""
    asked, *own = inspect.signature(run, eval_str=True).parameters.values()
    kind, hints = asked.annotation, get_type_hints(asked.annotation, include_extras=True)
    shared = [field for field in fields(kind) if field.init and field.name not in NOT_ASKED]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field, name), annotation=hints[field.name])
        for field in shared
    ]
    options += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    signature = inspect.Signature(options)

    @functools.wraps(run)
    def command(**given: Any) -> None:
        if strange := [option for option in given if option not in signature.parameters]:
            raise unknown(f"option of the recipe {name}", strange[0], signature.parameters)
        bound = signature.bind(**given)
        bound.apply_defaults()
        values = bound.arguments
        arguments = {key: _plain(value) for key, value in values.items() if key not in NOT_KEPT}
        if arguments.get("storage"):
            arguments["storage"] = redacted(storage_url(arguments["storage"]))
        require_in_range(hints, own, values)
        try:
            run(
                kind(**{field.name: values[field.name] for field in shared}, recipe=name, arguments=arguments),
                **{parameter.name: values[parameter.name] for parameter in own},
            )
        finally:
            show_whole(None)

    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command


def require_in_range(hints: Mapping[str, Any], own: Sequence[inspect.Parameter], values: Mapping[str, Any]) -> None:
    """What the command line checks itself, for those who call a recipe from Python.

    Raises:
        UsageError: a number is too small for its option.
    """
    annotations = {**hints, **{parameter.name: parameter.annotation for parameter in own}}
    for name, value in values.items():
        for option in getattr(annotations[name], "__metadata__", ()):
            least = getattr(option, "min", None)
            if least is not None and isinstance(value, int | float) and not value >= least:
                raise UsageError(f"Got {name}={value}; expected at least {least}.")


def default_out(recipe: str) -> str:
    """The run folder of a recipe, unless told otherwise."""
    return f"runs/{recipe}"


def _plain(value: Any) -> Any:
    """What is kept of an option: a network in hand, which only Python can give, by the name of its class."""
    return type(value).__name__ if hasattr(value, "state_dict") else value


def _default(field: Field[Any], recipe: str) -> Any:
    if field.name == "out":
        return default_out(recipe)
    return field.default if field.default_factory is MISSING else field.default_factory()
