"""Lists of named parts: recipes, search spaces, explorers, ways of training. What is listed does not depend on what was imported.

A part registers itself where it is defined. The first look at a list imports every module of its room, and then the modules that other
installed packages name under the entry point `evonas.parts`; so parts of your own are found by the command line when their package says

    [project.entry-points."evonas.parts"]
    mine = "my_package.my_module"
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from evonas.errors import UsageError, unknown
from evonas.rooms import require_ours

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered part.

    Attributes:
        name: as users write it.
        summary: what it is, in a few words.
        paper: authors, year and identifier.
        make: gives the part, or runs it.
    """

    name: str
    summary: str
    paper: str
    make: T


PLUG_INS = "evonas.parts"
_broken: set[EntryPoint] = set()  # told once, whatever list is asked first
E = TypeVar("E", bound=Entry[Any])


class Registry(Mapping[str, E]):
    """The parts of one kind by name, in alphabetical order.

    Args:
        kind: what a part is, for messages: "recipe".
        package: whose modules register parts when they are imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, E] = {}
        self._complete = False

    def add(self, entry: E) -> None:
        """Register a part.

        Raises:
            UsageError: another part has the name.
        """
        if entry.name in self._entries and not _same(self._entries[entry.name].make, entry.make):
            raise UsageError(f"There are two of the {self.kind} {entry.name!r}; expected every name once. Choose another name.")
        self._entries[entry.name] = entry

    def pick(self, name: str) -> E:
        """The part of a name.

        Raises:
            UsageError: there is none; with the nearest name that there is.
        """
        if name not in self:
            raise unknown(self.kind, name, self)
        return self[name]

    def __getitem__(self, name: str) -> E:
        self._load()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        if self._complete:
            return
        require_ours(self.package.partition(".")[0])
        self._complete = True
        path = importlib.import_module(self.package).__path__
        for module in pkgutil.iter_modules(path):
            if not module.ispkg and not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=PLUG_INS):
            try:
                if point not in _broken:
                    point.load()
            except Exception as error:
                _broken.add(point)
                what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                warnings.warn(f"the parts {point.name!r} ({point.value}) are left out, they cannot be imported: {what}", stacklevel=3)


def _same(one: Any, other: Any) -> bool:
    """Whether both are one definition, perhaps imported twice; functions without a name are only themselves."""
    origins = [(getattr(make, "__module__", ""), getattr(make, "__qualname__", repr(make))) for make in (one, other)]
    return one is other or (origins[0] == origins[1] and "<lambda>" not in origins[0][1])
