"""Interrupted sampling goes on where it stood, and completions only ever go to the prompt they answer."""

import json
import os

import pytest

from kimi_plugins.completions.identity import model_files
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


def test_nested_settings_are_named(tmp_path):
    path = tmp_path / "completions.jsonl"
    read(path, settings=SETTINGS | {"files": {"a": "1", "b": [2, 3]}})
    with pytest.raises(ValueError, match=r"made with files b \[2, 3\] \(now \[2, 4\]\); remove"):
        read(path, settings=SETTINGS | {"files": {"a": "1", "b": [2, 4]}})


def test_a_file_of_other_data_is_refused(tmp_path):
    path = tmp_path / "completions.jsonl"
    for content, message in (("nonsense\n", "is not a file of responses"), ('{"input": "x"}\n', "made with")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read(path)


def changed(number, prompt):
    return [request if request.key != number else request._replace(prompt=prompt) for request in REQUESTS]


@pytest.mark.parametrize(
    ("requests", "asked"),
    [
        (changed("3", "another prompt"), ["3"]),
        ([Request("new", "a new one"), *REQUESTS], ["new"]),
        (REQUESTS[4:], []),
        (list(reversed(REQUESTS)), []),
        ([*REQUESTS, REQUESTS[0]], ["0"]),
        ([request._replace(images=("gone.png",)) for request in REQUESTS[:2]], ["0", "1"]),
    ],
)
def test_completions_stay_with_their_prompts_when_the_data_are_edited(tmp_path, requests, asked):
    path = tmp_path / "completions.jsonl"
    read(path)
    model, said = Model(), []
    answered = list(resumed(path, requests, SETTINGS, model, said.append))
    assert answered == [(request, expected(request)) for request in requests]
    assert model.asked == asked
    assert len(said) == (len(asked) > 0 and requests[-1] != REQUESTS[0] and len(requests) <= 10)
    again = Model()
    assert read(path, requests, model=again) == answered and again.asked == []


def test_the_message_says_what_was_sampled_anew(tmp_path):
    path, said = tmp_path / "completions.jsonl", []
    read(path)
    list(resumed(path, changed("3", "another prompt"), SETTINGS, Model(), said.append))
    [message] = said
    assert "9 had responses, 1 were sampled anew (rows 3); the responses to 1 prompts" in message


def test_an_image_that_changed_in_place_is_another_prompt(tmp_path):
    path, image = tmp_path / "completions.jsonl", tmp_path / "a.png"
    requests = [Request("0", "<image>What?", (str(image),))]
    for content, asked in ((b"one", ["0"]), (b"one", []), (b"two", ["0"])):
        image.write_bytes(content)
        model = Model()
        list(resumed(path, requests, SETTINGS, model, lambda text: None))
        assert model.asked == asked


def test_a_model_written_anew_at_the_same_path_is_another(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"12345678")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("hello")
    first = model_files(str(tmp_path))
    assert set(first) == {"model.safetensors", "config.json"} and first == model_files(str(tmp_path))
    os.utime(weights, ns=(1, 1))
    assert model_files(str(tmp_path)) != first
    second = model_files(str(tmp_path))
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert model_files(str(tmp_path)) != second
    weights.unlink()
    with pytest.raises(ValueError, match="the directory has no weights"):
        model_files(str(tmp_path))
    with pytest.raises(ValueError, match="neither a directory nor a model"):
        model_files("no/such-model")


@pytest.mark.parametrize("start", [0, 500_000, 999_000])
def test_a_model_written_anew_with_the_size_and_time_of_another(tmp_path, start):
    weights, found = tmp_path / "model.safetensors", []
    for byte in (b"\0", b"\1"):
        weights.write_bytes(bytes(start) + byte * (1_000_000 - start))
        os.utime(weights, ns=(1, 1))
        found.append(model_files(str(tmp_path)))
    assert found[0] != found[1]


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
