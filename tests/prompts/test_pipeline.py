import json

import pytest

from kimi_plugins.prompts.parallel import chunked, mapped
from kimi_plugins.prompts.pipeline import ByRow, Lost, Stage, Stages, decided, rows_of


def read(count, limit=None):
    def rows(_, __):
        outcomes = (
            ({"file": "a", "row": row, "source": "s", "question": str(row), "answer": "1"}, None)
            for row in range(count)
        )
        return decided("read", outcomes)

    return Stage("read", {"count": count}, rows)


def even(row):
    return row, None if row["row"] % 2 == 0 else f"odd: {row['row']}"


def stage(name, decide, settings=None, calls=None, processes=1):
    def run(previous, fingerprint):
        if calls is not None:
            calls.append(name)
        return ByRow(name, decide, processes)(previous, fingerprint)

    return Stage(name, settings or {}, run)


@pytest.fixture
def stages(tmp_path):
    said = []
    made = Stages(tmp_path / "stages", said.append, lambda chunks, name, total: chunks)
    made.said = said
    return made


def test_what_is_kept_and_rejected_is_what_was_read(stages):
    summaries = stages.run([read(25), stage("even", even)])
    assert [(one["read"], one["kept"], one["rejected"]) for one in summaries] == [(25, 25, 0), (25, 13, 12)]
    assert summaries[1]["reasons"] == {"odd": 12} and summaries[1]["sources"] == {"s": 13}
    assert [row["row"] for row in rows_of(stages.rows("even"))] == list(range(0, 25, 2))
    rejects = list(rows_of(stages.rejects("even")))
    assert rejects[0] == {
        "stage": "even", "reason": "odd: 1", "file": "a", "row": 1, "source": "s", "question": "1", "answer": "1",
    }  # fmt: skip


def test_processes_make_no_difference(stages):
    stages.run([read(5000), stage("even", even, {"p": 1}), stage("again", even)])
    alone = stages.rows("even").read_bytes()
    stages.run([read(5000), stage("even", even, {"p": 2}, processes=2)])
    assert stages.rows("even").read_bytes() == alone
    assert len(alone.splitlines()) == 2500


def test_what_is_done_is_not_done_again(stages):
    calls = []
    for _ in range(2):
        stages.run([read(9), stage("even", even, calls=calls), stage("more", even, calls=calls)])
    assert calls == ["even", "more"]
    assert stages.said[-1] == "more: done before, 5 of 5 kept"


def test_other_settings_are_said_and_redo_what_follows(stages):
    calls = []
    stages.run([read(9), stage("even", even, {"n": 1}, calls), stage("more", even, calls=calls)])
    stages.run([read(9), stage("even", even, {"n": 2}, calls), stage("more", even, calls=calls)])
    assert calls == ["even", "more"] * 2
    assert "even: again, as n was 1 and is 2" in stages.said
    assert "more: again, as its input has changed" in stages.said


def test_a_stage_that_is_stopped_leaves_no_half_file(stages, tmp_path):
    def breaks(row):
        if row["row"] == 7:
            raise KeyboardInterrupt
        return row, None

    with pytest.raises(KeyboardInterrupt):
        stages.run([read(9), stage("breaks", breaks)])
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == [
        "read.json",
        "read.jsonl",
        "read.rejects.jsonl",
    ]
    assert [one["kept"] for one in stages.run([read(9), stage("breaks", even)])] == [9, 5]


def test_a_redone_stage_that_is_stopped_does_not_pass_for_done(stages):
    stages.run([read(9), stage("even", even, {"n": 1})])

    def breaks(row):
        raise OSError("disk full")

    with pytest.raises(OSError):
        stages.run([read(9), stage("even", breaks, {"n": 2})])
    calls = []
    stages.run([read(9), stage("even", even, {"n": 1}, calls)])
    assert calls == ["even"]


@pytest.mark.parametrize("change", [lambda rows: rows[1:], lambda rows: rows + rows[:1]])
def test_lost_and_doubled_rows_end_the_run(stages, change):
    def run(previous, _):
        return decided("loses", ((row, None) for row in change(list(rows_of(previous)))))

    with pytest.raises(Lost, match="loses: (8|10) rows kept and 0 rejected of 9"):
        stages.run([read(9), Stage("loses", {}, run)])


def test_a_broken_summary_is_named(stages):
    stages.run([read(3)])
    (stages.directory / "read.json").write_text("{")
    with pytest.raises(ValueError, match="read.json: no JSON .*; delete it"):
        stages.run([read(3)])


def square(chunk):
    return [value * value for value in chunk]


def test_chunks_come_in_their_order_and_are_read_as_they_are_needed():
    taken = []

    def numbers():
        for number in range(400):
            taken.append(number)
            yield number

    found = mapped(square, chunked(numbers(), 10), 2)
    assert next(found) == [number**2 for number in range(10)]
    assert len(taken) <= 100
    assert [number for chunk in found for number in chunk] == [number**2 for number in range(10, 400)]


def fails(chunk):
    raise ValueError(f"bad {json.dumps(chunk)}")


def test_an_error_in_a_process_is_the_callers():
    with pytest.raises(ValueError, match=r"bad \[0\]"):
        list(mapped(fails, chunked(range(5), 1), 2))
