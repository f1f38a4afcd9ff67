"""Read the commands of a shell script without running anything.

What launch scripts use of bash: quotes, comments, continued lines, variables, arrays and here-documents. What only a
run would know ($1, $SLURM_JOB_ID, $(hostname)) stays in the words as it is written, and is named.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

NAME = re.compile(r"[A-Za-z_]\w*")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")
DECLARE = {"export", "readonly", "local", "declare", "typeset"}


class Word(NamedTuple):
    text: str
    line: int  # of the file, from 1
    unknown: tuple[str, ...] = ()  # what in it only a run would know, as written


class Variable(NamedTuple):
    text: str
    line: int
    unknown: tuple[str, ...] = ()
    kind: str = "text"  # or "array", "document": their text is shell, with quotes and comments


@dataclass
class _Part:
    """The word being read."""

    text: str
    line: int
    quoted: bool = False
    unknown: list[str] = field(default_factory=list)


class Script:
    """A script as it is read; its variables are those given, which it does not change, and those assigned so far."""

    def __init__(self, given: dict[str, str] | None = None) -> None:
        self.given = given or {}
        self.variables = {name: Variable(value, 0) for name, value in self.given.items()}

    def commands(self, text: str, line: int = 1) -> Iterator[list[Word]]:
        """The simple commands of `text`, which begins at this line, one after the other, with variables filled in.

        Assignments are carried out; those before a command (A=1 run) also stay among its words.
        """
        reader = _Reader(self, text, line)
        while (words := reader.command()) is not None:
            if words and not self._assign(words):
                yield words

    def words(self, variable: Variable) -> list[Word]:
        """What a variable is when it stands without quotes: its words, each with its line."""
        if variable.kind != "text":
            return [word for command in Script().commands(variable.text, variable.line) for word in command]
        found = []
        for match in re.finditer(r"(?:\$\([^)]*\)|`[^`]*`|\S)+", variable.text):
            unknown = tuple(name for name in variable.unknown if name in match[0])
            found.append(Word(match[0], variable.line + variable.text.count("\n", 0, match.start()), unknown))
        return found

    def _assign(self, words: list[Word]) -> bool:
        """Carry out the assignments that words begin with; whether there is nothing else."""
        rest = [word for word in words if not (word.text in DECLARE or word.text.startswith("-"))]
        if words[0].text not in DECLARE:
            rest = words
        for number, word in enumerate(rest):
            match = ASSIGNMENT.match(word.text)
            if match is None:
                return words[0].text in DECLARE
            if number == len(rest) - 1 or words[0].text in DECLARE:
                self.assign(match[1], word.text[match.end() :], word, bool(match[2]))
        return True

    def assign(self, name: str, text: str, word: Word, append: bool = False, kind: str = "text") -> None:
        if name in self.given:
            return
        old = self.variables.get(name) if append else None
        if old is not None:
            between = "\n" if kind == "array" else ""
            self.variables[name] = Variable(old.text + between + text, old.line, old.unknown + word.unknown, kind)
        else:
            self.variables[name] = Variable(text, word.line, word.unknown, kind)


class _Reader:
    def __init__(self, script: Script, text: str, line: int) -> None:
        self.script, self.text, self.line, self.at = script, text, line, 0
        self.documents: list[tuple[str, str | None]] = []  # (delimiter, variable that reads it)
        self.words: list[Word] = []  # of the command that is being read
        self.part: _Part | None = None
        self.skip = False  # whether the next word is the file of a redirection

    def command(self) -> list[Word] | None:
        """The words up to the next newline or operator; None at the end of the text."""
        if self.at >= len(self.text):
            return None
        self.words, self.part, self.skip = [], None, False
        ended = False
        while self.at < len(self.text) and not ended:
            ended = self._read_one()
        self._end_word()
        return self.words

    def _read_one(self) -> bool:
        """Read one character, or what it begins; whether that ends the command."""
        char, rest = self.text[self.at], self.text[self.at :]
        if rest.startswith("\\\n"):
            self._take(2)
        elif char == "\n":
            self._end_word()
            self._take(1)
            self._read_documents()
            return True
        elif char.isspace():
            self._end_word()
            self._take(1)
        elif char == "#" and self.part is None:
            self._take(len(rest.partition("\n")[0]))
        elif rest.startswith("<<") and not rest.startswith("<<<"):
            self._begin_document(rest)
        elif char in "<>" or rest.startswith("&>"):
            self._redirect(rest)
        elif char in ";&|()":
            return self._operator(char)
        else:
            self.part = self.part or _Part("", self.line)
            self._read_into(self.part, char)
        return False

    def _read_into(self, part: _Part, char: str) -> None:
        """Read a character of a word, or what it quotes or stands for."""
        if char == "'":
            closing = self.text.find("'", self.at + 1)
            closing = len(self.text) if closing < 0 else closing
            part.text += self.text[self.at + 1 : closing]
            part.quoted = True
            self._take(closing + 1 - self.at)
        elif char == '"':
            part.quoted = True
            self._take(1)
            self._double_quoted(part)
        elif char == "\\":
            part.text += self.text[self.at + 1 : self.at + 2]
            self._take(2)
        elif char in "$`":
            self._expand(part, quoted=False)
        else:
            part.text += char
            self._take(1)

    def _end_word(self) -> None:
        part, self.part = self.part, None
        if part is not None:
            if not self.skip and (part.text or part.quoted):
                self.words.append(Word(part.text, part.line, tuple(part.unknown)))
            self.skip = False

    def _begin_document(self, rest: str) -> None:
        self._end_word()
        match = re.match(r"<<-?\s*(['\"]?)(\w+)\1", rest)
        self._take(match.end() if match else 2)
        if match:
            reads = [word.text for word in self.words if NAME.fullmatch(word.text)]
            into = reads[-1] if self.words and self.words[0].text == "read" else None
            self.documents.append((match[2], into))

    def _redirect(self, rest: str) -> None:
        if self.part is not None and self.part.text.isdigit():
            self.part = None
        self._end_word()
        match = re.match(r"&?[<>]+[&|]?-?", rest)
        assert match is not None
        self._take(match.end())
        self.skip = True

    def _operator(self, char: str) -> bool:
        if char == "(" and self.part is not None and ASSIGNMENT.fullmatch(self.part.text):
            self._array(self.part)
            self.part = None
            return False
        self._end_word()
        self._take(1)
        return bool(self.words)

    def _take(self, count: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def _double_quoted(self, part: _Part) -> None:
        while self.at < len(self.text) and self.text[self.at] != '"':
            char, following = self.text[self.at], self.text[self.at + 1 : self.at + 2]
            if char == "\\" and following in ("$", "`", '"', "\\", "\n"):
                part.text += "" if following == "\n" else following
                self._take(2)
            elif char in "$`":
                self._expand(part, quoted=True)
            else:
                part.text += char
                self._take(1)
        self._take(1)

    def _expand(self, part: _Part, quoted: bool) -> None:
        """Add what $NAME, ${NAME:-default}, $(…) or `…` at this place stands for."""
        written = self._expression()
        match = re.fullmatch(r"\$\{?([A-Za-z_]\w*)(\[[@*]\])?(?::?[-=](.*?))?\}?", written, re.DOTALL)
        variable = self.script.variables.get(match[1]) if match else None
        if variable is None and match and match[3] is not None:
            variable = Variable(match[3].strip("\"'"), self.line)
        self._take(len(written))
        if variable is None:
            part.text += written
            if written != "$":
                part.unknown.append(written)
        elif quoted and variable.kind != "array":
            part.text += variable.text
            part.unknown += [f"${match[1]}"] if match and variable.unknown else []
        else:
            found = self.script.words(variable)
            for word in found[:-1]:
                self.words.append(Word(part.text + word.text, word.line, (*part.unknown, *word.unknown)))
                part.text, part.unknown = "", []
            if found:
                part.text += found[-1].text
                part.unknown += (
                    [f"${match[1]}"] if match and len(found) == 1 and variable.unknown else found[-1].unknown
                )
                part.line = found[-1].line if len(found) > 1 else part.line

    def _expression(self) -> str:
        """The text of an expansion, from its $ or backquote to its end."""
        rest = self.text[self.at :]
        if rest[0] == "`":
            end = rest.find("`", 1)
            return rest[: end + 1] if end > 0 else rest
        for opening, closing in (("$(", ")"), ("${", "}")):
            if rest.startswith(opening):
                depth = 0
                for number, char in enumerate(rest[1:], start=1):
                    depth += (char == opening[1]) - (char == closing)
                    if depth == 0:
                        return rest[: number + 1]
                return rest
        match = re.match(r"\$([A-Za-z_]\w*|[\d@*#?$!-])?", rest)
        return match[0] if match else rest[0]

    def _array(self, part: _Part) -> None:
        """NAME=( … ): the variable has what stands between the brackets, comments and all."""
        match = ASSIGNMENT.fullmatch(part.text)
        assert match is not None
        line, start, depth = self.line, self.at + 1, 1
        at = start
        while at < len(self.text) and depth:
            skip = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|(?<=\s)#[^\n]*", re.DOTALL).match(self.text, at)
            depth += 0 if skip else (self.text[at] == "(") - (self.text[at] == ")")
            at = skip.end() if skip else at + 1
        content = _filled(self.text[start : at - 1], self.script)
        self.script.assign(match[1], content, Word("", line), bool(match[2]), "array")
        self._take(at - self.at)

    def _read_documents(self) -> None:
        for delimiter, variable in self.documents:
            match = re.compile(rf"^\s*{delimiter}\s*$", re.MULTILINE).search(self.text, self.at)
            end, after = (match.start(), match.end()) if match else (len(self.text), len(self.text))
            if variable is not None:
                content = _filled(self.text[self.at : end], self.script)
                self.script.assign(variable, content, Word("", self.line), kind="document")
            self._take(after - self.at)
        self.documents = []


def _filled(text: str, script: Script) -> str:
    """The text with the known variables filled in, wherever they stand; no line more or less."""

    def value(match: re.Match) -> str:
        variable = script.variables.get(match[1] or match[2])
        if variable is None or variable.unknown:  # which is named by its own name where it is used
            return match[0]
        return " ".join(variable.text.replace("\\\n", " ").split("\n"))

    return re.sub(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:\[[@*]\])?\})", value, text)
