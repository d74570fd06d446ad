"""What Markdown says about its text: which headings an offset is under, and what is better not cut."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

_HEADING_OR_FENCE = re.compile(r"^(?:(#{1,6})[ \t]+(\S[^\n]*)| {0,3}(`{3,}|~{3,}))", re.MULTILINE)
_TABLE = re.compile(r"(?:^[ \t]*\|[^\n]*\n?){2,}", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Headings, code and tables of one text."""

    before: tuple[str, ...] = ()  #: heading path at the beginning
    heads: tuple[int, ...] = ()  #: where headings begin
    paths: tuple[tuple[str, ...], ...] = ()  #: heading path from there on
    whole: tuple[tuple[int, int], ...] = ()  #: code and tables, better not cut

    def path(self, offset: int) -> tuple[str, ...]:
        """The headings that the offset is under."""
        index = bisect_right(self.heads, offset) - 1
        return self.paths[index] if index >= 0 else self.before


@dataclass(slots=True)
class Headings:
    """What is open where one segment of a document ends and the next begins."""

    levels: list[tuple[int, str]] = field(default_factory=list)  #: depth and name, outermost first
    fence: str = ""  #: that opened the code we are in

    def outline(self, text: str) -> Outline:
        """The outline of the next segment."""
        before, heads, code = self._path(), [], []
        opened = 0
        for match in _HEADING_OR_FENCE.finditer(text):
            if match[3] and not self.fence:
                self.fence, opened = match[3], match.start()
            elif match[3] and match[3].startswith(self.fence):
                code.append((opened, match.end()))
                self.fence = ""
            elif match[1] and not self.fence:
                self._enter(len(match[1]), match[2])
                heads.append((match.start(), self._path()))
        if self.fence:
            code.append((opened, len(text)))
        return Outline(
            before=before,
            heads=tuple(start for start, _ in heads),
            paths=tuple(path for _, path in heads),
            whole=tuple(sorted([*code, *_tables(text)])),
        )

    def _enter(self, depth: int, title: str) -> None:
        name = " ".join(title.strip().rstrip("#").split())
        self.levels = [*(level for level in self.levels if level[0] < depth), (depth, name)]

    def _path(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.levels if name)


def _tables(text: str) -> Sequence[tuple[int, int]]:
    return [match.span() for match in _TABLE.finditer(text)] if "|" in text else []
