"""The quickstart on several seeds: held-out pass@1 and tokens before and after RL, and seconds per phase.

    python benchmarks/quickstart.py [--seeds 1 2 3] [--runs DIR] [--out FILE]

Each seed is a new run of `openrlhf kimi quickstart`, with its own data, model and training.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins.quickstart.run import SUMMARY


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_quickstart"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "quickstart.json")
    args = parser.parse_args()

    found = machine()
    summaries = []
    for seed in args.seeds:
        out = args.runs / f"seed-{seed}"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "openrlhf.cli.main", "kimi", "quickstart", "--seed", str(seed)]
        subprocess.run([*command, "--out", str(out)], check=True)
        summaries.append(json.loads((out / SUMMARY).read_text()))
    write_json(args.out, {"machine": found} | aggregate(summaries))
    return 0


def aggregate(summaries: list[dict]) -> dict:
    gains = [100 * (run["after"]["pass_at_1"] - run["before"]["pass_at_1"]) for run in summaries]
    totals = [sum(run["seconds"][phase] for phase in ("data_and_model", "warm_up", "rl")) for run in summaries]
    progress(f"gain {min(gains):.1f} to {max(gains):.1f} points, {min(totals):.0f} to {max(totals):.0f} s")
    phases = summaries[0]["seconds"]
    return {
        "seeds": [run["seed"] for run in summaries],
        "pass_at_1_before": spread([run["before"]["pass_at_1"] for run in summaries]),
        "pass_at_1_after": spread([run["after"]["pass_at_1"] for run in summaries]),
        "gain_points": spread(gains),
        "response_tokens_before": spread([run["before"]["response_tokens"] for run in summaries]),
        "response_tokens_after": spread([run["after"]["response_tokens"] for run in summaries]),
        "seconds_total": spread(totals),
        "seconds": {phase: spread([run["seconds"][phase] for run in summaries]) for phase in phases},
    }


if __name__ == "__main__":
    sys.exit(main())
