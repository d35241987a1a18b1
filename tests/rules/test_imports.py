"""Who may import whom: the table of docs/architecture.md, no cycles, and a quick start."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ALL = "all"
# The table of architecture.md. A module may always import itself.
ALLOWED: dict[str, str | set[str]] = {
    "core": set(),
    "text": {"core"},
    "model": {"core"},
    "registry": {"core", "text", "model"},
    "train": {"core", "text", "model", "registry"},
    "engine": {"core", "model"},
    "serve": {"core", "text", "registry", "engine"},
    "remote": {"core"},
    "prompting": {"core"},
    "safety": {"core"},
    "rag": {"core"},
    "agents": {"core", "prompting", "safety"},
    "evals": {"core", "model", "registry", "serve", "prompting", "agents", "rag"},
    "release": {
        *("core", "model", "registry", "train", "engine", "serve", "safety", "rag", "evals"),
    },
    "pipelines": {
        *("core", "text", "model", "registry", "train", "engine", "serve", "prompting"),
        *("rag", "evals"),
    },
    "app": ALL,
}
# Inside a module a folder or file imports its own group and those above it. A file of a folder may
# have a place of its own.
ORDERS = {
    "core": (
        "errors json_text processor own_code",
        "config files yaml_text",
        "schemas usage",
        "sampling",
        "types prompts",
        "scripted",
    ),
    "remote": ("remote_model anthropic_messages", "providers"),
    "text": (
        "files detokenizer counting control sandbox corpus_files",
        "vocab",
        "tokenizer",
        "turns calls.call_format calls.spellings",
        "calls.probe calls.prompt calls.reader",
        "calls",
        "batch windows raw_bytes report chat exchange training gguf_writing",
        "template_doctor",
    ),
    "registry": (
        "held home lineage sampling_defaults",
        "signing",
        "releases",
        "verdicts",
        "card refs selection",
        "describe",
        "sources",
        "aliases defaults weight_cache",
        "saving store",
        "adapters loading",
    ),
    "serve": (
        "activations forms text_embedder threads tokens",
        "embedder light_models likelihoods tool_calls",
        "local",
        "prompted tasks",
        "images",
        "http lazy",
    ),
    "train": (
        "settings_file tracking data.hub data.journal metric",
        "recipe data.rows data.conversations data.formats data.examples data.pairs",
        "rollouts.protocol",
        "native.library",
        "native.softmax",
        "cross_entropy frozen heap measures precision short_attention schedule metrics checkpoint"
        " resume parallel muon rollouts rewards value_head",
        "native.attention native.products native.rows",
        "native",
        "compute flops optim objectives",
        "data heads sums",
        "loader merged result throughput trained",
        "assembly source",
        "outlook rollouts.source",
        "loop",
        "reference",
        "plan run",
    ),
    "agents": (
        "tools.tool",
        "sandbox.inside",
        "sandbox.config",
        "sandbox.isolation sandbox.execution",
        "sandbox.bubblewrap sandbox.landlocked sandbox.processes sandbox.exchange",
        "sandbox.session",
        "sandbox.sandbox",
        "sandbox.code_tests",
        "sandbox",
        "tools.results",
        "tools.parameters",
        "tools.function",
        "tools.addresses",
        "tools",
        "arguments budget dataflow rights",
        "approval spec",
        "steps",
        "progress",
        "protocols",
        "judging",
        "calling deciding spans",
        "asking runs",
        "journal",
        "delegation",
        "loop",
        "agent",
        "mcp.servers",
        "mcp.offers mcp.transports",
        "mcp.connection",
        "mcp",
        "toolkit",
    ),
    "prompting": (
        "chat_prompt embedded_json examples json_reader prompt_text schemas usages variables",
        "explanation forms",
        "structuring",
        "thinking",
        "template votes",
        "prompt_file",
        "asking prompt_folder",
    ),
    "safety": ("chain limits guards traffic", "audit shadow", "recorder verify", "guarded"),
    "rag": (
        "documents filters chunk sentences words dates disjoint_sets",
        "transliteration",
        "name_forms",
        "names",
        "cached_embedder remote_embedder embedding_map",
        "formats",
        "chunking",
        "catalogue",
        "ingest",
        "retrieve",
        "stores",
        "view opening index",
        "answer",
        "questions",
    ),
    "engine": (
        "config request constraints blocks scratch memory",
        "executor sequence",
        "decoding",
        "policy",
        "torch cpu",
        "executors runner scheduler",
        "speculative inbox",
        "engine",
    ),
    "model": (
        "fields positions",
        "config",
        "layers biases formats.layouts pooling",
        "quant.nf4",
        "quant.matrix lora.layers dot_product",
        "ops",
        "attention",
        "context",
        "blocks inputs",
        "transformer",
        "families",
        "quant",
        "formats",
        "forms",
        "formats.mapped",
        "lora",
        "loading replacing heads",
    ),
    "evals": (
        "diversity statistics distributions",
        "clustered agreement",
        "association noninferiority",
        "pairs sequential",
        "task",
        "json_forms",
        "judging",
        "metrics.scoring",
        "metrics.bleu metrics.calibration metrics.windows",
        "task_values",
        "metrics",
        "gate.config gate.scores",
        "gate.decision",
        "gate",
        "answers live prompt_scoring",
        "figures traits output_store results conversation gating model_results",
        "solvers likelihood_solvers run task_comparison",
        "system_tasks evaluated_agent",
        "estimating task_file benchmarks token_encoder",
        "task_data evaluation_ray evaluated_index",
        "task_forms inspect_logs",
        "hacking",
        "comparison",
    ),
    "release": (
        "released_documents feedback",
        "releases live_store",
        "live_recorder",
        "traffic",
        "promotion_plan",
        "promotion",
    ),
    "pipelines": (
        "output_journal judging scaling engine_sampler citation_check feedback_data question_file",
        "rollout_process",
        "rollout_ray best_of judged_items judged_pairs judged_ratings prompt_tests",
        "constitution",
    ),
    "app": ("formats", "report", "inspect comparison", "server", "page", "wiring", "cli"),
}
# The package itself hands out names of every module, looked up when they are used.
UNBOUND = ("__init__", "__main__", "lazy_names")


def imported(source: Any) -> Iterator[tuple[str, int]]:
    """Every name in ``source`` that may be a module of ours, with its line: imports anywhere,
    functions and TYPE_CHECKING included, and `import_module("lmstack...")`."""
    package = source.name if source.is_package else source.name.rpartition(".")[0]
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            yield base, node.lineno
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, node.lineno


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import lmstack.rag", "lmstack.rag"),
        ("from lmstack import rag", "lmstack.rag"),
        ("from lmstack.rag import Index", "lmstack.rag"),
        ("from ..rag.chunk import cut", "lmstack.rag.chunk"),
        ("from .. import rag", "lmstack.rag"),
        ("from . import other", "lmstack.core.other"),
        ("def f():\n    import lmstack.rag", "lmstack.rag"),
        ("if TYPE_CHECKING:\n    from lmstack.rag import Index", "lmstack.rag"),
        ("importlib.import_module('lmstack.rag')", "lmstack.rag"),
        ("__import__('lmstack.rag')", "lmstack.rag"),
    ],
)
def test_every_way_to_import_is_seen(sample: Any, text: str, name: str) -> None:
    assert name in {found for found, _ in imported(sample(text))}


def part_of(name: str) -> str:
    """`core` for `lmstack.core.errors`; `__init__` for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_the_table_covers_every_module(sources: Mapping[str, Any]) -> None:
    assert {part_of(name) for name in sources} <= {*ALLOWED, *UNBOUND}


@pytest.mark.parametrize("part", ALLOWED)
def test_a_module_imports_only_what_the_table_allows(sources: Mapping[str, Any], part: str) -> None:
    allowed = ALLOWED[part]
    if allowed == ALL:
        return
    wrong = {
        f"{source.shown}:{line} imports {name}"
        for source in sources.values()
        if part_of(source.name) == part
        for name, line in imported(source)
        if name.startswith("lmstack.") and part_of(name) in ALLOWED
        if part_of(name) not in {part, *allowed}
    }
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("part", ORDERS)
def test_inside_a_module_imports_run_downwards(sources: Mapping[str, Any], part: str) -> None:
    rank = {name: n for n, group in enumerate(ORDERS[part]) for name in group.split()}
    package = f"lmstack.{part}."
    inside = {
        name: _listed(name.removeprefix(package), rank)
        for name in sources
        if name.startswith(package)
    }
    assert set(inside.values()) == set(rank), "ORDERS names what there is"
    rank[part] = len(rank)  # the package hands out names of them all
    wrong = {
        f"{sources[name].shown}:{line} imports {target}"
        for name, own in inside.items()
        for target, line in edges_of(sources[name], sources)
        if rank[inside.get(target, part)] > rank[own]
    }
    assert not wrong, "\n".join(sorted(wrong))


def _listed(name: str, rank: Mapping[str, int]) -> str:
    """The entry for a file: its own, else that of its folder."""
    while name not in rank and "." in name:
        name = name.rpartition(".")[0]
    return name


def edges_of(source: Any, sources: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The files of the same module that ``source`` imports, each with the line: `from a import b`
    is `a.b` where that is a file, otherwise `a`."""
    home = ".".join(source.name.split(".")[:2])
    for name, line in imported(source):
        is_inside = name in sources and f"{name}.".startswith(f"{home}.")
        if is_inside and (name != home or _takes_more_than_submodules(source, name, sources)):
            yield name, line


def test_nothing_imports_app(sources: Mapping[str, Any]) -> None:
    wrong = {
        f"{source.shown}:{line}"
        for source in sources.values()
        if part_of(source.name) not in ("app", *UNBOUND)
        for name, line in imported(source)
        if name == "lmstack.app" or name.startswith("lmstack.app.")
    }
    assert not wrong, "\n".join(sorted(wrong))


def edges(sources: Mapping[str, Any]) -> dict[str, set[str]]:
    """Module to the modules of ours that it imports. `from a import b` is an edge to `a.b` where
    that is a file, otherwise to `a`. The package itself is left out: it looks names up when they
    are used, and others read its version."""
    graph: dict[str, set[str]] = {}
    for source in sources.values():
        if part_of(source.name) in UNBOUND:
            continue
        found = {name for name, _ in imported(source) if name in sources}
        packages = {name.rpartition(".")[0] for name in found}
        passed_by = {p for p in packages if not _takes_more_than_submodules(source, p, sources)}
        graph[source.name] = found - passed_by - {source.name, "lmstack"}
    return graph


def _takes_more_than_submodules(source: Any, package: str, sources: Mapping[str, Any]) -> bool:
    for node in source.nodes:
        if isinstance(node, ast.Import) and any(a.name == package for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == package:
            names = {f"{package}.{alias.name}" for alias in node.names}
            if names - set(sources):
                return True
    return False


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """One cycle as a path that returns to its start, or an empty list."""
    done: set[str] = set()
    for start in graph:
        trail: list[str] = []
        on_trail: set[str] = set()
        stack: list[tuple[str, Iterator[str]]] = []
        if start in done:
            continue
        stack.append((start, iter(sorted(graph[start]))))
        trail.append(start)
        on_trail.add(start)
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n not in done), None)
            if following is None:
                stack.pop()
                done.add(node)
                on_trail.discard(trail.pop())
            elif following in on_trail:
                return [*trail[trail.index(following) :], following]
            else:
                stack.append((following, iter(sorted(graph.get(following, ())))))
                trail.append(following)
                on_trail.add(following)
    return []


def test_no_module_is_imported_by_a_computed_name(sources: Mapping[str, Any]) -> None:
    """Or the table could not be checked. Optional packages go through `core.require`, names of a
    package that are looked up when they are used through its block ``if TYPE_CHECKING``."""
    wrong = [
        f"{source.shown}:{node.lineno}"
        for source in sources.values()
        if source.name not in ("lmstack.core.errors", "lmstack.lazy_names")
        for node in source.nodes
        if isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__")
        if not (node.args and isinstance(node.args[0], ast.Constant))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle(sources: Mapping[str, Any]) -> None:
    cycle = cycle_in(edges(sources))
    assert not cycle, " -> ".join(cycle)


def test_the_search_for_circles_finds_one_and_only_one_that_is_there() -> None:
    assert cycle_in({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def python(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_what_scripts_take_from_lmstack_is_there(folder: str) -> None:
    """Types are checked in ``src`` alone, and most scripts run in the long suite at most."""
    missing = [
        f"{path.name}:{line}: {module}.{name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for module, name, line in _taken(ast.parse(path.read_text()))
        if not _has(module, name)
    ]
    assert not missing, "\n".join(missing)


def _taken(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Names that are imported, and attributes of modules that are."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lmstack":
            for each in node.names:
                yield node.module or "", each.name, node.lineno
                modules[each.asname or each.name] = f"{node.module}.{each.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id, "")
            if _is_module(module):
                yield module, node.attr, node.lineno


def _is_module(name: str) -> bool:
    try:
        return bool(name) and importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _has(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name) or _is_module(f"{module}.{name}")


def test_import_lmstack_takes_under_0_3_seconds_and_loads_no_torch() -> None:
    script = (
        "import time; start = time.process_time(); import lmstack;"
        "print(time.process_time() - start); import sys; assert 'torch' not in sys.modules"
    )
    assert min(float(python(script)) for _ in range(3)) < 0.3


def loads_none(parts: tuple[str, ...], heavy: tuple[str, ...]) -> None:
    """One process imports them in turn: the first that loads what is heavy is named."""
    python(
        f"import importlib, sys\nfor part in {parts}:\n"
        "    importlib.import_module('lmstack.' + part)\n"
        f"    loaded = [m for m in {heavy} if m in sys.modules]\n"
        "    assert not loaded, (part, loaded)"
    )


def test_the_half_without_tensors_loads_no_torch() -> None:
    parts = ("core", "remote", "safety", "prompting", "evals.metrics", "rag")
    agents = ("agents.agent", "agents.sandbox", "agents.mcp")
    loads_none(parts + agents, ("torch", "transformers", "openai", "anthropic"))


def test_naming_a_module_loads_neither_torch_nor_a_web_framework() -> None:
    parts = ("serve", "serve.forms", "engine", "model", "registry.weight_cache")
    loads_none(parts, ("torch", "fastapi"))
