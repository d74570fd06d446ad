"""The text of PDF pages made readable: words that a line break cut are mended, wrapped lines flow again."""

import re
from collections.abc import Iterable, Sequence

CUT = "\x02"  # where PDFium found a hyphen at the end of a line

# Bounded, so that hostile text stays linear.
_CUT_WORD = re.compile(rf"(\w{{1,60}}){CUT}(\w{{1,60}})")
_CUT_PLACE = re.compile(rf"\S{{0,60}}{CUT}\S{{0,60}}")
_LINE_END = re.compile(rf"[\n{CUT}]")
_WORD = re.compile(r"\w+(?:-\w+)*")
_BLOCK_START = re.compile(r"[•●▪■◦*\-–—]|\(?\w{1,3}[.)]\s|\d+(\.\d+)*\s")
_FIGURE = re.compile(r"[$(]*[\d.,]*\d[\d.,]*[)%]*|[$\-–—]+")  # a cell of a table, when it ends a line
_MIN_WIDTH = 40  # narrower pages are lists, forms and tables
_PROSE_WIDTH = 60  # from here on a full line may go on with a capital
_FULL = 0.7  # of the page's width: a line that was wrapped, not ended
_BRIMFUL = 0.88  # the same, with a capital after it
_MAX_DIGITS = 0.2  # lines with more figures are rows of a table
_CJK = re.compile(r"[\u2e80-\ua4cf\uf900-\ufaff\uff00-\uff60]")


def readable(pages: Sequence[str]) -> list[str]:
    """The pages, in order, mended and flowing. Only white space, hyphens at line ends and controls change."""
    words = _vocabulary(pages)
    return [_mend(_flow(page), words) for page in pages]


def _vocabulary(pages: Iterable[str]) -> frozenset[str]:
    """Every word and hyphenated word of the document that no line break cut, in lower case."""
    return frozenset(word.lower() for page in pages for word in _WORD.findall(_CUT_PLACE.sub(" ", page)))


def _mend(page: str, words: frozenset[str]) -> str:
    def joined(match: re.Match[str]) -> str:
        left, right = match.group(1), match.group(2)
        return left + right if _is_one_word(left, right, words) else f"{left}-{right}"

    return _CUT_WORD.sub(joined, page).replace(CUT, "-")


def _is_one_word(left: str, right: str, words: frozenset[str]) -> bool:
    """Whether the hyphen only marks the break: the document's own spelling decides, then the look of the halves."""
    if (left + right).lower() in words:
        return True
    if f"{left}-{right}".lower() in words or not right[0].islower() or not left[-1].isalpha():
        return False
    return not (len(left) > 2 and len(right) > 2 and left.lower() in words and right.lower() in words)


def _flow(page: str) -> str:
    lines = [line.strip() for line in page.split("\n")]
    width = _width(_LINE_END.split(page))
    out: list[str] = []
    last = ""  # the printed line before, for `out` grows
    for line in lines:
        if out and width >= _MIN_WIDTH and _continues(last, line, width):
            out[-1] += _gap(last, line) + line
        else:
            out.append(line)
        last = line.rpartition(CUT)[2]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip("\n")


def _width(lines: Sequence[str]) -> int:
    """The length that nine of ten printed lines do not pass."""
    lengths = sorted(len(line.strip()) for line in lines if line.strip())
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _continues(last: str, line: str, width: int) -> bool:
    """Whether `line` carries on the sentence of `last`; in doubt not, for a table's rows must stay apart."""
    if not last or not line or _BLOCK_START.match(line) or last.endswith(":"):
        return False
    if max(_digits(last), _digits(line)) > _MAX_DIGITS:
        return False
    if line[0].islower():
        return len(last) >= _FULL * width
    if _FIGURE.fullmatch(last.rsplit(None, 1)[-1]) or not line[0].isalnum():
        return False
    return width >= _PROSE_WIDTH and len(last) >= _BRIMFUL * width and not _FIGURE.fullmatch(line.rsplit(None, 1)[-1])


def _digits(line: str) -> float:
    return sum(c.isdigit() for c in line) / len(line)


def _gap(last: str, line: str) -> str:
    return "" if _CJK.match(last[-1]) and _CJK.match(line[0]) else " "
