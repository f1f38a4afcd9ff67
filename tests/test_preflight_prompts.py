"""What the prompts of a run tell of its settings."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from openrlhf.utils.config import hierarchize
from tokenizers import Tokenizer, models, pre_tokenizers

from kimi_plugins.preflight import data, prompts, values

BASE = {
    "actor.model_name_or_path": "model",
    "algo.advantage.estimator": "dr_grpo",
    "data.max_len": 8,
    "data.prompt_dataset": "prompts.jsonl",
    "reward.remote_url": ["reward.py"],
    "rollout.batch_size": 4,
    "rollout.max_new_tokens": 4,
}


def arguments(**changed):
    changed = {key.replace("__", "."): value for key, value in changed.items()}
    return hierarchize(SimpleNamespace(**values.defaults() | BASE | changed))


def found(texts, capsys, **changed):
    """(what is refused, what is said) of prompts, given as texts or rows."""
    rows = [row if isinstance(row, dict) else {"input": row, "label": "1"} for row in texts]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = list(data.check_prompts(arguments(data__label_key="label", **changed)))
    said = capsys.readouterr().out.splitlines()
    return problems, [line for line in said if not line.startswith("data.prompt_dataset: ")]


@pytest.fixture(autouse=True)
def words(tmp_path, monkeypatch):
    """A model whose tokens are words; its longest prompt has 4."""
    monkeypatch.chdir(tmp_path)
    tokenizer = Tokenizer(models.WordLevel({"word": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    tokenizer.save("model/tokenizer.json")


def test_prompts_that_are_cut_are_counted(capsys):
    texts = ["word " * count for count in (2, 4, 4, 5, 7)]
    assert found(texts, capsys) == (
        [],
        ["data.max_len: 8 − rollout.max_new_tokens 4 leaves 4 tokens for a prompt, and 2 of 5 have more, of which the "
         "beginning is cut off"],
    )  # fmt: skip
    assert found(texts[:3] * 2, capsys) == ([], [])
    # Without a limit of the response one token is left for it.
    assert found(texts * 2, capsys, rollout__max_new_tokens=None, data__max_len=8) == ([], [])
    [line] = found(texts, capsys, rollout__max_new_tokens=None, data__max_len=7)[1]
    assert "7 − 1 leaves 6 tokens for a prompt, and 1 of 5" in line


def test_a_run_is_refused_if_all_are_cut(capsys):
    [line] = found(["word " * 5] * 4, capsys)[0]
    assert "4 of 4 have more" in line and line.endswith("; raise data.max_len, or lower rollout.max_new_tokens")


def test_the_template_counts_and_a_chat_template_does_not(capsys):
    texts = ["word " * 3] * 4
    assert "4 of 4" in found(texts, capsys, data__input_template="word word {}")[0][0]
    assert found(texts, capsys, data__input_template="word word {}", data__apply_chat_template=True) == ([], [])


def test_of_many_long_prompts_the_first_are_looked_at(capsys, monkeypatch):
    monkeypatch.setattr(prompts, "MOST_CHARACTERS", 100)
    problems, [line] = found(["word " * 5] * 20, capsys)
    assert problems == [] and "5 of the first 5 have more" in line


@pytest.mark.parametrize("tokenizer", [None, "{}"])
def test_without_a_tokenizer_nothing_is_said_of_tokens(capsys, tokenizer):
    Path("model/tokenizer.json").unlink()
    if tokenizer is not None:
        Path("model/tokenizer.json").write_text(tokenizer)
    assert found(["word " * 5] * 4, capsys) == ([], [])


@pytest.mark.parametrize(
    "key, known", [("eval_gsm8k_pass1", True), ("eval_gsm8k_pass4", True), ("", True), ("none", True),
                   ("eval_default_pass1", False), ("eval_gsm8k_pass8", False), ("pass1", False)],
)  # fmt: skip
def test_the_metric_of_the_best_checkpoint_is_one_that_is_evaluated(capsys, key, known):
    Path("test.jsonl").write_text(json.dumps({"input": "word", "label": "1", "datasource": "gsm8k"}) + "\n")
    evaluated = {"eval__dataset": "test.jsonl", "eval__steps": 1, "ckpt__best_metric_key": key}
    problems, _ = found(["word"] * 4, capsys, **evaluated)
    assert problems == [] if known else "choose one of eval_gsm8k_pass1, eval_gsm8k_pass4," in problems[0]


def notes(count, **changed):
    return list(prompts.step_notes(arguments(**changed), count))


def test_steps_that_a_run_does_not_have_are_said():
    never = {"ckpt__save_steps": 4, "eval__steps": 9, "eval__dataset": "test.jsonl", "logger__logging_steps": 5}
    assert notes(12, **never, logger__wandb__key="key") == [
        "eval.steps: 9 is never reached: the run has 3 steps",
        "ckpt.save_steps: 4 is never reached: the run has 3 steps",
        "logger.logging_steps: 5 is never reached: the run has 3 steps",
    ]
    assert notes(12, ckpt__save_steps=3) == notes(9, ckpt__save_steps=3) == []
    assert notes(9, ckpt__save_steps=7, train__num_episodes=2) != notes(9, ckpt__save_steps=6, train__num_episodes=2)
    assert notes(3) == ["rollout.batch_size: 4: an iteration has the 3 prompts that there are"]
    gae = {"algo__advantage__estimator": "gae"}
    assert notes(12, critic__freezing_steps=3, **gae) == [
        "critic.freezing_steps: 3: no policy is trained, the run has 3 steps"
    ]
    assert notes(12, critic__freezing_steps=2, **gae) == []


def test_plugins_steps_are_said_too():
    kimi = {"kimi.length.weight": 0.2, "kimi.length.warm_up_steps": 3}
    kimi |= {"kimi.sampling.curriculum": "stages", "kimi.sampling.curriculum_steps": 4}
    kimi |= {"kimi.rollout.temperature_end": 0.5, "kimi.rollout.temperature_iterations": 4}
    assert notes(12, **kimi) == [
        "kimi.sampling.curriculum_steps: 4 is never reached: the run has 3 steps",
        "kimi.rollout.temperature_iterations: 4 is never reached: the run has 3 steps",
        "kimi.length.warm_up_steps: 3: no length reward, the run has 3 steps",
    ]
    off = {"kimi.length.weight": 0.0, "kimi.sampling.curriculum": "none", "kimi.rollout.temperature_iterations": None}
    assert notes(12, **kimi | off) == notes(13, **kimi) == []


def test_how_many_steps_there_are_may_be_unknown():
    assert notes(None, ckpt__save_steps=9) == notes(12, ckpt__save_steps=9, data__prompt_probs="1") == []
    assert notes(12, **{"ckpt.save_steps": 9, "kimi.rollout.segment_tokens": 2}) == []


@pytest.mark.parametrize("template", [None, "", "{}", "Q: {}\nA: ", "{{json}} {}"])
def test_a_template_with_a_place_for_the_prompt(template):
    assert list(data.check_template(arguments(data__input_template=template))) == []


@pytest.mark.parametrize("template", ["{question}", "{} {}", "{} {", "{0.text}"])
def test_a_template_with_more_in_braces(template):
    [line] = data.check_template(arguments(data__input_template=template))
    assert line.startswith(f"data.input_template: {template!r} has more in braces")
