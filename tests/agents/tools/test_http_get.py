"""Getting pages, against servers of this machine under names that only the tool resolves."""

from __future__ import annotations

import datetime
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lmstack.agents.tools import AllowedHosts, HttpGetConfig, ToolContext, http_get_tool
from lmstack.agents.tools.http_get import page_text
from lmstack.core import InputError

PAGE = b"""<!doctype html><html><head><title>A &amp; B</title><style>p {color: red}</style></head>
<body><script>alert(1)</script><h1>Head</h1><p>One <b>two</b> three &lt;x&gt;<br>four</p>
<table><tr><td>1<td>2</table><!-- hidden --></body></html>"""


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str, dict[str, str]]]

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        self.seen.append((self.command, self.path, dict(self.headers.items())))
        name, _, rest = self.path.lstrip("/").partition("/")
        if name == "redirect":
            self.answer(
                302, headers={"Location": rest.replace("PORT", str(port)), "Set-Cookie": "a=b"}
            )
        elif name == "page":
            self.answer(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        elif name == "latin":
            self.answer(
                200, "für".encode("latin-1"), {"Content-Type": "text/plain; charset=latin-1"}
            )
        elif name == "sjis":
            data = "日本".encode("shift_jis")
            self.answer(200, data, {"Content-Type": "text/plain; charset=Shift_JIS"})
        elif name == "charset":
            self.answer(200, b"a" * 300_000, {"Content-Type": f"text/plain; charset={rest}"})
        elif name == "json":
            self.answer(200, b'{"a": 1}', {"Content-Type": "application/json"})
        elif name == "long":
            self.answer(200, b"x" * 100_000, {"Content-Type": "text/plain"})
        elif name == "endless":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 10_000)
        elif name == "gzip":
            self.answer(
                200,
                gzip.compress(b"x" * 10**6),
                {"Content-Type": "text/plain", "Content-Encoding": "gzip"},
            )
        elif name == "picture":
            self.answer(200, b"\x89PNG", {"Content-Type": "image/png"})
        elif name == "nothing":
            self.answer(200, b"text")
        elif name == "missing":
            self.answer(404, b"<h1>Not here</h1>", {"Content-Type": "text/html"})
        elif name == "slow":
            self.server.release.wait(20)  # type: ignore[attr-defined]

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that go away are no news."""


def served(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[Any]]]:
    handler = type("Seeing", (Handler,), {"seen": []})
    server = Server(("127.0.0.1", 0), handler)
    server.release = threading.Event()  # type: ignore[attr-defined]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], handler.seen
    finally:
        server.release.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[tuple[int, list[Any]]]:
    yield from served()


def names(*private: str) -> Callable[..., Any]:
    """A resolver by which ``private`` and example.test are this machine, and internal is not."""

    async def answer(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.1"] if host == "internal.test" else ["127.0.0.1"]

    return answer


def getter(port: int, **settings: Any) -> Any:
    private = (f"example.test:{port}", f"other.test:{port}")
    hosts = AllowedHosts(("internal.test",), private, names())
    return http_get_tool(allowed_hosts=hosts, config=HttpGetConfig(**settings))


async def got(made: Any, url: str) -> tuple[bool, str]:
    result = await made.call({"url": url}, ToolContext())
    return result.is_error, result.text


async def test_a_page_is_readable_text(server: tuple[int, list[Any]]) -> None:
    port, seen = server
    is_error, text = await got(getter(port), f"http://example.test:{port}/page#part")
    assert not is_error
    assert text == (
        f"http://example.test:{port}/page#part\n\nA & B\n\nHead\nOne two three <x>\nfour\n1 2"
    )
    [(method, path, headers)] = seen
    assert (method, path, headers["Host"]) == ("GET", "/page", f"example.test:{port}")
    assert not {"Cookie", "Authorization"} & set(headers)


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "no-such", "undefined"])
async def test_a_page_cannot_choose_a_slow_or_odd_charset(
    server: tuple[int, list[Any]], charset: str
) -> None:
    """Punycode takes time by the square of the length, on the loop that everybody waits for."""
    started = time.thread_time()
    is_error, text = await got(
        getter(server[0]), f"http://example.test:{server[0]}/charset/{charset}"
    )
    assert time.thread_time() - started < 1
    assert not is_error
    assert f"[its charset {charset} is not read, and UTF-8 was taken in its place]" in text


@pytest.mark.parametrize(
    ("path", "text"), [("latin", "für"), ("json", '{"a": 1}'), ("sjis", "日本")]
)
async def test_other_text_is_as_it_is(server: tuple[int, list[Any]], path: str, text: str) -> None:
    port, _ = server
    is_error, found = await got(getter(port), f"http://example.test:{port}/{path}")
    assert not is_error
    assert found.endswith(f"\n\n{text}")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("picture", "is image/png, which cannot be read as text"),
        ("nothing", "content of no stated type"),
        ("missing", "answers 404"),
        ("gzip", "is sent compressed (gzip)"),
        ("redirect/", "redirects to nowhere"),
        ("redirect/http://example.test:abc/", "Invalid URL"),
    ],
)
async def test_what_cannot_be_read_is_said(
    server: tuple[int, list[Any]], path: str, words: str
) -> None:
    port, _ = server
    is_error, text = await got(getter(port), f"http://example.test:{port}/{path}")
    assert is_error
    assert words in text


async def test_a_long_answer_is_cut_and_an_endless_one_ends(server: tuple[int, list[Any]]) -> None:
    port, _ = server
    for path in ("long", "endless"):
        made = getter(port, max_bytes=5_000)
        is_error, text = await got(made, f"http://example.test:{port}/{path}")
        assert not is_error
        assert text.count("x") == 5_000 + 1  # and that of "example"
        assert text.endswith("[the answer was longer, and its end was not read]")


async def test_a_server_that_does_not_answer_is_given_up(server: tuple[int, list[Any]]) -> None:
    port, _ = server
    is_error, text = await got(getter(port, timeout_s=0.1), f"http://example.test:{port}/slow")
    assert is_error
    assert "did not answer in 0.1 s" in text


async def test_a_server_that_is_not_there_is_said_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        is_error, text = await got(getter(port), f"http://example.test:{port}/")
    assert is_error
    assert "cannot be reached" in text


async def test_redirects_are_followed_between_hosts_that_are_allowed(
    server: tuple[int, list[Any]],
) -> None:
    port, seen = server
    url = f"http://example.test:{port}/redirect/http://other.test:PORT/json"
    is_error, text = await got(getter(port), url)
    assert not is_error
    assert text.startswith(f"http://other.test:{port}/json")
    assert [headers["Host"] for _, _, headers in seen] == [
        f"example.test:{port}",
        f"other.test:{port}",
    ]
    assert "Cookie" not in seen[1][2], "what the first host set"
    assert not (await got(getter(port), f"http://example.test:{port}/redirect//json"))[0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://127.0.0.1:PORT/json", "is not allowed"),
        ("http://localhost:PORT/json", "is not allowed"),
        ("http://2130706433:PORT/json", "is not allowed"),
        ("http://[::1]:PORT/json", "is not allowed"),
        ("http://169.254.169.254/latest/meta-data", "is not allowed"),
        ("http://internal.test/json", "at 10.0.0.1, which is not a public address"),
        ("http://u:p@example.test:PORT/json", "user name or a password"),
        ("file:///etc/passwd", "is not a URL that begins with"),
        ("gopher://example.test:PORT/json", "is not a URL that begins with"),
        ("//evil.test/json", "is not allowed"),
    ],
)
async def test_every_redirect_is_checked_like_the_first_address(
    server: tuple[int, list[Any]], target: str, words: str
) -> None:
    port, seen = server
    is_error, text = await got(getter(port), f"http://example.test:{port}/redirect/{target}")
    assert is_error
    assert words in text
    assert len(seen) == 1


async def test_a_loop_of_redirects_ends(server: tuple[int, list[Any]]) -> None:
    port, seen = server
    url = f"http://example.test:{port}/redirect//redirect//redirect//redirect//redirect//json"
    is_error, text = await got(getter(port, redirects=2), url)
    assert is_error
    assert "redirects more than 2 times" in text
    assert len(seen) == 3


async def test_the_rights_of_a_run_narrow_the_hosts(server: tuple[int, list[Any]]) -> None:
    port, seen = server
    here, other = f"example.test:{port}", f"other.test:{port}"

    async def asked(url: str, *rights: str) -> str:
        context = ToolContext(hosts=frozenset(rights))
        return (await getter(port).call({"url": url}, context)).text

    assert "{" in await asked(f"http://{here}/json", here)
    for rights in ((), (other,), ("example.test",), ("*.example.test:1",)):
        assert "the rights of this run do not name" in await asked(f"http://{here}/json", *rights)
    assert len(seen) == 1
    redirected = await asked(f"http://{here}/redirect/http://{other}/json", here)
    assert "the rights of this run do not name the host 'other.test" in redirected
    assert "is not allowed" in await asked("http://third.test/", "third.test"), "nor widen them"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.test",
        "http://",
        "http:///x",
        "ftp://example.test/",
        "javascript:alert(1)",
        "http://example.test:99999/",
        "http://exa mple.test/",
        "http://example.test\n/",
        "data:,x",
        "http://\x00/",
        "http://[::1/",
        "http://" + "a" * 100_000,
        "http://user@example.test/",
        "http://internal.test/",
        "http://example.test\\@internal.test/",
        "http://example.test%00/",
        "http://①②⑦.0.0.1/",
        "http://internal.test./",
    ],
)
async def test_urls_that_are_wrong_or_lead_elsewhere_are_refused_unasked(
    server: tuple[int, list[Any]], url: str
) -> None:
    port, seen = server
    is_error, text = await got(getter(port), url)
    assert is_error
    assert len(text) < 600
    assert seen == []


async def test_the_address_that_was_checked_is_the_one_connected_to(
    server: tuple[int, list[Any]],
) -> None:
    """A name whose answer changes after the check (DNS rebinding) is asked once."""
    port, seen = server
    asked: list[str] = []

    async def changing(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    hosts = AllowedHosts((), (f"example.test:{port}",), changing)
    is_error, _ = await got(http_get_tool(allowed_hosts=hosts), f"http://example.test:{port}/json")
    assert not is_error
    assert asked == ["example.test"]
    assert len(seen) == 1


async def test_settings_of_the_environment_do_not_send_it_elsewhere(
    server: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = server
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert not (await got(getter(port), f"http://example.test:{port}/json"))[0]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private


async def test_tls_checks_the_name_and_not_the_address(tmp_path: Path) -> None:
    public, private = certificate(tmp_path, "example.test")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(public, private)
    trusting = ssl.create_default_context(cafile=str(public))
    for port, _ in served(serving):
        entries = (f"example.test:{port}", f"other.test:{port}")
        hosts = AllowedHosts((), entries, names())
        made = http_get_tool(allowed_hosts=hosts, context=trusting)
        assert not (await got(made, f"https://example.test:{port}/json"))[0]
        is_error, text = await got(made, f"https://other.test:{port}/json")
        assert is_error
        assert "cannot be reached" in text
        strict = http_get_tool(allowed_hosts=hosts)
        assert (await got(strict, f"https://example.test:{port}/json"))[0], "an unknown authority"


def test_what_may_be_asked_is_in_the_description_and_nothing_is_by_default() -> None:
    assert "Hosts that may be asked: none." in http_get_tool().tool.description
    assert (
        "a.org, b.org:8080"
        in http_get_tool(["a.org"], private_hosts=["b.org:8080"]).tool.description
    )
    assert http_get_tool().is_untrusted
    with pytest.raises(InputError):
        http_get_tool(["http://a.org"])


async def test_plain_http_can_be_refused() -> None:
    hosts = AllowedHosts(("example.test",), (), names())
    made = http_get_tool(allowed_hosts=hosts, config=HttpGetConfig(https_only=True))
    assert "begins with https://" in (await got(made, "http://example.test/"))[1]


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 100_000, "<a" * 100_000, "<!--" * 100_000, "<![CDATA[" * 50_000, "</" * 200_000,
        "<script>" * 50_000, "<svg>" * 90_000, "<title>" * 50_000, "&" * 300_000, "<" * 100_000,
        "<script>" + "</scrip" * 50_000, "<a " + "b=" * 200_000, "<a b='" * 80_000,
    ],
    ids=range(13),
)  # fmt: skip
def test_a_hostile_page_takes_time_in_proportion_to_its_length(page: str) -> None:
    started = time.process_time()
    page_text(page)
    assert time.process_time() - started < 3


def test_text_of_a_page_is_what_a_reader_sees() -> None:
    assert page_text("a < b and c > d") == "a < b and c > d"
    assert page_text("<p>one<p>two <i>three</i>") == "one\ntwo three"
    assert page_text("<TITLE>T</TITLE><Style>x</STYLE >text<textarea>no</textarea>") == "T\n\ntext"
    assert page_text("<button>no end of it") == "no end of it"
    assert page_text("<script>no end of it") == ""
    assert page_text("1 > 0 <! declared > 2") == "1 > 0 2"
    assert page_text("") == ""
