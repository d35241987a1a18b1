"""Help texts and suggestions: what `--help` prints, which docs/cli.md repeats word for word.

Written here and not by typer, so the text is the same for every version of typer and width of
terminal. Covers the overview by section, the help of one command, and what to try after an unknown
command. Does not cover the words themselves: each command's docstring and options hold them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup

from lmstack.app.cli.failure import CommandLineError
from lmstack.core import nearest

__all__ = [
    "OTHER_NAMES",
    "SECTIONS",
    "SYNONYMS",
    "HelpCommand",
    "HelpGroup",
    "help_text",
    "overview",
    "spread",
]


# One line for each command of lmstack, in the order of the overview.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "ask": ("answer", "qa", "query", "question", "rag"),
    "search": ("find", "grep", "index query", "index search", "retrieve"),
    "embed": ("embed-multi", "embedding", "embeddings", "encode", "similar", "vectors"),
    "run chat": ("chat", "repl", "talk"),
    "run classify": ("classify",),
    "run generate": ("complete", "completion", "completions", "generate"),
    "run ner": ("ner", "tag"),
    "run rerank": ("rank", "rerank"),
    "run summarize": ("summarise", "summarize"),
    "run translate": ("translate",),
    "prompt list": ("prompt ls", "prompts"),
    "prompt show": ("prompt explain", "prompt render", "prompt view"),
    "prompt test": ("prompt compare", "prompt eval", "prompt evaluate", "prompt run"),
    "eval list": ("benchmarks", "eval ls", "eval tasks", "evals", "tasks"),
    "eval fetch": ("eval download", "eval get", "eval pull"),
    "eval run": ("eval start", "evaluate", "lm_eval"),
    "eval show": ("eval results",),
    "eval report": ("eval html", "eval page", "eval plot"),
    "eval compare": ("eval diff",),
    "eval gate": ("gate",),
    "release promote": ("deploy", "eval promote", "model promote", "promote", "publish"),
    "release rollback": ("downgrade", "revert", "roll-back", "rollback", "undo"),
    "release list": ("alias", "aliases", "model alias", "model aliases", "releases"),
    "release traffic": ("canary", "eval live", "shadow"),
    "agent run": ("act", "agents", "do", "task"),
    "agent chat": ("agents chat",),
    "agent show": ("agent list", "agent ls", "agents list", "agents show", "runs", "timeline"),
    "agent replay": ("replay",),
    "mcp serve": ("mcp start", "mcp up"),
    "up": ("api", "api_server", "launch", "page", "serve", "server", "start", "ui", "web"),
    "doctor plan": ("estimate", "memory", "plan", "size"),
    "doctor machine": ("bench", "bench machine", "benchmark", "perf", "speed"),
    "doctor template": ("template",),
    "pull": (
        *("add", "create", "download", "fetch", "get", "import", "install", "model add"),
        *("model create", "model download", "model get", "model install", "model pull"),
    ),
    "model": ("models",),
    "model caches": ("caches", "model cache", "model prune", "prune"),
    "model list": (
        *("list", "ls", "model ls", "model available", "ps"),
        "store",
    ),
    "model merge": ("adapter merge", "merge"),
    "model rm": (
        "delete",
        "model delete",
        "model remove",
        "remove",
        "rm",
        "uninstall",
    ),
    "model inspect": (*("describe", "info", "inspect", "model show", "model info", "show"),),
    "model convert": (*("convert", "copy", "cp", "export", "model export", "save"),),
    "model quantize": ("compress", "quantise", "quantize"),
    "tokenizer count": ("count", "tokenize", "tokens"),
    "tokenizer train": ("vocab",),
    "eval answers": ("compare", "compare-models", "diff", "win-rate", "winrate"),
    "data best-of": ("best-of", "rejection-sampling"),
    "data feedback": ("thumbs",),
    "data judge": ("judge", "label"),
    "data preferences": ("pairs", "preferences", "ratings"),
    "data problems": ("arithmetic", "problems"),
    "data questions": ("questions",),
    "data rate": ("rate", "score"),
    "data report": ("data check", "data stats", "dataset", "lengths", "pii", "stats"),
    "scaling fit": ("powerlaw", "power-law"),
    "scaling plan": ("budget", "chinchilla", "flops", "kaplan", "scale", "scaling-laws"),
    "train": ("finetune", "fine-tune", "fit", "learn", "lora", "pretrain", "sft", "tune"),
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
    "feedback": ("judgements",),
    "feedback clear": ("feedback delete", "feedback reset", "feedback rm"),
    "feedback list": ("feedback ls", "feedback show"),
    "--help": ("commands", "man", "usage"),
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


# In the order of the work, and within a section in the order of use.
SECTIONS = {
    "Documents": ("ask", "search", "index"),
    "Models": ("pull", "model", "run", "embed", "tokenizer"),
    "Serve": ("up", "mcp", "agent"),
    "Train": ("train", "data", "scaling"),
    "Evaluate": ("eval", "prompt", "release"),
    "Operate": ("doctor", "audit", "feedback"),
}
WIDTH = 88
TITLE = "lmstack: answers about your documents, from models on your own machine"


class HelpCommand(TyperCommand):
    """A command whose help is `help_text`. ``many``: options that take several words each."""

    many: tuple[str, ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        return super().parse_args(ctx, spread(args, self.many))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(help_text(self, ctx.command_path))


class HelpGroup(TyperGroup):
    """A group whose help is `help_text`, and which answers an unknown command with the one that
    was probably meant.
    ``usual``: the command that is meant where the first word names none."""

    usual: str | None = None

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        words = [arg for arg in args if not _is_option(arg)]
        known = not words or words[0] in self.commands
        # Two words and the first almost a command: a typo, which `resolve_command` answers.
        typo = len(words) > 1 and nearest(words[0], self.commands) is not None
        if self.usual is not None and not known and not typo:
            args = [self.usual, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        root = ctx.parent is None
        formatter.write(overview(self) if root else help_text(self, ctx.command_path))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            known = [n for n, c in self.commands.items() if not c.hidden]
            raise CommandLineError(
                f"{ctx.command_path} has no command {name!r}",
                hint=suggestion(ctx.command_path, name, known),
                param=name,
            )
        return super().resolve_command(ctx, args)


def spread(args: list[str], many: tuple[str, ...]) -> list[str]:
    """``--compare A B`` as ``--compare A --compare B`` for the options in ``many``."""
    result: list[str] = []
    current = None
    for index, arg in enumerate(args):
        if arg == "--":
            return result + args[index:]
        if _is_option(arg):
            current = arg if arg in many else None
            takes_none = index + 1 == len(args) or _is_option(args[index + 1])
            if current is None or takes_none:
                result.append(arg)
        elif current is not None:
            result += [current, arg]
        else:
            result.append(arg)
    return result


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"  # a dash by itself is standard input


def overview(group: Any) -> str:
    """All commands by section, one line each."""
    lines = [TITLE]
    visible = {n: c for n, c in group.commands.items() if not c.hidden}
    pad = max(len(name) for name in visible)
    for section, names in SECTIONS.items():
        lines += ["", section]
        lines += [f"  {name:<{pad}}   {_summary(visible[name])}" for name in names]
    lines += ["", "Options"]
    lines += _definitions(_options(group))
    lines += ["", "lmstack help COMMAND shows how a command is used, with an example."]
    return "\n".join(lines) + "\n"


def help_text(command: Any, path: str) -> str:
    """Summary, usage, description, arguments, options and examples of one command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    subcommands = {n: c for n, c in getattr(command, "commands", {}).items() if not c.hidden}
    first, _, rest = (command.help or "").partition("\n\n")
    lines = [" ".join(first.split()), "", "Usage", f"  {_usage(path, arguments, subcommands)}"]
    for paragraph in filter(None, (p.strip() for p in rest.split("\n\n"))):
        lines += ["", *textwrap.wrap(" ".join(paragraph.split()), WIDTH)]
    if subcommands:
        pad = max(len(name) for name in subcommands)
        lines += ["", "Commands"]
        lines += [f"  {name:<{pad}}   {_summary(c)}" for name, c in subcommands.items()]
    for title, rows in (
        ("Arguments", [(_metavar(a), a.help or "") for a in arguments]),
        ("Options", _options(command)),
    ):
        if rows:
            lines += ["", title, *_definitions(rows)]
    if command.epilog:
        lines += ["", "Example", *(f"  {line}" for line in command.epilog.splitlines())]
    return "\n".join(lines) + "\n"


def _summary(command: Any) -> str:
    first = (command.help or "").partition("\n\n")[0]
    return " ".join(first.split()).rstrip(".")


def _usage(path: str, arguments: list[Any], subcommands: dict[str, Any]) -> str:
    pieces = [_metavar(a) if a.required else f"[{_metavar(a)}]" for a in arguments]
    if subcommands:
        pieces.append("COMMAND")
    return " ".join([path, *pieces, "[OPTIONS]"])


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return f"{name}..." if parameter.nargs == -1 else str(name)


def _options(command: Any) -> list[tuple[str, str]]:
    rows = []
    for option in command.params:
        if option.param_type_name != "option" or option.hidden:
            continue
        names = ", ".join(sorted((*option.opts, *option.secondary_opts), key=len))
        if not (option.is_flag or option.count):
            names += f" {option.metavar or option.name.upper()}"
        rows.append((names, _with_default(option)))
    return [*rows, ("--help", "Show this text.")]


def _with_default(option: Any) -> str:
    text = " ".join((option.help or "").split())
    value = option.default
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    if option.count or not plain or value == "":
        return text
    return f"{text} [default: {value}]"


def _definitions(rows: list[tuple[str, str]]) -> list[str]:
    pad = min(max(len(name) for name, _ in rows), 26)
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, WIDTH - pad - 5) or [""]
        if len(name) > pad:
            lines.append(f"  {name}")
            name = ""
        lines.append(f"  {name:<{pad}}   {wrapped[0]}".rstrip())
        lines += [f"  {'':<{pad}}   {more}" for more in wrapped[1:]]
    return lines
