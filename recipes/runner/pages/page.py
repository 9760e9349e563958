"""One page writer: a template, filled and written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from evonas.files import written_whole


def write_page(folder: Path, template: str, **content: Any) -> Path:
    """Write `report.html` of a run folder.

    Args:
        folder: its name is the title.
        template: one of `recipes/runner/pages/templates`.
        content: what the template shows.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("recipes.runner.pages"), autoescape=True)
    text = environment.get_template(template).render(name=folder.name, **content)
    with written_whole(folder / "report.html") as temporary:
        temporary.write_text(text)
    return folder / "report.html"
