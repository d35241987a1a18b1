"""`lmstack eval judge`: models judge answers, and the report says what sways them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._judging import ask_of_rest, nothing_found
from lmstack.app.cli.commands._options import Weights, say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core import InputError, UnsupportedError, close_model, shown

if TYPE_CHECKING:
    from lmstack.evals.judging import Item, Judgement, JudgeReport, JudgeRules, Jury
    from lmstack.evals.statistics import Estimate

__all__ = ["judge"]

_LABELLED = "Which of these describes the answer?"

_BIASES = ("position", "length", "self-preference")


@command(
    "eval judge",
    """
    FILE...: JSON Lines: answers, or pairs of them.
    --judge MODEL: A judge; several are a jury. [default: the model that answers]
    --criterion NAME[=QUESTION]: Of the rubric; several times. [default: accuracy, completeness,
        clarity, reasoning]
    --question TEXT: That decides a pair, or a label.
    --label NAME: Two of them: which one fits an answer?
    --no-ties: Do not offer a tie.
    --repeats N 0..100: Judge each item N times more, drawn.
    --temperature T 0.01..2: Of repeats.
    --aggregate: How a jury's ratings are put together.
    --at-once N 1..512: Items at the same time.
    --output, -o FILE: JSON Lines, a row an item.
    --report: FILE is an --output: report on it, ask nothing.

    lmstack eval judge answers.jsonl --judge openai:MODEL
    lmstack eval judge pairs.jsonl --judge ./large --judge ./other --repeats 3
    lmstack eval judge answers.jsonl --label refuses --label complies
    lmstack eval judge judgements.jsonl --report
    """,
)
def judge(
    out: Output,
    files: list[str],
    judges: list[str] | None = None,
    weights: Weights = None,
    criterion: list[str] | None = None,
    question: str | None = None,
    label: list[str] | None = None,
    no_ties: bool = False,
    repeats: int = 0,
    temperature: float = 0.7,
    aggregate: Literal["mean", "median"] = "mean",
    at_once: int = 16,
    output: Path = Path("judgements.jsonl"),
    report: bool = False,
) -> None:
    """Let models judge answers, and see what sways them.

    Rows with an answer (prompt, answer) are rated by a rubric, 1 to 5 for each criterion with a
    reason, or get one of two labels. Rows with two (prompt, first, second) are compared in both
    orders: a winner takes both, anything else is a tie. A row may have a reference answer, the
    label that people gave, and the source: the model that wrote the answer.

    The report names a bias where its interval excludes none: the place shown first, length, the
    judge's own model. It counts replies that could not be read, and says how far the judge agrees
    with the labels.

    Stopped, it goes on where it was when it is started again."""
    from lmstack.pipelines.judged_items import items_in, kept_in
    from lmstack.train.data.rows import find_data

    if report:
        items, judgements, rules = kept_in(find_data(files))
        _show(out, items, judgements, rules, aggregate, {})
        return
    items, bad = items_in(find_data(files))
    if not items:
        hint = "rows have prompt and answer, or prompt, first and second"
        raise nothing_found("item", hint, files, bad)
    rules = _rules(items[0].is_pair, criterion, question, label, ties=not no_ties)
    settings: dict[str, Any] = {"rules": rules.to_json(), "repeats": repeats}
    settings |= {"temperature": temperature} if repeats else {}
    names: list[str | None] = [*judges] if judges else [None]
    for name in names:
        say_if_remote(out, name)
    judgements = _judged(out, items, names, weights, rules, settings, at_once, output, aggregate)
    _show(out, items, judgements, rules, aggregate, {"file": str(output), "bad_rows": len(bad)})


def _rules(
    is_pair: bool,
    criterion: Sequence[str] | None,
    question: str | None,
    label: Sequence[str] | None,
    *,
    ties: bool,
) -> JudgeRules:
    from lmstack.evals.judging import CRITERION, RUBRIC, JudgeRules

    kind = "pair" if is_pair else "label" if label else "rubric"
    for given, option, kinds in (
        (criterion, "criterion", ("rubric",)),
        (question, "question", ("pair", "label")),
        (label, "label", ("label",)),
        (not ties, "no-ties", ("pair",)),
    ):
        if given and kind not in kinds:
            what = {"pair": "pairs are compared", "rubric": "a rubric rates", "label": "labels fit"}
            raise InputError(
                f"--{option} does not apply where {what[kind]}",
                hint=f"leave out --{option}",
                param=option,
            )
    if kind == "pair":
        return JudgeRules("pair", question or CRITERION, ties=ties)
    if kind == "label":
        labels = tuple(label or ())
        if len(set(labels)) != 2:
            raise InputError(
                f"the labels are {shown(list(labels))}",
                hint="give --label twice, with two names",
                param="label",
            )
        return JudgeRules("label", question or _LABELLED, labels)
    return JudgeRules("rubric", criteria=_criteria(criterion) if criterion else RUBRIC)


def _criteria(given: Sequence[str]) -> Any:
    from lmstack.evals.judging import RUBRIC, criteria_from

    usual = {each.name: each.question for each in RUBRIC}
    found: dict[str, str] = {}
    for each in given:
        name, separator, question = each.partition("=")
        if not separator and name not in usual:
            raise InputError(
                f"--criterion {name} has no question",
                hint=f'--criterion "{name}=Is it ...?", or one of {", ".join(usual)}',
                param="criterion",
            )
        if name in found:
            raise InputError(f"--criterion {name} is given twice", param="criterion")
        found[name] = question if separator else usual[name]
    return criteria_from(found)


def _judged(
    out: Output,
    items: Sequence[Item],
    judges: Sequence[str | None],
    weights: Any,
    rules: JudgeRules,
    settings: dict[str, Any],
    at_once: int,
    output: Path,
    aggregate: Literal["mean", "median"],
) -> list[Judgement]:
    """One judge after the other, so that one model at a time is held."""
    from lmstack.evals.judging import Asker, jury_of
    from lmstack.pipelines.judged_items import JudgedItems, ask_all, wanted
    from lmstack.pipelines.output_journal import short_name

    chats = [wiring.lazy_generator(name, weights) for name in judges]
    try:
        names = [short_name(chat.info) for chat in chats]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"the judge {twice} is named twice", param="judge")
        digests = {name: chat.info.digest for name, chat in zip(names, chats, strict=True)}
        with JudgedItems(output, {**settings, "judges": digests}) as file:
            out.interrupted = (f"what was judged so far is in {file.unfinished}", out.again())
            for name, chat in zip(names, chats, strict=True):
                asker = Asker(chat, name, rules, temperature=settings.get("temperature", 0.7))
                asked = wanted(items, name, settings["repeats"])
                ask = partial(ask_all, asker, batch=at_once)
                doing = "Judging" if len(chats) == 1 else f"Judging, {name}"
                try:
                    asyncio.run(ask_of_rest(out, doing, "judgements", asked, file, ask, file.keep))
                except UnsupportedError as error:
                    raise UnsupportedError(
                        f"{name} cannot judge: {error.message}", hint="name a model that can chat"
                    ) from error
                close_model(chat)
            found = file.judgements()
            jury = jury_of(items, found, rules, aggregate=aggregate) if len(names) > 1 else None
            file.finish(file.rows(items, rules, jury))
            out.interrupted = None
            return found
    finally:
        for chat in chats:
            close_model(chat)


def _show(
    out: Output,
    items: Sequence[Item],
    judgements: Sequence[Judgement],
    rules: JudgeRules,
    aggregate: Literal["mean", "median"],
    more: dict[str, Any],
) -> None:
    from lmstack.evals.judging import judge_report, jury_of
    from lmstack.pipelines.judged_items import own_names

    names = list(dict.fromkeys(each.judge for each in judgements))
    reports = [judge_report(items, judgements, name, rules, own=own_names(name)) for name in names]
    jury = jury_of(items, judgements, rules, aggregate=aggregate) if len(names) > 1 else None
    if out.as_json:
        found = {"reports": [each.to_json() for each in reports]}
        out.result({**more, **found, "jury": None if jury is None else jury.to_json()})
        return
    for each in reports:
        _print(out, each)
    if jury is not None:
        _print_jury(out, jury, rules)
    if more:
        out.note(f"every judgement is in {more['file']}; {more['bad_rows']:,} rows held no item")


def _print(out: Output, report: JudgeReport) -> None:
    out.line(
        out.style(printable(f"{report.judge}   {report.items:,} items", one_line=True), "bold")
    )
    is_rated = report.kind == "rubric"
    number: Callable[[float], str] = "{:.2f}".format if is_rated else _percent
    rows = [(name, _figure(each, number)) for name, each in report.scores.items()]
    if report.flips is not None:
        rows.append(("same place in both orders", _figure(report.flips, _percent)))
    if report.repeats is not None:
        name = "spread of repeats" if is_rated else "two repeats differ"
        rows.append((name, _figure(report.repeats.spread, number)))
    agreed = report.agreement
    if agreed is not None:
        rows.append(("agrees with people", _figure(agreed.accuracy, _percent)))
        rows.append(("  always the most frequent", _percent(agreed.largest)))
        rows.append(("  kappa", _figure(agreed.kappa, "{:.2f}".format)))
    elif "agreement" in report.unmeasured:
        rows.append(("agrees with people", f"not measured: {report.unmeasured['agreement']}"))
    out.lines([printable(line, one_line=True) for line in columns(rows, indent=2)])
    out.line("  biases")
    found: list[tuple[str, str, str]] = []
    for bias in report.biases:
        held = f", quality held by {bias.held}" if bias.held else ""
        said = bias.sentence[:1].upper() + bias.sentence[1:] if bias.is_named else "none shown"
        figure = f"{_figure(bias.estimate, '{:+z.2f}'.format)} {bias.unit}{held}"
        found.append((bias.name, said, figure))
    missing = report.unmeasured.items()
    found += [(name, "not measured", reason) for name, reason in missing if name in _BIASES]
    out.lines([printable(line, one_line=True) for line in columns(found, indent=4)])
    left = [
        f"{report.unread:,} could not be read",
        f"{report.too_long:,} too long for the judge",
        *([f"{report.retried:,} asked for again"] if is_rated else []),
        *([f"{report.undecided:,} undecided"] if report.kind == "label" else []),
    ]
    out.line(out.style(f"  {', '.join(left)}", "dim"))


def _print_jury(out: Output, jury: Jury, rules: JudgeRules) -> None:
    out.line(out.style(f"jury of {len(jury.judges)}", "bold"))
    found = [each for each in jury.decisions.values() if each is not None]
    rows: list[tuple[str, str]] = []
    if rules.kind == "rubric":
        ratings = [float(each) for each in found]
        rows.append(("overall", f"{sum(ratings) / max(len(ratings), 1):.2f}"))
    else:
        names = dict(zip(("first", "second"), rules.labels, strict=False))
        for name in ("first", "tie", "second") if not names else ("first", "second"):
            share = found.count(name) / max(len(found), 1)
            rows.append((names.get(name, name), _percent(share)))
    rows.append(("agreement (Krippendorff's alpha)", _figure(jury.alpha, "{:.2f}".format)))
    if jury.error_correlation is not None and jury.effective is not None:
        correlated = f"{jury.error_correlation:.2f}: worth {jury.effective:.1f} independent judges"
        rows.append(("correlation of their errors", correlated))
    out.lines([printable(line, one_line=True) for line in columns(rows, indent=2)])


def _figure(estimate: Estimate, number: Callable[[float], str]) -> str:
    return f"{number(estimate.value)} {estimate.between(number)}".rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
