"""Citations on the planted-fact corpus: lmstack's answers beside the same model writing "[n]".

    make bench-citations                                 the held-out set, all three sides
    python benchmarks/citations.py --seed 1 --tune       the set that may be tuned on
    python benchmarks/citations.py --only ours --wrong   list what went wrong
    python benchmarks/citations.py --quick               eight questions, two for the other sides

The corpus (`planted`) is generated from the seed; questions of the held-out set are asked in other
words, about other entities in half of the cases. Sides: `ours` is `lmstack ask` as it is;
`free` gives the same model the same passages and asks for "[n]"; `chroma` does so with the nearest
chunks of Chroma over the same extracted texts, embedded by the same MiniLM that is Chroma's usual
one. A citation of `free` and `chroma` is a whole passage, and counts as precise if the planted
statement lies in it; ours must overlap the statement with the sentence that it quotes. The two
are asked a sample of the questions, with ours on the same sample beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from planted import Corpus, Question, make_corpus
from questions import load_reranker, parse_settings, share, show
from spine import processor

from lmstack.core import Message, Request, SamplingParams, complete
from lmstack.rag import AnswerConfig, Answerer, Document, Index
from lmstack.rag.documents import page_of
from lmstack.serve import LocalEmbedder, LocalModel

SEEDS = {"tune": 1, "held out": 2}
TOP, CHUNK, OVERLAP, AT_ONCE = 4, 1000, 100, 8
ASK = (
    "Answer the question in one or two sentences, from the numbered passages only. After each "
    "sentence write the number of its passage in brackets, like [1]. If the passages do not "
    "answer the question, write: I do not know."
)
ABSTAINS = re.compile(
    r"\b(do(es)? not|don't|cannot|can't|no) (know|answer|mention|specif|provide|say|state|"
    r"information|contain)",
    re.I,
)


@dataclass(frozen=True)
class Cited:
    """A cited span of a document; ``valid``: it exists, and says what it is said to."""

    path: str
    start: int
    end: int
    valid: bool


@dataclass(frozen=True)
class Said:
    text: str
    abstained: bool
    citations: tuple[Cited, ...]
    seconds: float
    note: str = ""


@dataclass
class Outcome:
    question: Question
    said: Said
    met: list[bool] = field(default_factory=list)
    precise: int = 0
    stale: bool = False

    @property
    def right(self) -> bool:
        """The values that were asked for are in the answer."""
        parts = self.question.parts
        return (
            bool(parts)
            and not self.said.abstained
            and all(any(gold.is_in(self.said.text) for gold in part) for part in parts)
        )


class Side:
    """The corpus indexed, and the models loaded."""

    def __init__(self, stack: ExitStack, seed: int, *, held_out: bool, model: str) -> None:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.corpus: Corpus = make_corpus(scratch / "docs", seed, held_out=held_out)
        self.embedder = LocalEmbedder.load("all-minilm-l6-v2")
        self.model = LocalModel.load(model)
        stack.callback(self.model.close)
        self.reranker = load_reranker()
        self.index = stack.enter_context(Index.open(scratch / "index", self.embedder))
        result = self.index.update([self.corpus.folder])
        if result.problems:
            print(f"{len(result.problems)} files not read: {result.problems[0]}", file=sys.stderr)
        self.documents: dict[str, Document] = {}
        for info in self.index.documents():
            document = self.index.document(info.id)
            name = pathlib.Path(document.path).resolve()
            self.documents[str(name.relative_to(self.corpus.folder.resolve()))] = document
        self.questions = [q for q in self.corpus.questions if self._readable(q)]

    def _readable(self, question: Question) -> bool:
        """Every gold is in the extracted text; what is not was lost in extraction."""
        return all(
            any(gold.path in self.documents for gold in part)
            and all(
                gold.spans(self.documents[gold.path].text)
                for gold in part
                if gold.path in self.documents
            )
            for part in question.parts
        )

    def name(self, path: str) -> str:
        return str(pathlib.Path(path).resolve().relative_to(self.corpus.folder.resolve()))

    def spans_of(self, path: str, pattern: str) -> list[tuple[int, int]]:
        document = self.documents.get(path)
        return [] if document is None else [m.span() for m in re.finditer(pattern, document.text)]

    def judge(self, question: Question, said: Said) -> Outcome:
        outcome = Outcome(question, said)
        golds = [[(g.path, s) for g in part for s in self.spans_of(g.path, g.pattern)]
                 for part in question.parts]  # fmt: skip
        stale = [(g.path, s) for g in question.stale for s in self.spans_of(g.path, g.pattern)]
        outcome.met = [any(_touches(c, part) for c in said.citations) for part in golds]
        outcome.precise = sum(any(_touches(c, part) for part in golds) for c in said.citations)
        outcome.stale = any(_touches(c, stale) for c in said.citations)
        return outcome


def _touches(cited: Cited, spans: Sequence[tuple[str, tuple[int, int]]]) -> bool:
    return any(
        path == cited.path and cited.start < end and start < cited.end
        for path, (start, end) in spans
    )


def ask_ours(side: Side, questions: Sequence[Question], config: AnswerConfig) -> list[Said]:
    answerer = Answerer(side.index, side.model, config, reranker=side.reranker)
    said = []
    for question in questions:
        start = time.perf_counter()
        answer = asyncio.run(answerer.answer(question.text))
        seconds = time.perf_counter() - start
        cited = []
        for c in answer.citations:
            document = side.documents[side.name(c.path)]
            valid = (
                document.text[c.start : c.end] == c.quote
                and f"[{c.id}]" in answer.answer
                and c.page == page_of(document.pages, c.start)
            )
            cited.append(Cited(side.name(c.path), c.start, c.end, valid))
        note = f"{answer.confidence:.2f}"
        said.append(Said(answer.answer, answer.outcome != "answer", tuple(cited), seconds, note))
    return said


Passages = Sequence[tuple[str, int, int]]


async def _write(side: Side, question: Question, passages: Passages) -> Said:
    """The model writes an answer with "[n]" over ``passages``."""
    start = time.perf_counter()
    texts = [side.documents[path].text[a:b] for path, a, b in passages]
    numbered = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(texts, 1))
    request = Request(
        (
            Message("system", ASK),
            Message("user", f"{numbered}\n\nQuestion: {question.text}"),
        ),
        sampling=SamplingParams(temperature=0, max_tokens=96),
    )
    text = (await complete(side.model, request)).text
    numbers = dict.fromkeys(int(n) for n in re.findall(r"\[(\d{1,4})\]", text))
    cited = [
        Cited(*passages[n - 1], True) if 1 <= n <= len(passages) else Cited("", 0, 0, False)
        for n in numbers
    ]
    seconds = time.perf_counter() - start
    return Said(text, bool(ABSTAINS.search(text)), tuple(cited), seconds)


async def ask_writing(
    side: Side, questions: Sequence[Question], find: Callable[[str], Passages]
) -> list[Said]:
    """Several at once, as a server would."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question) -> Said:
        async with limit:
            return await _write(side, question, find(question.text))

    return list(await asyncio.gather(*map(one, questions)))


def same_passages(side: Side, config: AnswerConfig) -> Callable[[str], Passages]:
    answerer = Answerer(side.index, side.model, config, reranker=side.reranker)
    return lambda text: [
        (side.name(hit.path), hit.start, hit.end) for hit in answerer.find(text).hits[:TOP]
    ]


def chroma_passages(side: Side) -> Callable[[str], Passages]:
    import chromadb

    settings = chromadb.Settings(anonymized_telemetry=False)
    collection = chromadb.EphemeralClient(settings).get_or_create_collection(
        "planted", metadata={"hnsw:space": "cosine"}, embedding_function=None
    )
    spans = [
        (path, start, min(start + CHUNK, len(document.text)))
        for path, document in side.documents.items()
        for start in range(0, max(1, len(document.text) - OVERLAP), CHUNK - OVERLAP)
    ]
    texts = [side.documents[path].text[start:end] for path, start, end in spans]
    for at in range(0, len(spans), 64):
        rows = range(at, min(at + 64, len(spans)))
        collection.add(
            ids=[str(n) for n in rows],
            embeddings=side.embedder.embed([texts[n] for n in rows], "passage"),
            documents=[texts[n] for n in rows],
        )

    def find(text: str) -> Passages:
        vector = side.embedder.embed([text], "query")
        found = collection.query(query_embeddings=vector, n_results=TOP)
        return [spans[int(n)] for n in found["ids"][0]]

    return find


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    yes = [o for o in outcomes if o.question.answerable]
    no = [o for o in outcomes if not o.question.answerable]
    versions = [o for o in yes if o.question.stale]
    answered = [o for o in yes if not o.said.abstained]
    cited = [c for o in outcomes for c in o.said.citations]
    told = [o for o in outcomes if not o.said.abstained]
    return {
        "citation_validity": share(sum(c.valid for c in cited), len(cited)),
        "citation_precision": share(
            sum(o.precise for o in yes), sum(len(o.said.citations) for o in yes)
        ),
        "precision_all_answers": share(
            sum(o.precise for o in told), sum(len(o.said.citations) for o in told)
        ),
        "citation_recall": share(sum(sum(o.met) for o in yes), sum(len(o.met) for o in yes)),
        "right": share(sum(o.right for o in yes), len(yes)),
        "right_when_answered": share(sum(o.right for o in answered), len(answered)),
        "right_version": share(sum(all(o.met) and not o.stale for o in versions), len(versions)),
        "abstention": share(sum(o.said.abstained for o in no), len(no)),
        "false_abstention": share(sum(o.said.abstained for o in yes), len(yes)),
        "seconds_an_answer": sum(o.said.seconds for o in outcomes) / max(1, len(outcomes)),
    }


def by_kind(outcomes: Sequence[Outcome]) -> dict[str, str]:
    found = {}
    for kind in dict.fromkeys(o.question.kind for o in outcomes):
        of = [o for o in outcomes if o.question.kind == kind]
        fine = sum(o.right if o.question.answerable else o.said.abstained for o in of)
        abstained = sum(o.said.abstained for o in of)
        cited = sum(all(o.met) for o in of if o.met)
        found[kind] = f"{fine} of {len(of)} right, {cited} cited, {abstained} abstained"
    return found


def show_wrong(outcomes: Sequence[Outcome]) -> None:
    for o in outcomes:
        fine = o.right and all(o.met) if o.question.answerable else o.said.abstained
        if not fine:
            gold = " | ".join(f"{part[0].value} in {part[0].path}" for part in o.question.parts)
            print(f"\n{o.question.id} ({o.said.note}) {o.question.text}\n  gold {gold}")
            print(f"  -> {o.said.text!r} {[c.path for c in o.said.citations]}")


def sample_of(questions: Sequence[Question], count: int) -> list[Question]:
    """About ``count`` of them, each kind with its share."""
    draw = random.Random(0)
    by: dict[str, list[Question]] = {}
    for question in questions:
        by.setdefault(question.kind, []).append(question)
    picked: list[Question] = []
    for of in by.values():
        wanted = max(1, round(count * len(of) / len(questions)))
        picked += draw.sample(of, min(wanted, len(of)))
    return picked


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="the set that may be tuned on")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--only", choices=("ours", "free", "chroma"), action="append")
    parser.add_argument("--limit", type=int, default=None, help="so many questions in all")
    parser.add_argument("--sample", type=int, default=150, help="questions for the other sides")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--wrong", action="store_true", help="list what ours got wrong")
    parser.add_argument("--quick", action="store_true", help="eight questions, two of other sides")
    parser.add_argument("--json", type=pathlib.Path, default=None)
    args = parser.parse_args()
    if args.quick:
        args.limit, args.sample = 8, 2
    group = "tune" if args.tune else "held out"
    config = parse_settings(args.set)
    sides = args.only or ["ours", "free", "chroma"]
    summaries: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    with ExitStack() as stack:
        seed = SEEDS[group] if args.seed is None else args.seed
        side = Side(stack, seed, held_out=not args.tune, model=args.model)
        asked = side.questions
        lost = len(side.corpus.questions) - len(asked)
        if args.limit is not None:
            asked = sample_of(asked, args.limit)
        print(f"{len(side.corpus.facts)} facts, {len(asked)} questions, {lost} not extracted")
        sampled = sample_of(asked, args.sample)

        def record(name: str, questions: Sequence[Question], said: Sequence[Said]) -> None:
            outcomes = [side.judge(q, s) for q, s in zip(questions, said, strict=True)]
            summaries[name], kinds[name] = summarise(outcomes), by_kind(outcomes)
            show(f"{name} ({len(outcomes)} questions)", summaries[name])
            for kind, text in kinds[name].items():
                print(f"    {kind:14}{text}")
            if args.wrong and name == "ours":
                show_wrong(outcomes)

        if "ours" in sides:
            said = ask_ours(side, asked, config)
            record("ours", asked, said)
            if len(sides) > 1:
                picked = {q.id: s for q, s in zip(asked, said, strict=True)}
                record("ours, same sample", sampled, [picked[q.id] for q in sampled])
        for name in ("free", "chroma"):
            if name in sides:
                find = same_passages(side, config) if name == "free" else chroma_passages(side)
                record(name, sampled, asyncio.run(ask_writing(side, sampled, find)))
        figures = {"documents": len(side.documents), "facts": len(side.corpus.facts)}
    print(f"\non {processor()}")
    if args.json:
        runs = json.loads(args.json.read_text()) if args.json.exists() else {}
        runs[group] = {
            "machine": processor(),
            **figures,
            "seed": seed,
            "summaries": summaries,
            "kinds": kinds,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
