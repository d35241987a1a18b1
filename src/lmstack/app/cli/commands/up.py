"""`lmstack up`: a folder of documents as a page and an OpenAI-compatible server."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import (
    Also,
    DraftName,
    EmbedderName,
    ModelName,
    ReaderName,
    Weights,
    say_if_remote,
)
from lmstack.app.cli.commands._served_folder import served
from lmstack.app.cli.commands._traffic_options import (
    CanaryName,
    LiveTexts,
    Pin,
    ShadowName,
    Share,
    candidate_of,
)
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import seconds
from lmstack.app.server.not_read import NotReadNotes
from lmstack.app.server.stopping import Stopping
from lmstack.app.wiring import tasks
from lmstack.app.wiring.retrieval import reader_folder
from lmstack.app.wiring.tasks import Adapters
from lmstack.core import check_range, shown

if TYPE_CHECKING:
    from lmstack.app.server.access import KeyEntry

__all__ = ["up"]


KEYS_VARIABLE = "LMSTACK_API_KEYS"


def adapter_folders(given: Sequence[str], source: Path | None) -> Adapters:
    """What --adapter and --adapters-from say; all folders are there."""
    named: dict[str, Path] = {}
    for each in given:
        name, _, folder = each.partition("=")
        known = wiring.adapter_folder(each)
        if known is not None or Path(each).is_dir():
            name, folder = Path(known or each).resolve().name, each
        if not name or not folder or name in named:
            raise CommandLineError(
                f"--adapter is {shown(each)}",
                hint="--adapter DIR, or NAME=DIR, each name once",
                param="adapter",
            )
        named[name] = wiring.adapter_folder(folder) or Path(folder)
    for path in (*named.values(), *([] if source is None else [source])):
        if not path.is_dir():
            raise CommandLineError(f"{shown(str(path))} is no folder", hint="give one that is")
    return Adapters(named, source)


def engine_settings(
    target_step: float | None,
    key_weights: str | None,
    keys: Sequence[str],
    device: str | None,
    adapter_memory: float | None,
) -> dict[str, Any]:
    """The fields of `EngineConfig` that the options set."""
    settings: dict[str, Any] = {}
    if device is not None:
        from lmstack.engine.executors import check_device

        check_device(device)
        settings["device"] = device
    if target_step is not None:
        check_range("--target-step", target_step, 0.001, 10)
        settings["target_step_s"] = target_step
    if adapter_memory is not None:
        check_range("--adapter-memory", adapter_memory, 0, 2**20)
        settings["adapter_memory_bytes"] = int(adapter_memory * 2**30)
    if key_weights is not None:
        settings["client_weights"] = _client_weights(key_weights, keys)
    return settings


def _client_weights(given: str, keys: Sequence[str]) -> dict[str, float]:
    from lmstack.serve import client_of_key

    try:
        weights = [float(part) for part in given.split(",")]
    except ValueError:
        raise CommandLineError(
            f"--key-weights is {shown(given)}", hint="--key-weights 3,1", param="key_weights"
        ) from None
    if len(weights) != len(keys) or len(set(keys)) < len(keys):
        raise CommandLineError(
            f"--key-weights has {len(weights)} of them, and {KEYS_VARIABLE} {len(keys)} keys,"
            f" {len(set(keys))} of them different",
            hint="give each key once, and a weight for each",
            param="key_weights",
        )
    for weight in weights:
        check_range("--key-weights", weight, 0, 1e6, low_open=True)
    return {client_of_key(key): weight for key, weight in zip(keys, weights, strict=True)}


_OPTION_OF = {
    "target_step_s": "--target-step",
    "client_weights": "--key-weights",
    "device": "--device",
}


@command(
    "up",
    f"""
    DIR: The folder of documents to answer from. May be left out with --model or --adapter.
    --docs DIR: The same, as for `lmstack ask`.
    --port PORT: Port to listen on.
    --host HOST: Address to listen on. Any but localhost needs API keys, in {KEYS_VARIABLE}.
    --adapter [NAME=]DIR: Serve the LoRA adapter in DIR (a folder, or a name in the store) as the
        model NAME (unless given, that of DIR), in the batches of its base. May be given again.
    --adapters-from DIR: Let the operator load more adapters, from folders in DIR, while the server
        runs.
    --adapter-memory GIB: What adapters may take together; one more that does not fit is refused.
        [default: 1]
    --device DEVICE: Where language models run: cpu, or another device of torch such as cuda.
        [default: cpu]
    --target-step S: Seconds that a step of the engine should take at most while streams wait for
        their next token: with less they run more evenly, with more prompts get in sooner. [default:
        0.1]
    --key-weights W,...: Shares of the machine that API keys have when they compete, one for each
        key in the order of {KEYS_VARIABLE}. [default: equal ones]
    --keys FILE: A JSON file with the SHA-256 of API keys and the access labels that each holds.
    --uploads: Let people add files on the page: into DIR/uploads, those of keys with access labels
        under these labels.

    lmstack up docs
    lmstack up --model my-model
    lmstack up prod
    lmstack up docs --port 8001 --also ms-marco-minilm-l12
    lmstack up docs --canary ./tuned --share 0.05
    LMSTACK_API_KEYS=SECRET lmstack up docs --host 0.0.0.0
    """,
    returns=False,
)
def up(
    out: Output,
    folder: Path | None = None,
    docs: Path | None = None,
    port: int = 8000,
    host: str = "127.0.0.1",
    model: ModelName = None,
    weights: Weights = None,
    draft: DraftName = None,
    embedder: EmbedderName = None,
    reader: ReaderName = None,
    also: Also = None,
    adapter: list[str] | None = None,
    adapters_from: Path | None = None,
    adapter_memory: float | None = None,
    canary: CanaryName = None,
    shadow: ShadowName = None,
    share: Share = None,
    live_texts: LiveTexts = False,
    pin: Pin = False,
    device: str | None = None,
    target_step: float | None = None,
    key_weights: str | None = None,
    keys_file: Path | None = None,
    uploads: bool = False,
) -> None:
    """Serve a folder of documents: a web page, and an API like OpenAI's.

    An alias in place of DIR serves what passed the gate, documents included, and is followed.
    --model or --adapter serve models alone. Until models are loaded, /healthz answers 503. The
    folder is indexed in the background. Requests leave records: `lmstack audit verify`.

    API keys come from the environment variable LMSTACK_API_KEYS, separated by commas, and from
    the file of --keys. With keys, every route but /healthz and the page's files asks for one, and
    a caller sees the documents whose access labels its key holds all of.
    """
    # First of all, so that a Ctrl-C is heard by the time anything has been printed.
    with Stopping() as stop:
        changes = {"embedder": embedder, "reader": reader, "uploads": uploads}
        found = served(folder, docs, model, has_adapters=bool(adapter), **changes)
        docs, model, source = found.docs, found.model, found.folder
        keys, entries = api_keys(), _entries(keys_file)
        host = _checked(out, host, bool(keys or entries))
        engine = engine_settings(target_step, key_weights, keys, device, adapter_memory)
        _check_uploads(docs, uploads)
        adapters = adapter_folders(adapter or [], adapters_from)
        wiring.require_models(model, embedder, weights, draft, adapters)
        candidate = candidate_of(out, canary, shadow, share, live_texts)
        _require_others(reader, also)
        _check_engine(engine, model, also)
        say_if_remote(out, model)

        from lmstack.app.server.serve import open_port, serve

        listener = open_port(host, port, lambda name, value: out.again(setting={name: value}))
        address = _url(host, listener.getsockname()[1])
        out.interrupted = ("the index and the audit log are kept", out.again())
        out.note(f"loading; {address}/healthz says when it is ready")

        load = partial(
            wiring.service,
            source,
            model=model,
            embedder_name=embedder,
            weights=weights,
            draft=draft,
            also=also or [],
            reader=reader,
            adapters=adapters,
            candidate=candidate,
            engine=engine,
            api_keys=keys,
            key_entries=entries,
            local=_is_local(host),
            uploads=uploads,
            pinned=pin,
            note=out.note,
            settled=NotReadNotes(out.note, docs or source),
        )
        serve(listener, load, partial(_say_ready, out, found.title, address), stop)


def _say_ready(out: Output, title: str, address: str) -> None:
    out.detail("models loaded")
    out.line(f"lmstack serves {title} at {address}   (API: {address}/v1)")
    out.note(f"ready in {seconds(out.elapsed)}; Ctrl-C stops")


def _require_others(reader: str | None, also: list[str] | None) -> None:
    """What is served beside the model is here, before anything slow begins."""
    if reader is not None:
        reader_folder(reader)
    tasks.require(also or [])


def _checked(out: Output, host: str, has_keys: bool) -> str:
    """The address to listen on."""
    if not host.strip() or not host.isprintable():
        raise CommandLineError(
            f"--host is {shown(host)}, which is no address", hint="--host 127.0.0.1", param="host"
        )
    host = host.removeprefix("[").removesuffix("]")
    if not has_keys and not _is_local(host):
        raise CommandLineError(
            f"--host {host} lets other machines ask, and there are no API keys",
            hint=f"{KEYS_VARIABLE}=SECRET {out.again()}",
            param="host",
        )
    return host


def _check_uploads(docs: Path | None, uploads: bool) -> None:
    if uploads and (docs is None or not docs.is_dir()):
        given = "none is given" if docs is None else f"{shown(str(docs))} is a file"
        raise CommandLineError(
            f"--uploads needs a folder, and {given}",
            hint="lmstack up DIR --uploads" if docs is None else "give the folder that it is in",
            param="uploads",
        )


def _check_engine(settings: dict[str, Any], model: str | None, also: list[str] | None) -> None:
    if settings and not also and model is not None and wiring.is_remote(model):
        names = " and ".join(_OPTION_OF[name] for name in settings)
        raise CommandLineError(
            f"{names} is for models on this machine, and {model} is not", hint="leave it out"
        )


def api_keys() -> tuple[str, ...]:
    """The keys in the environment; spaces around a key do not count."""
    given = os.environ.get(KEYS_VARIABLE, "").split(",")
    keys = tuple(key.strip() for key in given if key.strip())
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise CommandLineError(
            f"a key in {KEYS_VARIABLE} has a space or a character that is not ASCII",
            hint="python -c 'import secrets; print(secrets.token_urlsafe())' makes a good one",
            param=KEYS_VARIABLE,
        )
    return keys


def _entries(keys_file: Path | None) -> tuple[KeyEntry, ...]:
    if keys_file is None:
        return ()
    from lmstack.app.server.access import read_keys

    return read_keys(keys_file)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
