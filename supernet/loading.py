"""Loading images, by name, from a folder or from arrays, in three disjoint parts.

*train* is for weights, *search* for fitness and all selection, *test* for once at the end. Splits are drawn with one fixed
seed, stratified by class, so that runs with different seeds are compared on the same images. Whatever is wrong with the
images is found here, in one line.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from evonas.errors import UsageError, first_line, unknown
from evonas.images import decoded
from supernet.data import FolderPart, ImageData, TensorPart

SEARCH_SHARE = 0.2
MOST_SEARCH_IMAGES = 10_000
TEST_SHARE = 0.2
SPLIT_SEED = 0
FOLDER_IMAGE_SIZE = 224
CHECKED_S, NAMED = 10.0, 5  # seconds in which the images of a folder are looked at, and broken ones that are named
PIECE_NUMBERS = 1 << 24
COPIES = 3  # of an array in memory at the same time: as read, with channels first, and the part that is trained on


def load(name: str, *, root: str | Path = "data", image_size: int | None = None, color_jitter: float = 0.0, workers: int = 2) -> ImageData:
    """Load images by name or path.

    Args:
        name: digits, cifar10, cifar100, fashion_mnist, a folder of images, or an `.npz` file with x_train, y_train, x_test
            and y_test (images (n, h, w) or (n, h, w, channels)).
        root: where torchvision downloads its data sets to.
        image_size: pixels that folder images are cropped to; 224 unless told otherwise.
        color_jitter: by which share brightness, contrast and saturation of training images vary; images of a folder only.
        workers: processes that decode folder images.

    Raises:
        UsageError: an unknown name, color_jitter without a folder, a missing or damaged file, arrays of the wrong shape or with NaN,
            labels out of range, a class without images.
    """
    path = Path(name)
    if "\0" in name:
        raise UsageError("The name of the images holds a NUL character; expected text.")
    if color_jitter and not path.is_dir():
        raise UsageError(f"Colours vary in the images of a folder only, and {name!r} is none; expected color_jitter=0.")
    if name in DATA_SETS:
        return DATA_SETS[name](Path(root))
    if path.is_dir():
        return _folder(path, image_size or FOLDER_IMAGE_SIZE, color_jitter, workers)
    if path.suffix == ".npz":
        return _arrays(path)
    if path.exists() or "/" in name:
        raise UsageError(f"Cannot read images from {name!r}; expected a folder of images, an .npz file, or one of: {', '.join(DATA_SETS)}.")
    raise unknown("data", name, [*DATA_SETS, "a folder of images", "an .npz file"])


def from_arrays(
    name: str,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    *,
    classes: tuple[str, ...] | None = None,
    padding: int | None = None,
    flip: bool = True,
) -> ImageData:
    """A data set of your own arrays: images (n, h, w) or (n, h, w, channels), labels 0, 1, ...; train is split in train and search.

    Args:
        padding: pixels that augmentation shifts by at most; an eighth of the image unless told otherwise.
        flip: whether augmentation mirrors images.

    Raises:
        UsageError: shapes that do not belong together, NaN, labels out of range, a class with fewer than two training images.
    """
    parts = {"train": (_images(name, "x_train", x_train), y_train), "test": (_images(name, "x_test", x_test), y_test)}
    for part, (images, labels) in parts.items():
        if labels.ndim == 2 and 1 in labels.shape:
            raise UsageError(f"{name}: y_{part} has shape {labels.shape}; expected one dimension.")
        if labels.shape != (len(images),) or len(images) == 0:
            raise UsageError(
                f"{name}: y_{part} has shape {labels.shape}, x_{part} {images.shape}; expected one label for each of at least one image."
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise UsageError(f"{name}: y_{part} holds {labels.dtype}; expected integers 0, 1, ...")
    (images, labels), (test_images, test_labels) = parts["train"], parts["test"]
    if images.shape[1:] != test_images.shape[1:]:
        raise UsageError(f"{name}: training images have shape {images.shape[1:]}, test images {test_images.shape[1:]}; expected the same.")
    highest = int(labels.max(initial=0))
    # more classes than images: count those that there are, whose numbers may be as large as they like
    count = len(classes) if classes is not None else highest + 1 if highest < len(labels) else len(np.unique(labels))
    for part, (_, values) in parts.items():
        if values.min() < 0 or values.max() >= count:
            raise UsageError(f"{name}: y_{part} holds labels {values.min()} to {values.max()}; expected 0 to {count - 1}.")
    _require_classes(name, count)
    names = classes or tuple(map(str, range(count)))
    kept, held = _split(name, labels, min(MOST_SEARCH_IMAGES, round(SEARCH_SHARE * len(labels))), names)
    mean, scale = _mean_and_scale(images, kept)
    train = TensorPart(
        torch.from_numpy(images[kept]),
        torch.from_numpy(labels[kept].astype(np.int64)),
        torch.tensor(mean, dtype=torch.float32),
        torch.tensor(np.maximum(scale, 1e-6), dtype=torch.float32),
        padding=max(images.shape[2] // 8, 1) if padding is None else padding,
        flip=flip,
    )
    search = replace(train, images=torch.from_numpy(images[held]), labels=torch.from_numpy(labels[held].astype(np.int64)))
    test = replace(train, images=torch.from_numpy(test_images), labels=torch.from_numpy(test_labels.astype(np.int64)))
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    return ImageData(name, train, search, test, classes or tuple(map(str, range(count))), shape)


def _require_classes(name: str, count: int) -> None:
    if count < 2:
        raise UsageError(f"{name}: all images are of one class; expected two classes or more.")


def _mean_and_scale(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over some of the images, summed in pieces: no copy of all of them is made."""
    totals, squares = np.zeros(images.shape[1]), np.zeros(images.shape[1])
    count = len(rows) * images.shape[2] * images.shape[3]
    pieces = np.array_split(np.sort(rows), max(images[0].size * len(rows) // PIECE_NUMBERS, 1))
    for piece in pieces:
        totals += images[piece].sum((0, 2, 3), dtype=np.float64)
    mean = totals / count
    for piece in pieces:
        squares += ((images[piece] - mean[:, None, None]) ** 2).sum((0, 2, 3))
    return mean, np.sqrt(squares / count)


def _images(name: str, key: str, images: np.ndarray) -> np.ndarray:
    """(n, h, w[, c]) of any number type to contiguous (n, c, h, w) uint8 or float32."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 2, 3, 4) or min(images.shape[1:3]) < 4:
        raise UsageError(
            f"{name}: {key} has shape {images.shape}; expected (n, height, width) or (n, height, width, 1 to 4 channels), 4 pixels or more."
        )
    if images.dtype != np.uint8:
        if not (np.issubdtype(images.dtype, np.number) and np.isrealobj(images)):
            raise UsageError(f"{name}: {key} holds {images.dtype}; expected numbers.")
        with np.errstate(over="ignore"):
            images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise UsageError(
                f"{name}: {key} holds NaN or infinity in {int((~np.isfinite(images)).any((1, 2, 3)).sum())} images; remove or repair them."
            )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _split(name: str, labels: np.ndarray, held: int, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (kept, held out), shuffled, stratified by class."""
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels, minlength=len(classes))  # labels are below the number of classes, checked before
    if counts.min() < 2 or held < len(classes):
        raise UsageError(
            f"{name}: class {classes[int(counts.argmin())]} has {counts.min()} of {len(labels)} images; expected 2 or more a class and "
            f"{int(np.ceil(len(classes) / SEARCH_SHARE))} in all, so that every class stands in train and in search."
        )
    kept, out = train_test_split(np.arange(len(labels)), test_size=held, stratify=labels, random_state=SPLIT_SEED)
    return kept, out


def _digits(root: Path) -> ImageData:
    """The 1,797 digits of 8x8 pixels that scikit-learn bundles."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.float32), digits.target
    kept, test = _split("digits", labels, round(TEST_SHARE * len(labels)), tuple("0123456789"))
    return from_arrays("digits", images[kept], labels[kept], images[test], labels[test], flip=False)


def _torchvision(kind: str, flip: bool) -> Callable[[Path], ImageData]:
    def make(root: Path) -> ImageData:
        import torchvision

        dataset = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST"}[kind]
        try:
            train, test = (getattr(torchvision.datasets, dataset)(root, train=part, download=True) for part in (True, False))
        except Exception as error:
            raise UsageError(
                f"Cannot download {kind} to {root.resolve()}: {first_line(error)}. Check the network, or place torchvision's files there."
            ) from error
        x, y = ([np.asarray(part.data) for part in (train, test)], [np.asarray(part.targets) for part in (train, test)])
        return from_arrays(kind, x[0], y[0], x[1], y[1], classes=tuple(train.classes), flip=flip)

    return make


DATA_SETS: dict[str, Callable[[Path], ImageData]] = {
    "digits": _digits,
    "cifar10": _torchvision("cifar10", flip=True),
    "cifar100": _torchvision("cifar100", flip=True),
    "fashion_mnist": _torchvision("fashion_mnist", flip=True),
}


def _arrays(path: Path) -> ImageData:
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        require_memory(path)
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in keys if key not in file]:
                raise UsageError(f"{path} lacks the array {missing[0]!r}; expected {', '.join(keys)}.")
            arrays = [file[key] for key in keys]
            if broken := [key for key, array in zip(keys, arrays, strict=True) if not isinstance(array, np.ndarray)]:
                raise UsageError(f"{path}: {broken[0]} is no array; expected {', '.join(keys)}.")
            names = np.atleast_1d(file["class_names"]) if "class_names" in file else None
            if names is not None and (names.ndim > 1 or len(set(map(str, names))) < len(names)):
                raise UsageError(f"{path}: class_names has shape {names.shape}; expected a list of different names.")
            classes = None if names is None else tuple(map(str, names))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}; expected an .npz file with {', '.join(keys)}.") from None
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"Cannot read {path}: {first_line(error)}. Expected an .npz file with {', '.join(keys)}; write it again."
        ) from error
    return from_arrays(str(path), *arrays, classes=classes)


def require_memory(path: Path) -> None:
    """Refuse an .npz file that unpacks to more than the memory that is free: a small file may hold a great deal of the same.

    Raises:
        UsageError: it is too large.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    free = psutil.virtual_memory().available
    if COPIES * size > free:
        raise UsageError(
            f"{path} unpacks to {size / 1e9:.3g} GB, which needs {COPIES * size / 1e9:.3g} GB of memory; {free / 1e9:.3g} GB are free. "
            f"Use fewer or smaller images, or a folder of images, which are read when they are needed."
        )


def _require_whole(files: Sequence[str]) -> None:
    """Decode images before anything is trained, for ten seconds at most and spread over all of them; all that are broken are named at once.

    What is not looked at now is refused when it is read.

    Raises:
        UsageError: some cannot be decoded.
    """
    broken, start = [], time.monotonic()
    for position in np.random.default_rng(0).permutation(len(files)):
        if time.monotonic() - start > CHECKED_S:
            break
        try:
            decoded(files[position])
        except UsageError as error:
            broken.append((files[position], str(error)))
    if len(broken) == 1:
        raise UsageError(broken[0][1])
    if broken:
        named = ", ".join(file for file, _ in sorted(broken)[:NAMED])
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise UsageError(f"Cannot decode {len(broken)} of {len(files)} images: {named}{more}. Remove or repair them.")


def _image_files(folder: Path, classes: dict[str, int]) -> list[tuple[str, int]]:
    """The images of every class in the order of their names; folders are entered once each, so that links in a circle end.

    Raises:
        FileNotFoundError: a class has none.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    found: list[tuple[str, int]] = []
    for name, label in sorted(classes.items()):
        before, seen = len(found), set[str]()
        for root, files in sorted(_walk(folder / name, seen)):
            found += [(os.path.join(root, file), label) for file in sorted(files) if file.lower().endswith(IMG_EXTENSIONS)]
        if len(found) == before:
            raise FileNotFoundError(f"Found no image of the class {name}")
    return found


def _walk(folder: Path, seen: set[str]) -> Iterator[tuple[str, list[str]]]:
    """As `os.walk` with links followed, but no folder twice."""
    for root, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield root, files


def _folder(path: Path, image_size: int, color_jitter: float, workers: int) -> ImageData:
    """`path/train/CLASS/...` and `path/test/CLASS/...` (or `val`), or `path/CLASS/...`, of which a fifth becomes test."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    size = image_size
    jitter = [v2.ColorJitter(color_jitter, color_jitter, color_jitter)] if color_jitter else []
    crop = v2.RandomResizedCrop(size, (0.35, 1.0), antialias=True)
    augment = v2.Compose([crop, *jitter, v2.RandomHorizontalFlip(), v2.PILToTensor()])
    plain = v2.Compose([v2.Resize(round(size * 8 / 7), antialias=True), v2.CenterCrop(size), v2.PILToTensor()])

    class Images(ImageFolder):
        @staticmethod
        def make_dataset(directory: Any, class_to_idx: dict[str, int], *arguments: Any, **options: Any) -> list[tuple[str, int]]:
            return _image_files(Path(directory), class_to_idx)

    def open_folder(folder: Path) -> tuple[Any, Any]:
        try:
            return Images(folder, transform=augment, loader=decoded), Images(folder, transform=plain, loader=decoded)
        except (FileNotFoundError, OSError, ValueError) as error:
            raise UsageError(f"{folder}: {first_line(error)}. Expected one folder of images for each class, none of them empty.") from None

    train_folder = path / "train" if (path / "train").is_dir() else path
    augmented, plain_set = open_folder(train_folder)
    labels = np.array(augmented.targets)
    _require_classes(str(path), len(augmented.classes))
    classes, rows = tuple(augmented.classes), np.arange(len(labels))
    test_folder = next((path / name for name in ("test", "val") if (path / name).is_dir()), None) if train_folder != path else None
    if test_folder is not None:
        _, test_set = open_folder(test_folder)
        if tuple(test_set.classes) != classes:
            raise UsageError(f"{test_folder} holds the classes {test_set.classes}; expected those of {train_folder}: {list(classes)}.")
        test_rows = np.arange(len(test_set.targets))
    else:
        rows, test_rows = _split(str(path), labels, round(TEST_SHARE * len(labels)), classes)
        test_set = plain_set
    _require_whole(list(dict.fromkeys(file for part in (augmented, test_set) for file, _ in part.samples)))
    kept, held = _split(str(path), labels[rows], min(MOST_SEARCH_IMAGES, round(SEARCH_SHARE * len(rows))), classes)
    mean, scale = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([58.4, 57.1, 57.4])  # of ImageNet, the field's habit for photographs
    train = FolderPart(augmented, plain_set, rows[kept], mean, scale, workers)
    search, test = replace(train, rows=rows[held]), replace(train, plain=test_set, rows=test_rows)
    return ImageData(str(path), train, search, test, classes, (3, size, size))
