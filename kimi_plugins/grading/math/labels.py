r"""Right answers as data sets write them, reduced to what a solver would write.

A label may stand after ``####`` (GSM8K), at the end of a solution in a box, in a sentence ("The period is 8"), or with
a remark ("8 (students)"). Some labels are not answers at all ("N/A", "See the figure").
"""

import re

from kimi_plugins.grading.extraction import NoAnswer, final_answers
from kimi_plugins.grading.math.comparing import UnreadableReference, fault_of, leaves
from kimi_plugins.grading.math.notation import tidy
from kimi_plugins.grading.math.parser import Unreadable, expression
from kimi_plugins.grading.math.reading import Term, read

_WIDE: dict[int, int | str] = {
    code: code - 0xFEE0 for code in (*range(0xFF08, 0xFF0A), *range(0xFF0E, 0xFF1A), 0xFF05, 0xFF0D)
}
_TAGS = re.compile(r"<answer>\s*(.+?)\s*</answer>", re.IGNORECASE | re.DOTALL)
_QUOTES = re.compile(r"^\s*([`\"])([^`\"]+)\1\s*$")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<(?:image|img)\b[^>]*>", re.IGNORECASE)
_HASHES = re.compile(r"^####\s*(.+?)\s*$", re.MULTILINE)
_NUMBER = r"[-+−]?\s*(?:\\?\$\s*)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?"
_LATEX = r"[-+−]?\s*\\[dt]?frac\s*(?:\{[^{}]+\}\s*\{[^{}]+\}|\d\s*\d)|[-+−]?\s*\d*\s*\\sqrt\s*(?:\{[^{}]+\}|\d)"
_MATH = r"\$[^$]+\$|\\\([^$]+?\\\)"
_VALUE = rf"(?:{_MATH}|{_LATEX}|{_NUMBER})"
_WORDS = r"(?:[A-Za-z][A-Za-z'’-]*+[ ,]*+)"  # possessive: each word is matched in one way

_LEAD = re.compile(
    r"^\s*(?:\*\*|\\text(?:bf)?\{)?\s*(?:(?:the |my )?(?:final |correct |right )?(?:answers?"
    r"|solutions?|result|ans)\b\s*(?:is|are|=)?"
    r"\s*[:.=]*|(?:ans|sol)\s*[.:]+|(?:答案|答|解|答え|解答|정답|답)\s*(?:是|为)?\s*[:：]"
    r"|(?:la |die )?(?:respuesta|réponse|antwort|ответ|resposta|risposta)\b\s*(?:(?:es|est|ist)\b\s*)?:?"
    r"|(?:so|thus|hence|therefore),?\s+(?=[-+−$\\]?\d))\s*\}?(?:\*\*)?\s*(?=\S)",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^\s*(?:\\approx(?![A-Za-z])|\\simeq(?![A-Za-z])|≈|≃|(?:approximately|approx\.?|about|around|roughly)\s)\s*", re.I
)
_ROUNDED = re.compile(
    rf"^\s*\$?\s*({_LATEX}|{_NUMBER}|[^$≈]*?\\pi|[^$≈]*?\\sqrt[^$≈]*?)\s*(?:\\approx(?![A-Za-z])|≈)[^≈]*$", re.I
)
_REMARK = re.compile(
    rf"^\s*({_VALUE})\s*(?:\(|(?<=[\d}}])\s*[\[【])\s*(?!(?:mod|base|x|y|z|n|k|a|b)\b)"
    r"([^()\d=+*/\\]*[A-Za-z²³°\u3041-\u9fff\uac00-\ud7af][^()=+*\\]*)\s*[)\]】]\s*\.?$"
)
_ONLY = re.compile(rf"^\s*(?:[a-zA-Z]\s*=\s*)?({_VALUE})\s+(?:is|are) (?:the|a|an|our)\b {_WORDS}+\.?$", re.IGNORECASE)
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
# One number in a sentence or before a unit of another script: 小明有7个苹果, 7 яблок. 万 and 亿 are factors.
_ABROAD = re.compile(
    r"^[\u0400-\u04ff\u3041-\u9fff\uac00-\ud7af，、：\s]*?((?<![-−.\d/])[-−]?\d+(?:\.\d+)?(?:/\d+)?%?)\s*"
    r"(?![万亿百十]"
    r"|千(?![克米瓦卡]))[\u0400-\u04ff\u3041-\u9fff\uac00-\ud7af]+[，、\s\u0400-\u04ff\u3041-\u9fff\uac00-\ud7af]*[。.]?$"
    r"|^[\u3041-\u9fff\uac00-\ud7af，、：\s]+((?<![-−.\d/])[-−]?\d+(?:\.\d+)?(?:/\d+)?%?)[。.]?$"
)
LONGEST_ABROAD = 60  # characters of a sentence with one number
_NEGATED_ABROAD = re.compile(
    "[不非没无未东西南北左右升降亏负午]|至少|至多|最多|最少|第|以上|以下|大于|小于|超过|или|\u6216|과|와|\bне\b|부터"
)
_PARTS = re.compile(r"\(?([a-e])\)\s*(.+?)\s*[,;.]?\s*(?=\(?[a-e]\)|$)", re.DOTALL)  # (a) 3 (b) 4
_IN_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}
_REASON = re.compile(r"(?<=\w)\s*\((?:since|because|as|given that|by|using|note that)\b[^()]*\)\s*\.?$", re.IGNORECASE)
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
    r"follows?|complete|in (?:the )?text))?\.?|proofs?\s*[.:]\s.+|proved|proven|shown|done|verified|q\.?e\.?d\.?"
    r"|(?:\\(?:black)?square|□|■)|"
    r"(?:please |as )?(?:see|refer to|shown in|given in|check|look at|cf\.?)\b.*"
    r"|(?:the )?(?:answers?|solutions?|results?|responses?|proofs?|examples?) "
    r"(?:may|can|will|might)?\s*(?:vary|varies|differ|depends?)\b.*|varies|various(?: answers)?"
    r"|it depends\b.*|depends on .*|open[- ]ended|"
    r"any (?:reasonable|valid|correct) answers?.*|sample (?:answer|response)s?\b.*|[-–—?.*_#…/\s]+|略"
    r"|(?:证明|解答?|解析|过程|步骤|答案)*(?:从?略|省略)|(?:证明|答案|解|解答|详情|过程)?(?:请?参[见考照]|详?见)(?:解析|图|答案|详解|解答"
    r"|证明|上|下|原).*|(?:暂?无|没有)(?:答案|解析|解答|图)?|暂无.*|证毕|得证|证明|待定|答案不唯一.*|答案\s*[:：]?"
    r"|証明(?:略|終)?|(?:解答|解説|答え)(?:参照|省略|略)|証明は.*|(?:풀이|해설|정답)\s*(?:참조|참고|생략)|증명(?:\s*(?:생략|끝))?"
    r"|(?:siehe|s\.|voir|ver|véase|vease|vedi|veja|см\.?|смотри(?:те)?)\s+(?:(?:la|le|die|den|das"
    r"|en|na)\s+)?(?:solu\w*|lösung\w*|bild|"
    r"abbildung|figur\w*|respuesta|réponse|risposta|resposta|решени\w*|рисун\w*|ответ\w*|доказ\w*|beweis\w*)\b.*"
    r"|доказательство|доказано|что и требовалось доказать|demostraci[oó]n|demostrado|beweis"
    r"|bewiesen|preuve|démonstration|"
    r"démontré|prova|dimostrazione|dimostrato|keine antwort|нет ответа"
    r"|#(?:n/a|ref!|value!|div/0!|name\?|null!|num!?)|error|not found|no (?:final )?answer|proven (?:above|below)"
    r"|(?:same )?as (?:above|before|below)|(?:options? )?not listed|options? not listed"
    r"|none of (?:these|the above|them)"
    r"|(?:it|this) is (?:trivial|obvious)|(?:an? )?(?:image|picture|figure))",
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
    if tagged := _TAGS.findall(label):
        label = tagged[-1]
    if not label.isascii():
        label = label.translate(_WIDE)
    if infinite(label) != label:
        return infinite(label)
    lead = _LEAD.sub("", label, count=1)
    label = _ABOUT.sub("", lead if lead.strip(" .") else label, count=1)
    label = _REASON.sub("", _QUOTES.sub(r"\2", label))
    if label.strip(" .").lower() in _IN_WORDS:
        return _IN_WORDS[label.strip(" .").lower()]
    given = _PARTS.findall(label) if label.lstrip()[:2] in ("(a", "a)") else []
    if len(given) > 1 and "".join(name for name, _ in given) == "abcde"[: len(given)]:
        return ", ".join(value for _, value in given)
    short = not label.isascii() and len(label) <= LONGEST_ABROAD
    if short and (unit := _ABROAD.match(label)) and not _NEGATED_ABROAD.search(label):
        return (unit[1] or unit[2]).replace("−", "-")
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
    if _PICTURE.fullmatch(label.strip()):
        return True
    return _NO_ANSWER.fullmatch(_TEXT.sub(r"\1", label).strip(" $.!()[]（）【】\n\t")) is not None or not label.strip(
        " $."
    )


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
