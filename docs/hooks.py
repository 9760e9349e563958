"""Hooks of mkdocs. `{{ README: Heading }}` in a page stands for that section of README.md, so that there is one text of each."""

import importlib
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

PLACE = re.compile(r"^\{\{ README: (.+?) \}\}$", re.MULTILINE)
README = Path(__file__).parents[1] / "README.md"


def on_page_markdown(markdown: str, **context: Any) -> str:
    """See mkdocs: the text of a page before it is drawn."""
    return PLACE.sub(lambda found: section(found.group(1)), markdown)


def section(heading: str) -> str:
    """What stands under a heading of README.md, without the heading; pictures and files as seen from docs/.

    Raises:
        PluginError: there is no such heading, which ends the build.
    """
    parts = re.split(r"^## (.+)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    if heading not in found:
        raise PluginError(f"README.md has no section {heading!r}; expected one of {', '.join(found)}.")
    return found[heading].replace("](docs/", "](").strip()


LABELS = {  # the theme names neither
    'id="__search"': 'id="__search" aria-label="Search"',
    'id="__drawer"': 'id="__drawer" aria-label="Navigation"',
    'data-md-component="search" role="dialog"': 'data-md-component="search" role="dialog" aria-label="Search"',
}


def on_post_page(output: str, **context: Any) -> str:
    """See mkdocs: a page as it is written. Whoever does not see it hears what the theme's switches are for."""
    for before, after in LABELS.items():
        output = output.replace(before, after)
    return output


def on_post_build(config: Any, **context: Any) -> None:
    """See mkdocs. Every public name of the rooms stands in the reference.

    Raises:
        PluginError: one does not, which ends the build.
    """
    for room in ("evonas", "predictors", "supernet", "recipes"):
        page = (Path(config["site_dir"]) / "reference" / room / "index.html").read_text(encoding="utf-8")
        module = importlib.import_module(room)
        homes = {name: f"{getattr(getattr(module, name), '__module__', room)}.{name}" for name in module.__all__}
        if missing := [name for name, home in homes.items() if not any(f'id="{path}"' in page for path in (f"{room}.{name}", home))]:
            raise PluginError(f"docs/reference/{room}.md lacks {', '.join(missing)}; expected every name of {room}.__all__.")
