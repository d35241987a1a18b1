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
are asked a sample of the questions, with ours on the same sample beside them. All are asked and
judged as a task of `lmstack eval` is (`lmstack.evals.metrics.cited_answer`); what is judged here
besides is which edition of a document was cited.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from planted import Corpus, Gold, Question, make_corpus
from questions import load_reranker, parse_settings, share, show, summed
from spine import processor

from lmstack.core import Message, Request, SamplingParams, complete
from lmstack.evals.evaluated_index import EvaluatedIndex
from lmstack.evals.metrics import CitedAnswer, CitedGold
from lmstack.evals.metrics.cited_facts import CitedFacts, FactEvidence, FactSpan
from lmstack.evals.system_tasks import AskIndex
from lmstack.evals.task import IndexSystem, ModelOutput, Sample, Subject
from lmstack.rag import AnswerConfig, Answerer, Document, Index
from lmstack.serve import LocalEmbedder, LocalModel

SEEDS = {"tune": 1, "held out": 2}
TOP, CHUNK, OVERLAP, AT_ONCE = 4, 1000, 100, 8
ASK = (
    "Answer the question in one or two sentences, from the numbered passages only. After each "
    "sentence write the number of its passage in brackets, like [1]. If the passages do not "
    "answer the question, write: I do not know."
)
SCORER = CitedAnswer()
ABSTAINS = re.compile(
    r"\b(do(es)? not|don't|cannot|can't|no) (know|answer|mention|specif|provide|say|state|"
    r"information|contain)",
    re.I,
)


@dataclass
class Outcome:
    """``met``: of each part of what was asked, whether its statement is cited. ``stale``: whether
    one of another edition is."""

    question: Question
    output: ModelOutput
    scores: Mapping[str, float]
    met: Sequence[bool]
    stale: bool

    @property
    def abstained(self) -> bool:
        return bool(self.output.facts["abstained"])

    @property
    def fine(self) -> bool:
        """Right, or refused where nothing answers."""
        return self.scores["correct"] == 1


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

    def spans_of(self, golds: Sequence[Gold]) -> list[FactSpan]:
        return [
            FactSpan(gold.path, start, end)
            for gold in golds
            if gold.path in self.documents
            for start, end in gold.spans(self.documents[gold.path].text)
        ]

    def judge(self, question: Question, output: ModelOutput) -> Outcome:
        sample = sample_for(question)
        facts = CitedFacts.of(sample, output)
        met = [any(c.span.touches(part) for c in facts.citations) for part in facts.evidence]
        stale = self.spans_of(question.stale)
        return Outcome(
            question,
            output,
            SCORER.score(sample, output),
            met,
            any(c.span.touches(stale) for c in facts.citations),
        )

    def asked(self, questions: Sequence[Question], system: IndexSystem, at_once: int) -> Outputs:
        """What ``system`` says to each, ``at_once`` at a time."""
        subject, solver = Subject("side", "side", index=system), AskIndex(faithfulness=False)

        async def all_of_them() -> Outputs:
            limit = asyncio.Semaphore(at_once)

            async def one(question: Question) -> ModelOutput:
                async with limit:
                    return await solver(sample_for(question), subject)

            return list(await asyncio.gather(*map(one, questions)))

        return asyncio.run(all_of_them())


def sample_for(question: Question) -> Sample:
    parts = tuple(tuple(gold.value for gold in part) for part in question.parts)
    evidence = tuple(
        tuple(FactEvidence(gold.path, gold.pattern) for gold in part) for part in question.parts
    )
    sources = tuple(dict.fromkeys(gold.path for part in question.parts for gold in part))
    gold = CitedGold(question.answerable, parts, sources, evidence)
    return Sample(question.id, question.text, metadata={"gold": gold.to_json()})


def ours(side: Side, config: AnswerConfig) -> EvaluatedIndex:
    answerer = Answerer(side.index, side.model, config, reranker=side.reranker)
    return EvaluatedIndex(side.index, answerer)


Passages = Sequence[tuple[str, int, int]]
Outputs = list[ModelOutput]


class Writing:
    """The model writes an answer with "[n]" over the passages that ``find`` gives."""

    def __init__(self, side: Side, find: Callable[[str], Passages]) -> None:
        self._side, self._find = side, find

    async def answer(self, turns: Sequence[Message]) -> ModelOutput:
        question = turns[-1].content
        passages = [
            {"source": path, "start": a, "end": b, "text": self._side.documents[path].text[a:b]}
            for path, a, b in self._find(question)
        ]
        start = time.perf_counter()
        numbered = "\n\n".join(f"[{n}] {each['text']}" for n, each in enumerate(passages, 1))
        request = Request(
            (
                Message("system", ASK),
                Message("user", f"{numbered}\n\nQuestion: {question}"),
            ),
            sampling=SamplingParams(temperature=0, max_tokens=96),
        )
        text = (await complete(self._side.model, request)).text
        numbers = dict.fromkeys(int(n) for n in re.findall(r"\[(\d{1,4})\]", text))
        nothing = {"source": "", "start": 0, "end": 0, "quote": "", "text": None}
        facts = {
            "abstained": bool(ABSTAINS.search(text)),
            "confidence": None,
            "passages": passages,
            "read": len(passages),
            "citations": [
                {"id": n, **passages[n - 1], "quote": passages[n - 1]["text"]}
                if 1 <= n <= len(passages)
                else {"id": n, **nothing}
                for n in numbers
            ],
        }
        return ModelOutput(text, seconds=time.perf_counter() - start, facts=facts)

    async def spans(self, source: str, pattern: str) -> list[tuple[int, int]]:
        document = self._side.documents.get(source)
        return [] if document is None else [m.span() for m in re.finditer(pattern, document.text)]


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
    every = [o.scores for o in outcomes]
    yes = [o for o in outcomes if o.question.answerable]
    no = [row for row in every if not row["answerable"]]
    asked = [o.scores for o in yes]
    versions = [o for o in yes if o.question.stale]
    told = [row for row in every if row["answered"]]
    return {
        "citation_validity": summed(every, "valid_citations", "citations"),
        "citation_precision": summed(asked, "citations_on_evidence", "citations"),
        "precision_all_answers": summed(told, "citations_on_evidence", "citations"),
        "citation_recall": summed(asked, "evidence_cited", "evidence"),
        "right": summed(asked, "answer_correct"),
        "right_when_answered": summed(asked, "answer_correct", "answered"),
        "right_version": share(sum(all(o.met) and not o.stale for o in versions), len(versions)),
        "abstention": summed(no, "correct"),
        "false_abstention": summed(asked, "wrongly_refused"),
        "seconds_an_answer": sum(o.output.seconds for o in outcomes) / max(1, len(outcomes)),
    }


def by_kind(outcomes: Sequence[Outcome]) -> dict[str, str]:
    found = {}
    for kind in dict.fromkeys(o.question.kind for o in outcomes):
        of = [o for o in outcomes if o.question.kind == kind]
        fine = sum(o.fine for o in of)
        abstained = sum(o.abstained for o in of)
        cited = sum(all(o.met) for o in of if o.met)
        found[kind] = f"{fine} of {len(of)} right, {cited} cited, {abstained} abstained"
    return found


def show_wrong(outcomes: Sequence[Outcome]) -> None:
    for o in outcomes:
        if not (o.fine and all(o.met)):
            gold = " | ".join(f"{part[0].value} in {part[0].path}" for part in o.question.parts)
            sure, sources = (
                o.scores["confidence"],
                [c["source"] for c in o.output.facts["citations"]],
            )
            print(f"\n{o.question.id} ({sure:.2f}) {o.question.text}\n  gold {gold}")
            print(f"  -> {o.output.text!r} {sources}")


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

        def record(name: str, questions: Sequence[Question], said: Outputs) -> None:
            outcomes = [side.judge(q, s) for q, s in zip(questions, said, strict=True)]
            summaries[name], kinds[name] = summarise(outcomes), by_kind(outcomes)
            show(f"{name} ({len(outcomes)} questions)", summaries[name])
            for kind, text in kinds[name].items():
                print(f"    {kind:14}{text}")
            if args.wrong and name == "ours":
                show_wrong(outcomes)

        if "ours" in sides:
            said = side.asked(asked, ours(side, config), at_once=1)
            record("ours", asked, said)
            if len(sides) > 1:
                picked = {q.id: s for q, s in zip(asked, said, strict=True)}
                record("ours, same sample", sampled, [picked[q.id] for q in sampled])
        for name in ("free", "chroma"):
            if name in sides:
                find = same_passages(side, config) if name == "free" else chroma_passages(side)
                # Several at once, as a server would.
                record(name, sampled, side.asked(sampled, Writing(side, find), AT_ONCE))
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
