"""Files of weights: torch's archives with a digest of all their bytes at the end, so that a damaged one is never taken for a whole one.

torch reads them as any other archive, digest or not. Nothing but tensors and plain data is ever unpickled.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch

from evonas.errors import UsageError, first_line, shortened
from evonas.files import written_whole

MARK = b"evonas sha256 "
CHUNK = 1 << 20
LONGEST_END = 1 << 16
END_OF_ARCHIVE = 22  # bytes of the record that ends a zip archive without a comment


def save_archive(path: Path, content: dict[str, Any]) -> None:
    """Write the file, whole or not at all."""
    with written_whole(path) as temporary:
        torch.save(content, temporary)
        digest = _digest(temporary, temporary.stat().st_size)
        with temporary.open("ab") as file:
            file.write(MARK + digest)


def load_archive(path: Path, expected: str, what: str = "the network") -> dict[str, Any]:
    """Read a file of weights.

    Args:
        path: of the file.
        expected: what to do when it is damaged, for the error.
        what: is in it, for the error.

    Raises:
        UsageError: it is missing or damaged. A file of an earlier version carries no digest; of those the checksums are compared.
    """
    try:
        length = len(MARK) + hashlib.sha256().digest_size
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - length, 0))
            end = file.read()
        marked = end.startswith(MARK) and len(end) == length
        if marked and _digest(path, size - length) != end[len(MARK) :]:
            raise ValueError("its bytes are not those that were written")
        _require_plain(path, size, size - length if marked else size)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ValueError("it holds something else")
    except Exception as error:
        raise UsageError(f"Cannot read {what} {shortened(path, 200)}: {first_line(error)}. {expected}") from None
    return content


def digest_of(value: Any) -> str:
    """A digest of tensors and plain data: the same for the same numbers, wherever they came from."""
    found = hashlib.sha256()
    _add(found, value)
    return found.hexdigest()[:16]


def _add(found: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    elif isinstance(value, dict):
        for key in value:
            found.update(repr(key).encode())
            _add(found, value[key])
    elif isinstance(value, list | tuple):
        found.update(f"{len(value)}".encode())
        for part in value:
            _add(found, part)
    else:
        found.update(repr(value).encode())


def _digest(path: Path, length: int) -> bytes:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (chunk := file.read(min(CHUNK, length))):
            found.update(chunk)
            length -= len(chunk)
    return found.digest()


def _require_plain(path: Path, size: int, end: int) -> None:
    """What torch writes is not compressed; what unpacks to more than its own size is somebody's trap. The checksums are right."""
    with path.open("rb") as file:
        file.seek(max(end - LONGEST_END, 0))
        last = file.read(end - file.tell())
    if len(last) - last.rfind(b"PK\5\6") != END_OF_ARCHIVE:
        raise ValueError("its end is missing")
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise ValueError("it unpacks to more than its own size")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
