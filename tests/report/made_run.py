"""Logs of runs that never were."""

import json
import random
from pathlib import Path

TRAIN = {
    "score": 0.5,
    "response_length": 20.0,
    "rollout/reward_mean": 0.5,
    "rollout/response_length_mean": 20.0,
    "rollout/num_samples": 8.0,
    "rollout/truncated_rate": 0.1,
    "kimi/zero_advantage_share": 0.25,
    "kimi/logprob_gap_abs": 0.002,
    "vllm_kl": -1e-5,
    "kimi/log_ratio_sq_mean": 0.01,
    "kimi/kl_mean": 0.005,
    "kimi/log_ratio_clip_share": 0.0,
    "kimi/correct_length_mean": 18.0,
    "kimi/wrong_length_mean": 25.0,
    "kimi/length_reward_mean": -0.1,
    "kimi/length_reward_weight": 0.2,
    "kimi/equal_length_share": 0.0,
    "kimi/rewards/gsm8k/accuracy": 0.6,
    "kimi/rewards/apps/accuracy": 0.2,
    "kimi/grader_failure_share": 0.01,
    "timing/generation": 2.0,
    "timing/make_experience": 1.0,
    "timing/ppo_train": 3.0,
    "timing/broadcast": 0.1,
    "timing/step_total": 6.5,
}


def train_record(step: int, **changes) -> dict:
    return {"split": "train", "step": step, "time": 1_800_000_000.0 + 60 * step} | TRAIN | changes


def eval_record(step: int, **metrics) -> dict:
    return {"split": "eval", "step": step, "time": 1_800_000_001.0 + 60 * step} | metrics


def response(text: str, reward: float = 1.0, **changes) -> dict:
    return {
        "text": text,
        "score": float(reward >= 0.5),
        "reward": reward,
        "advantage": 0.5,
        "tokens": len(text),
        "truncated": False,
    } | changes


def rollout_record(step: int, responses: list[dict] | None = None, prompt: str = "1+1=", groups: list = ()) -> dict:
    samples = [{"prompt": prompt, "label": "2", "responses": responses}] if responses else []
    return {"step": step, "groups": list(groups) or [[1, 0.5]], "samples": samples}


def write_jsonl(path: Path, records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def write_run(directory: Path, steps: int = 6) -> Path:
    """A whole run: two prompts a step, k = 2, the responses name their step."""
    rng = random.Random(1)
    evals = [
        eval_record(step, eval_default_pass1=0.2 + step / 10, eval_response_length_mean=19.0) for step in (0, steps)
    ]
    train = [train_record(step, score=step / 10) for step in range(1, steps + 1)]
    write_jsonl(directory / "metrics.jsonl", [evals[0], *train, evals[1]])
    rollouts = [
        rollout_record(
            step,
            [response(f"right in step {step}"), response(f"wrong in step {step}", 0.0, truncated=True)],
            groups=[[rng.randrange(9), rng.choice([0.0, 0.5, 1.0])] for _ in range(2)],
        )
        for step in range(1, steps + 1)
    ]
    write_jsonl(directory / "rollouts.jsonl", rollouts)
    return directory
