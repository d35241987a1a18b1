"""Every command, program and output in README, docs/ and the help, run as a reader types it.

The default models are real and are asked for once. Each page is one test, in which its commands
run in order; `lmstack up` serves at the port that the page names. What cannot be run is in
`NOT_RUN`, with the reason.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.e2e.documented import Command, Sequence, sequences
from tests.e2e.newcomer import PLACEHOLDERS, Ended, Newcomer, build
from tests.e2e.training_inputs import write_alignment_inputs
from tests.packages import package
from tests.postgres import postgres_server

from lmstack.registry import Store

ROOT = Path(__file__).parents[2]
PAGES = sequences(ROOT)

SERVER = "http://127.0.0.1:8000"
# What pages ask of a provider is asked of the reader's own server, which speaks its protocol.
REMOTE = "openai:"
PROVIDER = {"OPENAI_BASE_URL": f"{SERVER}/v1", "OPENAI_API_KEY": "unused"}
NOT_RUN = {
    "make demo": "benchmarks/fresh.py runs it in a fresh clone",
    "make test": "it would run this test",
    "make check": "part of `make test`",
    ".venv/bin/pytest": "part of `make test`",
    "make format": "it writes into the checkout",
    "lmstack.app.cli.docs": "it writes into the checkout; tests/rules compares what it writes",
    "write_page": "it writes into the checkout; tests/model/families compares what it writes",
    "make bench": "minutes to hours; tests/benchmarks runs each target with QUICK=1",
    "python benchmarks/": "minutes to hours; tests/benchmarks runs them with QUICK=1",
    "pip install -e .": "it would replace the lmstack that is tested; quickstart.md installs one",
    "pipx install": "needs pipx; docs/quickstart.md installs with pip",
    "--device cuda": "needs a GPU; tests/engine/test_executors.py computes on another device",
    "my-size-$size.yaml": "days; tests/pipelines/scaling fits a law to runs of planted ones",
    "ray://head:10001": "needs a cluster; tests/rag/ingest/test_bulk.py runs two local processes",
    "writer=openai:NAME": "minutes; docs/constitutional.md types it with the default model",
    "hellaswag --output before": "minutes; docs/evaluation.md types it with another folder",
    "--model ./tuned --output after": "minutes; docs/evaluation.md types it with another model",
    "after/hellaswag.json": "docs/evaluation.md types it with another folder",
    "gate after --base before": "docs/evaluation.md types it with other folders",
    "report after": "docs/evaluation.md types it with another folder",
    "eval export after": "docs/evaluation.md types it with another folder",
    "-o theirs": "docs/evaluation.md types it with other files",
    "./tuned --fetch": "minutes; docs/evaluation.md types it with another model",
    "instruct --weights q4": "minutes; docs/evaluation.md types it with another model",
    "--output tables": "minutes to an hour; benchmarks/default_models.py types them",
    "run helm --limit 20": "minutes; docs/evaluation.md types it with another limit",
    "--judge ./large": "needs models that can judge; tests/app/cli/test_eval_judge.py has some",
    "--prompt system.txt": "minutes; tests/app/cli/test_promote.py promotes a prompt",
    "promote staging": "needs another alias; tests/app/cli/test_promote.py promotes one",
    "--resume 3f2a91c0": "needs a run that was stopped; tests/app/cli/test_agent.py resumes one",
    "recipes/ppo.yaml": "an hour; tests/train/rollouts runs it in its smallest form",
}
# Commands whose placeholder names nothing: they end with an error that says so.
REFUSED = {"lmstack pull hf:org/name@revision": "error:"}
# From the line that begins so, an output tells of the machine: lines are compared by first words.
MACHINE = {"lmstack doctor plan": "Speed, at most, on"}
# What readers of any page have done before: indexes and an audit log are there.
FIRST = (
    "lmstack index add --index notes.idx ~/notes",
    "lmstack index add --docs ~/notes",
    "cp -r notes.idx docs.index",
    'lmstack ask "your question" --docs docs',
    "lmstack up docs",
    f"curl --fail {SERVER}/v1/completions -H 'Content-Type: application/json'"
    """ -d '{"model": "smollm2-135m-instruct", "prompt": "One", "max_tokens": 1}'""",
)
# Pages whose readers have prompts, preferences and ratings.
ALIGNING = (
    *(f"docs/{name}.md" for name in ("alignment", "best-of", "comparing", "constitutional")),
    *("docs/rewards.md", "docs/training-data.md", "docs/objectives/"),
    *(f"docs/cli.md: lmstack {name}" for name in ("eval answers", "data", "train")),
)
# Pages whose files readers of a part of the help have.
FILES_OF = {
    "docs/cli.md: lmstack prompt": "docs/prompting.md",
    "docs/cli.md: lmstack eval judge": "docs/judging.md",
    "docs/cli.md": "docs/promotion.md",
}
# What readers of a part of the help have done before.
PROMOTED = (
    "lmstack release promote smollm2-135m-instruct --to prod --gate gate.yaml --fetch --first",
    "lmstack release promote smollm2-135m-instruct --weights int8 --to prod --gate gate.yaml",
)
BEFORE = {
    "docs/cli.md: lmstack up": PROMOTED,
    "docs/cli.md: lmstack release promote": ("lmstack eval fetch hellaswag",),
    "docs/cli.md: lmstack release rollback": PROMOTED,
    "docs/cli.md: lmstack release list": PROMOTED,
}
# And what readers of docs/alignment.md have said of two answers.
JUDGED = """
import json
from urllib.request import Request, urlopen

def post(path, body):
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urlopen(Request("http://127.0.0.1:8000" + path, data, headers)) as answer:
        answer.read()
        return answer.headers["X-Request-Id"]

for question in ("What does lmstack model quantize do?", "Which processors have native ops?"):
    asked = post("/api/ask", {"question": question})
    said = {"verdict": "helpful", "edit": "It says so in the documents [1].", "consent": True}
    post("/api/feedback", {"request_id": asked, **said})
"""
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]\d+)?")
IDS = re.compile(r"(?<=-)[0-9a-f]{32}")


def not_run(text: str) -> bool:
    return any(part in text for part in NOT_RUN)


def filled(text: str) -> str:
    """``text`` with its placeholders replaced."""
    for name, value in PLACEHOLDERS.items():
        text = re.sub(rf"(?<![\w$./-]){re.escape(name)}(?![\w/])", value, text)
    return text


def test_the_pages_hold_commands_and_each_exception_is_still_needed() -> None:
    commands = [command.text for page in PAGES for command in page.commands]
    assert len(commands) > 150
    assert len({page.name for page in PAGES}) == len(PAGES)
    for exception in (*NOT_RUN, *REFUSED):
        assert any(exception in text for text in commands), exception
    for name in PLACEHOLDERS:
        assert any(filled(text) != text and name in text for text in commands), name


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("score 0.9977", "score 0.9978", True),
        ("score 0.9977", "score 0.8977", False),
        ("1.   9.4964", "2.   9.4964", False),
        ("Paris", "Rome", False),
        ('{"id":"task-' + "0" * 32 + '"}', '{"id":"task-' + "f" * 32 + '"}', True),
    ],
)
def test_outputs_are_compared_number_by_number(shown: str, printed: str, alike: bool) -> None:
    assert bool(difference((shown,), printed)) != alike


@pytest.mark.parametrize(
    ("printed", "alike"),
    [
        ("weights 4.7 GiB\nSpeed on Xeon\nlimited by products: 1 GFLOP", True),
        ("weights 4.8 GiB\nSpeed on EPYC\nlimited by memory: 2 GB/s", False),
        ("weights 4.7 GiB\nSpeed on EPYC\ndecode 2 tokens/s", False),
    ],
)
def test_only_lines_that_tell_of_the_machine_may_differ(printed: str, alike: bool) -> None:
    shown = ("weights 4.7 GiB", "Speed on EPYC", "limited by memory: 2 GB/s")
    assert bool(difference(shown, printed, "Speed on")) != alike


def difference(shown: tuple[str, ...], printed: str, machine: str | None = None) -> str:
    """Of what a page shows and what was printed: "" where they are alike. ``machine``: how the
    line begins from which on only the first words must be the same."""
    got = list(printed.strip("\n").split("\n"))
    if len(got) != len(shown):
        return f"{len(shown)} lines are shown, {len(got)} were printed"
    of_machine = False
    for expected, line in zip(shown, got, strict=True):
        of_machine = of_machine or (machine is not None and expected.startswith(machine))
        if of_machine:
            same = expected.split()[:1] == line.split()[:1]
        else:
            same = _alike(expected, line)
        if not same:
            return f"shown:   {expected}\nprinted: {line}"
    return ""


def _alike(shown: str, printed: str) -> bool:
    """The same words, and numbers that differ by no more than processors round."""
    words = [NUMBER.split(IDS.sub("0", text)) for text in (shown, printed)]
    values = [_numbers(text) for text in (shown, printed)]
    return words[0] == words[1] and all(
        math.isclose(*pair, rel_tol=2e-3, abs_tol=2e-3) for pair in zip(*values, strict=True)
    )


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(IDS.sub("0", text))]


@pytest.fixture(scope="session")
def database() -> Iterator[dict[str, str]]:
    """Variables that lead PostgreSQL's clients to a server here, whatever the host is called."""
    with postgres_server(port=_free_port()) as address:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE ROLE lmstack SUPERUSER LOGIN")
            for name in ("documents", "search"):
                connection.execute(f"CREATE DATABASE {name}")
            port = str(connection.info.port)
        yield {"PGHOSTADDR": "127.0.0.1", "PGPORT": port, "PGUSER": "lmstack"}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, weights_store: Store, request: pytest.FixtureRequest
) -> Path:
    """A newcomer's folder, copied for each page. Hard links hold the models. `FIRST` was done:
    an index takes a minute, which each page would wait for again."""
    names = ("smollm2", "minilm", "reranker", "colbert", "bge", "pii_ner", "flan_t5")
    models = {name: request.getfixturevalue(name) for name in (*names, "albert_smiles", "gemma")}
    from tests.e2e.named_models import write_models

    folder = tmp_path_factory.mktemp("newcomer", numbered=False) / "reader"
    cache = weights_store.root
    # One in eight, or each page that trains on them would take as long as its reader's own run.
    speeches = sorted(package(cache, "speeches").rglob("*.txt"))[::8]
    build(folder, ROOT, cache / "models", speeches)
    write_models(folder / "work", weights_store, models["minilm"], models["smollm2"])
    # The examples of `lmstack tokenizer convert --help` take a vocabulary from elsewhere.
    mistral, openai = package(cache, "mistral"), package(cache, "openai")
    shutil.copy(next(mistral.rglob("*.v1")), folder / "work/tokenizer.model")
    shutil.copy(next(openai.rglob("9b5ad*")), folder / "work/ranks.tiktoken")
    reader = Newcomer(folder, {})
    for first in FIRST:
        made = reader.serve(first) if " up " in first else reader.run(first)
        assert made.code == 0, made.said
    judged = reader.program(JUDGED)
    assert judged.code == 0, judged.said
    reader.leave()
    return folder.rename(folder.parent / "template")


@pytest.fixture
def newcomer(template: Path, page: Sequence, request: pytest.FixtureRequest) -> Iterator[Newcomer]:
    """At the place where the template was made, which its indexes name."""
    folder = template.parent / "reader"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder, symlinks=True, copy_function=_copy)
    texts = " ".join(command.text for command in page.commands)
    if "-m venv .venv" in texts:
        (folder / "work/.venv").unlink()
    if page.name.startswith(ALIGNING):
        typed = " ".join(c.text for c in page.commands if not not_run(c.text))
        made = set(re.findall(r"(?:--output|-o) (\S+)", typed))
        named = set(re.findall(r"[\w-]+\.(?:jsonl|parquet)", texts))
        for name in made & named:
            (folder / "work" / name).unlink(missing_ok=True)
        write_alignment_inputs(folder / "work", named - made)
    for name in re.findall(r"eval run .*--output (\S+)", texts):  # `base` is a model elsewhere
        shutil.rmtree(folder / "work" / name, ignore_errors=True)
    given = next((_files(of) for part, of in FILES_OF.items() if page.name.startswith(part)), {})
    for name, text in (given | page.files).items():
        (folder / "work" / name).parent.mkdir(exist_ok=True)
        (folder / "work" / name).write_text(text, encoding="utf-8")
    variables = request.getfixturevalue("database") if "postgresql://" in texts else {}
    reader = Newcomer(folder, variables | (PROVIDER if REMOTE in texts else {}))
    for first in BEFORE.get(page.name, ()):
        done = reader.run(first)
        assert done.code == 0, done.said
    yield reader
    reader.leave()


def _files(page: str) -> dict[str, str]:
    """Those that ``page`` shows or makes, and copies by the names that the help has."""
    shown = next({**each.files, **each.made} for each in PAGES if each.name == page)
    if "prompts/mood-short.md" in shown:
        return {**shown, "drafts/mood.md": shown["prompts/mood-short.md"]}
    return shown


def _copy(source: str, target: str) -> None:
    """Weights are linked, everything else is copied: it may be written to."""
    path = Path(source)
    if path.suffix in (".gguf", ".safetensors"):
        Path(target).hardlink_to(path)
    else:
        shutil.copy2(source, target)


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_what_a_page_shows_can_be_typed(page: Sequence, newcomer: Newcomer) -> None:
    wrong = [problem for command in page.commands if (problem := tried(newcomer, page, command))]
    if page.programs:
        source = filled("\n".join(page.programs))
        if SERVER in source and not newcomer.serving:
            newcomer.serve("lmstack up docs")
        ended = newcomer.program(source)
        if ended.code:
            wrong.append(f"the programs of the page: exit code {ended.code}\n{ended.said}")
    wrong += [f"a server ended with {code}" for code in newcomer.leave() if code not in (0, 130)]
    assert not wrong, "\n\n".join(wrong)


def tried(newcomer: Newcomer, page: Sequence, command: Command) -> str:
    """Run ``command``; what went wrong, or ""."""
    if not_run(command.text):
        return ""
    text = filled(command.text)
    if re.search(r"lmstack up |--watch|--http ", text):
        ended = newcomer.serve(text)
    else:
        if (SERVER in text or REMOTE in text) and not newcomer.serving:
            started = newcomer.serve(_server(page))
            if started.code:
                return f"$ {_server(page)}\n{started.said}"
        ended = newcomer.run(text)
    problem = _problem(command, ended)
    return f"$ {text}\n{problem}\n{ended.said[-2000:]}" if problem else ""


def _server(page: Sequence) -> str:
    """The server that a page's requests need: the default one, with the models they name."""
    bodies = " ".join(command.text for command in page.commands if "curl" in command.text)
    named = sorted(set(re.findall(r'"model": "([^"]+)"', bodies)) - {"smollm2-135m-instruct"})
    also = (f"--also ./{name}" if name.startswith("my-") else f"--also {name}" for name in named)
    return " ".join(("lmstack up docs", *also))


def _problem(command: Command, ended: Ended) -> str:
    refused = REFUSED.get(command.text.partition("  ")[0].strip())
    shows_error = command.output is not None and command.output[0].startswith("error:")
    expected = 1 if refused or shows_error else 0
    if ended.code != expected:
        return f"exit code {ended.code}, not {expected}"
    if "Traceback" in ended.said:
        return "a traceback"
    if refused and refused not in ended.errors:
        return f"nothing says {refused!r}"
    if "curl " in command.text and "error" in json.loads(ended.output):
        return "the server refused the request"
    if command.output is not None:
        printed = ended.errors if shows_error else ended.output
        machine = [begin for name, begin in MACHINE.items() if command.text.startswith(name)]
        return difference(command.output, printed, *machine)
    return ""
