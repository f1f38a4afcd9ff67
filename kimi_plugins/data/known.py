"""The shapes of the field's data sets, and which one a data set has.

A shape is recognised by its columns and values, or chosen by name (`--format`). Where no named shape fits, columns
with usual names are taken ("columns").
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any, NamedTuple

from kimi_plugins.data import containers
from kimi_plugins.data.containers import Row, has_column, value_at
from kimi_plugins.data.shapes import Shape
from kimi_plugins.data.shards import Unreadable
from kimi_plugins.data.values import RESPONSES, BadRow, as_object, parsed_messages

EXAMPLE = '{"input": …, "label": …}'


class UnknownShape(ValueError):
    """Columns of which no shape is known; the message lists them."""


def is_messages(*names: str) -> Callable[[dict], bool]:
    """Whether one of the columns holds messages, as they are or as text."""

    def check(row: dict) -> bool:
        for name in names:
            try:
                if parsed_messages(value_at(row, name), name):
                    return True
            except BadRow:
                return True  # said row by row
        return False

    return check


def _letters(row: dict) -> bool:
    return all(isinstance(row.get(letter), str) for letter in "AB")


def _asdiv(row: dict) -> bool:
    return isinstance(row.get("body"), str)


def _answers_in_text(row: dict) -> bool:
    return isinstance(row.get("answer"), str) and "####" in row["answer"]


_SOURCE = ("datasource", "data_source", "source", "dataset")
_DIFFICULTY = ("difficulty", "level")
_IMAGES = (
    "images",
    "image",
    "decoded_image",
    "img",
    "picture",
    "image_path",
    "image_url",
    "image_urls",
    "file_name",
    "image_*",
)

# From the most special to the most general; the first that fits is the shape.
SHAPES: tuple[Shape, ...] = (
    Shape(
        "orz",
        ("conversations",),
        (("conversations",),),
        ("answer",),
        also=lambda row: (
            isinstance(row["conversations"], list)
            and any(
                isinstance(one, dict) and isinstance(one.get("ground_truth"), dict) for one in row["conversations"]
            )
        ),
    ),
    Shape(
        "verl",
        ("prompt", "reward_model"),
        (("prompt",),),
        ("reward_model.ground_truth",),
        images=("images", "image"),
        source=("data_source",),
        difficulty=("difficulty", "extra_info.difficulty"),
        domain=("ability",),
        identity=("extra_info.index",),
    ),
    Shape(
        "prime-rl",
        ("prompt", "verification_info"),
        (("prompt",),),
        ("verification_info.ground_truth",),
        source=_SOURCE,
        identity=("problem_id",),
    ),
    Shape(
        "verifiers",
        ("question", "info"),
        (("question",), ("prompt",)),
        ("answer", "info"),
        source=("task",),
        also=lambda row: "answer" in row,
    ),
    Shape(
        "mm-eureka",
        ("conversations", "image_urls"),
        (("conversations",),),
        ("answer",),
        images=("image_urls",),
        identity=("id",),
    ),
    Shape("lmm-r1", ("message", "answer"), (("message",),), ("answer",), images=("images", "image"), identity=("id",)),
    Shape("finevision", ("texts",), (("texts",),), (), images=("images", "image"), source=("source",)),
    Shape(
        "llava",
        ("conversations",),
        (("conversations",),),
        (),
        images=("images", "image"),
        identity=("id",),
        also=is_messages("conversations"),
    ),
    Shape(
        "gpqa",
        ("Question", "Correct Answer", "Incorrect Answer 1"),
        (("Question",),),
        ("Correct Answer",),
        wrong=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        discipline=("Subdomain",),
        domain=("High-level domain",),
    ),
    Shape(
        "sciq",
        ("question", "correct_answer", "distractor1"),
        (("question",),),
        ("correct_answer",),
        wrong=("distractor1", "distractor2", "distractor3"),
    ),
    Shape(
        "mmmu",
        ("question", "options", "image_1"),
        (("question",),),
        ("answer",),
        images=("image_*",),
        choices=("options",),
        difficulty=("topic_difficulty",),
        discipline=("subfield",),
        identity=("id",),
    ),
    Shape(
        "mmbench",
        ("question", "A", "B", "answer"),
        (("question",),),
        ("answer",),
        context=("hint",),
        images=("image",),
        choices=tuple("ABCDEFGHIJ"),
        discipline=("category",),
        identity=("index",),
        also=_letters,
    ),
    Shape(
        "we-math",
        ("question", "option", "answer"),
        (("question",),),
        ("answer",),
        images=("image_path", "image"),
        choices=("option",),
        discipline=("knowledge concept",),
        identity=("ID",),
    ),
    Shape(
        "scienceqa",
        ("question", "choices", "answer", "image"),
        (("question",),),
        ("answer",),
        context=("hint",),
        images=("image",),
        choices=("choices",),
        index=True,
        discipline=("topic",),
        domain=("subject",),
        also=lambda row: isinstance(row["answer"], int) and not isinstance(row["answer"], bool),
    ),
    Shape(
        "a-okvqa",
        ("question", "choices", "correct_choice_idx"),
        (("question",),),
        ("correct_choice_idx",),
        images=("image",),
        choices=("choices",),
        index=True,
        identity=("question_id",),
    ),
    Shape(
        "mathvista",
        ("question", "answer", "decoded_image", "choices"),
        (("question",),),
        ("answer",),
        images=("decoded_image", "image"),
        same_images=True,
        choices=("choices",),
        source=("metadata.source",),
        discipline=("metadata.task",),
        identity=("pid",),
    ),
    Shape(
        "mathvision",
        ("question", "answer", "decoded_image", "options"),
        (("question",),),
        ("answer",),
        images=("decoded_image", "image"),
        same_images=True,
        choices=("options",),
        difficulty=("level",),
        discipline=("subject",),
        identity=("id",),
    ),
    Shape(
        "mathverse",
        ("question", "answer", "problem_version"),
        (("question",),),
        ("answer",),
        images=("image",),
        source=("metadata.source",),
        discipline=("metadata.subject",),
        identity=("sample_index",),
    ),
    Shape(
        "ai2d",
        ("question", "options", "answer", "image"),
        (("question",),),
        ("answer",),
        images=("image",),
        choices=("options",),
        index=True,
        also=lambda row: str(row["answer"]).isdigit() and isinstance(row["options"], list),
    ),
    Shape(
        "mmlu",
        ("question", "choices", "answer"),
        (("question",),),
        ("answer",),
        choices=("choices",),
        index=True,
        discipline=("subject",),
        also=lambda row: isinstance(row["answer"], int) and not isinstance(row["answer"], bool) and "image" not in row,
    ),
    Shape(
        "arc",
        ("choices.text", "answerKey"),
        (("question",), ("question_stem",), ("question.stem",)),
        ("answerKey",),
        choices=("choices",),
        identity=("id",),
    ),
    Shape(
        "aqua",
        ("question", "options", "correct"),
        (("question",),),
        ("correct",),
        choices=("options",),
    ),
    Shape(
        "medqa",
        ("question", "options", "answer_idx"),
        (("question",),),
        ("answer_idx",),
        choices=("options",),
    ),
    Shape(
        "tabmwp",
        ("question", "answer", "table"),
        (("question",),),
        ("answer",),
        context=("table_title", "table"),
        choices=("choices",),
        difficulty=("grade",),
    ),
    Shape("docvqa", ("question", "answers", "image"), (("question",),), ("answers",), images=("image",)),
    Shape("chartqa", ("query", "label", "image"), (("query",),), ("label",), images=("image",)),
    Shape(
        "virl39k",
        ("question", "answer", "qid", "image"),
        (("question",),),
        ("answer",),
        images=("image",),
        source=("source",),
        domain=("category",),
        identity=("qid",),
    ),
    Shape(
        "olympiadbench",
        ("question", "final_answer"),
        (("question",),),
        ("final_answer",),
        context=("context",),
        images=("image_*", "images"),
        difficulty=("difficulty",),
        discipline=("subfield",),
        domain=("subject",),
        identity=("id",),
        also=lambda row: isinstance(row["final_answer"], list) or "is_multiple_answer" in row,
    ),
    Shape(
        "mmk12",
        ("question", "answer", "image", "subject"),
        (("question",),),
        ("answer",),
        images=("image",),
        discipline=("subject",),
        identity=("id",),
    ),
    Shape(
        "geometry3k",
        ("problem", "answer", "images"),
        (("problem",),),
        ("answer",),
        images=("images",),
    ),
    Shape(
        "open-r1-multimodal",
        ("problem", "solution", "image"),
        (("problem",),),
        ("solution",),
        images=("image",),
        also=lambda row: "<answer>" in str(row["solution"]),
    ),
    Shape(
        "rlvr",
        ("messages", "ground_truth"),
        (("messages",),),
        ("ground_truth",),
        images=("images", "image"),
        source=("dataset",),
        also=is_messages("messages"),
    ),
    Shape(
        "openr1-math",
        ("problem", "answer", "generations"),
        (("problem",),),
        ("answer",),
        source=("source",),
        discipline=("problem_type",),
        identity=("uuid",),
    ),
    Shape(
        "ms-swift",
        ("messages",),
        (("messages",),),
        ("solution", "answer", "ground_truth", "label"),
        images=("images", "image"),
        short_solutions=True,
        also=lambda row: "problem" not in row and is_messages("messages")(row),
    ),
    Shape(
        "big-math",
        ("problem", "answer", "llama8b_solve_rate"),
        (("problem",),),
        ("answer",),
        source=("source",),
        domain=("domain",),
    ),
    Shape(
        "omni-math",
        ("problem", "answer", "domain", "difficulty"),
        (("problem",),),
        ("answer",),
        source=("source",),
        difficulty=("difficulty",),
        discipline=("domain",),
    ),
    Shape(
        "math-500",
        ("problem", "answer", "subject", "level"),
        (("problem",),),
        ("answer",),
        difficulty=("level",),
        discipline=("subject",),
        identity=("unique_id",),
    ),
    Shape(
        "numina-1.5",
        ("problem", "answer", "problem_type"),
        (("problem",),),
        ("answer",),
        source=("source",),
        discipline=("problem_type",),
    ),
    Shape(
        "deepscaler",
        ("problem", "answer"),
        (("problem",),),
        ("answer",),
        images=_IMAGES,
        source=_SOURCE,
        difficulty=_DIFFICULTY,
        discipline=("subject",),
        domain=("domain",),
        identity=("id",),
    ),
    Shape(
        "numina-cot",
        ("problem", "solution", "source"),
        (("problem",),),
        ("solution",),
        source=("source",),
    ),
    Shape(
        "math",
        ("problem", "solution"),
        (("problem",),),
        ("solution",),
        images=_IMAGES,
        source=_SOURCE,
        difficulty=("level", "difficulty"),
        discipline=("type", "subject"),
        identity=("idx", "id"),
    ),
    Shape(
        "trl",
        ("prompt",),
        (("prompt",),),
        ("answer", "ground_truth", "label", "solution"),
        images=("images", "image"),
        source=_SOURCE,
        difficulty=_DIFFICULTY,
        short_solutions=True,
        also=lambda row: (
            is_messages("prompt")(row) and any(name in row for name in ("answer", "ground_truth", "label", "solution"))
        ),
    ),
    Shape(
        "mathqa",
        ("Problem", "options", "correct"),
        (("Problem",),),
        ("correct",),
        choices=("options",),
        discipline=("category",),
    ),
    Shape(
        "alpaca",
        ("instruction", "output"),
        (("instruction",),),
        ("output",),
        after=("input",),
        images=_IMAGES,
        source=_SOURCE,
    ),
    Shape("svamp", ("Body", "Question", "Answer"), (("Body", "Question"),), ("Answer",), identity=("ID",)),
    Shape("asdiv", ("body", "question", "answer"), (("body", "question"),), ("answer",), also=_asdiv),
    Shape(
        "theoremqa",
        ("Question", "Answer"),
        (("Question",),),
        ("Answer",),
        images=("Picture", "picture", "image"),
    ),
    Shape("aime", ("Problem", "Answer"), (("Problem",),), ("Answer",), identity=("ID",)),
    Shape("gsm8k", ("question", "answer"), (("question",),), ("answer",), also=_answers_in_text),
)

QUESTIONS = ("input", "question", "problem", "prompt", "query", "message", "messages", "conversations", "instruction")
ANSWERS: tuple[str, ...] = (
    "label",
    "answer",
    "final_answer",
    "ground_truth",
    "expected_answer",
    "reference_answer",
    "correct_answer",
)
ANSWERS += ("gt_answer", "groundtruth", "gold", "target", "answers", "gt", "solution", "ground_truth_solution")
CONTEXTS = ("body", "context", "passage", "paragraph", "table")
CHOICES = ("choices", "options", "option")

# What is taken by the usual names of columns, ours first.
COLUMNS = Shape(
    "columns",
    question=tuple((name,) for name in QUESTIONS),
    answer=ANSWERS,
    context=CONTEXTS,
    images=_IMAGES,
    choices=CHOICES,
    source=_SOURCE,
    difficulty=_DIFFICULTY,
    domain=("domain",),
    discipline=("discipline",),
    identity=("id",),
)
OPENRLHF = replace(
    COLUMNS,
    name="openrlhf",
    question=(("input",),),
    answer=("label",),
    context=(),
    needs=("input", "label"),
    verbatim=True,
)
FORMATS = {shape.name: shape for shape in (OPENRLHF, *SHAPES, COLUMNS)}
LOOKED_AT = 32  # rows whose columns and values say the shape


def shape_of(rows: Iterable[Row], name: str, given: str | Shape = "auto") -> tuple[Shape, Iterator[Row]]:
    """The shape of a data set, and all its rows.

    Args:
        rows: of the data set, as containers.rows gives them.
        name: of the data set, for messages.
        given: a name of FORMATS, a shape, or "auto" for the one that is recognised.

    Raises:
        UnknownShape: none fits, or no row has the columns of the one that was given; the message lists the columns.
        Unreadable: the data set cannot be read, or none of its first rows can.
    """
    rows = iter(rows)
    first = list(islice(rows, LOOKED_AT))
    good = [row.value for row in first if row.problem is None]
    if first and not good:
        raise Unreadable(f"{name}: not one of the first {len(first)} rows can be read; row 1: {first[0].problem}")
    if given == "auto":
        shape = recognised(good, name) if good else COLUMNS
    else:
        shape = given if isinstance(given, Shape) else named(given)
        if good:
            _check_columns(shape, good, name)
    return shape, chain(first, rows)


class Columns(NamedTuple):
    """Names of columns that are given, not recognised; dotted where they are nested."""

    input: str | None = None
    label: str | None = None
    images: str | None = None
    difficulty: str | None = None

    def applied(self, shape: Shape) -> Shape:
        """The shape with these columns in place of its own."""
        changed: dict[str, Any] = {} if self.input is None else {"question": ((self.input,),), "context": ()}
        given = {"answer": self.label, "images": self.images, "difficulty": self.difficulty}
        changed |= {role: (name,) for role, name in given.items() if name is not None}
        return replace(shape, **changed, needs=(), also=None) if changed else shape


RECOGNISED = Columns()
Say = Callable[[str], None]


def print_nothing(line: str) -> None:
    """Where nobody is told."""


def opened(
    name: str, *, split: str = "train", format: str = "auto", columns: Columns = RECOGNISED, say: Say = print_nothing
) -> tuple[Shape, Iterator[Row]]:
    """The shape of a data set, and all its rows.

    Args:
        name, split: as containers.rows takes them.
        format: a name of FORMATS, or auto.
        columns: names of columns that are given.
        say: gets a line that names the shape and its columns.

    Raises:
        UnknownShape: no shape fits; the message lists the columns.
        Unreadable: the data set cannot be read as a whole.
    """
    rows = containers.rows(name, split)
    first = list(islice(rows, LOOKED_AT))
    if format != "auto":
        shape = named(format)
    elif columns.input is not None and columns.label is not None:
        shape = COLUMNS
    else:
        try:
            shape, _ = shape_of(first, name)
        except UnknownShape:
            if columns.input is None and columns.label is None:
                raise
            shape = COLUMNS
    shape, rows = shape_of(chain(first, rows), name, columns.applied(shape))
    if good := next((row.value for row in first if isinstance(row.value, dict | list)), None):
        say(f"{name}: {shape.described(good)}")
    return shape, rows


def named(name: str) -> Shape:
    """The shape of a name of FORMATS.

    Raises:
        UnknownShape: there is no such name.
    """
    if name not in FORMATS:
        close = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose auto or one of {', '.join(FORMATS)}"
        raise UnknownShape(f"--format {name}: there is no such format; {hint}")
    return FORMATS[name]


def _check_columns(shape: Shape, rows: list[Any], name: str) -> None:
    objects = [row for row in map(object_or_none, rows) if row]
    for role, ways in (("question", shape.question), ("answer", tuple((column,) for column in shape.answer))):
        if ways and not any(all(has_column(row, column) for column in way) for row in objects for way in ways):
            if role == "answer" and any(is_messages(*(way[0] for way in shape.question))(row) for row in objects):
                continue
            columns = dict.fromkeys(str(column) for row in objects for column in row)
            wanted = " or ".join("+".join(way) for way in ways)
            raise UnknownShape(
                f"{name}: no column for {role} ({wanted}); its columns are {', '.join(columns) or 'none'}"
            )


def recognised(rows: list[Any], name: str) -> Shape:
    """The shape of a data set's first rows.

    Raises:
        UnknownShape: no shape fits; the message lists the columns there are.
    """
    objects = [row for row in map(object_or_none, rows) if row]
    if not objects:
        raise UnknownShape(f"{name}: no row is an object with columns; give rows such as {EXAMPLE}")
    for shape in (OPENRLHF, *SHAPES):
        if sum(shape.fits(row) for row in objects) * 2 > len(objects):
            return shape
    columns = dict.fromkeys(str(column) for row in objects for column in row)
    lower = {column.lower(): column for column in columns}
    question = tuple((lower[column],) for column in QUESTIONS if column in lower)
    answer = tuple(lower[column] for column in ANSWERS if column in lower)
    if not answer:  # else what a model said would stand in for a missing label
        answer = tuple(lower[column] for column in RESPONSES if column in lower)
    if question and (answer or any(is_messages(*(way[0] for way in question))(row) for row in objects)):
        roles = ("context", "images", "choices", "source", "difficulty", "domain", "discipline", "identity")
        known: dict[str, Any] = {
            role: tuple(lower.get(column, column) for column in getattr(COLUMNS, role)) for role in roles
        }
        return replace(COLUMNS, question=question, answer=answer, **known)
    missing = " and ".join(role for role, found in (("question", question), ("answer", answer)) if not found)
    raise UnknownShape(f"{name}: no column for {missing}; its columns are {', '.join(columns)}")


def object_or_none(row: Any) -> dict | None:
    """The row as an object with columns, None if it is not one."""
    try:
        return as_object(row)
    except BadRow:
        return None
