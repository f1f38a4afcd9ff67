"""The problems of benchmarks/context_length.py by a second method; its decoder; and how its figures are made."""

import json
import random

import pytest
import torch

FULL = 5 + 512


@pytest.fixture
def lengths(benchmark):
    return benchmark("context_length")


def words(lengths, tokens):
    return [lengths.TOKENS[token] for token in tokens]


def follow(prompt: list[str], response: list[str]) -> int:
    """Check a worked response line by line, knowing nothing of what wrote it; returns its number of slips."""
    before, value, number, last, equals = prompt
    assert equals == "="
    slips, ended = 0, False
    while response[0] != "answer":
        (at, left, plus, right, result, verdict), response = response[:6], response[6:]
        assert not ended and (at, left, plus, right) == (number, before, "+", value)
        assert verdict == ("ok" if (int(left) + int(right) - int(result)) % 10 == 0 else "redo")
        if verdict == "ok":
            before, value, ended = value, result, number == last
            number = f"n{(int(number[1:]) + 1) % 50}"
        slips += verdict == "redo"
    assert ended and response == ["answer", value, "<eos>"]
    return slips


@pytest.mark.parametrize("steps", [3, 10, 40])
def test_working_is_right_and_slips_are_redone(lengths, steps):
    rng, slips = random.Random(steps), 0
    for _ in range(50):
        one = lengths.problem(steps, rng)
        prompt, response = lengths.prompt(one), lengths.solution(one, rng, working=True)
        found = follow(words(lengths, prompt), words(lengths, response))
        assert len(prompt) == lengths.PROMPT and len(response) == 6 * (steps + found) + 3
        slips += found
    assert slips == pytest.approx(50 * steps * lengths.SLIPS / (1 - lengths.SLIPS), rel=0.5)


def test_an_answer_at_once_is_the_end_of_the_working(lengths):
    one = lengths.problem(20, random.Random(1))
    assert lengths.solution(one, random.Random(), True)[-3:] == lengths.solution(one, random.Random(), False)


def test_no_problem_is_trained_on_and_held_out(lengths):
    """Also not under other numbers of the steps."""
    rng = random.Random(1)
    trained = [lengths.problem(rng.randint(3, 40), rng) for _ in range(5000)]
    kept = lengths.held_out(1)
    assert len(kept) == lengths.HELD_OUT
    assert [sum(one.steps in inside for one in kept) for inside in lengths.BINS.values()] == [lengths.HELD_OUT / 4] * 4
    same = [{(one.first, one.second, one.steps) for one in problems} for problems in (trained, kept)]
    assert not same[0] & same[1]


def test_verdicts(lengths):
    rng = random.Random(3)
    one = lengths.problem(5, rng)
    right = lengths.prompt(one) + lengths.solution(one, rng, working=False)
    wrong = [*right[:-2], lengths.INDEX[str((one.digits()[-1] + 1) % 10)], right[-1]]
    cut = [*right[:-1], 0]
    ended_twice = [*right, right[-1]]
    width = max(map(len, (right, ended_twice)))
    rows = torch.tensor([[*row, *[0] * (width - len(row))] for row in (right, wrong, cut, ended_twice)])
    assert lengths.verdicts(rows, [one] * 4).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_rotary_positions_mind_no_shift(lengths):
    torch.manual_seed(0)
    model = lengths.Decoder(32, 2, 2, context=FULL, vocabulary=len(lengths.TOKENS), rotary=True)
    tokens = torch.randint(1, len(lengths.TOKENS), (2, 30))
    shifted = torch.cat([torch.zeros(2, 11, dtype=torch.long), tokens], dim=1)
    at_once = model(tokens, torch.zeros(2, dtype=torch.long))
    later = model(shifted, torch.full((2,), 11))[:, 11:]
    assert torch.allclose(at_once, later, atol=1e-5)
    swapped = model(tokens.flip(1), torch.zeros(2, dtype=torch.long)).flip(1)
    assert not torch.allclose(at_once[:, -1], swapped[:, 0], atol=1e-2)  # but order counts


def test_what_is_generated_has_the_probabilities_of_a_whole_pass(lengths):
    """Sampled with a cache that shrinks: frequencies of the first token against the model's own probabilities."""
    torch.manual_seed(0)
    model = lengths.Decoder(16, 1, heads=2, context=FULL, vocabulary=len(lengths.TOKENS), rotary=True)
    with torch.no_grad():
        model.embed.weight.mul_(0.3)
    prompts, pads = lengths.prompts_of([lengths.problem(3, random.Random(1))] * 4000)
    tokens, mask = lengths.generate(model, prompts, pads, torch.Generator().manual_seed(1), 2)
    second = tokens[mask[:, prompts.shape[1] + 1]][:, : prompts.shape[1] + 2]
    for taken, given in ((tokens, prompts), (second[second[:, -2] == 5], None)):
        given = taken[:1, :-1] if given is None else given[:1]
        with torch.no_grad():
            expected = model(given, torch.zeros(1, dtype=torch.long))[0, -1].softmax(-1)
        seen = torch.bincount(taken[:, given.shape[1]], minlength=len(expected)) / len(taken)
        assert (seen - expected).abs().max() < 4 * (expected.max() / len(taken)).sqrt()


def made_result(lengths, cell, seed, accuracy):
    inside = {name: {"accuracy": accuracy, "tokens": 9.0} for name in lengths.BINS}
    point = {"iteration": 0, "generated": 0, "accuracy": accuracy, "tokens": 9.0} | inside
    return {"cell": cell, "seed": seed, "room": 64, "parameters": 10, "points": [point, point | {"iteration": 4}]}


def test_room_is_compared_within_a_seed(lengths):
    scores = {("64", 1): 0.5, ("64", 2): 0.1, ("128", 2): 0.3, ("128", 1): 0.4, ("256", 1): 0.9}
    results = [made_result(lengths, cell, seed, score) for (cell, seed), score in scores.items()]
    found = lengths.rises(results, "31–40")
    assert found == {"64 → 128": [-10.0, 20.0], "128 → 256": [50.0], "256 → 512": []}
    assert lengths.rises(results, "all") == found


def test_a_cell_that_is_done_is_not_run_again(lengths, tmp_path, monkeypatch):
    monkeypatch.setattr(lengths, "WARM_UP", ((2, 1e-3, 5),))
    monkeypatch.setattr(lengths, "HELD_OUT", 4)
    first = lengths.done("64", 1, tmp_path, 2, 1)
    assert [point["iteration"] for point in first["points"]] == [0, 1] and first["points"][1]["generated"] > 0
    monkeypatch.setattr(lengths, "run", lambda *_: pytest.fail("run again"))
    assert lengths.done("64", 1, tmp_path, 2, 1) == first
    out = tmp_path / "out" / "lengths.json"
    words = ["--groups", "2", "--iterations", "1", "--runs", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["context_length", "report", *words])
    lengths.main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["cell"] for row in rows] == ["64"] and out.with_suffix(".svg").exists()


def test_a_report_of_nothing_says_what_to_do(lengths, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["context_length", "report", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        lengths.main()
    assert "start with `run`" in capsys.readouterr().err
