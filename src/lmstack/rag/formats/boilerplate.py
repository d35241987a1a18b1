"""What on a web page is not its text: menus, banners, footers, lists of links.

Three steps, each careful: the element that declares itself the main text is the page, if it
holds a good part of it; elements that name themselves boilerplate (by tag, role, class or id) go
unless they hold prose; without a main element, lists that are nearly all links go unless the
page is nothing else. Text decides, not guesses about layout; nothing is downloaded or run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Content", "find_content"]

# Never text, wherever it stands.
_NEVER = (
    "nav, [role=navigation], [role=search], [role=banner], [role=contentinfo], [role=dialog], "
    "[role=alertdialog], [role=menu], [role=tablist], [hidden], "
    "a.headerlink, a.anchor, .viewcode-link, .linenos, .lineno, .sphinxsidebar"
)
# Outside the main text only.
_AROUND = "footer, aside, [role=complementary]"
_NAMED = ", ".join(
    f"{tag}[{attribute}]"
    for tag in ("div", "section", "ul", "ol", "header", "form", "p", "table", "td")
    for attribute in ("class", "id")
)
_NAMES = """
    ad ads advert advertisement banner breadcrumb breadcrumbs consent cookie cookies footer gdpr
    masthead menu modal nav navbar navigation newsletter pager pagination popup promo related share
    sharing sidebar skip social sponsor subscribe toolbar
"""
_WORDS = frozenset(_NAMES.split())
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
# Prose is at least so many characters, of which at most this share is links.
PROSE_CHARS, PROSE_LINKS = 400, 0.3
LINK_LIST, LINK_LIST_LINKS = 0.85, 4
MAIN_SHARE, MAIN_CHARS = 0.15, 100
_LAYING_OUT = "table h1 h2 h3 h4 h5 h6 ul ol pre blockquote form section article"
_LAYOUT = frozenset(_LAYING_OUT.split())
_UNSEEN = frozenset(("script", "style", "template", "noscript", "head"))


@dataclass(frozen=True, slots=True)
class Content:
    """Walk ``root``, but not what is in ``skip``. The tables in ``layout`` hold headings, lists or
    other tables: they lay out the page. Elements by their ``mem_id``."""

    root: Any
    skip: frozenset[int]
    layout: frozenset[int]

    def whole(self, body: Any) -> Content:
        """The page with nothing left out."""
        return Content(body, frozenset(), self.layout)


@dataclass(slots=True)
class _Size:
    chars: int = 0
    linked: int = 0
    links: int = 0

    def is_prose(self) -> bool:
        return self.chars >= PROSE_CHARS and self.linked <= PROSE_LINKS * self.chars


def find_content(tree: Any) -> Content:
    """Where the text of the page is."""
    body = tree.body
    sizes, layout = _sizes(body)
    whole = sizes[body.mem_id]
    main = _main(tree, sizes, whole)
    skip = {node.mem_id for node in tree.css(_NEVER)}
    if main is None:
        skip |= {n.mem_id for n in tree.css(_AROUND) if not _prose(n, sizes)}
    for node in tree.css(_NAMED):
        if _is_named(node) and not _prose(node, sizes) and _within(sizes, node, whole):
            skip.add(node.mem_id)
    skip |= _manual_page(tree)
    if main is None:
        skip |= _link_lists(tree, sizes, whole)
    root = main if main is not None else body
    skip.discard(root.mem_id)
    return Content(root, frozenset(skip), frozenset(layout))


def _sizes(body: Any) -> tuple[dict[int, _Size], set[int]]:
    """Characters of text, and of links, under every element, and which tables are layout; in one
    walk, since asking each element would take time that grows with the depth."""
    sizes: dict[int, _Size] = {body.mem_id: _Size()}
    layout: set[int] = set()
    # Size, whether within a link, the table around (0: none) of every open element.
    stack: list[tuple[_Size, bool, int]] = [(sizes[body.mem_id], False, 0)]
    node = body.child
    while node is not None:
        size, linked, table = stack[-1]
        if node.is_text_node:
            length = len((node.text_content or "").strip())
            size.chars += length
            size.linked += length if linked else 0
        elif node.is_element_node and node.tag not in _UNSEEN:
            tag = node.tag
            if table and tag in _LAYOUT:
                layout.add(table)
            if tag == "table":
                table = node.mem_id
                if (node.attributes.get("role") or "") in ("presentation", "none"):
                    layout.add(table)
            own = sizes[node.mem_id] = _Size(links=int(tag == "a"))
            if node.child is not None:
                stack.append((own, linked or tag == "a", table))
                node = node.child
                continue
            size.links += own.links
        while node.next is None:
            node = node.parent
            if node is None or node.mem_id == body.mem_id:
                return sizes, layout
            done = stack.pop()[0]
            above = stack[-1][0]
            above.chars += done.chars
            above.linked += done.linked
            above.links += done.links
        node = node.next
    return sizes, layout


def _main(tree: Any, sizes: dict[int, _Size], whole: _Size) -> Any:
    """The one element that says it is the main text, if it holds enough of it."""
    for selector in ("main, [role=main]", "article", "[itemprop=articleBody]"):
        found = [n for n in tree.css(selector) if n.mem_id in sizes]
        if len(found) == 1 or (found and selector.startswith("main")):
            best = max(found, key=lambda n: sizes[n.mem_id].chars)
            chars = sizes[best.mem_id].chars
            if chars >= MAIN_CHARS and chars >= MAIN_SHARE * whole.chars:
                return best
    return None


def _prose(node: Any, sizes: dict[int, _Size]) -> bool:
    size = sizes.get(node.mem_id)
    return size is not None and size.is_prose()


def _within(sizes: dict[int, _Size], node: Any, whole: _Size) -> bool:
    """Whether the page would still have most of its text without ``node``."""
    size = sizes.get(node.mem_id)
    return size is not None and size.chars <= 0.5 * whole.chars


def _is_named(node: Any) -> bool:
    attributes = node.attributes
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    return any(part.lower() in _WORDS for part in _PART.findall(names[:300]))


def _manual_page(tree: Any) -> set[int]:
    """What man2html adds around a manual page: links to its index, the index, its own name."""
    links = tree.css('a[href*="man2html"]')
    if not links:
        return set()
    skip = {n.mem_id for n in (*links, *tree.css('a[href="#index"]'))}
    node = tree.css_first('a[name="index"]')
    while node is not None:
        skip.add(node.mem_id)
        node = node.next
    return skip


def _link_lists(tree: Any, sizes: dict[int, _Size], whole: _Size) -> set[int]:
    found = []
    for node in tree.css("ul, ol, p, table, dl"):
        size = sizes.get(node.mem_id)
        if size and size.links >= LINK_LIST_LINKS and size.linked >= LINK_LIST * size.chars:
            found.append((node.mem_id, size))
    # Nested lists count twice here, which only keeps more.
    left = whole.chars - sum(size.chars for _, size in found)
    return {key for key, _ in found} if left >= 0.5 * whole.chars else set()
