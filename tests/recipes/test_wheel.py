"""What people install: the wheel, in an environment of its own, used from a folder that has `recipes/` and `predictors/` of its own."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = "raise SystemExit('the package of the working folder')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """As it is published, built from a copy, so that nothing is left in the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    where = ["--home", "https://example.org/evonas", "--pictures", "https://example.org/raw/evonas", "--out", str(out)]
    subprocess.run([sys.executable, str(ROOT / "docs" / "release.py"), *where], check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    assert len(list(out.glob("*.tar.gz"))) == 1
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The wheel alone in an environment that finds what it depends on where this one has it, and not this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "bin"


@pytest.fixture
def folder(tmp_path):
    for name in ("recipes", "predictors", "supernet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(FOREIGN)
    return tmp_path


def run(folder, *command, **more):
    environment = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}
    return subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_metadata_are_complete(wheel, environment):
    (file,) = environment.parent.glob("lib/python*/site-packages/evonas-*.dist-info/METADATA")
    told = Parser().parsestr(file.read_text())
    for field in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python", "Description-Content-Type"):
        assert told[field], field
    assert {"dashboard", "postgres", "mysql", "redis", "notebook"} <= set(told.get_all("Provides-Extra"))
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(told.get_all("Classifier"))
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", told.get_payload())
    assert len(pictures) >= 3
    assert all(picture.startswith("https://example.org/raw/evonas/docs/") for picture in pictures)
    assert all((ROOT / picture.removeprefix("https://example.org/raw/evonas/")).exists() for picture in pictures)
    assert len(told.get_all("Project-URL")) == 3
    for room in ("evonas", "predictors", "supernet", "recipes"):
        assert (file.parents[1] / room / "py.typed").exists()


@pytest.mark.parametrize("more", [{}, {"PYTHONPATH": "."}])
def test_the_command_is_ours(environment, folder, more):
    done = run(folder, environment / "evonas", "list", **more)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a network for a budget" in done.stdout
    assert "mobile" in run(folder, environment / "evonas", "--help", **more).stdout


@pytest.mark.parametrize("how", [["-m", "evonas"], ["--no-python", "evonas"]])
def test_torchrun_is_ours(environment, folder, how):
    program = [environment / "evonas" if word == "evonas" and how[0] == "--no-python" else word for word in how]
    torchrun = [environment / "python", "-m", "torch.distributed.run", "--nproc-per-node", "1"]
    done = run(folder, *torchrun, *program, "mobile", "--budget", "macs=1", "--out", "run", PATH=f"{environment}:{os.environ['PATH']}")
    assert "evonas: No network of this space meets macs <= 1" in done.stderr


def test_a_notebook_is_ours(environment, folder):
    code = """
import sys
sys.path.insert(0, "")  # as in a notebook
import evonas
assert len(evonas.EXPLORERS) > 5
try:
    evonas.find("digits", "macs=1")
except evonas.UsageError as error:
    print(error)
"""
    done = run(folder, environment / "python", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No network of this space meets macs <= 1" in done.stdout


def test_a_package_that_was_imported_before_is_named(environment, folder):
    (folder / "predictors" / "__init__.py").write_text("mine = 1")
    code = "import predictors, evonas; assert predictors.mine == 1; evonas.find('digits', 'macs=1')"
    done = run(folder, environment / "python", "-c", code)
    assert "UsageError: The package 'predictors' was imported from" in done.stderr
    assert str(folder / "predictors" / "__init__.py") in done.stderr
