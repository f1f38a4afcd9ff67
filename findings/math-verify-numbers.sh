#!/usr/bin/env bash
# math-verify 0.9.0 (on latex2sympy2-extended): two spellings of numbers that solvers write are read as something else.
#
# Seen: verify(1200, "$1.2e3$") is False, because the text is read as 1.2 · e · 3 with Euler's number;
# verify(1/3, "$0.\overline{3}$") is False, because the repeating decimal is read as 0.
# Surprising: both are read without an error or an empty result, which would say that the form is not known. As a reward
# they refuse right answers, and a label written so is one that no right answer can match.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet 'math-verify[antlr4_13_2]==0.9.0'
"$directory/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

seen = {}
for right, written in (("$1200$", "$1.2e3$"), (r"$\frac{1}{3}$", r"$0.\overline{3}$")):
    seen[written] = verify(parse(right), parse(written))
    print(f"{written} for {right}: read as {parse(written)[0]!r}, accepted: {seen[written]}")
raise SystemExit(any(seen.values()))
PYTHON
