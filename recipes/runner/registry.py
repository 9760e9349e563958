"""`RECIPES`, the list of recipes, and the decorator that puts one into it and makes it a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from evonas.redaction import redacted
from evonas.registry import Entry, Registry
from evonas.storage import storage_url

NOT_ASKED = ("recipe", "arguments")
NOT_KEPT = ("out", "fresh", "device", "trust_storage", "artifacts", "peers")


@dataclass(frozen=True)
class RecipeEntry(Entry[Callable[..., None]]):
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
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as the command `evonas NAME`.

    Its first parameter is what was asked for: `recipes.runner.asked.Asked` or a subclass, whose fields become options. Its other parameters
    become options too; annotate them as typer does. Its docstring is the help. The decorated function takes all options as keywords.

    Args:
        name, summary, paper: as in `evonas.registry.Entry`.
        page, team, outputs: as in `RecipeEntry`.
    """

    def register(run: Callable[..., None]) -> Callable[..., None]:
        command = _command(name, run)
        RECIPES.add(RecipeEntry(name, summary, paper, command, page, team, outputs))
        return command

    return register


def _command(name: str, run: Callable[..., None]) -> Callable[..., None]:
    """The recipe as a function of its options."""
    asked, *own = inspect.signature(run, eval_str=True).parameters.values()
    kind, hints = asked.annotation, get_type_hints(asked.annotation, include_extras=True)
    shared = [field for field in fields(kind) if field.name not in NOT_ASKED]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field, name), annotation=hints[field.name])
        for field in shared
    ]
    options += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    signature = inspect.Signature(options)

    @functools.wraps(run)
    def command(**given: Any) -> None:
        bound = signature.bind(**given)
        bound.apply_defaults()
        values = bound.arguments
        arguments = {key: value for key, value in values.items() if key not in NOT_KEPT}
        if arguments.get("storage"):
            arguments["storage"] = redacted(storage_url(arguments["storage"]))
        run(
            kind(**{field.name: values[field.name] for field in shared}, recipe=name, arguments=arguments),
            **{parameter.name: values[parameter.name] for parameter in own},
        )

    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command


def _default(field: Field[Any], recipe: str) -> Any:
    if field.name == "out":
        return f"runs/{recipe}"
    return field.default if field.default_factory is MISSING else field.default_factory()
