"""Runs stages one after the other: each reads a file of prompts and writes those it keeps and those it rejects.

DIR/stages holds for each stage NAME.jsonl, NAME.rejects.jsonl and, once both are whole, NAME.json with its settings
and counts. A stage whose settings and input are those of NAME.json is not run again. Nothing vanishes: what a stage
keeps and rejects is as much as it read, and so for the whole.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kimi_plugins.data.files import replacing
from kimi_plugins.prompts.parallel import CHUNK, chunked, decoded, encoded, mapped

FEW = 16  # rows of a chunk where each takes long
FORMAT = 2  # of the stages' files; a change makes all stages run again
REJECTED = ("file", "row", "source", "question", "answer")  # what the rejects keep of a prompt


@dataclass
class Chunk:
    """Some rows a stage has decided on: lines of JSON. reasons: how many were rejected for which kind of reason."""

    kept: list[bytes] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)
    reasons: Counter = field(default_factory=Counter)
    sources: Counter = field(default_factory=Counter)  # of the kept rows

    def add(self, stage: str, row: dict, reason: str | None) -> None:
        """reason: None to keep the row; "kind: details", of which the kind is counted."""
        if reason is None:
            self.kept.append(encoded(row))
            self.sources[row["source"]] += 1
        else:
            known = {name: row[name] for name in REJECTED if name in row}
            self.rejected.append(encoded({"stage": stage, "reason": reason} | known))
            self.reasons[reason.partition(": ")[0]] += 1


Outcomes = Iterable[tuple[dict, str | None]]  # rows, and why they are rejected or None


def decided(stage: str, outcomes: Outcomes, size: int = CHUNK) -> Iterator[Chunk]:
    """size: rows of a chunk; the progress bar moves with each."""
    for some in chunked(outcomes, size):
        chunk = Chunk()
        for row, reason in some:
            chunk.add(stage, row, reason)
        yield chunk


@dataclass(frozen=True)
class ByRow:
    """A stage's decision on each row for itself, in several processes.

    decide: picklable; row → (row, reason or None).
    """

    stage: str
    decide: Callable[[dict], tuple[dict, str | None]]
    processes: int

    def __call__(self, previous: Path, _: str) -> Iterator[Chunk]:
        with previous.open("rb") as lines:
            yield from mapped(self.decide_lines, chunked(lines, CHUNK), self.processes)

    def decide_lines(self, lines: list[bytes]) -> Chunk:
        chunk = Chunk()
        for row in decoded(lines):
            chunk.add(self.stage, *self.decide(row))
        return chunk


def rows_of(path: Path) -> Iterator[dict]:
    with path.open("rb") as lines:
        yield from map(json.loads, lines)


@dataclass(frozen=True)
class Stage:
    """settings: all its outcome depends on beside its input; JSON.

    run: decides on the rows of a file, in their order; the first stage gets None and reads the sources. Its second
    argument changes with all that its outcome depends on.
    """

    name: str
    settings: dict
    run: Callable[[Path | None, str], Iterator[Chunk]]


class Lost(RuntimeError):
    """Rows were lost or doubled: a defect of this program."""


class Stages:
    """Runs stages in a directory.

    say: prints a line. bar: wraps an iterator of chunks, given a stage's name and number of rows if it is known.
    """

    def __init__(self, directory: Path, say: Callable[[str], None], bar: Callable):
        self.directory, self._say, self._bar = directory, say, bar
        directory.mkdir(parents=True, exist_ok=True)

    def rows(self, stage: str) -> Path:
        return self.directory / f"{stage}.jsonl"

    def rejects(self, stage: str) -> Path:
        return self.directory / f"{stage}.rejects.jsonl"

    def run(self, stages: list[Stage]) -> list[dict]:
        """The summaries of all stages: stage, settings, fingerprint, read, kept, rejected, seconds, reasons, sources.

        Raises:
            Lost: a stage did not account for every row.
        """
        summaries: list[dict] = []
        for stage in stages:
            before = summaries[-1] if summaries else None
            # Through JSON once, as the one it is compared with was.
            settings = json.loads(json.dumps(stage.settings))
            fingerprint = self._fingerprint(stage.name, settings, before)
            done = self._done(stage.name)
            if done is not None and done["fingerprint"] == fingerprint:
                self._say(f"{stage.name}: done before, {_counts(done)}")
                summaries.append(done)
                continue
            if done is not None:
                self._say(f"{stage.name}: again, {_difference(done['settings'], settings)}")
            summary = {"stage": stage.name, "settings": settings, "fingerprint": fingerprint}
            summaries.append(summary | self._decide(stage, before, fingerprint))
            self._write(summaries[-1])
            self._say(f"{stage.name}: {_counts(summaries[-1])}, {summaries[-1]['seconds']:.1f} s")
        return summaries

    def _fingerprint(self, name: str, settings: dict, before: dict | None) -> str:
        text = json.dumps([FORMAT, name, settings, before and before["fingerprint"]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _done(self, name: str) -> dict | None:
        summary = self.directory / f"{name}.json"
        if not (summary.exists() and self.rows(name).exists() and self.rejects(name).exists()):
            return None
        try:
            return json.loads(summary.read_bytes())
        except ValueError as error:
            raise ValueError(f"{summary}: no JSON ({error}); delete it") from error

    def _write(self, summary: dict) -> None:
        with replacing(self.directory / f"{summary['stage']}.json") as partial:
            partial.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _decide(self, stage: Stage, before: dict | None, fingerprint: str) -> dict:
        previous = self.rows(before["stage"]) if before else None
        (self.directory / f"{stage.name}.json").unlink(missing_ok=True)
        kept = rejected = 0
        reasons: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        began = time.monotonic()
        with (
            replacing(self.rows(stage.name)) as kept_path,
            replacing(self.rejects(stage.name)) as rejected_path,
            kept_path.open("wb") as kept_file,
            rejected_path.open("wb") as rejected_file,
        ):
            for chunk in self._bar(stage.run(previous, fingerprint), stage.name, before and before["kept"]):
                kept_file.writelines(chunk.kept)
                rejected_file.writelines(chunk.rejected)
                kept += len(chunk.kept)
                rejected += len(chunk.rejected)
                reasons += chunk.reasons
                sources += chunk.sources
            read = before["kept"] if before else kept + rejected
            if kept + rejected != read:
                raise Lost(f"{stage.name}: {kept} rows kept and {rejected} rejected of {read}")
        return {
            "read": read,
            "kept": kept,
            "rejected": rejected,
            "seconds": round(time.monotonic() - began, 3),
            "reasons": dict(reasons.most_common()),
            "sources": dict(sources.most_common()),
        }


def _counts(summary: dict) -> str:
    return f"{summary['kept']:,} of {summary['read']:,} kept"


def _difference(before: dict, now: dict) -> str:
    changed = [
        f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    return "as " + " and ".join(changed) if changed else "as its input has changed"


def _short(value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
