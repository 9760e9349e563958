"""The file for apps: pixels as training cut them out of photographs, whatever a file holds."""

import numpy as np
import pytest
import torch
from command import quick_export
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from evonas.app import CUT, App, for_app
from evonas.errors import UsageError

TOLD = {"classes": ["cat", "dog"], "image_shape": [3, 24, 24]}
MEAN, SCALE = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()


@pytest.fixture(scope="module")
def app(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    quick_export(network, (3, 24, 24), folder / "model.onnx", dynamic_batch=True)
    for_app(folder / "model.onnx", folder / "app.onnx", MEAN, SCALE, 255.0, TOLD)
    return App(folder / "app.onnx")


def photograph(rng, width, height):
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(24, 24), (300, 200), (31, 500), (25, 24), (10, 13)])
def test_pixels_are_those_that_training_saw(app, rng, tmp_path, size):
    """Of folders of images: torchvision's transforms, on which validation runs."""
    image = photograph(rng, *size)
    image.save(tmp_path / "image.png")
    plain = v2.Compose([v2.Resize(round(24 * 8 / 7), antialias=True), v2.CenterCrop(24), v2.PILToTensor()])
    expected = v2.PILToTensor()(image) if size == (24, 24) else plain(image)
    found = app.pixels(tmp_path / "image.png")
    np.testing.assert_array_equal(found[0], expected.numpy())
    if size == (24, 24):  # of folders, images that have the size already are cut as all others
        app.told["exact"] = CUT
        np.testing.assert_array_equal(app.pixels(tmp_path / "image.png")[0], plain(image).numpy())
        del app.told["exact"]


def test_probabilities_are_those_of_the_network(app, network, rng):
    pixels = rng.integers(0, 256, (5, 3, 24, 24), dtype=np.uint8)
    images = (torch.tensor(pixels).float() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
    with torch.no_grad():
        np.testing.assert_allclose(app(pixels), network(images).softmax(1).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGB", "jpg"),
        ("L", "png"),
        ("RGBA", "png"),
        ("P", "png"),
        ("LA", "png"),
        ("1", "png"),
        ("CMYK", "jpg"),
        ("I;16", "png"),
        ("P", "gif"),
    ],
)
def test_any_colours_and_any_format(app, rng, tmp_path, mode, ending):
    image = photograph(rng, 60, 40)
    image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / f"image.{ending}")
    found = app(app.pixels(tmp_path / f"image.{ending}"))
    assert found.shape == (1, 2)
    if mode == "I;16":  # 65,535 is white
        grey = app.pixels(tmp_path / f"image.{ending}")
        photograph_of_bytes = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        photograph_of_bytes.save(tmp_path / "bytes.png")
        assert np.abs(grey.astype(int) - app.pixels(tmp_path / "bytes.png").astype(int)).max() <= 2


def test_what_is_no_image_or_no_app_is_one_line(app, tmp_path, network):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UsageError, match="Cannot decode the image"):
        app.pixels(tmp_path / "text.png")
    with pytest.raises(UsageError, match=r"There is no file .*app.onnx"):
        App(tmp_path / "app.onnx")
    quick_export(network, (3, 24, 24), tmp_path / "app.onnx")
    with pytest.raises(UsageError, match=r"Expected the app\.onnx"):
        App(tmp_path / "app.onnx")
