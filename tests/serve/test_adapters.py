"""Adapters while a server runs: listed, asked, loaded and unloaded, by the operator alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.engine.adapters import write_drawn
from tests.serve.test_local import TEMPLATE, tokenizer  # noqa: F401  (a fixture)
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import InputError, NotFoundError, UnsupportedError
from lmstack.engine import EngineConfig
from lmstack.serve import LocalModel, create_app
from lmstack.serve.http.adapters import ServedAdapters
from lmstack.text import Tokenizer

USER, OPERATOR = "user-key", "operator-key"


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Iterator[LocalModel]:  # noqa: F811
    engine = EngineConfig(block_size=4, num_blocks=400)
    with LocalModel(tiny_decoder(tokenizer, template=TEMPLATE), engine) as made:
        yield made


@pytest.fixture
def folder(model: LocalModel, tmp_path: Path) -> Path:
    """Adapters ``0`` to ``3``, and one outside of where they may come from."""
    for seed in range(4):
        write_drawn(model.module, tmp_path / "adapters" / str(seed), seed)
    write_drawn(model.module, tmp_path / "outside", 4)
    return tmp_path / "adapters"


@pytest.fixture
def app(model: LocalModel, folder: Path):
    digest = hashlib.sha256(OPERATOR.encode()).digest()
    app = create_app(
        models={"base": model},
        tokenizers={"base": model.tokenizer},
        api_keys=[USER],
        key_digests=[digest],
        operator_digests=[digest],
        allowed_hosts=["*"],
    )
    serving = app.state.shared
    serving.adapters = ServedAdapters(serving, model, lambda each: each, folder)
    return app


def client(app, key: str = OPERATOR) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://testserver",
        headers={"Authorization": f"Bearer {key}"},
    )


async def load(asking: httpx.AsyncClient, name: str, path: str) -> httpx.Response:
    return await asking.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})


async def complete(asking: httpx.AsyncClient, model: str, count: int = 12) -> httpx.Response:
    body = {"model": model, "prompt": "hello", "temperature": 0, "max_tokens": count}
    return await asking.post("/v1/completions", json=body)


def test_models_with_adapters_answer_as_others_do_at_once(model: LocalModel, folder: Path) -> None:
    adapted = [model.with_adapter(folder / str(seed)) for seed in range(4)]
    base = model.generate("hello", temperature=0, max_tokens=12)
    texts = [each.generate("hello", temperature=0, max_tokens=12) for each in adapted]
    assert len({base, *texts}) == 5
    assert [each.info.name for each in adapted] == ["0", "1", "2", "3"]
    assert adapted[0].info.parent == model.info.name
    assert adapted[0].info.digest.startswith(f"{model.info.digest}+sha256:")
    assert len({each.info.digest for each in adapted}) == 4
    adapted[0].close()
    assert model.generate("hello", temperature=0, max_tokens=12) == base
    with pytest.raises(UnsupportedError, match="one set of weights"):
        adapted[0].save(folder)


async def test_likelihoods_of_adapted_models_at_once_are_their_own(
    model: LocalModel, folder: Path
) -> None:
    pairs = [("hello " * 5, "there"), ("hello " * 5, "then")]
    several = [model, *(model.with_adapter(folder / str(seed)) for seed in range(2))]
    together = await asyncio.gather(*(each.likelihoods(pairs) for each in several))
    assert len({found[0].logprob for found in together}) == 3
    for each, found in zip(several, together, strict=True):
        alone = [(await each.likelihoods([pair]))[0].logprob for pair in pairs]
        assert [one.logprob for one in found] == pytest.approx(alone, abs=1e-4)


async def test_an_adapter_is_loaded_listed_asked_and_unloaded(app, model, folder) -> None:
    expected = model.with_adapter(folder / "1").generate("hello", temperature=0, max_tokens=12)
    async with client(app) as asking:
        loaded = await load(asking, "sql", "1")
        assert loaded.status_code == 200
        listed = {m["id"]: m for m in (await asking.get("/v1/models")).json()["data"]}
        assert listed["sql"]["parent"] == model.info.name
        assert listed["sql"]["digest"] == loaded.json()["digest"]
        assert "parent" not in listed["base"]
        answer = await complete(asking, "sql")
        assert answer.json()["choices"][0]["text"] == expected
        assert answer.json()["model"] == "sql"
        assert (await load(asking, "sql", "2")).status_code == 400
        gone = await asking.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})
        assert gone.json() == {"id": "sql", "object": "model", "deleted": True}
        assert (await complete(asking, "sql")).status_code == 404
        assert {m["id"] for m in (await asking.get("/v1/models")).json()["data"]} == {"base"}
        again = await asking.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})
        assert again.status_code == 404


async def test_streams_end_as_they_began_whatever_is_loaded_and_unloaded(app) -> None:
    async with client(app) as asking:
        await load(asking, "a", "0")
        expected = [(await complete(asking, name, 60)).json()["choices"] for name in ("base", "a")]
        streams = [asyncio.create_task(complete(asking, name, 60)) for name in ("base", "a")]
        await asyncio.sleep(0.01)
        await load(asking, "b", "3")
        gone = await asking.post("/v1/unload_lora_adapter", json={"lora_name": "a"})
        assert gone.status_code == 200
        found = [answer.json()["choices"] for answer in await asyncio.gather(*streams)]
        assert found == expected


async def test_only_the_operator_loads_and_unloads(app) -> None:
    async with client(app, USER) as asking:
        refused = await load(asking, "sql", "1")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operator_only")
        refused = await asking.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})
        assert refused.status_code == 403
    async with client(app, "none of them") as asking:
        assert (await load(asking, "sql", "1")).status_code == 401


@pytest.mark.parametrize("path", ["../outside", "link", ".", "/etc", "1/../../outside", "\0"])
async def test_nothing_outside_the_folder_is_opened(app, folder, path) -> None:
    (folder / "link").symlink_to(folder.parent / "outside")
    async with client(app) as asking:
        for each in (path, str(folder.parent / "outside")):
            refused = await load(asking, "sql", each)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "lora_path"


async def test_a_server_without_such_a_folder_loads_nothing(app, model, folder) -> None:
    serving = app.state.shared
    serving.adapters = ServedAdapters(serving, model, lambda each: each)
    async with client(app) as asking:
        refused = await load(asking, "sql", "1")
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            403,
            "adapters_not_allowed",
        )
    serving.adapters = None
    async with client(app) as asking:
        assert (await load(asking, "sql", "1")).status_code == 403


def test_names_are_those_that_can_be_shown_and_are_free(app, folder) -> None:
    door = app.state.shared.adapters
    for name in ("", " x", "a\nb", "base"):
        with pytest.raises(InputError):
            door.load(name, folder / "0")
    with pytest.raises(NotFoundError):
        door.unload("base")
    assert set(app.state.shared.models) == {"base"}


async def test_a_folder_that_is_no_adapter_leaves_everything_as_it_was(app, folder) -> None:
    (folder / "empty").mkdir()
    async with client(app) as asking:
        refused = await load(asking, "sql", "empty")
        assert 400 <= refused.status_code < 500
        missing = await load(asking, "sql", "no-such-folder")
        assert 400 <= missing.status_code < 500
        assert set(app.state.shared.models) == {"base"}


def test_models_that_change_at_once_are_all_served_with_their_own_tokenizers(
    app: FastAPI, model: LocalModel
) -> None:
    """Adapters are loaded and releases exchanged by different threads."""
    state = app.state.shared
    numbers = range(200)

    def change(number: int) -> None:
        state.serve({f"m{number}": model}, {f"m{number}": model.tokenizer})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, numbers))
    names = {"base", *(f"m{number}" for number in numbers)}
    assert (set(state.models), set(state.tokenizers)) == (names, names)
    before = state.snapshot()
    state.serve({"base": model}, {}, without=[f"m{number}" for number in numbers])
    assert (set(state.models), set(state.tokenizers)) == ({"base"}, set())
    assert (set(before.models), set(before.tokenizers)) == (names, names)
