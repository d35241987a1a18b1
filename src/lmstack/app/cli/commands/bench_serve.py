"""`lmstack bench serve`: a load generator for any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._load_options import (
    CONCURRENCY,
    INPUT_TOKENS,
    KEY_VARIABLE,
    OUTPUT_TOKENS,
    REQUESTS,
    Body,
    Concurrency,
    Duration,
    EndpointName,
    InputTokens,
    KeyVariable,
    Model,
    OutputTokens,
    PlotFile,
    PromptFile,
    Rates,
    Requests,
    ResultFile,
    Seed,
    Server,
    Timeout,
)
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.app.server.stopping import EXIT_INTERRUPTED
from lmstack.core import InputError, LmstackError, RemoteError, shown
from lmstack.core.files import write_atomic

if TYPE_CHECKING:
    from lmstack.app.loadgen import Level, Outcome, Summary, Target
    from lmstack.app.loadgen.prompts import Prompts
    from lmstack.app.loadgen.target import Endpoint

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    command(
        app,
        "serve",
        example="lmstack bench serve http://127.0.0.1:8000 --concurrency 16\n"
        "lmstack bench serve http://127.0.0.1:8000 --rates 1,2,4,8 --duration 60"
        " --plot load.svg --output load.json",
    )(serve)


def serve(
    out: Output,
    url: Server,
    concurrency: Concurrency = None,
    rates: Rates = None,
    requests: Requests = None,
    duration: Duration = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = OUTPUT_TOKENS,
    prompts: PromptFile = None,
    model: Model = None,
    endpoint: EndpointName = "chat",
    body: Body = None,
    timeout: Timeout = 300.0,
    seed: Seed = 0,
    api_key_env: KeyVariable = KEY_VARIABLE,
    output: ResultFile = None,
    plot: PlotFile = None,
) -> None:
    """Ask an OpenAI-compatible server as many users would, and time it.

    Streams every answer and reports time to first token, times between pieces, whole answers,
    output tokens a second, errors by kind, and the share of gaps over 200 ms. Answers are asked
    for greedily and to their full length (ignore_eos) where the server knows that. Nothing is
    tried again: a 429 is counted as one. Ctrl-C ends it with the figures so far. The plot needs
    matplotlib: pip install 'lmstack[pictures]'.
    """
    levels = _levels(concurrency, rates, requests, duration)
    _check_files(output, plot, len(levels))
    if prompts is not None and input_tokens is not None:
        raise CommandLineError(
            "--prompts and --input-tokens both say what is asked",
            hint="leave one of them out",
            param="prompts",
        )
    from lmstack.app.loadgen import FilePrompts
    from lmstack.app.loadgen.target import base_url

    asked = _Asked(
        base=base_url(url),
        levels=levels,
        prompts=None if prompts is None else FilePrompts.read(prompts, output_tokens),
        input_tokens=input_tokens or INPUT_TOKENS,
        output_tokens=output_tokens,
        seed=seed,
        timeout_s=timeout,
        model=model,
        endpoint=endpoint,
        extra=_object(body),
        variable=api_key_env,
    )
    with ExitStack() as bars:
        target, outcomes = asyncio.run(_run(out, asked, bars))
    _finish(out, target, outcomes, asked, output, plot)


@dataclass(frozen=True)
class _Asked:
    """What was asked for on the command line. ``prompts``: None for random words."""

    base: str
    levels: Sequence[Level]
    prompts: Prompts | None
    input_tokens: int
    output_tokens: int
    seed: int
    timeout_s: float
    model: str | None
    endpoint: Endpoint
    extra: dict[str, Any]
    variable: str


async def _run(out: Output, asked: _Asked, bars: ExitStack) -> tuple[Target, list[Outcome]]:
    """``bars``: holds the progress of the load that runs."""
    from lmstack.app.loadgen import RandomPrompts, connect, run_levels
    from lmstack.app.loadgen.target import client_for, headers_of, words_for

    def started(level: Level) -> Callable[[int, int | None, str], None]:
        bars.close()
        return bars.enter_context(out.progress(level.title, "requests")).update

    headers = headers_of(asked.variable)
    async with client_for(asked.base, headers, asked.timeout_s) as client:
        target = await connect(
            client, asked.base, asked.endpoint, asked.model, asked.extra, asked.variable
        )
        prompts = asked.prompts or RandomPrompts(
            words_for(target, asked.input_tokens), asked.output_tokens, asked.seed
        )
        out.note(printable(f"asking {target.model} at {target.url}", one_line=True))
        return target, await run_levels(client, target, prompts, asked.levels, asked.seed, started)


def _finish(
    out: Output,
    target: Target,
    outcomes: Sequence[Outcome],
    asked: _Asked,
    output: Path | None,
    plot: Path | None,
) -> None:
    from lmstack.app.loadgen import summarize

    summaries = [summarize(outcome) for outcome in outcomes]
    interrupted = any(found.interrupted for found in summaries)
    result = _result(target, summaries, asked)
    if output is not None:
        rows = [[row.to_json() for row in outcome.rows] for outcome in outcomes]
        _write(output, {**result, "requests": rows})
    if not interrupted and not any(found.succeeded for found in summaries):
        raise _all_failed(outcomes)
    drawn = [found for found in summaries if found.succeeded]
    if plot is not None and len(drawn) > 1:
        from lmstack.app.loadgen.report import draw_load

        draw_load(plot, f"{target.model} at {target.base}", drawn)
    if out.as_json:
        out.result(result)
    else:
        _print(out, target, summaries, asked)
    if interrupted:
        out.note("stopped: these are the figures so far")
        raise typer.Exit(EXIT_INTERRUPTED)


def _print(out: Output, target: Target, summaries: Sequence[Summary], asked: _Asked) -> None:
    from lmstack.app.loadgen.report import figures_of, table_of

    out.lines(figures_of(summaries[0]) if len(summaries) == 1 else table_of(summaries))
    notes = _notes(target, summaries, asked)
    if notes:
        out.line()
        out.lines([printable(f"note: {note}", one_line=True) for note in notes])


def _result(target: Target, summaries: Sequence[Summary], asked: _Asked) -> dict[str, Any]:
    drawn = asked.prompts is None
    return {
        "url": target.url,
        "model": target.model,
        "input_tokens": asked.input_tokens if drawn else None,
        "output_tokens": asked.output_tokens if drawn else None,
        "seed": asked.seed,
        "interrupted": any(found.interrupted for found in summaries),
        "levels": [found.to_json() for found in summaries],
        "notes": _notes(target, summaries, asked),
    }


def _notes(target: Target, summaries: Sequence[Summary], asked: _Asked) -> list[str]:
    from lmstack.app.loadgen.report import notes_of

    length = asked.output_tokens if asked.prompts is None else None
    return [*target.notes, *notes_of(summaries, length)]


def _all_failed(outcomes: Sequence[Outcome]) -> LmstackError:
    rows = [row for outcome in outcomes for row in outcome.rows]
    if not rows:
        return InputError(
            "no request fell into the time that was measured: the rates are too low for it",
            hint="a longer --duration, or higher --rates",
            param="rates",
        )
    kinds = sorted({str(row.error) for row in rows})
    said = next((row.detail for row in rows if row.detail), "")
    return RemoteError(
        f"all {len(rows)} requests failed ({', '.join(kinds)}): {said}",
        hint="look at the server's log, or lower the load",
    )


def _write(path: Path, value: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def _levels(
    concurrency: str | None, rates: str | None, requests: int | None, duration: float | None
) -> list[Level]:
    from lmstack.app.loadgen import Level

    if concurrency is not None and rates is not None:
        raise CommandLineError(
            "--concurrency and --rates are two kinds of load",
            hint="leave one of them out",
            param="rates",
        )
    limit = REQUESTS if requests is None and duration is None else requests
    if rates is not None:
        return [Level(None, r, limit, duration) for r in _numbers("rates", rates, float, 1e5)]
    counts = _numbers("concurrency", concurrency or str(CONCURRENCY), int, 1 << 14)
    return [Level(int(n), None, limit, duration) for n in counts]


def _numbers(name: str, text: str, kind: Callable[[str], float], most: float) -> list[float]:
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number <= most for number in found):
        raise CommandLineError(
            f"--{name} is {shown(text)}: numbers from above 0 to {most:g}, with commas between",
            hint=f"--{name} 1,2,4",
            param=name,
        )
    return found


def _check_files(output: Path | None, plot: Path | None, num_levels: int) -> None:
    if output is not None and (not output.parent.is_dir() or output.is_dir()):
        raise InputError(
            f"--output is {shown(str(output))}, where no file can be written",
            hint="--output FILE.json, in a folder that is there",
            param="output",
        )
    if plot is not None:
        if num_levels < 2:
            raise CommandLineError(
                "--plot draws latency against load, and there is only one load",
                hint="--rates 1,2,4, or --concurrency 1,4,16",
                param="plot",
            )
        from lmstack.app.drawing import check_picture

        check_picture(plot, "plot")


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CommandLineError(
            f"--body is {shown(text)}, which is no JSON object",
            hint="""--body '{"top_p": 0.9}'""",
            param="body",
        )
    return value
