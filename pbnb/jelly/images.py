"""Images of Pillow, as their pixels.

::

    PIL.Image.Image  ["pbnb.image", ["list", mode, width, height, palette, pixels]]

``mode`` is one of Pillow's; ``palette`` is the mode of the palette, a colon and its colours, or is
empty. Pixels lie row by row, without gaps. What a file said besides, from a comment to its format,
stays behind. An image arrives as a plain one of its own.

Nothing here imports Pillow before an image is there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly
from ..wire.banana import Tree
from .tagging import Foreign, carried, check_reads, check_size, malformed, parts_of

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = ["IMAGE_READERS", "image_jellier"]

IMAGE = b"pbnb.image"

# Bits of a pixel in each mode.
_BITS = {
    **{"1": 1, "L": 8, "P": 8, "LA": 16, "PA": 16, "RGB": 24, "RGBA": 32, "RGBX": 32, "RGBa": 32},
    **{"La": 16, "CMYK": 32, "YCbCr": 24, "LAB": 24, "HSV": 24, "I": 32, "F": 32, "I;16": 16},
}
_PALETTES = {"RGB": 3, "RGBA": 4}
_LARGEST = 2**31 - 1


def image_jellier(kind: type) -> Foreign | None:
    """Returns how objects of a class that comes from Pillow are sent.

    Args:
        kind: The class: Pillow's own, or one that derives from such.
    """
    module = sys.modules.get("PIL.Image")
    # Each format of files has a class of its own, and so has nobody else.
    if module is None or not issubclass(kind, module.Image):
        return None
    if kind.__module__.partition(".")[0] != "PIL":
        raise InsecureJelly(
            f"a {kind.__module__}.{kind.__qualname__} is not sent: it is an image and more than "
            "that; send its copy() as a plain one"
        )
    return _IMAGE


def _size(mode: str, width: int, height: int) -> int:
    return (width * _BITS[mode] + 7) // 8 * height


def _fill_image(jellier: Jellier, image: Any, node: list[Tree]) -> None:
    check_reads(jellier, IMAGE)
    if image.mode not in _BITS:
        raise InsecureJelly(f"an image of the mode {image.mode} is not sent: convert() it first")
    width, height = image.size
    check_size(jellier, _size(image.mode, width, height), "an image")
    palette = b""
    if image.mode in ("P", "PA"):
        image.load()
        mode, colours = image.palette.mode, bytes(image.getpalette(image.palette.mode))
        palette = mode.encode() + b":" + colours
    pixels = carried(jellier, image.tobytes() if width and height else b"", "an image")
    state = [b"list", image.mode.encode(), width, height, palette, pixels]
    node.extend([IMAGE, state])


_IMAGE = Foreign(False, _fill_image)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise InsecureJelly(
            "a pbnb.image was received, and Pillow is not installed here: pip install pillow"
        ) from None
    return Image


def _read_image(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    mode_bytes, width, height, palette, pixels = parts_of(
        tree, bytes, int, int, bytes, (bytes, memoryview)
    )
    mode = mode_bytes.decode("latin-1")
    if mode not in _BITS:
        raise malformed(tree, "there is no such mode")
    if not (0 <= width <= _LARGEST and 0 <= height <= _LARGEST):
        raise malformed(tree, "no image has that size")
    if _size(mode, width, height) != len(pixels) or (not pixels and max(width, height) > 2**20):
        raise malformed(tree, f"its mode and size do not make {len(pixels)} bytes")
    kind, _, colours = palette.partition(b":")
    each = _PALETTES.get(kind.decode("latin-1"))
    if (
        bool(palette) != (mode in ("P", "PA"))
        or palette
        and (each is None or len(colours) % each or len(colours) > 256 * each)
    ):
        raise malformed(tree, "its palette does not fit")
    module = _pillow()
    try:
        made = module.new(mode, (width, height))
        if pixels:
            made.frombytes(bytes(pixels))
        if palette:
            made.putpalette(colours, kind.decode())
    except (ValueError, MemoryError) as error:
        raise malformed(tree, error) from None
    u.keep(promise, made)
    return made


IMAGE_READERS = {IMAGE: _read_image}
