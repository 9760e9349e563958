"""The rooms beside this one, `predictors`, `supernet` and `recipes`, found by name whatever the working folder holds.

Their names are ordinary words. A folder that somebody works in may have a package of the same name, and Python looks there first in a
notebook and for `python -m`. So whatever here needs a room of the house asks for ours; who imported another package of that name before is
told so. A package of somebody's own that is imported without us is theirs, as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from evonas.errors import UsageError

ROOMS = ("predictors", "supernet", "recipes")
HOUSE = Path(__file__).resolve().parents[1]  # the folder that holds all of them: of a checkout, or of installed packages


class _BesideUs(MetaPathFinder):
    """Finds the rooms where this one is."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The room of a name; nothing else."""
        return PathFinder.find_spec(name, [str(HOUSE)]) if name in ROOMS else None


def look_beside_us() -> None:
    """From now on the rooms are ours for whoever imports them."""
    if not any(type(finder).__name__ == _BesideUs.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _BesideUs())


def require_ours(*names: str) -> None:
    """Refuse to go on where another package of a room's name was imported before.

    Raises:
        UsageError: there is one.
    """
    look_beside_us()
    for name in set(names) & set(ROOMS) & set(sys.modules):
        module = sys.modules[name]
        where = [Path(folder).resolve() for folder in getattr(module, "__path__", [])]
        if HOUSE / name not in where:
            other = getattr(module, "__file__", None) or next(iter(where), "somewhere")
            raise UsageError(
                f"The package {name!r} was imported from {other}, and evonas has one of that name; expected evonas's own. "
                f"Start Python anew and import evonas.rooms and call its look_beside_us() first, or rename yours."
            )


def reach(name: str) -> Any:
    """What the house offers under a name of the entry points `evonas.house`: `find`, and `main`, the command.

    Raises:
        UsageError: evonas is not installed, or another package has the name of a room.
    """
    require_ours(*ROOMS)
    for installed in distributions(name="evonas"):  # all of them: a folder beside may tell of another version
        for point in installed.entry_points.select(group="evonas.house", name=name):
            return point.load()
    raise UsageError("evonas is not installed where Python looks for it, only its folder is there; expected: pip install evonas.")
