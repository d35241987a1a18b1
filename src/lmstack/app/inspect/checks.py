"""What `lmstack doctor` looks at: one function a subject, each returning `Check`s.

A check never raises: what it cannot find out is itself a finding. Covers this machine and the
store; the hub only when asked, because nothing here may touch the network otherwise. Does not
print.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmstack.app.formats import size
from lmstack.app.inspect.processor import processor
from lmstack.core import LmstackError
from lmstack.engine.memory import free_memory

__all__ = ["Check", "Status", "machine_checks", "network_checks", "store_checks"]

Status = Literal["ok", "note", "warn", "fail"]
OLDEST_PYTHON = (3, 11)
LOW_MEMORY = 1_000_000_000
LOW_DISK = 1_000_000_000
OTHER_HOME = "LMSTACK_HOME=FOLDER lmstack doctor"
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "LMSTACK_API_KEYS")
HOSTS = (("PyPI", "https://pypi.org/simple/pip/"), ("Hugging Face Hub", "https://huggingface.co/"))


@dataclass(frozen=True)
class Check:
    """``fail`` stops work, ``warn`` may, ``note`` is worth knowing. ``fix`` is a command."""

    name: str
    status: Status
    detail: str
    fix: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return {
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "fix": self.fix,
        }


def machine_checks(home: Path) -> list[Check]:
    return [
        *_python(),
        *_torch(),
        *_processor(),
        _kernels(),
        *_memory(),
        *_disk(home),
        *_extras(),
        *_keys(),
    ]


def _python() -> Iterator[Check]:
    bits = struct.calcsize("P") * 8
    detail = f"{platform.python_version()}, {bits} bit, {sys.executable}"
    if sys.version_info < OLDEST_PYTHON or bits != 64:
        yield Check(
            "Python", "fail", f"{detail}; 64-bit 3.11 or newer is needed", "make PYTHON=python3.11"
        )
    else:
        yield Check("Python", "ok", detail)


def _torch() -> Iterator[Check]:
    try:
        import torch
    except Exception as error:
        yield Check(
            "torch",
            "fail",
            f"cannot be imported ({type(error).__name__})",
            f"{sys.executable} -m pip install torch",
        )
        return
    capability = torch.backends.cpu.get_cpu_capability()
    yield Check(
        "torch",
        "ok",
        f"{torch.__version__}, {torch.get_num_threads()} threads, kernels for {capability}",
    )
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        yield Check("GPU", "ok", f"{device.name}, {size(device.total_memory)}")
    else:
        yield Check("GPU", "note", "none that torch can use; none is needed")


def _processor() -> Iterator[Check]:
    found = processor()
    sets = " ".join(found.instruction_sets) or "instruction sets unknown"
    detail = f"{found.name}, {found.architecture}, {found.cores} cores, {sets}"
    slow = found.architecture in ("x86_64", "AMD64") and found.flags and "avx2" not in found.flags
    yield Check(
        "processor",
        "warn" if slow else "ok",
        f"{detail}; without AVX2 models run slowly" if slow else detail,
    )


def _kernels() -> Check:
    """The native ops: the path in use, what else there is, and whether training has its own.
    Without them, why, and that models then run on the reference ops in torch."""
    try:
        from lmstack.engine.cpu.library import (
            available_paths,
            problem,
            rebuilding,
            selected_path,
        )
        from lmstack.train.native import available

        why, trains = problem(), "native ops" if available() else "torch's ops"
    except LmstackError as error:
        return Check("kernels", "fail", error.message, error.hint)
    except Exception as error:  # torch, which the engine needs, has a check of its own
        return Check("kernels", "warn", f"cannot be looked at ({type(error).__name__})")
    if not why:
        others = ", ".join(name for name in available_paths() if name != selected_path())
        detail = f"native ops, {selected_path()} (also: {others}); to train: {trains}"
        return Check("kernels", "ok", detail)
    detail = f"reference ops in torch, slower and with more memory; no native ones: {why}"
    if why.startswith("switched off"):
        return Check("kernels", "note", detail)
    if why.startswith("not built") and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return Check("kernels", "warn", detail, f"apt-get install gcc && {rebuilding()}")
    return Check("kernels", "warn", detail, rebuilding())


def _memory() -> Iterator[Check]:
    free, total = free_memory()
    if free is None or total is None:
        yield Check("memory", "note", "this system does not say how much is free")
    elif free < LOW_MEMORY:
        yield Check(
            "memory",
            "warn",
            f"{size(free)} free of {size(total)}; the default models need about 1 GB",
            "close other programs",
        )
    else:
        yield Check("memory", "ok", f"{size(free)} free of {size(total)}")


def _disk(home: Path) -> Iterator[Check]:
    place = next(p for p in (home, *home.parents) if p.exists())
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        yield Check("disk", "fail", f"{home}: {error.strerror}", OTHER_HOME)
        return
    if not os.access(place, os.W_OK) or not place.is_dir():
        yield Check("disk", "fail", f"{home} cannot be written", OTHER_HOME)
    elif free < LOW_DISK:
        yield Check("disk", "warn", f"{size(free)} free at {home}", "lmstack model rm NAME")
    else:
        yield Check("disk", "ok", f"{size(free)} free at {home}")


def _extras() -> Iterator[Check]:
    missing = []
    for package in ("openai", "anthropic"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        yield Check(
            "remote models",
            "note",
            f"{', '.join(missing)} not installed; only needed "
            "for --model openai:NAME or anthropic:NAME",
            "pip install 'lmstack[remote]'",
        )
    else:
        yield Check("remote models", "ok", "openai and anthropic installed; used only when named")


def _keys() -> Iterator[Check]:
    said = ", ".join(f"{key} {'yes' if os.environ.get(key) else 'no'}" for key in KEYS)
    yield Check("API keys", "note", said)


def store_checks(
    models: Callable[[], list[Any]], broken: Callable[[], list[Any]], defaults: dict[str, str]
) -> list[Check]:
    """The model store: usable entries, broken ones, and the default models that are missing.
    ``defaults`` maps each to what it is for."""
    try:
        usable, damaged = models(), broken()
    except (LmstackError, OSError) as error:
        return [Check("store", "fail", f"cannot be read: {error}", OTHER_HOME)]
    checks = [Check(f"model {m.name}", "ok", f"{m.kind}, {m.digest[:19]}") for m in usable]
    for entry in damaged:
        again = f" && lmstack pull {entry.name}" if entry.name in defaults else ""
        # A broken default stops work; another model may never be asked for.
        status: Status = "fail" if entry.name in defaults else "warn"
        fix = f"lmstack model rm {entry.name}{again}"
        checks.append(Check(f"model {entry.name}", status, entry.error.message, fix))
    present = {entry.name for entry in (*usable, *damaged)}
    for name, purpose in defaults.items():
        if name not in present:
            detail = f"not in the store; it {purpose}"
            checks.append(Check(f"model {name}", "fail", detail, f"lmstack pull {name}"))
    return checks


def network_checks() -> list[Check]:
    import httpx

    checks = []
    for name, url in HOSTS:
        try:
            status = httpx.head(url, timeout=5.0, follow_redirects=True).status_code
        except httpx.HTTPError as error:
            checks.append(
                Check(
                    name,
                    "warn",
                    f"{url} does not answer ({type(error).__name__})",
                    "check the connection and the variables HTTPS_PROXY and NO_PROXY",
                )
            )
        else:
            ok = status < 500
            checks.append(Check(name, "ok" if ok else "warn", f"{url} answers {status}"))
    return checks
