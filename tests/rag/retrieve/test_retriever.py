"""Every stage keeps to what it was given, in an order that does not depend on chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError, ModelInfo
from lmstack.core.scripted import ScriptedModel
from lmstack.rag import Index
from lmstack.rag.catalogue.rows import set_labels
from lmstack.rag.filters import parse_condition
from lmstack.rag.retrieve.retrieval import PRESETS, RetrievalConfig, preset
from lmstack.rag.retrieve.retriever import Retriever

WORDS = ["tower", "light", "egg", "winter", "page", "limit", "stop", "minute"]


class WordReranker:
    """Counts the words that query and passage share."""

    info = ModelInfo("words")

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def score(self, query: str, passages: Sequence[str]) -> np.ndarray:
        self.asked.append((query, len(passages)))
        wanted = set(query.lower().split())
        return np.array([len(wanted & set(p.lower().split())) for p in passages], np.float32)


class WordTokens:
    """A vector a word, the same for the same word."""

    info = ModelInfo("tokens")

    def embed_tokens(self, texts: Sequence[str], kind: str = "passage") -> list[np.ndarray]:
        return [
            np.stack([_vector(word) for word in text.split()] or [_vector("")]) for text in texts
        ]


def _vector(word: str) -> np.ndarray:
    found = np.random.default_rng(sum(word.lower().encode())).normal(size=16).astype(np.float32)
    return found / np.linalg.norm(found)


ALL_STAGES = RetrievalConfig(
    depth=30,
    late_depth=20,
    rerank_depth=10,
    rerank_weight=0.7,
    fresh_days=100,
    today="2026-11-26",
    mmr=0.7,
    expand="section",
)


@pytest.fixture(scope="module")
def index(tmp_path_factory, make_embedder):
    folder = tmp_path_factory.mktemp("retriever")
    for number in range(20):
        lines = [
            f"# Part {part}\n\n" + " ".join(WORDS[(number * part + i) % 8] for i in range(12))
            for part in range(1, 4)
        ]
        (folder / f"{number}.md").write_text("\n\n".join(lines) + f" only{number}\n")
    with Index.open(folder / "index", make_embedder()) as opened:
        opened.update([folder])
        yield opened


def retriever(index: Index, config: RetrievalConfig = ALL_STAGES) -> Retriever:
    return Retriever(index, config, reranker=WordReranker(), late=WordTokens())


questions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
configs = st.builds(
    RetrievalConfig,
    mode=st.sampled_from(["hybrid", "dense", "lexical"]),
    depth=st.integers(1, 60),
    late_depth=st.sampled_from([0, 5, 40]),
    late_weight=st.sampled_from([0.0, 0.5, 1.0]),
    rerank_depth=st.sampled_from([0, 5, 40]),
    rerank_weight=st.sampled_from([0.0, 0.5, 1.0]),
    fresh_days=st.sampled_from([None, 30.0]),
    today=st.just("2026-11-26"),
    versions=st.sampled_from(["prefer_newest", "only_newest", "as_found"]),
    duplicates=st.sampled_from([None, 0.5, 1.0]),
    mmr=st.sampled_from([None, 0.0, 0.5, 1.0]),
    expand=st.sampled_from(["none", "section", "neighbours"]),
    expand_tokens=st.sampled_from([1, 40, 400]),
)


@settings(deadline=None, max_examples=60)
@given(question=questions, config=configs, k=st.integers(1, 15))
def test_hits_are_distinct_spans_of_their_documents_in_order(index, question, config, k):
    hits = retriever(index, config).search(question, k).hits
    assert len(hits) <= k
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert len({hit.chunk_id for hit in hits}) == len(hits)
    for hit in hits:
        assert index.document(hit.document_id).text[hit.start : hit.end] == hit.text
    spans = sorted((hit.document_id, hit.start, hit.end) for hit in hits)
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(spans))


def test_every_stage_embeds_questions_as_queries_and_texts_as_passages(tmp_path, embedder):
    (tmp_path / "a.md").write_text("# Tower\n\nA light.\n\n# Egg\n\nOf a winter.\n")
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([tmp_path])
        retriever(index).search("tower light", 2)
    assert embedder.kinds["query"] == {"tower light"}
    assert "tower light" not in embedder.kinds["passage"]


@settings(deadline=None, max_examples=30)
@given(question=questions, config=configs)
def test_the_same_question_has_the_same_answer(index, question, config):
    one, two = (retriever(index, config).search(question, 8).hits for _ in range(2))
    assert one == two


@settings(deadline=None, max_examples=12)
@given(asked=st.lists(questions, min_size=1, max_size=4), config=configs)
def test_many_at_once_are_as_one_by_one(index, asked, config):
    many = retriever(index, config).search_many(asked, 5)
    singly = [retriever(index, config).search(question, 5) for question in asked]
    assert [each.hits for each in many] == [each.hits for each in singly]


@settings(deadline=None, max_examples=30)
@given(question=questions, config=configs)
def test_every_candidate_is_a_hit_or_has_a_reason_to_be_gone(index, question, config):
    found = retriever(index, config).search(question, 5)
    kept = {hit.chunk_id for hit in found.hits}
    for chunk_id in found.trace.passages:
        assert (chunk_id in kept) != bool(found.trace.fate_of(chunk_id))


@settings(deadline=None, max_examples=30)
@given(question=questions, config=configs, k=st.integers(1, 10))
def test_scores_descend_up_to_the_first_k(index, question, config, k):
    for stage in retriever(index, config).search(question, k).trace.stages:
        scores = [score for _, score in stage.scores]
        if stage.name not in ("mmr", "first k", "expand"):
            assert scores == sorted(scores, reverse=True), stage.name


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, make_embedder):
    """Twelve documents in two folders, a third of them behind a label; and an index of those
    that are not."""
    folder = tmp_path_factory.mktemp("labelled")
    hidden = []
    for number in range(12):
        text = " ".join(WORDS[(number * 3 + i) % 8] for i in range(9))
        for name in ("all", "open"):
            place = folder / name / "ab"[number % 2] / f"policy-v{number}.md"
            if number % 3 != 1 or name == "all":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(f"# Title {number % 4}\n\n{text}\n")
        if number % 3 == 1:
            hidden.append(str(folder / "all" / "ab"[number % 2] / f"policy-v{number}.md"))
    with (
        Index.open(folder / "all.idx", make_embedder()) as everything,
        Index.open(folder / "open.idx", make_embedder()) as visible,
    ):
        everything.update([folder / "all"])
        visible.update([folder / "open"])
        with everything._opened.database.writing() as connection:
            for path in hidden:
                set_labels(connection, path, frozenset({"hr"}))
        yield everything, visible, folder


@settings(deadline=None, max_examples=40)
@given(question=questions, config=configs, k=st.integers(1, 12))
def test_labels_hold_through_every_stage(labelled, question, config, k):
    everything, visible, _ = labelled
    seen = retriever(everything.seen_by(frozenset()), config).search(question, k)
    alone = retriever(visible, config).search(question, k)
    assert [_without_place(h) for h in seen.hits] == [_without_place(h) for h in alone.hits]
    assert _timeless(seen.trace) == _timeless(alone.trace)


def _without_place(hit):
    return Path(hit.path).name, hit.start, hit.text, round(hit.score, 9), hit.ranks


def _timeless(trace):
    """Of a trace all that does not differ between two runs, without ids."""
    names = {i: (Path(h.path).name, h.start) for i, h in trace.passages.items()}
    return [(s.name, [names[i] for i, _ in s.scores], len(s.dropped)) for s in trace.stages]


@settings(deadline=None, max_examples=40)
@given(question=questions, config=configs, k=st.integers(1, 12))
def test_filters_hold_through_every_stage(labelled, question, config, k):
    everything, _, folder = labelled
    where = parse_condition(f"path under {folder}/all/a")
    found = retriever(everything, config).search(question, k, where=where)
    assert {Path(hit.path).parent.name for hit in found.hits} <= {"a"}
    assert {Path(hit.path).parent.name for hit in found.trace.passages.values()} <= {"a"}


def test_without_stages_the_hits_are_those_of_the_index(index):
    config = RetrievalConfig(versions="as_found", duplicates=None, depth=100)
    hits = Retriever(index, config).search("tower light", 10).hits
    assert hits == index.search("tower light", 10)


def test_reranker_decides_among_the_first_and_leaves_the_others_behind(index):
    reranker = WordReranker()
    config = RetrievalConfig(rerank_depth=6, duplicates=None, depth=12)
    found = Retriever(index, config, reranker=reranker).search("egg winter", 12)
    assert reranker.asked == [("egg winter", 6)]
    before, after = (
        next(s for s in found.trace.stages if s.name == name) for name in ("candidates", "rerank")
    )
    first = [i for i, _ in before.scores[:6]]
    assert {i for i, _ in after.scores[:6]} == set(first)
    assert [i for i, _ in after.scores[6:]] == [i for i, _ in before.scores[6:]]


@pytest.mark.parametrize(("reads", "asked"), [(("en",), 0), (("de",), 1), ((), 1)])
def test_reranker_is_left_out_where_it_does_not_read_the_passages(
    tmp_path, make_embedder, reads, asked
):
    for number in range(4):
        head = "---\nlanguage: de\n---\n" if number else ""
        (tmp_path / f"{number}.md").write_text(f"{head}egg winter tower only{number}\n")
    reranker = WordReranker()
    reranker.info = ModelInfo("words", languages=reads)
    config = RetrievalConfig(rerank_depth=4)
    with Index.open(tmp_path / "index", make_embedder()) as opened:
        opened.update([tmp_path])
        plain = Retriever(opened).search("egg only3", 4).hits
        found = Retriever(opened, config, reranker=reranker).search("egg only3", 4)
    assert len(reranker.asked) == asked
    note = next(stage.note for stage in found.trace.stages if stage.name == "rerank")
    if not asked:
        assert [h.chunk_id for h in found.hits] == [h.chunk_id for h in plain]
        assert note.startswith("skipped: words does not read")
    else:
        assert note == "words"


def test_a_weight_of_zero_leaves_the_order(index):
    config = RetrievalConfig(rerank_depth=20, rerank_weight=0)
    plain = Retriever(index, RetrievalConfig()).search("egg winter", 10).hits
    weighed = Retriever(index, config, reranker=WordReranker()).search("egg winter", 10).hits
    assert [h.chunk_id for h in weighed] == [h.chunk_id for h in plain]


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (RetrievalConfig(rerank_depth=5), "reranker"),
        (RetrievalConfig(late_depth=5), "late"),
        (RetrievalConfig(variants=2), "model"),
        (RetrievalConfig(hyde=True), "model"),
        (RetrievalConfig(rewrite="model"), "model"),
    ],
)
def test_a_stage_without_its_model_is_refused_at_once(index, config, part):
    with pytest.raises(InputError, match=f"need a {part}"):
        Retriever(index, config)


def test_follow_up_is_searched_with_the_question_before(index):
    history = [("Where is only7?", "Here.")]
    by_words = Retriever(index, RetrievalConfig(mode="lexical"))
    found = by_words.search("And what about it?", 3, history=history)
    assert found.query == "Where is only7? And what about it?"
    assert Path(found.hits[0].path).stem == "7"


def test_model_rewrites_a_follow_up_to_a_question_of_its_own(index):
    model = ScriptedModel(["1. Where is only7?\n"])
    config = RetrievalConfig(rewrite="model")
    found = Retriever(index, config, model=model).search(
        "And where is it?", 3, history=[("What is only7?", "A word.")]
    )
    assert found.query == "Where is only7?"


def test_variants_are_searched_for_and_fused(index):
    model = ScriptedModel(["- only3\n- only5\n"])
    config = RetrievalConfig(variants=2, mode="lexical")
    found = Retriever(index, config, model=model).search("only7", 3)
    assert found.trace.queries == ("only7", "only3", "only5")
    assert {Path(hit.path).stem for hit in found.hits} == {"3", "5", "7"}


def test_hyde_searches_near_the_passage_that_the_model_made_up(index):
    model = ScriptedModel(["only9 only9 only9"])
    config = RetrievalConfig(hyde=True, mode="dense")
    plain = Retriever(index, RetrievalConfig(mode="dense")).search("nothing known", 1)
    found = Retriever(index, config, model=model).search("nothing known", 1)
    assert Path(found.hits[0].path).stem == "9"
    assert not np.array_equal(plain.vector, found.vector)


def test_model_that_says_nothing_changes_nothing(index):
    config = RetrievalConfig(variants=2, hyde=True)
    plain = Retriever(index).search("only7", 5).hits
    assert (
        Retriever(index, config, model=ScriptedModel(["\n", " "])).search("only7", 5).hits == plain
    )


def test_trace_says_ranks_and_why_a_passage_is_gone(index):
    found = retriever(index).search("egg winter", 2)
    shown = found.trace.to_json()
    assert [stage["name"] for stage in shown["stages"]][:4] == [
        "query",
        "candidates",
        "late",
        "rerank",
    ]
    first = found.hits[0]
    [mine] = [p for p in shown["passages"] if (p["path"], p["gone"]) == (first.path, "")][:1]
    assert mine["stages"]["first k"]["rank"] == 1
    assert any(p["gone"] for p in shown["passages"])


def test_document_that_went_meanwhile_is_left_as_it_was_found(tmp_path, embedder, docs):
    with Index.open(tmp_path / "index", embedder) as index:
        index.update([docs])
        found = index.search("lighthouse", 3)

        class Gone:
            embedder = index.embedder
            passage_spans = index.passage_spans
            fields_of = index.fields_of

            def search_many(self, *_: object, **__: object) -> list:
                index.remove([docs])
                return [found]

            def document(self, which: int):
                return index.document(which)

        hits = Retriever(Gone(), RetrievalConfig(expand="section")).search("lighthouse", 3).hits
        assert [h.text for h in hits] == [h.text for h in found]


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "magic"},
        {"rewrite": "maybe"},
        {"expand": "all"},
        {"depth": 0},
        {"mmr": 1.5},
        {"fresh_days": 0},
        {"today": "soon"},
        {"hyde": True, "mode": "lexical"},
        {"rerank_weight": float("nan")},
    ],
)
def test_settings_check_themselves(changes):
    with pytest.raises(InputError):
        RetrievalConfig(**changes)


def test_unknown_preset_names_the_presets():
    assert preset("fast") == PRESETS["fast"]
    with pytest.raises(InputError, match="turbo"):
        preset("turbo")


def test_a_reranker_reads_what_is_named_and_leaves_behind_what_mentions_it(tmp_path, make_embedder):
    """Words and cosines are of the other reports, which the reranker likes better, too."""
    folder = tmp_path / "reports"
    folder.mkdir()
    for n in range(60):
        before = 4500 + n if n % 15 else 4607
        text = f"Report {4600 + n}. It follows up report {before} of the boiler house."
        more = " The seals were renewed, and the pump was cleaned and closed." * 3
        (folder / f"{n:02}.txt").write_text(text + (more if n == 7 else " Boiler code."))
    with Index.open(tmp_path / "index", make_embedder()) as index:
        index.update([folder])
        config = RetrievalConfig(rerank_depth=4)
        hits = Retriever(index, config, reranker=WordReranker()).search("boiler code of 4607?").hits
    assert hits[0].path.endswith("07.txt")


def test_names_order_nothing_where_most_of_what_is_found_looks_like_nothing_else(
    tmp_path, make_embedder
):
    """Two pages look alike, and neither has the name: that says nothing of a dozen others."""
    folder = tmp_path / "pages"
    folder.mkdir()
    shared = "oxygen of the air is abundant and the sea is deep"
    for n in range(60):
        own = " ".join(f"word{n}{letter}" for letter in "abcdefghi")
        text = f"{shared} {n}" if n < 2 else f"Oxygen {own}. " + ("By Vega." if n == 5 else "")
        (folder / f"{n:02}.txt").write_text(text)
    with Index.open(tmp_path / "index", make_embedder()) as index:
        index.update([folder])
        config = RetrievalConfig(rerank_depth=10, duplicates=None)
        retriever = Retriever(index, config, reranker=WordReranker())
        hits = retriever.search("abundant oxygen of the sea, Vega", 10).hits
    assert {hit.path[-6:] for hit in hits[:2]} == {"00.txt", "01.txt"}
