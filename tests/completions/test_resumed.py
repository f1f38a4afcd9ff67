"""Interrupted sampling goes on where it stood, and never mixes two inputs."""

import json

import pytest

from kimi_plugins.completions.resume import resumed
from kimi_plugins.completions.types import Completion, Request, Sampling

SETTINGS = {"model": "m", "n": 2, "choices": ("a", "b")}
REQUESTS = [Request(str(n), f"prompt {n}") for n in range(10)]


class Model:
    """Answers with the prompt; remembers what it was asked, and fails when it has answered `end` times."""

    def __init__(self, end: int = 10**9) -> None:
        self.asked, self.end = [], end

    def __call__(self, requests):
        for request in requests:
            if len(self.asked) == self.end:
                raise KeyboardInterrupt
            self.asked.append(request.key)
            yield expected(request)


def expected(request: Request) -> list[Completion]:
    return [Completion(request.prompt, 3, "stop"), Completion("cut \udc80", 9, "length")]


def read(path, requests=REQUESTS, settings=SETTINGS, model=None):
    return list(resumed(path, requests, settings, model or Model()))


def test_what_was_answered_is_not_asked_again(tmp_path):
    path = tmp_path / "new" / "completions.jsonl"
    with pytest.raises(KeyboardInterrupt):
        read(path, model=Model(end=4))
    again = Model()
    assert read(path, model=again) == [(request, expected(request)) for request in REQUESTS]
    assert again.asked == [str(n) for n in range(4, 10)]
    third = Model()
    assert read(path, model=third) == [(request, expected(request)) for request in REQUESTS]
    assert third.asked == []


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_was_being_written_is_asked_again(tmp_path, cut):
    path = tmp_path / "completions.jsonl"
    read(path, REQUESTS[:6])
    path.write_bytes(path.read_bytes()[:-cut])
    model = Model()
    assert len(read(path, model=model)) == 10
    assert model.asked == [str(n) for n in range(5, 10)]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 11


def test_requests_are_read_only_as_they_are_answered(tmp_path):
    taken = []
    requests = (taken.append(request.key) or request for request in REQUESTS)
    answered = resumed(tmp_path / "completions.jsonl", requests, SETTINGS, Model())
    next(answered)
    assert len(taken) <= 2


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / "completions.jsonl"
    read(path)
    with pytest.raises(ValueError, match=r"made with n 2 \(now 3\); remove the file"):
        read(path, settings=SETTINGS | {"n": 3})


def test_other_prompts_are_refused(tmp_path):
    path = tmp_path / "completions.jsonl"
    read(path)
    with pytest.raises(ValueError, match="prompt '0', where the input has '1'"):
        read(path, REQUESTS[1:])
    with pytest.raises(ValueError, match="prompt '9', where the input has ended"):
        read(path, REQUESTS[:9])


@pytest.mark.parametrize(
    "settings",
    [
        {"n": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"max_new_tokens": 0},
        {"choices": ("a",), "json_schema": {"type": "object"}},
    ],
)
def test_sampling_that_cannot_be(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Sampling(**settings)
