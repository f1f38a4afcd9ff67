r"""Rules that exclude multiple choice, true/false, proofs and problems that lack their figure (k1.5 §2.1).

A guess is right too often on the first two, no rule grades a proof, and without its figure a problem has no answer.
The rules are ours. They read the text without code of figures ([asy] …) and with full-width letters made plain.
"""

import re
from functools import cache

# Text

_WIDE: dict[int, int | str] = {**{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}, 0x3000: " "}
_CODE = re.compile(
    r"\[asy\].*?(?:\[/asy\]|\Z)|\\begin\{(asy|tikzpicture|picture|pspicture)\}.*?(?:\\end\{\1\}|\Z)|```.*?(?:```|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_TABLE = re.compile(r"\\begin\{(?:tabular|array|matrix)|\|[^|\n]*\|[^|\n]*\||\\hline|<table|(?:\t[^\t\n]+){2}")
_HINT = re.compile(r"\(\s*hint\b[^)]*\)|\bhint\s*[:.].*\Z", re.IGNORECASE | re.DOTALL)
_WRAPPING = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)|boxed|fbox|bf)\s*\{([^{}]*)\}")


def _any(words: tuple[str, ...], text: str) -> bool:
    """Whether one of the lower-case words is in the text: rules are only tried on texts that can match, for speed."""
    lower = text.lower()
    return any(word in lower for word in words)


def _bare(answer: str) -> str:
    """The answer without dollars, boxes, bold face and closing punctuation."""
    text = answer.translate(_WIDE).replace("$", "").replace("**", "")
    while (shorter := _WRAPPING.sub(r"\1", text)) != text:
        text = shorter
    return " ".join(text.split()).strip(" .!。")


# Multiple choice

_BEFORE = r"(?:^|(?<=[\s,;:.?!}$\])—–_>])|(?<=quad))"  # a label stands here, or after CJK text: "f(A) = 1" has none
_CJK = r"(?<=[\u3001-\u30ff\u4e00-\u9fff\uac00-\ud7af])"
_BOLD = r"(?:\*\*|[-*•]\s+|\\(?:textbf|text|mathrm|mathbf|bf|textrm)\s*\{{?\s*|\$)*"
_PAREN = r"(?<![^_\s]_)[(\[{{<]\s*{}\s*[)\]}}>]|{}\s*\)"
_DOT = r"{}\s*[.、](?=[^A-Za-z]|[a-z][^a-z.])"
_COLON = r"{}\s*:(?=\s)"
_DASH = r"{}\s*[-–—=>](?=\s*\S)"
_LINE = r"(?:(?<=\n)|(?<=\A)){}[ \t]+(?=\S)"
STYLES = {  # labels, and whether they need more than themselves to be options: sub-questions have them too
    "upper": ("ABCDEFGH", False),
    "later": ("FGHJK", False),  # every second question of the ACT
    "last": ("PQRS", True),
    "lower": ("abcdefgh", True),
    "roman": (("i", "ii", "iii", "iv", "v"), True),
    "Roman": (("I", "II", "III", "IV", "V"), True),
    "digits": ("12345", True),
    "circled": ("①②③④⑤", True),
    "greek": ("αβγδ", True),
    "stems": ("甲乙丙丁", True),
    "Cyrillic": ("АБВГД", False),
    "cyrillic": ("абвгд", True),
    "kana": ("アイウエオ", True),
    "hangul": ("ㄱㄴㄷㄹㅁ", True),
}
_TASK = re.compile(
    r"\W*(?:please |then |now |hence |also )?(?:find|determine|compute|calculate|evaluate|solve|what|how|which|show|"
    r"prove|give|write|express|add|state|is|are|does|for|if|let|simplify|estimate|sketch|draw|explain|use|verify|"
    r"deduce|求|计算|证明)\b|.*\?\s*$",
    re.IGNORECASE | re.DOTALL,
)
MOST = 400  # characters of an option
_LINK = re.compile(r"[\s,;]*(?:(?:and|or|y|et|und|и)\b[\s,;]*)?")
_CHOOSING = re.compile(
    r"\bwhich(?: one)? of the (?:following|above|below|answer choices|options|\w+ (?:below|above)\b)"
    r"|\bwhich of these (?:statements|options|answers)\b"
    r"|\bwhich (?:option|choice|alternative|answer|statement|conclusion|description|sentence|property|graph)s?\b"
    r"|\bto which (?:expression|equation|graph)\b|(?:^|[.?!:\n]\s*)which (?:one )?(?:is|are) not\b|(?-i:\bEXCEPT\b)"
    r"|\b(?:among|of) the (?:options|choices|alternatives)\b(?! \d)|\bthe (?:options|choices|alternatives) given\b"
    r""
    r"|\b(?:from|in) (?:this list\b|the list(?= (?:given|below|above)\b|\s*:))|\bmultiple[- ]choice\s*[):]|<options?>"
    r"|[\"'](?:options|choices)[\"']\s*:"
    r"|\b(?:choose|select|pick|mark|tick|circle|identify|find|name|give) (?:the|all|one|any) (?:\w+ )?"
    r"(?:correct|right|best|true|appropriate|incorrect|wrong) "
    r"(?:\w+ )?(?:answers?|options?|choices?|statements?|responses?|alternatives?)\b"
    r"|\b(?:choose|select|pick|mark|identify) the (?:(?!first|second|third|last|other)\w+ )?(?:statement|option|"
    r"answer|alternative|choice)s?\b"
    r"|\b(?:choose|select|pick) the (?:correct|right|best|closest)\b"
    r"|\b(?:choose|select|pick) (?:from )?(?:the )?(?:following )?options?\b"
    r"|\bchoose from (?:the )?(?:following|list)\b"
    r"|\b(?:select|choose|check|mark) all (?:that apply|correct)\b|\ball of the above\b(?! [a-z])"
    r"|\bnone of the (?:above|following)\b(?! [a-z])|\b(?:select|choose|pick) one\s*[:.]"
    r"|\bof the following,? (?:which|what)\b|\bletters? of the (?:correct|right) (?:answer|option|choice)s?\b"
    r"|(?:^|[.?!\n]\s*)(?:answer choices|options|alternatives|choices)\s*:"
    r"|(?:^|[\n【（(]|一道)\s*(?:单项|多项|不定项)?(?:选择题|单选|多选)(?![^。？?\n]{0,20}(?:\d|分|共|概率|选项))"
    r"|(?:下列|下面|以下)[^。？?]{0,40}?(?:的是|哪|正确|错误|不是)|选出[^。，,]{0,15}(?:正确|错误|答案|选项|一项|符合)"
    r"|哪(?:一)?(?:项|个选项)|(?:的(?:是|有|一项是)|错误的|正确的)\s*[（(\[](?:\\quad|\s)*[)\]）]|请选择\s*[：:]"
    r"|\bcu[aá]l(?:es)? de l[oa]s siguientes\b|\blaquelle des\b|\blequel des\b|\bparmi les (?:\w+ )?suivant"
    r"|\bwelche[rs]? der folgenden\b|\bqual d[ao]s seguintes\b|\bassinale a alternativa\b|какое из следующих"
    r"|какой из следующих|какая из следующих|次のうち|正しいものを選|다음 중",
    re.IGNORECASE,
)
_CHOOSING_WORDS = (
    *(
        "which",
        "choose",
        "select",
        "pick ",
        "mark",
        "tick",
        "circle ",
        "identify",
        "correct",
        "right",
        "best",
        "above",
    ),
    *(
        "following",
        "choice",
        "option",
        "alternativ",
        "选",
        "下列",
        "以下",
        "siguientes",
        "laquelle",
        "lequel",
        "parmi",
    ),
    *("except", "listed", " list", "哪", "下面", "错误", "的是", "的有", "单项", "多项"),
    *("folgenden", "seguintes", "следующих", "次のうち", "正しいもの", "다음"),
)
_COUNTS_WAYS = re.compile(
    r"\b(?:ways?|chances?|probability|odds|likely|order|tries|attempts?|able|students?)\b[^.?!]{0,30}\bto\s*$", re.I
)
_STATEMENTS = re.compile(r"[①②③④⑤⑥⑦⑧⑨](?:\s*(?:[、,，和与]|and)?\s*[①②③④⑤⑥⑦⑧⑨])*")
_ROMAN = re.compile(r"(?:statements? )?(?:I{1,3}|IV|V)(?:(?:\s*,\s*|\s*,?\s+and\s+)(?:I{1,3}|IV|V))*(?: only)?")
_LOOSE = re.compile(r"(?<![A-Za-z])A\s+[^\sA-Za-z;,]+\s*[;,]?\s+B\s+[^\sA-Za-z;,]+\s*[;,]?\s+C\s+[^\sA-Za-z;,]+")
_NUMBERED = re.compile(r"[(\[][1-9][)\]]")
_SMALL = re.compile(r"\([a-e]\)")
_LETTER = re.compile(r"[(\[]?([A-H])[)\].:]?")


_STARS = r"(?<=\*\*){}(?=\*\*)"
_SPACED = r"{}(?= +\$[^$\s,.][^$]*\$)"
SUFFIXES = (_PAREN, _DOT, _COLON, _DASH, _LINE, _STARS, _SPACED)


@cache  # all of them take most of a second, which an import would cost
def _labels(style: str) -> list[list[re.Pattern]]:
    """Of a style, for each suffix the patterns of its labels."""
    return [
        [
            re.compile(rf"(?:{_BEFORE}|{_CJK}){_BOLD}(?:{suffix.format(re.escape(label), re.escape(label))})")
            for label in STYLES[style][0]
        ]
        for suffix in SUFFIXES
    ]


_THIRD = re.compile(
    r"(?:[CcHR3③ウㄷВвγ丙]|iii|III)\}?\s*[})\].、:=>–—-]|③|ウ|ㄷ|\nC[ \t]|\*\*C\*\*|C\s*\$"
)  # without it there are no three options


def _options(text: str, style: str) -> tuple[str, list[str], bool] | None:
    """The first run of at least three labelled options: its text, what each option says, and whether they are sure.

    "A: 3 balls, B: 4 balls, C: 5 balls" and "A = 1, B = 2, C = 3" may be data; on lines of their own they are options.
    """
    for suffix, patterns in zip(SUFFIXES, _labels(style), strict=True):
        found: list[re.Match] = []
        for pattern in patterns:
            match = pattern.search(text, found[-1].end() if found else 0)
            if match is None or (found and match.start() - found[-1].end() > MOST):
                break
            found.append(match)
        if len(found) < 3:
            continue
        ends = [*(match.start() for match in found[1:]), found[-1].end() + MOST]
        contents = [text[match.end() : end] for match, end in zip(found, ends, strict=True)]
        if not any(_LINK.fullmatch(_WRAPPING.sub(r"\1", one)) for one in contents):
            shown = text[found[0].start() : found[-1].end()]
            sure = suffix not in (_COLON, _DASH) or ("\n" in shown and "=" not in found[0][0])
            return shown, contents, sure
    return None


def _by_answer(text: str, answer: str, letter: re.Match | None) -> str | None:
    """Options that are so loosely labelled that only the answer, one of their labels, says what they are."""
    if letter and (found := _LOOSE.search(text)):
        return f"multiple choice: labelled options “{_short(found[0])}”"
    if _SMALL.fullmatch(answer) and "(a)" in text and "(b)" in text:
        return f"multiple choice: the answer is the label {answer}"
    if "①" in text and "②" in text and _STATEMENTS.fullmatch(answer):
        return f"multiple choice: the answer “{answer}” names statements"
    if _ROMAN.fullmatch(answer) and re.search(r"\bII\s*[.):]", text):
        return f"multiple choice: the answer “{answer}” names statements"
    return None


def _initials(shown: str, contents: list[str]) -> bool:
    """Whether the labels are initials of names within a sentence: A. Smith, B. Jones and C. Brown."""
    joined = re.search(r"\b(?:and|or)\s+C\.$", shown.rstrip())
    return joined is not None and all(re.match(r"\s*[A-Z][a-z]+(?:[\s,.]|$)", one) for one in contents)


_LABEL_LINE = re.compile(r"\W*\w\s*[).:\]、]")


def _asked_behind(text: str, shown: str, contents: list[str]) -> bool:
    """Whether what is asked follows the labels, and nothing is asked before them: they are data of a story."""
    before, behind = text[: text.index(shown)], contents[-1]
    if "\n" in shown:  # the options are lines
        behind = "\n".join(line for line in behind.split("\n")[1:] if not _LABEL_LINE.match(line))
    return _value_asked(behind) and not ("?" in before or "？" in before or _value_asked(before))


def _tasks(contents: list[str]) -> bool:
    """Whether most of the labelled texts are tasks of their own: sub-questions, not options."""
    return sum(_TASK.match(one) is not None for one in contents) > len(contents) / 2


_HARMLESS_LETTERS = re.compile(
    r"\b(?:letters?|alphabet\w*|hexadecimal|base|digits?|cipher|code|grade|vitamin|element|chord|name)\b|字母|进制",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:which|who|options?|letter)\b|哪|谁", re.IGNORECASE)
_EMPTY = re.compile(r"[（(](?:\s|\\quad|\\qquad)*[)）]?\s*\$?\s*[.。．]?\s*\Z")
_PICKS = re.compile(
    r"(?:^|[,;]|\bthen)\s*(?:(?:of|in|from|among)\b[^,;]*,?\s)?(?:which|select|choose|circle|identify|pick"
    r"|tick|mark)\b"
    r"|\b(?:which|what) (?:one )?of (?:these|the (?:following|\w+ (?:below|above)))\b|哪|选",
    re.IGNORECASE,
)
_PICKS_WORDS = ("which", "what o", "select", "choose", "circle", "identify", "pick", "tick", "mark", "哪", "选")
_SPACES = re.compile(r"\\q?quad|\\[ ,;]\s*}?")
_ENDS = re.compile(r"[?!:。？：\n<>]|\.(?!\d)")
_COMMAS = re.compile(r"\s*(?:[,;|、；，]|\s/\s|\b(?:and|or)\b|还是)\s*")
_BULLETS = re.compile(r"(?:\n\s*[-–—•*▪◦]\s+|\\item\b|[□☐☑○◯]|\[[ xX]?\](?=\s))")
_CUT = re.compile(r"\\l?dots|…|\.\.|\bexamples?\b", re.IGNORECASE)
_OR = re.compile(r"\bor\b|还是|/", re.IGNORECASE)
_QUIET = str.maketrans("", "", "$\\(){}[] \t\n")


def _letter(text: str, answer: str) -> str | None:
    """An answer A to H is the label of an option, also of options that are not there, unless letters are the topic."""
    letter = _LETTER.fullmatch(answer)
    if letter is None or _HARMLESS_LETTERS.search(text) and not _THIRD.search(text):
        return None
    if _NAMED.search(text) or _EMPTY.search(text) or letter[1] in "ABCDE":
        return f"multiple choice: the answer is the letter {letter[1]}"
    return None


def _plain(text: str) -> str:
    return text.casefold().removeprefix("the ").translate(_QUIET).strip(".;,")


def _listed(text: str, answer: str) -> str | None:
    """The answer stands in a list to choose from: of bullets, of commas where one shall pick, of "odd or even"."""
    said = [_plain(part) for part in _COMMAS.split(answer) if part.strip()]
    if not said:
        return None
    bullets = _BULLETS.split(text)[1:]
    lists = [bullets] if bullets and not _value_asked(bullets[-1]) else []
    picks = _any(_PICKS_WORDS, text)
    sentences = [sentence for sentence in _ENDS.split(text) if sentence.strip()] if picks else []
    for i, sentence in enumerate(sentences):
        if _PICKS.search(sentence):  # the list is in the sentence or beside it
            lists += [_COMMAS.split(near) for near in sentences[max(i - 1, 0) : i + 2] if not _CUT.search(near)]
    for one in lists:
        items = [_plain(item.split("\n")[0]) for item in one]
        if len(items) >= max(3, len(said) + 1) and all(part in items for part in said):
            return f"multiple choice: the answer “{_short(answer)}” is in a list of the question"
    if _WORDY.fullmatch(answer) and len(answer) > 1:
        word = re.escape(answer.casefold().removeprefix("the "))
        beside_or = re.compile(
            rf"(?<![a-z]){word}(?:\s*,|\s*还是|\s*/|\s+or\b)|(?:\bor|还是|/)\s*(?:the |an? |is |are )?{word}(?![a-z])"
        )
        for sentence in _ENDS.split(text.casefold()):
            if _OR.search(sentence) and beside_or.search(sentence):
                return f"multiple choice: the question names the answer, “{_short(answer)}”, as one of several"
    return None


def _multiple_choice(text: str, answer: str, choices: list | None) -> str | None:
    if choices:
        return "multiple choice: the row has a list of options"
    chooses = _CHOOSING.search(text) if _any(_CHOOSING_WORDS, text) else None
    if chooses and _COUNTS_WAYS.search(text[: chooses.start()]):
        chooses = None
    letter = _LETTER.fullmatch(answer)
    label, plain = answer.strip("()[].: "), text.isascii()
    for style, (labels, ambiguous) in STYLES.items() if _THIRD.search(text) else ():
        if plain and not labels[0].isascii():
            continue
        if (found := _options(text, style)) is None:
            continue
        shown, contents, sure = found
        said = bool(answer) and any(_bare(_SPACES.sub(" ", one)).strip(",; ") == answer for one in contents)
        if not (chooses or said or label.upper() in labels) and _asked_behind(text, shown, contents):
            continue
        if sure and not ambiguous and (letter or not _initials(shown, contents)):
            return f"multiple choice: labelled options “{_short(shown)}”"
        answered = label in list(labels) or (label.lower() in list(labels) and len(label) == 1)
        if said and (sure or chooses or not _asked_behind(text, shown, contents)):
            return f"multiple choice: the answer is one of the labelled options “{_short(shown)}”"
        if style == "digits" and _NUMBERED.fullmatch(answer) and not _tasks(contents):
            return f"multiple choice: labelled options “{_short(shown)}”"
        picks = not label.isdigit() or ("which" in text.lower() and "\n" in shown)
        if chooses or (answered and picks and not _tasks(contents)):
            return f"multiple choice: labelled options “{_short(shown)}”"
    if chooses:
        return f"multiple choice: “{_short(chooses[0])}”"
    if found_by := _by_answer(text, answer, letter):
        return found_by
    return _letter(text, answer) or _listed(text, answer)


# True or false

_VERDICT = re.compile(
    r"(?:(?:the |this |that )?(?:statement|claim|assertion|argument|proposition) (?:is |does )?(?:not )?"
    r"(?:true|false|correct|incorrect|wrong|valid|invalid|hold)"
    r"|yes|true|false|valid|invalid|correct|incorrect|wrong|cannot|not (?:true|correct|valid|possible|always"
    r"|necessarily)"
    r"|sí|oui|non|vrai|faux|"
    r"verdadero|falso|ja|nein|wahr|falsch|да|нет|верно|неверно|right|yes,? .*|no)(?:\s*[,.;:(!–—-].*)?"
    r"|(?:是|否|对|错|正确|错误|不正确|不是|不对|能|不能|可以|不可以|会|不会|有|没有|在|不在|够|不够|存在"
    r"|不存在|√|×|はい|いいえ|예|아니요)(?:[,。，、].*)?",
    re.IGNORECASE | re.DOTALL,
)
_STORY = r"(?! ?(?:\w+ ){0,2}(?:questions?|problems?|items?|tests?|exams?|quiz|quizzes|games?|answers?|ones?|type)\b)"
_TRUE_FALSE = re.compile(
    # "10 true/false questions", "each is either true or false" and the like are in a story.
    rf"(?:^|[.:;!?\n(]\s*)(?:true or false|false or true|true/false|T/F|T or F|yes or no)\b{_STORY}"
    rf"|\b(?:fill in|label|mark|write|with)\b[^.?!\n]{{0,40}}\b(?:T or F|T/F|true or false)\b"
    r"|\bassertion\b[^?]*\breason\b\s*(?:\(R\))?\s*[:.]"
    r"|\b(?:is|are|answer|state|say|decide|write|mark|respond|reply)\b[^.?!]{0,60}\b(?:true or false|yes or no|"
    r"true/false|false or true)\b(?=\s*(?:[.?!:;)]|$))"
    rf"|\b(?:statement|assertion|claim) (?:\w+ ){{0,3}}(?:is |be )(?:true|correct) or (?:false|incorrect|not)\b"
    r"|\bwhether (?:the|this|each|it)\b[^.?!]{0,80}\b(?:true|correct|valid) or (?:false|not|invalid)\b"
    r"|\b(?:decide|determine|state|judge|say|tell) (?:if|whether) (?:the|this|each)\b[^.?!]{0,40}\b(?:statement|claim|"
    r"assertion|proposition)s?\b[^.?!]{0,20}\b(?:true|correct|valid|hold|false|right)"
    r"|\bis (?:the|this) (?:following |above )?(?:statement|claim|assertion) (?:true|correct|valid|right)\b"
    r"|\bstatement 1\s*\|.*\bstatement 2\s*\|"
    r"|判断(?:对错|正误|：|:)|(?:^|[\n【（(])\s*判断(?:题)?\s*[：:)）】]|判断题\s*[：:]"
    r"|判断(?:下列|以下)[^。？?]{0,20}(?:对错|正误|真假|正确|命题|说法)|[（(]对/错[)）]|对还是错|是否(?:正确"
    r"|成立)[?？]",
    re.IGNORECASE | re.DOTALL,
)
_TRUTH_WORDS = (
    "true",
    "yes or",
    "t/f",
    "t or f",
    "assertion",
    "correct",
    "valid",
    "hold",
    "statement",
    *("判断", "对", "是否"),
)
_EITHER = re.compile(r"\b(?:either|both|are|be|being) true or false\b|\bthat is true or false\b", re.IGNORECASE)
_YES_NO = re.compile(
    r"(?:^|[.?!:;,\n$)]\s*|\b(?:then|and|so)\s+)"
    r"(?:(?:so |then |if not,? )?(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had|should|must"
    r"|may)\b(?:[^.?!]|\.(?=\S))*\?"
    r"|(?:determine|decide|state|check|test|say|tell|find out|see|judge|assess|ascertain|establish|"
    r"investigate|examine)\b[^.?!]{0,40}? (?:whether|if|(?:for|the) (?:convergence|(?:in)?dependence"
    r"|consistency))\b[^.?!]*"
    r"|(?:judge|assess|evaluate) (?:the )?(?:\w+ )?(?:statement|claim|validity|truth|assertion|proposition)\b[^.?!]*)"
    r"|(?:^|[。？，,\n])[^。？，,\n]*(?:吗|是否|能否|可否|有没有|能不能|是不是|对不对|判断|还是)[^。\n]*",
    re.IGNORECASE,
)
_VERDICT_START = re.compile(r"(?:they|it|there|we|one|he|she) (?:do|does|is|are|can|cannot|will|has|have)\b", re.I)
_WORDY = re.compile(r"(?=.*[^\W\d_])[^\W\d_](?:[^\W\d_]|[ ,;'’.:，。；-])*", re.DOTALL)
_DENIED = re.compile(r"\b(?:is|are|does|do|can|was|will) not\b|\b(?:isn't|doesn't|cannot)\b|不(?:能|是|会|存在)")


def _true_false(text: str, answer: str) -> str | None:
    # "right" and "wrong" are directions and the like elsewhere.
    if _VERDICT.fullmatch(answer) and not (answer.casefold() == "right" and re.search(r"\bleft\b", text)):
        return f"true/false: the answer is “{_short(answer)}”"
    found = _any(_TRUTH_WORDS, text) and _TRUE_FALSE.search(text)
    if found and not _EITHER.search(found[0]):
        return f"true/false: “{_short(found[0])}”"
    if answer in ("T", "F") and re.search(r"\b(?:true|false)\b", text, re.IGNORECASE):
        return f"true/false: the answer is “{answer}”"
    if not answer or _WORDY.fullmatch(answer) or _VERDICT_START.match(answer) or _DENIED.search(answer):
        asked = _YES_NO.search(text)
        if asked and not _value_asked(text):
            return f"true/false: the answer to “{_short(asked[0])}” is “{_short(answer)}”"
    return None


# Proofs, and what has many right answers

# The imperative at the start of a clause: "who can prove that" is not a task.
_START = (
    r"(?:^|[.!?:;。；]\s*[)\]\"”]?\s*|[\n,$)\]}]\s*|\b(?:and|then|hence|thus|also|please|to)\s+)"
    r"(?:\(?(?:[a-z0-9]|[ivx]{1,4})[).]\s*)?(?:please|also|hence|now|thus|then|finally|next|first|\w+ly)?,?\s*"
)
_QUANTITY = (  # "establish the number of …" asks for a value
    r"(?!,?\s*(?:how (?:many|much|far|long|often|large|old|fast)|what\b"
    r"|(?:the|an?|its|their) (?:\w+ ){0,2}(?:value|number|sum|amount|length|area|volume|formula|expression|equation"
    r"|rate|ratio|probability|size|maximum|minimum|cost|price|total)\b"
    r"|\$(?:(?!\\(?:le|ge|neq?|in|equiv|sub|to|mid|cong|sim)(?![a-z]))[^$=<>])*\$\s*(?:[.?]|if\b|when\b|from\b)))"
)
_WRITE_PROOF = re.compile(
    r"\b(?:give|write|provide|find|present|construct|supply)(?: out| down| up)? (?:an?|the|your) (?:\w+ ){0,3}proof\b",
    re.IGNORECASE,
)
_PROVE = re.compile(
    _START + r"(?P<verb>(?:prove|disprove)\b(?! (?:your\w*|me|to)\b)"
    rf"|(?:show(?! all the\b)|demonstrate|verify|establish|deduce|conclude)\b{_QUANTITY}"
    r"(?=,?\s*(?:by\b|that\b|the\b|there\b|for\b|it\b|why\b|"
    r"how\b|if\b|every\b|any\b|each\b|no\b|directly\b|using\b|explicitly\b|algebraically\b|an?\b|its\b|these\b|this\b|"
    r"all\b|[$\\(:]|[A-Za-z](?:\W|_)))(?!,?\s*(?:all |each |the |every )?(?:(?:of )?your |(?:the )?"
    r"(?:work|steps?|details?|calculations?|result|answer|solution|reasoning|step)\b))"
    r"(?!\s*\$[^$]*\$\s+(?:to|as|in|on)\b)"
    r"|(?:check|argue|confirm) that\b|explain (?:why|how(?! (?:to|many|much)))\b|justify (?:why|that)\b)"
    r"|\b(?:you|one|we|they) (?:should|must|can|could|are to|have to|need to) (?:now |then )?(?:prove|show) that\b"
    r"|\b(?:is|are) to be (?:shown|proved|proven) that\b"
    rf"|{_WRITE_PROOF.pattern}"
    r"|\bverify (?:[\w'’-]+ ){1,3}(?:theorem|identity|law|inequality)\b|\bproof\s*\?|\bwhat is (?:the|a) proof\b"
    r"|\bproof of\b[^.?!]{0,60}\btheorem\b|\bq\.?e\.?d\b",
    re.IGNORECASE,
)
_PROOF_WORDS = (
    *("prov", "proof", "show", "demon", "verify", "establish", "deduce", "conclude", "check", "argue", "confirm"),
    *("explain", "justify", "q.e.d", "qed", "demuest", "demuést", "demost", "prueb", "probar", "montre", "prouve"),
    *(
        "démontre",
        "beweise",
        "zeige",
        "mostre",
        "dimostr",
        "докаж",
        "доказ",
        "покаж",
        "说明",
        "证",
        "証",
        "示",
        "증명",
        "보",
    ),
)
_PROVE_OR = re.compile(r"\bprove or (?:disprove|give|find|provide|refute|construct)\b|\bdisprove or prove\b", re.I)
# In a story: "she wants to show that".
_STORY_BEFORE = re.compile(
    r"\b(?:want(?:s|ed|ing)?|tr(?:y|ies|ied|ying)|need(?:s|ed)?|had|has|have|able|possible|decid\w+|plan\w*|hop\w+|"
    r"asked|ask\w*|tells?|told|way|how|enough|used?|like[sd]?|evidence|information|data|proof|students?"
    r"|helps?|chance|going|order) to\s*$"
    r"|\b(?:students?|friends?|\d+)\s+to\s*$",
    re.IGNORECASE,
)
_PROVE_ABROAD = re.compile(
    r"证明(?!过程|题)|求证(?!后)|试证|试说明|(?:请你?|^|[，,。\n])说明[：:]?(?:为什么|[^。，,]{0,30}(?:能|总|都"
    r"|必|为|不|理由))"
    r"|\b(?:demuestr[ea]n?|demostrar|demuéstrese|pruebe(?:n)? que|probar que|montre[rz]? que"
    r"|démontre[rz]?|prouve[rz]?|"
    r"beweise(?:n)?|zeige(?:n)?|man (?:zeige|beweise)|mostre que|demonstre|prove que|dimostra(?:re)?|si dimostri)\b"
    r"|\b(?:докажите|доказать|докажем|покажите,? что)|証明|示せ|示しなさい|증명|보이시오|보여라",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    _START + r"(?:give|provide|find|construct|exhibit|show|name|write(?: down)?|state|produce|describe|cite|list"
    r"|present)"
    r"(?: me| us)? (?:an?|one|two|three|some|any|another"
    r"|the)?\s*(?:[\w-]+ ){0,2}?(?:counter-?)?examples?\b|举(?:出|一)?[^。，,]{0,6}例(?!来说|如)"
    rf"|{_START}(?:write(?: down)?|name|exhibit|provide|state|produce|give)(?: down| out)? "
    r"(?:any|one|two|some)\b (?:\w+ ){1,3}(?:that|which|who|whose|with)\b"
    r"|写出(?:一|两|二|三|任意一)个(?:[^。，,；;？?]{0,30}的(?!和|差|积|商|值|解|坐标)|满足|符合|大于|小于|比)",
    re.IGNORECASE,
)
_EXAMPLE_WORDS = ("xample", "例", "写出", " any ", " one ", " two ", " some ")
_DISCUSS = re.compile(
    _START + r"(?:derive|describe|discuss|explain|define|outline|interpret|comment on|criticize)\b", re.IGNORECASE
)
_VALUE = re.compile(
    _START
    + r"(?:(?:(?:in|for|at|to|by|from|of|with|on|over|under|up to) )?(?:what|which|whose|how (?:many|much|far|long|"
    r"old|fast|big|high|tall|often|large|deep|wide|heavy))\b|(?:find|determine)(?! (?:whether|if|out"
    r"|an? (?:\w+ )?(?:proof|"
    r"example|counterexample))\b)|(?:compute|calculate|evaluate|solve|simplify|express|estimate"
    r"|maximi[sz]e|minimi[sz]e|"
    r"where|when|who|give (?:the|your|an?|all|it)\b|state the|count|approximate|factor|expand|write)\b)"
    r"|\b(?:what|how many|how much) [^.?!]*\?|\b(?:compute|find|determine) (?:it|the|its|all)\b"
    r"|求(?!证)|多少|几|计算|是什么|何値|いくつ|求めよ|구하",
    re.IGNORECASE,
)
_DONE = re.compile(
    r"(?:see |the )?(?:proof|proofs?|proved|proven|shown|done|qed|q\.e\.d|verified|true|略|证明略|见解析|证毕)\b.*|",
    re.IGNORECASE,
)


def _value_asked(text: str) -> bool:
    """Whether a clause asks for something other than a verdict, proof or example."""
    return _VALUE.search(_WRITE_PROOF.sub(" ", _EXAMPLE.sub(" ", text))) is not None


def _proof(text: str, answer: str) -> str | None:
    if not _any(_PROOF_WORDS, text):
        return None
    text = _HINT.sub(" ", text)
    proof = _PROVE_OR.search(text)
    if proof is None:
        found = (
            match
            for match in _PROVE.finditer(text)
            if not (match["verb"] and _STORY_BEFORE.search(text[: match.start("verb")]))
        )
        proof = next(found, None) or _PROVE_ABROAD.search(text)
        # An aside to a question with an answer: "find all n, and prove that there are no others".
        if proof is None or (_value_asked(text) and not _DONE.fullmatch(answer)):
            return None
    return f"proof: “{_short(proof[0])}”"


def _open_ended(text: str, answer: str) -> str | None:
    in_words = not re.search(r"[\d\\=<>]", answer)
    if in_words and (found := _DISCUSS.search(text)) and not _value_asked(text):
        return f"open-ended: “{_short(found[0])}”"
    if _any(_EXAMPLE_WORDS, text) and (found := _EXAMPLE.search(text)) and not _value_asked(text[found.end() :]):
        return f"open-ended: “{_short(found[0])}” has many right answers"
    return None


# Figures

_KIND = r"(?:figure(?!-)|diagram|picture|drawing|sketch|illustration|image|chart|fig\.)"
_FIGURE = re.compile(
    rf"\b(?:in|from|on|using|see|to|at|by) (?:the|this|that) (?:(?:\w+ )?(?:following|accompanying"
    rf"|attached|given|above|"
    rf"below|adjacent|adjoining|right|left|bar|pie|line|circuit) )?(?:bar |pie |line "
    rf"|flow )?{_KIND}\b(?! ?(?:of speech|of lots|"
    r"frames?|books?|planes?|shows?|skat\w+|shop|album|wall|taken|gallery|contest|drawing))"
    rf"|\b(?:following|accompanying|attached|adjoining|given) (?:bar |pie |line )?(?:{_KIND}|graph|circuit)\b"
    r"(?! of speech)"
    rf"|\b(?:the|this) (?:\w+ )?(?:histogram|box ?plot|scatter ?plot|pictograph|pictogram|dot plot|spinner|{_KIND}) "
    r"(?:given )?(?:below|above|shows|gives)\b|\blook at the (?:clock|map|table|histogram|number line)\b"
    r"|<image>|\[image\]|!\[[^]]*\]\("
    r"|\bin the picture (?=to|below|above|on)"
    rf"|\b(?:{_KIND}|graph|circuit|plot|map|figures|diagrams|graphs) (?:is |are )?(?:shown |given |drawn |displayed )?"
    r"(?:below|above|(?:at|to|on) (?:the|your) (?:right|left))\b"
    r"|\bas (?:is )?(?:shown|pictured|illustrated|depicted)\b"
    r"(?! (?:by|that|earlier|before|in (?:class|lecture|chapter|section|part|theorem|\())\b)|\b(?:shown"
    r"|pictured|drawn|depicted"
    r"|illustrated) (?:below|"
    r"above|here|in (?:the )?(?:figure|diagram|picture|graph|image)|(?:at|to|on) the (?:right|left))\b"
    r"|\b(?:circuit|shape|triangle|polygon|solid|region|rectangle|square|circle|quadrilateral|network|curve|graph|"
    r"pattern|cube|angle|trapezoid|parallelogram|hexagon|structure|object|grid|spinner|number line) "
    r"(?:shown|pictured)\b"
    r"(?! (?:to|that|by)\b)"
    r"|\bof (?:the|this) (?:figure|diagram|picture|shape|grid) (?:is|are) (?:shaded|colou?red)\b"
    r"|\b(?:from|on|in) the (?:scatter ?plot|histogram|box ?plot|graph|chart)\b(?! (?:of|with|to)\b)"
    r"|\b(?:floor plan|plan|net|scale drawing|line graph|bar graph) (?:given )?below\b"
    rf"|\b(?:study|examine|given|observe) the (?:\w+ )?(?:{_KIND}|graph)(?! (?:of|under)\b)"
    r"|\bshown on the (?:clock|thermometer|ruler|scale|number line|graph|map|diagram)\b"
    r"|\bthe (?:\w+ )?(?:figure|diagram|picture|graph|chart|image) (?:shows|illustrates|depicts|represents)\b"
    r"|\bthe pictured\b"
    r"|\bthe (?:total )?(?:area of the )?shaded\b(?! (?:area|part|side) of an? )"
    r"(?! (?:\w+ )?(?:between|inside|outside|bounded|enclosed)\b)"
    r"|\buse the (?:\w+ )?(?:graph|chart|figure|diagram|picture|map) (?:to|below|above)\b"
    r"|\bdrawn (?:below|above)\b"
    r"|\b(?:graph|plot|figure|diagram|curve)\b(?: of [^.?!]{1,40})? (?:is|are) "
    r"(?:shown|pictured|displayed|depicted)\b(?! (?:to|that|by)\b)"
    r"|\bon the number line at (?:the )?point\b"
    r"|\blook at the (?:picture|figure|diagram|graph|image|chart)\b|(?<!the )\b(?:figure|fig\.?"
    r"|diagram) ?\d+\b"
    rf"|\bin the \w+ (?:figure|diagram)\b|^\s*(?:refer to|see) (?:the )?{_KIND}"
    r"|如图(?!书)|[图表](?:如下|如上)|图中|由图|看图(?!书)|观察(?:下[列面]?)?[^。，,]{0,6}图|统计图(?:显示|表示"
    r"|可知)|阴影(?:部分)?的?(?:面积|周长)|[下上右左]图(?!书)|下面[^。，,]{0,20}统计[图表]|见图|图[\d一二三四]"
    r"|如下图|[图表]所示"
    r"|\b(?:en|seg[uú]n|observa|de) la (?:figura|imagen|gr[aá]fica)\b|\bfigure (?:ci-dessous|ci-contre|suivante)\b"
    r"|\bsur la figure\b|\b(?:in der|siehe|die) (?:abbildung|skizze|zeichnung)\b|\bна рисунке\b|\bна рис\b"
    r"|\bna figura\b|\bnella figura\b|図の|右の図|下の図|그림",
    re.IGNORECASE | re.MULTILINE,
)
_SHADED = re.compile(r"\b(?:is|are|be) shaded\b(?! in\b)|\bshade[sd]? (?:the|all|every|apart|except)\b", re.IGNORECASE)
_FOLLOWS = re.compile(r"[^.?!\n]{0,30}[.:]?\s*(?:\$\$|\\\[|\\begin|\\chemfig)")  # "shown below": it is a formula
_THE_FIGURE = re.compile(r"\b(?:perimeter|area|volume|sides?|parts?|of) (?:of )?the figure\b(?! of)", re.IGNORECASE)
_A_FIGURE = re.compile(
    r"\b(?:an?|another|this|that|each|every|plane|resulting|formed|new) (?:\w+[ -])*?figures?\b|\bfigures\b",
    re.IGNORECASE,
)  # a figure of which the text tells
_FIGURE_WORDS = (
    *("shaded", "clock", "histogram", "gram ", "spinner", "plot", "coloured", "colored", "plan below", "net below"),
    *("fig", "diagram", "picture", "drawing", "sketch", "illustrat", "image", "chart", "graph", "circuit", "plot"),
    *("map", "shown", "depicted", "drawn", "图", "表", "gráfica", "abbildung", "skizze", "zeichnung", "рис", "図"),
    *("그림", "number line", "阴影"),
)
_TABULAR = re.compile(
    r"\b(?:the )?table (?:is )?(?:shown |given )?(?:below|above|at the right|to the right)\b"
    r"|\b(?:the|this|in|see|use|from) (?:following|accompanying|above|given) table\b"
    r"|\b(?:information|data|values|numbers|results|given|shown|listed) (?:\w+ )?(?:in|by|from) the table\b"
    r"|下表|表中|[计格]表如下|\bla tabla\b",
    re.IGNORECASE,
)
_DATA = 3  # numbers after the mention of a table that are taken for the table


def _no_figure(question: str, images: object) -> str | None:
    if images or _CODE.search(question):
        return None
    text = question.translate(_WIDE)
    if _any(_FIGURE_WORDS, text) and (found := _FIGURE.search(text)) and not _FOLLOWS.match(text, found.end()):
        if "shaded" in found[0] and _SHADED.search(text.replace(found[0], "")):  # the text says what is
            return None
        return f"no figure: “{_short(found[0])}”"
    if (found := _THE_FIGURE.search(text)) and not _A_FIGURE.search(text[: found.start()]):
        return f"no figure: “{_short(found[0])}”"
    found = _TABULAR.search(text)
    if found and not _TABLE.search(text) and len(re.findall(r"\d+", text[found.end() :])) < _DATA:
        return f"no figure: “{_short(found[0])}”"
    return None


def reason(question: str, answer: str, choices: list | None = None, images: object = None) -> str | None:
    """Why the problem is excluded, "kind: what was found"; None if it is not.

    choices: options that are a column of the row. images: those of the row, if there are any.
    """
    text = _CODE.sub(" ", question).translate(_WIDE)
    bare = _bare(answer)
    return (
        _multiple_choice(text, bare, choices)
        or _true_false(text, bare)
        or _proof(text, bare)
        or _open_ended(text, bare)
        or _no_figure(question, images)
    )


def excluded(row: dict) -> tuple[dict, str | None]:
    return row, reason(row["question"], row["answer"], row.get("choices"), row.get("image"))


def _short(text: str) -> str:
    text = " ".join(text.split()).strip(" .,;:!?$])")
    return text if len(text) <= 60 else f"{text[:40]} … {text[-15:]}"
