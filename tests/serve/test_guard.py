"""Keys, hosts, origins, request ids, headers, and that no fault shows more than its id."""

from __future__ import annotations

import gc
import types

import pytest

from lmstack.core import EngineError, GuardError, InputError, ScriptedModel
from lmstack.serve import PAGE_CSP, client_of_key, create_app, security_headers
from lmstack.serve.http.guard import Frame, key_digest
from lmstack.serve.http.metrics import Metrics
from lmstack.serve.http.streams import StopSignal

KEY = "sk-very-secret-key-0123456789"
BODY = {"model": "m", "messages": [{"role": "user", "content": "my secret"}]}
CHAT = "/v1/chat/completions"
PROXIED = {"host": "lm.example"}


def app_of(model=None, **options):
    return create_app(models={"m": model or ScriptedModel()}, **options)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/no/such/route"),
        ("GET", "/healthz/"),
        ("GET", "//healthz"),
        ("OPTIONS", CHAT),
    ],
)
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}"]
)
async def test_with_keys_set_no_route_answers_without_one(http, method, path, header):
    headers = {} if header is None else {"authorization": header}
    async with http(app_of(api_keys=[KEY])) as client:
        answer = await client.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_route_of_the_app_is_behind_the_key(http):
    app = app_of(api_keys=[KEY])
    paths = app.openapi()["paths"]
    async with http(app) as client:
        for path, operations in paths.items():
            for method in operations:
                answer = await client.request(method.upper(), path.replace("{model}", "m"))
                assert answer.status_code == (200 if path == "/healthz" else 401), path


async def test_public_paths_need_no_key_and_open_nothing_else(http):
    app = app_of(api_keys=[KEY], public_paths=["/", "/static/*"])
    app.get("/static/x")(lambda: {"page": 1})
    async with http(app) as client:
        assert (await client.get("/static/x")).status_code == 200
        assert (await client.get("/static/../v1/models")).status_code == 401
        assert (await client.get("/staticx")).status_code == 401
        assert (await client.get("/v1/models")).status_code == 401


async def test_a_right_key_enters_and_names_the_client_by_a_hash(http):
    model = ScriptedModel()
    async with http(app_of(model, api_keys=["other", KEY])) as client:
        answer = await client.post(CHAT, json=BODY, headers={"authorization": f"bearer {KEY}"})
    assert answer.status_code == 200
    client_name = model.requests[0].client
    assert client_name.startswith("key:")
    assert len(client_name) == 16
    assert KEY not in client_name
    assert client_name == client_of_key(KEY)


async def test_forwarded_headers_do_not_change_who_the_client_is(http):
    model = ScriptedModel()
    forged = {"x-forwarded-for": "10.0.0.9", "forwarded": "for=10.0.0.9", "x-real-ip": "10.0.0.9"}
    async with http(app_of(model)) as client:
        await client.post(CHAT, json=BODY, headers=forged)
    assert model.requests[0].client == "ip:127.0.0.1"


async def test_only_digests_of_keys_are_kept(http):
    key = "-".join(["sk", "made", "here"])
    app = app_of(api_keys=[key])
    async with http(app) as client:
        answer = await client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    reached, seen = [vars(app)], set()
    while reached:
        thing = reached.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(thing))
        assert not (isinstance(thing, str) and key in thing)
        reached += gc.get_referents(thing)
    assert len(seen) > 1000


@pytest.mark.parametrize("key", ["", " sk", "sk\n", "clé"])
def test_a_key_that_no_header_can_carry_is_refused_at_once(key):
    with pytest.raises(InputError):
        app_of(api_keys=[key])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "",
        "[::2]",
        "127.0.0.1:80:80",
        "localhost@evil",
    ],
)
async def test_a_rebound_host_name_is_refused(http, host):
    async with http(app_of()) as client:
        answer = await client.get("/healthz", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:80"]
)
async def test_this_machines_names_are_answered(http, host):
    async with http(app_of()) as client:
        assert (await client.get("/healthz", headers={"host": host})).status_code == 200


async def test_a_host_can_be_allowed(http):
    async with http(app_of(allowed_hosts=["box.lan"])) as client:
        assert (await client.get("/healthz", headers={"host": "box.lan:80"})).status_code == 200
        assert (await client.get("/healthz", headers={"host": "localhost"})).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1234"},
        {"origin": ""},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_sites_page_cannot_post(http, headers):
    model = ScriptedModel()
    async with http(app_of(model)) as client:
        answer = await client.post(CHAT, json=BODY, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "origin_not_allowed"
    assert model.requests == []


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://127.0.0.1"}, {"sec-fetch-site": "same-origin"}]
)
async def test_the_own_page_and_programs_can_post(http, headers):
    async with http(app_of()) as client:
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        # Port 80 of this machine is asked by a page that another program serves on 443.
        ({"host": "localhost", "origin": "https://localhost"}, 403),
        # A proxy ends TLS, and somebody on the way put a page of plain HTTP in its place.
        (PROXIED | {"x-forwarded-proto": "https", "origin": "http://lm.example"}, 403),
        (PROXIED | {"x-forwarded-proto": "https, http", "origin": "http://lm.example"}, 403),
        (PROXIED | {"origin": "http://lm.example", "sec-fetch-site": "cross-site"}, 403),
        (PROXIED | {"origin": "https://lm.example", "sec-fetch-site": "same-site"}, 403),
        (PROXIED | {"x-forwarded-proto": "http", "origin": "https://lm.example"}, 403),
        (PROXIED | {"origin": "https://lm.example:8443"}, 403),
        # The page of this server behind a proxy, whether or not the proxy says that it ends TLS.
        (PROXIED | {"x-forwarded-proto": "https", "origin": "https://lm.example"}, 200),
        (PROXIED | {"x-forwarded-proto": "HTTPS, http", "origin": "https://lm.example"}, 200),
        (PROXIED | {"origin": "https://lm.example", "sec-fetch-site": "same-origin"}, 200),
        (PROXIED | {"origin": "https://LM.example"}, 200),
        # Two proxies, of which the inner one is spoken to in plain HTTP.
        (
            PROXIED
            | {"x-forwarded-proto": "http", "origin": "https://lm.example"}
            | {"sec-fetch-site": "same-origin"},
            200,
        ),
        (PROXIED | {"origin": "http://lm.example"}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
    ],
)
async def test_a_page_is_the_own_one_only_with_the_own_scheme(http, headers, status):
    async with http(app_of(allowed_hosts=["localhost", "lm.example"])) as client:
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == status


async def test_an_allowed_origin_may_post_whatever_the_browser_says_of_it(http):
    headers = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
    async with http(app_of(cors_origins=["https://app.example"])) as client:
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("keys", "operators", "allowed"),
    [
        ([], [], [None]),
        (["only"], [], ["only"]),
        (["one", "two"], [], []),
        (["one", "two"], ["two"], ["two"]),
        (["one"], ["one"], ["one"]),
    ],
)
async def test_figures_of_all_clients_are_for_the_operators_key(http, keys, operators, allowed):
    app = app_of(api_keys=keys, operator_digests=[key_digest(key) for key in operators])
    async with http(app) as client:
        for key in keys or [None]:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            answer = await client.get("/metrics", headers=headers)
            assert answer.status_code == (200 if key in allowed else 403)
            if key not in allowed:
                assert answer.json()["error"]["code"] == "operator_only"
                assert '"owner": true' in answer.json()["error"]["hint"]
                assert "lmstack_requests" not in answer.text
            assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_without_cors_origins_no_page_may_read_answers(http):
    async with http(app_of()) as client:
        answer = await client.get("/v1/models", headers={"origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_an_allowed_origin_may_post_and_read_even_a_401(http):
    origin = "https://app.example"
    preflight = {"access-control-request-method": "POST", "origin": origin}
    async with http(app_of(api_keys=[KEY], cors_origins=[origin])) as client:
        asked = await client.options(CHAT, headers=preflight)
        wrong = await client.post(CHAT, json=BODY, headers={"origin": origin})
        right = await client.post(
            CHAT, json=BODY, headers={"origin": origin, "authorization": f"Bearer {KEY}"}
        )
        other = await client.post(CHAT, json=BODY, headers={"origin": "https://b.example"})
    assert asked.status_code == 200
    assert (wrong.status_code, right.status_code, other.status_code) == (401, 200, 403)
    assert wrong.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/nothing", 404),
        ("GET", CHAT, 405),
        ("POST", CHAT, 415),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_every_answer_has_a_request_id_and_security_headers(http, method, path, status):
    async with http(app_of()) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert len(answer.headers["x-request-id"]) == 32
    for name, value in security_headers().items():
        assert answer.headers[name] == value
    assert answer.headers["cache-control"] == "no-store"
    if status >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code", "hint"}
    assert (status == 405) == ("allow" in answer.headers)


async def test_a_page_keeps_its_own_policy(http):
    from starlette.responses import HTMLResponse

    app = app_of()

    @app.get("/")
    def page() -> HTMLResponse:
        own = {"Cache-Control": "no-cache"}
        return HTMLResponse("<p>hi", headers=security_headers(PAGE_CSP) | own)

    async with http(app) as client:
        answer = await client.get("/")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"] == PAGE_CSP
    assert answer.headers["x-frame-options"] == "DENY"


async def test_a_bug_is_a_500_with_an_id_and_no_text_of_the_prompt(http, caplog):
    def bug(request):
        raise ZeroDivisionError(request.messages[0].content)

    async with http(app_of(ScriptedModel([bug]))) as client:
        answer = await client.post(CHAT, json=BODY)
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in answer.text + caplog.text
    assert "Traceback" not in answer.text + caplog.text


@pytest.mark.parametrize("error", [EngineError("stopped"), ZeroDivisionError()], ids=repr)
async def test_an_error_in_mid_answer_does_not_begin_a_second_one(error):
    sent = []

    async def breaks_off(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise error

    async def send(message):
        sent.append(message["type"])

    frame = Frame(breaks_off, metrics := Metrics(), StopSignal())
    await frame({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert metrics.registry.get_sample_value(
        "lmstack_requests_total", {"route": "other", "status": "200"}
    )


async def test_the_access_log_holds_no_text_and_no_key(http, caplog):
    caplog.set_level("DEBUG")
    headers = {"authorization": f"Bearer {KEY}"}
    async with http(app_of(api_keys=[KEY])) as client:
        await client.post(CHAT, json=BODY, headers=headers)
        await client.get(f"/v1/models/{KEY}?key={KEY}", headers=headers)
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("lmstack"))
    assert "/v1/chat/completions 200" in ours
    assert "secret" not in ours
    assert KEY not in ours


async def test_a_guards_refusal_is_403(http):
    async with http(app_of(ScriptedModel([GuardError("not allowed")]))) as client:
        answer = await client.post(CHAT, json=BODY)
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize(("compile_s", "status"), [(0.0, 200), (60.0, 200), (91.0, 503)])
async def test_healthz_says_when_compiling_is_stuck(http, compile_s, status):
    figures = {"grammar_compile_s": compile_s, "dtype": "float32"}
    app = create_app(models={"m": ScriptedModel(["a"])}, metrics=lambda: figures)
    async with http(app) as client:
        answer = await client.get("/healthz")
    assert answer.status_code == status
    if status == 503:
        assert "a grammar has been compiled for 91 s" in answer.json()["error"]["message"]
