"""One page writer: a template, filled and written whole, with its pictures inside: one file to keep or to send."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import jinja2

from evonas.files import written_whole

PICTURE = re.compile(r'src="([^":/]+\.png)"')


def write_page(folder: Path, template: str, **content: Any) -> Path:
    """Write `report.html` of a run folder.

    Args:
        folder: its name is the title.
        template: one of `recipes/runner/pages/templates`.
        content: what the template shows.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("recipes.runner.pages"), autoescape=True)
    text = PICTURE.sub(lambda found: _inside(folder, found), environment.get_template(template).render(name=folder.name, **content))
    with written_whole(folder / "report.html") as temporary:
        temporary.write_text(text)
    return folder / "report.html"


def _inside(folder: Path, found: re.Match[str]) -> str:
    """A picture of the run folder as part of the page; as it was, where there is none."""
    file = folder / found.group(1)
    return f'src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"' if file.exists() else found.group(0)
