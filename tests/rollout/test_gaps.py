"""The gap of log-probs on tokens of the current policy and of earlier ones, against loops over single tokens."""

import random
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch

from kimi_plugins.rollout.gaps import CURRENT_SHARE, gap_metrics

A = 12


def make_rows(rows=40):
    """(prompt tokens, tokens of earlier policies, tokens of the current one, gap of each action token)"""
    rng = random.Random(0)
    for _ in range(rows):
        earlier, current = rng.randint(0, 5), rng.choice([0, 1, 5])
        gaps = [rng.gauss(0, 1) for _ in range(earlier)] + [rng.gauss(0, 1e-4) for _ in range(current)]
        yield rng.randint(0, 2), earlier, current, gaps


def experiences(rows, newest_only=False, size=7):
    made = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        mask, gap = torch.zeros(len(part), A), torch.full((len(part), A), torch.nan)
        for row, (prompt, earlier, current, gaps) in enumerate(part):
            mask[row, prompt + earlier * newest_only : prompt + earlier + current] = 1
            gap[row, prompt : prompt + earlier + current] = torch.tensor(gaps)
        actor = torch.randn(len(part), A)
        made.append(
            SimpleNamespace(
                action_mask=mask,
                action_log_probs=actor,
                rollout_log_probs=actor + gap,
                response_length=torch.tensor([earlier + current for _, earlier, current, _ in part]),
                info={CURRENT_SHARE: torch.tensor([now / max(1, old + now) for _, old, now, _ in part])},
            )
        )
    return made


@pytest.mark.parametrize("newest_only", [False, True])
def test_tokens_of_the_current_policy_by_themselves(newest_only):
    rows = list(make_rows())
    fresh = [gap for _, old, _, gaps in rows for gap in gaps[old:]]
    stale = [] if newest_only else [gap for _, old, _, gaps in rows for gap in gaps[:old]]
    assert gap_metrics(experiences(rows, newest_only)) == {
        "kimi/logprob_gap_abs": pytest.approx(fmean(map(abs, fresh)), rel=2e-2),
        "vllm_kl": pytest.approx(fmean(fresh), abs=1e-6),
        "kimi/stale_gap_abs": pytest.approx(fmean(map(abs, stale)) if stale else 0, rel=1e-4),
        "kimi/stale_token_share": pytest.approx(len(stale) / (len(stale) + len(fresh))),
    }


def test_a_batch_of_earlier_policies_only_and_one_without_log_probs():
    rows = [(1, 3, 0, [0.5, -0.5, 1.0])]
    assert gap_metrics(experiences(rows)) == {
        "kimi/logprob_gap_abs": 0,
        "vllm_kl": 0,
        "kimi/stale_gap_abs": pytest.approx(2 / 3),
        "kimi/stale_token_share": 1,
    }
    [without] = experiences(rows)
    without.rollout_log_probs = None
    assert gap_metrics([without]) == {}
