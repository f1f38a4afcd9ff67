"""A real small model on real word problems: held-out pass@1 before RL, after it, and after as much time of SFT alone.

    python benchmarks/word_problems.py --data DIRECTORY [--seeds 1 2 3] [--runs DIR] [--out FILE]

Runs examples/smollm2_word_problems as it stands on each seed: the warm-up (`openrlhf sft`), RL (`openrlhf train`) and,
as controls, the warm-up for more epochs, for some seeds as long as RL takes; then asks all models the same held-out
problems (`openrlhf kimi frontier`). What is finished is not done again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import yaml
from common import RESULTS, command, machine, openrlhf, progress, spread, write_json

from kimi_plugins import run_log

EXAMPLE = Path(__file__).parents[1] / "examples" / "smollm2_word_problems"
WARM_UP, RL, LONGER, SAME_TIME = "warm_up", "rl", "sft_longer", "sft_same_time"
EPOCHS = {LONGER: 10, SAME_TIME: 60}  # of the warm-up's examples; the warm-up itself has 3
SAMPLES = 4  # responses to a held-out problem


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="as of the example's prepare.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--same-time", type=int, nargs="*", default=[1], help="seeds with SFT for as long as RL takes")
    parser.add_argument("--runs", type=Path, default=Path("runs/word_problems"), help="where the runs go")
    parser.add_argument("--param-dtype", default="fp32", help="ds.param_dtype; bf16 where the CPU has AVX-512")
    parser.add_argument("--out", type=Path, default=RESULTS / "word_problems.json")
    args = parser.parse_args()

    found, runs = machine(), args.runs.resolve()
    if not (runs / "inputs/model/tokenizer.json").exists():
        prepare = [sys.executable, EXAMPLE / "prepare.py", "--data", args.data, "--out", runs / "inputs"]
        subprocess.run(list(map(str, prepare)), check=True)
    results = []
    for seed in args.seeds:
        controls = [LONGER, SAME_TIME] if seed in args.same_time else [LONGER]
        results.append(one := run(runs, seed, args.param_dtype, controls))
        progress(f"seed {seed}: {json.dumps({name: round(p, 1) for name, p in points(one).items()})}")
    write_json(args.out, {"machine": found, "param_dtype": args.param_dtype} | aggregate(results))
    plot(results, args.out.with_suffix(".svg"))
    return 0


def run(runs: Path, seed: int, dtype: str, controls: list[str]) -> dict:
    """The figures of a seed; its steps go to runs/seed-SEED, each only if it is not finished."""
    out, inputs, seconds = runs / f"seed-{seed}", runs / "inputs", {}
    shared = {"train.seed": seed, "ds.param_dtype": dtype}

    def step(name: str, work: Callable[[], None]) -> None:
        file = out / f"{name}.seconds"
        if not file.exists():
            began = time.monotonic()
            work()
            file.write_text(f"{time.monotonic() - began:.0f}\n")
            progress(f"seed {seed}: {name} took {file.read_text().strip()} s")
        seconds[name] = int(file.read_text())

    def sft(name: str) -> None:
        flags = shared | {
            "model.model_name_or_path": inputs / "model",
            "data.dataset": inputs / "warm_up.jsonl",
            "ckpt.output_dir": out / name,
            "ckpt.path": out / "checkpoints" / name,
        }
        if name in EPOCHS:
            flags["train.max_epochs"] = EPOCHS[name]
        openrlhf("sft", EXAMPLE / "warm_up.yaml", flags, out / f"{name}.log")

    def rl() -> None:
        shutil.rmtree(out / "rl_log", ignore_errors=True)  # of a run cut short: it would be continued
        flags = shared | {
            "actor.model_name_or_path": out / WARM_UP,
            "data.prompt_dataset": inputs / "train.jsonl",
            "eval.dataset": inputs / "held_out.jsonl",
            "ckpt.path": out / "rl_log",
            "ckpt.output_dir": out / RL,
        }
        openrlhf("train", EXAMPLE / "train.yaml", flags, out / "rl.log")

    def frontier() -> None:
        rollout = yaml.safe_load((EXAMPLE / "train.yaml").read_text())["rollout"]
        words = ["frontier", *(f"{name}={out / name}" for name in (WARM_UP, RL, *controls))]
        words += ["--data", inputs / "held_out.jsonl", "--out", out / "frontier", "--answer-pattern", "="]
        words += ["--n", SAMPLES, "--max-new-tokens", rollout["max_new_tokens"]]
        with (out / "frontier.log").open("w") as log:
            subprocess.run([*command("kimi", {}), *map(str, words)], check=True, stdout=log, stderr=log)

    out.mkdir(parents=True, exist_ok=True)
    step(WARM_UP, lambda: sft(WARM_UP))
    step(RL, rl)
    for name in controls:
        step(name, lambda name=name: sft(name))
    step("frontier", frontier)
    steps, evaluations = run_log.read(out / "rl_log", "train"), run_log.read(out / "rl_log", "eval")
    return {
        "seed": seed,
        "seconds": seconds,
        "models": json.loads((out / "frontier/frontier.json").read_text())["models"],
        "step_seconds": median(record["timing/step_total"] for record in steps),
        "train": [{"step": record["step"], "reward": record["reward"]} for record in steps],
        "held_out": [{"step": record["step"], "pass_at_1": record["eval_default_pass1"]} for record in evaluations],
    }


def points(one: dict) -> dict[str, float]:
    """Held-out percentage points of each model of a seed over its warm-up."""
    return {model["name"]: model["points_over_first"] for model in one["models"][1:]}


def aggregate(results: list[dict]) -> dict:
    """Median and range over the seeds, of what each seed has."""
    accuracy = [{model["name"]: model["pass_at_1"] for model in one["models"]} for one in results]

    def spreads(rows: list[dict]) -> dict:
        return {name: spread([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}

    return {
        "pass_at_1": spreads(accuracy),
        "points_over_warm_up": spreads([points(one) for one in results]),
        "seconds": spreads([one["seconds"] for one in results]),
        "runs": results,
    }


def plot(results: list[dict], path: Path) -> None:
    """Held-out pass@1 over the iterations of each seed, and as dashes what SFT alone reaches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for number, one in enumerate(results):
        color, curve = f"C{number}", one["held_out"]
        x, y = [point["step"] for point in curve], [point["pass_at_1"] for point in curve]
        axis.plot(x, y, color=color, marker="o", label=f"seed {one['seed']}")
        alone = max(model["pass_at_1"] for model in one["models"] if model["name"] in EPOCHS)
        axis.axhline(alone, color=color, linestyle="--", linewidth=1)
    axis.set(xlabel="iteration", ylabel="held-out pass@1 (dashed: SFT alone)", ylim=(0, None))
    axis.legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
