"""Rules first, then vetoes, then the judge (k1.5 §2.3.5)."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from itertools import islice

from kimi_plugins import options
from kimi_plugins.grading.extraction import NoAnswer, final_answers
from kimi_plugins.grading.judge import cache
from kimi_plugins.grading.judge.client import Client, Failed
from kimi_plugins.grading.judge.prompt import Case
from kimi_plugins.grading.judge.vetoes import veto
from kimi_plugins.grading.verdict import Kind, Verdict
from kimi_plugins.grading.workers import Pool


class Judged(Verdict):
    """A verdict that the reward model gave, now or when it was asked the same before."""


class Judge:
    """Grades responses by rules and, where those cannot decide, by a reward model.

    settings: fields of options.Judge and options.MathGrader. Methods can be called from any thread; close() or `with`
    ends the grader processes.

    Raises:
        ValueError: a setting is invalid; names it and the fix.
    """

    def __init__(self, **settings) -> None:
        mine = {field.name for field in fields(options.Judge)}
        self._settings = options.Judge(**{name: settings.pop(name) for name in mine & set(settings)})
        rules = asdict(options.MathGrader(**settings))
        for problem in options.invalid_values(self._settings, "rewards.judge"):
            raise ValueError(problem)
        if self._settings.kind == "classic" and not self._settings.eos_token:
            raise ValueError(f"kimi.rewards.judge.eos_token is not set: {options.CLASSIC_NEEDS}")
        self._pattern = rules.pop("answer_pattern")
        self._rules = Pool(pattern=self._pattern, **rules)
        self._cache = cache.Cache(self._settings.cache, self._settings.cache_size)
        self._client = Client(self._settings)

    def grade(self, question: str, response: str, reference: str) -> Verdict:
        """The verdict on one response; correct None if neither the rules nor the judge could say, with the reason."""
        verdict = self._rules.grade(response, reference)
        open_to_judge = verdict.undecided
        if not (open_to_judge or self._settings.ask == "always") or (verdict.correct is None and not open_to_judge):
            return verdict
        try:
            answers = final_answers(response, self._pattern)
        except NoAnswer as error:
            return Verdict(Kind.WRONG, str(error))
        answer = ", ".join(dict.fromkeys(answers))
        if not reference.strip():
            return verdict
        if not verdict.correct and (reason := veto(answer, reference, question)):
            return Verdict(Kind.WRONG, f"veto: {reason}")
        return self._ask(Case(question, reference, answer))

    def grade_all(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Verdict]:
        """The verdicts of (question, response, reference), in their order; many are asked at a time."""
        rows = iter(rows)
        with ThreadPoolExecutor(self._settings.concurrency) as threads:
            while batch := list(islice(rows, 8 * self._settings.concurrency)):
                yield from threads.map(lambda row: self.grade(*row), batch)

    def _ask(self, case: Case) -> Verdict:
        judge = self._client.identity()
        if judge is None and self._settings.cache is None:
            judge = self._settings.url  # of this process alone
        key = None if judge is None else cache.key(case, self._settings, judge)  # else nobody says whose verdict it is
        if key is not None and (known := self._cache.get(key)) is not None:
            correct, reason = known
            return Judged(Kind.of(correct), reason)
        try:
            correct, reason = self._client.ask(case)
        except Failed as error:
            return Verdict(Kind.FAILED, str(error))
        verdict = Judged(Kind.of(correct), f"judge: {reason}")
        if key is not None:
            self._cache.put(key, correct, verdict.reason)
        return verdict

    def close(self) -> None:
        self._client.close()
        self._rules.close()
        self._cache.close()

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_) -> None:
        self.close()
