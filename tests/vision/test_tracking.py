"""Success by source, and agreement between texts and their images."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from kimi_plugins import options
from kimi_plugins.plugin import Vision
from kimi_plugins.vision import tracking
from kimi_plugins.vision.consistency import agreement, answer_of, self_agreement
from kimi_plugins.vision.tracking import MOST_WAIT, Tracker

ARGS = SimpleNamespace(
    data=SimpleNamespace(image_key="images"),
    actor=SimpleNamespace(model_name_or_path="tiny"),
    kimi=SimpleNamespace(vision=options.Vision()),
)


@pytest.mark.parametrize(
    "response, pattern, expected",
    [
        (r"So \boxed{12}.", None, 12.0),
        (r"So \boxed{12.0}.", None, 12.0),
        (r"So \boxed{1,200}", None, 1200.0),
        (r"So \boxed{Red  Circle}", None, "red circle"),
        ("So 12", None, None),
        ("12<|im_end|>", "^", 12.0),
        ("#### 7", "####", 7.0),
    ],
)
def test_answers(response, pattern, expected):
    assert answer_of(response, pattern) == expected


ANSWERS = ["aa", "ab", "abc", "a", [None, "a"], [None, None]]


@pytest.mark.parametrize("text, image", list(product(ANSWERS, ANSWERS)))
def test_agreement_by_brute_force(text, image):
    pairs = [a is not None and a == b for a in text for b in image]
    assert agreement(text, image) == pytest.approx(sum(pairs) / len(pairs))
    others = [a is not None and a == b for n, a in enumerate(text) for m, b in enumerate(text) if n != m]
    assert self_agreement(text) == (pytest.approx(sum(others) / len(others)) if others else None)


class Tokenizer:
    @staticmethod
    def decode(tokens):
        return "".join(chr(token) for token in tokens.tolist())


def responses(texts, scores):
    """One Experience a response, padded in front by two tokens of the prompt."""
    found = []
    for text, score in zip(texts, scores, strict=True):
        tokens = [1, 2, *map(ord, text)]
        mask = torch.tensor([[False] + [True] * len(text)])  # [1, A]
        found.append(
            SimpleNamespace(
                rewards=None,
                sequences=torch.tensor([tokens]),
                action_mask=mask,
                response_length=torch.tensor([len(text)]),
                scores=torch.tensor([score]),
                mm_train_inputs=[],
                info={},
            )
        )
    return found


@pytest.fixture
def tracker(monkeypatch):
    monkeypatch.setattr(tracking, "_tokenizer", lambda model: Tokenizer)
    return Tracker()


ROWS = [
    {"datasource": "doc-text", "pair": "d/1", "images": []},
    {"datasource": "doc-image", "pair": "d/1", "images": ["a.png"]},
    {"datasource": "maze", "pair": None, "images": ["b.png"]},
]
SAMPLER = SimpleNamespace(data_source=Dataset.from_list(ROWS))


def test_metrics_of_a_step(tracker):
    tracker.observe(responses([r"\boxed{3}", r"\boxed{4}"], [1.0, 0.0]), 0, SAMPLER, ARGS)
    tracker.observe(responses([r"\boxed{3.0}", "hm"], [1.0, 0.0]), 1, SAMPLER, ARGS)
    tracker.observe(responses(["", ""], [1.0, 1.0]), 2, SAMPLER, ARGS)
    tracker.observe(responses(["", ""], [0.0, 0.0]), 2, SAMPLER, ARGS)
    assert tracker.metrics() == {
        "kimi/source/doc-text/success": 0.5,
        "kimi/source/doc-text/prompts": 1,
        "kimi/source/doc-image/success": 0.5,
        "kimi/source/doc-image/prompts": 1,
        "kimi/source/maze/success": 0.5,
        "kimi/source/maze/prompts": 2,
        "kimi/consistency_mean": 0.25,
        "kimi/consistency_pairs": 1,
        "kimi/text_image_gap": 0.0,
        "kimi/self_consistency_mean": 0.0,
    }
    assert tracker.metrics() == {}


def test_a_twin_of_a_later_step_counts_for_a_while(tracker):
    for wait, expected in ((MOST_WAIT, 1.0), (MOST_WAIT + 1, None)):
        tracker.observe(responses([r"\boxed{3}"] * 2, [1.0, 1.0]), 0, SAMPLER, ARGS)
        for _ in range(wait):
            assert "kimi/consistency_mean" not in tracker.metrics()
        tracker.observe(responses([r"\boxed{3}"] * 2, [1.0, 1.0]), 1, SAMPLER, ARGS)
        assert tracker.metrics().get("kimi/consistency_mean") == expected


def test_a_group_without_a_grade_says_nothing(tracker):
    group = responses(["a", "b"], [0.0, 0.0])
    for experience in group:
        experience.info = {"grader_failed": torch.tensor([1.0])}
    tracker.observe(group, 0, SAMPLER, ARGS)
    assert tracker.metrics() == {}


def test_torchs_own_sampler_and_data_without_sources(tracker):
    group = responses(["a"], [1.0])
    prompts = SimpleNamespace(datasources=["default", "maze"])
    for index in (0, 1):
        tracker.observe(group, index, SimpleNamespace(data_source=prompts), ARGS)
    tracker.observe(group, 0, SimpleNamespace(data_source=Dataset.from_list([{"input": "x"}])), ARGS)
    tracker.observe(group, 0, object(), ARGS)
    assert tracker.metrics() == {"kimi/source/maze/success": 1.0, "kimi/source/maze/prompts": 1}


def test_the_hooks(monkeypatch, tracker):
    monkeypatch.setattr(tracking, "TRACKER", tracker)
    Vision().openrlhf_group_scored(responses(["a"], [1.0]), 2, SAMPLER, ARGS)
    assert Vision().openrlhf_metrics()["kimi/source/maze/success"] == 1.0
