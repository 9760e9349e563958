"""The network of a finished run in other forms: eight-bit integers, ExecuTorch, LiteRT, safetensors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from evonas.app import APP
from evonas.errors import UsageError
from evonas.files import read_json, write_json, written_whole
from predictors.devices import runtime
from predictors.devices.runtimes import RUNTIMES
from recipes.runner import options as o
from recipes.runner.delivery import app_file, load_model
from recipes.runner.progress import bar, say
from recipes.runner.run_folder import read_config, readable
from supernet import ImageData, load
from supernet.archive import load_archive

CALIBRATION, SCORED_TOGETHER = 256, 256
INT8, INT8_APP, WEIGHTS, PTE, TFLITE = "model-int8.onnx", "app-int8.onnx", "model.safetensors", "model.pte", "model.tflite"
IN_EIGHT_BITS = ("Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "MaxPool", "Concat", "Clip")


def export_run(
    run: Annotated[str, typer.Argument(help="A finished run folder.")],
    int8: Annotated[bool, typer.Option("--int8", help=f"{INT8} and {INT8_APP}: weights and values in eight bits, calibrated.")] = False,
    pte: Annotated[bool, typer.Option("--pte", help=f"{PTE} for ExecuTorch with XNNPACK (needs the extra mobile).")] = False,
    tflite: Annotated[bool, typer.Option("--tflite", help=f"{TFLITE} for LiteRT (needs the package litert-torch).")] = False,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help=f"{WEIGHTS}: the weights by name (needs the package safetensors).")
    ] = False,
    licence: Annotated[str | None, typer.Option(help=f"Written into the metadata of {APP}.")] = None,
    calibration: Annotated[int, typer.Option(help="Training images that say how large values become.", min=16)] = CALIBRATION,
    data: Annotated[str | None, typer.Option(help="Images of the run, where they lie elsewhere now.")] = None,
    image_size: o.ImageSize = None,
) -> None:
    """Write the network of a finished run in other forms, and say what each of them costs in accuracy and time.

    Without options it is written once more for apps alone: app.onnx, with normalisation and classes inside.

    Example: evonas export runs/demo --int8
    """
    folder = Path(run)
    if not (folder / "model.pt").exists():
        raise UsageError(f"There is no model.pt in {run}; expected the folder of a finished run.")
    arguments = read_config(folder)
    images = load(data or str(arguments.get("data", "")), image_size=image_size or arguments.get("image_size"))
    network = load_model(folder / "model.pt")
    _require_its_images(folder / "model.pt", images)
    with readable(folder):
        tested = read_json(folder / "result.json")["accuracy"]["test"] if (folder / "result.json").exists() else None
    more = {} if licence is None else {"licence": licence}
    app_file(folder / "model.onnx", folder / APP, images, tested, **more)
    figures: dict[str, Any] = {}
    if safetensors:
        _safetensors(network, folder / WEIGHTS)
    if pte:
        figures[PTE] = _for_runtime("executorch", network, images, folder / PTE)
    if tflite:
        figures[TFLITE] = _for_runtime("litert", network, images, folder / TFLITE)
    if int8:
        figures |= _int8(folder, images, tested, calibration, more)
    known = read_json(folder / "export.json") if (folder / "export.json").exists() else {}
    write_json(folder / "export.json", {**known, **figures})
    wanted = [APP] + [
        name for name, asked in ((WEIGHTS, safetensors), (PTE, pte), (TFLITE, tflite), (INT8, int8), (INT8_APP, int8)) if asked
    ]
    say(f"{run}: {', '.join(f'{name} ({(folder / name).stat().st_size / 1e3:.0f} kB)' for name in wanted)}")


def _require_its_images(path: Path, images: ImageData) -> None:
    """Refuse images that are not those of the run: what is written names their classes and normalises as they do.

    Raises:
        UsageError: other classes, another size, or another normalisation.
    """
    content, first = load_archive(path, "Expected the model.pt of a finished run."), images.train.head(1)
    same = list(images.classes) == list(content["classes"]) and list(images.image_shape) == list(content["image_shape"])
    if not same or not all(
        np.allclose(found.tolist(), content[name], rtol=1e-3) for name, found in (("mean", first.mean), ("scale", first.scale))
    ):
        raise UsageError(
            f"These images are not those of the run ({len(content['classes'])} classes, {'x'.join(map(str, content['image_shape']))}): "
            f"they have other classes, sizes or colours. Expected the same; --data says where they lie now."
        )


def quantised(source: Path, path: Path, batches: Iterator[np.ndarray], *, but: tuple[str, ...] = ()) -> None:
    """Write an ONNX file in eight bits: weights for each channel, values by what they reach on calibration images.

    Args:
        source: ONNX file of floats.
        path: to write, whole or not at all.
        batches: normalised images, each (n, channels, height, width).
        but: kinds of operators that stay as they are.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> Any:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory() as temporary, written_whole(path) as whole:
        prepared = Path(temporary) / "prepared.onnx"
        shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(whole),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[kind for kind in IN_EIGHT_BITS if kind not in but],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def calibrating(images: ImageData, count: int) -> Iterator[np.ndarray]:
    """Normalised training images without augmentation, in batches."""
    for batch, _ in images.train.head(count).batches(SCORED_TOGETHER, torch.device("cpu")):
        yield batch.contiguous().numpy()


def accuracy_of(path: Path, images: ImageData, what: str) -> float:
    """The share of the test images that an ONNX file names."""
    ready, right, done = runtime.session(path), 0, 0
    with bar(what) as update:
        for batch, labels in images.test.batches(SCORED_TOGETHER, torch.device("cpu")):
            outputs = np.asarray(ready.run(None, {"images": batch.contiguous().numpy()})[0])
            right, done = right + int((outputs.argmax(axis=1) == labels.numpy()).sum()), done + len(labels)
            update(done / len(images.test))
    return right / done


def _int8(folder: Path, images: ImageData, tested: float | None, calibration: int, more: dict[str, str]) -> dict[str, Any]:
    source, path = folder / "model.onnx", folder / INT8
    quantised(source, path, calibrating(images, calibration))
    found = accuracy_of(path, images, "test in eight bits")
    plain = tested if tested is not None else accuracy_of(source, images, "test in floats")
    app_file(path, folder / INT8_APP, images, found, **more)
    fast, slow = runtime.times_onnx([path, source], [images.image_shape] * 2)
    say(
        f"eight bits: test accuracy {100 * found:.2f} % instead of {100 * plain:.2f} %, {fast:.3g} ms instead of {slow:.3g} ms here, "
        f"{path.stat().st_size / 1e3:.0f} kB instead of {source.stat().st_size / 1e3:.0f} kB"
    )
    return {INT8: {"test": found, "milliseconds": fast}, "model.onnx": {"test": plain, "milliseconds": slow}}


def _safetensors(network: torch.nn.Module, path: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise UsageError("Writing safetensors needs its package; expected it: pip install safetensors.") from None
    with written_whole(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, str(temporary))


def _for_runtime(name: str, network: torch.nn.Module, images: ImageData, path: Path) -> dict[str, Any]:
    """Write the network for another runtime, and refuse what computes something else."""
    runs = RUNTIMES.pick(name).make()
    try:
        with written_whole(path) as temporary:
            runs.write(network, images.image_shape, temporary)
        difference = runs.check(network, path, _image(images))
    except UsageError as error:
        raise UsageError(f"{error} model.onnx is unharmed.") from None
    say(f"{path}: the outputs of PyTorch, to {difference:.1g}")
    return {"difference": difference}


def _image(images: ImageData) -> torch.Tensor:
    """A test image in the usual order: grey ones are contiguous in any, and a runtime would take another one."""
    image = torch.zeros(1, *images.image_shape)
    image.copy_(next(iter(images.test.batches(1, torch.device("cpu"))))[0])
    return image
