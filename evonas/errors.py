"""The one kind of error that a user causes and a user can mend, and how any error is put into one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_LINE = 500


class UsageError(ValueError):
    """Bad input. The message is one line: what is wrong, what was expected, what to do.

    The command line prints it without a traceback and ends with status 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a list, with the nearest name that is."""
    known = list(known)
    near = difflib.get_close_matches(name[:LONGEST_LINE], known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(known) if len(known) <= 40 else f"{', '.join(known[:40])}, ..."
    return UsageError(f"Unknown {kind} {shortened(name)!r}; expected one of: {listed}.{hint}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop; its kind where it has no message."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0].rstrip("."), 200) if lines else type(error).__name__


def shortened(value: object, longest: int = 80) -> str:
    """A value as text, cut in its middle where it is long: what a stranger's file holds may be of any length."""
    text = str(value)
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Text as one line for a terminal: white space closed up, what cannot be printed escaped, its end cut off where it is long."""
    line = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in line)
    return shown if len(shown) <= longest else f"{shown[: longest - 4].rstrip()} ..."
