"""Run folders, supernets and images from strangers: data, and nothing more."""

import json
import os
import shutil
import zipfile

import numpy as np
import psutil
import pytest
import torch
from command import here

from evonas import UsageError
from evonas.files import file_name, inside, written_whole
from supernet import load
from supernet.archive import load_archive, save_archive
from supernet.loading import from_arrays

RUN = ["--data", "digits", "--epochs", "1", "--retrain-epochs", "1", "--evaluations", "20", "--depths", "1,2,1", "--device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from supernet import mbconv

    folder = tmp_path_factory.mktemp("made")
    choices = {
        c.name: {option: float(i) for i, option in enumerate(c.options)} for c in mbconv((1, 8, 8), 10, depths=(1, 2, 1)).space.choices
    }
    (folder / "table.json").write_text(json.dumps({"device": "phone", "unit": "ms", "choices": choices}))
    done = here("mobile", *RUN, "--latency-table", folder / "table.json", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def stranger(made, tmp_path):
    return shutil.copytree(made, tmp_path / "theirs" / "run")


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_storage_in_a_strangers_config_is_not_opened(stranger, tmp_path):
    for storage in (str(tmp_path / "elsewhere.log"), f"sqlite:///{tmp_path}/elsewhere.db", "postgresql://127.0.0.1:1/x"):
        changed(stranger / "config.json", lambda content, storage=storage: content.update(storage=storage))
        before = everything(tmp_path)
        assert here("report", stranger).returncode == 0
        assert everything(tmp_path) == before
    (stranger / "study.log").unlink()
    for command in ("report", "dashboard"):
        done = here(command, stranger)
        assert done.returncode == 2
    assert everything(tmp_path) < before


def test_a_cost_is_not_a_path(stranger, tmp_path):
    def steal(content):
        for part in ("costs", "units"):
            content[part]["/../../stolen"] = content[part]["macs"]

    changed(stranger / "result.json", steal)
    before = everything(tmp_path)
    assert here("report", stranger).returncode == 0
    assert all(name.startswith("theirs/run/accuracy_") for name in everything(tmp_path) - before)


@pytest.mark.parametrize("name", ["../../stolen", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "", "x" * 500, "\x00", "\u202e", "con:"])
def test_names_become_harmless_file_names(name, tmp_path):
    found = file_name(name, ".png")
    assert (tmp_path / found).parent == tmp_path
    assert found.isascii()
    assert len(found) <= 100
    (tmp_path / found).write_text("")
    assert file_name("latency", ".png") == "latency.png"
    assert len({file_name(n) for n in ("a/b", "a\\b", "a_b", "a:b")}) == 4


@pytest.mark.parametrize("name", ["result.json", "config.json", "study.log"])
def test_links_out_of_a_run_folder_are_refused(stranger, tmp_path, name):
    shutil.move(stranger / name, tmp_path / "outside")
    (stranger / name).symlink_to(tmp_path / "outside")
    done = here("report", stranger)
    assert done.returncode == 2
    assert "leads out of its folder" in done.stderr
    with pytest.raises(UsageError):
        inside(stranger, name)


def test_a_supernet_that_cannot_be_used_leaves_nothing(stranger, tmp_path):
    (stranger / "supernet.pt").write_bytes((stranger / "supernet.pt").read_bytes()[:-1])
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    for run in (stranger, tmp_path / "nowhere", stranger / "supernet.pt"):
        done = here("mobile", *RUN, "--supernet", run, "--out", wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert not wrong.exists()
    assert not right.exists()


WRONG = [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b"3", b'{"": [[]', b'"x"']


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, damage) for file in ("result.json", "config.json") for damage in WRONG]
    + [("result.json", damage) for damage in (b'{"architecture": 3}', b'{"costs": {"a": "x"}}', b'{"costs": {"a": 1}}')],
)
def test_a_damaged_run_folder_is_one_line(stranger, file, damage):
    (stranger / file).write_bytes(damage)
    done = here("report", stranger)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Traceback" not in done.stderr
    assert len(done.stderr) <= 600


def test_every_damage_of_a_checkpoint_is_seen(tmp_path, rng):
    path = tmp_path / "x.pt"
    save_archive(path, {"weights": torch.randn(300), "losses": [1.0, 2.0]})
    whole = path.read_bytes()
    assert torch.load(path, weights_only=True)["losses"] == [1.0, 2.0]
    for _ in range(400):
        damaged = bytearray(whole)
        if rng.random() < 0.7:
            damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        else:
            del damaged[rng.integers(len(damaged)) :]
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="Cannot read"):
            load_archive(path, "Restore it.")


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(1_000_000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(UsageError, match="unpacks to more than its own size"):
        load_archive(tmp_path / "x.pt", "Restore it.")


def packed(path, images, height):
    """An .npz file that is small, and unpacks to very much of the same."""
    x = np.broadcast_to(np.zeros((1, height, height), np.uint8), (images, height, height))
    y = np.arange(images) % 2
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])


def test_a_small_file_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    packed(tmp_path / "x.npz", 400, 500)
    assert (tmp_path / "x.npz").stat().st_size < 1e6
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2e8}))
    with pytest.raises(UsageError, match=r"unpacks to 0\.1\d* GB.*0\.2 GB are free"):
        load(str(tmp_path / "x.npz"))


@pytest.mark.serial
def test_statistics_of_many_images_need_little_memory(tmp_path):
    """100 MB of images: the peak stays below five times that, where a float64 copy alone would be eight times."""
    import subprocess
    import sys

    packed(tmp_path / "x.npz", 400, 500)
    code = "import resource, sys; from supernet import load; import torch; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
    code += "load(sys.argv[1]); print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.npz")], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500


def test_statistics_in_pieces_are_those_of_all(rng, monkeypatch):
    images = rng.integers(0, 256, (50, 8, 9, 3), dtype=np.uint8)
    monkeypatch.setattr("supernet.loading.PIECE_NUMBERS", 1000)
    part = from_arrays("own", images, np.arange(50) % 2, images, np.arange(50) % 2).train
    np.testing.assert_allclose(part.mean, part.images.double().mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(part.scale, part.images.double().std((0, 2, 3), correction=0), rtol=1e-6)


@pytest.mark.parametrize("label", [10**10, 2**62])
def test_huge_labels_are_refused_in_one_line(label):
    images, labels = np.zeros((20, 8, 8), np.uint8), np.array([0, label] * 10)
    with pytest.raises(UsageError, match=f"holds labels 0 to {label}; expected 0 to 1"):
        from_arrays("own", images, labels, images, labels)


def test_one_class_is_refused(tmp_path):
    from PIL import Image

    images = np.zeros((20, 8, 8), np.uint8)
    with pytest.raises(UsageError, match="of one class"):
        from_arrays("own", images, np.zeros(20, int), images, np.zeros(20, int))
    (tmp_path / "only").mkdir()
    for i in range(20):
        Image.fromarray(images[0]).save(tmp_path / "only" / f"{i}.png")
    with pytest.raises(UsageError, match="of one class"):
        load(str(tmp_path), image_size=8, workers=0)


def test_a_folder_with_links_in_a_circle_is_read_once(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name / "more").mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / "more" / f"{i}.png")
        for loop in ("one", "two"):
            (tmp_path / name / loop).symlink_to(tmp_path / name, target_is_directory=True)
    data = load(str(tmp_path), image_size=8, workers=0)
    assert len(data.train) + len(data.search) + len(data.test) == 20


@pytest.mark.parametrize("argument", ["x\0y", "\x1b[31mred", "x" * 5000, "\ud800"])
def test_arguments_that_cannot_be_printed_or_end_nowhere(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option in ("--data", "--latency-table", "--supernet", "--layout", "--budget", "--predictor", "--device"):
        data = [] if option == "--data" else ["--data", "digits"]
        done = here("mobile", *data, "--device", "cpu", option, argument)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.rstrip("\n").isprintable()
        assert len(done.stderr) <= 600


def test_an_error_without_a_message_is_still_a_line(monkeypatch):
    from recipes.runner import measure

    def silent(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(measure, "load", silent)
    done = here("measure", "--out", "x.csv")
    assert (done.returncode, done.stderr) == (1, "evonas: Unexpected MemoryError: MemoryError (--debug shows where)\n")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(UsageError, match=r"No space is left on the disk of .* goes on from here"),
        written_whole(tmp_path / "x") as temporary,
    ):
        temporary.write_text("half")
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_is_taken_away_is_said(made, tmp_path, monkeypatch):
    from recipes.runner import movements

    def taken(*arguments, **options):
        shutil.rmtree(tmp_path / "run")
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "run" / "supernet.pt"))

    monkeypatch.setattr(movements, "train_into", taken)
    done = here("mobile", *RUN, "--latency-table", made.parent / "table.json", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was taken away while it was used" in done.stderr


def test_a_folder_where_a_file_is_expected(made, tmp_path):
    done = here("mobile", *RUN, "--latency-table", tmp_path, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    copy = shutil.copytree(made, tmp_path / "copy")
    for name in ("result.json", "study.log"):
        (copy / name).unlink()
        (copy / name).mkdir()
        done = here("report", copy)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_negative_blocks_are_refused(made, tmp_path):
    content = json.loads((made.parent / "table.json").read_text())
    next(iter(content["choices"].values()))["mb3_k3"] = -0.5
    (tmp_path / "t.json").write_text(json.dumps(content))
    done = here("mobile", *RUN, "--latency-table", tmp_path / "t.json", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "mb3_k3 holds -0.5; expected a number of milliseconds of at least 0" in done.stderr
