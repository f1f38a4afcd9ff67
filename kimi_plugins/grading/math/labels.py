r"""Right answers as data sets write them, reduced to what a solver would write.

A label may stand after ``####`` (GSM8K), at the end of a solution in a box, in a sentence ("The period is 8"), or with
a remark ("8 (students)"). Some labels are no answers at all ("N/A", "See the figure").
"""

import re

from kimi_plugins.grading.extraction import NoAnswer, final_answers
from kimi_plugins.grading.math.comparing import UnreadableReference, fault_of, leaves
from kimi_plugins.grading.math.notation import tidy
from kimi_plugins.grading.math.parser import Unreadable, expression
from kimi_plugins.grading.math.reading import Term, read

_HASHES = re.compile(r"^####\s*(.+?)\s*$", re.MULTILINE)
_NUMBER = r"[-+−]?\s*(?:\\?\$\s*)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?"
_LATEX = r"[-+−]?\s*\\[dt]?frac\s*(?:\{[^{}]+\}\s*\{[^{}]+\}|\d\s*\d)|[-+−]?\s*\d*\s*\\sqrt\s*(?:\{[^{}]+\}|\d)"
_MATH = r"\$[^$]+\$|\\\([^$]+?\\\)"
_VALUE = rf"(?:{_MATH}|{_LATEX}|{_NUMBER})"
_WORDS = r"(?:[A-Za-z][A-Za-z'’-]*+[ ,]*+)"  # possessive: each word is matched in one way

_LEAD = re.compile(
    r"^\s*(?:\*\*|\\text(?:bf)?\{)?\s*(?:(?:the |my )?(?:final |correct |right )?(?:answers?"
    r"|solutions?|result|ans)\b\s*(?:is|are|=)?"
    r"\s*[:.=]*|(?:ans|sol)\s*[.:]+|(?:答案|答|解)\s*(?:是|为)?\s*[:：])\s*\}?(?:\*\*)?\s*(?=\S)",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^\s*(?:\\approx(?![A-Za-z])|\\simeq(?![A-Za-z])|≈|≃|(?:approximately|approx\.?|about|around|roughly)\s)\s*", re.I
)
_ROUNDED = re.compile(
    rf"^\s*\$?\s*({_LATEX}|{_NUMBER}|[^$≈]*?\\pi|[^$≈]*?\\sqrt[^$≈]*?)\s*(?:\\approx(?![A-Za-z])|≈)[^≈]*$", re.I
)
_REMARK = re.compile(
    rf"^\s*({_VALUE})\s*\(\s*(?!(?:mod|base|x|y|z|n|k|a|b)\b)([^()\d=+*/\\]*[A-Za-z²³°][^()=+*\\]*)\s*\)\s*\.?$"
)
_ONLY = re.compile(rf"^\s*({_VALUE})\s+(?:is|are) (?:the|a|an|our)\b {_WORDS}+\.?$", re.IGNORECASE)
_COUNTED = re.compile(
    rf"^\s*(?:at (?:least|most)|exactly|only|a total of|in total|no (?:more|less|fewer) than"
    rf"|there (?:are|is)(?: exactly)?)\s+"
    rf"({_VALUE})(?:\s+{_WORDS}+)?\.?$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    rf"^\s*{_WORDS}+\b(?:is|are|equals?|be|becomes?|was"
    rf"|were)(?: equal to)?\s*:?\s*({_VALUE})(\s+{_WORDS}{{1,3}})?\s*\.?$",
    re.I,
)
_NEGATED = re.compile(r"\b(?:not|never|no|than|if|unless|when|where|divisible|multiple)\b", re.IGNORECASE)
_INFINITE = re.compile(
    r"^\s*(?:\\text\{)?\s*(?:there are )?infinite(?:ly)?(?: many)?(?: (?:solutions?|values?|pairs?"
    r"|numbers?))?\s*\}?\.?$",
    re.I,
)

_NO_ANSWER = re.compile(
    r"(?:nan|none|null|nil|n\.?\s?/?\s?a\.?|tba|tbd|todo|xxx?|unknown|unspecified|missing|empty"
    r"|blank|omitted|no answer.*|not (?:given|"
    r"available|applicable|provided|specified|known)|(?:the )?(?:proofs?|solutions?)(?: (?:is "
    r"|are )?(?:above|below|omitted|attached|given|"
    r"follows?|complete|in (?:the )?text))?\.?|proved|proven|shown|done|verified|q\.?e\.?d\.?"
    r"|(?:\\(?:black)?square|□|■)|"
    r"(?:please |as )?(?:see|refer to|shown in|given in|check|look at|cf\.?)\b.*"
    r"|(?:the )?(?:answers?|solutions?|results?|responses?|proofs?|examples?) "
    r"(?:may|can|will|might)?\s*(?:vary|varies|differ|depends?)\b.*|varies|various(?: answers)?"
    r"|it depends\b.*|depends on .*|open[- ]ended|"
    r"any (?:reasonable|valid|correct) answers?.*|sample (?:answer|response)s?\b.*|[-–—?.*_#…/\s]+|略"
    r"|证明略|解略|见(?:解析|图|答案|详解).*|无|无答案|"
    r"暂无.*|证毕|待定|答案不唯一.*)",
    re.IGNORECASE | re.DOTALL,
)
MOST_WORDS = 2  # of a unit, "square metres"
_COUNTING = frozenset(
    "half quarter quarters third thirds fourth fifth sixth seventh eighth ninth tenth hundred".split()
)
_PREPOSITIONS = frozenset(
    "of in per each for to from by with at on and or as because since about the a an total".split()
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{([^{}]*)\}")


def infinite(text: str) -> str:
    r"""``\infty`` for "infinitely many" in its forms; other texts as they are."""
    return r"\infty" if _INFINITE.match(text) else text


def clean(label: str) -> str:
    """The answer alone: what stands after the last ``####`` or in the last box, without lead-in, remark, sentence."""
    if found := _HASHES.findall(label):
        label = found[-1]
    elif r"\boxed" in label or r"\fbox" in label:
        try:
            label = ", ".join(final_answers(label))
        except NoAnswer:
            return label
    if infinite(label) != label:
        return infinite(label)
    lead = _LEAD.sub("", label, count=1)
    label = _ABOUT.sub("", lead if lead.strip(" .") else label, count=1)
    for pattern in (_REMARK, _ONLY, _COUNTED, _ROUNDED, _SENTENCE):
        match = pattern.match(label)
        if match and not (pattern is _SENTENCE and _NEGATED.search(label)):
            return match[1].strip() + (_unit(match[2]) if pattern is _REMARK else "")
    return re.sub(r"(?<=[\d$])\.\s*$", "", label)


def _unit(remark: str) -> str:
    """What a remark in parentheses adds to the number: a unit or what is counted, no longer remark."""
    words = re.split(r"\s+(?:of|in|per|for|with)\s", remark.strip())[0].lower().split()
    if len(words) > MOST_WORDS or words[0] in _PREPOSITIONS or _COUNTING.intersection(words):
        return ""
    remark = " ".join(words) if " ".join(words) != remark.strip().lower() else remark
    if re.fullmatch(r"[A-Za-z ]+", remark):
        return rf"\text{{ {remark.strip()}}}"
    return f" {remark.strip()}" if re.search(r"[/²³°]", remark) else ""


def no_answer(label: str) -> bool:
    """Whether the label only says that there is no answer, or where it is."""
    return _NO_ANSWER.fullmatch(_TEXT.sub(r"\1", label).strip(" $.!\n\t")) is not None or not label.strip(" $.")


def fault(label: str) -> str | None:
    """Why no answer can be graded with a label: it is empty, malformed or none. None if answers can."""
    text = tidy(clean(label))
    if not text:
        return "it is empty"
    if no_answer(label):
        return "it says that there is no answer, or where it is"
    try:
        for leaf in leaves(read(text)):
            if isinstance(leaf, Term):
                expression(leaf.text)
    except Unreadable as error:
        if isinstance(fault_of(text, error), UnreadableReference):
            return f"it is malformed: {error}"
    return None
