"""What the columns of a data set mean: a row of any of the field's common shapes becomes a prompt with its answer.

A shapes themselves are in known.py. A row that does not fit its shape, or of which something would be lost (images,
choices, one of several answers), raises BadRow; nothing is guessed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kimi_plugins.data.containers import has_column, value_at
from kimi_plugins.data.placeholders import holds_image, placed
from kimi_plugins.data.values import (
    LETTERS,
    RESPONSES,
    SOLUTIONS,
    BadRow,
    answer_text,
    as_object,
    asks,
    columns_of,
    filled,
    label,
    literal,
    mentions,
    message_of,
    parsed_choices,
    parsed_messages,
    spoken_answer,
    text_of,
    verbatim_text,
    with_letters,
)
from kimi_plugins.grading.extraction import BOX, NoAnswer, final_answers

SHORT = 5  # words of a solution that is an answer
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBERED_COLUMN = re.compile(r"image_?(\d+)", re.IGNORECASE)
INSTRUCTION = "Answer with the letter of the right choice."


@dataclass(frozen=True)
class Prompt:
    """A prompt with its answer.

    messages: role and content, all text; one PLACEHOLDER for each image, in the images' order. answer: text. images:
    references as they are in the data: paths, bytes, {"bytes", "path"}, base64, URLs. difficulty: as in the data.
    choices: of a multiple-choice question, whose text has them too. chat: whether the data has messages, not text.
    """

    messages: list[dict[str, str]]
    answer: str
    images: list[Any] = field(default_factory=list)
    source: str | None = None
    difficulty: Any = None
    domain: str | None = None
    discipline: str | None = None
    identity: str | None = None
    choices: list[str] = field(default_factory=list)
    chat: bool = False

    def given(self) -> str | list[dict[str, str]]:
        """Text where the data has text, else messages."""
        return self.messages if self.chat else self.messages[0]["content"]

    def question(self) -> str:
        """The prompt as one text; a system message is put in front.

        Raises:
            BadRow: it is a conversation of several turns.
        """
        if sum(message["role"] == "user" for message in self.messages) != 1 or any(
            message["role"] not in ("system", "developer", "user") for message in self.messages
        ):
            raise BadRow(f"no question: a conversation of {len(self.messages)} messages, not one question")
        return "\n\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Shape:
    """Which columns of a row are what; names may be dotted, alternatives are tried in turn.

    needs: columns whose presence the shape is recognised by. also: what must hold of a row besides. question:
    alternatives, each of columns that are joined. context: columns put before the question where they are not empty,
    after: behind it. images: alternatives of the images' column, of which the first that is not empty is taken;
    `image_*` stands for image_1, image_2 … same_images: the other alternatives may name the same image. choices: the
    options' column, or several columns with one option each. index: the answer is the number, from 0, of the right
    choice. wrong: columns of the wrong choices, where the answer is the right one.
    unlabelled: answers are not looked at and are "". verbatim: answers are text as it is in the data, and objects are
    JSON. short_solutions: a solution without a box that is short is the answer itself. pattern: regular expression of
    the answer within its column, as of grading.extraction; where it finds nothing, the column is read as without it.
    """

    name: str
    needs: tuple[str, ...] = ()
    question: tuple[tuple[str, ...], ...] = ()
    answer: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    same_images: bool = False
    index: bool = False
    wrong: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    difficulty: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    discipline: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    also: Callable[[dict], bool] | None = None
    pattern: str | None = None
    unlabelled: bool = False
    verbatim: bool = False
    short_solutions: bool = False

    def fits(self, row: dict) -> bool:
        return all(has_column(row, name) for name in self.needs) and (self.also is None or self.also(row))

    def names(self) -> list[str]:
        """Its columns, for readers of tables."""
        groups = (
            self.answer,
            self.context,
            self.after,
            self.images,
            self.choices,
            self.wrong,
            self.source,
            self.difficulty,
        )
        more = (self.domain, self.discipline, self.identity, self.needs)
        return list(dict.fromkeys(name for group in (*self.question, *groups, *more) for name in group))

    def described(self, value: Any) -> str:
        """The shape and the columns it takes of a row, for a line of output: `verl (question = prompt, …)`."""
        row = as_object(value)
        way = next((way for way in self.question if all(has_column(row, name) for name in way)), ())
        context = [name for name in self.context if filled(value_at(row, name))]
        after = [name for name in self.after if filled(value_at(row, name))]
        parts = [f"question = {' + '.join((*context, *way, *after))}"] if way else []
        for role in ("answer", "images", "choices", "difficulty", "source"):
            names = [name for name in getattr(self, role) if has_column(row, name)]
            if role == "images" and not names:
                names = [name for name in row if _NUMBERED_COLUMN.fullmatch(name)]
            if role == "choices" and len(self.choices) > 1 and names:
                parts.append(f"choices = {' + '.join(names)}")
            elif names:
                parts.append(f"{role} = {names[0]}")
        return f"{self.name} ({', '.join(parts)})"

    def question_text(self, row: Any) -> str:
        """The question alone, without choices, of a row that may lack an answer.

        Raises:
            BadRow: it has none, or is a conversation.
        """
        messages, _, _, _ = self._messages(as_object(row))
        return Prompt(messages, "").question()

    def prompt(self, row: Any) -> Prompt:
        """The row as a prompt.

        Raises:
            BadRow: something is missing, or would be lost or guessed.
        """
        row = as_object(row)
        messages, inline, spoken, chat = self._messages(row)
        choices, answer = ([], "") if self.unlabelled else self._choices_and_answer(row, spoken)
        text = "\n".join(message["content"] for message in messages)
        choices, answer = with_letters(choices, answer, text, index=self.index and not spoken)
        if choices and not mentions(text, choices):
            options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
            last = next((message for message in reversed(messages) if message["role"] == "user"), messages[-1])
            last["content"] = f"{last['content'].rstrip()}\n{options}\n{INSTRUCTION}"
        columns, used = self._image_columns(row)
        messages, images = placed(messages, inline, columns)
        self._refuse_other_images(row, used)
        source, domain, discipline, identity = (
            label(row, names) for names in (self.source, self.domain, self.discipline, self.identity)
        )
        labels = filter(None, (source, domain, discipline, identity))
        for part in (answer, *labels, *(message["content"] for message in messages)):
            if not part.isascii() and _SURROGATE.search(part):
                raise BadRow("holds half a character (a lone surrogate), which is not text")
        if not images and not any(message["content"].strip() for message in messages if asks(message)):
            raise BadRow("no question: it is empty")
        return Prompt(
            messages=messages,
            answer=answer,
            images=images,
            source=source,
            difficulty=next((value for name in self.difficulty if filled(value := value_at(row, name))), None),
            domain=domain,
            discipline=discipline,
            identity=identity,
            choices=choices,
            chat=chat,
        )

    def _messages(self, row: dict) -> tuple[list[dict[str, str]], list[Any], str | None, bool]:
        """Messages, the images within them, the answer that the last one gives, and whether the data has messages."""
        way = next((way for way in self.question if all(has_column(row, name) for name in way)), None)
        if way is None:
            wanted = " or ".join("+".join(way) for way in self.question)
            raise BadRow(f"no question: the row lacks the column {wanted}; it has {columns_of(row)}")
        inline: list[Any] = []
        value = parsed_messages(value_at(row, way[0]), way[0]) if len(way) == 1 else None
        if value is None:
            parts = [text_of(row, name, "question") for name in way]
            context, after = (
                [str(value_at(row, name)).strip() for name in names if filled(value_at(row, name))]
                for names in (self.context, self.after)
            )
            return [{"role": "user", "content": "\n".join([*context, " ".join(parts), *after])}], inline, None, False
        messages = [message_of(message, inline) for message in value]
        if not messages:
            raise BadRow(f"no question: {way[0]} has no messages")
        spoken = None
        while messages and messages[-1]["role"] == "assistant":
            spoken = messages.pop()["content"]
        if not any(message["role"] == "user" for message in messages):
            raise BadRow(f"no question: {way[0]} has no message of the user")
        return messages, inline, spoken, True

    def _choices_and_answer(self, row: dict, spoken: str | None) -> tuple[list[str], str | int]:
        choices = self._choices(row)
        name = next((name for name in self.answer if has_column(row, name) and filled(value_at(row, name))), None)
        if name is None:
            if spoken:
                return choices, spoken_answer(spoken)
            name = next((name for name in self.answer if has_column(row, name)), None)
            if name is None:
                wanted = " or ".join(self.answer) or "for it"
                raise BadRow(f"no answer: the row lacks the column {wanted}; it has {columns_of(row)}")
        value = value_at(row, name)
        if self.verbatim:
            return choices, verbatim_text(value, name)
        if choices and isinstance(value, int) and not isinstance(value, bool):
            return choices, value
        if choices and self.index and isinstance(value, str) and value.strip().isdigit():
            return choices, int(value)
        if self.pattern is not None and isinstance(value, str):
            try:
                return choices, final_answers(value, self.pattern)[-1]
            except NoAnswer:
                pass  # another source's answers stand alone
        if name.lower() in RESPONSES:
            return choices, spoken_answer(_said(value, name))
        solution = name.rpartition(".")[2].lower() in SOLUTIONS
        if solution and self.short_solutions and isinstance(value, str) and len(value.split()) <= SHORT:
            solution = BOX.search(value) is not None
        return choices, answer_text(value, name, solution=solution)

    def _choices(self, row: dict) -> list[str]:
        if self.wrong:
            right = next((value_at(row, name) for name in self.answer if filled(value_at(row, name))), None)
            others = [str(value_at(row, name)).strip() for name in self.wrong if filled(value_at(row, name))]
            if right is None or not others:
                raise BadRow(f"no choices: one of {', '.join((*self.answer, *self.wrong))} is empty")
            return sorted((str(right).strip(), *others))  # the order says nothing about which one is right
        if len(self.choices) > 1 and all(len(name) == 1 for name in self.choices):
            return [str(value_at(row, name)).strip() for name in self.choices if filled(value_at(row, name))]
        for name in self.choices:
            if filled(value := value_at(row, name)):
                return parsed_choices(value, name)
        return []

    def _image_columns(self, row: dict) -> tuple[dict[int, Any], set[str]]:
        """{number: reference} of the images in columns, and the columns that were looked at."""
        used: set[str] = set()
        found: list[Any] = []
        numbered: dict[int, Any] = {}
        for name in self.images:
            if name == "image_*":
                for key in row:
                    if (match := _NUMBERED_COLUMN.fullmatch(key)) and filled(row[key]):
                        numbered[int(match[1])] = row[key]
                        used.add(key)
                continue
            value = value_at(row, name)
            if self.same_images or not filled(value):
                used.add(name)
            if not found and filled(value):
                used.add(name)
                if isinstance(value, str) and value.lstrip().startswith("["):
                    value = literal(value) or value
                found = value if isinstance(value, list) else [value]
        if found and numbered:
            columns = ", ".join(name for name in sorted(used) if filled(value_at(row, name)))
            raise BadRow(f"has images in numbered columns and in another ({columns}); keep one of them")
        return (numbered or dict(enumerate(found, 1))), used

    def _refuse_other_images(self, row: dict, used: set[str]) -> None:
        outer = {name.partition(".")[0] for name in (*used, *self.choices, *(n for way in self.question for n in way))}
        for name, value in row.items():
            if name not in outer and not name.startswith("__") and holds_image(value, name):
                raise BadRow(f"has an image in the column {name!r} too, which would be lost; name the images' column")


def _said(value: Any, name: str) -> str:
    """The text of a response, which may be the assistant's messages.

    Raises:
        BadRow: it is neither.
    """
    messages = parsed_messages(value, name)
    if messages:
        return message_of(messages[-1], [])["content"]
    return verbatim_text(value, name)
