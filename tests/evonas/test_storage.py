"""Storages: no password anywhere, no trust that was not given, one line for what cannot be opened, and patience with what is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy

from evonas import RandomExplorer, UsageError, open_study, search
from evonas import storage as storages
from evonas.redaction import hide, redacted
from evonas.storage import check_storage, open_storage, patiently, repair_journal, storage_url
from evonas.testing import example


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://alice:hunter22@db.example:5432/nas", "postgresql://***@db.example:5432/nas"),
        ("postgresql+psycopg://alice:p%40ss%2Fw@db/nas?password=also&sslmode=require", "postgresql+psycopg://***@db/nas?***"),
        ("mysql://alice:a@b:c/d@db/nas", "mysql://***@db/nas"),
        ("redis://:hunter22@cache:6379/0", "redis://***@cache:6379/0"),
        ("postgresql://db/nas", "postgresql://db/nas"),
        ("sqlite:////home/a@b/x.db", "sqlite:////home/a@b/x.db"),
        ("runs/x/study.log", "runs/x/study.log"),
    ],
)
def test_a_url_is_shown_without_user_password_and_query(url, shown):
    assert redacted(url) == shown
    assert redacted(shown) == shown


def test_secrets_of_a_url_are_hidden_in_any_text():
    redacted("postgresql://alice:hunt%40er22@db/nas")
    said = hide('password authentication failed for user "alice"; tried hunt@er22 and hunt%40er22 at postgresql://x:y@z/w')
    assert "alice" not in said
    assert "er22" not in said
    assert "postgresql://***@z/w" in said


def test_an_unreachable_server_is_one_line_without_the_password():
    with pytest.raises(UsageError, match="Cannot open the storage") as error:
        check_storage("postgresql+psycopg://alice:hunter22@127.0.0.1:1/nas")
    assert "\n" not in str(error.value)
    assert "alice" not in str(error.value)
    assert "hunter22" not in str(error.value)


def test_the_url_comes_from_a_file(tmp_path):
    (tmp_path / "url").write_text(f"sqlite:///{tmp_path}/x.db\n")
    assert storage_url(f"@{tmp_path / 'url'}") == f"sqlite:///{tmp_path}/x.db"
    open_study(f"@{tmp_path / 'url'}", "s")
    assert (tmp_path / "x.db").exists()
    for wrong in ("missing", "empty"):
        (tmp_path / "empty").write_text(" \n")
        with pytest.raises(UsageError):
            storage_url(f"@{tmp_path / wrong}")


def test_redis_is_refused_unless_trusted_and_names_its_driver(monkeypatch):
    with pytest.raises(UsageError, match="--trust-storage"):
        open_storage("redis://127.0.0.1:1/0")
    monkeypatch.setattr(storages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"evonas\[redis\]"):
        open_storage("redis://127.0.0.1:1/0", trusted=True)


def test_a_missing_driver_names_its_extra(monkeypatch):
    def missing(self):
        raise ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2")

    monkeypatch.setattr(sqlalchemy.dialects.postgresql.psycopg2.PGDialect_psycopg2, "import_dbapi", classmethod(missing))
    with pytest.raises(UsageError, match=r"driver psycopg2 .*evonas\[postgres\]"):
        check_storage("postgresql+psycopg2://127.0.0.1:1/x")


def test_a_lost_storage_is_waited_for_and_told_of(monkeypatch):
    monkeypatch.setattr(storages, "LONGEST_PAUSE_S", 0.01)
    failures, said = iter([True, True, False]), []

    def step():
        if next(failures):
            raise sqlalchemy.exc.OperationalError("select", {}, Exception("server closed the connection"))
        return "done"

    assert patiently(step, said.append) == "done"
    assert "does not answer" in said[0]
    assert "back after" in said[1]
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0, said.append)


def test_patience_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(storages, "PATIENCE_S", 0.05)

    def step():
        raise sqlalchemy.exc.OperationalError("select", {}, Exception("server closed the connection"))

    with pytest.raises(UsageError, match=r"has not answered .* goes on from here") as error:
        patiently(step, lambda text: None)
    assert "\n" not in str(error.value)


HOLDER = """
import sys, time
from evonas.turns import turn
from evonas import open_study
study = open_study(sys.argv[1], "s")
study._storage._backend._lock.acquire()
with open(sys.argv[1], "a") as file:
    file.write('{"op_code": 4, "wor')
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.serial
def test_a_process_killed_while_it_writes_a_journal_holds_nobody_up(tmp_path):
    """Its lock ends with it, and its torn line is cut before the next is written."""
    path, (space, budget, fitness) = tmp_path / "study.log", example()
    search(space, fitness, RandomExplorer(space, budget), evaluations=3, study=open_study(path, "s"), budget=budget)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    start = time.perf_counter()
    search(space, fitness, RandomExplorer(space, budget), evaluations=6, study=open_study(path, "s"), budget=budget)
    assert time.perf_counter() - start < 10
    assert repair_journal(path) is None
    assert len(open_study(path, "s").trials) == 6
