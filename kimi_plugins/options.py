"""Every `kimi.*` option: its type, its one default and where it comes from.

The report (arXiv 2501.12599) discloses no value of τ, k, learning rate or batch; "ours" marks what was chosen here.
"""

import argparse
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, dataclass, field, fields
from operator import attrgetter
from types import UnionType
from typing import Any, get_args, get_origin


def option(
    default: Any,
    text: str,
    choices: tuple | None = None,
    *,
    valid: Callable[[Any], bool] | None = None,
    rule: str = "",
) -> Any:
    """A field of a section.

    valid: whether a value that is set can be used, or raises a ValueError that says why not. rule: "it must be …".
    """
    return field(default=default, metadata={"help": text, "choices": choices, "valid": valid, "rule": rule})


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _is_pattern(value: str) -> bool:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression ({error}); correct it") from error
    return True


BASELINES = ("mean", "log_z", "leave_one_out", "log_z_leave_one_out", "none")


@dataclass(frozen=True)
class Policy:
    """k1.5 §2.3.2, online policy mirror descent."""

    form: str = option(
        "k1.5",
        "the loss: squared residual A − τ log ratio (k1.5, §2.3.2), or per token −A · ratio where log_ratio_low ≤ log "
        "ratio ≤ log_ratio_high, plus τ (log ratio)² (k2.5: K2.5 report, eq. 1)",
        ("k1.5", "k2.5"),
    )
    tau: float = option(
        0.1,
        "τ, weight of the KL to the policy that sampled, in reward per nat (§2.3.2; value ours)",
        valid=_positive,
        rule="a finite number > 0, e.g. 0.1",
    )
    baseline: str = option(
        "mean",
        "the group's baseline: mean reward r̄, or log_z = τ log mean exp(r/τ) (§2.3.2); either over the others of the "
        "group (leave_one_out, log_z_leave_one_out: arXiv 2602.05933); none: like ReST, to compare",
        BASELINES,
    )
    baseline_scale: float | None = option(
        None,
        "how far the baseline lies on the way from the lowest reward of the group (0) to the one chosen (1, §2.3.2): "
        "below 1, correct responses weigh more than incorrect ones (ours, after arXiv 2506.20520); not set: 0.5 with "
        "the baseline mean that does not rise, else 1",
        valid=lambda value: 0 <= value <= 1,
        rule="in [0, 1], e.g. 0.5",
    )
    baseline_rises: str = option(
        "none",
        "multiply baseline_scale by the success rate of the batch, or of each prompt's group, so that incorrect "
        "responses weigh little while correct ones are rare (ours)",
        ("none", "batch", "group"),
    )
    log_ratio: str = option(
        "sequence", "squared: the log ratio of the whole sequence (§2.3.2), or of each token", ("sequence", "token")
    )
    length_normalization: bool = option(
        False,
        "divide a response's squared residual by 2 τ times its length L: ½ τ (A/τ − log ratio)² / L, as OpenKimi does "
        "(arXiv 2602.05933)",
    )
    log_ratio_low: float = option(
        -2.0, "α of the form k2.5, nats (value ours)", valid=lambda value: value < 0, rule="< 0 nats, e.g. -2"
    )
    log_ratio_high: float = option(
        2.0, "β of the form k2.5, nats (value ours)", valid=lambda value: value > 0, rule="> 0 nats, e.g. 2"
    )
    max_log_ratio: float = option(
        100.0,
        "log ratio, in nats, beyond which the square becomes linear, which bounds the gradient (ours)",
        valid=lambda value: value > 0,
        rule="> 0 nats, e.g. 100",
    )
    importance_cap: float = option(
        0.0,
        "truncated importance weight for partial rollouts (§2.6.2): the loss of a response (or token, by log_ratio) "
        "is multiplied by min(cap, π_i/μ), μ being the policies that wrote it; 0 disables it",
        valid=lambda value: value == 0 or value >= 1,
        rule="0 (off) or at least 1, e.g. 2",
    )
    linked_baseline: bool = option(
        False,
        "whether prompts with equal values in kimi.sampling.linked_key, such as a text and its image, share one "
        "baseline over all their responses (ours, for §2.3.5)",
    )
    optimizer_reset: str = option(
        "none",
        "which optimizer state is cleared at the start of an iteration: moments and step counts (all, §2.3.2), the "
        "momentum alone (first_moment, ours), or none, which learned faster in small (docs/settings.md)",
        ("none", "first_moment", "all"),
    )
    reset_every: int = option(
        1,
        "iterations from one reset to the next; 1 in §2.3.2",
        valid=lambda value: value >= 1,
        rule="a number of iterations ≥ 1; for no reset set kimi.policy.optimizer_reset to none",
    )
    reset_warm_up: int = option(
        0,
        "optimizer steps after a reset, within its iteration, over which the learning rate rises to its "
        "scheduled value (ours)",
        valid=lambda value: value >= 0,
        rule="a number of optimizer steps ≥ 0",
    )
    ptx_dataset: str | None = option(
        None,
        "rows of prompt and response for an auxiliary SFT loss in every optimizer step (PTX, as K2 has one); not set: "
        "none",
    )
    ptx_coef: float = option(
        0.1,
        "weight of that loss, the mean of −log-prob over the response tokens, in nats (value ours)",
        valid=_positive,
        rule="a finite number > 0, e.g. 0.1; for no such loss leave out kimi.policy.ptx_dataset",
    )
    ptx_rows: int = option(
        8,
        "its rows an optimizer step, of all ranks together (value ours)",
        valid=lambda value: value >= 1,
        rule="a number of rows ≥ 1",
    )
    ptx_input_key: str = option("input", "column of its prompts, which are text (ours)")
    ptx_output_key: str = option("output", "column of its responses, which are text (ours)")


@dataclass(frozen=True)
class Length:
    """k1.5 §2.3.3, the length reward, and K2's token budget."""

    weight: float = option(
        0.2,
        "weight of the length reward, which lies in [−0.5, 0.5], added to a reward of 0 or 1 (value ours)",
        valid=lambda value: 0 <= value < 2,
        rule="in [0, 2), e.g. 0.2; 0 is off, from 2 on the longest correct response earns no more than a wrong one",
    )
    warm_up_steps: int = option(
        30,
        "steps at the start without the length reward (§2.3.3 has such a phase; its length is ours)",
        valid=lambda value: value >= 0,
        rule="a number of steps ≥ 0",
    )
    ramp_steps: int = option(
        0,
        "steps over which the weight then rises linearly; 0: full weight at once, as in §2.3.3",
        valid=lambda value: value >= 0,
        rule="a number of steps ≥ 0",
    )
    wrong: str = option(
        "penalise",
        "a wrong response gets min(0, λ) as in §2.3.3, or nothing (spare), so that failing fast does not pay",
        ("penalise", "spare"),
    )
    correct_from: float | None = option(
        None,
        "minimum score of a correct response, for rewards with partial credit; not set: scores are 0 or 1",
        valid=_positive,
        rule="a score above 0, e.g. 0.99",
    )
    budget: int | None = option(
        None,
        "token budget: longer responses lose budget_penalty, from the first step on (K2)",
        valid=lambda value: value >= 1,
        rule="at least 1 token",
    )
    budget_key: str | None = option(
        None,
        "column with each prompt's own token budget; rows without one use budget, if it is set (ours)",
    )
    budget_penalty: float = option(
        0.0,
        "subtracted from the reward of a response over its budget (K2; value ours)",
        valid=lambda value: 0 <= value < math.inf,
        rule="a finite number ≥ 0, e.g. 0.5; 0 is off",
    )


@dataclass(frozen=True)
class Sampling:
    """k1.5 §2.3.4, curriculum and prioritised sampling. The report gives the rules, the numbers are ours."""

    priority: str = option(
        "failure",
        "prompts are drawn in proportion to 1 − s, where s is their success rate (failure, §2.3.4), to 4 s (1 − s), "
        "which also avoids those never solved (gradient), or uniformly",
        ("uniform", "failure", "gradient"),
    )
    min_weight: float = option(
        0.1,
        "minimum weight of a prompt, where the maximum is 1, so that every prompt is still drawn (ours)",
        valid=lambda value: 0 < value <= 1,
        rule="in (0, 1], e.g. 0.1",
    )
    ema_decay: float = option(
        0.5,
        "EMA decay of a prompt's success rate: the share of the old rate that a new group of responses keeps (ours)",
        valid=lambda value: 0 <= value < 1,
        rule="in [0, 1), e.g. 0.5",
    )
    half_life: float = option(
        float("inf"),
        "steps in which the priority of a prompt that is not drawn recovers by half; inf: it does not (ours)",
        valid=lambda value: value > 0,
        rule="> 0 steps; inf is off",
    )
    curriculum: str = option(
        "none",
        "from easy to hard in stages or continuously, or from a step on only hard prompts (hard_after, §3.5)",
        ("none", "stages", "continuous", "hard_after"),
    )
    difficulty_key: str = option(
        "difficulty", "column of the prompts' difficulty: numbers, or labels with one, as Level 5"
    )
    harder: str = option(
        "higher", "which difficulty is harder: higher for grade labels, lower for pass rates", ("higher", "lower")
    )
    curriculum_steps: int = option(
        100,
        "step from which on all prompts can be drawn, for stages and continuous (ours)",
        valid=lambda value: value >= 1,
        rule="≥ 1",
    )
    stages: int = option(
        4,
        "number of stages; continuous starts with the easiest 1/stages (ours)",
        valid=lambda value: value >= 2,
        rule="≥ 2",
    )
    hard_from: int = option(
        24, "first step of only hard prompts, for hard_after (§3.5)", valid=lambda value: value >= 1, rule="a step ≥ 1"
    )
    hard_share: float = option(
        0.5,
        "share of the prompts that are hard, for hard_after (ours)",
        valid=lambda value: 0 < value < 1,
        rule="in (0, 1)",
    )
    linked_key: str | None = option(
        None,
        "column that links prompts: those with equal values are drawn into one batch, such as a text and its "
        "image by pair (ours)",
    )


@dataclass(frozen=True)
class Rollout:
    """k1.5 §2.6.2, partial rollouts, and K2's falling temperature. The reports give the rules, numbers are ours."""

    segment_tokens: int | None = option(
        None,
        "tokens a response may grow by in one iteration; unfinished responses go on in the next. Not set: whole "
        "rollouts",
        valid=lambda value: value >= 1,
        rule="at least 1; leave it out for whole rollouts",
    )
    in_flight: float = option(
        2.0,
        "prompts drawn in the first iteration, in rollout batches; later about one batch per iteration (ours)",
        valid=lambda value: value >= 1,
        rule="at least 1 rollout batch",
    )
    overlap: bool = option(
        False,
        "write an iteration's segments while the update before it is made, by the policy before that update: faster "
        "where engines and training have cores or GPUs of their own, and everything is one policy older (ours)",
    )
    held_limit: float = option(8.0, "prompts held at most, in rollout batches: bounds the buffer (ours)")
    max_age: int = option(
        8,
        "iterations after which an unfinished response is ended as cut by length (ours)",
        valid=lambda value: value >= 1,
        rule="at least 1 iteration",
    )
    ending_iterations: int = option(
        0,
        "iterations at the end of an episode over which the prompts left are drawn evenly, so that the last "
        "iterations are not made of the longest responses alone; 0: off (ours)",
        valid=lambda value: value >= 0,
        rule="a number of iterations, 0 for off",
    )
    train_on: str = option(
        "all",
        "tokens of a response that are trained on: all, whichever policy wrote them, or its newest segment (§2.6.2)",
        ("all", "newest"),
    )
    repetition_tokens: int = option(
        128,
        "repeated tokens at the end of a response after which it is ended as a loop; 0: never (ours)",
        valid=lambda value: value >= 0,
        rule="a number of tokens, 0 for off",
    )
    repetition_count: int = option(
        8, "minimum number of repeats in a row (ours)", valid=lambda value: value >= 2, rule="at least 2"
    )
    repetition_period: int = option(
        64,
        "longest repeated pattern that is recognised, in tokens (ours)",
        valid=lambda value: value >= 1,
        rule="at least 1 token",
    )
    repetition_penalty: float = option(0.0, "subtracted from the reward of a response that was ended as a loop (ours)")
    temperature_end: float | None = option(
        None,
        "sampling temperature to which rollout.temperature falls linearly (K2), in the log-probs that are trained on, "
        "too. Not set: it stays",
        valid=_positive,
        rule="a finite number above 0; leave it out for a temperature that stays",
    )
    temperature_iterations: int | None = option(
        None,
        "iterations over which it falls: the first has rollout.temperature, the last of them and all later ones have "
        "temperature_end (ours)",
        valid=lambda value: value >= 2,
        rule="at least 2 iterations",
    )


@dataclass(frozen=True)
class Rewards:
    """k1.5 §2.3.5, rewards that can be trusted. All numbers are ours."""

    kind: str | None = option(
        None,
        "default grader: math, code, judge, exact, regex, vision, a function module:function, or file (the function "
        "of reward.remote_url); kind_key and sources choose another by row (ours)",
    )
    kind_key: str | None = option(None, "column of the prompts that holds the kind of each row (ours)")
    sources: list[str] | None = option(
        None, "kinds by data source, SOURCE=KIND each: [gsm8k=math, apps=code] in YAML, gsm8k=math apps=code as a flag"
    )
    source_key: str = option("datasource", "column of the prompts that holds the data source of each row (ours)")
    format: str | None = option(
        None,
        "regular expression that the whole response matches, in which . is any character, for format_reward and the "
        "metric kimi/format_share (ours)",
        valid=_is_pattern,
    )
    format_reward: float = option(
        0.0,
        "added to the reward of a response that has the format; scores stay (ours)",
        valid=math.isfinite,
        rule="a finite number, e.g. 0.1",
    )
    failure_limit: float = option(
        0.05,
        "share of grades in a batch that may fail (time-out, memory, crash) before the run is aborted; counted over "
        "at least 100 grades, so that one early failure does not abort it",
        valid=lambda value: 0 <= value <= 1,
        rule="a share, from 0 (no failure) to 1 (any number), e.g. 0.05",
    )


@dataclass(frozen=True)
class CodeGrader:
    """The code grader (§2.3.5, §2.6.4), all ours."""

    workers: int | None = option(
        None, "programs at a time in each engine; not set: one a core", valid=_positive, rule="above 0, and finite"
    )
    python: str | None = option(
        None, "path of the Python that runs programs; not set: KIMI_SANDBOX_PYTHON, else the newest under /usr"
    )


@dataclass(frozen=True)
class TextGrader:
    """The kinds exact and regex: the final answer is the label, or matches it. All ours."""

    answer_pattern: str | None = option(
        None,
        "regular expression of the final answer, its first group or the rest of the line after it; not set: all that "
        "follows the thinking",
        valid=_is_pattern,
    )


@dataclass(frozen=True)
class Functions:
    """A user's reward functions, run in processes that can be killed, as exact, regex and format are. All ours."""

    workers: int = option(
        4,
        "processes of each function in each engine, one call at a time each",
        valid=_positive,
        rule="above 0, and finite",
    )
    timeout: float = option(
        60.0,
        "seconds for one response; then its process is killed and replaced",
        valid=_positive,
        rule="above 0, and finite",
    )
    start_timeout: float = option(600.0, "seconds to import the function", valid=_positive, rule="above 0, and finite")


@dataclass(frozen=True)
class Vision:
    """k1.5 §2.3.5, text and its image should be answered alike."""

    answer_pattern: str | None = option(
        None,
        "regular expression of the final answer, its first group or the rest of the line after it, by which answers "
        "to a text and to its image are compared; default: the last \\boxed{…}",
        valid=_is_pattern,
    )


@dataclass(frozen=True)
class Data:
    """How the rows of data.prompt_dataset and eval.dataset are read."""

    format: str = option(
        "auto",
        "shape of the rows, a name in docs/data.md; auto: data.input_key and data.label_key if a row has them, else "
        "recognised (ours)",
    )


@dataclass(frozen=True)
class MathGrader:
    """The math grader (§2.3.5), all ours; also of `openrlhf kimi grade math`."""

    answer_pattern: str | None = option(
        None,
        "regular expression of the final answer, its first group or the rest of the line after it, e.g. '####'; "
        "default: the last \\boxed{…}",
        valid=_is_pattern,
    )
    timeout: float = option(
        5.0,
        "seconds for one response; then its process is killed and replaced",
        valid=_positive,
        rule="above 0, and finite",
    )
    memory_mib: int = option(
        512, "address space of a grader process, MiB", valid=_positive, rule="above 0, and finite"
    )
    workers: int = option(2, "grader processes", valid=_positive, rule="above 0, and finite")


@dataclass(frozen=True)
class Curation:
    """k1.5 §2.1, the prompt set. No flags of a run: see `openrlhf kimi curate`. Numbers not marked § are ours."""

    similarity: float = option(0.8, "Jaccard similarity of word trigrams from which on a row is a near-duplicate")
    containment: float = option(0.8, "share of an evaluation question's word trigrams that a prompt may not hold")
    samples: int = option(10, "responses a prompt of which the pass rate is measured (§2.1)")
    temperature: float = option(1.0, "sampling temperature of responses and guesses; §2.1: relatively high")
    trivial: float = option(1.0, "pass rate from which on a prompt is trivial and dropped")
    guesses: int = option(8, "guesses without reasoning, N of §2.1; one that is right drops the prompt")
    guess_tokens: int = option(24, "tokens of a guess at most, so that there is no room for reasoning")


@dataclass(frozen=True)
class Thresholds:
    """k1.5 §2.3.5 but where ours: what test cases a code problem must have. No flags of a run: see `openrlhf kimi
    test-cases`."""

    cases: int = option(50, "inputs generated for a problem")
    submissions: int = option(10, "references run for a problem")
    agree: float = option(0.7, "share of the references that must agree on a case's output")
    passing: float = option(0.9, "share of the references that must pass all valid cases")
    valid: int = option(40, "valid cases that a problem must have")
    disputed: float = option(
        0.2,
        "share of the cases on which references run well but disagree, from which on a problem has a special judge "
        "(ours)",
    )

    def __post_init__(self):
        for name in ("cases", "submissions", "valid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("agree", "passing", "disputed"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a share in (0, 1]")
        if self.valid > self.cases:
            raise ValueError(f"valid is {self.valid}: there are only {self.cases} cases; raise cases or lower it")


CLASSIC_NEEDS = "a classic judge's inputs end with its tokenizer's eos_token"


@dataclass(frozen=True)
class Judge:
    """The reward model that judges answers (§2.3.5), numbers ours."""

    url: str = option(
        "http://127.0.0.1:8100/v1",
        "URL of the OpenAI-compatible server, or of serve_rm for a classic judge",
        valid=lambda value: value.startswith(("http://", "https://")),
        rule="an address that begins with http:// or https://",
    )
    model: str = option("judge", "the judge's model name on that server, as openrlhf kimi judge-serve sets it")
    kind: str = option("cot", "cot: reasoning and a JSON verdict; classic: a value head", ("cot", "classic"))
    eos_token: str | None = option(None, "eos token at the end of a classic judge's inputs, as in its training")
    ask: str = option(
        "undecided",
        "when the judge is asked: only where the rules refuse an answer for its form (undecided), or always; the "
        "rules' vetoes hold in both cases",
        ("undecided", "always"),
    )
    request_timeout: float = option(60.0, "seconds for one attempt", valid=_positive, rule="above 0, and finite")
    attempts: int = option(
        4,
        "attempts in total, after time-outs, refused connections, HTTP 408, 429 and 5xx, and answers without a "
        "verdict",
        valid=_positive,
        rule="above 0, and finite",
    )
    concurrency: int = option(64, "requests at a time from one process", valid=_positive, rule="above 0, and finite")
    max_tokens: int = option(512, "tokens of reasoning and verdict", valid=_positive, rule="above 0, and finite")
    cache: str | None = option(None, "SQLite file of verdicts, which processes and runs can share; default: in memory")
    cache_size: int = option(
        200_000, "verdicts kept, the oldest go first", valid=_positive, rule="above 0, and finite"
    )


@dataclass(frozen=True)
class Log:
    """What rollouts.jsonl keeps; no part of the report."""

    groups: int = option(2, "prompts a step whose responses are kept as text in rollouts.jsonl")


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster that a run joins."""

    wait: float = option(
        0.0,
        "seconds to wait for nodes that are missing or in use (ours); --wait alone: for ever. 0: not at all",
        valid=lambda seconds: seconds >= 0,
        rule="0 seconds or more",
    )


SECTIONS = {
    "cluster": Cluster,
    "data": Data,
    "policy": Policy,
    "length": Length,
    "sampling": Sampling,
    "rollout": Rollout,
    "rewards": Rewards,
    "rewards.math": MathGrader,
    "rewards.code": CodeGrader,
    "rewards.judge": Judge,
    "rewards.text": TextGrader,
    "rewards.functions": Functions,
    "vision": Vision,
    "log": Log,
}


def sections(section: str) -> list[str]:
    """A section of SECTIONS and those below it."""
    return [name for name in SECTIONS if name == section or name.startswith(f"{section}.")]


def add_arguments(parser: argparse.ArgumentParser, *sections: str) -> None:
    """Add the flags `--kimi.<section>.<name>` of sections of SECTIONS."""
    for section in sections:
        for entry in fields(SECTIONS[section]):
            parser.add_argument(f"--kimi.{section}.{entry.name}", **_argparse_kwargs(entry))


def invalid(args: argparse.Namespace, section: str) -> Iterator[str]:
    """A line for each option of a section whose value breaks its own rule, whatever the other options are."""
    yield from invalid_values(attrgetter(section)(args.kimi), section)


def invalid_values(chosen: object, section: str) -> Iterator[str]:
    """invalid() of one section's values, as a section or a namespace with the same names."""
    for entry in fields(SECTIONS[section]):
        value, choices, valid = getattr(chosen, entry.name), entry.metadata["choices"], entry.metadata["valid"]
        if value is not None and choices is not None and value not in choices:
            yield f"kimi.{section}.{entry.name} is {value}: choose one of {', '.join(choices)}"
        elif value is not None and valid is not None:
            try:
                if not valid(value):
                    yield f"kimi.{section}.{entry.name} is {value}: it must be {entry.metadata['rule']}"
            except ValueError as error:
                yield f"kimi.{section}.{entry.name}: {error}"


def without_effect(args: argparse.Namespace, section: str, names: Iterable[str], why: str) -> Iterator[str]:
    """A line for each of these options that is not at its default, where others leave them without effect.

    why: what the line goes on with, "without kimi.rollout.segment_tokens; set that".
    """
    chosen = attrgetter(section)(args.kimi)
    for entry in fields(SECTIONS[section]):
        value = getattr(chosen, entry.name)
        if entry.name in names and value != entry.default:
            yield f"kimi.{section}.{entry.name} is {value}: it has no effect {why}, or leave this out"


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the section `cluster`, and --wait [SECONDS] as a short name."""
    add_arguments(parser, "cluster")
    parser.add_argument(
        "--wait",
        dest="kimi.cluster.wait",
        nargs="?",
        type=float,
        const=float("inf"),
        default=Cluster.wait,
        metavar="SECONDS",
        help="wait until the Ray cluster has room for the run, without limit or for at most SECONDS",
    )


def _argparse_kwargs(entry: Field) -> dict:
    kwargs = {"default": entry.default, "help": entry.metadata["help"]}
    if entry.type is bool:
        return kwargs | {"action": argparse.BooleanOptionalAction}
    kind = get_args(entry.type)[0] if isinstance(entry.type, UnionType) else entry.type  # X | None is read as X
    if get_origin(kind) is list:
        return kwargs | {"type": get_args(kind)[0], "nargs": "+"}
    return kwargs | {"type": kind, "choices": entry.metadata["choices"]}


def values(section: type, given: object):
    """A section with the values of the attributes of the same names; `given` is a part of a run's arguments."""
    return section(**{entry.name: getattr(given, entry.name) for entry in fields(section)})


def add_flags(parser: argparse.ArgumentParser, section: type, names: Iterable[str]) -> None:
    """Add options of a section as a command's own flags, `--memory-mib`, with their defaults in the help."""
    known = {entry.name: entry for entry in fields(section)}
    for name in names:
        kwargs = _argparse_kwargs(known[name])
        if kwargs["default"] is not None:
            kwargs["help"] += f"; default: {kwargs['default']}"
        parser.add_argument(f"--{name.replace('_', '-')}", **kwargs)
