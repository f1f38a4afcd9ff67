r"""Right answers as data sets write them: alone, after ``####`` (GSM8K), or at the end of a solution, in a box."""

import re

from kimi_plugins.grading.extraction import NoAnswer, final_answers

_HASHES = re.compile(r"^####\s*(.+?)\s*$", re.MULTILINE)
_REMARK = re.compile(r"^([-+]?[$]?\d[\d,]*(?:\.\d+)?)\s*\(\s*([A-Za-z][A-Za-z ]*)\s*\)$")


def clean(label: str) -> str:
    r"""The answer alone: what stands after the last ``####`` or in the last box; ``9 (apples)`` as ``9 apples``."""
    if found := _HASHES.findall(label):
        label = found[-1]
    elif r"\boxed" in label or r"\fbox" in label:
        try:
            label = ", ".join(final_answers(label))
        except NoAnswer:
            return label
    if match := _REMARK.match(label.strip()):
        return rf"{match[1]}\text{{ {match[2].strip()}}}"
    return label
