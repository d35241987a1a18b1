"""What other programs call the things that lmstack does, for hints after an unknown command.

`SYNONYMS` maps the words of a command, as users of ollama, vLLM, llm or a shell type them, to the
command of lmstack that does it. Every target is a command that exists, which a test checks. Does
not cover typing mistakes: `lmstack.core.nearest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lmstack.core import nearest

__all__ = ["OTHER_NAMES", "SYNONYMS", "suggestion"]

# One line for each command of lmstack, in the order of the overview.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "ask": ("answer", "qa", "query", "question", "rag"),
    "search": ("find", "grep", "index query", "index search", "retrieve"),
    "embed": ("embed-multi", "embedding", "embeddings", "encode", "similar", "vectors"),
    "run chat": ("chat", "prompt", "repl", "talk"),
    "run classify": ("classify",),
    "run generate": ("complete", "completion", "completions", "generate"),
    "run ner": ("ner", "tag"),
    "run rerank": ("rank", "rerank"),
    "run summarize": ("summarise", "summarize"),
    "run translate": ("translate",),
    "up": ("api", "api_server", "launch", "page", "serve", "server", "start", "ui", "web"),
    "plan": ("estimate", "memory", "size"),
    "bench machine": ("speed",),
    "bench": ("benchmark", "perf"),
    "pull": (
        *("add", "create", "download", "fetch", "get", "import", "install", "models add"),
        *("models create", "models download", "models get", "models install", "models pull"),
    ),
    "models": ("list", "ls", "model", "models list", "models ls", "ps", "store"),
    "models rm": ("delete", "models delete", "models remove", "remove", "rm", "uninstall"),
    "inspect": ("describe", "info", "models info", "models inspect", "models show", "show"),
    "convert": ("copy", "cp", "export", "models convert", "models export", "save"),
    "quantize": ("compress", "models quantize", "quantise"),
    "tokens": ("count", "tokenize"),
    "tokenizer train": ("vocab",),
    "index": ("collections", "documents"),
    "index add": (
        *("index build", "index create", "index import", "index ingest", "index init"),
        *("index make", "index new", "ingest", "load"),
    ),
    "index update": ("index refresh", "index sync", "reindex", "sync", "update", "watch"),
    "index remove": ("index delete", "index rm"),
    "index status": ("index files", "index info", "index list", "index ls", "status"),
    "index verify": ("index check", "index doctor", "verify"),
    "index duplicates": ("dedup", "duplicates", "index dedup"),
    "doctor": ("check", "config", "diagnose", "env", "health", "test"),
    "audit verify": ("audit check", "history", "log", "logs"),
    "feedback": ("judgements", "ratings"),
    "feedback clear": ("feedback delete", "feedback reset", "feedback rm"),
    "feedback list": ("feedback ls", "feedback show"),
    "--help": ("commands", "help", "man", "usage"),
    "--version": ("version",),
}
_STOPPING = ("down", "exit", "kill", "quit", "shutdown", "stop", "unload")
SYNONYMS = {word: command for command, words in OTHER_NAMES.items() for word in words}


def suggestion(path: str, word: str, known: Iterable[str]) -> str:
    """The command to try where ``word`` is none of the group ``path`` (``lmstack index``), whose
    commands are ``known``: the one that does what ``word`` means elsewhere, else the one that is
    spelt most like it, else the help of the group."""
    program, _, inner = path.partition(" ")
    if not inner and word.lower() in _STOPPING:
        return f"Ctrl-C where `{program} up` runs; nothing else keeps running"
    meant = SYNONYMS.get(f"{inner} {word}".strip().lower())
    if meant is not None:
        return f"{program} {meant}"
    guess = nearest(word.lower(), known)
    return f"{path} {guess}" if guess else f"{path} --help"
