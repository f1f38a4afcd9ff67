"""Graders of responses: mathematics, programs, texts, user's functions and a judge; free of torch and OpenRLHF.

    from kimi_plugins.grading import Grader
    with Grader() as grader:
        grader.grade("math", r"… \\boxed{\\frac12}", "0.5").score  # 1.0; None if the grader failed

What is named here is imported when it is first used.
"""

from importlib import import_module

_HOMES = {
    "Grade": "kinds",
    "Grader": "kinds",
    "Settings": "kinds",
    "Judge": "judge.judge",
    "Kind": "verdict",
    "Pool": "workers",
    "Problem": "programs",
    "Verdict": "verdict",
    "final_answers": "extraction",
    "judge_program": "programs",
    "read_label": "programs",
    "veto": "judge.vetoes",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
