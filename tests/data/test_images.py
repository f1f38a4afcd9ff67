"""Images as data sets have them: what is taken, in which form, and what is refused for which reason."""

import base64
import contextlib
import importlib.util
import io
import os
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from made_images import LIMITS, encoded, noise, picture
from PIL import Image

from kimi_plugins.data import images
from kimi_plugins.data.images import BadImage, Limits, fitted, prepare, read_bytes, shown

SMALL = Limits(least=1, most=10**6, source=10**7)


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


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A valid PNG of a few kilobytes that claims so many black pixels."""
    rows = zlib.compress(bytes(1 + width // 8) * min(height, 2000), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not a readable image of an accepted format"),
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


KINDS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM", "DDS", "ICO")


def mutants(kind, count):
    """Files of one format with some bytes changed, mostly of the header, or their end cut off."""
    rng = random.Random(kind)
    images = [noise((48, 32)), picture("L"), noise((48, 32)).convert("P" if kind in ("PNG", "GIF", "TIFF") else "RGB")]
    wholes = [encoded(image, kind) for image in images]
    for _ in range(count):
        data = bytearray(rng.choice(wholes))
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(min(len(data), rng.choice((32, 128, 10**6))))] = rng.choice(
                (0, 1, 255, rng.randrange(256))
            )
        data = bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data)
        yield resealed(data) if kind == "PNG" and rng.random() < 0.8 else data


def resealed(data):
    """A PNG with the checksums of its chunks made right, so that the decoder goes on to their contents."""
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        parts.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(parts)


def test_ten_thousand_broken_files_are_images_or_refused_and_never_another_error():
    refused, taken = Counter(), Counter()
    for kind in KINDS:
        for data in mutants(kind, 10_000 // len(KINDS) + 1):
            try:
                assert opened(prepare(data, LIMITS)).size
                taken[kind] += 1
            except BadImage as error:
                refused[kind] += 1
                assert len(str(error)) < 200
    assert all(refused[kind] > 100 for kind in KINDS)
    assert all(taken[kind] > 0 for kind in KINDS if kind not in ("DDS", "ICO"))


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


LINES = base64.encodebytes(encoded(noise())).decode()
URL_SAFE = base64.urlsafe_b64encode(encoded(noise())).decode()


@pytest.mark.parametrize(
    "reference",
    [
        "file://{folder}/a%20b.png",
        "file://{folder}/a b.png",
        "file://localhost{folder}/a%20b.png",
        "file:{folder}/a b.png",
        "FILE://{folder}/a b.png",
        "file://a b.png",
        "file://{folder}/%41.png",  # a file of that very name
        "sub/../a b.png",
        "{folder}/sub/../a b.png",
        "./picture.jpg",  # a PNG with another suffix
        "link.png",
        "data:image/png;base64," + LINES,
        "data:image/png;base64," + "".join(LINES.split()).rstrip("="),
        "data:image/png;base64," + "".join(LINES.split()).replace("+", "%2B").replace("/", "%2F"),
        "data:image/png;base64," + URL_SAFE,
        "data:image/jpeg;charset=utf-8; base64," + URL_SAFE,
        "DATA:image/png;BASE64," + URL_SAFE,
        " data:;base64," + URL_SAFE,
        "data:image/png," + "".join(f"%{byte:02x}" for byte in encoded(noise())),
        LINES,
        URL_SAFE.rstrip("="),
        " ".join(LINES.split()),
    ],
)
def test_spellings_of_files_and_data(tmp_path, reference):
    (tmp_path / "sub").mkdir()
    for name in ("a b.png", "%41.png", "picture.jpg"):
        (tmp_path / name).write_bytes(encoded(noise()))
    (tmp_path / "link.png").symlink_to("a b.png")
    reference = reference.replace("{folder}", str(tmp_path))
    assert read_bytes(reference, tmp_path, allow_urls=False) == encoded(noise())
    assert images.is_encoded(reference) == (images.file_named(reference, tmp_path) is None)


@pytest.mark.parametrize(
    "reference",
    [
        "data:image/png;base64,AAAA",
        '"data:image/png;base64,' + URL_SAFE,
        "b'" + LINES,
        LINES[:70],
        URL_SAFE + "!",
        "x" + LINES,
        b"x",
        None,
    ],
)
def test_a_reason_never_holds_data(tmp_path, reference):
    assert shown(reference) == ""


def test_names_are_shown_in_one_line():
    assert shown("a\nb.png") == "a\ufffdb.png"
    assert shown("photos/" + "x" * 100 + ".png") == "photos/" + "x" * 70 + "..."
    assert shown("http://a.example/" + "x" * 50) == "http://a.example/" + "x" * 50


@pytest.mark.parametrize(
    "reference, reason",
    [
        ("s3://bucket/a.png", r"address \(s3://\) of a kind that is not read"),
        ("ftp://127.0.0.1/a.png", r"address \(ftp://\)"),
        ("loop.png", "cannot be read"),
        ("pipe.png", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("", "not a regular file"),
        ("~/a.png", "no such file"),
        ("empty.png", "is empty"),
        ("data:image/png;base64", "is empty"),
        ("data:image/svg+xml,<svg/>", "accepted format"),
        ({"bytes": b"", "path": "a.png"}, "is empty"),
        ({"bytes": [1, 2]}, "is a list"),
        ({"url": "a.png"}, "neither"),
        ([1, 2], "is a list"),
        (None, "is a NoneType"),
        (float("nan"), "is a float"),
    ],
)
def test_what_is_no_image(tmp_path, reference, reason):
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadImage, match=reason):
        prepare(read_bytes(reference, tmp_path, allow_urls=False), LIMITS)


@pytest.mark.parametrize(
    "reference, reason",
    [
        ("missing.png", "no such file"),
        (".", "not a regular file"),
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
            self.protocol_version = "HTTP/1.1"
            if self.path == "/not%20http":
                self.wfile.write(b"garbage\r\n\r\n")
                return
            if self.path == "/loop":
                self.send_response(302)
                self.send_header("Location", "/loop")
                self.end_headers()
                return
            if self.path == "/local":
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname")
                self.end_headers()
                return
            good = self.path in ("/a.png", "/my%20picture.png", "/%C3%A4.png")
            self.send_response(200 if good or self.path in ("/short", "/endless") else 404)
            if self.path == "/short":
                self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(encoded(picture()) if good else b"nothing")
            with contextlib.suppress(OSError):  # a byte now and then keeps every read from timing out
                while self.path == "/endless" and not done.wait(0.02):
                    self.wfile.write(b"x")
            self.close_connection = True

        def log_message(self, *_):
            pass

    done = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        done.set()
        server.shutdown()


def test_urls_are_read_when_allowed(server, tmp_path):
    for name in ("a.png", "my picture.png", "ä.png"):
        assert read_bytes(f"{server}/{name}", tmp_path, allow_urls=True) == encoded(picture())
    with pytest.raises(BadImage, match="cannot be downloaded: HTTP Error 404"):
        read_bytes(f"{server}/b.png", tmp_path, allow_urls=True)


@pytest.mark.parametrize("path", ["/not http", "/loop", "/local", "/short"])
def test_odd_servers_are_a_reason(server, tmp_path, path):
    with pytest.raises(BadImage, match="cannot be downloaded"):
        read_bytes(server + path, tmp_path, allow_urls=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/my picture.png",
        "http://[::1",
        "http://",
        "http:///a.png",
        "http://127.0.0.1:99999/a.png",
        "http://127.0.0.1:x/a.png",
        "http://a\r\nb/c",
        "http://127.0.0.1:9/\0",
        "HTTP://127.0.0.1:9/a.png",
        f"http://{'a' * 70}.invalid/",
        "http://\udcff/",
    ],
)
def test_odd_urls_are_a_reason(tmp_path, url):
    with pytest.raises(BadImage, match="cannot be downloaded"):
        read_bytes(url, tmp_path, allow_urls=True)


def test_a_download_has_a_time_limit_as_a_whole(server, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TIMEOUT", 0.3)
    with pytest.raises(BadImage, match="cannot be downloaded within 0.3 seconds"):
        read_bytes(f"{server}/endless", tmp_path, allow_urls=True)


def test_a_download_has_a_size_limit(server, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", 50)
    with pytest.raises(BadImage, match="has more than"):
        read_bytes(f"{server}/a.png", tmp_path, allow_urls=True)


def png(size, depth, colour, rows, transparent=b""):
    """A PNG of packed rows. colour: 0 grey, 2 RGB."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + key + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "depth, row, transparent, greys",
    [
        (1, bytes([0b01010000]), 0, [255, 255, 255, 255]),
        (1, bytes([0b01010000]), 1, [0, 255, 0, 255]),
        (2, bytes([0b00011011]), 1, [0, 255, 170, 255]),
        (4, bytes([0x0F, 0x3A]), 10, [0, 255, 51, 255]),
        (8, bytes([0, 100, 200, 255]), 200, [0, 100, 255, 255]),
        (16, struct.pack(">4H", 0, 0x6464, 0x6465, 0xFFFF), 0x6464, [0, 255, 100, 255]),
    ],
)
def test_one_grey_value_is_transparent(depth, row, transparent, greys):
    image = opened(prepare(png((4, 1), depth, 0, [row], struct.pack(">H", transparent)), SMALL))
    assert [image.getpixel((x, 0)) for x in range(4)] == [(grey,) * 3 for grey in greys]


@pytest.mark.parametrize("depth", [8, 16])
def test_one_colour_is_transparent(depth):
    key = (0x1234, 0x5678, 0x9ABC) if depth == 16 else (0x12, 0x56, 0x9A)
    near = (*key[:2], key[2] + 1)
    row = struct.pack(">6H" if depth == 16 else ">6B", *key, *near)
    image = opened(prepare(png((2, 1), depth, 2, [row], struct.pack(">3H", *key)), SMALL))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((1, 0)) == (0x12, 0x56, 0x9A + (depth == 8))


def tiff(pixels, bits, *, format=1, white_is_zero=False, order="<", **more):
    """An uncompressed TIFF of one sample a pixel, or of what `more` says. format: 1 unsigned, 2 signed, 3 floating."""
    data = pixels.tobytes()
    height, width = pixels.shape[:2]
    count = more.get("samples", 1)
    tags = {256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [0 if white_is_zero else 1]}
    tags |= {273: [8], 277: [count], 278: [height], 279: [len(data)], 339: [format] * count} | more.get("tags", {})
    entries, values, after = b"", b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = packed if len(numbers) == 1 else struct.pack(f"{order}I", after + len(values))
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + place
        values += packed if len(numbers) > 1 else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values


RGB = np.array([[[200, 100, 50], [1, 2, 3]]])
LAYERS = {262: [2], 284: [2], 273: [8, 10, 12], 279: [2, 2, 2]}


@pytest.mark.parametrize(
    "data, colours",
    [
        (tiff(RGB.astype("u1"), 8, samples=3, tags={262: [2]}), RGB[0]),
        (tiff(RGB.astype("u1").transpose(2, 0, 1).reshape(1, 6), 8, samples=3, tags=LAYERS | {256: [2]}), RGB[0]),
        (tiff((RGB * 257).astype("<u2"), 16, samples=3, tags={262: [2]}), RGB[0]),
        (tiff((RGB * 257).astype(">u2"), 16, samples=3, tags={262: [2]}, order=">"), RGB[0]),
        (tiff(np.array([[0, 0x6400]], ">u2"), 16, order=">"), [[0] * 3, [100] * 3]),
        (tiff(np.array([[0x06, 0x40, 0]], "u1"), 12, tags={256: [2]}), [[6] * 3, [0] * 3]),
        (tiff(np.array([[100, 128], [0, 0]], "u1")[None], 8, samples=2, tags={338: [2]}), [[177] * 3, [255] * 3]),
        (tiff(np.array([[100, 128], [0, 0]], "u1")[None], 8, samples=2, tags={338: [1]}), [[227] * 3, [255] * 3]),
        (encoded(picture().crop((19, 0, 21, 1)), "TIFF", compression="tiff_lzw"), [[220, 0, 0], [0, 0, 220]]),
        (encoded(picture("CMYK").crop((19, 0, 21, 1)), "TIFF"), [[220, 0, 0], [0, 0, 220]]),
    ],
    ids="chunky planes 16 big-endian grey16 12-bit alpha premultiplied lzw cmyk".split(),
)
def test_colours_of_tiff(data, colours):
    image = opened(prepare(data, SMALL))
    assert [image.getpixel((x, 0)) for x in range(2)] == [tuple(colour) for colour in colours]


@pytest.mark.parametrize(
    "data, reason",
    [
        (tiff(np.array([[-5, 5]], "i1"), 8, format=2), "signed pixels"),
        (tiff(np.array([[-5, 5]], "<i2"), 16, format=2), "integer pixels outside of"),
        (tiff(np.array([[0.5, 1]], "<f4"), 32, format=3), "floating-point"),
        (tiff(np.array([[0.5, 1]], "<f8"), 64, format=3), "accepted format"),
        # Pillow shows other pixels without a word.
        (
            tiff(
                np.arange(6, dtype="<u2").reshape(3, 2),
                16,
                samples=3,
                tags={256: [2], 257: [1], 278: [1], 262: [2], 284: [2], 273: [8, 12, 16], 279: [4, 4, 4]},
            ),
            "in planes",
        ),
    ],
)
def test_tiff_that_cannot_be_read_right_is_refused(data, reason):
    with pytest.raises(BadImage, match=reason):
        prepare(data, SMALL)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "RGBX", "HSV", "LAB", "I;16B", "I;16L", "CMYK", "YCbCr", "F"])
def test_pictures_of_pillow_in_odd_modes_are_taken_or_refused(mode):
    image = Image.new(mode, (3, 2))
    if mode == "F":
        with pytest.raises(BadImage, match="floating-point"):
            prepare(image, SMALL)
    else:
        assert opened(prepare(image, SMALL)).size == (3, 2)


def test_a_palette_with_transparent_colours():
    image = Image.new("P", (2, 1), 0)
    image.putpixel((1, 0), 1)
    image.putpalette([1, 2, 3, 0, 9, 8, 7, 255], "RGBA")
    for source in (image, encoded(image)):
        result = opened(prepare(source, SMALL))
        assert [result.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (9, 8, 7)]


def test_a_ycck_jpeg():
    """The colours by the definition; Adobe's files hold inverted values."""
    stored = (225, 55, 155, 205)  # Y, Cb, Cr, K
    data = bytearray(encoded(Image.new("CMYK", (16, 16), tuple(255 - value for value in stored)), "JPEG", quality=100))
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    data[marker + 11] = 2  # say that what was written is YCCK
    y, cb, cr, k = stored
    inks = [y + 1.402 * (cr - 128), y - 0.3441 * (cb - 128) - 0.7141 * (cr - 128), y + 1.772 * (cb - 128)]
    expected = [(255 - min(255, ink)) * k / 255 for ink in inks]
    assert close(opened(prepare(bytes(data), LIMITS)).getpixel((8, 8)), expected, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM"])
def test_no_truncated_file_is_taken(kind):
    data = encoded(noise((48, 32)), kind)
    for end in range(0, len(data) - 60, len(data) // 40):  # the last bytes may be no pixels
        with pytest.raises(BadImage):
            prepare(data[:end], LIMITS)


@pytest.mark.parametrize(
    "values, kind, options, greys",
    [
        ([0, 100, 255], "<i4", {"bits": 32, "format": 2}, [0, 100, 255]),
        ([0, 100, 255], "<u4", {"bits": 32}, [0, 100, 255]),
        ([0, 0x6400, 65535], "<i4", {"bits": 32, "format": 2}, [0, 100, 255]),
        ([0, 0x6400, 65535], "<u2", {"bits": 16}, [0, 100, 255]),
        ([0, 100, 200], "<u2", {"bits": 16}, [0, 0, 0]),
        ([0, 0x6400, 65535], "<u2", {"bits": 16, "white_is_zero": True}, [255, 155, 0]),
    ],
)
def test_grey_values_of_tiff(values, kind, options, greys):
    image = opened(prepare(tiff(np.array([values], dtype=kind), **options), SMALL))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == greys


@pytest.mark.parametrize("values", [[-1, 5], [0, 70_000]])
def test_integers_whose_range_is_not_known_are_refused(values):
    with pytest.raises(BadImage, match="32-bit integer pixels"):
        prepare(tiff(np.array([values], dtype="<i4"), 32, format=2), SMALL)


def test_no_format_is_opened_that_runs_a_program(monkeypatch):
    opening = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: pytest.fail(f"runs {args}"))
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **given: opening.append(given) or real(file, **given))
    buffer = encoded(picture(), "EPS")
    for data in (
        buffer,
        b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded(picture(), "ICNS"),
        encoded(picture(), "PCX"),
    ):
        with pytest.raises(BadImage, match="accepted format"):
            prepare(data, LIMITS)
    assert opening and all("EPS" not in given["formats"] for given in opening)


def test_a_picture_of_pillow_in_another_format_is_refused():
    image = Image.open(io.BytesIO(encoded(picture(), "EPS")))
    with pytest.raises(BadImage, match="not of an accepted format"):
        prepare(image, LIMITS)


def test_what_a_file_carries_beside_its_pixels_is_left_behind():
    data = encoded(picture(size=(200, 100)), icc_profile=b"broken")
    assert "icc_profile" not in opened(prepare(data, LIMITS)).info


@pytest.mark.parametrize(
    "reference", ["data:image/png;base64,AAAA", base64.b64encode(encoded(noise())).decode(), b"x"]
)
def test_a_reason_does_not_hold_the_image(reference):
    assert shown(reference) == ""


def test_large_jpegs_are_decoded_small():
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).resize((1600, 1200)).convert("RGB")
    limits = Limits(least=1, most=40_000, source=10**7)
    small = opened(prepare(encoded(image, "JPEG", quality=95), limits))
    exact = np.asarray(fitted(image, limits), dtype=int)
    assert np.abs(np.asarray(small, dtype=int) - exact).mean() < 2


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="needs pillow-heif")
class TestHeic:
    """Phones' format, by the usual plugin."""

    def test_pixels(self):
        assert "HEIF" in images.accepted_formats()
        clear = picture("RGBA")
        clear.paste((0, 0, 0, 0), (0, 0, 20, 30))
        for image, left in ((picture(), (220, 0, 0)), (clear, (255, 255, 255))):
            result = opened(prepare(encoded(image, "HEIF", quality=100), LIMITS))
            assert all(close(a, b, 4) for a, b in zip(colours(result), [left, (0, 0, 220)], strict=True))

    def test_it_is_turned_as_its_container_says(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture_lying = picture()
        picture_lying.info["exif"] = exif.tobytes()  # from which the encoder takes the turn
        data = encoded(picture_lying, "HEIF", quality=100)
        assert b"irot" in data
        image = opened(prepare(data, LIMITS))
        assert image.size == (30, 40)
        assert close(image.getpixel((15, 5)), (220, 0, 0)) and close(image.getpixel((15, 35)), (0, 0, 220))

    def test_broken_ones_are_refused(self):
        whole, rng = encoded(noise((64, 48)), "HEIF"), random.Random(0)
        with pytest.raises(BadImage, match="has 2 frames"):
            prepare(encoded(picture(), "HEIF", save_all=True, append_images=[noise((40, 30))]), LIMITS)
        for end in range(0, len(whole), len(whole) // 30):
            with pytest.raises(BadImage):
                prepare(whole[:end], LIMITS)
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(rng.choice((64, 600, len(data))))] = rng.randrange(256)
            with contextlib.suppress(BadImage):
                assert opened(prepare(bytes(data), LIMITS)).size


def test_heic_without_the_plugin_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images.accepted_formats.cache_clear()
    try:
        with pytest.raises(BadImage, match="accepted format"):
            prepare(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), LIMITS)
        assert images.accepted_formats() == images.FORMATS
    finally:
        images.accepted_formats.cache_clear()


def test_a_large_image_is_not_decoded_before_it_is_refused(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage):
        prepare(bomb(8_000, 8_000), Limits(least=1, most=10**6, source=10**6))
