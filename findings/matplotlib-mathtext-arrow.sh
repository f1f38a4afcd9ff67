#!/usr/bin/env bash
# matplotlib 3.11.2, mathtext: \overleftrightarrow{AB} draws its arrow beside the letters, not over them.
#
# Seen: the formula is no taller than AB alone, and wider: the arrow is a glyph before the A, as if it were a factor.
# \overrightarrow{AB} is right. There is no exception and no warning.
# Surprising: the command is in the table of supported accents, and a line through A and B (geometry's usual mark) reads
# as another symbol. Pictures of problems that are drawn for vision models or for OCR show another problem.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet matplotlib==3.11.2
MPLCONFIGDIR="$directory" "$directory/venv/bin/python" - <<'PYTHON'
from matplotlib.mathtext import MathTextParser

size = {}
for formula in ("AB", r"\overrightarrow{AB}", r"\overleftrightarrow{AB}"):
    drawn = MathTextParser("path").parse(f"${formula}$", dpi=72)
    size[formula] = (drawn.width, drawn.height)
    print(f"{formula}: {drawn.width:.0f} wide, {drawn.height:.0f} high")
width, height = size["AB"]
right = size[r"\overrightarrow{AB}"][1] > height
beside = size[r"\overleftrightarrow{AB}"][1] <= height and size[r"\overleftrightarrow{AB}"][0] > width
raise SystemExit(not (right and beside))
PYTHON
