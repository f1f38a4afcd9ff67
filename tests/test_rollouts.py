"""What rollouts.jsonl keeps of a batch, whatever order and padding its experiences came in."""

import zlib

import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from kimi_plugins.rollouts import GAP_TOKENS, record

K = 2


class Letters:
    def decode(self, tokens, skip_special_tokens):
        assert not skip_special_tokens
        return "".join(chr(token) for token in tokens)


def experience(prompt, text, *, place, score, trained=None, advantage=0.5, truncated=False):
    """One response, behind a prompt of its own length; trained: how many tokens at its end the mask leaves in."""
    tokens = torch.tensor([[*map(ord, prompt + text)]])
    mask = torch.zeros(1, tokens.shape[1] - 1, dtype=torch.long)
    mask[:, tokens.shape[1] - 1 - (len(text) if trained is None else trained) :] = 1
    return Experience(
        sequences=tokens,
        attention_mask=torch.ones_like(tokens),
        action_mask=mask,
        advantages=advantage * mask.float(),
        prompts=[prompt],
        labels=["42"],
        images=[None],
        mm_train_inputs=[None],
        rewards=torch.tensor([score - 0.1]),
        scores=torch.tensor([score]),
        response_length=torch.tensor([len(text)]),
        truncated=torch.tensor([truncated]),
        total_length=torch.tensor([float(tokens.shape[1])]),
        index=[place],
        info={},
    )


def batch():
    return [
        experience("first:", "wrong", place=0, score=0.0, advantage=-0.5),
        experience("first:", "right", place=1, score=1.0, trained=2),
        experience("second, longer:", "a", place=2, score=1.0),
        experience("second, longer:", "bb", place=3, score=1.0, truncated=True),
    ]


def test_prompts_scores_and_the_first_prompts_in_full():
    kept = record(batch(), 7, Letters(), samples_per_prompt=K, groups=1)
    assert kept["step"] == 7
    ids = [zlib.crc32(f"{prompt}\0{42}".encode()) for prompt in ("first:", "second, longer:")]
    assert kept["groups"] == [[ids[0], 0.5], [ids[1], 1.0]]
    [sample] = kept["samples"]
    assert (sample["prompt"], sample["label"]) == ("first:", "42")
    wrong, right = sample["responses"]
    assert wrong == {
        "text": "wrong",
        "score": 0.0,
        "reward": pytest.approx(-0.1),
        "tokens": 5,
        "truncated": False,
        "advantage": -0.5,
    }
    # Only "ht" was trained on; what is shown is the response.
    assert right["text"] == "right" and right["tokens"] == 5 and right["advantage"] == 0.5


def test_the_gap_is_that_of_the_last_tokens():
    one = experience("12", "x" * (GAP_TOKENS + 10), place=0, score=0.0)
    two = experience("12", "ab", place=1, score=0.0)
    for each in (one, two):
        each.action_log_probs = -torch.ones(each.action_mask.shape)
        each.rollout_log_probs = each.action_log_probs.clone()
    one.rollout_log_probs[0, :11] += 5.0  # the prompt's last token and the response's first ten
    one.rollout_log_probs[0, -1] -= 0.5
    two.rollout_log_probs[0] += torch.tensor([9.0, 0.25, -0.5])
    [sample] = record([one, two], 1, Letters(), samples_per_prompt=K, groups=1)["samples"]
    gaps = [response["gap"] for response in sample["responses"]]
    assert gaps == pytest.approx([0.5 / GAP_TOKENS, 0.375])


def test_padding_and_order_do_not_matter():
    first, second, third, fourth = batch()
    padded = Experience.concat_experiences([fourth, first], 0), Experience.concat_experiences([third, second], 0)
    assert record([*padded], 7, Letters(), samples_per_prompt=K, groups=2) == record(
        batch(), 7, Letters(), samples_per_prompt=K, groups=2
    )


def test_an_empty_response():
    empty = [experience("p:", "", place=n, score=0.0) for n in range(K)]
    [sample] = record(empty, 1, Letters(), samples_per_prompt=K, groups=1)["samples"]
    assert [response["text"] for response in sample["responses"]] == ["", ""]


def test_the_same_question_about_another_image_is_another_prompt():
    ids = []
    for images in (["a.png"], ["b.png"], ["a.png", "b.png"], [], None):
        group = [experience("how many?", "1", place=place, score=1.0) for place in range(K)]
        for one in group:
            one.images = [images]
        ids.append(record(group, 1, Letters(), samples_per_prompt=K, groups=0)["groups"][0][0])
    assert len(set(ids)) == 4 and ids[-1] == ids[-2]
