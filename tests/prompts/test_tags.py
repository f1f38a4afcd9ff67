import json

import pytest

from kimi_plugins.prompts.tags import CHOICES, tag, tagged


@pytest.mark.parametrize(
    ("question", "tags"),
    [
        ("Ann buys 3 apples for 2 dollars each. How much does she pay in total?", ("mathematics", "word problems")),
        ("Find the area of a triangle with a right angle and hypotenuse 5.", ("mathematics", "geometry")),
        (
            "A fair coin is flipped twice. What is the probability of two heads?",
            ("mathematics", "counting and probability"),
        ),
        ("Find the greatest common divisor of 12 and 18.", ("mathematics", "number theory")),
        ("Solve the equation $x^2 - 5x + 6 = 0$ for its roots.", ("mathematics", "algebra")),
        ("What is the velocity of a projectile with kinetic energy 5 joules?", ("physics", "physics")),
        ("Which enzymes copy DNA in cells?", ("biology", "biology")),
        ("$3x = 6$", ("mathematics", "algebra")),
        ("Hello", ("other", "other")),
        ("", ("other", "other")),
    ],
)
def test_tags(question, tags):
    assert tag(question) == tags
    assert tags[1] in CHOICES


def test_what_the_source_says_stays():
    row = {"question": "Hello", "discipline": "Intermediate Algebra"}
    assert tagged(row)[0] == row | {"domain": "mathematics"}
    row = {"question": "Hello", "domain": "games"}
    assert tagged(row)[0] == row | {"discipline": "other"}


@pytest.mark.slow
def test_most_real_word_problems_are_found(data):
    with (data / "gsm8k/train.jsonl").open(encoding="utf-8") as file:
        tags = [tag(json.loads(line)["question"]) for line in file]
    assert sum(found == ("mathematics", "word problems") for found in tags) > 0.9 * len(tags)
