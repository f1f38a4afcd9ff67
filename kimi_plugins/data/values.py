"""Values of a row's columns: messages, the one answer, the choices."""

import ast
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from kimi_plugins.data.containers import value_at
from kimi_plugins.data.json_rows import Number
from kimi_plugins.grading.extraction import BOX, NoAnswer, after_thinking, final_answers

PLACEHOLDER = "<image>"  # where OpenRLHF puts an image into a prompt
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class BadRow(ValueError):
    """A row that cannot be used; the message says why."""


SOLUTIONS = {"solution", "rationale", "explanation", "reasoning", "gold_standard_solution", "full_solution"}
SOLUTIONS |= {"ground_truth_solution"}
RESPONSES = ("response", "output", "completion")  # what a model or a person said, as in sets for fine-tuning
_ANSWER_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_ROLES |= {"developer": "developer", "tool": "tool", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}


def asks(message: dict[str, str]) -> bool:
    return message["role"] == "user"


def filled(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(item is not None for item in value.values())
    return not isinstance(value, list) or any(filled(item) for item in value)


def columns_of(row: dict) -> str:
    return ", ".join(map(str, row)) or "no columns"


def kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", bool: "true or false", bytes: "bytes", type(None): "null"}
    return names.get(type(value), "a number")


def as_object(row: Any) -> dict:
    if isinstance(row, list) and row and isinstance(row[0], dict):  # Open-Reasoner-Zero: a row is its conversation
        return {"conversations": row}
    if not isinstance(row, dict):
        raise BadRow(f"is a {type(row).__name__}, not an object")
    if {"0", "1"} <= set(row) and all(key.isdigit() and isinstance(row[key], dict | None) for key in row):
        return {"conversations": [row[key] for key in sorted(row, key=int) if row[key] is not None]}
    return row


def text_of(row: dict, name: str, role: str) -> str:
    value = value_at(row, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRow(f"no {role}: {name} is {'null' if value is None else 'empty'}")
    if not isinstance(value, str):
        raise BadRow(f"no {role}: {name} is {kind(value)}, not text")
    return value


def label(row: dict, names: Iterable[str]) -> str | None:
    for name in names:
        value = value_at(row, name)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            value = ", ".join(value)
        if filled(value) and not isinstance(value, list | dict):
            return str(value).strip()
    return None


def literal(text: str) -> Any:
    """The value that a JSON or Python literal stands for; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def parsed_messages(value: Any, name: str) -> list[Any] | None:
    """The messages of a column, None if it holds text.

    Raises:
        BadRow: it looks like messages in a text that cannot be read, or is neither text nor messages.
    """
    if isinstance(value, str):
        start = value.lstrip()[:40]
        if not re.match(r"\[\s*\{\s*['\"](?:role|from|content|value|user)['\"]\s*:", start):
            return None
        parsed = literal(value)
        if not isinstance(parsed, list):
            raise BadRow(f"no question: {name} is text that looks like messages and is not valid JSON")
        value = parsed
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return None
    if value and all(isinstance(turn, dict) and {"user", "assistant"} <= set(turn) for turn in value):
        return [
            {"role": role, "content": turn[role]} for turn in value for role in ("user", "assistant") if turn[role]
        ]
    if value and not all(isinstance(message, dict) for message in value):
        raise BadRow(f"no question: {name} is a list, not text or messages")
    return value


def message_of(message: dict, images: list[Any]) -> dict[str, str]:
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if content is None and isinstance(message.get("ground_truth"), dict):
        content = message["ground_truth"].get("value")
    if role is None or content is None:
        raise BadRow("a message has no 'role' or no 'content'")
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        content = "".join(_part(part, images) for part in content)
    if (
        isinstance(content, int | float)
        and not isinstance(content, bool)
        and role in _ROLES
        and _ROLES[role] == "assistant"
    ):
        content = str(content)  # an answer
    if not isinstance(content, str):
        raise BadRow(f"the content of a message is {kind(content)}")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRow(f"a message has the role {role!r}; known are {', '.join(_ROLES)}")
    return {"role": _ROLES[role], "content": content}


def _part(part: Any, images: list[Any]) -> str:
    """The text of one part of a message's content; an image goes to `images` and leaves a placeholder."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "input_text", "output_text") and isinstance(
        text := part.get("text", part.get("content")), str
    ):
        return text
    if kind in ("image", "image_url", "input_image"):
        reference = next(
            (part[name] for name in ("image", "path", "url", "image_url") if filled(part.get(name))), None
        )
        if isinstance(reference, dict) and "url" in reference:
            reference = reference["url"]
        if reference is not None:
            images.append(reference)
        return PLACEHOLDER
    raise BadRow(f"a message has a part of type {kind!r}; only text and image are known")


def answer_text(value: Any, name: str, *, solution: bool = False) -> str:
    """The one answer that a value holds, as text.

    Taken are what `<answer>` tags hold, what follows GSM8K's ####, the last box; a solution must have one of them.

    Raises:
        BadRow: there is none, or more than one.
    """
    if isinstance(value, str) and (start := value.strip()[:1]) in ("{", "["):
        parsed = literal(value)
        if isinstance(parsed, dict) and (start == "{") and set(parsed) & _ANSWER_KEYS:
            value = parsed
        elif isinstance(parsed, list) and value.strip().startswith(('["', "['")):
            value = parsed
        elif isinstance(parsed, dict) and parsed and all(isinstance(key, str) for key in parsed):
            raise BadRow(f"no answer: {name} is an object with {columns_of(parsed)}, not one answer")
    if isinstance(value, dict):
        keys = [key for key in value if key in _ANSWER_KEYS and value[key] is not None]
        if not keys:
            raise BadRow(f"no answer: {name} is an object with {columns_of(value)}, not one answer")
        return answer_text(value[keys[0]], f"{name}.{keys[0]}")
    if isinstance(value, list):
        texts = list(dict.fromkeys(answer_text(item, name, solution=solution) for item in value if item is not None))
        if len(texts) != 1:
            raise BadRow(f"no answer: {name} is a list of {len(texts)} different answers, not one answer")
        return texts[0]
    if value is None:
        raise BadRow(f"no answer: {name} is null")
    if isinstance(value, bytes):
        raise BadRow(f"no answer: {name} is bytes, not text")
    if isinstance(value, float) and not isinstance(value, Number) and not math.isfinite(value):
        raise BadRow(f"no answer: {name} is {value}")
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    text = str(int(value) if whole else value).strip()
    if tags := _ANSWER_TAGS.findall(text):
        text = tags[-1].strip()
    elif "####" in text:
        text = text.rpartition("####")[2].strip().partition("\n")[0].strip()
    elif solution or BOX.search(text):
        text = _last_box(text, name)
    if not text:
        raise BadRow(f"no answer: {name} is empty")
    return text


def spoken_answer(text: str) -> str:
    """The answer that a conversation's last message gives.

    Raises:
        BadRow: it is a long response without a final answer that is marked.
    """
    said = after_thinking(text).strip()
    if (lead := _SPOKEN_LEAD.match(said)) and "\n" not in said:
        said = said[lead.end() :].removesuffix(".")
    marked = BOX.search(said) or "####" in said or _ANSWER_TAGS.search(said)
    if not marked and len(said.split()) > LONGEST_SPOKEN:
        raise BadRow(f"no answer: the last message has {len(said.split())} words and no final box")
    return answer_text(said, "the last message")


def verbatim_text(value: Any, name: str) -> str:
    """A label as text: as it is written in the data, an object as JSON.

    Raises:
        BadRow: it is missing, or neither text nor a number nor an object.
    """
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool | list | bytes) or (isinstance(value, str) and not value.strip()):
        empty = "empty" if isinstance(value, str) else kind(value)
        raise BadRow(f"no answer: {name} is {empty}, not text or a number")
    if isinstance(value, float) and not isinstance(value, Number) and not math.isfinite(value):
        raise BadRow(f"no answer: {name} is {value}")
    return str(value)


_SPOKEN_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?(?:the )?(?:final |correct )?answer(?: is:?|:)\s*(?=\S)", re.IGNORECASE
)
LONGEST_SPOKEN = 30  # words of a message that is an answer by itself
_ANSWER_KEYS = {"ground_truth", "value", "answer", "target", "label", "final_answer"}


def _last_box(text: str, name: str) -> str:
    try:
        return ", ".join(dict.fromkeys(final_answers(text)))
    except NoAnswer as error:
        raise BadRow(f"no answer: {name} has no final box ({error})") from error


# Choices

_OPTION_LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[).:、．]\s*")


def parsed_choices(value: Any, name: str) -> list[str]:
    """The options of a column: a list, {"text": […]}, {"A": …}, or such a thing or "A. x; B. y" as text.

    Raises:
        BadRow: it is something else.
    """
    if isinstance(value, str):
        parsed = literal(value) if value.lstrip()[:1] in ("[", "{", "(") else None
        value = _split_options(value) if parsed is None else parsed
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = value["text"]
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value) if value[key] is not None]
    if isinstance(value, tuple):
        value = list(value)
    if value == []:
        return []  # an open question
    if not isinstance(value, list) or any(isinstance(item, list | dict | None) for item in value):
        raise BadRow(f"no choices: {name} is not a list of options")
    texts = [str(item).strip() for item in value]
    labels = [_OPTION_LABEL.match(text) for text in texts]
    if all(label and label[1].upper() == letter for label, letter in zip(labels, LETTERS, strict=False)):
        texts = [text[label.end() :].strip() for text, label in zip(texts, labels, strict=True) if label]
    if not all(texts) or len(set(texts)) < len(texts):
        raise BadRow(f"no choices: {name} has an empty option, or one twice")
    if len(texts) > len(LETTERS):
        raise BadRow(f"no choices: {name} has {len(texts)} options")
    return texts


def _split_options(text: str) -> list[str] | None:
    """["x", "y"] of "A. x; B. y" or of "a ) x , b ) y", in one line or several; None without such labels."""
    starts = []
    at = 0
    for letter in LETTERS if re.match(r"\s*\(?A", text) else LETTERS.lower():
        match = re.compile(rf"(?:^|(?<=[\s;,(]))\(?{letter}\s*[).:、．]\s*").search(text, at)
        if match is None:
            break
        starts.append((match.start(), match.end()))
        at = match.end()
    if len(starts) < 2 or text[: starts[0][0]].strip():
        return None
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end].strip().rstrip(";,").strip() for (_, begin), end in zip(starts, ends, strict=True)]


def with_letters(choices: list[str], answer: str | int, question: str, *, index: bool) -> tuple[list[str], str]:
    """The choices and the letter of the right one; ([], answer) if there are none.

    Raises:
        BadRow: the answer is not among the choices, or could be two of them.
    """
    if not choices:
        return [], str(answer)
    if len(choices) < 2:
        raise BadRow("no choices: only one option")
    if isinstance(answer, int):
        meant = {answer} if index else {at for at, choice in enumerate(choices) if choice == str(answer)} or {answer}
        if not index and len(meant) == 1 and str(answer) in choices and answer < len(choices) and meant != {answer}:
            raise BadRow(f"no answer: {answer} may be an option or its number; name the shape with --format")
    else:
        text = answer.strip()
        letter = re.fullmatch(r"\(?([A-Za-z])[).]?", text)
        meant = {at for at, choice in enumerate(choices) if choice == text}
        if letter and LETTERS.index(letter[1].upper()) < len(choices):
            meant |= {LETTERS.index(letter[1].upper())}
        elif not meant and (label := _OPTION_LABEL.match(text)):
            at = LETTERS.index(label[1].upper())
            meant = {at} if at < len(choices) and choices[at] == text[label.end() :].strip() else set()
    if len(meant) != 1 or not 0 <= min(meant) < len(choices):
        raise BadRow(f"no answer: {answer!r} is {'more than one' if len(meant) > 1 else 'none'} of the choices")
    return choices, LETTERS[min(meant)]


def mentions(question: str, choices: list[str]) -> bool:
    """Whether the question lists the choices already, each behind its letter."""
    at = 0
    for letter, choice in zip(LETTERS, choices, strict=False):
        found = re.compile(rf"(?:^|[\s(]){letter}\s*[).:、．]\s*{re.escape(choice)}").search(question, at)
        if found is None:
            return False
        at = found.end()
    return True
