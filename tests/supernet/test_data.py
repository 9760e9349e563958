"""Data: three disjoint parts, augmentation that only moves pixels, and one clear line for whatever is wrong."""

import numpy as np
import pytest
import torch

from evonas import UsageError
from supernet import load
from supernet.loading import from_arrays

CPU = torch.device("cpu")


def arrays(n=120, size=8, channels=3, classes=4, seed=0):
    """Images whose first pixels hold their own number, so that every image can be told from the others."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 255, size=(n, size, size, channels), dtype=np.uint8)
    x[:, 0, 0, 0], x[:, 0, 1, 0] = np.arange(n) % 250, np.arange(n) // 250
    return {"x_train": x, "y_train": np.arange(n) % classes, "x_test": x[:30] // 2, "y_test": np.arange(30) % classes}


def identities(part):
    return {tuple(image.flatten().tolist()) for image in part.images}


def test_the_parts_are_disjoint_and_stratified(digits):
    parts = [identities(part) for part in (digits.train, digits.search, digits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(digits.train) + len(digits.search) + len(digits.test) == 1797
    shares = [np.bincount(part.labels.numpy(), minlength=10) / len(part) for part in (digits.train, digits.search)]
    assert np.abs(shares[0] - shares[1]).max() < 0.02


def test_arrays_are_split_without_loss(tmp_path):
    content = arrays()
    np.savez(tmp_path / "own.npz", **content, class_names=np.array(["a", "b", "c", "d"]))
    data = load(str(tmp_path / "own.npz"))
    whole = {tuple(image.transpose(2, 0, 1).ravel().tolist()) for image in content["x_train"]}
    assert identities(data.train) | identities(data.search) == whole
    assert not identities(data.train) & identities(data.search)
    assert data.classes == ("a", "b", "c", "d")
    assert data.image_shape == (3, 8, 8)
    images, labels = next(data.test.batches(30, CPU))
    mean, scale = content["x_train"].mean((0, 1, 2)), content["x_train"].std((0, 1, 2))
    expected = (content["x_test"] - mean) / scale
    np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), expected, atol=0.1)  # the statistics are of train without search
    assert labels.tolist() == content["y_test"].tolist()


def test_augmentation_shifts_and_mirrors_and_nothing_else():
    """Every augmented image is one of the finitely many shifts of its original, mirrored or not, found by brute force."""
    content = arrays(n=60, channels=1)
    data = from_arrays("own", **content, padding=2, flip=True)
    part = data.train
    originals = part.images.numpy()[:, 0].astype(np.float64)
    padded = np.pad(originals, ((0, 0), (2, 2), (2, 2)))
    shifts = np.stack([padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)], axis=1)
    candidates = np.concatenate([shifts, shifts[..., ::-1]], axis=1)
    seen = set()
    for epoch in range(6):
        for images, labels in part.epoch(16, (0, epoch), CPU):
            raw = (images * part.scale[:, None, None] + part.mean[:, None, None]).numpy()[:, 0]
            for image, label in zip(raw, labels, strict=True):
                match = np.argwhere(np.abs(candidates - image).max(axis=(2, 3)) < 1e-2)
                assert len(match) >= 1
                assert any(part.labels[i] == label for i, _ in match)
                seen |= {int(k) for _, k in match}
    assert len(seen) == 50, "some shift or mirroring never came up"


def test_epochs_are_a_function_of_their_seed(digits):
    def epoch(seed):
        return torch.cat([images for images, _ in digits.train.epoch(64, seed, CPU)])

    assert torch.equal(epoch((1, 2)), epoch((1, 2)))
    assert not torch.equal(epoch((1, 2)), epoch((1, 3)))
    assert not torch.equal(epoch((1, 2)), epoch((2, 2)))
    assert len(epoch((0, 0))) == len(digits.train) // 64 * 64


def change(**changes):
    content = arrays()
    return {**content, **{key: value(content[key]) for key, value in changes.items()}}


def with_nan(x):
    x = x.astype(np.float32)
    x[3, 0, 0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (change(x_train=with_nan), "x_train holds NaN or infinity in 1 images"),
        (change(x_train=lambda x: x[:, 0]), r"expected \(n, height, width\)|same"),
        (change(x_train=lambda x: x.reshape(120, -1)), "x_train has shape"),
        (change(x_train=lambda x: x[:, :2, :2]), "4 pixels or more"),
        (change(y_train=lambda y: y[:-1]), "one label for each"),
        (change(y_train=lambda y: y.astype(float)), "expected integers"),
        (change(y_train=lambda y: y - 1), "labels -1 to 2; expected 0 to 2"),
        (change(y_test=lambda y: y + 9), "y_test holds labels 9 to 12; expected 0 to 3"),
        (change(y_train=lambda y: np.where(y == 2, 3, y)), "class 2 has 0 of 120 images"),
        (change(x_test=lambda x: x[:, :6]), "expected the same"),
        (change(x_test=lambda x: x[:0], y_test=lambda y: y[:0]), "at least one image"),
        (change(x_train=lambda x: x.astype(complex)), "expected numbers"),
    ],
)
def test_wrong_arrays_are_one_clear_line(tmp_path, content, words):
    np.savez(tmp_path / "own.npz", **content)
    with pytest.raises(UsageError, match=words) as error:
        load(str(tmp_path / "own.npz"))
    assert "\n" not in str(error.value)


def test_wrong_names_and_files(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    np.savez(tmp_path / "partial.npz", x_train=np.zeros((3, 8, 8)))
    (tmp_path / "text.txt").write_text("hello")
    for name, words in (
        ("cifar_10", "Did you mean 'cifar10'"),
        (str(tmp_path / "none.npz"), "no file"),
        (str(tmp_path / "broken.npz"), "Cannot read"),
        (str(tmp_path / "partial.npz"), "lacks the array 'y_train'"),
        (str(tmp_path / "text.txt"), "expected a folder of images"),
        (str(tmp_path / "nowhere"), "expected a folder of images"),
    ):
        with pytest.raises(UsageError, match=words):
            load(name)


@pytest.fixture
def folder(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 60, (40, 50, 3), dtype=np.uint8) + np.uint8(150 * label)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_folder(folder, workers):
    data = load(str(folder), image_size=32, workers=workers)
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.search), len(data.test)) == (19, 5, 6)
    assert not set(data.train.rows) & set(data.search.rows)
    images, labels = next(data.train.epoch(8, (0, 0), CPU))
    assert images.shape == (8, 3, 32, 32)
    assert ((images.mean((1, 2, 3)) > 0) == (labels == 1)).all()  # dogs are the bright ones
    head = data.search.head(5)
    for (a, la), (b, lb) in zip(head.batches(2, CPU), data.search.batches(2, CPU), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


def test_a_folder_without_a_test_part_is_split(folder):
    data = load(str(folder / "train"), image_size=32, workers=0)
    rows = [set(part.rows) for part in (data.train, data.search, data.test)]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 24


def test_colours_of_a_folder_vary_in_training_only(folder):
    """Grey images of one brightness stay what they are without it; with it, every training image has its own."""
    from PIL import Image

    for file in (folder / "train").rglob("*.png"):
        Image.new("RGB", (40, 40), (128, 128, 128)).save(file)
    spread = {}
    for jitter in (0.0, 0.4):
        data = load(str(folder), image_size=32, color_jitter=jitter, workers=0)
        images = next(data.train.epoch(len(data.train), (0, 0), CPU))[0]
        spread[jitter] = float(images.mean((1, 2, 3)).std())
        assert float(next(data.train.batches(4, CPU))[0].std((0, 2, 3)).max()) < 1e-5
    assert spread[0.0] < 1e-5
    assert spread[0.4] > 0.1
    with pytest.raises(UsageError, match="images of a folder only"):
        load("digits", color_jitter=0.4)


def test_wrong_folders(folder):
    (folder / "train" / "empty").mkdir()
    with pytest.raises(UsageError, match="empty"):
        load(str(folder))
    (folder / "train" / "empty").rmdir()
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"Cannot decode the image .*0\.png: cannot identify image file"):
        load(str(folder), image_size=32)
    for name in ("3.png", "7.png"):
        whole = (folder / "train" / "dog" / name).read_bytes()
        (folder / "train" / "dog" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"Cannot decode 3 of 30 images: .*cat/0\.png, .*dog/3\.png, .*dog/7\.png\. Remove"):
        load(str(folder), image_size=32)


def test_an_image_that_breaks_later_is_named_when_it_is_read(folder):
    data = load(str(folder), image_size=32, workers=2)
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"Cannot decode the image .*0\.png") as error:
        list(data.train.epoch(4, (0, 0), CPU)) + list(data.search.batches(4, CPU))
    assert "\n" not in str(error.value)
