"""A PostgreSQL server of one's own in a folder, from Debian's packages or from the PATH: for tests, benchmarks and `make workers`.

It listens on this machine only, without a password, and is stopped with the program that started it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

DEBIAN = "/usr/lib/postgresql"


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl, the newest of Debian's or that of the PATH; None where the server is not installed."""
    found = sorted(Path(DEBIAN).glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class Postgres:
    """A running server, from entering to leaving; what it holds is removed then, unless a folder is given.

    Args:
        folder: where its files are kept.
        port: to listen on; a free one unless told otherwise.
    """

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        bin_folder = binaries()
        if bin_folder is None:
            raise RuntimeError("PostgreSQL is not installed; expected initdb and pg_ctl (Debian: apt install postgresql)")
        self._bin, self._kept = bin_folder, folder is not None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="evonas-postgres-"))
        self._user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
        self.port = port or _free_port()

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql+psycopg://evonas@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Postgres:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._user:
            shutil.chown(self._folder, self._user, pwd.getpwnam(self._user).pw_gid)
        if not (self._folder / "PG_VERSION").exists():
            self._run("initdb", "--username=evonas", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200"
        self._run("pg_ctl", "start", "--wait", f"--options={options}", f"--log={self._folder / 'log'}")

    def stop(self) -> None:
        """Stop it; open connections are cut."""
        self._run("pg_ctl", "stop", "--mode=fast", "--wait", check=False)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str(self._bin / program), "-D", str(self._folder), *arguments]
        done = subprocess.run(command, user=self._user, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/")
        if check and done.returncode:
            raise RuntimeError(f"{program}: {(done.stderr or done.stdout).strip()[-300:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
