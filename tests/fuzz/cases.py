"""The kinds of cases, each a function from a generator and an empty folder to what is done in it."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from evonas import RequestedBound, UsageError, open_study
from evonas.storage import check_storage, open_storage
from evonas.study import History
from evonas.tabular import nasbench_macro
from predictors import read_hardware
from predictors.devices.known import read_device
from predictors.devices.learned import learned_table
from predictors.devices.table import read_table
from recipes.runner.delivery import load_model
from supernet import UniformPaths, load, mbconv, skip_cells
from supernet.training.checkpoint import load_checkpoint, restore
from tests.fuzz import malform as m
from tests.recipes.command import here

Generator = np.random.Generator
SUPERNET = mbconv((1, 8, 8), 10, depths=(1, 2, 1))
SKIP = skip_cells((1, 8, 8), 10, layout="small")
IDENTITY = {"data": "digits"}
URLS = ("sqlite:///x.db", "x.log", "postgresql://me:secret@127.0.0.1:1/x", "mysql://a:secret@127.0.0.1:1/x")


class Reached(UsageError):
    """The arguments were taken: in place of training."""


@dataclass(frozen=True)
class Kit:
    """What is spoilt.

    Attributes:
        runs: finished run folders by recipe.
        table: a latency table.
        device: a device file.
        checkpoint: a supernet of `SUPERNET`.
    """

    runs: dict[str, Path]
    table: dict[str, Any]
    device: str
    checkpoint: bytes


Case = Callable[[Generator, Path, Kit], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Registers a kind of case."""
    CASES[function.__name__] = function
    return function


def make_kit(folder: Path, recipes: tuple[str, ...]) -> Kit:
    """Small runs of the recipes, and good files of every kind."""
    settings = {
        "mobile": ["--epochs", "1", "--retrain-epochs", "1", "--evaluations", "20", "--depths", "1,2,1", "--latency-table", "table.json"],
        "flash": ["--samples", "5", "--sample-epochs", "1", "--measured", "10", "--retrain-epochs", "1", "--budget", "accuracy=1%.."],
        "gap": ["--networks", "50", "--trainings", "1", "--alone-epochs", "1", "--epochs", "1", "--supernets", "1", "--causes", ""],
    }
    choices = {choice.name: {option: float(i) for i, option in enumerate(reversed(choice.options))} for choice in SUPERNET.space.choices}
    table = {"device": "phone", "unit": "ms", "constant": 0.5, "choices": choices, "slope": 1.0, "intercept": 0.1}
    (folder / "table.json").write_text(json.dumps(table))
    settings["mobile"][-1] = str(folder / "table.json")
    settings["mobile"] += ["--teacher", "none", "--finalists", "1"]
    for name in recipes:
        done = here(name, "--data", "digits", "--device", "cpu", *settings[name], "--out", folder / name)
        assert done.returncode == 0, done.stderr
    rows = SUPERNET.space.sample(25, np.random.default_rng(0))
    lines = [",".join([*SUPERNET.space.names, "milliseconds"])]
    lines += [",".join([*SUPERNET.space.to_names(row).values(), f"{1 + 0.1 * row.sum():.3f}"]) for row in rows]
    checkpoint = (folder / "mobile" / "supernet.pt").read_bytes()
    return Kit({name: folder / name for name in recipes}, table, "\n".join(lines) + "\n", checkpoint)


@case
def budget(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Bounds, as text."""
    parts = ["macs", "latency", "params", "=", "..", "30M", "8ms", "5%", "1e3", "-1", "nan", " ", m.word(rng)]
    texts = ["".join(rng.choice(parts, rng.integers(1, 6))) for _ in range(rng.integers(1, 4))]
    for bound in RequestedBound.parse_all(texts):
        bound.check({"macs": "", "params": "", "latency": "ms"})


@case
def arguments(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Command lines."""
    names = ["--data", "--budget", "--layout", "--widths", "--depths", "--epochs", "--seed", "--out", "--storage", "--supernet", "--blocks"]
    names += ["--latency-table", "--device", "--image-size", "--batch-size", "--lr", "--evaluations", "--predictor", "--space", "--way"]
    names += ["--study", "--artifacts", "--preset", "--search", "--sampler", "--hardware", "--table", "--causes", m.word(rng)]
    words = [word for name in rng.choice(names, rng.integers(1, 5)) for word in (name, m.word(rng))]
    command = rng.choice(["mobile", "spos", "flash", "gap", "measure", "report", "dashboard", "list", m.word(rng)])
    given = [] if "--out" in words or command in ("report", "dashboard", "list") else ["--out", "out"]
    return here(command, *given, *words)


@case
def table_file(rng: Generator, folder: Path, kit: Kit) -> Any:
    """A latency table, written by hand."""
    path = folder / "t.json"
    path.write_bytes(m.text_of(rng, kit.table))
    table = read_table(path, SUPERNET.space)
    assert np.isfinite(table(SUPERNET.space.sample(5, rng))).all()
    table.extremes(SUPERNET.space)


@case
def hardware_file(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Coefficients, written by hand."""
    path = folder / "h.json"
    entry = {"unit": "ms", "macs": 1e-6, "constant": 0.1}
    path.write_bytes(m.text_of(rng, {"device": "chip", "latency": entry, "energy": {**entry, "unit": "mJ"}}))
    for cost in read_hardware(path, SKIP.totals).values():
        assert np.isfinite(cost(SKIP.space.sample(5, rng))).all()


@case
def device_file(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Networks measured on a device."""
    path = folder / "board.csv"
    text = kit.device.encode()
    if rng.random() < 0.5:
        lines = kit.device.splitlines()
        cells = lines[(row := rng.integers(len(lines)))].split(",")
        cells[rng.integers(len(cells))] = m.word(rng)
        lines[row] = ",".join(cells)
        text = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        text = m.spoilt(rng, text)
    path.write_bytes(text)
    read_device(path, SUPERNET.space)
    if rng.random() < 0.02:  # slow
        learned_table(path, SUPERNET.space, SUPERNET.parts())


@case
def arrays(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Images in an .npz file."""
    good: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": rng.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8),
        "y_test": np.arange(8) % 4,
        "class_names": np.array(list("abcd")),
    }
    for _ in range(rng.integers(1, 3)):
        key = str(rng.choice(list(good)))
        good[key] = _other_array(rng, good[key])
        if rng.random() < 0.15:
            good.pop(key)
            good["x_train" if not good else str(rng.choice(["x", m.word(rng).replace("\0", "").replace("/", "_") or "y"]))] = np.zeros(3)
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in good.items():
            one = BytesIO()
            np.save(one, array, allow_pickle=True)
            content = m.spoilt(rng, one.getvalue()) if rng.random() < 0.1 else one.getvalue()
            archive.writestr(name.encode("utf-8", "replace").decode() + ".npy", content)
    path = folder / "x.npz"
    path.write_bytes(m.spoilt(rng, buffer.getvalue()) if rng.random() < 0.3 else buffer.getvalue())
    data = load(str(path))
    next(data.train.epoch(8, (0, 0), torch.device("cpu")))


def _other_array(rng: Generator, array: Any) -> Any:
    if array.ndim == 0 or array.size == 0:
        return array
    kinds = ["uint8", "int8", "int64", "uint64", "float16", "float64", "complex64", "bool", "U3", "object", "M8[s]"]
    how = rng.integers(7)
    with np.errstate(all="ignore"):
        if how == 0:
            return array.astype(rng.choice(kinds)) if array.dtype.kind != "U" else np.arange(len(array))
        if how == 1:
            return array.reshape(rng.permutation(array.shape)) if array.ndim > 1 else array[:, None]
        if how == 2:
            return array[: rng.integers(len(array) + 1)]
        if how == 3:
            return np.array(value) if not isinstance(value := m.value(rng), dict | list) else np.zeros((0,))
        if how == 4 and array.dtype.kind in "iu":
            large = array.astype(np.int64)
            large[rng.integers(len(large))] = rng.choice([-1, 10, 10**10, 2**62])
            return large
        if how == 5 and array.dtype.kind in "iu":
            broken = array.astype(np.float64)
            broken.flat[rng.integers(broken.size)] = rng.choice([np.nan, np.inf, 1e300])
            return broken
        return np.repeat(array[:1], len(array), axis=0)


@case
def image_folder(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Images in a folder."""
    from PIL import Image

    root = folder / "images"
    for part in ("train", "test") if rng.random() < 0.5 else ("",):
        for label in "abc"[: rng.integers(1, 4)]:
            (root / part / label).mkdir(parents=True, exist_ok=True)
            for i in range(rng.integers(0, 12)):
                file = root / part / label / f"{i}.{rng.choice(['png', 'jpg', 'txt', 'PNG'])}"
                buffer = BytesIO()
                Image.fromarray(rng.integers(0, 256, (rng.integers(1, 20), 9, 3), dtype=np.uint8)).save(buffer, "png")
                file.write_bytes(m.spoilt(rng, buffer.getvalue()) if rng.random() < 0.1 else buffer.getvalue())
            how = rng.integers(8)
            if how == 0:
                for loop in ("one", "two"):
                    (root / part / label / loop).symlink_to(root / part / label, target_is_directory=True)
            elif how == 1:
                (root / part / label / "broken.png").symlink_to("nowhere")
            elif how == 2:
                (root / part / label / "a folder.png").mkdir()
    root.mkdir(exist_ok=True)
    data = load(str(root), image_size=8, workers=0)
    next(data.train.epoch(4, (0, 0), torch.device("cpu")), None)


@case
def checkpoint(rng: Generator, folder: Path, kit: Kit) -> Any:
    """A supernet from somebody else."""
    path = folder / "supernet.pt"
    if rng.random() < 0.6:
        path.write_bytes(spoilt := m.spoilt(rng, kit.checkpoint))
        if spoilt == kit.checkpoint:
            return
    else:
        content = torch.load(BytesIO(kit.checkpoint), weights_only=True)
        content = {
            **content,
            "identity": IDENTITY,
            "losses": m.document(rng, content["losses"]),
            "allowed": m.document(rng, content["allowed"]),
        }
        key = str(rng.choice(list(content)))
        if rng.random() < 0.5:
            content[key] = m.value(rng)
        elif rng.random() < 0.3:
            content.pop(key)
        torch.save(m.value(rng) if rng.random() < 0.05 else content, path)
    found = load_checkpoint(path, IDENTITY)
    restore(mbconv((1, 8, 8), 10, depths=(1, 2, 1)), UniformPaths(), found)


@case
def delivered(rng: Generator, folder: Path, kit: Kit) -> Any:
    """A network from somebody else."""
    path = folder / "model.pt"
    content = (kit.runs["mobile"] / "model.pt").read_bytes()
    if rng.random() < 0.5:
        path.write_bytes(m.spoilt(rng, content))
    else:
        plain = torch.load(BytesIO(content), weights_only=True)
        key = str(rng.choice(list(plain)))
        plain[key] = m.document(rng, plain[key]) if isinstance(plain[key], list) else m.value(rng)
        torch.save(plain, path)
    load_model(path)


@case
def storage(rng: Generator, folder: Path, kit: Kit) -> Any:
    """Where trials are kept."""
    url = str(rng.choice([*URLS, m.word(rng)]))
    if rng.random() < 0.4:
        url = m.spoilt(rng, url.encode("utf-8", "surrogatepass")).decode("latin-1").replace("\0", "")
    try:
        check_storage(url)
        if "://" not in url:
            open_storage(folder / (os.path.basename(url) or "x"))
    except UsageError as error:
        if "secret@" in url and "secret" in str(error):
            raise RuntimeError(f"a password is shown: {error}") from None
        raise


@case
def journal(rng: Generator, folder: Path, kit: Kit) -> Any:
    """The trials of a run folder."""
    name = str(rng.choice(list(kit.runs)))
    out = _copied(kit.runs[name], folder)
    lines = (out / "study.log").read_bytes().splitlines(keepends=True)
    at = int(rng.integers(len(lines)))
    if rng.random() < 0.5:
        lines[at] = json.dumps(m.document(rng, json.loads(lines[at]))).encode("utf-8", "surrogatepass") + b"\n"
    else:
        lines[at] = m.spoilt(rng, lines[at])
    (out / "study.log").write_bytes(b"".join(lines))
    return _report(out)


@case
def run_folder(rng: Generator, folder: Path, kit: Kit) -> Any:
    """A run folder from a stranger."""
    out = _copied(kit.runs[str(rng.choice(list(kit.runs)))], folder)
    files = sorted(path.name for path in out.iterdir() if path.suffix == ".json" or path.name == "latency.csv")
    name = "result.json" if rng.random() < 0.6 else str(rng.choice(files))
    how = rng.integers(12)
    if how == 0:
        (out / name).unlink()
        (out / name).mkdir()
    elif how == 1:
        (out / name).unlink()
        (out / name).symlink_to(rng.choice(["/etc/passwd", "../../outside.json", name, "/dev/null"]))
    elif name.endswith(".json"):
        (out / name).write_bytes(m.text_of(rng, json.loads((out / name).read_text())))
    else:
        (out / name).write_bytes(m.spoilt(rng, (out / name).read_bytes()))
    command = rng.choice(["report", "again"])
    if command == "report" or "mobile" not in out.name:
        return _report(out)
    return _again(out)


def _copied(run: Path, folder: Path) -> Path:
    out = folder / run.name
    names = ("*.json", "study.log", "*.csv")
    for pattern in names:
        for file in run.glob(pattern):
            out.mkdir(exist_ok=True)
            shutil.copy(file, out)
    return out


def _report(out: Path) -> Any:
    with mock.patch("recipes.runner.pages.pictures.save", lambda figure, path: path.write_bytes(b"")):
        return here("report", out)


def _again(out: Path) -> Any:
    return here("mobile", "--data", "digits", "--epochs", "1", "--evaluations", "20", "--depths", "1,2,1", "--device", "cpu", "--out", out)


@case
def truth_table(rng: Generator, folder: Path, kit: Kit) -> Any:
    """NAS-Bench-Macro as its authors give it."""
    path = folder / "macro.json"
    entry = {"test_acc": [90.0, 91.0, 92.0], "params": 1.5, "flops": 30.0}
    path.write_bytes(m.text_of(rng, {"00000000": entry, "01201201": entry}))
    nasbench_macro(path)


@case
def search_history(rng: Generator, folder: Path, kit: Kit) -> Any:
    """A journal that a search is asked to go on with."""
    path = folder / "study.log"
    path.write_bytes(m.spoilt(rng, (kit.runs["mobile"] / "study.log").read_bytes()))
    from evonas.storage import repair_journal

    repair_journal(path)
    History.of(open_study(path, "search"), SUPERNET.space)
