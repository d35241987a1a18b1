"""What is read of a page is its text: not its menus, and nothing of the text is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.formats.load import ProblemError, parse_document

PROSE = (
    "The lighthouse was lit in 1844 after six years of work on a rock that the sea covers at "
    "high tide. Its tower is forty-eight metres tall and its light is seen at eighteen miles. "
) * 3
PROSE = PROSE.strip()
MANUAL = Path("/usr/share/doc/python3.13/html")


def read(source):
    return parse_document("a.html", source.encode())


@pytest.mark.parametrize(
    "clutter",
    [
        "<nav>CLUTTER</nav>",
        "<div role=navigation>CLUTTER</div>",
        "<div class='cookie-banner'>We use cookies. CLUTTER</div>",
        "<div id=siteFooter>CLUTTER</div>",
        "<footer>CLUTTER</footer>",
        "<aside>CLUTTER</aside>",
        "<div class=breadcrumbs><a href=/>CLUTTER</a></div>",
        "<ul>" + "<li><a href=x>CLUTTER to go to</a>" * 5 + "</ul>",
        "<div hidden>CLUTTER</div>",
        "<form><input value=CLUTTER><button>CLUTTER</button></form>",
    ],
)
def test_clutter_around_prose_is_left_out(clutter):
    text = read(f"<body>{clutter}<h1>Lights</h1><p>{PROSE}</p>{clutter}</body>").text
    assert text == f"Lights\n\n{PROSE}"


@pytest.mark.parametrize(
    "element", ["div class=sidebar", "aside", "footer", "div id=related-work", "section class=menu"]
)
def test_prose_stays_whatever_its_element_is_called(element):
    source = f"<h1>A</h1><p>{PROSE}{PROSE}</p><{element}><p>{PROSE}</p></{element.split()[0]}>"
    assert read(source).text.count("lit in 1844") == 9


def test_main_text_is_the_page_and_keeps_its_asides():
    text = read(
        f"<div class=x>Around</div><main><h1>A</h1><p>{PROSE}</p><aside>Note.</aside></main>"
    ).text
    assert "Around" not in text
    assert "Note." in text


def test_main_element_that_holds_next_to_nothing_is_not_believed():
    assert PROSE in read(f"<main>x</main><p>{PROSE}</p>").text


def test_page_of_links_stays():
    links = "".join(f"<li><a href=p{n}>Chapter {n}</a>" for n in range(9))
    assert "Chapter 8" in read(f"<h1>Contents</h1><ul>{links}</ul>").text


def test_page_that_is_all_clutter_is_read_whole():
    assert read("<div class=menu><p>Soup of the day</p></div>").text == "Soup of the day"


def test_data_table_is_rows_with_a_header(make):
    document = read(
        "<p>a</p><table><caption>Towers</caption><tr><th>Name<th>m<tr><td>Bell<br>Rock<td>35"
        "<tr><td colspan=2>a|b</table><p>z</p>"
    )
    assert document.text == "a\n\nTowers\n\n| Name | m |\n| Bell Rock | 35 |\n| a\\|b | |\n\nz"
    block = next(b for b in document.blocks if b.kind == "table")
    assert document.text[slice(*block.header)] == "| Name | m |"


def test_table_that_lays_out_the_page_is_no_table(make):
    document = read("<table><tr><td><h2>Left</h2><p>one</p><td><ul><li>two</ul></table>")
    assert make.texts(document, "table") == []
    assert [s.title for s in document.sections] == ["Left"]


def test_head_gives_fields_and_title():
    document = read(
        "<html lang=de-AT><title>Lights — The Site</title>"
        "<meta name=author content=Ada><meta name=keywords content='sea, rock'>"
        "<meta property='article:published_time' content='2024-02-03T10:00:00Z'>"
        "<meta name=description content='About lights.'><h1>Lights</h1><p>x</p>"
    )
    assert document.title == "Lights"
    assert document.language == "de"
    assert document.fields == {
        "author": "Ada",
        "tags": ("sea", "rock"),
        "date": "2024-02-03",
        "description": "About lights.",
    }


SPHINX = """
<div class=related role=navigation>Navigation</div>
<div class=body role=main><section><h1>light<a class=headerlink href=#x>¶</a></h1>
<p>Lights lamps, and keeps them lit through the night, in every weather there is at sea.</p>
<dl class="py function"><dt class="sig sig-object py" id=a><span class=pre>light.lit</span>
<span>(</span><em class=sig-param>lamp</em>, <em>*</em><span>)</span><a class=headerlink>¶</a></dt>
<dd><p>Light a lamp.</p><div class=highlight><pre>&gt;&gt;&gt; lit(1)
2
</pre></div></dd></dl><p>More of the module.</p></section></div>
"""


def test_signature_heads_its_description_and_the_section_goes_on_after_it():
    document = read(SPHINX)
    assert "¶" not in document.text
    assert "light.lit (lamp, *)\n\nLight a lamp.\n\n>>> lit(1)\n2\n\n" in document.text
    paths = [(s.path, document.text[s.start : s.end].split("\n")[0]) for s in document.sections]
    assert paths == [
        (("light",), "light"),
        (("light", "light.lit()"), "light.lit (lamp, *)"),
        (("light",), "More of the module."),
    ]


def test_manual_page_of_man2html_is_only_the_manual():
    text = read(
        "<h1>LS</h1>Section: User Commands (1)<br><a href='#index'>Index</a>"
        "<a href='/cgi-bin/man/man2html'>Return to Main Contents</a><hr>"
        "<a name=lbAB>&nbsp;</a><h2>NAME</h2>ls - list<hr><a name=index>&nbsp;</a><h2>Index</h2>"
        "<dl><dt><a href='#lbAB'>NAME</a></dl>This document was created by "
        "<a href='/cgi-bin/man/man2html'>man2html</a>, using the manual pages."
    ).text
    assert text == "LS\n\nSection: User Commands (1)\n\nNAME\n\nls - list"


@pytest.mark.skipif(not MANUAL.exists(), reason="python3.13-doc is not installed")
def test_manual_of_python_reads_clean():
    document = parse_document("json.html", (MANUAL / "library/json.html").read_bytes())
    assert document.title == "json — JSON encoder and decoder"
    assert document.text.startswith("json — JSON encoder and decoder\n\nSource code: Lib/json/")
    assert not {"¶", "Quick search", "Previous topic", "Report a bug"} & set(
        document.text.split("\n")
    )
    section = next(s for s in document.sections if s.title == "json.dumps()")
    assert section.path[1] == "Basic Usage"
    assert "| JSON | Python |" in document.text


_TAGS = """
<div> </div> <p> <table> <tr> <td> <th> </table> <ul> <li> </ul> <dl> <dt/class=sig> <dd> </dl>
<nav> </nav> <main> </main> <pre> </pre> <a> <a/href=x> </a> <h1> </h1> <aside> </aside> words
<br> <article> </article> &nbsp;
"""
_MARKUP = st.sampled_from(_TAGS.split())


@given(st.lists(_MARKUP, max_size=60))
@settings(deadline=None, max_examples=200)
def test_blocks_and_sections_are_in_order_whatever_the_markup(parts):
    try:
        document = read("".join(parts).replace("/class", " class").replace("/href", " href"))
    except ProblemError:
        return
    position = 0
    for block in document.blocks:
        assert position <= block.start < block.end <= len(document.text)
        if block.header:
            assert block.start <= block.header[0] < block.header[1] <= block.end
        position = block.end
    starts = [s.start for s in document.sections]
    assert starts == sorted(starts)
    assert (starts[0], document.sections[-1].end) == (0, len(document.text))
