"""`lmstack run`: one task with one model, on texts, a file or standard input."""

from __future__ import annotations

import heapq
import itertools
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.app.cli.command import command
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.cli.task_io import ResultFile, count_lines, read_inputs, read_whole, result_lines
from lmstack.app.wiring import tasks
from lmstack.core import InputError, LmstackError, check_text, shown
from lmstack.model.quant.recipes import FORMS, Form

__all__ = ["run"]


CHUNK = 32
# The option that a task needs besides a text, and how its value looks.
NEEDED = {
    "reranking": ("--query", "QUERY"),
    "reward": ("--prompt", "PROMPT"),
    "question-answering": ("--question", "QUESTION"),
    "zero-shot-classification": ("--labels", "A,B,C"),
}

# Those that are options of tasks, under the same names.
OPTIONS = (
    *("query", "prompt", "question", "labels", "template", "multi_label", "aggregation"),
    *("targets", "top_k", "no_answer", "prefix", "source", "target", "kind", "truncate"),
    *("max_tokens", "temperature", "seed"),
)


@command(
    "run",
    f"""
    TASK: classify, ner, fill-mask, qa, features, embed, rerank, reward, zero-shot, generate, chat,
        summarize or translate; transformers' names work, too.
    TEXT: Texts to work on; - reads standard input.
    --model NAME: A model in the store or a folder. Without it, the one that lmstack knows for the
        task.
    --weights FORM: How the model's weights are held: {", ".join(FORMS)}; file and file8 are the
        blocks of a GGUF file. [default: as lmstack up for what writes text, else float32]
    --file FILE: An input a line; in a .jsonl file a JSON text or object a line.
    --whole: The file is one text, not one a line.
    --output FILE: Write JSON lines here, as they come.
    --resume: Go on after what --output holds already.
    --query TEXT: rerank: what is asked for.
    --prompt TEXT: reward: what the texts answer.
    --question TEXT: qa: what is asked.
    --labels A,B,...: zero-shot: labels to choose from.
    --template TEXT: zero-shot: a hypothesis with {{}}.
    --multi-label: zero-shot: judge each by itself.
    --aggregation HOW: ner: none, simple, first, average, max or whole. [default: whole]
    --targets WORD: fill-mask: choose among these; repeat it.
    --top-k N: How many labels, fills, answers, documents.
    --no-answer: qa: the text may hold no answer.
    --prefix TEXT: summarize, translate: put before every piece.
    --source CODE: translate: from, as en.
    --target CODE: translate: into, as de.
    --kind KIND: embed: query or passage.
    --truncate: classify, features, reward: cut what is too long.
    --max-tokens N: Of a text that is generated.
    --temperature T: 0 is greedy.
    --seed N: Of sampling.
    --set NAME=VALUE: Any other option of the task.

    lmstack run ner "Ada Lovelace lives at 12 Dorset Street."
    lmstack run rerank --query "the largest planet" "Jupiter is huge." "Bread is baked."
    lmstack run classify --model ./my-model --file reviews.jsonl --output labels.jsonl
    cat notes.txt | lmstack run embed -
    """,
)
def run(
    out: Output,
    task: str,
    texts: list[str] | None = None,
    model: str | None = None,
    weights: Form | None = None,
    file: Path | None = None,
    whole: bool = False,
    output: Path | None = None,
    resume: bool = False,
    query: str | None = None,
    prompt: str | None = None,
    question: str | None = None,
    labels: str | None = None,
    template: str | None = None,
    multi_label: bool | None = None,
    aggregation: str | None = None,
    targets: list[str] | None = None,
    top_k: int | None = None,
    no_answer: bool | None = None,
    prefix: str | None = None,
    source: str | None = None,
    target: str | None = None,
    kind: str | None = None,
    truncate: bool | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    settings: list[str] | None = None,
) -> None:
    """Run a task with a model: classify, tag, answer, embed, rank, summarize ...

    Texts on the command line give a result to read, or with --json to process. A file or
    standard input gives a JSON line for each input, as soon as it is there; an input that
    cannot be done gives a line with its error, and the exit code is 1 at the end. Ctrl-C keeps
    what is written, and --resume goes on with it.

    Nothing is downloaded: `lmstack pull NAME` gets a model.
    """
    given = locals()
    options = {name: given[name] for name in OPTIONS if given[name] is not None}
    options |= _settings(settings or [])
    path = _path(texts or [], file)
    _check_source(out, texts, path, output, whole=whole, resume=resume)
    name, chosen = tasks.task_model(task, model)
    if path is None:
        _check_needed(out, task, name, options)
    with tasks.open_task(task, chosen, options, weights) as made:
        out.detail(f"{chosen} loaded")
        if path is None:
            _print_results(out, name, made, texts or [])
        else:
            again = out.again(setting={"--resume": None} if output else None)
            with ResultFile(output, resume=resume) as results:
                _stream(out, name, made, path, results, whole=whole, again=again)


def _path(texts: Sequence[str], file: Path | None) -> Path | None:
    if file is not None:
        return file
    return Path("-") if list(texts) == ["-"] else None


def _check_needed(out: Output, task: str, name: str, options: Mapping[str, Any]) -> None:
    """What a text on the command line cannot do without; lines of a file may bring their own."""
    option, value = NEEDED.get(name, ("", ""))
    if option and option.removeprefix("--") not in options:
        raise CommandLineError(
            f"lmstack run {task} needs {option}",
            hint=out.again(setting={option: value}),
            param=option.removeprefix("--"),
        )


def _check_source(
    out: Output,
    texts: list[str] | None,
    path: Path | None,
    output: Path | None,
    *,
    whole: bool,
    resume: bool,
) -> None:
    if not texts and path is None:
        raise CommandLineError(
            "lmstack run has no text to work on",
            hint=f'{out.again()} "TEXT", or --file FILE',
            param="texts",
        )
    if texts and path is not None and path != Path("-"):
        raise CommandLineError("texts and --file are both given", hint="leave one out")
    for option, used in (("--output", output), ("--whole", whole), ("--resume", resume)):
        if used and path is None:
            raise CommandLineError(f"{option} is for files", hint=f"--file FILE {option}")
    if resume and output is None:
        raise CommandLineError(
            "--resume needs the file to go on with", hint="--output FILE --resume", param="resume"
        )
    for text in texts or ():
        check_text("a text", text)


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE``: JSON where it is JSON, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise CommandLineError(
                f"--set is {shown(pair)}", hint="--set num_beams=4", param="settings"
            )
        try:
            found[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            found[name.strip()] = value
    return found


def _print_results(out: Output, name: str, made: Any, texts: Sequence[str]) -> None:
    """A reranker takes all texts together."""
    together = name == "reranking"
    if together:
        found = [made(list(texts))]
    else:
        found = [made(texts[0])] if len(texts) == 1 else made(list(texts))
    if out.as_json:
        values = [result.to_json() for result in found]
        out.result(values[0] if len(values) == 1 else values)
        return
    for number, result in enumerate(found):
        if number:
            out.line()
        out.lines(result_lines(name, result, texts[number]))


def _stream(
    out: Output,
    name: str,
    made: Any,
    path: Path,
    results: ResultFile,
    *,
    whole: bool,
    again: str,
) -> None:
    inputs, total = _inputs(name, path, whole=whole)
    done, failed = results.done, 0
    # On a terminal the lines themselves show how far it is.
    shows_bar = results.path is not None or not out.is_terminal
    kept = f"{results.path} keeps" if results.path else "printed were"
    if done:
        out.interrupted = (f"{kept} the first {done} results", again)
    with out.progress(f"Running {name}", "inputs", shown=shows_bar) as bar:
        numbered = itertools.islice(enumerate(inputs), done, None)
        while batch := list(itertools.islice(numbered, CHUNK)):
            for index, value in _tried(made, batch):
                line = {"index": index, **value}
                failed += "error" in value
                results.write(line) if results.path else out.line(
                    json.dumps(line, ensure_ascii=False)
                )
                done += 1
                out.interrupted = (f"{kept} the first {done} results", again)
            bar.update(done, total)
    if failed:
        raise InputError(
            f"{failed} of {done} inputs could not be done", hint='see the lines with "error"'
        )


def _inputs(name: str, path: Path, *, whole: bool) -> tuple[Iterator[Any], int | None]:
    if whole:
        return iter([read_whole(path)]), 1
    inputs, total = read_inputs(path), count_lines(path)
    if name == "reranking" and path.suffix not in (".jsonl", ".ndjson"):
        # The lines are the documents of one query.
        documents = list(inputs)
        for document in documents:
            if isinstance(document, LmstackError):
                raise document
        return iter([documents]), 1
    return inputs, total


def _tried(made: Any, batch: Sequence[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Results of a chunk, in order, with a line for each input that could not be read."""
    unread = [(i, _problem(value)) for i, value in batch if isinstance(value, LmstackError)]
    read = [(i, value) for i, value in batch if not isinstance(value, LmstackError)]
    return heapq.merge(unread, _computed(made, read), key=operator.itemgetter(0))


def _computed(made: Any, batch: Sequence[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Results of inputs; where one of them fails, each by itself, which its error then calls
    "the input": "input 0" would be another line of the file."""
    values = [value for _, value in batch]
    alone = len(batch) == 1 and made.is_one(values[0])
    try:
        found = [made(values[0])] if alone else made(values)
    except LmstackError as error:
        if len(batch) == 1:
            yield batch[0][0], _problem(error)
            return
        for each in batch:
            yield from _computed(made, [each])
        return
    for (index, _), result in zip(batch, found, strict=True):
        yield index, result.to_json()


def _problem(error: LmstackError) -> dict[str, Any]:
    return {"error": {"message": error.message, "hint": error.hint, "code": error.code}}
