"""Edits that leave a problem the same, and one that does not."""

import json
import random
import re
from pathlib import Path

WRAPPINGS = json.loads(Path(__file__).with_name("wrappings.json").read_text("utf-8"))  # of {problem}
LATEX = [
    lambda text: re.sub(r"\$([^$]+)\$", r"\\(\1\\)", text),
    lambda text: text.replace("\\frac", "\\dfrac"),
    lambda text: text.replace("\\le ", "\\leq ").replace("\\ge ", "\\geqslant "),
    lambda text: text.replace("$", ""),
    lambda text: re.sub(r"\$([^$]+)\$", r"$ \1\\, $", text),
    lambda text: text.replace("(", "\\left(").replace(")", "\\right)"),
    lambda text: re.sub(r"_\{(\w)\}", r"_\1", text),
    lambda text: text.replace("\\ldots", "\\dots").replace("\\text{", "\\mathrm{"),
]


def respelled(text: str) -> list[str]:
    """Other spellings of the LaTeX of a text; none where escaped dollars would be torn apart."""
    if "\\$" in text or "[asy]" in text:
        return []
    return [other for edit in LATEX if (other := edit(text)) != text]


def changed_number(text: str) -> str | None:
    """The text with one of its numbers, chosen by its length, increased; None without a number."""
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return None
    chosen = random.Random(len(text)).choice(numbers)
    return f"{text[: chosen.start()]}{int(chosen[0]) + 1}{text[chosen.end() :]}"
