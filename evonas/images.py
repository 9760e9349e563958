"""An image file as eight-bit colours: the same for training, validation and whoever uses what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evonas.errors import UsageError, first_line

DEEP = 257  # levels of sixteen bits to one of eight


def decoded(path: str | Path, mode: str = "RGB") -> Any:
    """A Pillow image: upright, as the camera meant it; sixteen bits scaled to eight; what is transparent on white, as a page shows it.

    Args:
        path: of the file.
        mode: `RGB`, or `L` for grey.

    Raises:
        UsageError: the file is missing or no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened) or opened
            if image.mode.startswith("I"):  # Pillow would clip them
                image = image.convert("I").point(lambda value: value / DEEP).convert("L")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert(mode)
    except Exception as error:
        raise UsageError(
            f"Cannot decode the image {path}: {first_line(error)}. Expected a PNG or JPEG file, say; remove or repair it."
        ) from None
