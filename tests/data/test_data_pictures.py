"""What happens to one picture."""

from __future__ import annotations

import struct
import time
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from sdplay.data.limits import Limits
from sdplay.data.pictures import Picture, normalise
from sdplay.errors import DataError


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def decode(picture: Picture) -> Image.Image:
    return Image.open(BytesIO(picture.encoded))


def refusal(raw: bytes) -> str:
    with pytest.raises(DataError) as caught:
        normalise(raw, Limits())
    assert caught.value.hint
    return caught.value.message


def test_a_png_keeps_its_pixels() -> None:
    source = noise()

    picture = normalise(encode(source), Limits())

    assert np.array_equal(np.asarray(decode(picture)), np.asarray(source))
    assert (picture.suffix, picture.notes) == (".png", ())


def test_a_jpeg_stays_a_jpeg_and_a_webp_becomes_a_png() -> None:
    assert decode(normalise(encode(noise(), "JPEG"), Limits())).format == "JPEG"
    assert decode(normalise(encode(noise(), "WEBP"), Limits())).format == "PNG"


@pytest.mark.trap(26)
def test_a_photo_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn 90 degrees clockwise to view

    picture = normalise(encode(noise(width=80, height=40), "JPEG", exif=exif), Limits())

    assert (picture.width, picture.height) == decode(picture).size == (40, 80)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_metadata_survives(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "canary-exif"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "canary-text")
    options = {"pnginfo": text} if kind == "PNG" else {"comment": b"canary-comment"} if kind == "JPEG" else {"xmp": b"canary-xmp"}
    raw = encode(noise(), kind, exif=exif, **options)
    assert b"canary" in raw

    picture = normalise(raw, Limits())

    assert b"canary" not in picture.encoded


def test_transparency_becomes_white_and_is_noted() -> None:
    clear = Image.new("RGBA", (64, 64), (10, 20, 30, 0))

    picture = normalise(encode(clear), Limits())

    assert decode(picture).getpixel((5, 5)) == (255, 255, 255)
    assert picture.notes == ("Transparency was filled with white.",)


def test_an_opaque_rgba_picture_needs_no_note() -> None:
    assert normalise(encode(noise().convert("RGBA")), Limits()).notes == ()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    assert decode(normalise(encode(noise().convert(mode)), Limits())).mode == "RGB"


def test_a_16_bit_grey_picture_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((64, 64), 0x8000, dtype=np.uint16))

    picture = normalise(encode(grey), Limits())

    assert decode(picture).getpixel((0, 0)) == (128, 128, 128)  # 0x8000 / 256


def test_a_print_picture_in_cmyk_becomes_rgb_with_a_note() -> None:
    picture = normalise(encode(noise().convert("CMYK"), "JPEG"), Limits())

    assert decode(picture).mode == "RGB"
    assert any("CMYK" in note for note in picture.notes)


def test_a_very_large_picture_is_reduced_with_a_note() -> None:
    picture = normalise(encode(Image.new("RGB", (3000, 1500), "red"), "JPEG"), Limits())

    assert (picture.width, picture.height) == (2048, 1024)
    assert picture.notes == ("Reduced from 3000 x 1500 to 2048 x 1024.",)


def test_a_small_picture_is_noted() -> None:
    assert normalise(encode(noise(48, 48)), Limits()).notes == ("Small (48 x 48): it will be enlarged.",)


def test_a_tiny_picture_is_refused() -> None:
    assert "16 x 16" in refusal(encode(noise(16, 16)))


def test_the_same_pixels_have_the_same_key_whatever_the_file() -> None:
    assert normalise(encode(noise(), compress_level=1), Limits()).key == normalise(encode(noise(), "WEBP", lossless=True), Limits()).key


def test_the_same_bytes_in_another_shape_are_another_picture() -> None:
    black = [normalise(encode(Image.new("RGB", size)), Limits()).key for size in ((64, 128), (128, 64))]

    assert black[0] != black[1]
    assert all(len(key) == 16 for key in black)


def test_a_truncated_jpeg_is_refused() -> None:
    raw = encode(noise(256, 256), "JPEG")

    assert "damaged" in refusal(raw[: len(raw) // 2])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green")]

    assert "animated" in refusal(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_phone_photo_with_a_hidden_second_picture_is_no_animation() -> None:
    raw = encode(noise(), "MPO", save_all=True, append_images=[noise()])

    assert normalise(raw, Limits()).suffix == ".jpg"


def test_a_colour_profile_that_is_srgb_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    picture = normalise(encode(noise(), icc_profile=profile), Limits())

    assert picture.key == normalise(encode(noise()), Limits()).key
    assert b"iCCP" not in picture.encoded


def test_a_picture_with_another_colour_profile_is_converted_to_srgb() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Swapping the red and green primaries makes a profile in which pure red means green.
    swapped = srgb.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    swapped = swapped.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")

    picture = normalise(encode(Image.new("RGB", (64, 64), "red"), icc_profile=swapped), Limits())

    red, green, blue = np.asarray(decode(picture))[0, 0].astype(int)
    assert green > 250
    assert max(red, blue) < 10
    assert picture.notes == ("Its colours were converted to sRGB.",)


def test_a_broken_colour_profile_is_passed_over_with_a_note() -> None:
    picture = normalise(encode(noise(), icc_profile=b"nonsense"), Limits())

    assert picture.notes == ("Its colour profile could not be used: compare the colours.",)


def test_a_gif_in_disguise_is_refused() -> None:
    assert "not a JPEG, PNG or WebP" in refusal(encode(noise(), "GIF"))


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 13_300, 13_300, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    start = time.perf_counter()

    message = refusal(bomb)

    assert "40 million pixels" in message
    assert time.perf_counter() - start < 0.5


def test_damaged_bytes_never_raise_anything_but_a_data_error() -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP"):
        raw = np.frombuffer(encode(noise(), kind), dtype=np.uint8)
        for _ in range(100):
            hurt = raw.copy()
            hurt[rng.integers(0, len(raw), 8)] = rng.integers(0, 256, 8)
            with suppress(DataError):
                normalise(hurt.tobytes(), Limits())
