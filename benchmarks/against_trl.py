"""The recipe against TRL's GRPOTrainer: seconds from the command to 70 % held-out, and trained groups a second.

    python benchmarks/against_trl.py [--seeds 1 2 3] [--steps 48] [--runs DIR] [--out FILE]
    python benchmarks/against_trl.py --word-problems runs/word_problems --steps 3

Both start from the same warmed-up quickstart model of a seed and train in float32 on the same problems: 32 prompts × 8
responses an iteration, four optimizer steps, the same learning rates, and the same evaluation of 200 × 4 responses
before training and every 4 iterations, which counts in the seconds but not in the rate. Each has its own loss and its
best settings for two cores: the recipe as configs/quickstart_cpu.yaml has it, TRL one process with two threads.

--word-problems: the same of SmolLM2-135M, from the warmed-up models that benchmarks/word_problems.py left there: 32
problems × 8 responses, two optimizer steps, in bfloat16 with float32 master weights. Only the rate, no evaluation.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from common import RESULTS, machine, openrlhf, progress, spread, write_json

from kimi_plugins import run_log
from kimi_plugins.quickstart.run import CONFIGS, REWARD, make_inputs, warm_up

BATCH, K, GOAL = 32, 8, 0.7
EVAL_EVERY, EVAL_SAMPLES = 4, 4
PASS1 = "eval_default_pass1"
EXAMPLE = Path(__file__).parents[1] / "examples" / "smollm2_word_problems"


@dataclass(frozen=True)
class Task:
    """What both train: the configuration of the recipe with what is changed in it, and the same as TRL is told it."""

    config: Path
    changed: dict
    mini_batch: int  # responses an optimizer step
    micro_batch: int  # of them at a time
    room: int  # tokens of a response
    trl: dict
    evaluated: bool


QUICKSTART = Task(
    config=CONFIGS / "quickstart_cpu.yaml",
    changed={"reward.remote_url": REWARD, "eval.steps": EVAL_EVERY},
    mini_batch=64,
    micro_batch=64,
    room=160,
    trl={
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "bf16": False,
    },
    evaluated=True,
)
WORD_PROBLEMS = Task(
    config=EXAMPLE / "train.yaml",
    changed={
        "rollout.batch_size": BATCH,
        "train.batch_size": 128,
        "algo.dynamic_filtering_enable": False,  # TRL does not leave out problems
        "ds.param_dtype": "bf16",
        "eval.before_training": False,
        "eval.steps": -1,
    },
    mini_batch=128,
    micro_batch=16,
    room=24,
    trl={"learning_rate": 3e-5, "lr_scheduler_type": "constant", "bf16": True},
    evaluated=False,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=48, help="iterations; default 48")
    parser.add_argument("--trl-threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/against_trl"), help="where the runs go")
    parser.add_argument("--word-problems", type=Path, metavar="DIR", help="runs of benchmarks/word_problems.py")
    parser.add_argument(
        "--out", type=Path, help="default: results/against_trl.json, or against_trl_word_problems.json"
    )
    parser.add_argument("--trl", metavar="SEED", type=int, help=argparse.SUPPRESS)  # the process that trains with TRL
    args = parser.parse_args()
    task = WORD_PROBLEMS if args.word_problems else QUICKSTART
    if args.trl is not None:
        return train_with_trl(task, args.trl, args.steps, args.runs)

    found, measured = machine(), {"recipe": [], "trl": []}
    for seed in args.seeds:
        start = args.runs.resolve() / f"seed-{seed}"
        if args.word_problems:
            take_inputs(start, args.word_problems.resolve(), seed)
        else:
            make_inputs(start, seed)
            warm_up(start, seed)
        for name in measured if seed % 2 else reversed(measured):
            out = start / name
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            began = time.time()
            if name == "recipe":
                run_recipe(task, start, out, seed, args.steps)
            else:
                words = [__file__, "--trl", seed, "--steps", args.steps, "--runs", start]
                words += ["--word-problems", args.word_problems] if args.word_problems else []
                environment = os.environ | {"OMP_NUM_THREADS": str(args.trl_threads), "HF_HUB_OFFLINE": "1"}
                with (out / "log.txt").open("w") as log:
                    command = [sys.executable, *map(str, words)]
                    subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
            measured[name].append(one := summarize(out, began))
            progress(f"seed {seed}, {name}: {json.dumps(one)}")
    result = {name: {key: spread_of([one[key] for one in runs]) for key in runs[0]} for name, runs in measured.items()}
    name = "against_trl_word_problems.json" if args.word_problems else "against_trl.json"
    write_json(args.out or RESULTS / name, {"machine": found, "seeds": args.seeds, "steps": args.steps} | result)
    return 0


def spread_of(values: list) -> dict:
    """spread(), or only the values where one is None: a run that did not get to 70 %."""
    return {"all": values} if None in values else spread(values)


def take_inputs(start: Path, runs: Path, seed: int) -> None:
    """The data and the seed's warmed-up model of benchmarks/word_problems.py as make_inputs and warm_up leave them."""
    start.mkdir(parents=True, exist_ok=True)
    for name in ("train.jsonl", "held_out.jsonl"):
        shutil.copy2(runs / "inputs" / name, start)
    shutil.copytree(runs / f"seed-{seed}" / "warm_up", start / "warm_up", dirs_exist_ok=True)


def summarize(out: Path, began: float) -> dict:
    """Figures of a run's records; seconds from the command, those of steps without the evaluations."""
    evaluations, steps = run_log.read(out, "eval"), run_log.read(out, "train")
    seconds = [record["timing/step_total"] for record in steps]
    rates = {"groups_per_second": BATCH * len(seconds) / sum(seconds), "step_seconds": median(seconds)}
    if not evaluations:
        return rates
    reached = [record["time"] - began for record in evaluations if record[PASS1] >= GOAL]
    return rates | {
        "seconds_to_goal": reached[0] if reached else None,
        "seconds_to_start": evaluations[0]["time"] - began,
        "seconds": evaluations[-1]["time"] - began,
        "pass_at_1_before": evaluations[0][PASS1],
        "pass_at_1_after": evaluations[-1][PASS1],
    }


def run_recipe(task: Task, start: Path, out: Path, seed: int, steps: int) -> None:
    flags = task.changed | {
        "train.seed": seed,
        "actor.model_name_or_path": start / "warm_up",
        "data.prompt_dataset": start / "train.jsonl",
        "data.max_samples": BATCH * steps,
        "eval.dataset": start / "held_out.jsonl",
        "ckpt.path": out,
        "ckpt.output_dir": out / "model",
    }
    openrlhf("train", task.config, flags, out / "log.txt", plugins="kimi")


def trl_rewards(task: Task, tokenizer) -> Callable[..., list[float | None]]:
    """The recipe's reward as TRL asks for it."""
    if task is WORD_PROBLEMS:
        from kimi_plugins import options
        from kimi_plugins.grading import Settings
        from kimi_plugins.rewards.adapters import trl_reward

        return trl_reward(kind="math", settings=Settings(math=options.MathGrader(answer_pattern="=")))

    from kimi_plugins.quickstart.reward import final_answer

    def rewards(completion_ids, label, **_) -> list[float]:
        texts = tokenizer.batch_decode(completion_ids)
        return [float(final_answer(text) == answer) for text, answer in zip(texts, label, strict=True)]

    return rewards


def train_with_trl(task: Task, seed: int, steps: int, start: Path) -> int:
    """As the recipe trains; writes the same records to start/trl."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, TrainerCallback, set_seed
    from trl import GRPOConfig, GRPOTrainer

    from kimi_plugins.quickstart.reward import final_answer

    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (start / f"{name}.jsonl").read_text().splitlines()]

    class Log(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **_):
            self.began = time.time()
            if task.evaluated:
                self.evaluate(model, 0)

        def on_step_end(self, args, state, control, model=None, **_):
            step, rest = divmod(state.global_step, BATCH * K // task.mini_batch)
            if rest:
                return
            run_log.append(start / "trl", "train", step, {"timing/step_total": time.time() - self.began})
            if task.evaluated and (step % EVAL_EVERY == 0 or step == steps):
                self.evaluate(model, step)
            self.began = time.time()

        @torch.no_grad()
        def evaluate(self, model, step):
            model.eval()
            inputs = tokenizer([row["input"] for row in held_out], return_tensors="pt", padding=True)
            inputs.pop("token_type_ids", None)
            tokens = model.generate(**inputs, generation_config=sampling)
            completions = tokens[:, inputs["input_ids"].shape[1] :]
            ended = [text.replace(tokenizer.pad_token, "") for text in tokenizer.batch_decode(completions)]
            labels = [row["label"] for row in held_out for _ in range(EVAL_SAMPLES)]
            right = [final_answer(text) == label for text, label in zip(ended, labels, strict=True)]
            run_log.append(start / "trl", "eval", step, {PASS1: sum(right) / len(right)})
            model.train()
            self.began = time.time()

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(start / "warm_up", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(start / "warm_up", dtype=torch.float32)
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sampling = GenerationConfig(
        do_sample=True, top_k=0, max_new_tokens=task.room, num_return_sequences=EVAL_SAMPLES, **special
    )
    held_out = rows("held_out")
    problems = [{"prompt": row["input"], "label": row["label"]} for row in rows("train")[: BATCH * steps]]
    config = GRPOConfig(
        output_dir=str(start / "trl" / "model"),
        seed=seed,
        use_cpu=True,
        per_device_train_batch_size=task.micro_batch,
        gradient_accumulation_steps=task.mini_batch // task.micro_batch,
        steps_per_generation=BATCH * K // task.micro_batch,
        num_generations=K,
        max_steps=steps * BATCH * K // task.mini_batch,
        max_completion_length=task.room,
        temperature=1.0,
        adam_beta2=0.95,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **task.trl,
    )
    trainer = GRPOTrainer(
        model,
        trl_rewards(task, tokenizer),
        args=config,
        train_dataset=Dataset.from_list(problems),
        processing_class=tokenizer,
    )
    trainer.add_callback(Log())
    trainer.train()
    return 0


if __name__ == "__main__":
    sys.exit(main())
