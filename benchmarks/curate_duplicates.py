"""How many edited problems `openrlhf kimi curate` recognises, beside datasketch's MinHashLSH on trigrams of words.

python benchmarks/curate_duplicates.py DIR [--out FILE]

DIR holds gsm8k/test.jsonl and competition/math500.jsonl. Every problem is written anew: in other wrappings, with other
LaTeX, its answer written otherwise; these should be found. One changed number makes another problem, which should not.
The edits are those of tests/prompts/edits.py. datasketch is left out where it is not installed.
"""

import argparse
import importlib.util
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from common import RESULTS, machine, progress, write_json

from kimi_plugins.prompts.contamination import Evaluation
from kimi_plugins.prompts.duplicates import Index, keys

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/prompts"))
from edits import WRAPPINGS, changed_number, respelled  # noqa: E402

SIMILARITY = 0.8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "curate_duplicates.json")
    args = parser.parse_args()
    gsm8k = _rows(args.dir / "gsm8k/test.jsonl", "question")
    math = _rows(args.dir / "competition/math500.jsonl", "problem")
    both = gsm8k + math
    sets = {
        "wrapping": [
            (row, row | {"question": WRAPPINGS[n % len(WRAPPINGS)].replace("{problem}", row["question"])})
            for n, row in enumerate(both)
        ],
        "LaTeX": [(row, row | {"question": text}) for row in math for text in respelled(row["question"])],
        "answer": [(row, row | {"answer": f"$\\boxed{{{row['answer']}}}$"}) for row in both],
        "one changed number": [
            (row, row | {"question": text}) for row in both if (text := changed_number(row["question"]))
        ],
    }
    methods = {"dedup": dedup, "decontaminate": decontaminate}
    if importlib.util.find_spec("datasketch"):
        methods["datasketch"] = datasketch
    result: dict = {"machine": machine(), "edits": {}}
    for name, pairs in sets.items():
        result["edits"][name] = {"rows": len(pairs)}
        for method, function in methods.items():
            began = time.process_time()
            found = function(both, [edit for _, edit in pairs])
            result["edits"][name][method] = {
                "found": found,
                "share": round(found / len(pairs), 4),
                "cpu_seconds": round(time.process_time() - began, 1),
            }
        progress(f"{name}: {json.dumps(result['edits'][name])}")
    write_json(args.out, result)
    return 0


def _rows(path: Path, question: str) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [{"question": row[question], "answer": row["answer"].rpartition("#### ")[2]} for row in rows]


def dedup(originals: list[dict], edits: list[dict]) -> int:
    rows = originals + edits
    with tempfile.TemporaryDirectory() as name, Index(Path(name) / "index") as index:
        index.fill(keys(rows[start : start + 1000]) for start in range(0, len(rows), 1000))
        return sum(twin is not None for twin in list(index.twins(SIMILARITY))[len(originals) :])


def decontaminate(originals: list[dict], edits: list[dict]) -> int:
    rows = [row | {"file": "evaluation", "row": number} for number, row in enumerate(originals)]
    evaluation = Evaluation.of(rows, SIMILARITY)
    return sum(evaluation.match(edit["question"], edit["answer"]) is not None for edit in edits)


def datasketch(originals: list[dict], edits: list[dict]) -> int:
    from datasketch import MinHash, MinHashLSH

    def signature(text: str) -> "MinHash":
        words = re.findall(r"\w+", text.casefold())
        made = MinHash(num_perm=128)
        for start in range(max(1, len(words) - 2)):
            made.update(" ".join(words[start : start + 3]).encode())
        return made

    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    signatures = [signature(row["question"]) for row in originals]
    for number, made in enumerate(signatures):
        index.insert(number, made)
    found = 0
    for edit in edits:
        made = signature(edit["question"])
        found += any(made.jaccard(signatures[number]) >= SIMILARITY for number in index.query(made))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
