#!/usr/bin/env bash
# math-verify 0.9.0: an answer that states something false is accepted.
#
# Seen: for the right answer 7, "\boxed{8=7}" is accepted: of an equation the right side alone is compared. "5 m/s" is
# accepted for "5 km/h": units are dropped, not compared.
# Surprising: sympy reads the equation as Eq(8, 7), which it knows to be false, and an answer that is another quantity
# passes. A policy that is trained on such a reward may learn to write both.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet 'math-verify[antlr4_13_2]==0.9.0'
"$directory/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

seen = {}
for right, written in (("$7$", r"\boxed{8=7}"), (r"$5\text{ km/h}$", r"$5\text{ m/s}$")):
    seen[written] = verify(parse(right), parse(written))
    print(f"{written} for {right}: accepted: {seen[written]}")
raise SystemExit(not all(seen.values()))
PYTHON
