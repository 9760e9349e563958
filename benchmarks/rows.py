"""Rows of a benchmark, kept in a file as they are measured, so that a benchmark that was interrupted goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Rows:
    """A JSON-lines file of {"key": ..., ...} rows.

    Args:
        path: made with its folder if it is not there; a torn last line is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        path.write_text("".join(whole))
        self._rows: dict[str, dict[str, Any]] = {row["key"]: row for row in map(json.loads, whole)}

    def known(self) -> list[str]:
        """Of the rows that are measured."""
        return list(self._rows)

    def __contains__(self, key: str) -> bool:
        """Whether the row is measured already."""
        return key in self._rows

    def row(self, key: str, measure: Callable[[], dict[str, Any]], quiet: bool = False) -> dict[str, Any]:
        """The row of `key`, measured now unless the file has it; printed unless `quiet`."""
        if key not in self._rows:
            self._rows[key] = {"key": key, **measure()}
            with self.path.open("a") as file:
                file.write(json.dumps(self._rows[key]) + "\n")
        if not quiet:
            print(json.dumps(self._rows[key]), flush=True)
        return self._rows[key]
