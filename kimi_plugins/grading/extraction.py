"""The final answer of a response: what comes after the thinking, and in it the last box or the declared pattern."""

import re
from collections.abc import Iterator

# Tags around the thinking, of the common models; a closing one of any spelling closes.
_NAMES = r"think(?:ing)?|thoughts?|reasoning|scratchpad|seed:think"
_OPENING = re.compile(
    rf"<\s*(?:{_NAMES})\s*>|◁think▷|\[think(?:ing)?\]|<\|(?:begin_of_thought|start_thinking|think)\|>|<\|channel\|>\s*analysis\s*<\|message\|>",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"<\s*/\s*(?:{_NAMES})\s*>|◁/think▷|\[/think(?:ing)?\]|<\|(?:end_of_thought|end_thinking|/think)\|>|<\|channel\|>\s*final\s*<\|message\|>",
    re.IGNORECASE,
)
BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_ANY_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
UNBRACED = re.compile(r"\\boxed\s*(\d+(?:\.\d+)?)(?![\w^]|\.\d)")
# A sign before the box, inside of mathematics or close to it; "- \\boxed" in a text is a dash.
_SIGN = re.compile(r"(?:(?<![\w)}\]\s])|(?<=[=$(\[:&])|(?<=\s))([-−]|\\pm)$|[=$(\[&]\s*([-−]|\\pm)\s+$")
BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
SPECIAL_TOKENS = re.compile(r"(?:(?:<[|｜][^<>|｜\s]{1,40}[|｜]>|</?s>|<(?:eos|pad|end_of_turn)>)\s*)+$")
TAIL = 400  # characters at the end in which special tokens are looked for
# Answers with no more words than this between them are one statement: "\boxed{3} or \boxed{4}".
WORDS_WITHIN_STATEMENT = 5


class NoAnswer(ValueError):
    """The response has no final answer; the message says why."""


def final_answers(response: str, pattern: str | None = None) -> list[str]:
    r"""The answers of the final statement, usually one, in their order.

    Args:
        response: without the prompt; special tokens at its end are ignored.
        pattern: regular expression in place of ``\boxed{…}``: its first group, or the rest of the line after it, as
            for ``####``.

    Raises:
        NoAnswer: nothing after the thinking, no box, or the last box is empty or does not close.
        ValueError: the pattern is not a regular expression.
    """
    text = without_special_tokens(after_thinking(response))
    spans = list(_boxes(text) if pattern is None else _matches(text, pattern))
    if not spans:
        raise NoAnswer("no final answer" if text.strip() else "nothing after the thinking")
    answers = [spans[-1]]
    for span in reversed(spans[:-1]):
        if len(text[span[1] : answers[0][0]].split()) > WORDS_WITHIN_STATEMENT:
            break
        answers.insert(0, span)
    contents = [answer.strip() for *_, answer in answers if answer is not None]
    if len(contents) < len(answers):
        raise NoAnswer("the final answer does not close")
    if not all(contents):
        raise NoAnswer("the final answer is empty")
    return contents


def without_special_tokens(text: str) -> str:
    """The text without special tokens and white space at its end."""
    text = text.rstrip()
    return text[:-TAIL] + SPECIAL_TOKENS.sub("", text[-TAIL:])


def after_thinking(response: str, *, opened: bool = False) -> str:
    """What follows the last closing tag; nothing if the thinking is open to the end.

    opened: the prompt opened the thinking, see opens_thinking.
    """
    end = max((match.end() for match in _CLOSING.finditer(response)), default=None)
    if end is None and opened:
        return ""
    answer = response[end or 0 :]
    opening = _OPENING.search(answer)
    return answer[: opening.start()] if opening else answer


def opens_thinking(prompt: str) -> bool:
    """Whether the response to a prompt begins inside the thinking, as the prompt leaves a tag open."""
    opening, closing = (
        max((match.start() for match in tag.finditer(prompt)), default=-1) for tag in (_OPENING, _CLOSING)
    )
    return opening > closing


def _boxes(text: str) -> Iterator[tuple[int, int, str | None]]:
    """(start, end, content) of the outermost boxes; content None if the box is not closed."""
    end = 0
    for match in _ANY_BOX.finditer(text):
        if match.start() < end:
            continue  # inside the one before
        if unbraced := UNBRACED.match(text, match.start()):
            content, end = unbraced[1], unbraced.end()
        elif BOX.match(text, match.start()):
            content, end = _braced(text, match.end())
        else:
            continue
        if content and content.strip() and (sign := _SIGN.search(text, max(0, match.start() - 20), match.start())):
            content = f"{sign[1] or sign[2]}{_grouped(content.strip())}"
        yield match.start(), end, content


def _grouped(content: str) -> str:
    """The content, in parentheses unless a sign before it changes all of it anyway."""
    return content if re.fullmatch(r"[\w.,\\{}/^%° ]+", content) else f"({content})"


def _braced(text: str, start: int) -> tuple[str | None, int]:
    depth = 0
    for match in BRACES.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0 and match[0] == "}":
            return text[start + 1 : match.start()], match.end()
    return None, len(text)


def compiled(pattern: str) -> re.Pattern:
    """The pattern, compiled. Raises ValueError if it is not a regular expression."""
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ValueError(f"the answer pattern {pattern!r} is not a regular expression: {error}") from error


def _matches(text: str, pattern: str) -> Iterator[tuple[int, int, str]]:
    found = compiled(pattern)
    for match in found.finditer(text):
        if found.groups:
            yield match.start(), match.end(), match[1] or ""
        else:
            end = text.find("\n", match.end())
            end = len(text) if end < 0 else end
            yield match.start(), end, text[match.end() : end]
