"""Fonts, with others for the characters that one lacks.

DejaVu comes with matplotlib; Debian's for Chinese, Japanese and Korean are used where they are installed.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

_DEJAVU = {  # the same on every machine
    "sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    "serif": ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    "mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
}
_FOLDER = Path("/usr/share/fonts")
_NOTO = "opentype/noto/Noto{kind}CJK-{weight}.ttc"  # Debian's fonts-noto-cjk
_OTHERS = (  # fonts-wqy-zenhei, fonts-wqy-microhei, fonts-droid-fallback, fonts-nanum
    "truetype/wqy/wqy-zenhei.ttc",
    "truetype/wqy/wqy-microhei.ttc",
    "truetype/droid/DroidSansFallbackFull.ttf",
    "truetype/nanum/NanumGothic.ttf",
)
_KANA, _HANGUL = re.compile("[\u3040-\u30ff]"), re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
JAPANESE, KOREAN, CHINESE = range(3)  # numbers of the faces in Noto's collections


def language(text: str) -> int:
    """By whose conventions the characters that Chinese, Japanese and Korean share are drawn."""
    return JAPANESE if _KANA.search(text) else KOREAN if _HANGUL.search(text) else CHINESE


@cache
def _files(family: str, bold: bool) -> tuple[str, ...]:
    import matplotlib

    carried = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    kind, weight = "Serif" if family == "serif" else "Sans", "Bold" if bold else "Regular"
    system = (_NOTO.format(kind=kind, weight=weight), _NOTO.format(kind="Sans", weight="Regular"), *_OTHERS)
    dejavu = [str(carried / _DEJAVU[name][bold]) for name in dict.fromkeys((family, "sans"))]
    return (*dejavu, *(str(_FOLDER / name) for name in system if (_FOLDER / name).is_file()))


@cache
def _characters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(file).get_charmap())


@cache
def _font(file: str, size: int, face: int) -> ImageFont.FreeTypeFont:
    index = face if "CJK" in file else 0
    return ImageFont.truetype(file, size, index, layout_engine=ImageFont.Layout.BASIC)


@cache
def _file_with(character: str, family: str, bold: bool) -> str | None:
    return next((file for file in _files(family, bold) if ord(character) in _characters(file)), None)


def in_formulas(character: str) -> bool:
    """Whether matplotlib's mathtext has a glyph for it."""
    return ord(character) < 128 or ord(character) in _characters(_files("sans", False)[0])


def why_not_drawn(character: str, family: str) -> str | None:
    """Why a character cannot be drawn faithfully, or None. Text is composed (NFC) before."""
    category = unicodedata.category(character)
    if category in ("Mn", "Me", "Mc", "Cf", "Cc", "Cs", "Co", "Cn", "Zl", "Zp"):
        return "cannot be drawn"
    if unicodedata.bidirectional(character) in ("R", "AL", "AN"):
        return "cannot be drawn, as it is written from right to left"
    if all(_file_with(character, face, bold) for face in (family, "mono") for bold in (False, True)):
        return None
    wide = unicodedata.east_asian_width(character) in "WF" and category in ("Lo", "Po", "Ps", "Pe", "Pd")
    return "cannot be drawn" + ("; install Debian's fonts-noto-cjk" if wide else "")


@dataclass(frozen=True)
class Face:
    """A font of a size, in pixels; language: of the characters that several languages share."""

    family: str
    size: int
    bold: bool = False
    language: int = CHINESE

    def runs(self, text: str) -> list[tuple[ImageFont.FreeTypeFont, str]]:
        """The text, composed, in pieces of one font each."""
        found: list[tuple[str, str]] = []
        for character in unicodedata.normalize("NFC", text):
            file = _file_with(character, self.family, self.bold) or _files(self.family, self.bold)[0]
            if found and found[-1][0] == file:
                found[-1] = (file, found[-1][1] + character)
            else:
                found.append((file, character))
        return [(_font(file, self.size, self.language), part) for file, part in found]

    def length(self, text: str) -> float:
        return sum(font.getlength(part) for font, part in self.runs(text))

    def box(self, text: str) -> tuple[float, float, float, float]:
        """left, top, right, bottom of the ink, from the start of the baseline."""
        boxes, x = [], 0.0
        for font, part in self.runs(text):
            left, top, right, bottom = font.getbbox(part, anchor="ls")
            boxes.append((x + left, top, x + right, bottom))
            x += font.getlength(part)
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, fill) -> None:
        """Put the text's baseline at (x, y)."""
        x, y = at
        for font, part in self.runs(text):
            draw.text((x, y), part, fill, font, "ls")
            x += font.getlength(part)


def columns(text: str) -> int:
    """How many columns of a typewriter font the text takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
