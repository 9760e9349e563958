"""A network as a file that an app can use: pixels in, probabilities out, and everything it has to know inside.

`model.onnx` takes what training took, normalised numbers. An app has pixels: `for_app` puts the normalisation before the network and a
softmax behind it, and keeps the names of the classes, the size of the images and how to cut them out in the metadata. Whoever opens it
needs ONNX Runtime and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError, first_line
from evonas.files import written_whole
from evonas.images import decoded

APP = "app.onnx"
INPUT, OUTPUT = "image", "probabilities"
BORDER = 8 / 7  # the shorter side of an image is made so many times as long before its middle is cut out, as for folders of images
HIGHEST = 255.0
ROUNDING = 1e-6  # sides are cut off to whole pixels, as torchvision does; the shorter one is whole already
PREPARED = "the shorter side 8/7 of the size, bilinear, then the middle"
AS_THEY_ARE, CUT = "as they are", "cut as others"  # images that have the size already, as training took them
LAYOUT = "uint8, (n, channels, height, width), RGB or grey, 0 to 255"


def for_app(source: Path, path: Path, mean: Sequence[float], scale: Sequence[float], peak: float, told: Mapping[str, Any]) -> None:
    """Write an ONNX file that takes pixels and gives probabilities.

    Args:
        source: the network's ONNX file, which takes (images - mean) / scale.
        path: to write, whole or not at all.
        mean, scale: per channel, in the images' own unit.
        peak: white in that unit.
        told: metadata, as plain data.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    graph, shape = model.graph, (1, -1, 1, 1)
    inner, outer = graph.input[0], graph.output[0]
    factor = (peak / HIGHEST / np.asarray(scale, dtype=np.float32)).astype(np.float32).reshape(shape)
    offset = (-np.asarray(mean, dtype=np.float32) / np.asarray(scale, dtype=np.float32)).astype(np.float32).reshape(shape)
    graph.initializer.extend([numpy_helper.from_array(factor, "app_factor"), numpy_helper.from_array(offset, "app_offset")])
    before = [
        helper.make_node("Cast", [INPUT], ["app_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["app_float", "app_factor"], ["app_scaled"]),
        helper.make_node("Add", ["app_scaled", "app_offset"], [inner.name]),
    ]
    nodes = [*before, *graph.node, helper.make_node("Softmax", [outer.name], [OUTPUT], axis=1)]
    del graph.node[:]
    graph.node.extend(nodes)
    sizes, classes = ([_size(d) for d in each.type.tensor_type.shape.dim] for each in (inner, outer))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, sizes))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, classes))
    helper.set_model_props(model, {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()})
    with written_whole(path) as temporary:
        onnx.save(model, temporary)


def _size(dimension: Any) -> int | str:
    return str(dimension.dim_param) if dimension.dim_param else int(dimension.dim_value)


def session(path: Path, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        UsageError: the file cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"Cannot run {path}: {first_line(error)}. Expected a whole ONNX file; write it again.") from None


class App:
    """A delivered file, ready to say what is on an image. Needs ONNX Runtime, Pillow and nothing that trained it.

    Args:
        path: an `app.onnx`.

    Attributes:
        classes: names, in the order of the outputs.
        image_shape: (channels, height, width).
        told: all metadata, as text.

    Raises:
        UsageError: no such file, or none that was written for apps.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.exists():
            raise UsageError(f"There is no file {path}; expected the app.onnx of a finished run.")
        self._session = session(path)
        try:
            self.told: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
            self.classes: list[str] = json.loads(self.told["classes"])
            self.image_shape: tuple[int, int, int] = tuple(json.loads(self.told["image_shape"]))
        except Exception as error:
            raise UsageError(f"Cannot use {path}: {first_line(error)}. Expected the app.onnx of a finished run.") from None

    def pixels(self, path: str | Path) -> npt.NDArray[np.uint8]:
        """An image file as the network takes it: colours as it was trained, the middle of the image, its size. Shape (1, c, h, w).

        Raises:
            UsageError: the file is missing or no image.
        """
        from PIL import Image

        channels, height, width = self.image_shape
        if channels not in (1, 3):
            raise UsageError(f"The network takes {channels} channels, which no image file has; expected pixels, as the call takes them.")
        image = decoded(path, "L" if channels == 1 else "RGB")
        if image.size != (width, height) or self.told.get("exact") == CUT:
            times = max(round(BORDER * height) / image.height, round(BORDER * width) / image.width)
            size = [max(int(side * times + ROUNDING), least) for side, least in zip(image.size, (width, height), strict=True)]
            image = image.resize(tuple(size), Image.Resampling.BILINEAR)
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
            image = image.crop((left, top, left + width, top + height))
        array = np.asarray(image, dtype=np.uint8).reshape(height, width, channels)
        return array.transpose(2, 0, 1)[None]

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of the classes, shape (n, classes), of images (n, channels, height, width)."""
        return np.asarray(self._session.run([OUTPUT], {INPUT: pixels})[0])
