"""The warm-up set: what is asked, which of the right responses are kept, and what is said of the rest."""

import io
import json

import pytest

from kimi_plugins.cli.warmup import TEMPLATES
from kimi_plugins.completions.forms import Form
from kimi_plugins.completions.grading import Graded
from kimi_plugins.completions.prompts import Prompt
from kimi_plugins.completions.types import Completion, Request
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.prompts import warm_up
from kimi_plugins.prompts.warm_up import Candidate, jaccard, select

SELECTION = {"keep": 2, "min_tokens": 0, "max_tokens": None, "similarity": 0.8}


def prompt(key: str, text="1+1=", images=()) -> Prompt:
    return Prompt(Request(key, text, images), "2", {})


def answer(text: str, tokens: int = 5, correct: bool | None = True, finish: str = "stop") -> Graded:
    return Graded(Completion(text, tokens, finish), Verdict(Kind.of(correct), ""))


def candidate(template: str, tokens: int, text: str | None = None) -> Candidate:
    return Candidate(template, text or " ".join(f"{template}{tokens}x{i}" for i in range(tokens)), tokens)


def test_every_prompt_is_asked_with_every_template():
    templates = warm_up.read_templates(TEMPLATES)
    assert list(templates) == ["planning", "evaluation", "reflection", "exploration"]
    chat = prompt("2", [{"role": "system", "content": "s"}, {"role": "user", "content": r"$\frac{1}{2}$?"}])
    asked = list(warm_up.ask([prompt("1"), chat], templates, chat=True))
    assert [(item[0].request.key, answer) for item, answer, _ in asked] == [("1", "2")] * 4 + [("2", "2")] * 4
    assert [request.key for _, _, request in asked] == [f"{n}:{name}" for n in (1, 2) for name in templates]
    assert asked[0][2].prompt == [{"role": "user", "content": templates["planning"].replace("{question}", "1+1=")}]
    assert asked[4][2].prompt[0] == {"role": "system", "content": "s"}
    assert asked[4][2].prompt[1]["content"].startswith(r"$\frac{1}{2}$?")


@pytest.mark.parametrize(
    "text, said", [("- a", "write one template"), ("a: b", "not a text with {question}"), ("a: [", "YAML")]
)
def test_templates_that_are_none(tmp_path, text, said):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        warm_up.read_templates(tmp_path / "t.yaml")


def test_templates_take_turns_with_their_longest():
    given = [candidate("a", 4), candidate("a", 9), candidate("b", 3), candidate("a", 7), candidate("b", 5)]
    chosen = select(given, keep=4, min_tokens=0, max_tokens=None, similarity=0.8)
    assert [(c.template, c.tokens) for c in chosen] == [("a", 9), ("b", 5), ("a", 7), ("b", 3)]
    chosen = select(given, keep=3, min_tokens=4, max_tokens=8, similarity=0.8)
    assert [(c.template, c.tokens) for c in chosen] == [("a", 7), ("b", 5), ("a", 4)]


def test_responses_that_are_alike_are_kept_once():
    words = [str(n) for n in range(40)]
    near = words[:39] + ["other"]
    far = words[:20] + [f"new{n}" for n in range(20)]
    # By hand: 38 shingles each; the near one shares 37 of 39, the far one 18 of 58.
    assert jaccard(" ".join(words), " ".join(near)) == pytest.approx(37 / 39)
    assert jaccard(" ".join(words), " ".join(far)) == pytest.approx(18 / 58)
    given = [
        candidate("a", 42, " ".join(words)),
        candidate("a", 41, " ".join(near)),
        candidate("a", 40, " ".join(far)),
    ]
    assert [c.tokens for c in select(given, **SELECTION)] == [42, 40]
    assert [c.tokens for c in select(given, **SELECTION | {"similarity": 1.0})] == [42, 41]


def test_rows_reasons_and_counts():
    image = prompt("4", images=("a.png",))
    graded = [
        ((prompt("1"), "a"), [answer("x y z right"), answer("wrong", correct=False)]),
        ((prompt("1"), "b"), [answer("another right one"), answer("failed", correct=None)]),
        ((prompt("2"), "a"), [answer("cut", finish="length"), answer("wrong", correct=False)]),
        ((prompt("2"), "b"), []),
        ((prompt("3"), "a"), []),
        ((image, "a"), [answer("seen", tokens=1)]),
    ]
    accepted, rejected = io.StringIO(), io.StringIO()
    counts = warm_up.write(iter(graded), accepted, rejected, form=Form(False, "<eos>"), selection=SELECTION)
    rows = [json.loads(line) for line in accepted.getvalue().splitlines()]
    assert [(row["input"], row["output"], row["template"]) for row in rows] == [
        ("1+1=", "x y z right<eos>", "a"),
        ("1+1=", "another right one<eos>", "b"),
        ("1+1=", "seen<eos>", "a"),
    ]
    assert "images" not in rows[0] and rows[2]["images"] == ["a.png"]
    reasons = {row["row"]: row["reason"] for row in map(json.loads, rejected.getvalue().splitlines())}
    assert reasons == {
        "2": "none of 2 responses is right (1 were cut off)",
        "3": "the prompt does not fit the model's context",
    }
    tally = {"prompts": 4, "responses": 7, "right": 3, "kept": 2, "rows": 3, "failed": 1}
    assert counts == tally | {"longest": counts["longest"], "messages": 0} and counts["longest"] > 5


def test_a_prompt_whose_right_responses_are_too_short_says_so():
    rejected = io.StringIO()
    graded = [((prompt("1"), "a"), [answer("short", tokens=2)])]
    warm_up.write(iter(graded), io.StringIO(), rejected, form=Form(True, ""), selection=SELECTION | {"min_tokens": 3})
    assert json.loads(rejected.getvalue())["reason"] == "none of 1 right responses has a length that was asked for"
