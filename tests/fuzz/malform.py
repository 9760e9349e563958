"""Ways of spoiling a value, a JSON document, the bytes of a file."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

Generator = np.random.Generator

WORDS = (
    *("", " ", "x", "0", "-1", "nan", "inf", "-inf", "1e999", "1e-999", "9" * 400, "30M", "8ms", "30%", "101%", "1..2", "..", "=", "a=b=c"),
    *("../../stolen", "/etc/passwd", "/../../stolen", "C:\\x", "~", ".", "..", "con", "a/b", "a\\b", "\x1b[31mred", "\u202ertl", "\ud800"),
    *("é" * 50, "x" * 5000, "line\nline", "tab\t", "\r", "{file}", "%s%n", "{{7*7}}", "<script>alert(1)</script>", "'; drop table x;--"),
    *("None", "null", "true", "[]", "{}", "@", "@nowhere", "redis://x", "postgresql://u:p@127.0.0.1:1/x", "sqlite:///", "://", "s3://"),
    *("digits", "mbconv", "macs", "latency", "skip", "mb3_k3", "uniform", "cpu"),
)
NUMBERS = (0, -1, 1, 2, 3, 7, 0.5, -0.5, 1e10, 2**31, 2**62, 2**63, 2**64, 10**400, -(10**400), 1e308, -1e308, 5e-324)
STRANGE: tuple[Any, ...] = (None, True, False, float("nan"), float("inf"), -float("inf"), [], {}, [[]], {"": {}}, [None], {"a": None})


def word(rng: Generator) -> str:
    """A word that means trouble, or a random one."""
    if rng.random() < 0.7:
        return str(WORDS[rng.integers(len(WORDS))])
    return "".join(chr(int(c)) for c in rng.integers(1, 0x2FF, rng.integers(1, 30)))


def value(rng: Generator) -> Any:
    """Anything that JSON can hold."""
    kind = rng.integers(6)
    if kind == 0:
        return word(rng)
    if kind == 1:
        return NUMBERS[rng.integers(len(NUMBERS))]
    if kind == 2:
        return copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    if kind == 3:
        return [value(rng) for _ in range(rng.integers(4))]
    if kind == 4:
        return {word(rng): value(rng) for _ in range(rng.integers(4))}
    return float(rng.normal())


def document(rng: Generator, content: Any) -> Any:
    """A JSON document with one to three things in it changed, removed, renamed, doubled or added."""
    content = copy.deepcopy(content)
    for _ in range(rng.integers(1, 4)):
        parents = [part for part in _containers(content) if part]
        if not parents:
            return value(rng)
        parent = parents[rng.integers(len(parents))]
        key = list(parent)[rng.integers(len(parent))] if isinstance(parent, dict) else int(rng.integers(len(parent)))
        change = rng.integers(6)
        if change <= 2:
            parent[key] = value(rng)
        elif change == 3:
            parent.pop(key)
        elif change == 4 and isinstance(parent, dict):
            parent[word(rng)] = parent.pop(key)
        elif isinstance(parent, dict):
            parent[word(rng)] = value(rng)
        else:
            parent.append(copy.deepcopy(parent[key]))
    return value(rng) if rng.random() < 0.03 else content


def text_of(rng: Generator, content: Any) -> bytes:
    """A spoilt JSON document as bytes, which may be spoilt themselves."""
    chance = rng.random()
    if chance < 0.05:
        return b"[" * 100_000
    if chance < 0.08:
        return b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    plain = json.dumps(document(rng, content)).encode("utf-8", "surrogatepass")
    return spoilt(rng, plain) if chance < 0.3 else plain


def spoilt(rng: Generator, content: bytes) -> bytes:
    """Bytes that are cut, flipped, doubled, emptied or replaced."""
    if not content:
        return bytes(rng.integers(0, 256, 50, dtype=np.uint8))
    how = rng.integers(6)
    if how == 0:
        return content[: rng.integers(len(content))]
    if how == 1:
        changed = bytearray(content)
        for _ in range(rng.integers(1, 20)):
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    if how == 2:
        at = int(rng.integers(len(content)))
        return content[:at] + bytes(rng.integers(0, 256, rng.integers(1, 40), dtype=np.uint8)) + content[at:]
    if how == 3:
        return b""
    if how == 4:
        return bytes(rng.integers(0, 256, rng.integers(1, 300), dtype=np.uint8))
    return content + content


def _containers(content: Any) -> list[Any]:
    found, left = [], [content]
    while left:
        part = left.pop()
        if isinstance(part, dict | list):
            found.append(part)
            left += part.values() if isinstance(part, dict) else part
    return found
