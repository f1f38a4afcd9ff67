"""Rendered text against its own layout record: nothing clipped, nothing left out, ink where the record says."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pip install matplotlib")

from kimi_plugins.vision import fonts
from kimi_plugins.vision.formulas import Setting, typeset
from kimi_plugins.vision.text_render import (
    FAMILIES,
    LOOKS,
    SMALLEST_FONT,
    Style,
    Unrenderable,
    render,
    sample_style,
)

PROBLEMS = Path(__file__).parents[3] / "shared/data/gsm8k/test.jsonl"
CODE = '```python\ndef f(n):\n    # doubles\n\treturn "twice", 2 * n\n\n```\n'
TABLE = "| Name | Score |\n|------|:-----:|\n| Ann  | 12 of 20 |\n| Bob  | $x^2$ |\n"
TEXTS = {
    "prose": "  How many apples are left?\n\n\nTake 3 of 10,   then 2.\tGood luck!\n",
    "long word": "See " + "abcdefghij" * 40 + " there.",
    "dollars": "It costs $5, or $6.50 each; 10% off is US$3.",
    "math": r"Let $f(x)=\frac{x^2}{\sqrt{1+x}}$; find \[\int_0^1 f(x)\,dx\] and \(f(3)\), $$\alpha+\beta.$$",
    "wide formula": "$" + "+".join(f"x_{{{n}}}" for n in range(30)) + "$",
    "code": CODE + "What is f(4)?",
    "code first, indented": "```\n    deep\n  less\n```",
    "unknown language": "```brainf\n+-[<>].\n```",
    "long line of code": "```python\n" + "x = " + " + ".join(map(str, range(200))) + "\n```",
    "empty fence": "```python\n```\nNothing.",
    "open fence": "```python\nx = 1",
    "table": TABLE,
    "table in prose": "Look:\n" + TABLE + "\nWho won?",
    "wide table": "| a | b |\n|---|---|\n| " + "word " * 60 + "| short |\n",
    "no table": "| a | b |\n| only one |\n",
    "table within code": "```\n" + TABLE + "```\n",
    "windows": "one\r\ntwo\r\n",
    "letters": "Größe: 5 µm ≤ π·x² → «naïve» “quotes” – Ελλάδα, Москва",
}


def luminance(image):
    return np.asarray(image.convert("L"), dtype=float)


def check(rendered, text):
    """The record is the text, all boxes are inside, and each holds ink."""
    assert rendered.source == text.replace("\r\n", "\n")
    width, height = rendered.image.size
    grey = luminance(rendered.image)
    for piece in rendered.pieces:
        x0, y0, x1, y1 = piece.box
        assert 0 < x0 < x1 < width and 0 < y0 < y1 < height, piece
        inside = grey[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        assert np.ptp(inside) > 60, piece


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", TEXTS)
def test_the_record_is_the_text_and_every_box_has_ink(name, look):
    style = Style(family="serif", font=16, width=300, look=look, noise=6 if look == "paper" else 0, skew=1.5)
    check(render(TEXTS[name], style, most_pixels=10**6), TEXTS[name])


def test_boxes_hold_all_the_ink_there_is():
    for name in ("prose", "long word", "math", "letters", "wide formula"):
        rendered = render(TEXTS[name], Style(width=200), most_pixels=10**6)
        grey = luminance(rendered.image)
        for piece in rendered.pieces:
            x0, y0, x1, y1 = (int(edge) for edge in piece.box)
            grey[y0 : y1 + 1, x0 : x1 + 1] = 255
        assert (grey > 200).all(), name  # so nothing was cut off at the canvas either


def test_boxes_of_words_do_not_overlap():
    rendered = render(" ".join(TEXTS["prose"].split() * 10), Style(width=240), most_pixels=10**6)
    boxes = [piece.box for piece in rendered.pieces]
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        for a0, b0, a1, b1 in boxes[:n]:
            assert x0 >= a1 or a0 >= x1 or y0 >= b1 - 1 or b0 >= y1 - 1


def test_reading_order_is_the_texts():
    rendered = render(TEXTS["prose"], Style(width=120), most_pixels=10**6)
    assert [piece.text for piece in rendered.pieces] == TEXTS["prose"].split()
    lines = [round(piece.box[3] / 10) for piece in rendered.pieces]
    assert len(set(lines)) > 3
    # Left to right, then downwards.
    middles = [((piece.box[1] + piece.box[3]) / 2, piece.box[0]) for piece in rendered.pieces]
    for (y0, x0), (y1, x1) in zip(middles, middles[1:], strict=False):
        assert x1 > x0 or y1 > y0 + 5


def test_only_space_and_markup_is_left_out():
    for name, text in TEXTS.items():
        rendered = render(text, Style(width=400), most_pixels=10**6)
        left_out = rendered.lead + "".join(piece.gap for piece in rendered.pieces)
        for markup in ("```python", "```brainf", "```"):
            left_out = left_out.replace(markup, "")
        assert not set(left_out) - set(" \t\n|-:"), name
        if "table" not in name and "```" not in text:
            assert not left_out.strip(), name


def test_code_keeps_its_columns_and_has_colours():
    rendered = render(TEXTS["code"], Style(width=400), most_pixels=10**6)
    at = {piece.text: piece.box for piece in rendered.pieces}
    pitch = at["def"][2] - at["def"][0]
    assert at["return"][0] - at["def"][0] == pytest.approx(4 / 3 * pitch, abs=4)  # a tab is four columns
    assert at["#"][0] - at["def"][0] == pytest.approx(4 / 3 * pitch, abs=6) if "#" in at else True
    pixels = np.asarray(rendered.image).reshape(-1, 3).astype(int)
    saturated = pixels[np.ptp(pixels, axis=1) > 80]
    assert len(np.unique(saturated // 64, axis=0)) >= 3


def test_table_rows_and_columns_are_aligned():
    rendered = render(TABLE, Style(width=400), most_pixels=10**6)
    at = {piece.text: piece.box for piece in rendered.pieces}
    assert at["Ann"][0] == pytest.approx(at["Bob"][0], abs=3) and at["Score"][0] == pytest.approx(at["12"][0], abs=3)
    assert at["Ann"][3] == pytest.approx(at["12"][3], abs=3) and at["Bob"][1] > at["Ann"][3]


@pytest.mark.skipif(not PROBLEMS.exists(), reason="the GSM8K problems are not beside the project")
def test_real_problems_in_styles_drawn_at_random():
    rng = random.Random(0)
    rows = [json.loads(line) for line in PROBLEMS.read_text().splitlines()[:60]]
    texts = [next(row[key] for key in ("question", "input", "problem") if key in row) for row in rows]
    drawn = 0
    for text in texts:
        style = sample_style(rng, width=rng.choice((224, 448)))
        try:
            rendered = render(text, style, most_pixels=10**6, seed=rng.randrange(100))
        except Unrenderable as error:
            assert "U+" in str(error)
            continue
        check(rendered, text)
        drawn += 1
    assert drawn >= 0.95 * len(texts)


def test_the_font_shrinks_to_fit_and_no_further():
    text = "word " * 300
    large = render(text, Style(font=24), most_pixels=2 * 10**6)
    small = render(text, Style(font=24), most_pixels=300_000)
    assert small.image.width * small.image.height <= 300_000 < large.image.width * large.image.height
    check(small, text)
    with pytest.raises(Unrenderable, match=rf"pixels at {SMALLEST_FONT} pixels a letter, and 100,000 are allowed"):
        render(text, Style(font=24), most_pixels=100_000)


@pytest.mark.parametrize("skew", [-3, 0, 3])
def test_the_budget_holds_for_skewed_pages(skew):
    rendered = render("word " * 100, Style(skew=skew, look="paper"), most_pixels=160_000)
    assert rendered.image.width * rendered.image.height <= 160_000


@pytest.mark.parametrize(
    "text, reason",
    [
        (" \n", "there is no text"),
        ("crab 🦀", r"U\+1F980"),
        ("नमस्ते", r"U\+0928"),
        ("שלום", r"U\+05E9 \(HEBREW"),
        ("x\u0301", r"U\+0301 \(COMBINING ACUTE ACCENT\)"),
        ("zero\u200bwidth", r"U\+200B"),
        ("bell\a", r"U\+0007 \(control character\)"),
        ("\ud800", r"U\+D800"),
        (
            r"$\begin{foo}1\end{foo}$",
            r"the formula \\begin\{foo\}1\\end\{foo\} cannot be typeset: the environment 'foo'",
        ),
        (r"$\cancel{5}$", "cannot be typeset"),
        (r"$\frac{1}$", "has no argument"),
        (r"$\left( 1$", "is missing"),
        (r"\(\quad\) x", "has nothing to draw"),
        ("x" * 100_000, "100,000 characters do not fit"),
        ("| a | b |\n|---|---|\n| $" + "+x" * 90 + "$ | 1 |\n", "is wider than its cell"),
        ("|" + " a |" * 40 + "\n|" + " b |" * 40 + "\n", "a table of 40 columns"),
    ],
)
def test_what_cannot_be_drawn_faithfully_is_refused(text, reason):
    with pytest.raises(Unrenderable, match=reason):
        render(text, Style(), most_pixels=10**6)


def test_the_same_seed_gives_the_same_pixels():
    style = Style(look="paper", noise=8, skew=1)
    images = [render("Same?", style, most_pixels=10**6, seed=seed).image.tobytes() for seed in (1, 1, 2)]
    assert images[0] == images[1] != images[2]
    assert sample_style(random.Random(3), width=300) == sample_style(random.Random(3), width=300)
    styles = [sample_style(random.Random(n), width=300) for n in range(60)]
    assert {style.look for style in styles} == set(LOOKS) and {style.family for style in styles} == set(FAMILIES)


UNFENCED = "What does f(3) return?\n\ndef f(x):\n    if x > 2:\n        x = 0\n    return x"
GRID = "Which column has a gap?\na    b    c\n1    2    3\n1         3"
SHEET = "name\tage\tcity\nAnn\t\tParis\nMontgomery\t5\tRome"


def lefts(text, **style):
    """[(piece, where it starts)], in letters of a typewriter font from the first piece of the last paragraph."""
    rendered = render(text, Style(**style), most_pixels=10**6)
    check(rendered, text)
    [wide] = [piece for piece in render("```\nmmmmmmmmmm\n```", Style(**style), most_pixels=10**6).pieces]
    pitch = (wide.box[2] - wide.box[0]) / 9.9
    start = min(piece.box[0] for piece in rendered.pieces)
    return [(piece.text, (piece.box[0] - start) / pitch) for piece in rendered.pieces]


@pytest.mark.parametrize("text", [UNFENCED, UNFENCED.replace("    ", "\t"), GRID, "#####\n#   #\n# # #\n#####"])
def test_spaces_that_matter_are_kept_without_a_fence(text):
    expanded = text.expandtabs(4)
    at, words = lefts(text), expanded.split()
    assert [word for word, _ in at] == words
    end = 0
    for (word, x), place in zip(at, words, strict=True):
        found = expanded.index(place, end)
        end = found + len(place)
        column = found - (expanded.rfind("\n", 0, found) + 1)
        if word not in UNFENCED.splitlines()[0].split():  # a paragraph of prose
            assert x == pytest.approx(column, abs=0.45), word


def test_an_empty_cell_between_tabs_is_seen():
    at = dict(lefts(SHEET))
    assert at["Paris"] == pytest.approx(at["city"], abs=0.4) == pytest.approx(at["Rome"], abs=0.4)
    assert at["age"] == pytest.approx(at["5"], abs=0.4)


def test_prose_with_two_spaces_after_a_sentence_stays_prose():
    serif = render("One ends.  Another one begins.", Style(family="serif"), most_pixels=10**6)
    widths = [piece.box[2] - piece.box[0] for piece in serif.pieces if len(piece.text) == 3]
    assert serif.pieces[0].text == "One" and widths
    mono = render("One   two", Style(family="serif"), most_pixels=10**6).pieces[0].box
    assert mono[2] - mono[0] != widths[0]


def test_a_grid_too_wide_to_be_drawn_is_refused_and_a_long_line_of_code_goes_on_below():
    with pytest.raises(Unrenderable, match="whose spaces matter, does not fit"):
        render("\n".join("x   " * 60 for _ in range(3)), Style(), most_pixels=10**6)
    text = "def f():\n    return " + " + ".join(map(str, range(60)))
    rendered = render(text, Style(width=300), most_pixels=2 * 10**6)
    check(rendered, text)
    tops = sorted({round(piece.box[3] / 10) for piece in rendered.pieces})
    assert len(tops) > 3


@pytest.mark.parametrize(
    "written, plain",
    [
        (r"x \le 3", r"x \leq 3"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\tfrac 1{37}", r"\frac{1}{37}"),
        (r"\frac{x}2+\sqrt x", r"\frac{x}{2}+\sqrt{x}"),
        (r"{a \over b} + {n \choose k}", r"{\frac{a}{b}} + {\binom{n}{k}}"),
        (r"\displaystyle\sum\limits_{i=1}^n i", r"\sum_{i=1}^n i"),
        (r"x^\frac12", r"x^{\frac{1}{2}}"),
        (r"\bold{v} \dotsm \lvert x\rvert", r"\mathbf{v} \cdots |x|"),
        (r"n\equiv 1\pmod 5", r"n\equiv 1\ \ (\mathrm{mod}\ 5)"),
        (r"5% of x", r"5\% o f x"),
        (r"\bigl( x \Bigr] \biggl. y", r"( x ] y"),
        (r"\stackrel{*}{=} \smash{x} a \hfill b", r"\overset{*}{=} {x} a \ b"),
        (r"\text{na\"ive \c{c}a, \'{\i}\ss{}}", r"\text{naïve ça, íß}"),
        (r"\text{x-ray, it's}", r"\text{x‐ray, it’s}"),
        (r"\text{is \textbf{real} and \emph{y} too}", r"\text{is }\textbf{real}\text{ and }\textit{y}\text{ too}"),
        (r"\check{c}", "č"),
        (r"\underline{\hspace{1cm}}", r"\underline{\quad\quad}"),
        (r"\underline{\phantom{abcd}}", r"\underline{\quad\quad}"),
        (r"x\vspace{2pt} y\label{a}", "x y"),
        (r"\begin{array}{*{2}{c|}p{2cm}}1&2&3\end{array}", r"\begin{array}{c|c|l}1&2&3\end{array}"),
        (r"\begin{array}{r@{\,cl}l}1&2\end{array}", r"\begin{array}{rl}1&2\end{array}"),
        (r"\begin{array}{l}\toprule a\\\midrule b\end{array}", r"\begin{array}{l}\hline a\\\hline b\end{array}"),
    ],
)
def test_formulas_are_read_as_latex_reads_them(written, plain):
    a, b = (typeset(source, Setting(20, "dejavusans"))[0] for source in (written, plain))
    assert a.size == b.size and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "source, across, down",
    [
        (r"\begin{matrix}1&2\\3&4\\5&6\end{matrix}", 2, 3),
        (r"\begin{aligned}a\\b\\c\\d\end{aligned}", 1, 4),
        (r"\begin{array}{ccc}1&2&3\\4&5&6\end{array}", 3, 2),
    ],
)
def test_cells_are_in_rows_and_columns(source, across, down):
    mask = np.asarray(typeset(source, Setting(20, "dejavusans"))[0]) > 60

    def runs(ink):
        return int((np.diff(np.concatenate([[0], ink.astype(int)])) == 1).sum())

    assert (runs(mask.any(axis=0)), runs(mask.any(axis=1))) == (across, down)


@pytest.mark.parametrize(
    "source, heads",
    [
        (r"\overrightarrow{AB}", ">"),
        (r"\overleftarrow{AB}", "<"),
        (r"\overleftrightarrow{AB}", "<>"),
        (r"\xrightarrow{fgh}", ">"),
        (r"\xleftarrow[f]{}", "<"),
    ],
)
def test_arrows_are_as_wide_as_what_they_belong_to(source, heads):
    mask = np.asarray(typeset(source, Setting(40, "dejavusans"))[0]) > 128
    shaft = int(mask.sum(axis=1).argmax())
    ink = np.flatnonzero(mask[shaft])
    assert ink[0] <= 2 and ink[-1] >= mask.shape[1] - 3 and len(ink) == ink[-1] - ink[0] + 1
    above = mask[shaft - 4 : shaft - 2]  # where a head is wider than the shaft
    assert (above[:, : mask.shape[1] // 4].any(), above[:, -mask.shape[1] // 4 :].any()) == (
        "<" in heads,
        ">" in heads,
    )


@pytest.mark.parametrize(
    "source",
    [
        r"{a \atop b} \xrightarrow[\text{heat}]{\Delta} c",
        r"\frac{\overrightarrow{AB}}{2} \text{where $x$ is é}",
        r"\Biggl\{\begin{array}{l}x\\y\end{array}\Biggr.",
        r"\begin{cases}1&x>0\\0\end{cases}",
        r"\left(\begin{pmatrix}1\\2\end{pmatrix}\right)^2_i",
        r"\frac{\begin{vmatrix}1&2\\3&4\end{vmatrix}}{2}",
        r"\boxed{3}",
        r"\underbrace{1+1}_{n} + \overbrace{a}^{b}",
        r"\begin{array}{c|c}a&b\\\hline c&d\end{array}",
        r"\sum_{\substack{i<n\\j<i}} i",
        r"\left\{\begin{array}{cl}3-x&\text{if }x\leq3\\1\end{array}\right.",
        r"\text{costs \$5 for $x^2$} \tag{1}",
    ],
)
def test_formulas_of_two_dimensions_are_drawn(source):
    text = f"Let ${source}$ be."
    check(render(text, Style(), most_pixels=10**6), text)


def test_what_a_formula_encloses_is_enclosed():
    body, depth = typeset(r"\begin{matrix}1\\2\\3\end{matrix}", Setting(20, "dejavusans"))
    around, _ = typeset(r"\begin{pmatrix}1\\2\\3\end{pmatrix}", Setting(20, "dejavusans"))
    assert around.height >= body.height and around.width > body.width + 8


CHINESE_TEXT = (
    "小明有12个苹果，给了小红3个，还剩多少个？$f(x)=\\begin{cases}1,&\\text{若 }x>0\\\\0,&\\text{否则}\\end{cases}$"
)


@pytest.mark.skipif(len(fonts._files("sans", False)) < 2, reason="needs a font for Chinese, as in fonts-noto-cjk")
@pytest.mark.parametrize(
    "text", [CHINESE_TEXT, "ひらがなとカタカナ、漢字。" * 8, "사과가 몇 개 있습니까?", "表：\n甲　乙\n一　二"]
)
def test_chinese_japanese_and_korean(text):
    check(render(text, Style(width=200), most_pixels=10**6), text)


def test_vietnamese_composed_or_not():
    for text in ("Có bao nhiêu quả?", unicodedata.normalize("NFD", "Có bao nhiêu quả?")):
        check(render(text, Style(family="mono"), most_pixels=10**6), text)


def test_a_missing_font_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "_FOLDER", tmp_path)
    fonts._files.cache_clear(), fonts._file_with.cache_clear()
    try:
        with pytest.raises(Unrenderable, match=r"U\+6F22 .* cannot be drawn; install Debian's fonts-noto-cjk"):
            render("漢字", Style(), most_pixels=10**6)
        with pytest.raises(Unrenderable, match="fonts-noto-cjk"):
            render(r"$\text{漢}$", Style(), most_pixels=10**6)
    finally:
        fonts._files.cache_clear(), fonts._file_with.cache_clear()
