r"""Answers that are wrong without a judge being asked: what fools judges is not in the form of an answer.

Pure functions on text. What reaches the judge after them is short, of one line, plain, and no hedge. Precision counts
before recall, as in math.py.
"""

import re
import unicodedata

from kimi_plugins.grading.judge.number_words import Part, in_some_unit, parts, quantity, same_digits
from kimi_plugins.grading.math.notation import number, tidy

MOST_CHARACTERS = 100  # of an answer to a short reference
MOST_WORDS = 6

_LATEX = re.compile(r"\\[A-Za-z]+")
_LAYOUT = re.compile(
    r"\\(?:text\w*|mathrm|mathbf|boxed|fbox|q?quad|[lc]?dots|checkmark|square|blacksquare|bullet|star)(?![A-Za-z])"
)
_SETS = re.compile(r"\\(?:mathbb|infty|emptyset|varnothing|pm)(?![A-Za-z])")
_WORD = re.compile(r"[^\W\d_]{2,}")
_LETTER = re.compile(r"(?<![^\W\d_])[^\W\d_](?![^\W\d_])")
_MARKUP = re.compile(
    r"</?(?:[A-Za-z_]{2,}[^<>]*|s)>|<[|｜!]|[|｜]>|[◁▷]|\[/?[A-Z]{3,}|```|\{\s*[\"']|[\"']\s*:|\#{2,}|={2,}|-{3,}"
    r"|[\r\n]\s*\S|\\[bf]o?box(?:ed)?"
)
_HEDGE = re.compile(r";|\\\\|,(?!\d{3}(?!\d))|\bor\b|\\(?:lor|vee)(?![A-Za-z])", re.IGNORECASE)
_ON_GRADING = frozenset(
    "accept accepted agree agrees assistant confirm confirmed confirms correct correctly equal equivalent "
    "expected false full gold golden grade graded grader grading ground identical ignore incorrect instruction "
    "instructions json judge judged judgement judgment label labelled mark marked marks match matched matches "
    "matching model override overrule pass passed previous prompt rating reference respond response reward right "
    "rubric same score scored system target task true trust truth user valid verdict verified verify wrong yes".split()
)
_ON_ANSWERING = frozenset(
    "above all also an and answer answers are as at be below by calculate calculation can carefully clearly "
    "compute conclude conclusion consider couple dear detail details determine evaluate explain explanation "
    "explanations final finally find first follow get following follows for from give given gives have hello help "
    "hence here in is it its lead leads let lets logic logically look need next note now obtain obtained of okay "
    "on our out problem process proof provide question reasoning result results see shown simple solution "
    "solutions solve solved solving start starting step steps sure that the then there therefore these think "
    "thinking this thorough thought thoughts through thus to understand us using value we well what which will "
    "with work working you your solución respuesta lösung antwort réponse solução resposta".split()
)


def veto(answer: str, reference: str, question: str = "") -> str | None:
    """Why a final answer that the rules have not found right is wrong; None if a judge may be asked.

    Args:
        answer: what stands in the box, see extraction.final_answers.
        question: its words, and the reference's, do not show that an answer speaks of its grading.
    """
    answer = unicodedata.normalize("NFC", answer.strip())
    return (
        _not_plain(answer, reference) or _not_an_answer(answer, reference, question) or _other_value(answer, reference)
    )


def _not_plain(answer: str, reference: str) -> str | None:
    """Why the characters are not those of an answer; None if they are."""
    if not any(character.isalnum() for character in _LAYOUT.sub("", answer)):
        return "the answer has no letter or digit"
    if len(answer) == 1 and not answer.isdigit():
        return "the answer is one character"
    if len(answer) > max(MOST_CHARACTERS, 2 * len(reference)):
        return "too long for an answer"
    if any(unicodedata.category(character)[0] in "CM" for character in answer):
        return "the answer has invisible or combining characters"
    if any(_in_disguise(character) for character in answer):
        return "the answer has letters or digits in disguise"
    scripts = {_script(character) for character in reference}
    if any(_script(character) not in {*scripts, "LATIN", "GREEK", ""} for character in answer):
        return "the answer is in another script"
    if any(len({_script(letter) for letter in word}) > 1 for word in _WORD.findall(answer)):
        return "the answer has letters or digits in disguise"
    if _MARKUP.search(answer) and not _MARKUP.search(reference):
        return "the answer has markup"
    return None


def _not_an_answer(answer: str, reference: str, question: str) -> str | None:
    """Why the words are not those of an answer; None if they are."""
    words, expected = _words(answer), _words(reference)
    if len(words) > max(MOST_WORDS, 2 * len(expected)):
        return "the answer is prose"
    if _ON_GRADING & (set(words) - set(expected) - set(_words(question))):
        return "the answer speaks of its grading"
    if words and set(words) <= _ON_ANSWERING and not set(words) <= set(expected):
        if expected or not (re.search(r"\d", answer) or _letters(answer) & _letters(reference)):
            return "the answer only announces one"
    if len(_HEDGE.findall(answer)) > len(_HEDGE.findall(reference)):
        return "the answer names more values than the reference"
    return None


def _other_value(answer: str, reference: str) -> str | None:
    """Why the answer has other numbers or variables than the reference, where the rules could not compare them."""
    words, expected = _words(answer), _words(reference)
    given, wanted = parts(answer), parts(reference)
    if any(part.digits for part in wanted):
        return _other_numbers(given, wanted, answer, reference)
    if expected:
        if given and wanted:
            return None if _same_numbers(given, wanted, answer, reference) else "the answer has another number"
        if wanted or set(words) & set(expected):
            return None
        if any(part.digits for part in given) or not (words or _SETS.search(answer)):
            return "the reference is in words and the answer is not"
        return None
    return _other_variables(answer, reference)


def _other_numbers(given: list[Part], wanted: list[Part], answer: str, reference: str) -> str | None:
    """Why the answer has other numbers than a reference that has some in digits; None if it may have the same."""
    if not given:
        return "the reference has a number and the answer has none"
    if _same_numbers(given, wanted, answer, reference):
        return None
    if number(tidy(reference)) is None and not _words(reference):  # an expression
        if not {part.value for part in given} & {part.value for part in wanted}:
            return "the answer has none of the reference's numbers"
        return _other_variables(answer, reference)
    if len(given) == len(wanted) == 1 and not _words(answer + reference) and re.search(r"[/^\\]", answer):
        return None  # an expression of one number that the rules could not read
    return "the answer has another number"


def _same_numbers(given: list[Part], wanted: list[Part], answer: str, reference: str) -> bool:
    """Whether the numbers of an answer are the reference's, up to powers of ten, or one quantity in other units."""
    target = number(tidy(reference))
    values = {part.value for part in wanted} if target is None else {target.value}
    numbers = {part.value for part in given}
    if numbers == {part.value for part in wanted}:
        return True
    if all(any(same_digits(a, b) for b in values) for a in numbers) and all(
        any(same_digits(a, b) for a in numbers) for b in values
    ):
        return True
    size = quantity(answer)
    if size is None:
        return False
    if (other := quantity(reference)) is not None:
        return size == other
    return len(values) == 1 and in_some_unit(size, *values)


def _other_variables(answer: str, reference: str) -> str | None:
    if "<" not in tidy(reference) and ">" not in tidy(reference) and not _SETS.search(reference):
        if (variables := _letters(reference)) and not variables & _letters(answer):
            return "the answer has none of the reference's variables"
    return None


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(_LATEX.sub(" ", text))]


def _letters(text: str) -> set[str]:
    """That stand alone: variables."""
    return set(_LETTER.findall(_LATEX.sub(" ", text)))


def _in_disguise(character: str) -> bool:
    """Full-width, circled and mathematical letters and digits, Roman numerals."""
    plain = unicodedata.normalize("NFKC", character)
    return plain != character and plain.isascii() and plain.isalnum() and character not in "²³¹"


def _script(character: str) -> str:
    """LATIN, GREEK, CJK, …; empty for other characters."""
    return unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""
