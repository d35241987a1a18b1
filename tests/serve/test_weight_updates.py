"""Other weights for a model that serves: its name is that of what answers, wherever it is said."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.adapters import write_drawn
from tests.engine.cpu.quantized_models import quantized
from tests.serve.test_local import TEMPLATE, tokenizer  # noqa: F401  (a fixture)
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import InputError, UnsupportedError
from lmstack.engine import EngineConfig, native_problem
from lmstack.model.quant.matrix import held_weights
from lmstack.registry import LoadedModel
from lmstack.safety import AuditLog, GuardedModel
from lmstack.serve import LocalModel, create_app
from lmstack.text import Tokenizer

FILES = "sha256:files"
PART = "blocks.1.attention.out.weight"


def loaded(tokenizer: Tokenizer, form: str = "float32", seed: int = 1) -> LoadedModel:  # noqa: F811
    made = tiny_decoder(tokenizer, template=TEMPLATE, seed=seed)
    if form == "float32":
        return dataclasses.replace(made, digest=FILES)
    module = quantized(made.module, form)
    return dataclasses.replace(made, digest=f"{FILES}+{form}", form=form, module=module)


def weights_of(tokenizer: Tokenizer, seed: int, form: str = "float32") -> dict:  # noqa: F811
    return copy.deepcopy(held_weights(loaded(tokenizer, form, seed).module))


@pytest.fixture
def model(tokenizer: Tokenizer) -> Iterator[LocalModel]:  # noqa: F811
    engine = EngineConfig(block_size=4, num_blocks=400)
    with LocalModel(loaded(tokenizer), engine) as made:
        yield made


async def test_the_new_name_is_in_the_list_the_answers_and_the_audit_record(
    model: LocalModel,
    tokenizer: Tokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    log = tmp_path / "audit.jsonl"
    app = create_app(
        models={"m": GuardedModel(model, audit=AuditLog(log))}, allowed_hosts=["testserver"]
    )
    transport = httpx.ASGITransport(app=app)
    body = {"model": "m", "prompt": "hello", "temperature": 0, "max_tokens": 4}
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    names = []
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for seed in (1, 2):
            if seed == 2:
                await asyncio.to_thread(model.update_weights, weights_of(tokenizer, 2))
            name = model.info.digest
            names.append(name)
            listed = (await client.get("/v1/models")).json()["data"][0]["digest"]
            whole = [
                (await client.post("/v1/completions", json=body)).json(),
                (await client.post("/v1/chat/completions", json=chat)).json(),
            ]
            streamed = [
                json.loads(line.removeprefix("data: "))["system_fingerprint"]
                for path, more in (("completions", body), ("chat/completions", chat))
                for line in (
                    await client.post(f"/v1/{path}", json=more | {"stream": True})
                ).text.splitlines()
                if line.startswith("data: {")
            ]
            assert {listed, *(each["system_fingerprint"] for each in whole), *streamed} == {name}
            records = [json.loads(line) for line in log.read_text().splitlines()]
            assert records[-1]["event"] == "finished"
            assert records[-1]["model"]["digest"] == name
    assert names[0] == FILES
    assert names[1] != FILES


async def test_an_answer_has_the_name_of_the_weights_that_computed_it(
    model: LocalModel,
    tokenizer: Tokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    """One that began before the change, and one that came before it and waited."""
    log = tmp_path / "audit.jsonl"
    guarded = GuardedModel(model, audit=AuditLog(log))
    app = create_app(models={"m": guarded}, allowed_hosts=["testserver"])
    transport = httpx.ASGITransport(app=app)
    body = {"model": "m", "prompt": "hello", "max_tokens": 150, "ignore_eos": True}
    begun = asyncio.Event()

    async def ask(client: httpx.AsyncClient, **more: object) -> dict:
        return (await client.post("/v1/completions", json=body | more)).json()

    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        first = asyncio.create_task(ask(client))
        while not model.stats().num_running:
            await asyncio.sleep(0.001)
        update = asyncio.create_task(
            asyncio.to_thread(model.update_weights, weights_of(tokenizer, 2))
        )
        while model._engine._inbox.update is None:
            assert not update.done(), "the first answer was over too soon"
            await asyncio.sleep(0)
        begun.set()
        second = asyncio.create_task(ask(client, max_tokens=3))
        old, new = await first, await second
        await update
    assert old["system_fingerprint"] == FILES
    assert new["system_fingerprint"] == model.info.digest != FILES
    ends = [json.loads(line) for line in log.read_text().splitlines() if '"finished"' in line]
    assert [end["model"]["digest"] for end in ends] == [FILES, model.info.digest]


def test_weights_that_do_not_fit_leave_the_name(model: LocalModel) -> None:
    with pytest.raises(InputError, match="no weight"):
        model.update_weights({"nothing": torch.ones(1)})
    assert model.info.digest == FILES


def test_an_adapter_has_the_name_of_the_weights_it_was_opened_on(
    model: LocalModel,
    tokenizer: Tokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    write_drawn(model.module, tmp_path / "a", 1)
    before = model.with_adapter(tmp_path / "a")
    model.update_weights(weights_of(tokenizer, 2))
    with pytest.raises(InputError, match="replaced after the adapter"):
        before.generate("hello")
    with pytest.raises(UnsupportedError, match="an adapter beside"):
        before.update_weights({})
    after = model.with_adapter(tmp_path / "a")
    assert before.info.digest == f"{FILES}+{after.info.digest.removeprefix(model.info.digest)[1:]}"
    assert after.info.digest.startswith(f"{model.info.digest}+sha256:")


# What is replaced, one after the other, in a model of seed 1.
CHANGES = st.lists(st.sampled_from(["1", "2", "part of 2", "nothing"]), max_size=3)
SETTINGS = st.tuples(
    CHANGES,
    st.sampled_from(["float32", "int8", "q4"]),
    st.sampled_from(["int8", "bfloat16"]),
    st.sampled_from([None, "0", "1"]),
)


def named(setting, tokenizer, folder) -> tuple[str | None, object]:  # noqa: F811
    """The digest that a model has in the end, and all that its logits depend on."""
    changes, form, kv, adapter = setting
    config = EngineConfig(kv_dtype=kv, block_size=16, num_blocks=16)
    weights = {seed: weights_of(tokenizer, seed, form) for seed in (1, 2)}
    held = dict.fromkeys(weights[1], 1)
    with LocalModel(loaded(tokenizer, form), config) as model:
        for change in changes:
            names = {"1": weights[1], "2": weights[2], "part of 2": [PART], "nothing": []}[change]
            seed = 1 if change == "1" else 2
            model.update_weights({name: weights[seed][name] for name in names})
            held |= dict.fromkeys(names, seed)
        adapted = model if adapter is None else model.with_adapter(folder / adapter)
        digest = adapted.info.digest
    equal = {k for k in held if k.endswith("norm.weight")}  # ones in both
    causes = tuple(seed for key, seed in held.items() if key not in equal)
    return digest, (causes, form, kv if form != "float32" else None, adapter)


@pytest.mark.skipif(bool(native_problem()), reason="no native ops")
@pytest.mark.parametrize("examples", [12, pytest.param(100, marks=pytest.mark.long)])
def test_the_name_changes_with_what_changes_logits_and_only_then(
    tokenizer: Tokenizer,  # noqa: F811
    tmp_path: Path,
    examples: int,
) -> None:
    for seed in (0, 1):
        write_drawn(loaded(tokenizer).module, tmp_path / str(seed), seed)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(one=SETTINGS, other=SETTINGS, varied=st.integers(0, 3))
    def check(one: tuple, other: tuple, varied: int) -> None:
        """Two settings that differ in one thing at most."""
        other = (*one[:varied], other[varied], *one[varied + 1 :])
        (digest, causes), (second, others) = (named(s, tokenizer, tmp_path) for s in (one, other))
        assert (digest == second) == (causes == others)
        assert (digest or "").startswith(FILES) == (set(causes[0]) == {1})

    check()
