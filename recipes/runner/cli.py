"""The `evonas` command: lists recipes, runs them, and shows what they did."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import optuna
import typer

from evonas.errors import UsageError, first_line, one_line, unknown
from evonas.files import obstacle
from evonas.redaction import hide
from evonas.registry import Entry
from recipes.runner import options as o
from recipes.runner.outline import documented, outlines
from recipes.runner.signals import Stopped, stoppable

Run = Annotated[str, typer.Argument(help="A run folder.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evonas {version('evonas')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)]


def options(debug: Debug = False, version: Version = False) -> None:
    """Find small, fast image networks for a stated budget.

    Start with `evonas list`, then `evonas mobile --help`.
    """


def list_all() -> None:
    """Recipes, search spaces, explorers and data sets, with the papers they come from."""
    from rich.table import Table

    from evonas.explorers import EXPLORERS
    from predictors.devices.runtimes import RUNTIMES
    from predictors.screens import SCREENS
    from recipes.runner.progress import console
    from recipes.runner.registry import RECIPES
    from supernet.loading import DATA_SETS
    from supernet.spaces import SPACES
    from supernet.training.registry import WAYS

    titles = ("recipes", "search spaces", "ways of training", "explorers", "predictors", "runtimes")
    lists: tuple[Mapping[str, Entry[Any]], ...] = (RECIPES, SPACES, WAYS, EXPLORERS, SCREENS, RUNTIMES)
    for title, entries in zip(titles, lists, strict=True):
        table = Table("name", "what it is", "paper", title=title, title_justify="left", title_style="bold")
        for item in entries.values():
            table.add_row(item.name, item.summary, item.paper)
        console.print(table)
    console.print(f"data: {', '.join(DATA_SETS)}, a folder of images, or an .npz file")


def report(run: Run) -> None:
    """Write report.html and its pictures of a finished run again, from what its folder holds."""
    from recipes.runner.pages.front import FRONT, write_front
    from recipes.runner.progress import say
    from recipes.runner.registry import RECIPES
    from recipes.runner.run_folder import finished, read_result, readable

    if (Path(run) / FRONT).exists():
        say(str(write_front(run)))
        return
    folder = finished(run)
    with readable(folder):
        say(str(RECIPES.pick(read_result(folder / "result.json").get("recipe", "mobile")).page(folder)))


def compare(
    runs: Annotated[list[str], typer.Argument(help="Folders of finished runs, two or more.")],
    out: Annotated[str, typer.Option(help="Page to write.")] = "compare.html",
) -> None:
    """Show runs side by side on one page: what they delivered, under which budgets, at what cost."""
    from recipes.runner.pages.compare import write_comparison
    from recipes.runner.progress import say

    if Path(out).suffix != ".html":
        raise UsageError(f"Got --out {out}; expected the name of a page, such as compare.html.")
    say(str(write_comparison(runs, out)))


def dashboard(
    run: Run,
    storage: Annotated[
        str | None,
        typer.Option(envvar="EVONAS_STORAGE", help="Where the trials of a run with --storage are kept: its folder does not know."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    trust_storage: o.TrustStorage = False,
) -> None:
    """Show the trials of a run, finished or not, in the Optuna dashboard (needs the extra `dashboard`)."""
    from evonas.storage import open_storage
    from recipes.runner.progress import say
    from recipes.runner.run_folder import storage_of

    try:
        import optuna_dashboard
    except ImportError:
        raise UsageError("The dashboard is not installed; expected the extra: pip install 'evonas[dashboard]'.") from None
    opened = open_storage(storage_of(Path(run), storage), trusted=trust_storage)
    say(f"dashboard of {run}: http://{host}:{port} (Ctrl-C ends it)")
    optuna_dashboard.run_server(opened, host=host, port=port)


COMMANDS: Mapping[str, Callable[..., None]] = {"list": list_all, "report": report, "compare": compare, "dashboard": dashboard}
OTHERS = {  # commands whose modules, beside this one, import torch or other things that take their time; and their functions
    "measure": ("measure.py", "measure_device"),
    "pick": ("front.py", "pick"),
    "predict": ("predict.py", "predict"),
    "export": ("export.py", "export_run"),
    "devices": ("devices.py", "devices"),
}


def application(asked: str | None) -> typer.Typer:
    """The command line. Of what imports torch, for seconds, only the command that is asked for is imported; of others the help is known."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
    app.callback()(options)
    for name, words in _recipes(asked).items():
        app.command(name, help=words)(_imported(name) if name == asked else _not_asked)
    for name, command in COMMANDS.items():
        app.command(name)(command)
    for name, (file, function) in OTHERS.items():
        words = documented(Path(__file__).with_name(file), function)
        app.command(name, help=words)(_imported(name) if name == asked else _not_asked)
    return app


def _recipes(asked: str | None) -> dict[str, str]:
    """The recipes with their help; all that are registered where one is asked for whose name no source shows."""
    from recipes.runner.registry import RECIPES

    found = outlines()
    if asked is None or asked in (*found, *COMMANDS, *OTHERS):
        return found
    return {name: entry.make.__doc__ or "" for name, entry in RECIPES.items()}


def _imported(name: str) -> Callable[..., None]:
    if name in OTHERS:
        file, function = OTHERS[name]
        command: Callable[..., None] = getattr(importlib.import_module(f"recipes.runner.{Path(file).stem}"), function)
        return command
    from recipes.runner.registry import RECIPES

    return RECIPES[name].make


def _not_asked() -> None:
    """Stands for a command in the list of them."""


def _asked(arguments: Sequence[str]) -> str | None:
    """The command that is asked for, or, by a shell that completes a line, begun."""
    line = os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")) if "_EVONAS_COMPLETE" in os.environ else ""
    words = line.split()[1:] or arguments
    return words[0] if words and not words[0].startswith("-") else None


def main() -> None:
    """Entry point: one line and status 2 for what a user can mend, 128 + its number for a signal; tracebacks with --debug."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        with stoppable():
            _run(arguments)
    except UsageError as error:
        _fail(str(error), 2, debug)
    except Stopped as stopped:
        _stop(str(stopped), 128 + stopped.number, _is_recipe(arguments))
    except (KeyboardInterrupt, typer.Abort):
        _stop("Ctrl-C", 130, _is_recipe(arguments))
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail(f"{error.format_message().rstrip('.')}. See evonas {arguments[0] if arguments else ''} --help.", 2, debug)
        if isinstance(error, OSError):
            where = f" {error.filename}" if error.filename else ""
            _fail(str(obstacle(error) or f"Cannot use{where}: {error.strerror or first_line(error)}. Check it, and try again."), 2, debug)
        where = "".join(f", {note.removeprefix('evonas: ')}" for note in getattr(error, "__notes__", ()))
        _fail(f"Unexpected {type(error).__name__}: {first_line(error)}{where} (--debug shows where)", 1, debug)


def _run(arguments: list[str]) -> None:
    if any("\0" in argument or re.search("[\ud800-\udb7f]", argument) for argument in arguments):
        raise UsageError("An argument holds a character that no file name can have (NUL, half of a pair); expected text.")
    app = application(asked := _asked(arguments))
    commands = [command.name or "" for command in app.registered_commands]
    if arguments and asked is not None and asked not in commands:
        raise unknown("command", asked, commands)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _require_a_team(asked)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    status = app(arguments, standalone_mode=False)
    sys.exit(status if isinstance(status, int) else 0)


def _require_a_team(asked: str | None) -> None:
    from recipes.runner.registry import RECIPES

    teams = [entry.name for entry in RECIPES.values() if entry.team]
    if asked not in teams:
        raise UsageError(f"Only evonas {' and evonas '.join(teams)} train with many processes; run this command without torchrun.")


def _is_recipe(arguments: Sequence[str]) -> bool:
    return bool(arguments) and arguments[0] not in {*COMMANDS, *OTHERS} - {"pick"}  # which goes on as a recipe does


def _stop(what: str, status: int, recipe: bool) -> None:
    """One line, from the first process of a team, and the status that says which signal it was."""
    from recipes.runner.progress import where_it_stands

    goes_on = f"{where_it_stands()}. The same command goes on from what is done." if recipe else "."
    if os.environ.get("RANK", "0") == "0":
        print(f"evonas: Stopped by {what}{goes_on}", file=sys.stderr)
    sys.exit(status)


def _fail(message: str, status: int, debug: bool) -> None:
    if debug:
        print(hide(traceback.format_exc()), file=sys.stderr)
    print(f"evonas: {one_line(hide(message))}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
