"""Pages and data over HTTP, from hosts that the user allowed, and the readable text of a page.

Covers GET over https and http to allowed hosts at public addresses (`addresses`), every redirect
checked as if it were asked for, and bounds on time, size, redirects and kinds of content. Sends no
cookies, no credentials and no data but the URL. Does not run scripts, nor read pictures or PDFs.

The text of a page is one line for each block, without what no reader sees (scripts, styles, forms);
not covered are boilerplate, tables as tables, links, or what a style sheet hides, and documents,
which lmstack.rag reads. A page may be hostile, and parsers that build a tree need time quadratic in
its depth: this goes through the tags once, whatever they are.
"""

from __future__ import annotations

import asyncio
import html
import re
import ssl
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from encodings import aliases, normalize_encoding

import httpx

from lmstack.agents.tools.addresses import AllowedHosts
from lmstack.agents.tools.function import FunctionTool
from lmstack.agents.tools.results import one_line
from lmstack.agents.tools.tool import ToolContext, ToolResult
from lmstack.core import Config, GuardError, InputError, RemoteError, allowed, shown

__all__ = ["HttpGetConfig", "http_get_tool", "page_text"]

# Stops at the next "<" whatever comes, so that it stays linear on hostile input.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)[^<>]*>")
_DROPPED = {
    name: re.compile(rf"</{name}\b[^<>]*>?", re.IGNORECASE)
    for name in (
        *("script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas"),
        *("audio", "video", "select", "button", "textarea", "dialog", "title"),
    )
}
# Text up to the end of the page, where they are not closed.
_RAW = ("script", "style", "textarea", "title")
_BREAKING = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt"),
        *("figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"),
        *("li", "main", "nav", "ol", "option", "p", "pre", "section", "table", "tr", "ul"),
    )
)
_CELLS = ("td", "th")
_SPACE = re.compile(r"[^\S\n]+")


def page_text(source: str) -> str:
    """The title and the text of the page ``source``, one line a block."""
    title, parts = "", []
    for name, text in _parts(source):
        if name == "title":
            title = title or " ".join(html.unescape(text).split())
        elif name in _BREAKING:
            parts.append("\n")
        elif name in _CELLS:
            parts.append(" ")
        elif not name:
            # Line breaks of the source are spaces to a reader.
            parts.append(" ".join(html.unescape(f"|{text}|").split())[1:-1])
    lines = (_SPACE.sub(" ", line).strip() for line in "".join(parts).split("\n"))
    text = "\n".join(line for line in lines if line)
    return f"{title}\n\n{text}" if title and not text.startswith(title) else text


def _parts(source: str) -> Iterator[tuple[str, str]]:
    """Each tag by its name, and each text between tags under no name; a title with its text."""
    place = 0
    unclosed: set[str] = set()
    while (start := source.find("<", place)) >= 0:
        yield "", source[place:start]
        tag = _TAG.match(source, start)
        if tag is None:
            place = _after_markup(source, start)
            if place == start + 1:
                yield "", "<"
            continue
        name, place = tag[2].lower(), tag.end()
        if name not in _DROPPED or tag[1] or name in unclosed:
            yield name if name != "title" else "", ""
            continue
        end = _DROPPED[name].search(source, place)
        if end is None:
            unclosed.add(name)  # not to look for its end again at each
        inside = place
        place = end.end() if end else len(source) if name in _RAW else place
        if name == "title":
            yield name, source[inside : end.start() if end else place]
    yield "", source[place:]


def _after_markup(source: str, start: int) -> int:
    """Where text goes on after a comment, a declaration or a lonely ``<``."""
    if source.startswith("<!--", start):
        end = source.find("-->", start + 4)
        return end + 3 if end >= 0 else len(source)
    if source.startswith(("<!", "<?", "</"), start):
        end = source.find(">", start)
        return end + 1 if end >= 0 else len(source)
    return start + 1


_REDIRECTS = (301, 302, 303, 307, 308)
_HTML = ("text/html", "application/xhtml+xml")
_TEXT = ("application/json", "application/xml", "application/x-ndjson", "application/yaml")
# Each is decoded in time that grows with the length alone, unlike others that a page could choose
# (punycode, idna).
_CHARSETS = (
    *("utf_8", "ascii", "latin_1", "cp1252", "utf_16", "utf_16_le", "utf_16_be"),
    *("iso8859_2", "iso8859_15", "cp1250", "cp1251", "koi8_r", "shift_jis", "cp932", "euc_jp"),
    *("iso2022_jp", "gb2312", "gbk", "gb18030", "big5", "euc_kr"),
)
_HEADERS = {
    "User-Agent": "lmstack",
    "Accept": "text/html, text/*, application/json, application/xml;q=0.9",
    # A small compressed answer can be a huge one: its size would have to be watched twice.
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True)
class HttpGetConfig(Config):
    """``max_bytes``: of an answer's body; a longer one is cut. ``redirects``: how many are
    followed. ``https_only``: whether plain http is refused."""

    max_bytes: int = allowed(1 << 20, int, 1, 1 << 28)
    timeout_s: float = allowed(20.0, float, 0, 3600, above=True)
    redirects: int = allowed(3, int, 0, 20)
    https_only: bool = allowed(False, bool)


@dataclass(frozen=True)
class _Answer:
    url: str
    status: int
    media_type: str
    body: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Getter:
    hosts: AllowedHosts
    config: HttpGetConfig
    context: ssl.SSLContext | bool = True

    async def get(self, text: str, within: Collection[str] | None) -> _Answer:
        """The answer at the end of the redirects; each hop is checked anew, with a client of its
        own, so that nothing that one host sets reaches another."""
        url = text
        for _ in range(self.config.redirects + 1):
            async with httpx.AsyncClient(
                verify=self.context, trust_env=False, timeout=None
            ) as client:
                request = await self._request(client, url, within)
                response = await client.send(request, stream=True, follow_redirects=False)
                try:
                    if response.status_code not in _REDIRECTS:
                        return await self._read(response, url)
                    url = _location(response, url)
                finally:
                    await response.aclose()
        raise RemoteError(f"{shown(text)} redirects more than {self.config.redirects} times")

    async def _request(
        self, client: httpx.AsyncClient, text: str, within: Collection[str] | None
    ) -> httpx.Request:
        """A request to the address that was checked, with the name in its headers and in TLS."""
        url = self._checked(text)
        port = url.port or (443 if url.scheme == "https" else 80)
        address = await self.hosts.address(url.raw_host.decode("ascii"), port, within)
        headers = {**_HEADERS, "Host": url.netloc.decode("ascii")}
        extensions = {"sni_hostname": url.raw_host.decode("ascii")}
        return client.build_request(
            "GET", url.copy_with(host=address), headers=headers, extensions=extensions
        )

    def _checked(self, text: str) -> httpx.URL:
        try:
            url = httpx.URL(text.strip())
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise InputError(f"{shown(text)} is not a URL: {error}") from error
        schemes = ("https",) if self.config.https_only else ("https", "http")
        if url.scheme not in schemes or not url.host:
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            raise InputError(f"{shown(text)} is not a URL that begins with {wanted}")
        if url.userinfo:
            raise GuardError("the URL holds a user name or a password", hint="leave it out")
        return url.copy_with(fragment=None)

    async def _read(self, response: httpx.Response, url: str) -> _Answer:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise RemoteError(f"{shown(url)} is sent compressed ({one_line(encoding, 20)})")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not _is_text(media_type):
            kind = one_line(media_type, 60) or "content of no stated type"
            raise InputError(f"{shown(url)} is {kind}, which cannot be read as text")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > self.config.max_bytes:
                break
        charset, is_known = _charset(response.charset_encoding or "utf-8")
        text = bytes(body[: self.config.max_bytes]).decode(charset, "replace")
        notes = []
        if not is_known:
            named = one_line(response.charset_encoding or "", 40)
            notes.append(f"its charset {named} is not read, and UTF-8 was taken in its place")
        if len(body) > self.config.max_bytes:
            notes.append("the answer was longer, and its end was not read")
        return _Answer(url, response.status_code, media_type, text, tuple(notes))


def http_get_tool(
    hosts: Sequence[str] = (),
    *,
    private_hosts: Sequence[str] = (),
    config: HttpGetConfig | None = None,
    allowed_hosts: AllowedHosts | None = None,
    context: ssl.SSLContext | None = None,
) -> FunctionTool:
    """The tool ``http_get`` for ``hosts`` (see `AllowedHosts`), by default none.

    ``private_hosts``: those that may be on a private network. ``context``: for authorities that
    the system does not know. ``allowed_hosts``: instead of both, with a resolver of its own."""
    allowed_ = allowed_hosts or AllowedHosts(tuple(hosts), tuple(private_hosts))
    settings = config or HttpGetConfig()
    getter = _Getter(allowed_, settings, context or True)

    async def http_get(url: str, context: ToolContext) -> ToolResult:
        """Get the text of a page or of data from the web.

        Args:
            url: The address, beginning with https:// or http://.
        """
        try:
            async with asyncio.timeout(settings.timeout_s):
                answer = await getter.get(url, context.hosts)
        except TimeoutError:
            problem = f"{shown(url)} did not answer in {settings.timeout_s:g} s"
            raise RemoteError(problem, hint="try another page") from None
        except httpx.HTTPError as error:
            reason = one_line(str(error)) or type(error).__name__
            raise RemoteError(f"{shown(url)} cannot be reached: {reason}") from None
        return await asyncio.to_thread(_shown, answer)

    description = f"Get the text of a web page or of data. Hosts that may be asked: {allowed_}."
    return FunctionTool.of(
        http_get,
        description=description,
        is_untrusted=True,
        timeout_s=settings.timeout_s + 5,
    )


def _shown(answer: _Answer) -> ToolResult:
    text = page_text(answer.body) if answer.media_type in _HTML else answer.body
    note = "".join(f"\n[{each}]" for each in answer.notes)
    if answer.status >= 400:
        return ToolResult(f"{answer.url} answers {answer.status}.\n{text[:1000]}", is_error=True)
    return ToolResult(f"{answer.url}\n\n{text}{note}")


def _location(response: httpx.Response, url: str) -> str:
    target = response.headers.get("Location")
    if not target:
        raise RemoteError(f"{shown(url)} redirects to nowhere")
    try:
        return str(httpx.URL(url).join(target))
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise RemoteError(f"{shown(url)} redirects to {shown(target)}, no URL") from error


def _is_text(media_type: str) -> bool:
    return (
        media_type.startswith("text/")
        or media_type in (*_HTML, *_TEXT)
        or media_type.endswith(("+json", "+xml"))
    )


def _charset(name: str) -> tuple[str, bool]:
    """The codec of the charset ``name``, or UTF-8, and whether it is that of the name."""
    normalized = normalize_encoding(name.lower())
    found = aliases.aliases.get(normalized, normalized)
    return (found, True) if found in _CHARSETS else ("utf_8", False)
