"""The `evonas` command: lists recipes, runs them, and shows what they did."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import optuna
import typer

from evonas.errors import UsageError, unknown
from evonas.registry import Entry
from recipes.runner.measure import measure_device
from recipes.runner.registry import RECIPES

Run = Annotated[str, typer.Argument(help="A run folder.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
for entry in RECIPES.values():
    app.command(entry.name)(entry.make)


@app.callback()
def options(debug: Debug = False) -> None:
    """Find small, fast image networks for a stated budget.

    Start with `evonas list`, then `evonas mobile --help`.
    """


@app.command("list")
def list_all() -> None:
    """Recipes, search spaces, explorers and data sets, with the papers they come from."""
    from rich.table import Table

    from evonas.explorers import EXPLORERS
    from predictors.screens import SCREENS
    from recipes.runner.progress import console
    from supernet.loading import DATA_SETS
    from supernet.spaces import SPACES
    from supernet.training.registry import WAYS

    titles = ("recipes", "search spaces", "ways of training", "explorers", "predictors")
    lists: tuple[Mapping[str, Entry[Any]], ...] = (RECIPES, SPACES, WAYS, EXPLORERS, SCREENS)
    for title, entries in zip(titles, lists, strict=True):
        table = Table("name", "what it is", "paper", title=title, title_justify="left", title_style="bold")
        for item in entries.values():
            table.add_row(item.name, item.summary, item.paper)
        console.print(table)
    console.print(f"data: {', '.join(DATA_SETS)}, a folder of images, or an .npz file")


app.command("measure")(measure_device)


@app.command()
def report(run: Run) -> None:
    """Write report.html and its pictures of a finished run again."""
    from evonas.files import read_json
    from recipes.runner.progress import say
    from recipes.runner.run_folder import finished

    folder = finished(run)
    say(str(RECIPES.pick(read_json(folder / "result.json").get("recipe", "mobile")).page(folder)))


@app.command()
def dashboard(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
) -> None:
    """Show the trials of a run, finished or not, in the Optuna dashboard (needs the extra `dashboard`)."""
    from evonas.files import read_json
    from evonas.study import open_storage
    from recipes.runner.progress import say

    try:
        import optuna_dashboard
    except ImportError:
        raise UsageError("The dashboard is not installed; expected the extra: pip install 'evonas[dashboard]'.") from None
    if not (Path(run) / "config.json").exists():
        raise UsageError(f"There is no run in {run}; expected a run folder with a config.json.")
    storage = read_json(Path(run) / "config.json").get("storage") or Path(run) / "study.log"
    say(f"dashboard of {run}: http://{host}:{port} (Ctrl-C ends it)")
    optuna_dashboard.run_server(open_storage(storage), host=host, port=port)


def main() -> None:
    """Entry point: one line and status 2 for what a user can mend; a traceback only with --debug."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
            raise unknown("command", arguments[0], commands)
        teams = [entry.name for entry in RECIPES.values() if entry.team]
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (not arguments or arguments[0] not in teams):
            raise UsageError(f"Only evonas {' and evonas '.join(teams)} train with many processes; run this command without torchrun.")
        sys.exit(app(arguments, standalone_mode=False))
    except UsageError as error:
        _fail(str(error), 2, debug)
    except (KeyboardInterrupt, typer.Abort):
        _fail("Interrupted; the same command goes on from here.", 130, debug=False)
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail(f"{error.format_message().rstrip('.')}. See evonas {arguments[0] if arguments else ''} --help.", 2, debug)
        _fail(f"Unexpected {type(error).__name__}: {(str(error).splitlines() or [''])[0]} (--debug shows where)", 1, debug)


def _fail(message: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"evonas: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
