"""Decoding bytes, cleaning web pages and mending PDF lines."""

import pytest

from bookwheel.decoding import NotTextError, decode
from bookwheel.html_text import SHIELD, content_of, decode_html
from bookwheel.office_text import narrowed, tidy
from bookwheel.parse import _markdown
from bookwheel.pdf_text import CUT, readable

SAMPLES = {
    "cp1251": "Аренда офисов в Москве. Предложение от собственника, все районы города",
    "koi8-r": "Аренда офисов в Москве. Предложение от собственника, все районы города",
    "cp1252": "Das Essen ist “köstlich” – sagt der Gärtner für 5 €.",
    "cp1256": "رجل حكيم يعيش في المدينة القديمة",
    "cp932": "東京都に住んでいる佐藤太郎さんは、三十歳の会社員です。",
    "euc_jp": "東京都に住んでいる佐藤太郎さんは、三十歳の会社員です。",
    "iso2022_jp": "東京都に住んでいる佐藤太郎さん",
    "gb18030": "北京是中华人民共和国的首都，人口众多。",
    "cp949": "서울은 대한민국의 수도이다. 안녕하세요",
    "cp500": "IBM mainframe text has its own letters\nand its own spaces, line by line\n",
    "utf-8-sig": "Zażółć gęślą jaźń",
    "utf-16": "Doylestown, PA 18901 Привет 東京",
    "utf-16-le": "Doylestown, PA 18901 Привет 東京",
    "utf-16-be": "Привет, как дела сегодня у всех?",
    "utf-32": "Doylestown, PA 18901 Привет 東京",
    "utf-32-le": "Doylestown, PA 18901 Привет",
}


@pytest.mark.parametrize("codec", SAMPLES)
def test_text_is_read_in_every_encoding_that_people_still_have(codec: str) -> None:
    """Marks, UTF-16 and UTF-32 without marks, and legacy encodings all give the same characters."""
    assert decode(SAMPLES[codec].encode(codec)) == SAMPLES[codec]


def test_a_few_broken_bytes_do_not_turn_utf8_into_something_else() -> None:
    """One bad byte and a cut-off end leave the rest of the text as UTF-8."""
    data = ("Привет, мир! " * 50).encode()
    text = decode(data[:101] + b"\xff" + data[102:-3])
    assert text.count("Привет") >= 48
    assert "Рџ" not in text


def test_bytes_that_are_no_text_are_refused() -> None:
    """Neither NULs nor controls nor noise become words."""
    for data in (b"abc\0def" * 50, bytes(range(1, 32)) * 9, bytes(range(256)), b"\0" * 99):
        with pytest.raises(NotTextError):
            decode(data)


def test_a_page_is_read_as_it_declares_unless_its_bytes_say_otherwise() -> None:
    """A declaration after a long script counts; a wrong one is overruled; codecs that are no charset are ignored."""
    russian, arabic = SAMPLES["cp1251"], SAMPLES["cp1256"]
    late = b"<script>" + b"x" * 9000 + b"</script><meta charset='windows-1251'>" + "Да".encode("cp1251")
    assert decode_html(late).endswith("Да")
    assert arabic in decode_html(b'<meta charset="utf-8">' + arabic.encode("cp1256"))
    assert russian in decode_html(b'<meta charset="idna">' + russian.encode("cp1251"))


PAGE = """<html><head><title>Cats &amp; dogs</title><style>p {color: red}</style></head><body>
<nav><a href="/">Home</a></nav><div class="related">Previous</div><div role="search">Find</div>
<h1>Cats<a class="headerlink" href="#c">¶</a></h1><script>var secret = 1;</script>
<p>A   <em>wrapped</em>
line with <a href="https://example.com/a/long/address">a link</a>.</p><pre>
=
  two  spaces
</pre><ul><li>one</li></ul><table><tr><th>A</th><th>B</th></tr><tr><td>x_1</td><td>2</td></tr></table>
<footer>Imprint</footer></body></html>"""


def test_a_web_page_becomes_its_content() -> None:
    """Menus, scripts, styles, permalinks, footers and addresses go; headings, lists, tables and code stay."""
    page = content_of(PAGE)
    assert page.title == "Cats & dogs"
    assert _markdown(page.html).strip().split("\n\n") == [
        "# Cats",
        "A wrapped line with a link.",
        "```\n=\n  two  spaces\n```",
        "- one",
        "| A | B |\n| --- | --- |\n| x_1 | 2 |",
    ]


def test_a_page_that_is_all_menu_or_never_closes_it_keeps_its_text() -> None:
    """Leaving out furniture never empties a page."""
    links = "".join(f"<li>Entry number {i} of the list</li>" for i in range(30))
    for source in (f"<nav><ul>{links}</ul></nav>", f"<nav>Home<p>{'The only text. ' * 30}"):
        assert len(content_of(source).html) > 400
    assert "secret" not in content_of("<nav>Home<script>secret</script>").html


def test_text_cannot_smuggle_in_tags() -> None:
    """What was text stays text, also where the shield against headings stands."""
    page = content_of(f"<p>&lt;script&gt;1 &lt; 2{SHIELD}&lt;/script&gt;</p>")
    assert page.html == "<html><body><p>&lt;script&gt;1 &lt; 2&lt;/script&gt;</p></body></html>"


def test_office_markdown_loses_escapes_and_addresses_but_not_in_code() -> None:
    """Code between fences stays as it is; signs that would turn text into structure keep their escape."""
    assert tidy(r"2\. R\&D \# [text](http://a.b/c) ![Alt](../x.png)") == r"2. R&D \# text Alt"
    assert tidy("```\n[a](b) \\& x\n```\n\\&") == "```\n[a](b) \\& x\n```\n&"


def test_tables_lose_empty_rows_and_columns() -> None:
    """Cells stay under their heads; a table of one column is text."""
    assert narrowed("| A |  | B |\n| --- | --- | --- |\n|  |  |  |\n| 1 |  | a\\|b |") == (
        "| A | B |\n| --- | --- |\n| 1 | a\\|b |"
    )
    assert narrowed("|  | Note |\n| --- | --- |\n|  | Text |") == "Note\n\nText\n"


def test_words_cut_by_a_line_end_are_mended_as_the_document_spells_them() -> None:
    """A real hyphen stays, a break's hyphen goes."""
    page = f"A dual{CUT}encoder is ef{CUT}ficient and re{CUT}trieval is us{CUT}ing F{CUT}16"
    known = "Every dual-encoder with retrieval"
    assert readable([page, known])[0] == "A dual-encoder is efficient and retrieval is using F-16"


def test_wrapped_prose_flows_and_rows_of_a_table_stay_apart() -> None:
    """A line goes on when it was full; figures, headings and items begin lines of their own."""
    prose = (
        "Unless the context otherwise requires, these terms refer to the company and\n"
        "its subsidiaries. In the opinion of management, the accompanying statements\n"
        "contain all adjustments necessary.\n"
        "Cash paid for interest and for other purposes of the holding company 1 2\n"
        "Decrease in cash and in cash equivalents over the period of the entire year\n"
        "1. Basis of presentation"
    )
    lines = readable([prose])[0].split("\n")
    assert [line[:12] for line in lines] == ["Unless the c", "Cash paid fo", "Decrease in ", "1. Basis of "]


def test_hostile_runs_stay_linear() -> None:
    """Long runs that make a naive pattern try everything end at once; the suite would hang otherwise."""
    assert tidy("[" * 200_000 + "](" * 50_000)
    assert readable(["x" * 300_000 + " " * 300_000 + "y"])
    assert decode_html(b"<meta " * 100_000)
    for hostile in ("<p ", "<!--", "<", "<p a='"):
        assert content_of(hostile * 200_000) is not None
