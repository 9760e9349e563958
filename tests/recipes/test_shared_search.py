"""One search of several workers, as recipes: on PostgreSQL where it is installed, on SQLite everywhere."""

import json
import os
import subprocess
from collections import Counter

import numpy as np
import pytest
from command import QUICK, here
from optuna.trial import TrialState

from benchmarks.postgres import Postgres, binaries
from evonas import open_study
from supernet import mbconv

RUN = [
    "--data",
    "digits",
    "--epochs",
    "2",
    "--retrain-epochs",
    "2",
    "--evaluations",
    "60",
    "--depths",
    "1,2,1",
    "--device",
    "cpu",
    "--teacher",
    "none",
]


@pytest.fixture(scope="module")
def server():
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with Postgres() as running:
        yield running


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    space = mbconv((1, 8, 8), 10, depths=(1, 2, 1)).space
    path = tmp_path_factory.mktemp("table") / "t.json"
    rng = np.random.default_rng(0)
    choices = {choice.name: {option: float(rng.uniform(0.5, 3)) for option in choice.options} for choice in space.choices}
    path.write_text(json.dumps({"unit": "ms", "choices": choices}))
    return path


def started(out, *arguments, **environment):
    command = [*QUICK, "mobile", *RUN, "--out", out, *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def result(out):
    return json.loads((out / "result.json").read_text())


def test_workers_on_postgresql_train_once_and_end_with_one_winner(server, table, tmp_path):
    """Two workers, the URL from the environment, one supernet through the artifacts; each folder has all trials and a report."""
    secret = server.url.replace("evonas@", "evonas:hunter22@")
    folders = [tmp_path / f"worker{i}" for i in range(2)]
    arguments = ["--latency-table", table, "--study", "ours", "--artifacts", tmp_path / "artifacts", "--finalists", "1"]
    arguments += ["--teacher", "largest"]
    workers = [started(out, *arguments, EVONAS_STORAGE=secret) for out in folders]
    ended = [(worker.communicate(timeout=240), worker.returncode) for worker in workers]
    assert [status for _, status in ended] == [0, 0], ended
    for name in ("ours-search", "ours-baseline"):
        trials = open_study(server.url, name).trials
        assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 60}
    first, *others = map(result, folders)
    for other in others:
        for part in ("architecture", "costs", "baseline", "tried"):
            assert other[part] == first[part], part
    said = [out for (out, _), _ in ended]
    assert sum("taken from the artifacts" in text for text in said) >= 1
    assert sum("train supernet" in text and "taken from the artifacts" not in text for text in said) >= 1
    for folder in folders:
        assert len(open_study(folder / "study.log", "search").trials) == 60
        assert json.loads((folder / "config.json").read_text())["storage"].startswith("postgresql+psycopg://***@127.0.0.1")
    for text in [*said, *(error for (_, error), _ in ended)]:
        assert "hunter22" not in text
    kept = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hunter22" in path.read_bytes()]


def test_another_search_is_refused_and_leaves_nothing(server, table, tmp_path):
    shared = ["--latency-table", str(table), "--storage", server.url, "--evaluations", "20"]
    assert here("mobile", *RUN, *shared, "--finalists", "1", "--study", "mine", "--out", tmp_path / "one").returncode == 0
    for wrong, said in (
        (["--seed", "1"], "seed is 0, not 1"),
        (["--evaluations", "21"], "evaluations is 20, not 21"),
        (["--budget", "macs=700k"], "budget is"),
        (["--epochs", "3"], "supernet is"),
    ):
        done = here("mobile", *RUN, *shared, "--study", "mine", "--out", tmp_path / "two", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
        assert (tmp_path / "two").exists() == (wrong[0] == "--epochs"), "the weights are known only when they are trained"
    trials = open_study(server.url, "mine-search").trials
    assert len(trials) == 20


def test_the_second_worker_takes_the_latency_that_the_first_measured(tmp_path, monkeypatch):
    """On SQLite: one table, one budget, and one winner, although each machine would measure something else."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr("predictors.devices.runtime.measure", lambda *_: float(rng.uniform(0.1, 1)))
    monkeypatch.setattr("predictors.devices.runtime.measure_all", lambda modules, **_: rng.uniform(0.1, 1, len(modules)).tolist())
    url = f"sqlite:///{tmp_path}/study.db"
    arguments = [
        "--storage",
        url,
        "--study",
        "ours",
        "--budget",
        "latency=95%",
        "--depths",
        "1,1,1",
        "--evaluations",
        "20",
        "--finalists",
        "1",
    ]
    folders = [tmp_path / "one", tmp_path / "two"]
    for out in folders:
        assert here("mobile", *RUN, *arguments, "--out", out).returncode == 0
    tables = [json.loads((out / "latency.json").read_text()) for out in folders]
    assert tables[0] == tables[1]
    one, two = map(result, folders)
    assert one["architecture"] == two["architecture"]
    assert one["costs"] == two["costs"]


def test_passwords_stay_out_of_errors_and_config(tmp_path):
    url = "postgresql+psycopg://alice:hunter22@127.0.0.1:1/nas"
    (tmp_path / "url").write_text(url + "\n")
    for storage in (url, f"@{tmp_path / 'url'}"):
        done = here("mobile", *RUN, "--storage", storage, "--out", tmp_path / "run")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "Cannot open the storage" in done.stderr
        assert "hunter22" not in done.stderr
        assert "alice" not in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--storage", "redis://127.0.0.1:1/0"], "--trust-storage"),
        (["--artifacts", "somewhere"], "Got --artifacts without --storage"),
        (["--storage", "@nowhere"], "Cannot read the storage from nowhere"),
    ],
)
def test_storages_that_cannot_be_used_are_refused_first(arguments, said, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "recipes.mobile.load", lambda *arguments, **options: pytest.fail("images were loaded before the storage was checked")
    )
    done = here("mobile", *RUN, *arguments, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
