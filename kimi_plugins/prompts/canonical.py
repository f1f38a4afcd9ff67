r"""One form of a problem for all ways to write it, by which duplicates and evaluation questions are recognised.

Numbering, points and instructions about the answer ("put it in \boxed{}") are not part of a problem, and neither is
the spelling of its LaTeX. What is left are tokens: words, numbers, symbols, and characters of scripts without spaces.
"""

import hashlib
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """tokens: all of the problem. core: from the first to the last sentence with a number or a question mark.

    numbers: of the problem in their order, those in words too.
    """

    tokens: list[str]
    core: list[str]
    numbers: list[str]


# LaTeX and characters

_WIDE: dict[int, int | str] = {**{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}, 0x3000: " "}
_CHARACTERS = str.maketrans(
    _WIDE
    | {ord(mark): " - " for mark in "−–—"}
    | {ord(mark): " * " for mark in "×·⋅∙"}
    | {
        ord("÷"): " / ",
        ord("≤"): " le ",
        ord("≥"): " ge ",
        ord("≠"): " ne ",
        ord("≈"): " approx ",
        ord("∞"): " infty ",
    }
    | {
        ord("√"): " sqrt ",
        ord("°"): " ^circ ",
        ord("∠"): " angle ",
        ord("△"): " triangle ",
        ord("⊥"): " perp ",
        ord("∥"): " parallel ",
        ord("≡"): " equiv ",
        ord("±"): " pm ",
        ord("∑"): " sum ",
        ord("∫"): " int ",
        ord("→"): " rightarrow ",
        ord("∈"): " in ",
        ord("∪"): " cup ",
        ord("∩"): " cap ",
        ord("…"): " … ",
    }
    | {
        ord(mark): f" {name} "
        for mark, name in zip(
            "αβγδθλμπσφωΔΩ",
            "alpha beta gamma delta theta lambda mu pi sigma phi omega delta omega".split(),
            strict=True,
        )
    }
    | {ord(mark): f"^{number}" for number, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {ord(mark): f"_{number}" for number, mark in enumerate("₀₁₂₃₄₅₆₇₈₉")}
    | {ord("½"): " 1/2 ", ord("¼"): " 1/4 ", ord("¾"): " 3/4 ", ord("’"): "'", 0xA0: " ", 0x2009: " ", 0x202F: " "}
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_SCRIPT = re.compile(r"([_^])\s*\{([^{}\\]*)\}")
_SKIPPED = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|quad|qquad|thinspace|mathrm|mathbf|mathit|"
    r"mathsf|mathbb|mathcal|text(?:rm|bf|it|sf|tt|normal)?|operatorname|mbox|hbox|boldsymbol|bm|bf|rm|it)(?![A-Za-z])\*?"
    r"|\\[,;:! ()\[\]]|[$~{}]|\\\\|\*\*"
)
_SAME = {  # commands that mean the same
    "leq": "le", "leqslant": "le", "leqq": "le", "geq": "ge", "geqslant": "ge", "geqq": "ge", "neq": "ne", "lt": "<",
    "gt": ">", "cdot": "*", "times": "*", "div": "/", "ldots": "…", "dots": "…", "cdots": "…", "dotsc": "…",
    "degree": "circ", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "to": "rightarrow", "land": "wedge",
    "dfrac": "frac", "tfrac": "frac",
    "cfrac": "frac", "varnothing": "emptyset", "varphi": "phi",
    "varepsilon": "epsilon", "lbrace": "{", "rbrace": "}", "%": "%",
    "colon": ":",
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+|.)")
_SYMBOLS = (("<=", " le "), (">=", " ge "), ("!=", " ne "), ("...", " … "), ("\\$", " "), ("\\%", "%"))
_THOUSANDS = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))|\{,\}(?<=\d\{,\})(?=\d{3}(?!\d))")
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_TOKEN = re.compile(rf"\d+(?:\.\d+)?|[{_CJK}]|[^\W\d_{_CJK}]+|[^\w\s,.:;?'\"“”。，：；？、‘’_]")

_ASCII_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[^\w\s,.:;?'\"]")  # the same on lower-case ASCII, faster


def _plain(text: str) -> str:
    """The text with one spelling of its LaTeX, and without case."""
    if not text.isascii():
        text = text.translate(_CHARACTERS)
    text = _THOUSANDS.sub("", text)
    if "\\" in text or "$" in text:
        text = _SCRIPT.sub(r"\1 \2 ", text)
        for _ in range(3):  # nested fractions, from inside
            text, count = _FRACTION.subn(_over, text)
            if not count:
                break
        text = _SKIPPED.sub(" ", text)
        text = _COMMAND.sub(lambda found: f" {_SAME.get(found[1], found[1])} ", text)
    elif "{" in text or "~" in text or "*" in text:
        text = _SKIPPED.sub(" ", text)
    for written, meant in _SYMBOLS:
        if written in text:
            text = text.replace(written, meant)
    return text.casefold()


def _over(found: re.Match) -> str:
    return f" {found[1] or found[2] or ''} / {found[3] or found[4] or ''} "


# Numbering, points, instructions

_LABEL = re.compile(
    r"\A\W*(?:(?:(?:problem|question|exercise|example|task|puzzle|challenge|item|aufgabe|problème|problema|exercice|"
    r"ejercicio|задача|題|q|ex|p|no|nr)(?![^\W\d])\s*(?:statement|no|number|#)?\s*[.:#]*\s*(?:[\d.]+[a-z]?)?|例|第\s*[\d一二三四五六七"
    r"八九十]+\s*[题題问])\s*[*.:)\]、-]*\s+(?=\S)"
    r"|(?:例|题|題|问题|题目|解答题|填空题|计算题|应用题)\s*\d*\s*[.:、]\s*|例\s*\d+\s+|【[^】\n]{1,8}】\s*(?=\S)"
    r"|请[^，,。\n]{0,12}(?:思考|推理|解答|作答)[，,]\s*(?=\S)"
    r"|\(?\d{1,3}\s*[.)、]\s*(?=[^\d\s])(?=\D)"
    r"|[\[({]\s*(?:\d+(?:\.\d+)?\s*(?:points?|pts?\.?|marks?|分)|(?:本|此|每)?(?:小)?题?(?:满分|共)?\s*\d+\s*分|[^\])}\n]{0,40}\b"
    r"(?:19|20)\d\d\b[^\])}\n]{0,30})\s*[\])}]\s*[.:]?"
    r"|(?:user|human|prompt|input|instruction|student|teacher)\s*:\s*)",
    re.IGNORECASE,
)
_CHAT = re.compile(
    r"<\|[a-z_]{2,30}\|>(?:(?:user|system|assistant|human)\s*\n|(?:user|system|assistant)(?=<\|))?|</?s>|\[/?INST\]",
    re.IGNORECASE,
)  # tokens of chat templates
_POINTS = re.compile(
    r"</?(?:problem|question|task|exercise|math|instruction|input)>|[\[({]\s*(?:worth\s*)?\d+(?:\.\d+)?\s*(?:points?|pts?\.?|marks?|分)\s*[\])}]|[(]\s*(?:本|此|每)?(?:小)?题?(?:满分|共)\s*\d+"
    r"\s*分\s*[)]",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.?!]+[\"”’)\]]*(?:\s+|(?=[\u4e00-\u9fff]))|[。？！：]|:(?:\s+|(?=[\u4e00-\u9fff]))|\n+")
_BOX = re.compile(
    r"\\?boxed\s*(?:\{[^{}]*\})?|\\fbox\s*\{[^{}]*\}|<\/?(?:think|answer)>|answer:\s*\$?answer\b", re.IGNORECASE
)
_INSTRUCTION = frozenset(
    """a about across add after again all alone along also always an and answer answers any append appropriate
    are as ask asked asks assistant at attempt back based be before begin below best block both box boxed
    braces brackets brief briefly but by calculate calculation calculations can careful carefully chain check
    clear clearly close code come common competition complete completely concise concisely conclude
    conclusion consider consist contain containing contest correct could curly dear decimal derive detail
    detailed details determine do does dollar double each either enclose enclosed end ending ends ensure
    every everything exact exactly exam example except exercise expert explain explanation explanations
    express expressed expression few final finally find finish first follow following for form format
    formatted fraction from full fully get give given go good great having help helpful here highlight how i
    i'd if in inside instead instructions integer into is it its itself just keep kindly last latex lead
    leave let let's like line lines list logic logically luck make markdown math mathematical mathematician
    mathematics maths may me method might much must my neatly need needed needs never new next no not note
    nothing now number of ok olympiad on once one only or order other our out output own part parts place
    placed please point possible precise present presented print problem problems process produce
    professional proper provide put puzzle question quotes rather raw read reading reason reasoned reasoning
    remember reply report required respond response result results return review right rigorous said same
    sentence separate should show simple simplest simplified simplify single skilled so solution solutions
    solve solver solving some space start state statement step steps stepwise straight student submit such
    sure surround tag tags take task teacher tell text than thank thanks that the their them then there these
    thing think thinking this those thought thoughts through thus to today together too try tutor unit units
    until up use user using value verify very via want was way we well what when where which will with within
    without words work working would wrap wrapped write writing written yes you your yourself""".split()
)
_ABOUT = frozenset(
    """answer answers box boxed exercise explain explanation format instructions line output problem problems puzzle
    question reason reasoning reply respond response result solution solve solving step steps task think thinking work
    working assistant expert mathematician tutor luck latex thoughts thought""".split()
)
_STEMS = (  # one of them is in every instruction that is not Chinese or Japanese
    *("answer", "box", "exercise", "expla", "format", "instruct", "line", "output", "problem", "puzzle", "question"),
    *("reason", "reply", "respon", "result", "solution", "solv", "step", "task", "think", "thought", "work", "luck"),
    *("assistant", "expert", "mathematician", "tutor", "latex", "schritt", "étape", "paso", "respuesta", "réponse"),
    *("antwort", "пошагово", "ответ"),
)
_INSTRUCTION_CJK = frozenset(
    "请解答回计算求下面列题目问以数学完成思考一步逐推理并将把最终后结果案放在写中内里的用给出填空选择应本为你是位专家"
    "仔细认真根据要过程详和与到框文方式好尝试帮我做这道个"
)
_ABOUT_CJK = re.compile("解答|回答|答案|题目|问题|这道题|本题|思考|推理|步骤|下列|下面")
_ABROAD = re.compile(
    r"\b(?:schritt für schritt|étape par étape|paso a paso|respuesta final|réponse finale|endgültige antwort|"
    r"пошагово|окончательный ответ|ответ запишите)\b",
    re.IGNORECASE,
)
_TEMPLATES = re.compile(  # phrases of competitions about the form of the answer
    r"(?:can be |is |be )?(?:written|expressed) (?:uniquely )?(?:as|in the form)\s+(?:an? |the )?(?:irreducible |"
    r"reduced |common )?(?:fraction )?[a-z]\s+/\s+[a-z](?![a-z])"
    r"|,?\s*(?:where|for|with)\s+(?:(?:[a-z]|,|and|integers?|positive|are)\s+)*(?:relatively prime|coprime)"
    r"(?: positive)?(?: integers?| numbers)?"
)
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_CJK_CHARACTER = re.compile(rf"[{_CJK}]")


def _may_instruct(text: str) -> bool:
    """Whether a sentence of the text can be an instruction; a quick check, as most texts have none."""
    lower = text.lower()
    for word in _STEMS:  # not any(): this is asked of every row
        if word in lower:
            return True
    return not text.isascii() and _CJK_CHARACTER.search(text) is not None


def _instructs(sentence: str) -> bool:
    """Whether a sentence only speaks of how to answer."""
    rest = _BOX.sub(" boxed ", sentence)
    if _CJK_CHARACTER.search(rest):
        characters = set(_CJK_CHARACTER.findall(rest))
        return bool(not re.search(r"\d", rest) and _ABOUT_CJK.search(rest) and characters <= _INSTRUCTION_CJK)
    if re.search(r"\d", rest):
        return False
    words = _WORD.findall(rest.casefold())
    if words and (_ABOUT.intersection(words) or not words) and all(word in _INSTRUCTION for word in words):
        return len(words) > 1 or rest.strip().endswith(":") or words[0] in ("answer", "solution", "boxed", "question")
    return bool(_ABROAD.search(rest)) and not re.search(r"\?", rest)


_ONES = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_NUMBER_WORDS = frozenset(
    f"{_ONES}|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|"
    "eighty|ninety|hundred|thousand|million|half|twice|double|triple|dozen|third|quarter".split("|")
) | frozenset("二两三四五六七八九十百千万亿半")
_DIGITS = frozenset("0123456789")
# 一 is mostly part of a word.
_CJK_ONE = re.compile(r"一(?=\s*[个支本只条件位名元角分米厘天年月周次辆台张块斤公千克升吨箱包袋盒瓶杯岁点])")


def problem(text: str) -> Problem:
    """The problem that a text states, without case, numbering, instructions and the spelling of its LaTeX."""
    if not text.isascii():
        text = text.translate(_WIDE)
    if "<" in text or "[" in text:
        text = _CHAT.sub(" ", text)
    while (shorter := _LABEL.sub("", text, count=1)) != text and shorter.strip():
        text = shorter
    if "(" in text or "[" in text or "<" in text or "{" in text:
        text = _POINTS.sub(" ", text)
    marked = _SENTENCE_END.sub("\\g<0>\x1e", text)
    kept = [sentence for sentence in marked.split("\x1e") if sentence.strip()]
    if _may_instruct(text):
        kept = [sentence for sentence in kept if not _instructs(sentence)]
    if not kept:
        kept = [text]
    asks = [at for at, sentence in enumerate(kept) if _DIGIT_OR_QUESTION.search(sentence)]
    first, last = (asks[0], asks[-1] + 1) if asks else (0, len(kept))
    before, core, after = (_tokens("\n".join(part)) for part in (kept[:first], kept[first:last], kept[last:]))
    tokens = before + core + after
    numbers = [token for token in tokens if token[0] in _DIGITS or token in _NUMBER_WORDS]
    if "一" in text:
        numbers += _CJK_ONE.findall(text)
    return Problem(tokens, core, numbers)


def _tokens(text: str) -> list[str]:
    if not text:
        return []
    text = _plain(text)
    if "prime" in text or " / " in text:
        text = _TEMPLATES.sub(" ", text)
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)


_DIGIT_OR_QUESTION = re.compile(r"[\d?？$\\]")


# Answers

_ANSWER_NUMBER = re.compile(r"([-+]?)\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:/\s*(\d+))?(\s*%)?")


def answer_key(answer: str) -> str:
    """Equal for spellings of one answer: numbers by value, the rest by its tokens."""
    if answer.isdecimal():
        return str(int(answer))
    text = _plain(answer.strip().strip("."))
    text = re.sub(r"^\s*(?:[a-z]\s*=(?!.*[=,]))|\bboxed\b", " ", text).strip()
    if found := _ANSWER_NUMBER.fullmatch(" ".join(text.split()).replace("- ", "-").lstrip("+")):
        sign, number, below, percent = found.groups()
        if below is None or int(below):
            value = Fraction(number) / int(below or 1)
            return f"{-value if sign == '-' else value}{'%' if percent else ''}"
    return " ".join(re.findall(rf"\d+(?:\.\d+)?|[{_CJK}]|[^\W\d_]+|[^\w\s]", text))


def shingles(tokens: list[str]) -> list[str]:
    """Runs of three tokens, all where there are fewer; for scripts without spaces, characters and pairs of them."""
    if len(tokens) < 3:
        return [" ".join(tokens)]
    if max(tokens) >= "\u3040" and 2 * sum(token >= "\u3040" for token in tokens) > len(tokens):
        return tokens + [one + other for one, other in zip(tokens, tokens[1:], strict=False)]
    return [f"{one} {two} {three}" for one, two, three in zip(tokens, tokens[1:], tokens[2:], strict=False)]


def hashes_of(texts: Iterable[str]) -> np.ndarray:
    """64 bits of BLAKE2b of each text: uint64 [texts]."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
