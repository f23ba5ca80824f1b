"""Images of Pillow: there and back, and from a peer that lies about them."""

from __future__ import annotations

import asyncio
import io
import sys
from typing import Any

import pytest
from PIL import Image

from pbnb.errors import InsecureJelly
from pbnb.jelly import jelly, unjelly
from pbnb.jelly.images import image_jellier
from pbnb.wire.banana import decode, encode
from tests.jelly.test_arrays import Echo
from tests.support.serving import served

MODES = [
    *("1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB"),
    *("HSV", "I", "F", "I;16"),
]


def there_and_back(value: Any) -> Any:
    return unjelly(decode(encode(jelly(value))))


def image(mode: str, size: tuple[int, int] = (13, 7)) -> Image.Image:
    made = Image.new(mode, size)
    if size[0] and size[1]:
        count = len(made.tobytes())
        made.frombytes((bytes(range(256)) * count)[:count])
    if mode in ("P", "PA"):
        made.putpalette(bytes(range(30)))
    return made


def check_same(made: Any, value: Image.Image) -> None:
    assert type(made) is Image.Image
    assert (made.mode, made.size) == (value.mode, value.size)
    assert made.getpalette() == value.getpalette()
    if value.width and value.height:
        assert made.tobytes() == value.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_an_image_arrives_as_it_was(mode: str) -> None:
    check_same(there_and_back(image(mode)), image(mode))
    check_same(there_and_back(image(mode, (0, 5))), image(mode, (0, 5)))


def test_an_image_of_a_file_arrives_as_a_plain_one() -> None:
    file = io.BytesIO()
    image("RGB").save(file, "PNG", pnginfo=None)
    opened = Image.open(file)
    assert type(opened) is not Image.Image
    check_same(there_and_back(opened), image("RGB"))
    transparent = image("P")
    transparent.putpalette(bytes(range(40)), "RGBA")
    made = there_and_back(transparent)
    assert made.getpalette("RGBA") == transparent.getpalette("RGBA")


def test_one_image_met_twice_arrives_as_one() -> None:
    value = image("L")
    one, two = there_and_back([value, value])
    assert one is two


class Photo(Image.Image):
    pass


def test_what_is_more_than_an_image_is_refused() -> None:
    with pytest.raises(InsecureJelly, match="Photo is not sent: it is an image and more"):
        jelly([Photo()])
    assert image_jellier(int) is None


def test_where_pillow_is_missing_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = jelly(image("L"))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InsecureJelly, match="Pillow is not installed here: pip install pillow"):
        unjelly(tree)


@pytest.mark.parametrize(
    "state",
    [
        [b"L", 2, 2, b"", b"123"],
        [b"L", 2**31, 2**31, b"", b"1234"],
        [b"L", -1, -4, b"", b"1234"],
        [b"L", 2**64, 0, b"", b""],
        [b"L", 2**31 - 1, 0, b"", b""],
        [b"1", 9, 1, b"", b"1"],
        [b"BGR;24", 1, 1, b"", b"123"],
        [b"\xff", 1, 1, b"", b"1"],
        [b"P", 1, 1, b"", b"1"],
        [b"P", 1, 1, b"RGB:12", b"1"],
        [b"P", 1, 1, b"XYZ:123", b"1"],
        [b"P", 1, 1, b"RGB:" + b"123" * 257, b"1"],
        [b"L", 1, 1, b"RGB:123", b"1"],
        [b"L", 1, 1, b"", "1"],
        [b"L", 1.0, 1, b"", b"1"],
        [b"L", 1, 1, b""],
        [],
    ],
    ids=lambda state: repr(state)[:40],
)
def test_an_image_that_lies_is_refused(state: Any) -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb.image"):
        unjelly([b"pbnb.image", [b"list", *state]])


def test_a_large_image_travels_beside_the_message() -> None:
    async def main() -> None:
        value = image("RGB", (640, 480))
        async with served(Echo()) as (_, ref):
            check_same(await ref.callRemote("echo", value), value)

    asyncio.run(main())
