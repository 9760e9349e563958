"""`python -m evonas` is the `evonas` command; `torchrun -m evonas` starts it on many devices."""

from __future__ import annotations

import sys

from evonas.errors import UsageError
from evonas.rooms import reach


def main() -> None:
    """Entry point of the command: it is one of the recipes' room, which this one does not import by name."""
    try:
        command = reach("main")
    except UsageError as error:
        print(f"evonas: {error}", file=sys.stderr)
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
