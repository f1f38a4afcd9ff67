"""A bigram policy, rollouts of it, and the surrogate of k1.5 §2.3.2 written down naively as the yardstick."""

import math

import torch
from torch import nn

from kimi_plugins.policy.advantages import group_advantages

VOCAB = 11
# The options of every form, as MirrorDescentLoss and naive_surrogate know them.
LOSSES = {
    "k1.5": {"log_ratio": "sequence"},
    "k1.5, tokens": {"log_ratio": "token"},
    "k1.5, tokens, then responses": {"log_ratio": "token", "token_level_loss": False},
    "OpenKimi": {"log_ratio": "sequence", "length_normalization": True},
    "k2.5": {"log_ratio": "token", "form": "k2.5", "log_ratio_low": -0.7, "log_ratio_high": 0.4},
}


class Bigram(nn.Module):
    def __init__(self, seed: int, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(torch.randn(VOCAB, VOCAB, generator=generator, dtype=torch.float64).to(dtype))

    def forward(self, tokens):  # [B, A + 1] -> [B, A]
        log_probs = self.logits.log_softmax(dim=-1)[tokens[:, :-1]]
        return log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)


def make_rollouts(prompts=4, k=4, actions=24, *, baseline="mean", tau=0.3, empty=(5,)):
    """A batch whose π_θ has left π_i: groups are neighbours, lengths differ, rows in `empty` have no actions.

    Some rows begin with a masked prompt; the advantages are NaN wherever the mask is off.
    """
    generator = torch.Generator().manual_seed(7)
    size = prompts * k
    tokens = torch.randint(VOCAB, (size, actions + 1), generator=generator)
    lengths = torch.randint(2, actions + 1, (size, 1), generator=generator)
    mask = torch.arange(actions) < lengths  # [B, A]
    mask[1, 1] = False  # a hole, as between two turns
    mask[::3, 0] = False  # the prompt's end
    mask[list(empty)] = False
    rewards = torch.randint(2, (prompts, k), generator=generator).double()
    rewards[0] = torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(k)[:k]
    advantages = group_advantages(rewards, baseline=baseline, tau=tau).reshape(size, 1).expand(size, actions)
    with torch.no_grad():
        old = Bigram(0, torch.float64)(tokens)
    return {
        "tokens": tokens,
        "lengths": lengths.squeeze(-1),
        "action_mask": mask,
        "old_log_probs": old,
        "advantages": torch.where(mask, advantages, math.nan),
        "rewards": rewards,
    }


def naive_surrogate(
    log_probs,
    rollouts,
    *,
    log_ratio="sequence",
    token_level_loss=True,
    form="k1.5",
    length_normalization=False,
    baseline="mean",
    tau=0.3,
    log_ratio_low=-2.0,
    log_ratio_high=2.0,
    weights=None,
):
    """The loss on the whole batch, response by response, straight from the reports.

    weights(i, places): how often the tokens at `places` of response i count, as one unit; None: once.
    """
    old, mask, rewards = rollouts["old_log_probs"], rollouts["action_mask"], rollouts["rewards"].tolist()
    k = len(rewards[0])
    per_sequence = []  # the terms of each sequence that has actions
    for i in range(len(mask)):
        group = rewards[i // k]
        others = group[: i % k] + group[i % k + 1 :] if baseline.endswith("leave_one_out") else group
        if baseline.startswith("log_z"):
            value = tau * math.log(sum(math.exp(r / tau) for r in others) / len(others))
        else:
            value = sum(others) / len(others)
        advantage = group[i % k] - value
        places = [t for t in range(mask.shape[1]) if mask[i, t]]
        if not places:
            continue
        terms = []
        for unit in [places] if log_ratio == "sequence" else [[t] for t in places]:
            ratio = torch.stack([log_probs[i, t] - old[i, t] for t in unit]).sum()
            if form == "k2.5":
                clipped = math.exp(min(max(ratio.item(), log_ratio_low), log_ratio_high))  # no gradient
                inside = log_ratio_low <= ratio.item() <= log_ratio_high
                term = -advantage * (ratio.exp() if inside else clipped) + tau * ratio**2
            elif length_normalization:
                term = 0.5 * tau * (advantage / tau - ratio) ** 2 / len(unit)
            else:
                term = (advantage - tau * ratio) ** 2
            terms.append(term if weights is None else weights(i, unit) * term)
        per_sequence.append(terms)
    if log_ratio == "token" and not token_level_loss:
        return sum(sum(terms) / len(terms) for terms in per_sequence) / len(per_sequence)
    return sum(sum(terms) for terms in per_sequence) / sum(len(terms) for terms in per_sequence)


def naive_gradient(rollouts, **kwargs):
    """∇ of the naive surrogate for the bigram policy's logits, in float64."""
    policy = Bigram(1, torch.float64)
    naive_surrogate(policy(rollouts["tokens"]), rollouts, **kwargs).backward()
    return policy.logits.grad


def relative_error(got, want):
    return ((got.double() - want).norm() / want.norm()).item()
