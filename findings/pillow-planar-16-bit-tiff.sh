#!/usr/bin/env bash
# Pillow 13.0.0: a TIFF with three channels of 16 bits stored in planes (PlanarConfiguration 2) shows other colours.
#
# Seen: two pixels, planes R [65535, 0], G [0, 32768], B [0, 1792], uncompressed, little-endian, are opened as mode RGB
# and read as [(255, 0, 0), (255, 0, 0)]. Right, to 8 bits: [(255, 0, 0), (0, 128, 7)]. The same pixels interleaved
# (PlanarConfiguration 1) are read right.
# Surprising: no exception and no warning, but a plausible picture. Scanners and microscopes write such files.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet pillow==13.0.0
"$directory/venv/bin/python" - <<'PYTHON'
import io
import struct

from PIL import Image

SHORT, LONG = 3, 4


def tiff(samples: list[list[int]], planar: int) -> bytes:
    """A TIFF of one row: samples[channel][pixel], 16 bits each."""
    width = len(samples[0])
    if planar == 2:
        strips = [struct.pack(f"<{width}H", *channel) for channel in samples]
    else:
        pixels = [value for pixel in zip(*samples) for value in pixel]
        strips = [struct.pack(f"<{len(pixels)}H", *pixels)]
    lists = {258: (SHORT, [16, 16, 16]), 273: (LONG, []), 279: (LONG, [len(strip) for strip in strips])}
    data_at = 8
    for strip in strips:
        lists[273][1].append(data_at)
        data_at += len(strip)
    single = {256: width, 257: 1, 259: 1, 262: 2, 277: 3, 278: 1, 284: planar}
    entries, outside = [], b""
    for tag in sorted({**single, **lists}):
        kind, values = lists.get(tag, (SHORT, [single.get(tag)]))
        packed = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > 4:
            packed, outside = struct.pack("<I", data_at + len(outside)), outside + packed
        entries.append(struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    directory_at = data_at + len(outside)
    header = struct.pack("<2sHI", b"II", 42, directory_at)
    end = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return header + b"".join(strips) + outside + end


samples = [[65535, 0], [0, 32768], [0, 1792]]
read = {}
for planar, name in ((1, "interleaved"), (2, "planes")):
    image = Image.open(io.BytesIO(tiff(samples, planar)))
    read[name] = [image.getpixel((x, 0)) for x in range(2)]
    print(f"{name}: mode {image.mode}, pixels {read[name]}")
raise SystemExit(read["interleaved"] == read["planes"] or read["interleaved"] != [(255, 0, 0), (0, 128, 7)])
PYTHON
