r"""The reward: 1 exactly if the response ended by itself and its last \boxed{} holds the label."""

import pytest

from kimi_plugins.quickstart.reward import final_answer, reward_func

PROMPT = "47+85=\n"


def score(response: str, prompt: str = PROMPT, label: str = "132") -> float:
    return reward_func([prompt + response], [prompt], [label])["rewards"].item()


@pytest.mark.parametrize(
    "response, reward",
    [
        ("\\boxed{132}<eos>", 1),
        ("7+5=12 check: ok\n4+8+1=13 check: ok\n\\boxed{132}<eos>", 1),
        ("\\boxed{131}\\boxed{132}<eos>", 1),
        ("\\boxed{132}\n<eos>", 1),
        ("\\boxed{133}<eos>", 0),
        ("", 0),
        ("<eos>", 0),
        ("132<eos>", 0),
        ("\\boxed{132}", 0),
        ("\\boxed{132}7+5=12", 0),
        ("\\boxed{132}<eos>7", 0),
        ("\\boxed{132", 0),
        ("\\boxed{132<eos>", 0),
        ("\\boxed{132}\\boxed{131}<eos>", 0),
        ("\\boxed{132}\\boxed{13<eos>", 0),
        ("\\boxed{132}\\boxed{<eos>", 0),
        ("\\boxed{}<eos>", 0),
        ("\\boxed{1320}<eos>", 0),
        ("\\boxed{0132}<eos>", 0),
        ("\\boxed{132 }<eos>", 0),
        ("\\boxed{+132}<eos>", 0),
        ("\\boxed{\\boxed{132}}<eos>", 1),
        ("{132}<eos>", 0),
        ("boxed{132}<eos>", 0),
    ],
)
def test_truth_table(response, reward):
    assert score(response) == reward


def test_an_answer_in_the_prompt_does_not_count():
    prompt = "47+85=\n\\boxed{132}"
    assert score("<eos>", prompt) == 0
    assert score("}<eos>", "47+85=\n\\boxed{132") == 0
    assert score("\\boxed{132}<eos>", prompt) == 1


def test_an_empty_label_is_not_matched_by_a_missing_answer():
    assert score("<eos>", label="") == 0
    assert final_answer("<eos>") is None


def test_a_query_without_its_prompt_is_an_error():
    with pytest.raises(ValueError, match="does not begin with its prompt"):
        reward_func(["85=\n\\boxed{132}<eos>"], [PROMPT], ["132"])


def test_a_batch_is_graded_row_by_row():
    responses = ["\\boxed{132}<eos>", "7+5=13 check: wrong, redo\n\\boxed{1}<eos>", "7+5"]
    result = reward_func([PROMPT + response for response in responses], [PROMPT] * 3, ["132"] * 3)
    assert result["rewards"].tolist() == result["scores"].tolist() == [1, 0, 0]
    assert result["extra_logs"]["answered"].tolist() == [1, 1, 0]
    assert result["extra_logs"]["corrections"].tolist() == [0, 1, 0]
