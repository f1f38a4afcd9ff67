"""What the rules of `openrlhf kimi curate` exclude of real multiple-choice sets and of real problems that should stay.

python benchmarks/curate_rules.py DIR [--out FILE]

DIR holds multiple_choice/{aqua,mmlu_stem,sat_math}.jsonl, gsm8k/{train,test}.jsonl and competition/math500.jsonl, as
AQuA, MMLU, SAT, GSM8K and MATH-500 are published. A multiple-choice question is tried as its row is, with the options
only in the text, and without them, which says how much rests on seeing them.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from common import RESULTS, machine, write_json

from kimi_plugins.prompts import tags
from kimi_plugins.prompts.exclude import reason

SUBJECTS = {"Counting & Probability": "counting and probability", "Intermediate Algebra": "algebra"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "curate_rules.json")
    args = parser.parse_args()

    sets = {}
    for name in ("aqua", "mmlu_stem", "sat_math"):
        rows = _rows(args.dir / f"multiple_choice/{name}.jsonl")
        texts = [_options(row) for row in rows]
        sets[f"{name}, a column of options"] = [
            (row["question"], "5", [text]) for row, text in zip(rows, texts, strict=True)
        ]
        sets[f"{name}, options in the text"] = [
            (f"{row['question']}\n{text}", "5", None) for row, text in zip(rows, texts, strict=True)
        ]
        sets[f"{name}, without options"] = [(row["question"], "5", None) for row in rows]
    for name in ("gsm8k/train", "gsm8k/test"):
        rows = _rows(args.dir / f"{name}.jsonl")
        sets[name] = [(row["question"], row["answer"].rpartition("#### ")[2], None) for row in rows]
    problems = _rows(args.dir / "competition/math500.jsonl")
    sets["math500"] = [(row["problem"], row["answer"], None) for row in problems]

    result = {"machine": machine(), "sets": {}}
    for name, cases in sets.items():
        began = time.perf_counter()
        reasons = [reason(*case) for case in cases]
        seconds = time.perf_counter() - began
        kinds = Counter(found.partition(": ")[0] for found in reasons if found)
        excluded = sum(kinds.values())
        result["sets"][name] = {
            "rows": len(cases),
            "excluded": excluded,
            "share": round(excluded / len(cases), 4),
            "kinds": dict(kinds),
            "rows_per_second": round(len(cases) / seconds),
        }
        print(f"{name}: {excluded} of {len(cases)} excluded ({excluded / len(cases):.2%})", file=sys.stderr)

    known = {name.casefold() for name in tags.CHOICES}
    wanted = [(row["problem"], SUBJECTS.get(row["subject"], row["subject"].casefold())) for row in problems]
    wanted = [(problem, subject) for problem, subject in wanted if subject in known]
    right = sum(tags.tag(problem)[1] == subject for problem, subject in wanted)
    result["math500_disciplines"] = {"rows": len(wanted), "right": right, "share": round(right / len(wanted), 4)}
    write_json(args.out, result)
    return 0


def _rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _options(row: dict) -> str:
    options = row.get("choices") or row["options"]
    if isinstance(options, str):
        return options
    if options[0].startswith("A)"):
        return "\n".join(options)
    return "\n".join(f"{letter}. {text}" for letter, text in zip("ABCDEFGHIJ", options, strict=False))


if __name__ == "__main__":
    raise SystemExit(main())
