"""Which loss learns from few generated tokens when many optimizer steps are made on one batch of rollouts.

    python benchmarks/off_policy.py search [--steps 16] [--forms NAME ...] [--runs DIR] [--workers N]
    python benchmarks/off_policy.py confirm [--seeds 1 2 3]     # the best settings of each form, more seeds
    python benchmarks/off_policy.py report [--out FILE]         # JSON and figure of all that was run

The quickstart's task and the loss functions of the plugins and of OpenRLHF, in a plain torch loop without Ray and
vLLM, so that one run takes about a minute on one core. Every form gets the same search: three learning rates times
three values of the one number it has (τ, or the width of its clipping). A run that was done is not done again.
"""

import argparse
import hashlib
import itertools
import json
import math
import random
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median

import torch
from common import RESULTS, machine, progress, spread, write_json
from torch import Tensor, nn
from torch.nn import functional as F

from kimi_plugins.policy.advantages import family_advantages, group_advantages, success_scale
from kimi_plugins.policy.mirror_descent import MirrorDescentLoss
from kimi_plugins.policy.optimizer_reset import reset_optimizer
from kimi_plugins.quickstart.arithmetic import ANSWER_CLOSE, ANSWER_OPEN, EOS, generate_problems, prompt, solution
from kimi_plugins.quickstart.model import SYMBOLS

PAD = 0
TOKENS = ["<pad>", EOS, *SYMBOLS]
INDEX = {token: number for number, token in enumerate(TOKENS)}
PROMPT, ROOM = 9, 72  # tokens: of a prompt, padded on the left, and of a response
GROUPS, K = 64, 8  # prompts an iteration, responses a prompt
ITERATIONS = 16
PASSES = 4  # how often a training problem comes
HELD_OUT = 512
EVERY = 2  # iterations from one evaluation to the next
STARTS = {"fifth": 1600, "twentieth": 850}  # steps of supervised warm-up, and what share is right after them
TARGET = 0.5  # held-out pass@1 that tokens are counted to
LEARNING_RATES = (1e-3, 3e-4, 3e-3)  # in the order in which the search tries them
TAUS = (0.01, 0.1, 1.0)
COLLAPSE = 0.1  # below the best point so far, at the end


# The model


class Decoder(nn.Module):
    """A decoder of 0.1 million parameters over TOKENS: tokens [B, T] → logits [B, T, V]."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(len(TOKENS), width)
        self.position = nn.Embedding(PROMPT + ROOM, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.RMSNorm(width),
                    "qkv": nn.Linear(width, 3 * width, bias=False),
                    "out": nn.Linear(width, width, bias=False),
                    "norm2": nn.RMSNorm(width),
                    "up": nn.Linear(width, 4 * width, bias=False),
                    "down": nn.Linear(4 * width, width, bias=False),
                }
            )
            for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor, pads: Tensor, cache: list | None = None, start: int = 0) -> Tensor:
        """pads: [B], padding on the left. cache: keys and values of the tokens before `start`, extended in place."""
        batch, length = tokens.shape
        column = torch.arange(start, start + length)
        x = self.embed(tokens) + self.position((column - pads[:, None]).clamp(min=0))  # [B, T, W]
        keys = torch.arange(start + length)
        allowed = (keys <= column[:, None]) & (keys >= pads[:, None, None])  # [B, T, S]
        allowed = (allowed | (keys == column[:, None])).unsqueeze(1)  # a row of padding sees itself: no NaN
        for number, layer in enumerate(self.layers):
            q, k, v = layer["qkv"](layer["norm1"](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if cache is not None:
                if start:
                    k, v = torch.cat([cache[number][0], k], dim=2), torch.cat([cache[number][1], v], dim=2)
                cache[number] = (k, v)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
            x = x + layer["out"](mixed.transpose(1, 2).reshape(batch, length, -1))
            x = x + layer["down"](F.gelu(layer["up"](layer["norm2"](x))))
        return self.norm(x) @ self.embed.weight.T


def encode(text: str) -> list[int]:
    """Tokens of a text made of TOKENS; the longest that fits comes first."""
    found, names = [], sorted(INDEX, key=len, reverse=True)
    while text:
        name = next(name for name in names if text.startswith(name))
        found.append(INDEX[name])
        text = text[len(name) :]
    return found


def prompts_of(problems: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """(tokens [N, PROMPT] padded on the left, padding [N])."""
    rows = [encode(prompt(a, b)) for a, b in problems]
    pads = [PROMPT - len(row) for row in rows]
    return torch.tensor([[PAD] * pad + row for pad, row in zip(pads, rows, strict=True)]), torch.tensor(pads)


@torch.no_grad()
def generate(model: Decoder, prompts: Tensor, pads: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sampled at temperature 1: tokens [B, PROMPT + n] and the mask of the response's, its <eos> included."""
    cache: list = [None] * len(model.layers)
    tokens, following, start = [prompts], prompts, 0
    running = torch.ones(len(prompts), dtype=torch.bool)
    masks = []
    for _ in range(ROOM):
        logits = model(following, pads, cache, start)[:, -1]
        start += following.shape[1]
        following = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        following[~running] = PAD
        tokens.append(following)
        masks.append(running.unsqueeze(1))
        running = running & (following[:, 0] != INDEX[EOS])
        if not running.any():
            break
    return torch.cat(tokens, dim=1), torch.cat([torch.zeros_like(prompts, dtype=torch.bool), *masks], dim=1)


def log_probs(model: Decoder, tokens: Tensor, pads: Tensor) -> Tensor:
    """[B, T − 1]: of each token after the first."""
    return model(tokens[:, :-1], pads).log_softmax(dim=-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)


def verdicts(tokens: Tensor, problems: list[tuple[int, int]]) -> Tensor:
    """[B]: 1 for a response that ends in its right answer, else 0."""
    right = []
    for row, (a, b) in zip(tokens.tolist(), problems, strict=True):
        text = "".join(TOKENS[token] for token in row if token != PAD)
        right.append(float(text.endswith(f"{ANSWER_OPEN}{a + b}{ANSWER_CLOSE}{EOS}")))
    return torch.tensor(right)


# The forms


@dataclass(frozen=True)
class Form:
    """One way to train. number: the values of its own hyperparameter, [0] if it has none."""

    baseline: str = "mean"
    scale: str = "1"  # of the baseline: a number, or the success rate of the group or the batch
    loss: str = "k1.5"  # k1.5, k2.5, ppo, gspo or plain
    number: tuple[float, ...] = TAUS
    length_normalization: bool = False
    normalized: bool = False  # advantages divided by their group's standard deviation
    reset: bool = False


CLIP = (0.05, 0.2, 0.8)
FORMS = {
    "mirror_descent": Form(),
    "mirror_descent_reset": Form(reset=True),
    "mirror_descent_half_baseline": Form(scale="0.5"),
    "mirror_descent_rising_baseline": Form(scale="batch"),
    "mirror_descent_no_baseline": Form(baseline="none"),
    "mirror_descent_log_z": Form(baseline="log_z"),
    "openkimi_pmd_mean": Form(baseline="leave_one_out", length_normalization=True),
    "openkimi_rising_baseline": Form(scale="batch", length_normalization=True),
    "k2.5": Form(loss="k2.5"),
    "dr_grpo": Form(loss="ppo", number=CLIP),
    "dr_grpo_unclipped": Form(loss="plain", number=(0.0,)),
    "group_norm": Form(loss="ppo", number=CLIP, normalized=True),
    "gspo": Form(loss="gspo", number=(0.002, 0.02, 0.2), normalized=True),
    "rest": Form(baseline="none", loss="plain", number=(0.0,)),
}
OURS = [name for name, form in FORMS.items() if form.loss in ("k1.5", "k2.5")]


def advantages_of(form: Form, rewards: Tensor, tau: float) -> Tensor:
    """[P, k] of the verdicts [P, k]."""
    if form.scale in ("group", "batch"):
        families = [[number] for number in range(len(rewards))]
        scale = success_scale(rewards, torch.ones_like(rewards, dtype=torch.bool), families, over=form.scale)
        return family_advantages(rewards, families, baseline=form.baseline, tau=tau, scale=scale)
    found = group_advantages(rewards, baseline=form.baseline, tau=tau, scale=float(form.scale))
    return found / (rewards.std(dim=-1, keepdim=True) + 1e-9) if form.normalized else found  # as OpenRLHF does


def loss_of(form: Form, number: float):
    """The loss, called as OpenRLHF calls its PolicyLoss."""
    if form.loss in ("k1.5", "k2.5"):
        token = form.loss == "k2.5"
        return MirrorDescentLoss(
            tau=number,
            max_log_ratio=100.0,
            log_ratio="token" if token else "sequence",
            token_level_loss=token,
            form=form.loss,
            length_normalization=form.length_normalization,
        )
    from openrlhf.models.loss import PolicyLoss  # seconds to import

    width = number or 1e6  # "plain": nothing is clipped
    kind = "gspo" if form.loss == "gspo" else "ppo"
    return PolicyLoss(clip_eps_low=min(width, 1.0), clip_eps_high=width, policy_loss_type=kind)


# Runs


@dataclass(frozen=True)
class Job:
    form: str
    number: float
    learning_rate: float
    steps: int  # optimizer steps an iteration
    start: str
    seed: int

    def path(self, runs: Path) -> Path:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return runs / f"{self.form}-{digest}.json"


def problems_of(seed: int) -> tuple[list, list, list]:
    """Problems of the warm-up, of training and held out; no two alike."""
    found = generate_problems(4000 + GROUPS * ITERATIONS // PASSES + HELD_OUT, seed)
    return found[:4000], found[4000:-HELD_OUT], found[-HELD_OUT:]


def warmed_up(start: str, seed: int, runs: Path) -> Decoder:
    """The model after the supervised steps of STARTS, made once for each seed."""
    torch.manual_seed(seed)
    model, path = Decoder(), runs / f"warm_up-{start}-{seed}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path))
        return model
    rng, (problems, _, _) = random.Random(seed), problems_of(seed)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STARTS[start], pct_start=0.1)
    for _ in range(STARTS[start]):
        chosen = rng.choices(problems, k=64)
        prompts, pads = prompts_of(chosen)
        answers = [encode(solution(a, b, rng))[:ROOM] for a, b in chosen]
        longest = max(map(len, answers))
        tokens = torch.cat([prompts, torch.tensor([row + [PAD] * (longest - len(row)) for row in answers])], dim=1)
        mask = torch.arange(1, tokens.shape[1]) < PROMPT + torch.tensor([[len(row)] for row in answers])
        mask[:, : PROMPT - 1] = False
        optimizer.zero_grad()
        (-(log_probs(model, tokens, pads) * mask).sum() / mask.sum()).backward()
        optimizer.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model


def evaluate(model: Decoder, problems: list, seed: int, samples: int = 1) -> list[float]:
    """Share solved of each problem, of `samples` responses at temperature 1."""
    repeated = [problem for problem in problems for _ in range(samples)]
    tokens, _ = generate(model, *prompts_of(repeated), torch.Generator().manual_seed(seed))
    return verdicts(tokens, repeated).view(-1, samples).mean(dim=1).tolist()


def run(job: Job, runs: Path) -> dict:
    """Train, and return the job with its curve: generated tokens, held-out pass@1, drift, by iteration."""
    torch.set_num_threads(1)
    began = time.process_time()
    form, model = FORMS[job.form], warmed_up(job.start, job.seed, runs)
    _, training, held_out = problems_of(job.seed)
    order = random.Random(job.seed)
    stream = [problem for _ in range(PASSES) for problem in order.sample(training, len(training))]
    generator = torch.Generator().manual_seed(job.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=job.learning_rate)
    loss_function = loss_of(form, job.number)
    generated = 0
    points = [{"iteration": 0, "tokens": 0, "pass_at_1": fmean(evaluate(model, held_out, 0)), "drift": 0.0}]
    drift: list[float] = []  # mean |Δ| of each iteration since the last point, nats
    for iteration in range(ITERATIONS):
        chosen = stream[iteration * GROUPS : (iteration + 1) * GROUPS]
        repeated = [problem for problem in chosen for _ in range(K)]
        prompts, pads = prompts_of(repeated)
        tokens, mask = generate(model, prompts, pads, generator)
        generated += int(mask.sum())
        rewards = verdicts(tokens, repeated).view(GROUPS, K)
        advantages = advantages_of(form, rewards, job.number or 1.0).view(-1, 1)  # [B, 1]
        mask = mask[:, 1:]
        with torch.no_grad():
            old = log_probs(model, tokens, pads)
        if form.reset:
            reset_optimizer(optimizer)
        for rows in torch.randperm(len(tokens), generator=generator).chunk(job.steps):
            new = log_probs(model, tokens[rows], pads[rows])
            loss, *_ = loss_function(new, old[rows], advantages[rows].expand_as(new), mask[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            delta = ((log_probs(model, tokens, pads) - old) * mask).sum(dim=-1)
        drift.append(delta.abs().mean().item())
        if (iteration + 1) % EVERY == 0:
            score = fmean(evaluate(model, held_out, 0))
            points.append({"iteration": iteration + 1, "tokens": generated, "pass_at_1": score, "drift": fmean(drift)})
            drift = []
    eight = evaluate(model, held_out[: HELD_OUT // 4], 1, samples=8)
    found = {"pass_at_8": fmean(float(share > 0) for share in eight), "cpu_seconds": time.process_time() - began}
    return {"job": asdict(job), "points": points} | found


def _done(job: Job, runs: Path) -> dict:
    path = job.path(runs)
    if not path.exists():
        result = run(job, runs)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result) + "\n")
    return json.loads(path.read_text())


def run_all(jobs: list[Job], runs: Path, workers: int) -> list[dict]:
    """The results of the jobs, those done before taken up, in no order."""
    for start, seed in {(job.start, job.seed) for job in jobs}:
        warmed_up(start, seed, runs)
    results = []
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        futures = [pool.submit(_done, job, runs) for job in jobs]
        for number, future in enumerate(as_completed(futures), 1):
            results.append(future.result())
            job, score = results[-1]["job"], final(results[-1])
            progress(f"{number}/{len(jobs)} {job['form']} {job['number']:g} lr {job['learning_rate']:g}: {score:.3f}")
    return results


# Results


def final(result: dict) -> float:
    """Held-out pass@1, the mean of the last two points."""
    return fmean(point["pass_at_1"] for point in result["points"][-2:])


def area(result: dict) -> float:
    """Mean held-out pass@1 over the generated tokens, by the trapezium rule: what the search chooses by."""
    pairs = itertools.pairwise(result["points"])
    total = sum((b["tokens"] - a["tokens"]) * (a["pass_at_1"] + b["pass_at_1"]) / 2 for a, b in pairs)
    return total / result["points"][-1]["tokens"]


def tokens_to(result: dict, target: float) -> float:
    """Generated tokens at which the held-out pass@1 is first at the target, between the points; inf if never."""
    for a, b in itertools.pairwise(result["points"]):
        if b["pass_at_1"] >= target > a["pass_at_1"]:
            share = (target - a["pass_at_1"]) / (b["pass_at_1"] - a["pass_at_1"])
            return a["tokens"] + share * (b["tokens"] - a["tokens"])
    return math.inf


def collapsed(result: dict) -> bool:
    return final(result) < max(point["pass_at_1"] for point in result["points"]) - COLLAPSE


def search_jobs(forms: list[str], steps: int, start: str, seed: int) -> list[Job]:
    return [
        Job(name, number, rate, steps, start, seed)
        for rate in LEARNING_RATES
        for name in forms
        for number in FORMS[name].number
    ]


def load(runs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]


def best_settings(results: list[dict]) -> dict[tuple[int, str, str], tuple[float, float]]:
    """{(steps, start, form): (number, learning rate)} with the largest area, by the seed that all settings have."""
    found: dict[tuple[int, str, str], list[dict]] = {}
    first = min((result["job"]["seed"] for result in results), default=1)
    for result in results:
        job = result["job"]
        if job["seed"] == first:
            found.setdefault((job["steps"], job["start"], job["form"]), []).append(result)
    best = {key: max(of_form, key=area)["job"] for key, of_form in found.items()}
    return {key: (job["number"], job["learning_rate"]) for key, job in best.items()}


def summary(results: list[dict]) -> list[dict]:
    """A row for each regime and form at its best settings, over all seeds that were run with them."""
    rows = []
    for (steps, start, form), (number, rate) in sorted(best_settings(results).items()):
        chosen = {"steps": steps, "start": start, "form": form, "number": number, "learning_rate": rate}
        of_form = [one for one in results if {key: one["job"][key] for key in chosen} == chosen]
        reached = [tokens_to(one, TARGET) for one in of_form]
        regime = {"steps": steps, "start": start, "form": form}
        tried = [one for one in results if {key: one["job"][key] for key in regime} == regime]
        rows.append(
            chosen
            | {
                "seeds": [one["job"]["seed"] for one in of_form],
                "final": spread([final(one) for one in of_form]),
                "area": spread([area(one) for one in of_form]),
                "pass_at_8": spread([one["pass_at_8"] for one in of_form]),
                "tokens_to_target": median(reached) if all(map(math.isfinite, reached)) else None,
                "drift": median(fmean(point["drift"] for point in one["points"][1:]) for one in of_form),
                "collapsed": sum(map(collapsed, of_form)),
                "collapsed_in_search": sum(map(collapsed, tried)) / len(tried),
                "settings_tried": len({(one["job"]["number"], one["job"]["learning_rate"]) for one in tried}),
            }
        )
    return rows


def plot(results: list[dict], path: Path) -> None:
    """Held-out pass@1 over generated tokens: a panel a regime, a line for each form and seed at its best settings."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = summary(results)
    regimes = sorted({(row["start"], row["steps"]) for row in rows})
    figure, axes = plt.subplots(1, len(regimes), figsize=(5 * len(regimes), 4), sharey=True, squeeze=False)
    colors = {name: f"C{number % 10}" for number, name in enumerate(FORMS)}
    for axis, (start, steps) in zip(axes[0], regimes, strict=True):
        for row in (row for row in rows if (row["start"], row["steps"]) == (start, steps)):
            chosen = {key: row[key] for key in ("steps", "start", "form", "number", "learning_rate")}
            style = "-" if row["form"] in OURS else "--"
            for one in results:
                if {key: one["job"][key] for key in chosen} == chosen:
                    label = row["form"] if one["job"]["seed"] == row["seeds"][0] else None
                    x, y = zip(*((point["tokens"] / 1000, point["pass_at_1"]) for point in one["points"]), strict=True)
                    axis.plot(x, y, style, color=colors[row["form"]], label=label, linewidth=1)
        axis.set_title(f"{steps} optimizer steps an iteration, start: a {start} right", fontsize=9)
        axis.set_xlabel("generated tokens, thousands")
    axes[0][0].set_ylabel("held-out pass@1")
    axes[0][-1].legend(fontsize=6, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "confirm", "report"))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16, 64], help="optimizer steps an iteration")
    parser.add_argument("--start", choices=STARTS, default="fifth", help="share of right answers at the start")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="the first is that of the search")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/off_policy"))
    parser.add_argument("--out", type=Path, default=RESULTS / "off_policy.json")
    args = parser.parse_args()

    if args.what == "search":
        jobs = [job for steps in args.steps for job in search_jobs(args.forms, steps, args.start, args.seeds[0])]
        run_all(jobs, args.runs, args.workers)
    if args.what == "confirm":
        jobs = [
            Job(form, number, rate, steps, start, seed)
            for (steps, start, form), (number, rate) in best_settings(load(args.runs)).items()
            for seed in args.seeds
            if steps in args.steps and start == args.start and form in args.forms
        ]
        run_all(jobs, args.runs, args.workers)
    if args.what == "report":
        results = load(args.runs)
        conditions = {
            "groups": GROUPS,
            "responses": K,
            "iterations": ITERATIONS,
            "held_out": HELD_OUT,
            "target": TARGET,
        }
        write_json(args.out, {"machine": machine(), "conditions": conditions, "rows": summary(results)})
        plot(results, args.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
