"""Make the inputs of the example: model/ (SmolLM2-135M-Instruct, Hugging Face format) and train.jsonl.

python examples/mixed_rewards/prepare.py --out runs/mixed_rewards
"""

import argparse
import json
import random
from collections.abc import Iterator
from importlib import util
from pathlib import Path

ONES = "zero one two three four five six seven eight nine".split()
# name, what it is to do, how it is done, arguments of its cases
PROGRAMS = (
    ("double", "returns twice its argument n", lambda n: 2 * n, [(3,), (0,), (-4,), (21,)]),
    ("add", "returns the sum of a and b", lambda a, b: a + b, [(1, 2), (0, 0), (-3, 5), (10, 32)]),
    ("larger", "returns the larger one of a and b", max, [(1, 2), (2, 1), (-3, -5), (7, 7)]),
    ("square", "returns the square of its argument n", lambda n: n * n, [(3,), (0,), (-4,), (12,)]),
    ("is_even", "returns True if its argument n is even, else False", lambda n: n % 2 == 0, [(2,), (3,), (0,), (-7,)]),
    ("first", "returns the first element of the list items", lambda items: items[0], [([1, 2],), ([7],), ([0, 1],)]),
    ("last", "returns the last element of the list items", lambda items: items[-1], [([1, 2],), ([7],), ([0, 1],)]),
    ("total", "returns the sum of the list items", sum, [([1, 2],), ([],), ([5, -5, 3],)]),
)


def row(question: str, label: str, source: str) -> dict:
    return {"input": [{"role": "user", "content": question}], "label": label, "datasource": source}


def sums(rng: random.Random) -> Iterator[dict]:
    while True:
        a, b = rng.randint(2, 20), rng.randint(2, 20)
        yield row(rf"What is {a} + {b}? Put the final answer in \boxed{{}}.", str(a + b), "sums")


def programs(rng: random.Random) -> Iterator[dict]:
    while True:
        name, task, function, arguments = rng.choice(PROGRAMS)
        cases = [{"args": list(given), "output": function(*given)} for given in arguments]
        question = f"Write a Python function named {name} that {task}. Answer with the code in a ```python block."
        yield row(question, json.dumps({"function": name, "cases": cases}), "programs")


def words(rng: random.Random) -> Iterator[dict]:
    while True:
        a, b = rng.randint(1, 4), rng.randint(1, 5)
        question = rf"What is {ONES[a]} plus {ONES[b]}? Put the answer, as a word, in \boxed{{}}."
        yield row(question, str(a + b), "words")


def rows(count: int, seed: int) -> list[dict]:
    """The same number of rows of each source, in turn."""
    rng = random.Random(seed)
    sources = [sums(rng), programs(rng), words(rng)]
    return [next(sources[number % len(sources)]) for number in range(count)]


def convert_model(directory: Path) -> None:
    """The model of the other example with SmolLM2."""
    path = Path(__file__).parents[1] / "smollm2_word_problems" / "prepare.py"
    spec = util.spec_from_file_location("smollm2_prepare", path)
    prepare = util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    prepare.convert_model(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/mixed_rewards"), help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=120, help="default: %(default)s")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(args.rows, seed=0))
    convert_model(args.out / "model")
    print(f"{args.rows} rows and a model in {args.out}")


if __name__ == "__main__":
    main()
