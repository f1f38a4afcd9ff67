import pytest
from edits import WRAPPINGS, changed_number, respelled

from kimi_plugins.prompts.canonical import answer_key, problem

TEXTS = [
    "A farmer plants 14 rows of 9 trees and loses 11 trees to frost. How many trees remain?",
    "Find the sum of all positive divisors of $84$.",
    "Let $f(x)=3x^2-5$. What is $f(-2)+f(3)$?",
    "Solve $\\frac{x}{3}+\\frac{x}{6}=5$ for $x$.",
]
ROOTS = (
    "Let $a_{1}\\leq a_{2}$ be the roots of $x^2-\\frac{7}{2}x+(k-1)=0$ with $k\\leq 3$, and let $b$ be their "
    "product. For which $k$ is $\\frac{a_{1}}{a_{2}}$ smallest, and what is $b$ then?"
)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_leave_the_core(wrapping):
    for text in TEXTS:
        wrapped, alone = problem(wrapping.replace("{problem}", text)), problem(text)
        if "Hello" in wrapping:  # words about something else remain, outside of the core
            assert wrapped.core == alone.core
        else:
            assert wrapped == alone


def test_spellings_of_latex_are_one():
    others = [ROOTS.replace("{1}", "1").replace("{2}$", "2$"), ROOTS.replace("a_{1}", "a_1"), *respelled(ROOTS)]
    assert len(others) >= 8
    for other in others:
        assert problem(other) == problem(ROOTS)
    assert problem("$x \\ge \\tfrac12$") == problem("x≥½") == problem("$x\\geq\\frac{1}{2}$")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("请解答：小明有七支铅笔，还剩几支？", "小明有七支铅笔，还剩几支？"),
        ("例3．小明有７支铅笔,还剩几支?", "小明有7支铅笔，还剩几支？"),
        ("（本题满分5分）小明有7支铅笔，还剩几支？请把最终答案写在\\boxed{}中。", "小明有7支铅笔，还剩几支？"),
    ],
)
def test_scripts_without_spaces(one, other):
    assert problem(one) == problem(other)


@pytest.mark.parametrize("text", [*TEXTS, ROOTS, "小明有7支铅笔，还剩几支？"])
def test_one_changed_number_is_another_problem(text):
    assert problem(changed_number(text)).numbers != problem(text).numbers


def test_numbers_in_words_count():
    assert problem("He has seven.").numbers != problem("He has eight.").numbers
    assert problem("小明有七支铅笔").numbers != problem("小明有八支铅笔").numbers
    assert problem("一共几支").numbers == problem("总共几支").numbers


def test_instructions_alone_are_the_problem():
    assert problem("Give the answer.").tokens == ["give", "the", "answer"]


@pytest.mark.parametrize(
    "same",
    [
        ("80", "$80$", "80.0", "\\boxed{80}", "x = 80", "80.", "+80"),
        ("1/2", "0.5", "\\frac12", "$\\dfrac{1}{2}$", "½", "2/4"),
        ("1234", "1,234", "1{,}234"),
        ("-3", "−3", "$-3$"),
        ("50%", "50\\%"),
        ("(1, 2)", "\\left(1,2\\right)"),
        ("x^{2}+1", "x^2 + 1"),
    ],
)
def test_spellings_of_an_answer_are_one(same):
    assert len({answer_key(answer) for answer in same}) == 1


def test_other_answers_are_others():
    answers = ["80", "81", "-80", "80%", "0.80", "80 cm", "x", "(8, 0)", "8,0", "x+1", "x-1"]
    assert len({answer_key(answer) for answer in answers}) == len(answers)
