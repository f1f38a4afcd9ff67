"""A run on mixed data: math, code, a judged source, a user's function and the user's own file, all in one batch."""

import json

import pytest
from judge_server import serving, verdict
from real_runs import START_UP, flags

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

REWARD = """
def reward_func(queries, prompts, labels):
    reward = float(labels[0][-1] in queries[0][len(prompts[0]):])
    return {"rewards": reward, "scores": reward, "extra_logs": {"file_length": len(queries[0])}}
"""
FUNCTION = """
import itertools, time
calls = itertools.count()

def grade(response, label):
    number = next(calls)
    if number % 20 == 5:
        raise ValueError("what the user's parser did not expect")
    return float("nan") if number % 20 == 7 else float(label[-1] in response)
"""
CODE = json.dumps({"cases": [{"input": "1 2", "output": "3"}]})
SOURCES = {"sums": "math", "programs": "code", "judged": "judge", "own": "user_grade:grade", "file": "file"}


def test_every_source_is_graded_by_its_kind(tmp_path, models, start, sandbox, monkeypatch):
    rows = []
    for n in range(120):
        source = list(SOURCES)[n % 5]
        label = {"programs": CODE, "judged": r"\\text{a week}"}.get(source, str(20 + n))
        rows.append({"input": f"{10 + n % 90}+10=\n", "label": label, "datasource": source})
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "user_grade.py").write_text(FUNCTION)
    with serving(lambda *_: (200, verdict(True))) as server:
        words = flags(
            tmp_path,
            models / "tied",
            data__prompt_dataset=tmp_path / "mixed.jsonl",
            data__max_samples=60,
            rollout__batch_size=20,
            rollout__micro_batch_size=40,
            train__batch_size=40,
            train__micro_batch_size=20,
            kimi__rewards__judge__url=server.url,
            kimi__rewards__failure_limit=0.3,
            kimi__rewards__format=".*1.*",
            kimi__rewards__format_reward=0.1,
        )
        words += ["--kimi.rewards.sources", *(f"{source}={kind}" for source, kind in SOURCES.items())]
        (tmp_path / "reward.py").write_text(REWARD)
        run = start(words, plugins="kimi")
        assert run.process.wait(timeout=START_UP) == 0, run.tail()
    steps = run.steps()
    assert len(steps) == 3
    for step in steps:
        for source in SOURCES:
            assert 1 <= step[f"kimi/rewards/{source}/responses"] <= 80
        assert step["kimi/rewards/programs/accuracy"] == 0
        assert 0 <= step["kimi/format_share"] <= 1 and step["file_length"] > 0
        failed = step["kimi/rewards/own/failure_share"] * step["kimi/rewards/own/responses"] / 80
        assert step["kimi/grader_failure_share"] == pytest.approx(failed)
        assert step["policy_loss"] == step["policy_loss"]
    assert max(step["kimi/rewards/own/failure_share"] for step in steps) > 0
    text = run.log.read_text(errors="replace")
    assert "what the user's parser did not expect" in text and "Traceback" in text
    record = json.loads((run.checkpoints / "rollouts.jsonl").read_text().splitlines()[0])
    assert all(isinstance(sample["label"], str) for sample in record["samples"])
    assert run.orphans() == []
