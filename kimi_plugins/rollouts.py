"""A rollout batch as plain data for the run's log: how every prompt fared, and a few prompts with their responses."""

import zlib

from kimi_plugins.groups import by_prompt, success_rates, verdict
from kimi_plugins.rewards import labels

GAP_TOKENS = 256  # at the end of a response


def record(experiences: list, step: int, tokenizer, *, samples_per_prompt: int, groups: int) -> dict:
    """{"step", "groups": [[prompt id, mean score], …] of all prompts, "samples": the first `groups` of them in full}.

    experiences: OpenRLHF Experiences with advantages. The id is a checksum of prompt, label and images: the same
    prompt has the same id in every step.
    """
    scores = success_rates(experiences, samples_per_prompt).tolist()  # [P]
    sample_at = {
        index: (experience, row) for experience in experiences for row, index in enumerate(experience.index)
    }  # index in the rollout order → (experience, row)
    firsts = [sample_at[index] for index in range(0, len(sample_at), samples_per_prompt)]
    ids = [_id(*first) for first in firsts]
    advantages = by_prompt(experiences, samples_per_prompt, _mean_advantages).tolist()  # [P, k]
    samples = []
    for group, (experience, row) in enumerate(firsts[:groups]):
        members = [sample_at[group * samples_per_prompt + n] for n in range(samples_per_prompt)]
        responses = [
            _response(*member, tokenizer) | {"advantage": advantage}
            for member, advantage in zip(members, advantages[group], strict=True)
        ]
        samples.append(
            {"prompt": experience.prompts[row], "label": labels.plain(experience.labels[row]), "responses": responses}
        )
    return {"step": step, "groups": [list(pair) for pair in zip(ids, scores, strict=True)], "samples": samples}


def _id(experience, row: int) -> int:
    images = experience.images[row] if experience.images else None
    parts = [experience.prompts[row], labels.plain(experience.labels[row]), *(images or ())]
    return zlib.crc32("\0".join(map(str, parts)).encode(errors="surrogatepass"))


def _mean_advantages(experience):
    """[B]: the mean over a response's tokens; for a value-free policy they are all the same."""
    mask = experience.action_mask.float()  # [B, A]
    return (experience.advantages.float() * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def response_tokens(experience, row: int):
    """Token ids [A] of a response, also of those that the mask leaves out because earlier policies wrote them."""
    actions = experience.action_mask[row].nonzero().flatten()
    end = int(actions[-1]) + 1 if len(actions) else 0
    return experience.sequences[row][1:][end - int(experience.response_length[row]) : end]


def _response(experience, row: int, tokenizer) -> dict:
    tokens = response_tokens(experience, row)
    return {
        "text": tokenizer.decode(tokens, skip_special_tokens=False),
        "score": verdict(experience)[row].item(),
        "reward": experience.rewards[row].item(),
        "tokens": len(tokens),
        "truncated": bool(experience.truncated[row]),
    } | _gap(experience, row)


def _gap(experience, row: int) -> dict[str, float]:
    """{"gap": mean |log-prob of the engine − of the actor|} of the response's last GAP_TOKENS trained tokens.

    The newest policy wrote those, unless the response waited in a buffer; beside its length it shows whether the gap
    grows with the position. Empty if the run does not keep the engine's log-probs.
    """
    if experience.rollout_log_probs is None or experience.action_log_probs is None:
        return {}
    last = experience.action_mask[row].nonzero().flatten()[-GAP_TOKENS:]
    gap = experience.rollout_log_probs[row][last].float() - experience.action_log_probs[row][last].float()
    return {"gap": gap.abs().sum().item() / max(1, len(last))}
