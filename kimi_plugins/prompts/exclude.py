r"""Rules that exclude multiple choice, true/false and proof problems, each with its reason (k1.5 §2.1).

A guess is right too often on the first two, and no rule grades a proof. The rules are ours.
"""

import re

from kimi_plugins.grading.math.notation import tidy

_LABEL = r"(?:\\(?:textbf|text|mathrm|mathbf|bf)\s*\{{?\s*)?[(\[]?\s*{}\s*(?:[)\]]|\.(?=[\s\\$~}}])|:(?=\s))"
# A label stands at the start, after a space or bracket, or after LaTeX: "f(A) = 1" is none.
_BEFORE = r"(?:^|(?<=[\s,;:.?!}$\])]))"
_OPTIONS = re.compile(r".{0,400}?".join(_BEFORE + _LABEL.format(letter) for letter in "ABC"), re.DOTALL)
_SMALL_OPTIONS = re.compile(r".{0,400}?".join(_BEFORE + rf"\(?{letter}\)" for letter in "abc"), re.DOTALL)
_CHOOSING = re.compile(
    r"\bwhich(?: one)? of the (?:following|above|below|answer choices|options)\b"
    r"|\bwhich of these (?:statements|options|answers)\b"
    r"|\b(?:choose|select|pick|mark|tick|circle) (?:the|all|one) (?:\w+ )?(?:correct|right|best|true|appropriate) "
    r"(?:\w+ )?(?:answers?|options?|choices?|statements?|responses?)\b"
    r"|\b(?:select|choose|check) all that apply\b|\ball of the above\b|\bnone of the (?:above|following)\b"
    r"|\bof the following,? (?:which|what)\b|\bletters? of the (?:correct|right) (?:answer|option|choice)s?\b",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[(\[]?([A-H])[)\].:]?")
_TRUE_FALSE = re.compile(
    # "10 true/false questions" are in a story.
    r"\b(?:true or false|false or true|true/false|T/F|yes or no)\b(?! (?:\w+ )?(?:question|problem|item|one)s?\b)"
    r"|\b(?:statement|assertion|claim) (?:\w+ ){0,3}(?:is |be )?(?:true|correct) or (?:false|incorrect|not)\b"
    r"|\bwhether (?:the|this|each|it)\b[^.?!]{0,80}\b(?:true|correct) or (?:false|not)\b"
    r"|\bstatement 1\s*\|.*\bstatement 2\s*\|",
    re.IGNORECASE | re.DOTALL,
)
_TRUTHS = {"true", "false", "yes", "no", "correct", "incorrect", "right", "wrong"}
# In the imperative: "who can prove that" is no task.
_PROOF = re.compile(
    r"(?:^|[.!?:;,\]$]|\b(?:and|then|or|hence|thus|also|please|to))\s*(?:\(?[a-z0-9]{1,2}\)\s*)?"
    r"(?:(?:prove|disprove|show|demonstrate|verify) (?:that|the following|by induction|why)\b"
    r"|(?:prove|disprove) (?:or (?:dis)?prove\b|(?:the|your|this|it|by|whether|if) ))"
    r"|\b(?:give|write|provide|find|present|construct) an? (?:\w+ ){0,2}proof\b|\bproof of\b[^.?!]{0,60}\btheorem\b"
    r"|\bjustify your (?:answer|reasoning|claim|response)\b",
    re.IGNORECASE,
)
# In a story: "she wants to show that".
_NO_PROOF = re.compile(r"\b(?:want(?:s|ed)?|tr(?:y|ies|ied|ying)|need(?:s|ed)?|had|has|have) to\s*$", re.IGNORECASE)


def reason(question: str, answer: str, choices: list | None = None) -> str | None:
    """Why the problem is excluded, "kind: what was found"; None if it is not."""
    return _multiple_choice(question, answer, choices) or _true_false(question, answer) or _proof(question)


def excluded(row: dict) -> tuple[dict, str | None]:
    return row, reason(row["question"], row["answer"], row.get("choices"))


def _multiple_choice(question: str, answer: str, choices: list | None) -> str | None:
    if choices:
        return "multiple choice: the row has a list of options"
    if found := _OPTIONS.search(question):
        return f"multiple choice: labelled options “{_short(found[0])}”"
    if found := _CHOOSING.search(question):
        return f"multiple choice: “{_short(found[0])}”"
    letter = _LETTER.fullmatch(re.sub(r"\\text\{(.*)\}", r"\1", tidy(answer)))
    if letter and (small := _SMALL_OPTIONS.search(question)):
        return f"multiple choice: the answer is a letter, labelled options “{_short(small[0])}”"
    if letter and re.search(r"\bwhich\b|\boptions?\b|\bletter\b", question, re.IGNORECASE):
        return f"multiple choice: the answer is the letter {letter[1]}"
    return None


def _true_false(question: str, answer: str) -> str | None:
    word = re.sub(r"\\text\{(.*)\}", r"\1", tidy(answer)).strip(" .!").casefold()
    if word in _TRUTHS:
        return f"true/false: the answer is “{word}”"
    if found := _TRUE_FALSE.search(question):
        return f"true/false: “{_short(found[0])}”"
    return None


def _proof(question: str) -> str | None:
    for found in _PROOF.finditer(question):
        if not _NO_PROOF.search(question[: found.start()] + re.match(r"\W*(?:to\b)?", found[0])[0]):
            return f"proof: “{_short(found[0])}”"
    return None


def _short(text: str) -> str:
    text = " ".join(text.split()).strip(" .,;:!?$])")
    return text if len(text) <= 60 else f"{text[:40]} … {text[-15:]}"
