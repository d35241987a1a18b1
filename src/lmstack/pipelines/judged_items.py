"""Items of files that judges are judging, and what is kept of it.

A row of the output holds the item, what each judge said of it, and the rules by which it was asked,
so that the report can be made again without asking. Not covered: how items are judged
(`lmstack.evals.judging`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, LmstackError
from lmstack.evals.judging import (
    Asker,
    Item,
    Judgement,
    JudgeRules,
    Jury,
    item_from_row,
    judgement_from_json,
)
from lmstack.evals.judging.judgements import rules_from_json
from lmstack.pipelines.judging import asked_of_all, each_once
from lmstack.pipelines.output_journal import OutputJournal
from lmstack.train.data.rows import BadRow, Row, Rows

__all__ = ["JudgeQuestion", "JudgedItems", "ask_all", "items_in", "kept_in", "own_names", "wanted"]


@dataclass(frozen=True)
class JudgeQuestion:
    """One question: ``item`` put to the judge ``judge`` for the ``repeat``-th time."""

    item: Item
    judge: str
    repeat: int

    @property
    def key(self) -> str:
        return f"{self.judge}/{self.item.key}/{self.repeat}"


def items_in(files: Sequence[Path]) -> tuple[list[Item], list[BadRow]]:
    """The items in ``files``, each once, and the rows that hold none. `InputError` where some are
    pairs and others are not."""

    def of(row: Row) -> Iterator[Item]:
        yield item_from_row(row.values)

    items, bad = each_once(files, of)
    pairs = sum(item.is_pair for item in items)
    if pairs not in (0, len(items)):
        raise InputError(
            f"{pairs} of {len(items)} rows have two answers, the others one",
            hint="judge them from two files",
            param="files",
        )
    return items, bad


def wanted(items: Sequence[Item], judge: str, repeats: int) -> list[JudgeQuestion]:
    """Each item once, then all repeats: a judgement that was stopped has the scores first."""
    return [JudgeQuestion(item, judge, n) for n in range(repeats + 1) for item in items]


def ask_all(
    asker: Asker, asked: Sequence[JudgeQuestion], batch: int
) -> AsyncIterator[tuple[JudgeQuestion, Judgement | None]]:
    async def one(each: JudgeQuestion) -> Judgement:
        return await asker.ask(each.item, each.repeat)

    return asked_of_all(one, asked, batch)


def own_names(judge: str) -> set[str]:
    """The sources that are the judge ``name@digest`` itself."""
    return {judge, judge.partition("@")[0]}


class JudgedItems(OutputJournal):
    """A journal of judgements."""

    def keep(self, asked: JudgeQuestion, judgement: Judgement | None) -> None:
        assert judgement is not None  # what is too long is a judgement with a problem
        self.add(asked.key, judgement.to_json())

    def judgements(self) -> list[Judgement]:
        return [judgement_from_json(each) for each in self.items.values()]

    def rows(
        self, items: Sequence[Item], rules: JudgeRules, decided: Jury | None
    ) -> list[dict[str, Any]]:
        by_item: dict[str, list[Mapping[str, Any]]] = {}
        for each in self.items.values():
            by_item.setdefault(each["item"], []).append(each)
        found = []
        for item in items:
            said = [{k: v for k, v in each.items() if k != "item"} for each in by_item[item.key]]
            row = {**item.to_json(), "rules": rules.to_json(), "judgements": said}
            if decided is not None:
                row["jury"] = decided.decisions.get(item.key)
            found.append(row)
        return found


def kept_in(files: Sequence[Path]) -> tuple[list[Item], list[Judgement], JudgeRules]:
    """What `JudgedItems.rows` wrote. `FormatError` for anything else."""
    items: dict[str, Item] = {}
    judgements: list[Judgement] = []
    rules: JudgeRules | None = None
    for row in Rows(files):
        if isinstance(row, BadRow):
            raise FormatError(f"{row.place}: {row.reason}", hint="give an --output, unchanged")
        try:
            item = item_from_row(row.values)
            own = rules_from_json(row.values.get("rules"))
            said = row.values.get("judgements")
            if not isinstance(said, list):
                raise FormatError("it has no judgements")
            found = [judgement_from_json({"item": item.key, **each}) for each in said]
        except (LmstackError, TypeError) as error:
            message = f"{row.place} is no row of judgements: {error}"
            raise FormatError(message, hint="give an --output, unchanged") from error
        if rules is not None and own != rules:
            raise InputError(f"{row.place} was judged by other rules than the rows before it")
        rules, items[item.key] = own, item
        judgements += found
    if rules is None:
        raise InputError("there are no judgements", hint="give an --output", param="files")
    return list(items.values()), judgements, rules
