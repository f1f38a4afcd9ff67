"""Domain and discipline of a prompt by key words, or by a model's constrained choice (k1.5 §2.1; tags are ours)."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kimi_plugins.prompts.pipeline import rows_of
from kimi_plugins.prompts.sampled import Complete, requests

OTHER = "other"
# domain → discipline → words and phrases that count for it, whole words, in any case.
RULES: dict[str, dict[str, str]] = {
    "mathematics": {
        "number theory": (
            r"divisors?|divisible|remainder|modulo|congruent|primes?|prime factor\w*|gcd|lcm|greatest common|"
            r"least common multiple|\\pmod|\\equiv|units digit|base[- ](?:two|three|\d+|ten|b)|palindromes?|"
            r"multiples? of|positive integers?|digits?|factorization|coprime|relatively prime|"
            r"perfect (?:square|cube)s?|integers?"
        ),
        "counting and probability": (
            r"probability|how many ways|in how many|choose|chosen|permutations?|combinations?|binom\w*|"
            r"arrange\w*|dice|die|coins?|at random|randomly|expected value|committees?|distinct ways|"
            r"different ways|independent events?|fair coin|standard deck"
        ),
        "geometry": (
            r"triangles?|circles?|angles?|radius|radii|diameter|perimeter|area|polygons?|rectangles?|squares?|"
            r"hexagons?|pentagons?|octagons?|trapezoids?|parallelograms?|rhombus|prisms?|pyramids?|spheres?|"
            r"cylinders?|cones?|cubes?|volume|surface area|\\triangle|\\angle|\\overline|asy|hypotenuse|"
            r"tangent to|chords?|arcs?|isosceles|equilateral|quadrilaterals?|degrees|parallel|perpendicular|"
            r"midpoint|altitude|median"
        ),
        "precalculus": (
            r"\\sin|\\cos|\\tan|\\cot|\\sec|\\csc|\\arc(?:sin|cos|tan)|vectors?|matri(?:x|ces)|pmatrix|\\mathbf|"
            r"polar coordinates|spherical coordinates|cylindrical coordinates|cross product|dot product|"
            r"determinant|\\operatorname\{proj\}|\\cis|rotation|cartesian|parametriz\w*|trigonometric"
        ),
        "calculus": (
            r"derivatives?|integrals?|\\int|\\lim|differentia\w*|converge\w*|series|gradient|"
            r"\\frac\{dy?\}\{dx\}|maclaurin|taylor|antiderivative|continuous functions?|riemann"
        ),
        "linear and abstract algebra": (
            r"eigenvalues?|eigenvectors?|linear transformation|subspaces?|vector space|rank|subgroups?|"
            r"homomorphism|isomorphi\w*|abelian|cyclic group|finite field|rings?|ideals?|kernel|group of order|"
            r"permutation group|Z_\d+"
        ),
        "statistics": (
            r"standard deviation|variance|mean|median|mode|sample (?:mean|size|proportion)|confidence interval|"
            r"hypothesis|regression|correlation|null hypothesis|p-value|significance|random sample|"
            r"normal(?:ly)? distribut\w*|quartile|histogram|survey"
        ),
        "algebra": (
            r"polynomials?|equations?|solve|roots?|quadratic|functions?|expression|simplify|factor|expand|slope|"
            r"y-intercept|x-intercept|inequalit\w+|logarithm\w*|\\log|exponents?|complex numbers?|coefficients?|"
            r"asymptotes?|parabola|sequences?|arithmetic progression|geometric sequence|absolute value|\\sqrt|"
            r"real numbers?|variables?|domain of|range of|inverse|evaluate|compute|f\(x\)|x\^2"
        ),
        "word problems": (
            r"how (?:many|much|long|far|old|fast|big)|total|altogether|left|each|cost|price|dollars?|cents|"
            r"\\?\$\d|bought|buys?|sold|sells?|earn\w*|paid|pays?|spends?|spent|hours?|minutes?|days?|weeks?|"
            r"miles?|apples?|students?|children|boxes|bags?|per|percent|twice|half|times as|more than|fewer|"
            r"less than|gave|gives"
        ),
    },
    "physics": {
        "physics": (
            r"velocity|acceleration|momentum|newtons?|joules?|watts?|voltage|volts?|current|resist(?:or|ance)|"
            r"magnetic|electric(?:al)?|field|friction|gravit\w+|kinetic|potential energy|wavelengths?|frequency|"
            r"photons?|electrons?|circuits?|capacit\w+|thermodynamic\w*|entropy|quantum|lens|mirror|force|"
            r"torque|m/s|kg|pressure|amperes?|transistors?|diodes?|nuclear|radioactive|half-life|projectile|"
            r"orbits?|stars?|planets?|galax\w+|solar"
        ),
    },
    "chemistry": {
        "chemistry": (
            r"molecules?|moles?|molar\w*|acids?|bases?|pH|reactions?|compounds?|oxid\w+|ions?|bonds?|atoms?|"
            r"equilibrium|solutions?|solvent|catalyst|enthalpy|isotopes?|periodic table|electronegativ\w+|"
            r"titrat\w+|hydrogen|carbon|NaCl|H2O|CO2|HCl|precipitat\w+|polymer|NMR|spectr\w+"
        ),
    },
    "biology": {
        "biology": (
            r"cells?|genes?|genetic|DNA|RNA|proteins?|enzymes?|species|evolution|organisms?|bacteria|"
            r"virus(?:es)?|membrane|chromosomes?|mitosis|meiosis|alleles?|photosynthesis|hormones?|plants?|"
            r"animals?|populations?|ecosystems?|neurons?|antibod\w+|tissues?|blood|phenotypes?|"
            r"natural selection|mutations?"
        ),
    },
    "computer science": {
        "computer science": (
            r"algorithms?|programs?|code|python|java|pointers?|arrays?|strings?|loops?|recursi\w+|binary search|"
            r"hash(?:ing)?|cache|memory|operating system|compiler|databases?|SQL|network|packets?|encrypt\w+|"
            r"attack\w*|vulnerabilit\w+|firewall|classifier|neural network|training (?:set|data|error)|"
            r"overfitting|turing|context-free|regular expression|boolean|processors?|bits?|bytes?|threads?|"
            r"stack|queue|linked list|decision tree|SVM|gradient descent|likelihood|security|password|returns?|"
            r"procedure|pseudocode"
        ),
    },
}
_COMPILED = {
    (domain, discipline): re.compile(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", re.IGNORECASE)
    for domain, disciplines in RULES.items()
    for discipline, pattern in disciplines.items()
}
CHOICES = tuple(dict.fromkeys(discipline for disciplines in RULES.values() for discipline in disciplines)) + (OTHER,)
_DOMAINS = {discipline: domain for domain, disciplines in RULES.items() for discipline in disciplines}
ASK = "Name the discipline of this problem. Choose one of: " + ", ".join(CHOICES) + ".\n\n{question}"


_EVERYDAY = "word problems"  # its words are in many texts: they count half
_FORMULA = re.compile(r"\$|\\[a-zA-Z]+|\d\s*[-+*/^=×÷]|[a-z]\s*=|[a-z]\^")


def tag(question: str) -> tuple[str, str]:
    """(domain, discipline) with most different words of its list in the question; of equal ones the first.

    Without any: algebra where there is a formula, else other.
    """
    best, most = (OTHER, OTHER), 0.0
    for tags, pattern in _COMPILED.items():
        words = len({found.casefold() for found in pattern.findall(question)})
        count = words * (0.5 if tags[1] == _EVERYDAY else 1.0)
        if count > most:
            best, most = tags, count
    if best[0] == OTHER and _FORMULA.search(question):
        return "mathematics", "algebra"
    return best


def tagged(row: dict) -> tuple[dict, None]:
    """What the source says of domain and discipline stays; what it does not say comes from the rules."""
    domain, discipline = tag(row["question"])
    if row.get("discipline") and not row.get("domain"):
        given = row["discipline"].casefold()  # also "Intermediate Algebra"
        domain = next((known for name, known in _DOMAINS.items() if name in given), domain)
    return row | {"domain": row.get("domain") or domain, "discipline": row.get("discipline") or discipline}, None


def tagged_by_model(previous: Path, complete: Complete, chat: bool) -> Iterator[tuple[dict, None]]:
    """As tagged(), the discipline being the model's choice among CHOICES; the rules' where the prompt is too long."""
    asked = complete(requests(_without_images(rows_of(previous)), ASK, chat))
    for row, completions in zip(rows_of(previous), asked, strict=True):
        if completions and not row.get("discipline"):
            chosen = completions[0].text.strip()
            row |= {"discipline": chosen, "domain": row.get("domain") or _DOMAINS.get(chosen, OTHER)}
        yield tagged(row)


def _without_images(rows: Iterable[dict]) -> Iterator[dict]:
    for row in rows:
        yield {name: value for name, value in row.items() if name != "image"} | {
            "question": row["question"].replace("<image>", "").strip()
        }
