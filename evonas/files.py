"""Reading and writing files: none is left half-written, and whatever stands in the way is said in one line."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from evonas.errors import UsageError, first_line, shortened

Schema = TypeVar("Schema", bound=pydantic.BaseModel)

LONGEST_NAME = 80
LEAST_FREE_BYTES = 1 << 20


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; it takes the place of `path` only when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:  # a name that is on the disk before its content is an empty file after a power cut
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        if wrong := obstacle(error, path):
            raise wrong from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {shortened(path, 200)}; expected a JSON file.") from None
    except (OSError, ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise UsageError(f"Cannot read {shortened(path, 200)} as JSON: {why}. Restore it, or remove it to have it made anew.") from None


def read_as(path: Path, schema: type[Schema]) -> Schema:
    """Read a JSON file that people write by hand, or that comes from elsewhere, as what it has to look like.

    The docstring of a schema is "A noun: what is expected.", for the error.

    Raises:
        UsageError: the file is missing, is not JSON, or something in it is missing, unknown or of another kind.
    """
    content = read_json(path)
    try:
        return schema.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = shortened(" > ".join(str(part) for part in first["loc"]), 120)
        said = first["msg"].removeprefix("Value error, ").rstrip(".")
        noun, _, form = " ".join(str(schema.__doc__).split()).partition(": ")
        raise UsageError(f"{shortened(path, 200)} is no {noun.removeprefix('A ')}: {place} {said}. Expected {form}") from None


def file_name(text: str, ending: str = "") -> str:
    """The file name for a name out of a file or a space (a cost, a choice, a class): what could lead out of a folder is replaced."""
    plain = re.sub(r"[^A-Za-z0-9_+=.-]+", "_", text).lstrip(".")
    if plain == text and len(plain) <= LONGEST_NAME and plain:
        return plain + ending
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:LONGEST_NAME]}-{digest}{ending}"


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder that may be a stranger's.

    Raises:
        UsageError: it is a link that leads out of the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path} leads out of its folder; expected a file in it.")
    return path


def obstacle(error: BaseException, path: Path | None = None) -> UsageError | None:
    """What a person can do about an error of the system's: a full disk, a folder that was taken away. None for any other error.

    Args:
        error: as it came.
        path: what was written.
    """
    where = path or (Path(str(error.filename)) if isinstance(error, OSError) and error.filename else None)
    place = shortened(where.parent, 200) if where is not None else "the run folder"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not full and where is not None and not isinstance(error, OSError):
        with contextlib.suppress(OSError):
            full = shutil.disk_usage(where.parent).free < LEAST_FREE_BYTES
    if full or "disk is full" in str(error):
        return UsageError(f"No space is left on the disk of {place}. Free some, and the same command goes on from here.")
    if path is not None and not path.parent.exists():
        return UsageError(f"The folder {place} was taken away while it was used. The same command starts over.")
    return None


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
