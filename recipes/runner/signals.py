"""What a run says when it is asked to stop: by Ctrl-C, by a system that shuts down (SIGTERM), by a terminal that closes (SIGHUP)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(BaseException):
    """A signal that asks to stop; no exception that anybody on the way takes for its own, as the command line's library does of Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the first signal raises `Stopped`; a second one ends the process at once."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        for known in SIGNALS:
            signal.signal(known, signal.SIG_DFL)
        if os.getpid() != process:  # a process that decodes images has nothing to say
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    try:
        before = {number: signal.signal(number, stop) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    except ValueError:  # not the main thread, which alone hears of signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
