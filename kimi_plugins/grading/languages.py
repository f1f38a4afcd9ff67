"""The languages of programs: how they are compiled and run, and how their fenced blocks are tagged."""

import re
from dataclasses import dataclass
from pathlib import Path

from kimi_plugins.sandbox.pool import SHARED, Limits


@dataclass(frozen=True)
class Language:
    """How programs of a language are handled.

    source: name of the program's file. run: shell command. compile: shell command that makes the file `artifact`.
    tags: pattern of the fenced blocks' tags, which are in lower case. needs: file of the toolchain and its Debian
    package. header: one that takes long to compile, and the shell command that makes the file `header` from
    `header.h`, which includes it.
    """

    source: str
    run: str
    tags: str
    needs: tuple[str, str]
    compile: str | None = None
    artifact: str = "main"
    header: tuple[str, str] | None = None

    def missing(self) -> str | None:
        """The Debian package to install; None if the toolchain is there."""
        return None if Path(self.needs[0]).exists() else self.needs[1]


LANGUAGES = {
    "python": Language("main.py", "", r"(i?python|py|pypy|cpython)[\d._-]*", ("/usr", "python3")),
    "c": Language(
        "main.c",
        "exec ./main",
        r"(c|gcc)\d*|gnu\d+",
        ("/usr/bin/gcc", "gcc"),
        "/usr/bin/gcc -O2 -std=gnu17 -o main main.c -lm",
    ),
    "cpp": Language(
        "main.cpp",
        "exec ./main",
        r"(cpp|c\+\+|cc|cxx|gnu\+\+|g\+\+)\d*[a-z]?",
        ("/usr/bin/g++", "g++"),
        # Most programs are of the first standard; the others are for names that only one of them has, or takes.
        "for standard in 20 23 14; do"
        f" /usr/bin/g++ -O2 -std=gnu++$standard -I {SHARED} -o main main.cpp && break; done",
        header=("bits/stdc++.h", "/usr/bin/g++ -O2 -std=gnu++20 -x c++-header -o header header.h"),
    ),
    # The class with main gives the file its name.
    "java": Language(
        "Main.java",
        "exec /usr/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xss64m -Xmx{heap_mb}m"
        " -jar main.jar",
        r"java\d*",
        ("/usr/bin/javac", "default-jdk-headless"),
        "name=$(awk 'match($0, /class[ \\t]+[A-Za-z_$][A-Za-z_$0-9]*/) { name = substr($0, RSTART + 6, RLENGTH - 6) }"
        " /static[ \\t]+void[ \\t]+main/ { print name; exit }' Main.java | tr -d ' \\t'); name=${name:-Main};"
        " package=$(sed -n 's/^[ \\t]*package[ \\t]*\\([A-Za-z0-9_.]*\\)[ \\t]*;.*/\\1./p' Main.java | head -n 1);"
        ' mkdir src classes; cp Main.java "src/$name.java";'
        ' /usr/bin/javac -J-XX:+UseSerialGC -J-XX:-UsePerfData -d classes "src/$name.java"'
        ' && /usr/bin/jar -J-XX:+UseSerialGC -J-XX:-UsePerfData -c -f main.jar -e "$package$name" -C classes .',
        "main.jar",
    ),
    "javascript": Language(
        "main.js",
        "exec /usr/bin/node --stack-size=60000 main.js",
        r"javascript|js|node(js)?|mjs",
        ("/usr/bin/node", "nodejs"),
    ),
    "go": Language(
        "main.go",
        "exec ./main",
        r"go(lang)?",
        ("/usr/bin/go", "golang-go"),
        "GOCACHE=/tmp/.cache GO111MODULE=off /usr/bin/go build -o main main.go",
    ),
    "rust": Language(
        "main.rs",
        "exec ./main",
        r"rust|rs",
        ("/usr/bin/rustc", "rustc"),
        "/usr/bin/rustc -O --edition 2021 -o main main.rs",
    ),
}
COMPILE_LIMITS = Limits(
    wall_seconds=120.0, cpu_seconds=30.0, memory_mb=2048, processes=256, disk_mb=1024, output_kb=256 << 10
)

OPENING = re.compile(r"((?:\s{0,3}>\s?)*)(\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)?)(`{3,}|~{3,})\s*([^`\n]*)$")


def fenced_blocks(text: str) -> tuple[list[tuple[str, str]], bool]:
    """(tag, content) of the closed fenced blocks, and whether the last one is not closed.

    As CommonMark has them, in lists and quotations too, where their indentation is removed; in addition text may
    follow the closing fence after a space or a `<`. Lines end with a line feed only: other separators may stand in a
    program's strings.
    """
    blocks: list[tuple[str, str]] = []
    lines: list[str] = []
    closing, tag, indent, quote = None, "", 0, ""
    for line in text.replace("\r\n", "\n").split("\n"):
        if closing is None:
            if opening := OPENING.match(line):
                quote, margin, fence, info = opening.groups()
                indent, tag, lines = len(margin.expandtabs(4)), _tag(info), []
                closing = re.compile(rf"\s{{0,{indent + 3}}}{re.escape(fence[0])}{{{len(fence)},}}(?:\s.*|<.*)?$")
            continue
        if quote:
            line = re.sub(r"^(\s{0,3}>\s?)+", "", line)
        if closing.match(line):
            blocks.append((tag, "".join(kept + "\n" for kept in lines)))
            closing = None
        else:
            lines.append(_without_indentation(line, indent))
    return blocks, closing is not None


def _tag(info: str) -> str:
    """The language of an info string such as `py3`, `{.python}` or `python title="x.py"`, in lower case."""
    words = info.strip().strip("{}").replace(",", " ").split()
    return words[0].lstrip(".").lower().partition(":")[0] if words else ""


def _without_indentation(line: str, indent: int) -> str:
    """The line without up to `indent` columns of white space."""
    removed = 0
    while removed < indent and line[:1] in (" ", "\t"):
        removed += 1 if line[0] == " " else 4
        line = line[1:]
    return line
