"""User names and passwords out of everything that is kept or shown.

A storage URL may carry both. `redacted` says where a storage is without them; `hide` takes those of every URL that this process has met
out of any text, because drivers repeat them in their error messages.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
_WITHOUT_A_LOGIN = ("sqlite", "file")
_secrets: set[str] = set()


def redacted(storage: str) -> str:
    """A storage URL without user, password and query; a path, or the URL of a local file, as it is."""
    scheme, separator, rest = storage.partition("://")
    if not separator or scheme.split("+")[0] in _WITHOUT_A_LOGIN:
        return storage
    login, at, place = rest.rpartition("@")
    place, asked, query = place.partition("?")
    _remember(login.split(":", 1))
    _remember([part.partition("=")[2] for part in query.split("&")])
    return f"{scheme}://{HIDDEN + at if at else ''}{place}{asked + HIDDEN if asked else ''}"


def hide(text: str) -> str:
    """Text without the user names and passwords of URLs, in a URL or on their own."""
    text = re.sub(r"(\w+://)[^\s'\"@]*@", rf"\1{HIDDEN}@", text)
    for secret in sorted(_secrets, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def _remember(parts: list[str]) -> None:
    _secrets.update(form for part in parts for form in (part, unquote(part)) if form and form != HIDDEN)
