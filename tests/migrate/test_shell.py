"""The reader of shell scripts against bash itself: the same words reach the program."""

import json
import subprocess

import pytest

from kimi_plugins.migrate.shell import Script

PROGRAM = '#!/bin/sh\nfor word; do printf \'%s\\0\' "$word"; done >> "$SEEN"; printf \'\\1\' >> "$SEEN"\n'

SCRIPTS = [
    "run --a 1 --b two",
    "run --a 1 \\\n  --b 2 \\\n  --c\nrun after",
    "run --a 1 # --b 2\n# run no\nrun --c#d",
    "run --a 1 \\\n  # --b 2 \\\n  --c 3",
    "run 'a b' \"c d\" e\\ f '' \"\" g''h 'it'\"'\"'s'",
    'run "a\\"b" "a\\\\b" "a\\nb" "\\$X" \'$X\' "tab\there"',
    'run "User: {}\nAssistant: " --x',
    'X=1\nrun $X "$X" ${X} "${X}y" \'$X\' $X$X',
    'A="one two"\nrun $A "$A" x$A"y z"',
    "A=\nrun $A '' \"$A\" x$A",
    'A=${B:-default}\nB=set\nrun "$A" ${B:-no} "${C:-some words}" ${C:-some words} ${B-x}',
    'export A=1 B="2 3"\nreadonly C=4\nrun "$A" "$B" "$C"',
    'A=1; B=2 && run $A $B; run x && run y\nrun c & wait',
    "if [ 1 = 1 ]; then\n  run yes\nfi\nrun out > /dev/null 2>&1\nrun all &>> /dev/null\nrun in < /dev/null",
    'ARGS=(--a 1\n  --b "x y"   # why\n  \'c #d\' e)\nrun "${ARGS[@]}" last',
    'M=model\nARGS=(--m $M)\nARGS+=(--n "two words")\nrun first "${ARGS[@]}"',
    'A="--a 1"\nA+=" --b 2"\nA="$A --c 3"\nrun $A',
    "read -r -d '' FLAGS <<EOF\nmodule \\\n  --a 1 \\\n  --b two\nEOF\nrun --module $FLAGS\nrun rest",
    "N=5\nread -r -d '' FLAGS <<EOF\n  --a $N \\\n  --b ${N}\nEOF\nrun $FLAGS",
    "cat <<'END' > /dev/null\nrun not\nEND\nrun yes",
    "U='http://h/x?a=1&b=2;c#d'\nrun $U \"$U\"",
    'J=\'{"a": 1}\'\nrun --json="$J" --other=\'{"b": [1, 2]}\'',
    "OPENRLHF_PLUGINS=kimi run --a",
    "run a \"b\"'c'd\\\n  e",
    "(run sub)\n{ run braces; }",
]  # fmt: skip


@pytest.fixture
def bash(tmp_path):
    """bash(script): the words each call of the program `run` got."""
    (tmp_path / "run").write_text(PROGRAM)
    (tmp_path / "run").chmod(0o755)

    def bash(script):
        seen = tmp_path / "seen"
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SEEN": str(seen)}
        subprocess.run(["bash", "-c", script], env=environment, timeout=20, capture_output=True, cwd=tmp_path)
        return [call.split("\0")[:-1] for call in seen.read_text().split("\1")[:-1]]

    return bash


@pytest.mark.parametrize("script", SCRIPTS, ids=json.dumps)
def test_the_words_are_those_that_bash_gives_to_the_program(bash, script):
    expected = bash(script)
    found = []
    for command in Script().commands(script):
        texts = [word.text for word in command]
        while texts and (texts[0] in ("then", "{") or "=" in texts[0]):
            del texts[0]
        if texts[:1] == ["run"]:
            found.append(texts[1:])
    assert expected and found == expected


def test_each_word_has_its_line():
    script = 'A=(\n --a 1\n --b\n)\nrun x \\\n  "y\nz" w \\\n "${A[@]}"\n'
    (command,) = Script().commands(script)
    lines = {"run": 5, "x": 5, "y\nz": 6, "w": 7, "--a": 2, "1": 2, "--b": 3}
    assert {word.text: word.line for word in command} == lines


def test_the_words_of_a_document_have_their_lines():
    script = "set -x\nread -r -d '' T <<EOF\nmodule \\\n --a \\\n --b\nEOF\nrun $T\n"
    *_, command = Script().commands(script)
    assert [(word.text, word.line) for word in command] == [("run", 7), ("module", 3), ("--a", 4), ("--b", 5)]


@pytest.mark.parametrize(
    ("script", "unknown"),
    [
        ("run $1", ["$1"]),
        ("run --m $MODEL x", ["$MODEL"]),
        ("M=$1\nrun $M \"$M/x\"", ["$M", "$M"]),
        ("D=$(cd .. && pwd)\nrun $D/a", ["$D"]),
        ("run `hostname` $((1 + 2))", ["`hostname`", "$((1 + 2))"]),
        ("run cost $ 5", []),
    ],
)  # fmt: skip
def test_what_only_a_run_would_know_is_named_and_stays_as_written(script, unknown):
    *_, command = Script().commands(script)
    assert [name for word in command for name in word.unknown] == unknown
    assert all(name in word.text or name == "$D" or name == "$M" for word in command for name in word.unknown)


def test_a_given_variable_wins_over_the_script():
    *_, command = Script({"D": "/data"}).commands("D=$(pwd)\nrun $D/a")
    assert [(word.text, word.unknown) for word in command] == [("run", ()), ("/data/a", ())]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("run 'open", ["run", "open"]),
        ('run "open', ["run", "open"]),
        ("run $(open", ["run", "$(open"]),
        ("run ${open", ["run", "${open"]),
        ("run `open", ["run", "`open"]),
        ("run A=(open", ["run"]),
        ("run <<EOF\nno end", ["run"]),
        ("run \\", ["run"]),
    ],
)
def test_a_script_that_ends_in_the_middle_is_read_to_its_end(script, words):
    assert [word.text for command in Script().commands(script) for word in command] == words
