"""The command as a whole, in small, with a model that is none."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from kimi_plugins.cli import curate as command
from kimi_plugins.completions.types import Completion
from kimi_plugins.prompts import curate

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>alert(1)</script><svg onload=alert(1)>"


def parse(*words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["curate", *map(str, words)])


def ended(args):
    return args.func(args)


def curated(args, engines=None):
    return curate.curate(command.settings(args), engines)


class Fake:
    """Answers every question of TRUTH; knows that guessing "2 + 2" works."""

    def __init__(self, dies_after=None):
        self.asked, self.dies_after, self.running = Counter(), dies_after, False

    def complete(self, requests, sampling):
        for request in requests:
            if self.dies_after is not None and sum(self.asked.values()) >= self.dies_after:
                raise KeyboardInterrupt
            text = request.prompt[0]["content"]
            guess = "Guess" in text
            kind = "choice" if sampling.choices else "guess" if guess else "solve"
            self.asked[kind] += 1
            if sampling.choices:
                answers = ["number theory"]
            elif guess:
                answers = ["4" if "2 + 2" in text else "no idea"] * sampling.n
            else:
                right = sampling.n if "trivial" in text else sampling.n // 2
                answers = [r"\boxed{4}"] * right + ["I refuse."] * (sampling.n - right)
            yield [Completion(answer, 5, "stop") for answer in answers]


ROWS = [
    {"problem": "What is 2 + 2 apples?", "answer": "4"},
    {"problem": "What is 2 + 2  apples ?", "answer": "4"},
    {"problem": "What is five minus one, when both are pears?", "answer": "4", "level": "Level 3"},
    {"problem": "trivial: four?", "answer": "4"},
    {"problem": "Prove that four is even.", "answer": "4"},
    {"problem": "Is four even?", "answer": "yes"},
    {"problem": "Which is four?\nA) 3\nB) 4\nC) 5", "answer": "B", "options": ["\ud800"]},
    {"problem": "What is asked in the test set of ten words or more than that?", "answer": "4"},
    {"problem": "Sum of what?", "answer": "\\sum_{n=1}^\\infty"},
    {"problem": HOSTILE, "answer": "4"},
    {"problem": "", "answer": "4"},
    {"problem": "x?", "answer": ["4", "5"]},
    {"problem": "y?", "answer": None},
    {"problem": "z?", "answer": "4", "image": "gone.png"},
    "{ broken",
]
STAGES = {
    "normalise": {12, 11, 13, 14, 15},
    "dedup": {2},
    "decontaminate": {8},
    "exclude": {5, 6, 7},
    "gradable": {9},
    "difficulty": {4},
    "guess": {1},
}


@pytest.fixture
def model(tmp_path):
    """Looked at only for what identifies a model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")
    return tmp_path / "model"


@pytest.fixture
def problems(write_rows):
    evals = write_rows("eval.jsonl", [{"question": "Now: what is asked in the test set of ten words or more?"}])
    mapping = ["--map", "question=problem", "difficulty=level"]
    return [write_rows("raw.jsonl", ROWS), *mapping, "--eval", evals, "--workers", "1"]


def rows_of(path):
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def test_every_row_is_kept_or_rejected_with_its_reason(problems, model, tmp_path):
    out = tmp_path / "out"
    report = curated(parse(*problems, "--out", out, "--model", model), Fake())
    prompts, rejects = rows_of(out / "prompts.jsonl"), rows_of(out / "rejects.jsonl")
    assert len(prompts) + len(rejects) == report["read"] == len(ROWS)
    assert sorted(row["row"] for row in prompts + rejects) == list(range(1, len(ROWS) + 1))
    found = {}
    for row in rejects:
        found.setdefault(row["stage"], set()).add(row["row"])
        assert row["reason"] and row["file"].endswith("raw.jsonl")
    assert found == STAGES
    assert [(row["row"], row["pass_rate"], row["difficulty"]) for row in prompts] == [(3, 0.5, 0.5), (10, 0.5, 0.5)]
    assert (prompts[0]["input"], prompts[0]["label"]) == ("What is five minus one, when both are pears?", "4")
    assert [row["given_difficulty"] for row in prompts] == ["3", ""]
    assert json.loads((out / "report.json").read_text()) == report
    assert [one["kept"] for one in report["stages"]] == [10, 9, 8, 5, 4, 3, 2, 2]


def test_the_page_holds_what_was_read_as_text(problems, tmp_path):
    out = tmp_path / "out"
    curated(parse(*problems, "--out", out), None)
    page = (out / "report.html").read_text()
    assert HOSTILE not in page and "http-equiv" in page
    assert "“Prove”" in page and "Prove that four is even." in page
    assert "as in eval.jsonl" in page
    written = page.partition("<script>")[0]  # Plotly's own code names addresses
    assert "http:" not in written and "https:" not in written


@pytest.mark.slow
def test_openrlhf_takes_the_set(problems, tmp_path):
    import datasets
    from openrlhf.datasets import PromptDataset

    out = tmp_path / "out"
    curated(parse(*problems, "--out", out), None)
    data = datasets.load_dataset(
        "json", data_files=str(out / "prompts.jsonl"), split="train", cache_dir=tmp_path / "hf"
    )
    flags = argparse.Namespace(input_key="input", label_key="label", apply_chat_template=False)
    strategy = argparse.Namespace(args=argparse.Namespace(data=flags), is_rank_0=lambda: False)
    taken = PromptDataset(data, None, strategy)
    assert len(taken) == 4
    assert taken[1][:3] == ("raw", "What is five minus one, when both are pears?", "4")


@pytest.mark.slow
def test_a_run_that_was_stopped_asks_the_model_only_for_the_rest(problems, model, tmp_path, capsys):
    args = parse(*problems, "--out", tmp_path / "out", "--model", model)
    first = Fake(dies_after=2)
    with pytest.raises(KeyboardInterrupt):
        curated(args, first)
    assert first.asked == {"solve": 2}
    assert not (tmp_path / "out/prompts.jsonl").exists()
    second = Fake()
    whole = curated(args, second)
    assert second.asked == {"solve": 2, "guess": 3}  # of four and of three
    third = Fake()
    assert curated(args, third)["stages"] == whole["stages"]
    assert not third.asked
    assert "guess: done before, 2 of 3 kept" in capsys.readouterr().err
    fresh = curated(parse(*problems, "--out", tmp_path / "new", "--model", model), Fake())
    assert (tmp_path / "new/prompts.jsonl").read_bytes() == (tmp_path / "out/prompts.jsonl").read_bytes()
    assert fresh["kept"] == whole["kept"]


@pytest.mark.slow
def test_completions_of_other_settings_are_not_taken(problems, model, tmp_path):
    for temperature, asked in ((1.0, 4), (0.7, 4), (1.0, 0)):
        fake = Fake()
        words = ["--out", tmp_path / "out", "--model", model, "--temperature", temperature]
        curated(parse(*problems, *words, "--stages", "exclude,gradable,dedup,difficulty,decontaminate"), fake)
        assert fake.asked["solve"] == asked


@pytest.mark.slow
def test_a_model_written_anew_is_asked_again(problems, model, tmp_path, capsys):
    args = parse(*problems, "--out", tmp_path / "out", "--model", model, "--stages", "exclude,gradable,difficulty")
    for asked in (6, 0):
        fake = Fake()
        curated(args, fake)
        assert fake.asked["solve"] == asked
    (model / "model.safetensors").write_bytes(b"others!")
    fake = Fake()
    curated(args, fake)
    assert fake.asked["solve"] == 6
    assert "difficulty: again, as files of the model was" in capsys.readouterr().err


def test_stages_alone(problems, tmp_path):
    report = curated(parse(*problems, "--out", tmp_path / "out", "--stages", "exclude"), None)
    assert [one["stage"] for one in report["stages"]] == ["normalise", "exclude"]
    report = curated(
        parse(*problems, "--out", tmp_path / "b", "--stages", "tag,balance", "--shares", "other=1", "*=1"), None
    )
    assert [one["stage"] for one in report["stages"]] == ["normalise", "tag", "balance"]
    assert report["kept"] > 0 and report["kept"] + report["rejected"] == len(ROWS)


def test_the_set_can_be_curated_again(problems, tmp_path, capsys):
    assert ended(parse(*problems, "--out", tmp_path / "a")) == 0
    assert "4 prompts of 15 rows" in capsys.readouterr().out
    report = curated(parse(tmp_path / "a/prompts.jsonl", "--out", tmp_path / "b"), None)
    assert report["kept"] == report["read"] == 4


def test_the_model_tags(problems, model, tmp_path):
    words = ["--out", tmp_path / "out", "--model", model, "--tag-by", "model", "--stages", "exclude,gradable,tag"]
    report = curated(parse(*problems, *words), Fake())
    assert report["coverage"] == [
        {"domain": "mathematics", "discipline": "number theory", "prompts": report["kept"], "share": 1.0}
    ]


def test_without_a_good_row(write_rows, tmp_path, capsys):
    path = write_rows("bad.jsonl", ["{", "nonsense"])
    assert ended(parse(path, "--out", tmp_path / "out")) == 2
    assert "bad.jsonl: not one of the first 2 rows can be read; row 1: not valid JSON" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "question=nope"], "no input has the column nope; there are"),
        (["--map", "nope=problem"], "there is no column 'nope'"),
        (["--stages", "sort"], "--stages: there is no 'sort'"),
        (["--stages", "difficulty"], "difficulty needs --model"),
        (["--stages", "balance"], "balance needs --shares"),
        (["--tag-by", "model"], "--tag-by model needs --model"),
        (["--similarity", "0"], "--similarity 0.0: it must be in"),
        (["--containment", "0"], "--containment 0.0: it must be in"),
        (["--workers", "-1"], "--workers -1"),
        (["--answer-pattern", "("], "is not a regular expression"),
        (["--shares", "nothing=1"], "no prompt has the value nothing"),
        (["--model", "MODEL", "--solve-template", "x"], "--solve-template 'x': lacks {question}"),
        (["--model", "MODEL", "--n", "0"], "n is 0: must be ≥ 1"),
        (["--eval", "gone.jsonl"], "gone.jsonl: no such file"),
    ],
)
def test_bad_options_are_named(problems, model, tmp_path, capsys, words, message):
    words = [model if word == "MODEL" else word for word in words]
    assert ended(parse(*problems, "--out", tmp_path / "out", *words)) == 2
    error = capsys.readouterr().err
    assert "openrlhf kimi curate: error: " in error and message in error
    assert not (tmp_path / "out/prompts.jsonl").exists()


def test_inputs_that_cannot_be_read(problems, tmp_path, capsys):
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1 no more")
    for inputs, message in (
        ([tmp_path / "gone.jsonl"], "no such file"),
        ([broken], ""),
        ([problems[0], problems[0]], "named twice"),
    ):
        assert ended(parse(*inputs, "--map", "question=problem", "--out", tmp_path / "out")) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_leaves_no_process(write_rows, tmp_path):
    # Cubes of sums hold the grader for a while.
    rows = [{"question": f"{row}?", "answer": rf"(x+y+{row})^3 - \sqrt{{{row}}}"} for row in range(20_000)]
    command = [sys.executable, "-m", "openrlhf.cli.main", "kimi", "curate", write_rows("many.jsonl", rows)]
    command += ["--out", tmp_path / "out", "--workers", "2", "--stages", "dedup,gradable"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        partial = tmp_path / "out/stages/gradable.jsonl.partial"
        deadline = time.monotonic() + 60
        while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert partial.exists(), process.stderr.read() if process.poll() is not None else "no stage after 60 s"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in error
    assert "Traceback" not in error
    assert not partial.exists() and (tmp_path / "out/stages/dedup.json").exists()
    assert not (tmp_path / "out/stages/dedup.index").exists()
