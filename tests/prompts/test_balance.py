from collections import Counter

import pytest

from kimi_plugins.prompts.balance import balanced, parse_shares, quotas
from kimi_plugins.prompts.pipeline import encoded


def kept(tmp_path, tags, texts, seed=0):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(encoded({"discipline": tag, "row": row}) for row, tag in enumerate(tags)))
    found = list(balanced(path, "discipline", parse_shares(texts), seed))
    assert [row["row"] for row, _ in found] == list(range(len(tags)))
    return found


TAGS = ["algebra"] * 700 + ["geometry"] * 100 + ["logic"] * 40 + ["other"] * 10


def test_shares_are_met_by_as_many_prompts_as_there_can_be(tmp_path):
    found = kept(tmp_path, TAGS, ["algebra=0.5", "geometry=0.25", "*=0.25"])
    counts = Counter(row["discipline"] for row, reason in found if reason is None)
    assert counts["algebra"] == 100 and counts["geometry"] == 50
    assert counts["logic"] + counts["other"] == 50
    assert Counter(reason for _, reason in found if reason)["above its share: discipline is algebra"] == 600


def test_values_without_a_share_go(tmp_path):
    found = kept(tmp_path, TAGS, ["algebra=1", "geometry=1"])
    assert Counter(row["discipline"] for row, reason in found if reason is None) == {"algebra": 100, "geometry": 100}
    assert {reason for row, reason in found if row["discipline"] == "logic"} == {"no share: discipline is logic"}


def test_the_seed_chooses(tmp_path):
    def rows(seed):
        return [row["row"] for row, reason in kept(tmp_path, TAGS, ["algebra=1", "geometry=1"], seed) if not reason]

    assert rows(1) == rows(1) != rows(2)


def test_shares_that_cannot_be():
    for text in ("algebra", "=1", "algebra=0", "algebra=-1", "algebra=x", "algebra=nan", "algebra=inf"):
        with pytest.raises(ValueError, match="--shares"):
            parse_shares([text])
    with pytest.raises(ValueError, match="has a share already"):
        parse_shares(["a=1", "a=2"])
    with pytest.raises(ValueError, match=r"no prompt has the value logic; there are algebra \(3\)"):
        quotas(Counter(algebra=3), {"algebra": 0.5, "logic": 0.5})
