"""One grader for mixed data: what grades a response depends on the kind of its row (k1.5 §2.3.5).

Imports only what a kind needs, when it is first needed: usable in any trainer.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from kimi_plugins import options
from kimi_plugins.grading.functions import Function, FunctionFailed, TimedOut
from kimi_plugins.grading.verdict import Verdict

KINDS = ("math", "code", "judge", "exact", "regex", "vision")  # beside functions and the reward file
FILE = "file"  # what reward.remote_url names: the function of a reward file, or reward servers
_TEXT = "kimi_plugins.grading.text"


@dataclass(frozen=True)
class Settings:
    """Options of all kinds.

    file: path of the reward file, or addresses of reward servers, for the kind `file`.
    vision_pattern: of the final answer of the kind vision; None: that of math.
    """

    math: options.MathGrader = field(default_factory=options.MathGrader)
    code: options.CodeGrader = field(default_factory=options.CodeGrader)
    judge: options.Judge = field(default_factory=options.Judge)
    text: options.TextGrader = field(default_factory=options.TextGrader)
    functions: options.Functions = field(default_factory=options.Functions)
    file: str | tuple[str, ...] | None = None
    vision_pattern: str | None = None


class Grade(NamedTuple):
    """reward and score are None if the grader failed, which says nothing of the response.

    reward: what is trained on. score: how right the response is. logs: further numbers by name. traceback: of a user's
    function that raised.
    """

    reward: float | None
    score: float | None
    reason: str = ""
    logs: dict[str, float] = {}
    traceback: str = ""

    @property
    def failed(self) -> bool:
        return self.score is None


def is_function(kind: str) -> bool:
    """Whether a kind is written as module:function."""
    module, separator, name = kind.partition(":")
    return bool(separator) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def kind_problem(kind: object) -> str | None:
    """Why this is not a kind; None if it is one."""
    if isinstance(kind, str) and (kind in (*KINDS, FILE) or is_function(kind)):
        return None
    return f"{kind!r} is not a kind; choose {', '.join(KINDS)}, {FILE} or module:function"


class Grader:
    """Grades responses by kind. Can be called from any thread, and pickled: a copy starts its own processes.

    close() or `with` ends them.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._lock = threading.Lock()
        self._started: dict[str, tuple[Callable[..., Grade], Callable[[], None]]] = {}

    def __reduce__(self):
        return Grader, (self.settings,)

    def grade(
        self,
        kind: str,
        response: str,
        label: object,
        question: str = "",
        prompt: str = "",
        query: str | None = None,
    ) -> Grade:
        """The grade of one response.

        Args:
            kind: see kind_problem.
            response: without the prompt, the opening tag of a thinking that the prompt opens included.
            label: the reference answer, for code the problem with its test cases.
            question: what a judge is shown. prompt, query: what a function gets, see Function.grade.
        """
        if (problem := kind_problem(kind)) is not None:
            return Grade(None, None, problem)
        if label is None or (isinstance(label, str) and not label.strip()):
            if not is_function(kind) and kind != FILE:
                return Grade(None, None, "the row has no label")
        with self._lock:
            if kind not in self._started:
                try:
                    self._started[kind] = self._start(kind)
                except (OSError, ValueError) as error:
                    return Grade(None, None, f"{kind} cannot be graded: {error}")
            grade, _ = self._started[kind]
        return grade(response, label, question, prompt, query)

    def close(self) -> None:
        with self._lock:
            for _, close in self._started.values():
                close()
            self._started.clear()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _start(self, kind: str) -> tuple[Callable[..., Grade], Callable[[], None]]:
        if kind in ("math", "vision"):
            return self._math(kind)
        if kind == "code":
            return self._code()
        if kind == "judge":
            return self._judge()
        if kind in ("exact", "regex"):
            return self._function(f"{_TEXT}:{kind}", {"pattern": self.settings.text.answer_pattern})
        if kind != FILE:
            return self._function(kind, {})
        if isinstance(self.settings.file, str):
            return self._function(self.settings.file, {})
        return self._servers()

    def _servers(self) -> tuple[Callable[..., Grade], Callable[[], None]]:
        from kimi_plugins.grading.servers import Servers

        if not self.settings.file:
            raise ValueError(f"the kind {FILE} needs a reward file; name it in reward.remote_url")
        servers = Servers(list(self.settings.file), self.settings.functions.timeout)

        def grade(response: str, label: object, _question: str, prompt: str, query: str | None) -> Grade:
            try:
                found = servers.grade(prompt + response if query is None else query, prompt, label)
            except FunctionFailed as error:
                return Grade(None, None, str(error))
            return Grade(found.reward, found.score, "", found.logs)

        return grade, servers.close

    def _math(self, kind: str) -> tuple[Callable[..., Grade], Callable[[], None]]:
        from kimi_plugins.grading.workers import Pool

        settings = asdict(self.settings.math)
        pattern = settings.pop("answer_pattern")
        if kind == "vision" and self.settings.vision_pattern is not None:
            pattern = self.settings.vision_pattern
        pool = Pool(pattern=pattern, **settings)
        return lambda response, label, *_: of_verdict(pool.grade(response, str(label))), pool.close

    def _code(self) -> tuple[Callable[..., Grade], Callable[[], None]]:
        from kimi_plugins.grading.programs import Problem, judge, read_label
        from kimi_plugins.sandbox.pool import Sandbox, SandboxUnavailable

        try:
            sandbox = Sandbox(workers=self.settings.code.workers, python=self.settings.code.python)
        except SandboxUnavailable as error:
            raise OSError(str(error)) from error

        def grade(response: str, label: object, *_) -> Grade:
            try:
                problem = Problem.parse(label) if isinstance(label, dict) else read_label(str(label))
            except (ValueError, OSError) as error:
                return Grade(None, None, str(error))
            return of_verdict(judge(response, problem, sandbox))

        return grade, sandbox.close

    def _judge(self) -> tuple[Callable[..., Grade], Callable[[], None]]:
        from kimi_plugins.grading.judge.judge import Judge, Judged

        judge = Judge(**asdict(self.settings.judge), **asdict(self.settings.math))

        def grade(response: str, label: object, question: str, *_) -> Grade:
            verdict = judge.grade(question, response, str(label))
            return of_verdict(verdict)._replace(logs={"judge_asked": float(isinstance(verdict, Judged))})

        return grade, judge.close

    def _function(self, target: str, extra: dict) -> tuple[Callable[..., Grade], Callable[[], None]]:
        text = target.startswith(f"{_TEXT}:")
        function = Function(target, extra, **asdict(self.settings.functions))

        def grade(response: str, label: object, _question: str, prompt: str, query: str | None) -> Grade:
            try:
                found = function.grade(response, label, prompt, query)
            except TimedOut as error:
                # A pattern of ours is slow on this response alone: it must not escape being wrong.
                return Grade(0.0, 0.0, str(error)) if text else Grade(None, None, str(error))
            except FunctionFailed as error:
                return Grade(None, None, str(error), traceback=error.traceback)
            return Grade(found.reward, found.score, "", found.logs)

        return grade, function.close


def of_verdict(verdict: Verdict) -> Grade:
    if verdict.correct is None:
        return Grade(None, None, verdict.reason)
    return Grade(float(verdict.correct), float(verdict.correct), verdict.reason)
