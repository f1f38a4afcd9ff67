"""Math grading against labels made by hand, and against a second method on generated answers."""

import json
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from kimi_plugins.grading.extraction import NoAnswer, after_thinking, final_answers, opens_thinking
from kimi_plugins.grading.math.grade import grade, grade_answer
from kimi_plugins.grading.math.labels import clean, fault
from kimi_plugins.grading.math.notation import number, tidy
from kimi_plugins.grading.math.units import read_unit

PAIRS = [json.loads(line) for line in Path(__file__).with_name("math_pairs.jsonl").open(encoding="utf-8")]
CASES = [json.loads(line) for line in Path(__file__).with_name("math_cases.jsonl").open(encoding="utf-8")]
UNSEEN = [json.loads(line) for line in Path(__file__).with_name("math_unseen_pairs.jsonl").open(encoding="utf-8")]
SHARED = Path(__file__).parents[3] / "shared/data"
RECALL = 0.98


def response(row: dict) -> str:
    return row["response"] if "response" in row else rf"The answer is $\boxed{{{row['answer']}}}$."


@pytest.mark.parametrize("row", CASES, ids=lambda row: f"{row['kind']}: {row['reference']}")
def test_a_case_of_each_kind_that_graders_get_wrong(row):
    assert grade(row["response"], row["reference"]).correct is row["right"]


def test_pairs_that_were_written_before_the_grader_saw_them():
    verdicts = [(row, grade_answer(row["answer"], row["reference"])) for row in UNSEEN]
    assert [row for row, verdict in verdicts if verdict.correct and not row["correct"]] == []
    right = [verdict.correct for row, verdict in verdicts if row["correct"]]
    assert sum(map(bool, right)) >= RECALL * len(right)


@pytest.mark.slow
def test_no_wrong_answer_is_accepted_and_hardly_a_right_one_refused():
    verdicts = [(row, grade(response(row), row["reference"])) for row in PAIRS]
    assert [row for row, verdict in verdicts if verdict.correct is None] == []
    assert [row for row, verdict in verdicts if verdict.correct and not row["correct"]] == []
    right = [verdict for row, verdict in verdicts if row["correct"]]
    assert sum(verdict.correct for verdict in right) >= RECALL * len(right)


def test_the_labelled_set_is_what_it_is_said_to_be():
    counts = Counter(row["category"] for row in PAIRS)
    assert len(PAIRS) >= 800 and len(counts) >= 20 and min(counts.values()) >= 6
    assert 0.4 < sum(row["correct"] for row in PAIRS) / len(PAIRS) < 0.6
    keys = [(response(row), row["reference"]) for row in PAIRS]
    assert len(keys) == len(set(keys))


def test_every_reference_is_equal_to_itself():
    for row in PAIRS:
        verdict = grade_answer(row["reference"], row["reference"])
        assert verdict.correct or row["reference"] in (r"\frac{1}{0}",), row


def spelled(value: Fraction, rng: random.Random) -> str:
    """One of the ways to write a fraction."""
    ways = [rf"\frac{{{value.numerator}}}{{{value.denominator}}}", f"{value.numerator}/{value.denominator}"]
    factor = rng.randrange(2, 9)
    ways.append(rf"\dfrac{{{factor * value.numerator}}}{{{factor * value.denominator}}}")
    whole, rest = divmod(abs(value), 1)
    if whole and rest:
        ways.append(rf"{'-' if value < 0 else ''}{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}")
    digits, repeat = decimal(abs(value))
    sign = "-" if value < 0 else ""
    ways.append(f"{sign}{digits}" + (rf"\overline{{{repeat}}}" if repeat else ""))
    if not repeat:
        ways.append(f"{sign}{digits}e0")
        ways.append(rf"{sign}{digits} \times 10^{{0}}")
    return rng.choice(ways)


def decimal(value: Fraction) -> tuple[str, str]:
    """(terminating part, repeating digits) by long division."""
    whole, rest = divmod(value.numerator, value.denominator)
    places, seen = "", {}
    while rest and rest not in seen:
        seen[rest] = len(places)
        digit, rest = divmod(10 * rest, value.denominator)
        places += str(digit)
    start = seen.get(rest, len(places)) if rest else len(places)
    return (f"{whole}.{places[:start]}" if places else str(whole)), places[start:]


def test_numbers_in_all_spellings_against_exact_fractions():
    rng = random.Random(0)
    values = [Fraction(rng.randrange(-60, 60), rng.choice((1, 2, 3, 4, 6, 7, 8, 11, 12))) for _ in range(60)]
    right = 0
    for _ in range(2000):
        a, b = rng.choice(values), rng.choice(values)
        answer = spelled(a, rng)
        assert number(tidy(answer)).value == a, answer
        reference = spelled(b, rng)
        assert grade_answer(answer, reference).correct is (a == b), (answer, reference)
        right += a == b
    assert right > 20


def test_expressions_against_their_coefficients():
    rng = random.Random(1)

    def polynomial():
        return [rng.randrange(-3, 4) for _ in range(3)]

    def text(c):
        return rng.choice((f"{c[0]}x^2+{c[1]}x+{c[2]}", f"{c[2]}+x({c[1]}+{c[0]}x)", f"({c[0]}x+{c[1]})x+{c[2]}"))

    right = 0
    for _ in range(60):
        a = polynomial()
        b = rng.choice((a, polynomial()))
        answer, reference = text(a).replace("+-", "-"), text(b).replace("+-", "-")
        assert grade_answer(answer, reference).correct is (a == b), (answer, reference)
        right += a == b
    assert 10 < right < 50


@pytest.mark.parametrize(
    "text, factor, dimensions",
    [
        ("km/h", Fraction(5, 18), (("m", 1), ("s", -1))),
        (r"\text{ m/s}^2", Fraction(1), (("m", 1), ("s", -2))),
        (r"\text{ square feet}", Fraction("0.09290304"), (("m", 2),)),
        ("cents", Fraction(1, 100), (("dollar", 1),)),
        ("eggs per day", Fraction(1, 86400), (("egg", 1), ("s", -1))),
        (r"\text{ meters}^{3}", Fraction(1), (("m", 3),)),
    ],
)
def test_units_are_reduced_to_base_units(text, factor, dimensions):
    assert read_unit(text)[1:] == (factor, dimensions)


def test_the_final_answer_is_the_last_box_after_the_thinking():
    assert after_thinking("<think>a</think>b<think>c") == "b"
    assert final_answers(r"<think>\boxed{1}</think> \boxed{\frac{1}{2}} <|im_end|>") == [r"\frac{1}{2}"]
    assert final_answers(r"\boxed{1} or \boxed{2}") == ["1", "2"]
    assert final_answers(r"\boxed{1} and that is only half of what we want, so \boxed{2}") == ["2"]
    for broken in ("", "5", r"\boxed{5", r"\boxed{}", r"<think>\boxed{5}", r"\boxed{5}</think>"):
        with pytest.raises(NoAnswer):
            final_answers(broken)


@pytest.mark.parametrize(
    "opening, closing",
    [
        ("<think>", "</think>"),
        ("<THINK>", "</ think >"),
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),
        ("<reasoning>", "</reasoning>"),
        ("◁think▷", "◁/think▷"),
        ("[THINK]", "[/THINK]"),
        ("<seed:think>", "</seed:think>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ],
)
def test_thinking_ends_with_its_last_closing_tag_and_is_open_without_one(opening, closing):
    assert after_thinking(f"{opening}a{closing}b") == "b"
    assert after_thinking(f"a{closing}b{closing}c") == "c"
    assert after_thinking(f"b{opening}a") == "b"
    assert after_thinking(f"{opening}a{closing}b{opening}c") == "b"
    assert after_thinking("a", opened=True) == ""
    assert after_thinking(f"a{closing}b", opened=True) == "b"
    assert opens_thinking(f"Solve. {opening}\n") and not opens_thinking(f"Use {opening}{closing} tags.")
    assert not opens_thinking("Solve.")


@pytest.mark.parametrize(
    "response, pattern, answers",
    [
        ("so\n#### 42", "####", ["42"]),
        ("#### 41\nno, all that was wrong, I have to do it again:\n#### 42\n", "####", ["42"]),
        ("#### 41\n#### 42", "####", ["41", "42"]),
        ("#### 42<|endoftext|>", "####", ["42"]),
        ("Answer: <42>", "<(.*?)>", ["42"]),
        ("A: 1\nA: 2\nA: 3", "^A:", ["1", "2", "3"]),
    ],
)
def test_a_pattern_declares_the_answer(response, pattern, answers):
    assert final_answers(response, pattern) == answers


def test_a_pattern_that_is_none_is_named():
    with pytest.raises(ValueError, match="answer pattern '\\(' is not a regular expression"):
        final_answers("5", "(")


@pytest.mark.parametrize(
    "response, answer",
    [
        (r"$-\boxed{5}$", "-5"),
        (r"$x = - \boxed{5}$", "-5"),
        (r"it is -\boxed{5}", "-5"),
        (r"$\pm\boxed{3}$", "3, -3"),
        (r"$-\boxed{a+b}$", "-a-b"),
        (r"the answer - \boxed{5}", "5"),
        (r"- \boxed{5}", "5"),
        (r"$10-\boxed{5}$", "5"),
        (r"$\boxed 5$", "5"),
        (r"\boxed 12.", "12"),
    ],
)
def test_a_sign_before_the_box_belongs_to_the_answer(response, answer):
    assert grade(response, answer).correct
    assert not grade(response, "7").correct


@pytest.mark.parametrize(
    "label, answer",
    [
        ("She has 3 + 6 = <<3+6=9>>9 apples.\n#### 9", "9"),
        ("#### 1,234", "1,234"),
        (r"Half of 9 is $\frac92$. So $x = \boxed{\frac{9}{2}}$.", r"\frac{9}{2}"),
        ("9 (apples)", r"9\text{ apples}"),
        ("(1, 2)", "(1, 2)"),
    ],
)
def test_the_answer_of_a_label(label, answer):
    assert clean(label) == answer
    assert fault(label) is None


@pytest.mark.parametrize("label", ["", " ", r"\frac{1}{", "#### ", r"so \boxed{", "3 +", "(1,", "x=", r"\sqrt{}"])
def test_labels_that_no_answer_can_match(label):
    assert fault(label)


@pytest.mark.parametrize("label", [r"p\lor q", "even", "第一象限", r"\{1,2\}", "x>3", "12 cm", "[0,1)"])
def test_labels_that_answers_can_match(label):
    assert fault(label) is None and grade_answer(label, label).correct


def mutated(text: str, rng: random.Random) -> str:
    """The text with one digit, letter or sign changed."""
    place = rng.choice([n for n, character in enumerate(text) if character in "0123456789+-xyn"])
    choices = {"+": "-", "-": "+", "x": "yX", "y": "xY", "n": "mN"}.get(text[place], "0123456789")
    changed = rng.choice([character for character in choices if character != text[place]])
    return text[:place] + changed + text[place + 1 :]


def test_mutations_of_references_are_never_accepted():
    rng = random.Random(2)
    references = [
        *(r"\frac{3x+7}{2y-9}", "x^3-12x+5", r"2^{61}-1", r"\sqrt{37}+41", r"(3,-8)", r"[2,17)", r"n!+13", r"|x-28|"),
        *(
            r"\lfloor\frac{n}{7}\rfloor",
            r"x\ge 19",
            r"\sin(3x+11)",
            r"y=14x-27",
            r"\begin{pmatrix}12\\47\end{pmatrix}",
        ),
        *(r"\ln(x+23)\cdot 6", r"\binom{n}{4}", r"38\text{ cm}", r"10^{-46}", r"\frac{1}{97!}", r"\gcd(n,72)"),
    ]
    for reference in references:
        for _ in range(12):
            answer = mutated(reference, rng)
            assert not grade_answer(answer, reference).correct, (answer, reference)


def test_a_reference_that_cannot_be_read_is_no_wrong_answer():
    assert grade_answer("5", r"\frac{1}{").correct is None
    assert grade_answer("5", " ").correct is None
    assert grade_answer(r"\frac{ 1}{", r"\frac{1}{").correct is True


def rows(name: str) -> list[dict]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def plain(answer: str) -> str:
    return answer.replace(r"\dfrac", r"\frac").replace(r"^\circ", "")


@pytest.mark.slow
def test_math500_solutions_are_right_and_other_problems_answers_wrong():
    problems = rows("competition/math500.jsonl")
    for row in problems:
        assert grade(row["solution"], row["answer"]).correct, row["answer"]
    for row, other in zip(problems, problems[7:], strict=False):
        verdict = grade(rf"\boxed{{{other['answer']}}}", row["answer"])
        assert verdict.correct is not None
        same = plain(other["answer"]) == plain(row["answer"])
        assert verdict.correct is same, (other["answer"], row["answer"])


@pytest.mark.slow
def test_gsm8k_solutions_are_graded_as_people_did():
    solutions = rows("gsm8k/model_solutions.jsonl")
    for row in solutions:
        assert grade(row["completion"], row["gold"], pattern="^A:").correct is row["label"], row
