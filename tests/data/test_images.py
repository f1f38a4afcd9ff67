"""Images as data sets have them: what is taken, in which form, and what is refused for which reason."""

import base64
import io
import random
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from made_images import LIMITS, encoded, noise, picture
from PIL import Image

from kimi_plugins.data.images import BadImage, Limits, fitted, prepare, read_bytes


def opened(result):
    data, suffix = result
    image = Image.open(io.BytesIO(data))
    assert {".png": "PNG", ".jpg": "JPEG"}[suffix] == image.format
    image.load()
    assert image.mode == "RGB"
    return image


def colours(image):
    """The colours in the middle of the left and of the right half."""
    return [image.getpixel((round(share * image.width), image.height // 2)) for share in (0.25, 0.75)]


def close(a, b, tolerance=12):
    return np.abs(np.array(a) - np.array(b)).max() <= tolerance


@pytest.mark.parametrize(
    "data",
    [
        encoded(picture("P")),
        encoded(picture("RGBA")),
        encoded(picture(), "GIF"),
        encoded(picture(), "BMP"),
        encoded(picture(), "WEBP", quality=100),
        encoded(picture("CMYK"), "JPEG", quality=100),
        encoded(picture("CMYK"), "TIFF"),
        encoded(picture("YCbCr"), "JPEG", quality=100),
    ],
    ids=["palette", "alpha", "gif", "bmp", "webp", "cmyk jpeg", "cmyk tiff", "ycbcr"],
)
def test_colours_survive_whatever_the_mode(data):
    image = opened(prepare(data, LIMITS))
    assert image.size == (40, 30)
    assert all(close(a, b, 45) for a, b in zip(colours(image), [(220, 0, 0), (0, 0, 220)], strict=True))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_grey_values_survive(mode):
    grey = Image.fromarray(np.tile(np.array([0] * 20 + [255] * 20, dtype=np.uint8), (30, 1)))
    if mode == "I;16":
        grey = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        assert grey.mode == "I;16"
    else:
        grey = grey.convert(mode)
    assert colours(opened(prepare(encoded(grey), LIMITS))) == [(0, 0, 0), (255, 255, 255)]


def test_what_is_transparent_becomes_white():
    clear = picture("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 20, 30))
    assert colours(opened(prepare(encoded(clear), LIMITS))) == [(255, 255, 255), (0, 0, 220)]
    keyed = encoded(picture(), transparency=(220, 0, 0))
    assert colours(opened(prepare(keyed, LIMITS))) == [(255, 255, 255), (0, 0, 220)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_leaves_no_trace(orientation):
    # By the standard's table: where the stored row 0 and column 0 are in the picture meant.
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation]
    stored = noise((40, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = opened(prepare(encoded(stored, exif=exif), LIMITS))
    assert np.array_equal(np.asarray(image), turn(np.asarray(stored)))
    assert image.getexif().get(0x0112, 1) == 1


def test_good_files_stay_as_they_are_and_photographs_stay_jpeg():
    for data, suffix in ((encoded(picture()), ".png"), (encoded(picture(), "JPEG"), ".jpg")):
        assert prepare(data, LIMITS) == (data, suffix)
    assert prepare(encoded(picture(size=(200, 100)), "JPEG"), LIMITS)[1] == ".jpg"
    assert prepare(encoded(picture(size=(200, 100))), LIMITS)[1] == ".png"
    assert prepare(picture(), LIMITS)[1] == ".png"  # a PIL image that was never a file


@pytest.mark.parametrize("size", [(150, 100), (299, 300), (101, 100), (300, 20), (3, 7), (19, 20), (1, 15), (50, 60)])
def test_sizes_end_up_in_the_budget_with_their_proportions(size):
    result = fitted(Image.new("RGB", size), LIMITS)
    area = result.width * result.height
    assert LIMITS.least <= area <= LIMITS.most
    wanted = size[0] / size[1]
    # A whole number of pixels a side is as near as it gets.
    assert (result.width - 1) / (result.height + 1) <= wanted <= (result.width + 1) / max(1, result.height - 1)
    if LIMITS.least <= size[0] * size[1] <= LIMITS.most:
        assert result.size == size


def bomb(width, height):
    """A valid PNG of a few kilobytes that claims so many black pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(1 + width // 8) * min(height, 2000), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "no image that Pillow can read"),
        (encoded(noise())[:-2000], "broken or truncated"),
        (encoded(noise(), "JPEG")[:-500], "broken or truncated"),
        (bomb(20_000, 20_000), "too large to decode"),
        (bomb(8_000, 8_000), "8000 × 8000 pixels, more than 90,000 are not decoded"),
        (encoded(picture(), "GIF", save_all=True, append_images=[noise((40, 30))]), "has 2 frames"),
        (encoded(picture(), "PNG", save_all=True, append_images=[noise((40, 30))]), "has 2 frames"),
        (encoded(picture(), "WEBP", save_all=True, append_images=[noise((40, 30))]), "has 2 frames"),
        (encoded(picture(), "TIFF", save_all=True, append_images=[noise((40, 30))]), "has 2 frames"),
        (encoded(picture(size=(210, 10))), "is 210 × 10: one side is more than 20 times"),
        (encoded(Image.new("F", (30, 30)), "TIFF"), "floating-point"),
    ],
)
def test_bad_images_are_refused_with_a_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        prepare(data, LIMITS)


def test_a_phones_second_picture_is_no_animation():
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture()])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert opened(prepare(data, LIMITS)).size == (40, 30)


def test_broken_bytes_are_images_or_refused_and_never_another_error():
    rng, refused, kinds = random.Random(0), 0, ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "JPEG2000")
    for kind in kinds:
        whole = encoded(noise(), kind)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 12)):
                data[rng.randrange(len(data) if rng.random() < 0.5 else 64)] = rng.randrange(256)
            try:
                prepare(bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data), LIMITS)
            except BadImage:
                refused += 1
    assert refused > 60


@pytest.mark.parametrize("form", ["path", "bytes", "dict of bytes", "dict of path", "data uri", "base64", "pil"])
def test_references(tmp_path, form):
    image = noise()
    data = encoded(image)
    (tmp_path / "a.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    reference = {
        "path": "a.png",
        "bytes": data,
        "dict of bytes": {"bytes": data, "path": None},
        "dict of path": {"bytes": None, "path": "a.png"},
        "data uri": f"data:image/png;base64,{text}",
        "base64": text,
        "pil": image,
    }[form]
    result = prepare(read_bytes(reference, tmp_path, allow_urls=False), LIMITS)
    assert np.array_equal(np.asarray(opened(result)), np.asarray(image))


@pytest.mark.parametrize(
    "reference, reason",
    [
        ("missing.png", "no such file"),
        (".", "is no file"),
        ("a\0b", "cannot be read"),
        ("x" * 5000 + ".png", "cannot be read"),
        ("data:image/png;base64,!!!!a", "not valid base64"),
        ({"bytes": None, "path": None}, "neither"),
        (3, "is a int"),
        ("http://127.0.0.1:9/a.png", "is a URL, and --allow-urls is not set"),
    ],
)
def test_bad_references_are_refused(tmp_path, reference, reason):
    with pytest.raises(BadImage, match=reason):
        read_bytes(reference, tmp_path, allow_urls=False)


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status = 200 if self.path == "/a.png" else 404
            self.send_response(status)
            self.end_headers()
            self.wfile.write(encoded(picture()) if status == 200 else b"nothing")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_are_read_when_allowed(server, tmp_path):
    assert read_bytes(f"{server}/a.png", tmp_path, allow_urls=True) == encoded(picture())
    with pytest.raises(BadImage, match="cannot be downloaded: HTTP Error 404"):
        read_bytes(f"{server}/b.png", tmp_path, allow_urls=True)


def test_a_large_image_is_not_decoded_before_it_is_refused(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage):
        prepare(bomb(8_000, 8_000), Limits(least=1, most=10**6, source=10**6))
