"""/metrics: what is counted, and that a client cannot grow it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import Response

from lmstack.core import ScriptedModel
from lmstack.serve import create_app

BODY = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
CHAT = "/v1/chat/completions"


async def samples(client) -> dict[str, float]:
    """Every sample, summed over labels."""
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    out: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            out[sample.name] = out.get(sample.name, 0) + sample.value
    return out


async def test_tokens_and_first_token_times_are_counted_once_a_request(http):
    async with http(create_app(models={"m": ScriptedModel(["a b c"])})) as client:
        await client.post(CHAT, json=BODY)
        await client.post(CHAT, json=BODY | {"stream": True})
        await client.post(CHAT, json={"model": "missing"})
        seen = await samples(client)
    assert seen["lmstack_requests_total"] == 3
    assert seen["lmstack_generation_tokens_total"] == 6
    assert seen["lmstack_prompt_tokens_total"] == 4
    assert seen["lmstack_time_to_first_token_seconds_count"] == 2
    assert seen["lmstack_time_per_output_token_seconds_count"] == 2
    assert seen["lmstack_requests_in_flight"] == 1


async def test_engine_figures_are_read_at_each_scrape(http):
    figures = {"num_blocks_used": 3, "num_preemptions": 2, "bad name": 1, "dtype": "bf16"}
    figures["prefix_hit_rate"] = 0.25
    app = create_app(models={"m": ScriptedModel()}, metrics=lambda: figures)
    async with http(app) as client:
        first = await samples(client)
        figures["num_blocks_used"] = 5
        second = await samples(client)
    assert first["lmstack_kv_blocks_used"] == 3
    assert first["lmstack_preemptions_total"] == 2
    assert first["lmstack_prefix_cache_hit_rate"] == 0.25
    assert second["lmstack_kv_blocks_used"] == 5


async def test_an_engine_that_cannot_say_does_not_hide_the_other_metrics(http):
    def broken():
        raise RuntimeError("closed")

    app = create_app(models={"m": ScriptedModel()}, metrics=broken)
    async with http(app) as client:
        seen = await samples(client)
    assert seen["lmstack_engine_up"] == 0
    assert "lmstack_requests_in_flight" in seen


async def test_names_that_clients_choose_do_not_become_labels(http):
    app = create_app(models={"m": ScriptedModel()})
    async with http(app) as client:
        for i in range(20):
            await client.get(f"/made/up/{i}")
            await client.get(f"/v1/models/made-up-{i}")
            await client.post(CHAT, json=BODY | {"model": f"made-up-{i}"})
            await client.request(f"MADE{i}", "/healthz")
        text = (await client.get("/metrics")).text
    assert "made" not in text.lower()


async def test_two_apps_do_not_share_counters(http):
    apps = [create_app(models={"m": ScriptedModel()}) for _ in range(2)]
    async with http(apps[0]) as client:
        await client.post(CHAT, json=BODY)
    async with http(apps[1]) as client:
        assert (await samples(client)).get("lmstack_generation_tokens_total", 0) == 0


async def test_routes_that_the_caller_added_are_counted_by_their_declared_path(http):
    app = create_app(models={"m": ScriptedModel()})

    async def page(request) -> Response:
        return Response("x")

    app.add_route("/static/{name}", page)
    async with http(app) as client:
        await client.get("/static/secret-name")
        text = (await client.get("/metrics")).text
    assert 'lmstack_requests_total{route="/static/{name}",status="200"} 1.0' in text
