"""What importing the graders costs: seconds of CPU time and memory of a new interpreter, with and without them.

python benchmarks/grading_import.py [--out FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

IMPORT = (
    "from kimi_plugins.grading import Grader, Judge, Pool, Problem, Verdict, final_answers, judge_program; Grader()"
)
MEASURE = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)

print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
RUNS = 15


def measured(line: str) -> dict[str, float]:
    """Medians of RUNS interpreters."""
    runs = []
    for _ in range(RUNS):
        done = subprocess.run([sys.executable, "-c", line + MEASURE], capture_output=True, text=True, check=True)
        runs.append(list(map(float, done.stdout.split())))
    seconds, mib = zip(*runs, strict=True)
    return {"cpu_seconds": round(statistics.median(seconds), 3), "mib": round(statistics.median(mib), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "grading_import.json")
    args = parser.parse_args()
    found = {"python": sys.version.split()[0], "runs": RUNS, "empty": measured(""), "grading": measured(IMPORT)}
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
