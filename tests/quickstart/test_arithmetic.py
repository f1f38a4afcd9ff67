"""The generated additions: right, worked consistently, disjoint between the files, and the same for the same seed."""

import json
import random
import re

import pytest

from kimi_plugins.quickstart import arithmetic

LINE = re.compile(r"(\d)\+(\d)(\+1)?=(\d{1,2}) check: (ok|wrong, redo)")
FILES = ("sft", "train", "held_out")


def check_working(prompt: str, response: str) -> int:
    """Follow a worked response line by line, knowing nothing of the generator; returns the number of slips."""
    a, b = (number[::-1] for number in re.fullmatch(r"(\d+)\+(\d+)=\n", prompt).groups())
    *lines, answer = response.split("\n")
    column = carry = slips = 0
    written = ""
    for line in lines:
        x, y, plus_one, value, verdict = LINE.fullmatch(line).groups()
        assert (x, y) == (a[column], b[column]), line
        assert bool(plus_one) == bool(carry), line
        right = int(value) == int(x) + int(y) + carry
        assert right == (verdict == "ok"), line
        if right:
            column += 1
            carry = int(value) // 10
            written = str(int(value) % 10) + written
        else:
            slips += 1
    assert column == len(a) == len(b)
    assert answer == "\\boxed{%s}<eos>" % (written if carry == 0 else "1" + written)
    return slips


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    arithmetic.write_dataset(directory, seed=1)
    return {name: [json.loads(line) for line in (directory / f"{name}.jsonl").open()] for name in FILES}


def operands(row: dict) -> list[int]:
    return sorted(map(int, row["input"].removesuffix("=\n").split("+")))


def test_labels_are_the_sums(rows):
    for row in rows["train"] + rows["held_out"]:
        assert set(row) == {"input", "label", "difficulty"}
        assert row["label"] == str(sum(operands(row)))


def test_every_demonstration_ends_in_the_right_answer(rows):
    for row in rows["sft"]:
        assert row["output"].endswith(f"\\boxed{{{sum(operands(row))}}}<eos>")


def test_working_is_consistent_and_slips_are_redone(rows):
    worked = [row for row in rows["sft"] if not row["output"].startswith("\\boxed{")]
    slips = [check_working(row["input"], row["output"]) for row in worked]
    lines = sum(row["output"].count("\n") for row in worked)
    assert len(worked) / len(rows["sft"]) == pytest.approx(1 - arithmetic.DIRECT_SHARE, abs=0.02)
    assert sum(slips) / lines == pytest.approx(arithmetic.SLIP_RATE, abs=0.01)


def test_right_lines_are_rewritten_with_the_given_chance():
    rng = random.Random(4)
    needed = written = 0
    for a, b in arithmetic.generate_problems(4000, seed=4):
        *lines, answer = arithmetic.solution(a, b, rng, rewritten=0.5).splitlines()
        assert answer == f"\\boxed{{{a + b}}}<eos>"
        if lines:
            plain = [f"{x}+{y}{'+1' if carry else ''}={x + y + carry}" for x, y, carry in arithmetic.columns(a, b)]
            right = [line.removesuffix(" check: ok") for line in lines if line.endswith("ok")]
            assert set(right) == set(plain)
            needed += len(plain)
            written += len(right)
    assert written / needed == pytest.approx(2.0, abs=0.06)  # 1 + ½ + ¼ + …


@pytest.mark.parametrize(
    "tampered",
    [
        "7+5=13 check: ok\n4+8+1=13 check: ok\n3+2+1=6 check: ok\n\\boxed{632}<eos>",
        "7+5=12 check: wrong, redo\n7+5=12 check: ok\n4+8+1=13 check: ok\n3+2+1=6 check: ok\n\\boxed{632}<eos>",
        "7+5=12 check: ok\n4+8=12 check: ok\n3+2+1=6 check: ok\n\\boxed{632}<eos>",
        "7+5=12 check: ok\n4+8+1=13 check: ok\n3+2+1=6 check: ok\n\\boxed{633}<eos>",
        "7+5=12 check: ok\n4+8+1=13 check: ok\n\\boxed{632}<eos>",
    ],
    ids=["slip passed", "right line rejected", "carry forgotten", "other answer", "column left out"],
)
def test_the_checker_finds_faults(tampered):
    assert (
        check_working("347+285=\n", "7+5=12 check: ok\n4+8+1=13 check: ok\n3+2+1=6 check: ok\n\\boxed{632}<eos>") == 0
    )
    with pytest.raises((AssertionError, AttributeError)):
        check_working("347+285=\n", tampered)


def test_the_files_share_no_problem(rows):
    problems = {name: {tuple(operands(row)) for row in rows[name]} for name in FILES}
    assert not problems["sft"] & problems["train"]
    assert not problems["sft"] & problems["held_out"]
    assert not problems["train"] & problems["held_out"]
    for name in ("train", "held_out"):
        assert len(problems[name]) == len(rows[name])


def test_difficulty_counts_columns_and_carries(rows):
    assert arithmetic.difficulty(11, 22) == 2
    assert arithmetic.difficulty(19, 22) == 3
    assert arithmetic.difficulty(99, 99) == 3  # the last carry is written down at once
    assert arithmetic.difficulty(999, 999) == 5
    assert {row["difficulty"] for row in rows["train"]} == {2, 3, 4, 5}


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for directory, seed in (("a", 5), ("b", 5), ("c", 6)):
        arithmetic.write_dataset(tmp_path / directory, seed, warm_up=20, demonstrations=2, train=10, held_out=10)
    contents = {d: [(tmp_path / d / f"{name}.jsonl").read_bytes() for name in FILES] for d in "abc"}
    assert contents["a"] == contents["b"]
    assert all(one != other for one, other in zip(contents["a"], contents["c"], strict=True))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["held_out.jsonl", "sft.jsonl", "train.jsonl"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    arithmetic.write_dataset(tmp_path, 5, warm_up=4, demonstrations=1, train=2, held_out=2)
    before = (tmp_path / "sft.jsonl").read_bytes()

    def interrupted(row):
        raise KeyboardInterrupt

    monkeypatch.setattr(arithmetic.json, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        arithmetic.write_dataset(tmp_path, 6, warm_up=4, demonstrations=1, train=2, held_out=2)
    assert (tmp_path / "sft.jsonl").read_bytes() == before


def test_columns_match_long_hand_addition():
    rng = random.Random(0)
    for a, b in arithmetic.generate_problems(300, seed=rng.randrange(1000)):
        worked = arithmetic.columns(a, b)
        total = sum((x + y + carry) % 10 * 10**i for i, (x, y, carry) in enumerate(worked))
        x, y, carry = worked[-1]
        assert total + (x + y + carry) // 10 * 10 ** len(worked) == a + b
