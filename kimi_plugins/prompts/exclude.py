r"""Rules that exclude multiple choice, true/false, proofs and problems that lack their figure (k1.5 §2.1).

A guess is right too often on the first two, no rule grades a proof, and without its figure a problem has no answer.
The rules are ours. They read the text without code of figures ([asy] …) and with full-width letters made plain.
"""

import re

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
_PAREN = r"[(\[{{]\s*{}\s*[)\]}}]|{}\s*\)"
_DOT = r"{}\s*[.、](?=[^A-Za-z]|[a-z][^a-z.])"
_COLON = r"{}\s*:(?=\s)"
_DASH = r"{}\s*[-–—=](?=\s*\S)"
_LINE = r"(?:(?<=\n)|(?<=\A)){}[ \t]+(?=\S)"
STYLES = {  # labels, and whether they need more than themselves to be options: sub-questions have them too
    "upper": ("ABCDEFGH", False),
    "lower": ("abcdefgh", True),
    "roman": (("i", "ii", "iii", "iv", "v"), True),
    "Roman": (("I", "II", "III", "IV", "V"), True),
    "digits": ("12345", True),
    "circled": ("①②③④⑤", True),
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
    r"|\bwhich of these (?:statements|options|answers)\b|\bwhich (?:option|choice|alternative)s?\b"
    r"|\b(?:choose|select|pick|mark|tick|circle|identify|find|name|give) (?:the|all|one|any) (?:\w+ )?"
    r"(?:correct|right|best|true|appropriate|incorrect|wrong) "
    r"(?:\w+ )?(?:answers?|options?|choices?|statements?|responses?|alternatives?)\b"
    r"|\b(?:choose|select|pick|mark|identify) the (?:(?!first|second|third|last|other)\w+ )?(?:statement|option|"
    r"answer|alternative|choice)s?\b"
    r"|\b(?:choose|select|pick) the (?:correct|right|best|closest)\b"
    r"|\b(?:choose|select|pick) (?:from )?(?:the )?(?:following )?options?\b"
    r"|\bchoose from (?:the )?(?:following|list)\b"
    r"|\b(?:select|choose|check|mark) all (?:that apply|correct)\b|\ball of the above\b"
    r"|\bnone of the (?:above|following)\b|\b(?:select|choose|pick) one\s*[:.]"
    r"|\bof the following,? (?:which|what)\b|\bletters? of the (?:correct|right) (?:answer|option|choice)s?\b"
    r"|(?:^|[.?!\n]\s*)(?:answer choices|options|alternatives|choices)\s*:"
    r"|选择题|单选|多选|下列[^。？?]{0,40}?(?:的是|哪|正确|错误|不是)|以下[^。？?]{0,30}?哪|选出"
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
    *("folgenden", "seguintes", "следующих", "次のうち", "正しいもの", "다음"),
)
_COUNTS_WAYS = re.compile(
    r"\b(?:ways?|chances?|probability|odds|likely|order|tries|attempts?|able|students?)\b[^.?!]{0,30}\bto\s*$", re.I
)
_STATEMENTS = re.compile(r"[①②③④⑤⑥⑦⑧⑨](?:\s*(?:[、,，和与]|and)?\s*[①②③④⑤⑥⑦⑧⑨])*")
_ROMAN = re.compile(r"(?:statements? )?(?:I{1,3}|IV|V)(?:(?:\s*,\s*|\s*,?\s+and\s+)(?:I{1,3}|IV|V))*(?: only)?")
_LOOSE = re.compile(r"(?<![A-Za-z])A\s+[^\sA-Za-z;,]+\s*[;,]?\s+B\s+[^\sA-Za-z;,]+\s*[;,]?\s+C\s+[^\sA-Za-z;,]+")
_NUMBERED = re.compile(r"[(\[][1-9][)\]]")
_LETTER = re.compile(r"[(\[]?([A-H])[)\].:]?")


SUFFIXES = (_PAREN, _DOT, _COLON, _DASH, _LINE)
_LABELS = {  # of each style, for each suffix the patterns of its labels
    style: [
        [
            re.compile(rf"(?:{_BEFORE}|{_CJK}){_BOLD}(?:{suffix.format(re.escape(label), re.escape(label))})")
            for label in labels
        ]
        for suffix in SUFFIXES
    ]
    for style, (labels, _) in STYLES.items()
}
_THIRD = re.compile(
    r"(?:[Cc3③ウㄷВв]|iii|III)\}?\s*[})\].、:=–—-]|③|ウ|ㄷ|\nC[ \t]"
)  # without it there are no three options


def _options(text: str, style: str) -> tuple[str, list[str], bool] | None:
    """The first run of at least three labelled options: its text, what each option says, and whether they are sure.

    "A: 3 balls, B: 4 balls, C: 5 balls" and "A = 1, B = 2, C = 3" may be data; on lines of their own they are options.
    """
    for suffix, patterns in zip(SUFFIXES, _LABELS[style], strict=True):
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
    if "①" in text and "②" in text and _STATEMENTS.fullmatch(answer):
        return f"multiple choice: the answer “{answer}” names statements"
    if _ROMAN.fullmatch(answer) and re.search(r"\bII\s*[.):]", text):
        return f"multiple choice: the answer “{answer}” names statements"
    return None


def _initials(shown: str, contents: list[str]) -> bool:
    """Whether the labels are initials of names within a sentence: A. Smith, B. Jones and C. Brown."""
    joined = re.search(r"\b(?:and|or)\s+C\.$", shown.rstrip())
    return joined is not None and all(re.match(r"\s*[A-Z][a-z]+(?:[\s,.]|$)", one) for one in contents)


def _tasks(contents: list[str]) -> bool:
    """Whether most of the labelled texts are tasks of their own: sub-questions, not options."""
    return sum(_TASK.match(one) is not None for one in contents) > len(contents) / 2


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
        if sure and not ambiguous and (letter or not _initials(shown, contents)):
            return f"multiple choice: labelled options “{_short(shown)}”"
        answered = label in list(labels) or (label.lower() in list(labels) and len(label) == 1)
        if any(_bare(one).strip(",;") == answer for one in contents) and answer:
            return f"multiple choice: the answer is one of the labelled options “{_short(shown)}”"
        if style == "digits" and _NUMBERED.fullmatch(answer) and not _tasks(contents):
            return f"multiple choice: labelled options “{_short(shown)}”"
        if chooses or (answered and not _tasks(contents) and not label.isdigit()):
            return f"multiple choice: labelled options “{_short(shown)}”"
    if chooses:
        return f"multiple choice: “{_short(chooses[0])}”"
    if found_by := _by_answer(text, answer, letter):
        return found_by
    if letter and re.search(r"\bwhich\b|\boptions?\b|\bletter\b|哪", text, re.IGNORECASE):
        return f"multiple choice: the answer is the letter {letter[1]}"
    return None


# True or false

_VERDICT = re.compile(
    r"(?:yes|true|false|correct|incorrect|wrong|not (?:true|correct|possible|necessarily)|sí|oui|non|vrai|faux|"
    r"verdadero|falso|ja|nein|wahr|falsch|да|нет|верно|неверно|right|yes,? .*|no)(?:\s*[,.;:(!–—-].*)?"
    r"|(?:是|否|对|错|正确|错误|不正确|不是|不对|能|不能|可以|不可以|会|不会|有|没有|√|×|はい|いいえ|예|아니요)(?:[,。，、].*)?",
    re.IGNORECASE | re.DOTALL,
)
_STORY = r"(?! ?(?:\w+ ){0,2}(?:questions?|problems?|items?|tests?|exams?|quiz|quizzes|games?|answers?|ones?|type)\b)"
_TRUE_FALSE = re.compile(
    # "10 true/false questions", "each is either true or false" and the like are in a story.
    rf"(?:^|[.:;!?\n(]\s*)(?:true or false|false or true|true/false|T/F|yes or no)\b{_STORY}"
    r"|\b(?:is|are|answer|state|say|decide|write|mark|respond|reply)\b[^.?!]{0,60}\b(?:true or false|yes or no|"
    r"true/false|false or true)\b(?=\s*(?:[.?!:;)]|$))"
    rf"|\b(?:statement|assertion|claim) (?:\w+ ){{0,3}}(?:is |be )(?:true|correct) or (?:false|incorrect|not)\b"
    r"|\bwhether (?:the|this|each|it)\b[^.?!]{0,80}\b(?:true|correct|valid) or (?:false|not|invalid)\b"
    r"|\b(?:decide|determine|state|judge|say|tell) (?:if|whether) (?:the|this|each)\b[^.?!]{0,40}\b(?:statement|claim|"
    r"assertion|proposition)s?\b[^.?!]{0,20}\b(?:true|correct|valid|hold|false|right)"
    r"|\bis (?:the|this) (?:following |above )?(?:statement|claim|assertion) (?:true|correct|valid|right)\b"
    r"|\bstatement 1\s*\|.*\bstatement 2\s*\|"
    r"|判断(?:题|对错|正误|下列|以下|：|:)|[（(]对/错[)）]|对还是错|是否(?:正确|成立)[?？]",
    re.IGNORECASE | re.DOTALL,
)
_TRUTH_WORDS = ("true", "yes or", "t/f", "correct", "valid", "hold", "statement", "判断", "对", "是否")
_EITHER = re.compile(r"\b(?:either|both|are|be|being) true or false\b|\bthat is true or false\b", re.IGNORECASE)
_YES_NO = re.compile(
    r"(?:^|[.?!:;,\n$)]\s*|\b(?:then|and|so)\s+)"
    r"(?:(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had|should|must|may)\b[^.?!]*\?"
    r"|(?:determine|decide|state|check|test|say|tell|find out|investigate) (?:whether|if)\b[^.?!]*)"
    r"|(?:^|[。？，,\n])[^。？，,\n]*(?:吗|是否|有没有|能不能|是不是)[^。？\n]*[？?]",
    re.IGNORECASE,
)
_VERDICT_START = re.compile(r"(?:they|it|there|we|one|he|she) (?:do|does|is|are|can|cannot|will|has|have)\b", re.I)
_CHOICE = re.compile(r"\bor\b(?! not\b)", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_]{3,}")
_DECIDED = re.compile(
    r"\b(?:no|not|never|always|exists?|impossible|possible|cannot|can|does|doesn't|do|don't|is|isn't|are|true|false|"
    r"they|it|there)\b|没有|不|是|能|可以|会|有",
    re.IGNORECASE,
)


def _true_false(text: str, answer: str) -> str | None:
    # "right" and "wrong" are directions and the like elsewhere.
    if _VERDICT.fullmatch(answer) and not (answer.casefold() == "right" and re.search(r"\bleft\b", text)):
        return f"true/false: the answer is “{_short(answer)}”"
    found = _any(_TRUTH_WORDS, text) and _TRUE_FALSE.search(text)
    if found and not _EITHER.search(found[0]):
        return f"true/false: “{_short(found[0])}”"
    if answer in ("T", "F") and re.search(r"\b(?:true|false)\b", text, re.IGNORECASE):
        return f"true/false: the answer is “{answer}”"
    value = re.search(r"[\d\\=]", answer) and not _VERDICT_START.match(answer)
    if len(answer) < 2 or value or len(answer.split()) > 12:
        return None
    asked = _YES_NO.search(text)
    if asked and not _CHOICE.search(asked[0]) and not _value_asked(text):
        of_question = {word.casefold().removesuffix("s") for word in _WORDS.findall(text)}
        if _DECIDED.search(answer) or any(
            word.casefold().removesuffix("s") in of_question for word in _WORDS.findall(answer)
        ):
            return f"true/false: the answer to “{_short(asked[0])}” is “{_short(answer)}”"
    return None


# Proofs, and what has many right answers

# The imperative at the start of a clause: "who can prove that" is no task.
_START = (
    r"(?:^|[.!?:;。；]\s*[)\]\"”]?\s*|[\n,$)\]]\s*|\b(?:and|then|hence|thus|also|please|to)\s+)"
    r"(?:\(?(?:[a-z0-9]|[ivx]{1,4})[).]\s*)?(?:please|also|hence|now|thus|then|finally|next|first)?,?\s*"
)
_WRITE_PROOF = re.compile(
    r"\b(?:give|write|provide|find|present|construct|supply)(?: out| down| up)? (?:an?|the|your) (?:\w+ ){0,3}proof\b",
    re.IGNORECASE,
)
_PROVE = re.compile(
    _START + r"(?P<verb>(?:prove|disprove)\b(?! (?:your|me|to)\b)"
    r"|(?:show|demonstrate|verify|establish|deduce|conclude)\b(?=,?\s*(?:by\b|that\b|the\b|there\b|for\b|it\b|why\b|"
    r"how\b|if\b|every\b|any\b|each\b|no\b|directly\b|using\b|explicitly\b|algebraically\b|an?\b|its\b|these\b|this\b|"
    r"all\b|[$\\(:]|[A-Za-z](?:\W|_)))(?!,?\s*(?:all |each |the |every )?(?:(?:of )?your |(?:the )?"
    r"(?:work|steps?|details?|calculations?|result|answer|solution|reasoning|step)\b))"
    r"(?!\s*\$[^$]*\$\s+(?:to|as|in|on)\b)"
    r"|(?:check|argue|confirm) that\b|explain (?:why|how)\b|justify (?:why|that)\b)"
    rf"|{_WRITE_PROOF.pattern}"
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
    r"asked|ask\w*|tells?|told|way|how|enough|used?|like[sd]?|proof|students?|helps?|chance|going|order) to\s*$"
    r"|\b(?:students?|friends?|\d+)\s+to\s*$",
    re.IGNORECASE,
)
_PROVE_ABROAD = re.compile(
    r"证明|求证|试证|试说明|说明[^。]{0,30}理由"
    r"|\b(?:demuestr[ea]n?|demostrar|demuéstrese|pruebe(?:n)? que|probar que|montre[rz]? que"
    r"|démontre[rz]?|prouve[rz]?|"
    r"beweise(?:n)?|zeige(?:n)?|man (?:zeige|beweise)|mostre que|demonstre|prove que|dimostra(?:re)?|si dimostri)\b"
    r"|\b(?:докажите|доказать|докажем|покажите,? что)|証明|示せ|示しなさい|증명|보이시오|보여라",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    _START
    + r"(?:give|provide|find|construct|exhibit|show|name|write(?: down)?|state|produce|describe|cite|list|present)"
    r"(?: me| us)? (?:an?|one|two|three|some|any|another"
    r"|the)?\s*(?:[\w-]+ ){0,2}?(?:counter-?)?examples?\b|举(?:出|一)?.{0,6}例",
    re.IGNORECASE,
)
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
    r"where|when|who|give (?:the|your|an?|all)|state the|count|approximate|factor|expand|write)\b)"
    r"|\b(?:what|how many|how much) [^.?!]*\?|\b(?:compute|find|determine) (?:it|the|its|all)\b"
    r"|求(?!证)|多少|几|计算|是什么|何値|いくつ|求めよ|구하",
    re.IGNORECASE,
)
_DONE = re.compile(
    r"(?:see |the )?(?:proof|proofs?|proved|proven|shown|done|qed|q\.e\.d|verified|true|略|证明略|见解析|证毕)\b.*|",
    re.IGNORECASE,
)


def _value_asked(text: str) -> bool:
    """Whether a clause asks for something that is no verdict, proof or example."""
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
    if ("xample" in text or "例" in text) and (found := _EXAMPLE.search(text)):
        return f"open-ended: “{_short(found[0])}” has many right answers"
    return None


# Figures

_KIND = r"(?:figure|diagram|picture|drawing|sketch|illustration|image|chart|fig\.)"
_FIGURE = re.compile(
    rf"\b(?:in|from|on|using|see|to|at|by) (?:the|this|that) (?:(?:\w+ )?(?:following|accompanying"
    rf"|attached|given|above|"
    rf"below|adjacent|adjoining|right|left|bar|pie|line|circuit) )?(?:bar |pie |line "
    rf"|flow )?{_KIND}\b(?! ?(?:of speech|of lots|"
    r"frames?|books?|shows?|skat\w+|shop|album|wall|taken|gallery|contest|drawing))"
    rf"|\b(?:following|accompanying|attached|adjoining|given) (?:bar |pie |line )?(?:{_KIND}|graph|circuit)\b"
    rf"|\b(?:{_KIND}|graph|circuit|plot|map|figures|diagrams|graphs) (?:is |are )?(?:shown |given |drawn |displayed )?"
    r"(?:below|above|(?:at|to|on) (?:the|your) (?:right|left))\b"
    r"|\bas (?:is )?(?:shown|pictured|illustrated|depicted)\b|\b(?:shown|pictured|drawn|depicted"
    r"|illustrated) (?:below|"
    r"above|here|in (?:the )?(?:figure|diagram|picture|graph|image)|(?:at|to|on) the (?:right|left))\b"
    r"|\b(?:circuit|shape|triangle|polygon|solid|region|rectangle|square|circle|quadrilateral|network|curve|graph|"
    r"pattern|cube|angle|trapezoid|parallelogram|hexagon|structure|object|grid|spinner|number line) "
    r"(?:shown|pictured)\b"
    r"(?! (?:to|that|by)\b)"
    r"|\bof (?:the|this) (?:figure|diagram|picture|shape|grid) (?:is|are) shaded\b"
    rf"|\b(?:study|examine|given|observe) the (?:\w+ )?(?:{_KIND}|graph)(?! (?:of|under)\b)"
    r"|\bshown on the (?:clock|thermometer|ruler|scale|number line|graph|map|diagram)\b"
    r"|\bthe (?:\w+ )?(?:figure|diagram|picture|graph|chart|image) (?:shows|illustrates|depicts|represents)\b"
    r"|\bthe pictured\b|\bthe (?:total )?(?:area of the )?shaded\b(?! (?:area|part|side) of an? )"
    r"|\buse the (?:\w+ )?(?:graph|chart|figure|diagram|picture|map) (?:to|below|above)\b"
    r"|\bdrawn (?:below|above)\b"
    r"|\b(?:graph|plot|figure|diagram|curve)\b(?: of [^.?!]{1,40})? (?:is|are) "
    r"(?:shown|pictured|displayed|depicted)\b(?! (?:to|that|by)\b)"
    r"|\bon the number line at (?:the )?point\b"
    r"|\blook at the (?:picture|figure|diagram|graph|image|chart)\b|(?<!the )\b(?:figure|fig\.?"
    r"|diagram) ?\d+\b"
    rf"|\bin the \w+ (?:figure|diagram)\b|^\s*(?:refer to|see) (?:the )?{_KIND}"
    r"|如图|图中|由图|看图(?!书)|观察(?:下[列面]?)?[^。，,]{0,6}图|统计图(?:显示|表示|可知)|阴影(?:部分)?的?(?:面积|周长)|[下上右左]图|见图|图[\d一二三四]|如下图|[图表]所示"
    r"|\b(?:en|seg[uú]n|observa|de) la (?:figura|imagen|gr[aá]fica)\b|\bfigure (?:ci-dessous|ci-contre|suivante)\b"
    r"|\bsur la figure\b|\b(?:in der|siehe|die) (?:abbildung|skizze|zeichnung)\b|\bна рисунке\b|\bна рис\b"
    r"|\bna figura\b|\bnella figura\b|図の|右の図|下の図|그림",
    re.IGNORECASE | re.MULTILINE,
)
_FIGURE_WORDS = (
    "shaded",
    *("fig", "diagram", "picture", "drawing", "sketch", "illustration", "image", "chart", "graph", "circuit", "plot"),
    *("map", "shown", "depicted", "drawn", "图", "表", "gráfica", "abbildung", "skizze", "zeichnung", "рис", "図"),
    *("그림", "number line", "阴影"),
)
_TABULAR = re.compile(
    r"\b(?:the )?table (?:is )?(?:shown |given )?(?:below|above|at the right|to the right)\b"
    r"|\b(?:the|this|in|see|use|from) (?:following|accompanying|above|given) table\b|下表|表中|\bla tabla\b",
    re.IGNORECASE,
)
_DATA = 3  # numbers after the mention of a table that are taken for the table


def _no_figure(question: str, images: object) -> str | None:
    if images or _CODE.search(question):
        return None
    text = question.translate(_WIDE)
    if _any(_FIGURE_WORDS, text) and (found := _FIGURE.search(text)):
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
