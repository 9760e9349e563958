"""One page writer: a template, filled and written whole, with its pictures, figures and scripts inside: one file to keep or to send.

Figures are drawn by plotly in the browser, from what stands in the page; a browser without scripts shows the pictures in their place. The
page forbids itself to fetch anything.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from evonas.files import written_whole
from evonas.units import format_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PICTURE = re.compile(r'src="([^":/]+\.png)"')


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        file: PNG in the run folder; "" where there is only a figure.
        caption: what it shows.
        figure: that answers to the mouse, in its place; None where there is only a file.
        note: what to beware of.
    """

    file: str
    caption: str
    figure: Figure | None = None
    note: str = ""


def write_page(folder: Path, template: str, *, images: Sequence[Picture] = (), page: str = "report.html", **content: Any) -> Path:
    """Write a page of a run folder.

    Args:
        folder: its name is the title.
        template: one of `recipes/runner/pages/templates`.
        images: that the template shows.
        page: file to write.
        content: what else the template shows.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("recipes.runner.pages"), autoescape=True)
    environment.filters |= {"quantity": format_quantity, "in_script": _in_script}
    script = Markup(_plotly()) if any(image.figure for image in images) else ""  # our own files, no content of a run
    filled = environment.get_template(template).render(name=folder.name, images=images, plotly=script, **content)
    text = PICTURE.sub(lambda found: _inside(folder, found), filled)
    with written_whole(folder / page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / page


@cache
def _plotly() -> str:
    """The script of plotly, as the installed package has it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _in_script(figure: Figure) -> Markup:
    """A figure as JSON that nothing in it can end: names of networks are somebody's words."""
    return Markup(str(figure.to_json()).replace("<", "\\u003c"))


def _inside(folder: Path, found: re.Match[str]) -> str:
    """A picture of the run folder as part of the page; as it was, where there is none."""
    file = folder / found.group(1)
    return f'src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"' if file.exists() else found.group(0)
