"""What room for long responses buys: RL with room for 64 to 512 tokens from the same start (report §3.3).

    python benchmarks/context_length.py run [--seeds 1 2 3] [--cells NAME ...]  # what is done already is not run again
    python benchmarks/context_length.py report [--out FILE]                     # JSON, figure and Markdown table

The task: a sequence of digits of which each is the sum of the two before it (mod 10) goes on for 3 to 40 steps; what
is the last? The prompt has the first two digits and the numbers of the first and the last step. Worked out, a step
takes six tokens (number, digit, "+", digit, sum, check); where the check finds the sum wrong, the step is done again.
The answer may be given at any time. So 40 steps fit 243 tokens if nothing goes wrong, and room for 64 tokens suffices
for 10 of them. A digit that is guessed is right in a tenth of the cases.

The start is a decoder of 0.1 M parameters after supervised steps on problems of 3 to 10 steps, and towards the end a
few of up to 40; half of them are worked out and half answered at once, and a tenth of the worked steps are slips that
are noticed. RL draws all lengths alike. The cells without working have room for the answer alone and a start that only
ever answered at once: with the small decoder, and with one three times as large. Everything is mirror descent
(kimi_plugins.policy) in the plain torch loop of plain_loop.py, on one thread; the start takes two minutes of CPU
time, a cell up to one.
"""

import argparse
import itertools
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import torch
from common import RESULTS, machine, progress, spread, write_json
from plain_loop import PAD, Decoder, generate, imitate, update
from torch import Tensor

from kimi_plugins.policy.advantages import group_advantages
from kimi_plugins.policy.mirror_descent import MirrorDescentLoss

NUMBERS = [f"n{number}" for number in range(50)]  # of steps; after the last comes the first again
TOKENS = ["<pad>", "<eos>", "=", "answer", "ok", "redo", "+", *map(str, range(10)), *NUMBERS]
INDEX = {token: number for number, token in enumerate(TOKENS)}

LONGEST = 40
SHORT, LONG = range(3, 11), range(11, LONGEST + 1)  # steps, of the warm-up's problems
BINS = {"3–10": range(3, 11), "11–20": range(11, 21), "21–30": range(21, 31), "31–40": range(31, LONGEST + 1)}
PROMPT = 5  # tokens
SLIPS = 0.1
# Optimizer steps of the warm-up, their largest learning rate, and how many of ten batches are of LONG.
WARM_UP = ((2000, 1e-2, 0), (1500, 5e-3, 2))
SHORT_BATCH, LONG_BATCH = 32, 8
K, STEPS = 8, 4  # responses a prompt, optimizer steps an iteration
EVERY = 6  # iterations between two evaluations
HELD_OUT = 200  # problems, evaluated with a response each; at start and end with two
TAU, LEARNING_RATE = 0.1, 1e-3


# The task


@dataclass(frozen=True)
class Problem:
    """first, second: digits; start: the number of the first step."""

    first: int
    second: int
    start: int
    steps: int

    def numbers(self) -> list[str]:
        return [NUMBERS[(self.start + step) % len(NUMBERS)] for step in range(self.steps)]

    def digits(self) -> list[int]:
        """The first two, and one more for every step."""
        found = [self.first, self.second]
        for _ in range(self.steps):
            found.append(sum(found[-2:]) % 10)
        return found


def problem(steps: int, rng: random.Random, held_out: bool = False) -> Problem:
    """One of so many steps, of the tenth that is held out or of the others."""
    while True:
        found = Problem(rng.randrange(10), rng.randrange(10), rng.randrange(len(NUMBERS)), steps)
        if held_out == ((found.first + 3 * found.second + steps) % 10 == 0):
            return found


def prompt(of: Problem) -> list[int]:
    """Tokens: both digits, the numbers of the first and the last step, "="."""
    return [INDEX[word] for word in (str(of.first), str(of.second), of.numbers()[0], of.numbers()[-1], "=")]


def solution(of: Problem, rng: random.Random, working: bool) -> list[int]:
    """Tokens of a right response, worked out with slips noticed or at once."""
    words, digits = [], of.digits()
    for step, number in enumerate(of.numbers() if working else []):
        line = [number, str(digits[step]), "+", str(digits[step + 1])]
        right = digits[step + 2]
        while rng.random() < SLIPS:
            words += [*line, str((right + rng.randrange(1, 10)) % 10), "redo"]
        words += [*line, str(right), "ok"]
    return [INDEX[word] for word in [*words, "answer", str(digits[-1]), "<eos>"]]


def prompts_of(problems: list[Problem]) -> tuple[Tensor, Tensor]:
    """(tokens [N, PROMPT], padding [N], none)."""
    return torch.tensor([prompt(one) for one in problems]), torch.zeros(len(problems), dtype=torch.long)


def verdicts(tokens: Tensor, problems: list[Problem]) -> Tensor:
    """[B]: 1 for a response (with its prompt) that ends in its right answer, else 0."""
    right = []
    for row, one in zip(tokens.tolist(), problems, strict=True):
        end = [INDEX["answer"], INDEX[str(one.digits()[-1])], INDEX["<eos>"]]
        right.append(float(end == [token for token in row if token != PAD][-3:]))
    return torch.tensor(right)


# Cells


@dataclass(frozen=True)
class Cell:
    """room: tokens of a response; working: whether the start has seen worked solutions."""

    room: int
    working: bool = True
    width: int = 64
    layers: int = 2


CELLS = {
    "64": Cell(64),
    "128": Cell(128),
    "256": Cell(256),
    "512": Cell(512),
    "no_working": Cell(4, working=False),
    "no_working_3_times_as_large": Cell(4, working=False, width=80, layers=4),
}
ROOMS = [name for name, cell in CELLS.items() if cell.working]


def decoder(cell: Cell) -> Decoder:
    return Decoder(
        cell.width, cell.layers, cell.width // 16, context=PROMPT + cell.room, vocabulary=len(TOKENS), rotary=True
    )


def warmed_up(cell: Cell, runs: Path) -> Decoder:
    """The start of a cell, the same for all rooms and seeds; made once."""
    torch.manual_seed(0)
    model = decoder(cell)
    for phase, (steps, rate, long) in enumerate(WARM_UP):
        path = runs / f"start-{cell.working}-{cell.width}-{cell.layers}-{phase}.pt"
        if not path.exists():
            rng = random.Random(0)
            optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
            for step in range(steps):
                lengths, rows = (LONG, LONG_BATCH) if step % 10 < long else (SHORT, SHORT_BATCH)
                problems = [problem(rng.choice(lengths), rng) for _ in range(rows)]
                answers = [solution(one, rng, cell.working and rng.random() < 0.5) for one in problems]
                imitate(model, optimizer, *prompts_of(problems), answers)
                schedule.step()
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
    return model


def held_out(seed: int) -> list[Problem]:
    """As many of each bin."""
    rng = random.Random(f"held out {seed}")
    return [
        problem(rng.choice(lengths), rng, held_out=True)
        for lengths in BINS.values()
        for _ in range(HELD_OUT // len(BINS))
    ]


def evaluate(model: Decoder, problems: list[Problem], room: int, samples: int) -> dict:
    """Accuracy and mean tokens of the responses at temperature 1: of all, and by the bins of operations."""
    repeated = [one for one in problems for _ in range(samples)]
    tokens, mask = generate(model, *prompts_of(repeated), torch.Generator().manual_seed(0), room)
    right, lengths = verdicts(tokens, repeated).tolist(), mask.sum(dim=1).tolist()
    found = {"accuracy": fmean(right), "tokens": fmean(lengths)}
    for name, inside in BINS.items():
        rows = [row for row, one in enumerate(repeated) if one.steps in inside]
        found[name] = {"accuracy": fmean(right[row] for row in rows), "tokens": fmean(lengths[row] for row in rows)}
    return found


def run(name: str, seed: int, runs: Path, groups: int, iterations: int) -> dict:
    """Train a cell: its curve, and more of it at the start and at the end."""
    cell = CELLS[name]
    model, problems, rng = warmed_up(cell, runs), held_out(seed), random.Random(seed)
    began = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss = MirrorDescentLoss(tau=TAU, max_log_ratio=100.0, log_ratio="sequence", token_level_loss=False)
    start = evaluate(model, problems, cell.room, samples=2)
    points = [{"iteration": 0, "generated": 0, "reward": None, "drift": None} | start]
    generated = 0
    for iteration in range(1, iterations + 1):
        chosen = [problem(rng.randint(3, LONGEST), rng) for _ in range(groups)]
        repeated = [one for one in chosen for _ in range(K)]
        prompts, pads = prompts_of(repeated)
        tokens, mask = generate(model, prompts, pads, generator, cell.room)
        generated += int(mask.sum())
        rewards = verdicts(tokens, repeated)
        advantages = group_advantages(rewards.view(groups, K), baseline="mean", tau=TAU).flatten()
        drift = update(model, optimizer, loss, tokens, pads, mask, advantages, STEPS, generator)
        if iteration % EVERY == 0 or iteration == iterations:
            now = evaluate(model, problems, cell.room, samples=2 if iteration == iterations else 1)
            row = {"iteration": iteration, "generated": generated, "reward": rewards.mean().item(), "drift": drift}
            points.append(row | now)
            seconds = time.process_time() - began
            progress(
                f"{name}, seed {seed}, iteration {iteration}/{iterations}: {now['accuracy']:.1%} right, hardest "
                f"{now['31–40']['accuracy']:.1%}, {now['tokens']:.0f} tokens a response, {seconds:.0f} s of CPU"
            )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "cell": name,
        "seed": seed,
        "room": cell.room,
        "parameters": parameters,
        "points": points,
        "cpu_seconds": time.process_time() - began,
    }


def done(name: str, seed: int, runs: Path, groups: int, iterations: int) -> dict:
    """The result of a cell, run if it is not there yet."""
    path = runs / f"{name}-{seed}-{groups}x{iterations}.json"
    if not path.exists():
        result = run(name, seed, runs, groups, iterations)
        path.write_text(json.dumps(result) + "\n")
    return json.loads(path.read_text())


# Results


def summary(results: list[dict]) -> list[dict]:
    """A row for each cell, of all its seeds: accuracy and tokens before and after RL, of all problems and by bins."""
    rows = []
    for name in CELLS:
        of_cell = sorted((one for one in results if one["cell"] == name), key=lambda one: one["seed"])
        if not of_cell:
            continue
        row = {"cell": name, "room": of_cell[0]["room"], "parameters": of_cell[0]["parameters"]}
        row["seeds"] = [one["seed"] for one in of_cell]
        for when, number in (("before", 0), ("after", -1)):
            points = [one["points"][number] for one in of_cell]
            row[when] = {key: spread([point[key] for point in points]) for key in ("accuracy", "tokens")} | {
                name: spread([point[name]["accuracy"] for point in points]) for name in BINS
            }
        row["generated"] = median(one["points"][-1]["generated"] for one in of_cell)
        rows.append(row)
    return rows


def rises(results: list[dict], key: str) -> dict:
    """Of each pair of neighbouring rooms: after RL, the difference of `key` in percentage points within each seed."""
    after = {(one["cell"], one["seed"]): one["points"][-1] for one in results}
    found = {}
    for less, more in itertools.pairwise(ROOMS):
        seeds = sorted(seed for cell, seed in after if cell == less and (more, seed) in after)
        scores = [
            [(point if key == "all" else point[key])["accuracy"] for point in (after[less, seed], after[more, seed])]
            for seed in seeds
        ]
        found[f"{less} → {more}"] = [round(100 * (b - a), 1) for a, b in scores]
    return found


def table(rows: list[dict]) -> list[str]:
    """Markdown: percent right, median (range) over the seeds."""

    def percent(found: dict) -> str:
        low, middle, high = (f"{100 * found[key]:.0f}" for key in ("min", "median", "max"))
        return middle if low == high else f"{middle} ({low}–{high})"

    head = ["cell", "parameters", "right before", "right after", *BINS, "tokens before", "after"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        name = row["cell"].replace("_", " ") if not row["cell"].isdigit() else f"room for {row['cell']}"
        cells = [name, f"{row['parameters']:,}", percent(row["before"]["accuracy"]), percent(row["after"]["accuracy"])]
        cells += [percent(row["after"][inside]) for inside in BINS]
        cells += [f"{row[when]['tokens']['median']:.0f}" for when in ("before", "after")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plot(results: list[dict], path: Path) -> None:
    """A line for each cell and seed: accuracy and tokens over the iterations, and accuracy by the steps to do."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2))
    for one in results:
        color = f"C{list(CELLS).index(one['cell'])}"
        first = one["seed"] == min(other["seed"] for other in results if other["cell"] == one["cell"])
        label = one["cell"].replace("_", " ") if first else None
        x = [point["iteration"] for point in one["points"]]
        for axis, key in zip(axes, ("accuracy", "tokens"), strict=False):
            axis.plot(x, [point[key] for point in one["points"]], color=color, label=label, linewidth=1)
        last = [one["points"][-1][name]["accuracy"] for name in BINS]
        axes[2].plot(list(BINS), last, color=color, marker=".", linewidth=1)
    axes[0].set(xlabel="iteration", ylabel="held-out accuracy", ylim=(0, 1))
    axes[1].set(xlabel="iteration", ylabel="held-out response tokens", ylim=(0, None))
    axes[2].set(xlabel="steps of the problem", ylabel="held-out accuracy after RL", ylim=(0, 1))
    axes[0].legend(fontsize="small", title="room, tokens")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"), help="train the cells, or put together what has been run")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="room in tokens, or a size")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="of RL's problems and samples; all have the same start"
    )
    parser.add_argument("--groups", type=int, default=16, help=f"prompts an iteration, with {K} responses each")
    parser.add_argument("--iterations", type=int, default=18)
    parser.add_argument("--runs", type=Path, default=Path("runs/context_length"), help="a JSON a cell and seed")
    parser.add_argument("--out", type=Path, default=RESULTS / "context_length.json", help="of the report")
    args = parser.parse_args()
    if args.what == "run":
        torch.set_num_threads(1)
        for number, (seed, name) in enumerate(cells := list(itertools.product(args.seeds, args.cells)), 1):
            result = done(name, seed, args.runs, args.groups, args.iterations)
            score = result["points"][-1]["accuracy"]
            progress(f"{number}/{len(cells)} {name}, seed {seed}: {score:.1%} right at the end")
        return
    results = [
        json.loads(path.read_text()) for path in sorted(args.runs.glob(f"*-{args.groups}x{args.iterations}.json"))
    ]
    if not results:
        asked = f"{args.groups} × {args.iterations}"
        parser.error(f"argument --runs: nothing of {asked} has been run in {args.runs}; start with `run`")
    conditions = {"groups": args.groups, "responses": K, "iterations": args.iterations, "optimizer_steps": STEPS}
    conditions |= {"tau": TAU, "learning_rate": LEARNING_RATE, "held_out": HELD_OUT, "warm_up": WARM_UP}
    rows = summary(results)
    points_gained = {key: rises(results, key) for key in ("all", *BINS)}
    found = {"machine": machine(), "conditions": conditions, "rows": rows, "points_gained": points_gained}
    write_json(args.out, found | {"runs": results})
    plot(results, args.out.with_suffix(".svg"))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
