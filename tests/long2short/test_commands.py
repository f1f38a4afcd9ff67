"""shortest, pairs and frontier on a made engine, with the real grader and OpenRLHF's own data sets."""

import argparse
import contextlib
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import load_dataset
from openrlhf.datasets import RewardDataset, SFTDataset

from kimi_plugins.cli import add_commands
from kimi_plugins.completions import samples
from kimi_plugins.completions.grading import Graded
from kimi_plugins.completions.types import Completion
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.long2short import frontier
from kimi_plugins.quickstart.model import EOS, build_model, build_tokenizer

pytestmark = pytest.mark.slow  # every command starts graders, which import sympy

LINE = "1+1=2 check: ok\n"


class Engine:
    """Says what the test lets it; counts what it is asked."""

    def __init__(self, says):
        self.says, self.asked, self.loaded, self.started = says, [], [], 0

    @contextlib.contextmanager
    def start(self, options, *, images):
        self.started += 1
        self.model = options.model
        yield self

    def load(self, model):
        self.loaded.append(model)
        self.model = model

    def complete(self, requests, sampling):
        for request in requests:
            self.asked.append(request)
            yield self.says(request, sampling)


def completion(text, finish="stop"):
    return Completion(text, len(build_tokenizer()(text)["input_ids"]) + (finish == "stop"), finish)


def said(request, sampling):
    """Row 1: of several lengths; row 2: all wrong; row 3: right ones of one length; row 4: no room."""
    right = completion("\\boxed{2}")
    return {
        "1": [
            completion(3 * LINE + "\\boxed{2}"),
            completion(LINE + "\\boxed{2}"),
            completion(4 * LINE + "\\boxed{3}"),
        ]
        + [completion(9 * LINE, "length")],
        "2": [completion("\\boxed{1}")] * 4,
        "3": [right] * 4,
        "4": [],
    }[request.key]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "model"
    build_model(directory, seed=0)
    return directory


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"input": "1+1=\n", "label": 2, "times": 3 if n == 1 else 1} for n in range(1, 5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(monkeypatch, capsys, model, data, tmp_path):
    engine = Engine(said)
    monkeypatch.setattr(samples, "start_engines", engine.start)
    parser = argparse.ArgumentParser()
    add_commands(parser)

    def run(command, *words):
        if command != "frontier":
            words = (data, "--model", model, "--out", tmp_path / f"{command}.jsonl", *words)
        args = parser.parse_args([command, *map(str, words)])
        code = args.func(args)
        return code, capsys.readouterr()

    run.engine = engine
    return run


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_shortest_and_pairs_share_their_responses(run, tmp_path):
    code, printed = run("shortest", "--n", 4)
    assert code == 0, printed.err
    assert rows(tmp_path / "shortest.jsonl") == [
        {"input": "1+1=\n", "output": LINE + "\\boxed{2}" + EOS, "label": "2", "tokens": 10},
        {"input": "1+1=\n", "output": "\\boxed{2}" + EOS, "label": "2", "tokens": 4},
    ]
    for line in (
        "4 prompts, 12 responses: 6 right, 0 grades failed",
        "2 rows from 2 prompts",
        "tokens of their right responses 10.0, of the shortest 7.0",
        "1 prompts have right responses of one length only",
        "1 prompts gave nothing: no response is right",
        "1 prompts gave nothing: the prompt fills the model's context",
    ):
        assert line in printed.out
    assert len(run.engine.asked) == 4

    code, printed = run("pairs", "--n", 4)
    assert code == 0 and run.engine.started == 1  # nothing was sampled again
    found = rows(tmp_path / "pairs.jsonl")
    assert [(row["chosen_tokens"], row["rejected_tokens"]) for row in found] == [(10, 22), (10, 28), (10, 54)]
    assert {row["chosen"] for row in found} == {LINE + "\\boxed{2}" + EOS}
    assert found[2]["rejected"] == 9 * LINE + EOS
    assert "1 prompts gave nothing: nothing to prefer it to" in printed.out
    # Other settings are refused, and what is there is kept.
    code, printed = run("pairs", "--n", 5)
    assert code == 2 and "n 4 (now 5)" in printed.err
    assert rows(tmp_path / "pairs.jsonl") == found


def test_weights_and_minimum_length(run, tmp_path):
    assert run("shortest", "--weight-key", "times", "--min-tokens", 5)[0] == 0
    assert [row["tokens"] for row in rows(tmp_path / "shortest.jsonl")] == [10, 10, 10]
    code, printed = run("shortest", "--weight-key", "label")
    assert code == 0 and len(rows(tmp_path / "shortest.jsonl")) == 4
    code, printed = run("shortest", "--weight-key", "input")
    assert code == 2 and 'row 1: input is "1+1=\\n"; --weight-key needs whole numbers' in printed.err


def test_without_any_right_response_nothing_is_written(run, tmp_path):
    run.engine.says = lambda request, sampling: [completion("\\boxed{9}")] * 2
    code, printed = run("shortest")
    assert (
        code == 2
        and "nothing to write" in printed.err
        and "4 prompts gave nothing: no response is right" in printed.err
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["completions.jsonl", "data.jsonl"]


def test_what_was_interrupted_goes_on(run, tmp_path):
    class Killed(BaseException):
        pass

    def dies_at_three(request, sampling):
        if request.key == "3":
            raise Killed
        return said(request, sampling)

    run.engine.says = dies_at_three
    with pytest.raises(Killed):
        run("shortest", "--n", 4)
    assert not (tmp_path / "shortest.jsonl").exists() and not (tmp_path / "shortest.jsonl.partial").exists()
    run.engine.says, run.engine.asked = said, []
    assert run("shortest", "--n", 4)[0] == 0
    assert [request.key for request in run.engine.asked] == ["3", "4"]
    assert len(rows(tmp_path / "shortest.jsonl")) == 2


def test_what_changed_in_place_is_sampled_anew_or_refused(run, model, data, tmp_path):
    assert run("shortest", "--n", 4)[0] == 0
    run.engine.asked.clear()
    kept = data.read_text()
    data.write_text(kept.replace("1+1=", "2+0=", 1))  # as many rows and bytes as before
    code, printed = run("pairs", "--n", 4)
    assert code == 0 and [request.prompt for request in run.engine.asked] == ["2+0=\n"]
    assert "1 were sampled anew (rows 1)" in printed.err
    data.write_text(kept)
    weights = model / "model.safetensors"
    before = weights.stat()
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    code, printed = run("pairs", "--n", 4)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert code == 2 and "files of the model model.safetensors [" in printed.err


def test_bad_rows_are_told_before_an_engine_starts(run, data):
    data.write_text(data.read_text() + '{"input": "1+1="}\n')
    code, printed = run("pairs")
    assert (
        code == 2 and "row 5: " in printed.err and "lacks the column label" in printed.err and run.engine.started == 0
    )
    assert run("pairs", "--ratio", "1")[0] == 2


def strategy(**keys):
    """What OpenRLHF's data sets read of theirs."""
    return SimpleNamespace(args=SimpleNamespace(data=SimpleNamespace(tokenizer_chat_template=None, **keys)))


def texts(tokenizer, items):
    return [tokenizer.decode(ids[0]) for ids in items]


@pytest.mark.parametrize("chat", [False, True])
def test_openrlhf_trains_on_the_rows_as_they_are(run, tmp_path, chat):
    flags = ["--n", 4, *(["--apply-chat-template"] if chat else [])]
    assert run("shortest", *flags)[0] == 0 and run("pairs", *flags)[0] == 0
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
    )
    keys = {"input_key": "input", "output_key": "output", "apply_chat_template": chat}
    sft = load_dataset(
        "json", data_files=str(tmp_path / "shortest.jsonl"), split="train", cache_dir=tmp_path / "cache"
    )
    taken = SFTDataset(sft, tokenizer, 256, strategy(**keys), input_template="{}", num_processors=1)
    assert len(taken) == 2
    assert texts(tokenizer, (taken[i][0] for i in range(2))) == [
        "1+1=\n" + LINE + "\\boxed{2}" + EOS,
        "1+1=\n\\boxed{2}" + EOS,
    ]
    # The tokens that are learnt are those that were sampled.
    assert [int(taken[i][2].sum()) for i in range(2)] == [10, 4]

    keys = {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected", "apply_chat_template": chat}
    dpo = load_dataset("json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=tmp_path / "cache")
    taken = RewardDataset(dpo, tokenizer, 256, strategy(**keys), is_dpo=True, num_processors=1)
    assert len(taken) == 3
    chosen, _, rejected, _, prompt_tokens = taken[0]
    assert texts(tokenizer, [chosen, rejected]) == [
        "1+1=\n" + LINE + "\\boxed{2}" + EOS,
        "1+1=\n" + 3 * LINE + "\\boxed{2}" + EOS,
    ]
    assert prompt_tokens == 5


TEMPLATES = {  # of the assistant's message
    "keeps": "{{ m.content }}",
    "drops": "{{ m.content.split('</think>')[-1] }}",
    "strips": "{{ m.content.split('</think>')[-1] | trim }}",
    "opens": "{{ m.content.split('</think>')[-1] }}",  # and the prompt ends in <think>
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_thinking_survives_any_chat_template(run, model, data, tmp_path, kind):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        + TEMPLATES[kind]
        + "<eos>{% else %}{{ m.content }}{% endif %}{% endfor %}"
        + ("{% if add_generation_prompt %}={% endif %}" if kind == "opens" else "")
    )
    copied = shutil.copytree(model, tmp_path / "chat model")
    tokenizer.save_pretrained(copied)

    def read(text):  # < and > are unknown to the tokenizer
        return tokenizer.decode(tokenizer(text)["input_ids"])

    thinking = "<think>\n1+1\n</think>\n\\boxed{2}"
    run.engine.says = lambda request, sampling: [
        completion(thinking),
        completion(thinking.replace("1+1", 9 * LINE)),
    ]
    words = ("--model", copied, "--n", 2, "--apply-chat-template")
    for command in ("shortest", "pairs"):
        code, printed = run(command, *words)
        assert code == 0, printed.err
        assert ("drops thinking" in printed.out) == (kind != "keeps")
        assert ("--data.apply_chat_template" in printed.out.partition("Train on them")[2]) == (kind == "keeps")
        flags = {"apply_chat_template": kind == "keeps"}
        loaded = load_dataset(
            "json", data_files=str(tmp_path / f"{command}.jsonl"), split="train", cache_dir=tmp_path / "cache"
        )
        longest = int(printed.out.partition("--data.max_len ")[2].split()[0])
        if command == "shortest":
            keys = flags | {"input_key": "input", "output_key": "output"}
            taken = SFTDataset(loaded, tokenizer, longest, strategy(**keys), input_template="{}", num_processors=1)
            found = texts(tokenizer, [taken[0][0]])
        else:
            keys = flags | {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"}
            taken = RewardDataset(loaded, tokenizer, longest, strategy(**keys), is_dpo=True, num_processors=1)
            found = texts(tokenizer, [taken[0][0], taken[0][2]])
            assert found[1].endswith(read(thinking.replace("1+1", 9 * LINE) + EOS))
        assert found[0].endswith(read(thinking + EOS))


def test_the_ratio_is_exact(run, tmp_path):
    run.engine.says = lambda request, sampling: [
        Completion("\\boxed{2}", 10, "stop"),
        Completion("so \\boxed{2}", 11, "stop"),
    ]
    code, printed = run("pairs", "--n", 2, "--ratio", "1.1")
    assert code == 0, printed.err
    assert {(row["chosen_tokens"], row["rejected_tokens"]) for row in rows(tmp_path / "pairs.jsonl")} == {(10, 11)}
    with pytest.raises(SystemExit):
        run("pairs", "--ratio", "much")


def made(right, tokens):
    """One response a prompt."""
    return [
        [Graded(Completion("x", length, "stop"), Verdict(Kind.of(bool(one)), "made"))]
        for one, length in zip(right, tokens, strict=True)
    ]


def test_intervals_hold_what_the_formula_says_and_differences_are_paired():
    rng = np.random.default_rng(0)
    right, tokens = rng.random(400) < 0.7, rng.integers(10, 50, 400)
    long = frontier.scores("long", "m", made(right, tokens))
    half = frontier.scores("half", "m", made(right, tokens / 2))
    first, second = frontier.summarize([long, half], seed=0)
    assert first["pass_at_1"] == np.mean(right) and first["tokens"] == np.mean(tokens)
    for key, values in (("pass_at_1", right), ("tokens", tokens)):
        error = 1.96 * np.std(values) / 20
        expected = [np.mean(values) - error, np.mean(values) + error]
        np.testing.assert_allclose(first[f"{key}_interval"], expected, atol=0.15 * error)
    # The same right answers with half of the tokens: no doubt about either difference.
    assert second["points_over_first"] == 0 and second["points_over_first_interval"] == [0, 0]
    np.testing.assert_allclose([second["tokens_over_first"], *second["tokens_over_first_interval"]], 0.5)
    assert (first["pareto_front"], second["pareto_front"]) == (False, True)
    assert frontier.summarize([long, half], seed=0)[0] == first


def test_prompts_without_a_grade_are_left_out_for_all_models_and_counted():
    answers = [*made([1, 0], [4, 6]), [], [Graded(Completion("x", 9, "length"), Verdict(Kind.FAILED, "died"))]]
    whole = made([1, 1, 1, 1], [1, 3, 50, 50])
    row, other = frontier.summarize([frontier.scores("m", "m", answers), frontier.scores("n", "n", whole)], seed=0)
    assert (other["pass_at_1"], other["tokens"], other["prompts_left_out"]) == (1, 2, 2)
    assert row["pass_at_1"] == 0.5 and row["grades_failed"] == 1 and row["prompts_left_out"] == 2
    assert row["cut_share"] == pytest.approx(1 / 3) and row["tokens"] == 5
    with pytest.raises(ValueError, match="no prompt has a graded response of every model"):
        frontier.summarize([frontier.scores("m", "m", [[]])], seed=0)


def test_the_frontier_of_two_models(run, data, model, tmp_path):
    pytest.importorskip("matplotlib")
    run.engine.says = lambda request, sampling: (
        [
            completion(
                (5 * LINE if "/long" in str(run.engine.model) else "") + f"\\boxed{{{2 - (int(request.key) == 1)}}}"
            )
        ]
        * sampling.n
    )
    words = ("--data", data, "--out", tmp_path / "out", "--n", 2)
    build_model(tmp_path / "long", seed=1, tie=False)
    models = f"long={tmp_path / 'long'}", f"short={model}"
    code, printed = run("frontier", *models, *words)
    assert code == 0, printed.err
    result = json.loads((tmp_path / "out/frontier.json").read_text())
    assert [row["name"] for row in result["models"]] == ["long", "short"] and result["prompts"] == 4
    assert [row["pass_at_1"] for row in result["models"]] == [0.75, 0.75]
    assert [row["tokens"] for row in result["models"]] == [34, 4]
    assert "+0.0 points, 12% of the tokens" in printed.out
    assert (tmp_path / "out/frontier.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "out/frontier.html").read_text()
    assert "Pareto front" in page and "<script src" not in page
    started = run.engine.started
    assert started == 2 and run("frontier", *models, *words)[0] == 0
    assert run.engine.started == started


def test_models_share_engines_if_only_their_weights_differ(run, data, model, tmp_path):
    pytest.importorskip("matplotlib")
    for name, tie in (("b", True), ("untied", False), ("c", False)):
        build_model(tmp_path / name, seed=1, tie=tie)
    served = []
    run.engine.says = lambda request, sampling: served.append(run.engine.model) or [completion("\\boxed{2}")]
    models = [str(directory) for directory in (model, tmp_path / "b", tmp_path / "untied", tmp_path / "c")]
    code, printed = run("frontier", *models, "--data", data, "--out", tmp_path / "out", "--n", 1)
    assert code == 0, printed.err
    assert run.engine.started == 2 and run.engine.loaded == [models[1], models[3]]
    assert served == [each for each in models for _ in range(4)]


def test_models_need_different_names():
    assert frontier.named(["a/b", "c=d/b"]) == [("b", "a/b"), ("c", "d/b")]
    with pytest.raises(ValueError, match="two models are called b; give them names"):
        frontier.named(["a/b", "c/b"])
    with pytest.raises(ValueError, match="must not be empty"):
        frontier.named(["=b"])
