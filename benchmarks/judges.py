"""The classic and the CoT judge, trained on the same cases from the same base, on labelled pairs they have not seen.

python benchmarks/judges.py --gsm8k DIR [--base MODEL --lr 1e-4] [--cases 3000] [--epochs 4] [--out FILE]

DIR has GSM8K's test.jsonl and model_solutions.jsonl (its model solutions that people checked); questions are split
between training and test. The second set is made here: pairs that are the same in another form, or nearly. Without
--base a decoder of 1.3 M parameters is made, which has read nothing before. Trains by `openrlhf sft` and `rm`.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import yaml
from common import RESULTS, machine, openrlhf, progress, write_json

from kimi_plugins.grading.judge.prompt import Case, NoVerdict, prompt, read_reply
from kimi_plugins.grading.workers import Pool
from kimi_plugins.prompts.sampled import wilson

TEST_QUESTIONS = 5  # one in so many is for the test
MAX_LEN = 512
SETTINGS = {
    "train": {"batch_size": 8, "micro_batch_size": 8},
    "ds": {"zero_stage": 0, "attn_implementation": "sdpa", "param_dtype": "fp32"},
    "data": {"max_len": MAX_LEN},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gsm8k", type=Path, required=True)
    parser.add_argument("--base", default=None, help="directory of a model with a chat template")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--cases", type=int, default=3000, help="of GSM8K and of the made pairs, each half")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--tests", type=int, default=300, help="of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=None, help="directory to keep")
    parser.add_argument("--out", type=Path, default=RESULTS / "judges.json")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="judges-"))
    work.mkdir(parents=True, exist_ok=True)

    train, tests = data(args)
    rows = work / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in train))
    command = [sys.executable, "-m", "openrlhf.cli.main", "kimi", "judge-data", rows, "--out", work / "data"]
    progress(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.split("\n")[0])
    base = args.base or make_base(work, args.seed)

    seconds = {}
    for kind, trainer in (("cot", "sft"), ("classic", "rm")):
        began = time.monotonic()
        settings = yaml.safe_load(yaml.safe_dump(SETTINGS))
        settings["train"] |= {"max_epochs": args.epochs, "seed": args.seed}
        settings["adam"] = {"lr": args.lr}
        if kind == "cot":  # as judge-serve asks it: through the chat template
            settings["data"] |= {"input_key": "input", "output_key": "output", "apply_chat_template": True}
        else:
            settings["model"] = {"loss_type": "pointwise"}
            settings["train"] |= {"batch_size": 4, "micro_batch_size": 4}  # pairs: as many cases a step
        config = work / f"{kind}.yaml"
        config.write_text(yaml.safe_dump(settings))
        flags = {
            "model.model_name_or_path": base,
            "data.dataset": work / "data" / f"{kind}.jsonl",
            "ckpt.output_dir": work / kind,
            "ckpt.path": work / f"{kind}_checkpoints",
        }
        openrlhf(trainer, config, flags, work / f"{kind}.log")
        seconds[kind] = round(time.monotonic() - began, 1)
        progress(f"{kind}: trained in {seconds[kind]} s")

    result = {
        "machine": machine(),
        "base": Path(args.base).name if args.base else "a decoder of 1.3 M parameters, random",
        "training_cases": sum(1 for _ in (work / "data" / "cot.jsonl").open()),
        "epochs": args.epochs,
        "lr": args.lr,
        "seed": args.seed,
        "training_seconds": seconds,
        "accuracy": {},
    }
    judges = {"rules alone": rules, "classic": classic(work / "classic"), "cot": cot(work / "cot")}
    for name, pairs in tests.items():
        result["accuracy"][name] = {}
        for judge, ask in judges.items():
            began = time.monotonic()
            figures = accuracy(pairs, ask([case for case, _ in pairs]))
            result["accuracy"][name][judge] = figures | {"seconds": round(time.monotonic() - began, 1)}
            progress(f"{name}, {judge}: {figures}")
    write_json(args.out, result)
    return 0


# Labelled pairs.


def data(args) -> tuple[list[dict], dict[str, list[tuple[Case, bool]]]]:
    rng = random.Random(args.seed)
    questions = [json.loads(line)["question"] for line in (args.gsm8k / "test.jsonl").open(encoding="utf-8")]
    solutions = [json.loads(line) for line in (args.gsm8k / "model_solutions.jsonl").open(encoding="utf-8")]
    gsm8k = {"train": [], "test": []}
    for row in solutions:
        part = "test" if row["id"] % TEST_QUESTIONS == 0 else "train"
        if row["pred"].strip():
            gsm8k[part].append((Case(questions[row["id"]], row["gold"], row["pred"]), row["label"]))
    made = pairs_of_other_form(args.cases // 2 + args.tests, args.seed)
    test_made, train_made = made[: args.tests], made[args.tests :]
    seen = {case[1:] for case, _ in train_made}
    test_made = [pair for pair in test_made if pair[0][1:] not in seen]
    rng.shuffle(gsm8k["train"])
    train = [
        {"question": case.question, "reference": case.reference, "response": boxed(case.answer), "correct": label}
        for case, label in [*gsm8k["train"][: args.cases // 2], *train_made]
    ]
    right, wrong = ([p for p in gsm8k["test"] if p[1] is label] for label in (True, False))
    half = args.tests // 2
    tests = {"GSM8K": rng.sample(right, half) + rng.sample(wrong, half), "other form": test_made}
    return train, tests


def boxed(answer: str) -> str:
    return rf"\boxed{{{answer}}}"


def pairs_of_other_form(count: int, seed: int) -> list[tuple[Case, bool]]:
    """As many right as wrong: each right answer in another form comes with a wrong one that looks like it."""
    rng, pairs = random.Random(seed + 1), []
    while len(pairs) < count:
        family = rng.choice(FAMILIES)
        question, reference, right, wrong = family(rng)
        if rng.random() < 0.5 and family not in (words, words_of_units):
            # Which of the two forms is the reference is open; the wrong answer then has the reference's form.
            pairs.append((Case(question, right, reference), True))
            pairs.append((Case(question, right, wrong), False))
        else:
            pairs.append((Case(question, reference, right), True))
            pairs.append((Case(question, reference, wrong), False))
    return pairs[:count]


def squares(rng):
    n, x = rng.randint(2, 15), rng.choice("abxyt")
    wrong = rng.choice([f"({x}-{n})^2", f"({x}+{n})({x}-{n + 1})", f"({x}+{n})({x}+{n})"])
    return "Factor or expand.", f"{x}^2-{n * n}", f"({x}+{n})({x}-{n})", wrong


def quadratics(rng):
    p, q, x = rng.randint(1, 9), rng.randint(1, 9), rng.choice("nxyz")
    wrong = f"{x}^2+{p + q + rng.choice((-1, 1))}{x}+{p * q}"
    return "Expand.", f"({x}+{p})({x}+{q})", f"{x}^2+{p + q}{x}+{p * q}", wrong


def products(rng):
    a, b, x = rng.randint(2, 9), rng.randint(2, 9), rng.choice("mnxy")
    return "Simplify.", f"{a}({x}+{b})", f"{a}{x}+{a * b}", f"{a}{x}+{rng.choice((a * b + 1, a * b - 2))}"


def decimals(rng):
    value = Fraction(rng.randint(1, 39), rng.choice((2, 4, 5, 8)))
    other = value + Fraction(rng.choice((-1, 1)), 10)
    return "What is the ratio?", _fraction(value), str(float(value)), str(round(float(other), 4))


def percents(rng):
    n = rng.randint(1, 89)
    right, wrong = (_fraction(Fraction(m, 100)) for m in (n, n + rng.choice((-1, 1, 10))))
    return "Which share?", rf"{n}\%", right, wrong


def roots(rng):
    a, b = rng.randint(2, 9), rng.choice((2, 3, 5, 7))
    return "Simplify the root.", rf"\sqrt{{{a * a * b}}}", rf"{a}\sqrt{{{b}}}", rf"{a + 1}\sqrt{{{b}}}"


def powers(rng):
    a, b = rng.randint(2, 9), rng.randint(2, 5)
    return "Work out the power.", f"{a}^{{{b}}}", str(a**b), str(rng.choice((a * b + 1, a**b + 1, a ** (b - 1))))


def lists(rng):
    items = rng.sample(range(-9, 30), 3)
    other = [*items[:2], items[2] + 1]
    rng.shuffle(other)
    right = items[::-1]
    return (
        "Find all solutions.",
        ", ".join(map(str, items)),
        r"\{" + ", ".join(map(str, right)) + r"\}",
        ", ".join(map(str, other)),
    )


def words(rng):
    n = rng.randint(11, 99)
    return "How many are there?", str(n), _in_words(n), _in_words(n + rng.choice((-1, 1, 10)) if n < 90 else n - 1)


def words_of_units(rng):
    hours, minutes = rng.randint(1, 5), rng.choice((10, 15, 20, 30, 45))
    total = 60 * hours + minutes
    right = rf"{hours}\text{{ hours }}{minutes}\text{{ minutes}}"
    return "How many minutes does it take?", str(total), right, right.replace(str(minutes), str(minutes + 5))


FAMILIES = (squares, quadratics, products, decimals, percents, roots, powers, lists, words, words_of_units)


def _fraction(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def _in_words(n: int) -> str:
    if n < 20:
        return _ONES[n]
    return _TENS[n // 10 - 2] + (f"-{_ONES[n % 10]}" if n % 10 else "")


# Judges: cases → verdicts, None for none.


def rules(cases: list[Case]) -> list[bool | None]:
    with Pool(2, timeout=10, memory_mib=512) as pool:
        return [verdict.correct for verdict in pool.grade_all((boxed(c.answer), c.reference) for c in cases)]


def classic(path: Path):
    def ask(cases: list[Case]) -> list[bool | None]:
        import torch
        from openrlhf.models import get_llm_for_sequence_regression
        from transformers import AutoTokenizer

        model = get_llm_for_sequence_regression(str(path), "reward", attn_implementation="sdpa", param_dtype="fp32")
        model.eval()
        tokenizer, verdicts = AutoTokenizer.from_pretrained(path, padding_side="left"), []
        for batch in _batches(cases, 32):
            texts = [f"{prompt(case)} {tokenizer.eos_token}" for case in batch]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.no_grad():
                verdicts += (model(inputs["input_ids"], inputs["attention_mask"]) > 0).tolist()
        return verdicts

    return ask


def cot(path: Path):
    def ask(cases: list[Case]) -> list[bool | None]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        tokenizer, verdicts = AutoTokenizer.from_pretrained(path, padding_side="left"), []
        for batch in _batches(cases, 32):
            chats = [[{"role": "user", "content": prompt(case)}] for case in batch]
            texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            inputs.pop("token_type_ids", None)
            with torch.no_grad():
                tokens = model.generate(**inputs, max_new_tokens=160, do_sample=False)
            for text in tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True):
                try:
                    verdicts.append(read_reply(text)[0])
                except NoVerdict:
                    verdicts.append(None)
        return verdicts

    return ask


def _batches(cases: list[Case], size: int):
    return (cases[start : start + size] for start in range(0, len(cases), size))


def accuracy(pairs: list[tuple[Case, bool]], verdicts: list[bool | None]) -> dict:
    """Shares with Wilson's 95 % interval; no verdict is not right."""
    hits = [verdict is label for (_, label), verdict in zip(pairs, verdicts, strict=True)]
    low, high = wilson(sum(hits), len(hits))
    return {
        "pairs": len(pairs),
        "accuracy": round(sum(hits) / len(hits), 4),
        "interval": [round(low, 4), round(high, 4)],
        "said_right": sum(verdict is True for verdict in verdicts),
        "no_verdict": sum(verdict is None for verdict in verdicts),
    }


def make_base(work: Path, seed: int) -> str:
    """A random decoder with a tokenizer made of the training data: pieces of words, single digits."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from kimi_plugins.quickstart.model import build_model

    texts = [row[key] for row in map(json.loads, (work / "data" / "cot.jsonl").open()) for key in ("input", "output")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=2048, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<eos>", eos_token="<eos>")
    fast.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    build_model(work / "base", seed, context=1024, tokenizer=fast)
    lengths = [len(ids) for ids in fast(texts[::2])["input_ids"]]
    progress(f"base: prompts up to {max(lengths)} tokens")
    return str(work / "base")


if __name__ == "__main__":
    sys.exit(main())
