"""What `benchmarks/answers.py` calls right, where a gold is, and that its split is what it was."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _beside() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def data() -> ModuleType:
    import answers_data

    return answers_data


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    import answers_judge

    return answers_judge


@pytest.fixture(scope="module")
def manuals() -> ModuleType:
    import answers_manuals

    return answers_manuals


def test_the_halves_and_what_is_left_out_are_those_of_the_first_day(data):
    asked = ["What is R?", "Why is R named R?", "How can R be obtained?", "Who made it?"]
    assert [data.Item(each, ("fact",)).tuned_on for each in asked] == [True, False, True, False]
    fourth = [n for n in range(8) if data.is_fourth(f"pubmedqa/{n:05}.txt")]
    assert fourth == [2, 3, 5, 7]


def test_a_sample_is_the_same_whatever_the_order_of_items(data):
    items = [data.Item(f"question {n}", ("fact",), (data.Gold("a"),)) for n in range(60)]
    shuffled = random.Random(1).sample(items, len(items))
    one, other = (
        data.Collection("c", "en", {"a": ""}, tuple(each)).sample(20, tuned_on=True)
        for each in (items, shuffled)
    )
    assert one == other
    assert len(one) == 10
    assert all(item.tuned_on for item in one)


def test_a_question_has_no_answer_once_all_its_golds_are_left_out(data):
    names = [f"{n:05}.txt" for n in range(40)]
    items = [data.Item(f"about {a} and {b}", ("fact",), (data.Gold(a), data.Gold(b)))
             for a, b in pairwise(names)]  # fmt: skip
    whole = data.Collection("pubmedqa", "en", dict.fromkeys(names, "text"), tuple(items))
    part = data.without_a_quarter(whole)
    kept = set(part.documents)
    assert 0 < len(names) - len(kept) < len(names) / 2
    for item in part.items:
        there = [gold.path in kept for gold in item.golds]
        assert (item.status == "answerable") == any(there)


def test_a_near_miss_without_what_is_near_is_not_asked(data):
    names = [f"{n:05}.txt" for n in range(40)]
    items = tuple(
        data.Item(f"about {n}", ("fact",), (data.Gold(n),), near_miss=True) for n in names
    )
    whole = data.Collection("pubmedqa", "en", dict.fromkeys(names, "text"), items)
    part = data.without_a_quarter(whole)
    assert {item.golds[0].path for item in part.items} == set(part.documents)


words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=6)


@given(st.lists(words, min_size=1, max_size=8), st.data())
def test_a_phrase_of_a_text_is_in_it_in_other_case_and_punctuation(written, drawn):
    import answers_judge as judge

    start = drawn.draw(st.integers(0, len(written) - 1))
    end = drawn.draw(st.integers(start + 1, len(written)))
    phrase = ", ".join(written[start:end]).upper()
    there = bool(judge.normalized(phrase))
    assert judge.contains("The " + " ".join(written) + ".", phrase) == there


def test_a_word_is_not_found_within_another(judge):
    assert not judge.contains("It costs 1,250 euros.", "25")
    assert not judge.contains("nothing", "thing")
    assert not judge.contains("anything", "the")


def test_recall_does_not_collect_words_from_all_over(judge):
    together = "filler " * 60 + "he died in the war at sea " + "filler " * 60
    apart = "he died " + "filler " * 60 + "in war " + "filler " * 60 + "at sea"
    answer = "He died in the war at sea"
    assert judge.recall(together, answer) == 1.0
    assert judge.recall(apart, answer) < judge.RECALL


spans = st.tuples(st.integers(0, 60), st.integers(1, 40)).map(lambda s: (s[0], s[0] + s[1]))


@given(spans, spans)
def test_overlap_is_half_of_the_shorter_character_by_character(a, b):
    import answers_judge as judge

    shared = len(set(range(*a)) & set(range(*b)))
    expected = shared >= min(a[1] - a[0], b[1] - b[0]) / 2
    assert judge.overlaps(a, b) == judge.overlaps(b, a) == expected


def test_a_section_reaches_to_the_next_number_and_numbers_are_read_whole(data, judge):
    text = "intro § 1 first § 12 twelfth, see “§” § 2 second"
    found = {n: judge.gold_spans(data.Gold("m", n), text) for n in (1, 2, 12, 3)}
    shown = {n: [text[a:b].strip() for a, b in each] for n, each in found.items()}
    assert shown == {1: ["first"], 12: ["twelfth, see “§”"], 2: ["second"], 3: []}
    assert judge.gold_spans(data.Gold("m", 1), "no number") == []


def test_the_right_words_from_another_document_are_not_right(data, judge):
    item = data.Item("When?", ("fact",), (data.Gold("a.txt"),), ("1801",))
    texts = {"a.txt": "It was in 1801.", "b.txt": "It was in 1801."}
    for path, right in (("a.txt", True), ("b.txt", False)):
        shown = judge.Shown(texts[path], (judge.Span(path, 0, 15),), 1.0)
        assert judge.is_right(item, shown, texts) == right
        assert judge.num_precise(item, shown.spans, texts) == right
    refused = judge.Shown("It was in 1801.", (judge.Span("a.txt", 0, 15),), 1.0, refused=True)
    assert not judge.is_right(item, refused, texts)


def test_patterns_forbid_and_require(data, judge):
    forbidden = data.Patterns(forbidden=(r"(?i)ceo is\s+\w+",))
    assert not judge.keeps(forbidden, "Its CEO is Ada.")
    assert judge.keeps(forbidden, "It does not say.")
    required = data.Patterns(required=("not specified", "unknown", r"\d years"), at_least=2)
    assert judge.keeps(required, "Unknown; 3 years")
    assert not judge.keeps(required, "Unknown")


PAGE = """<h1>R FAQ</h1><p>See <a href="#a">What is <b>R</b>?</a> first.</p>
<h2 id="a">2.1 What is <b>R</b>?</h2><p>A system.</p>
<h2 id="b">2.2 Notation</h2><p>As usual.</p>
<h2 id="c">2.3 Why &quot;R&quot;?</h2><p>Of two names; see <i>What is R?</i></p>"""


def test_no_question_is_in_its_own_manual(manuals):
    found = manuals.sections(PAGE)
    assert [s.heading for s in found] == ["R FAQ", "What is R?", "Notation", 'Why "R"?']
    assert [s.anchor for s in found] == ["1", "a", "b", "c"]
    asked = [section.heading for section in found if section.asks]
    page = manuals.neutral(PAGE, found, set(), manuals.any_of(asked))
    plain = re.sub("<[^>]*>", "", page)
    assert "What is" not in plain
    assert "Why" not in plain
    assert [f"§ {n}" in plain for n in range(1, 6)] == [True, True, True, True, False]
    assert "§ 3 Notation" in plain


def test_a_section_that_is_left_out_goes_with_its_heading(manuals):
    found = manuals.sections(PAGE)
    page = manuals.neutral(PAGE, found, {2}, manuals.any_of(["What is R?"]))
    assert "A system" not in page
    assert "§ 2" not in page
    assert "As usual" in page


def test_spans_that_annotators_marked_are_found_again():
    from answers_langtest import quotes_in

    passage = "In May 1983, she married Nikos, a composer. She had a daughter, Sofia, soon."
    marked = "she married Nikos, In May 1983, she married Nikos, a composer, a daughter, Sofia,"
    assert quotes_in(marked, passage) == (
        "she married Nikos",
        "In May 1983, she married Nikos, a composer",
        "a daughter, Sofia",
    )
    assert quotes_in("nothing of this stands there", passage) == ()


def test_each_look_at_the_test_half_says_why():
    log = BENCHMARKS / "answers_looks.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    assert all(row.keys() == {"date", "commit", "why"} and row["why"] for row in rows)


def test_what_is_all_gold_counts_for_refusals_only():
    from answers_data import Collection, Gold, Item
    from answers_judge import Shown, Span
    from answers_outcomes import judged, summary

    texts = {"a.txt": "It is so."}
    item = Item("Is it?", ("fact",), (Gold("a.txt"),))
    quoted = Shown("It is so.", (Span("a.txt", 0, 9),), 0.8, valid=1)
    refused = Shown("No answer.", (), 0.1, refused=True)
    outcomes = [
        judged(Collection("c", "en", texts, (item,), trivial=trivial), "default", item, each, texts)
        for trivial in (True, False)
        for each in (quoted, refused)
    ]
    found = summary(outcomes)
    assert (found["right"]["hits"], found["right"]["of"]) == (1, 2)
    assert (found["refused_wrongly"]["hits"], found["refused_wrongly"]["of"]) == (2, 4)
    assert (found["precise"]["hits"], found["valid"]["of"]) == (1, 2)


def test_confidence_is_compared_within_the_collections_that_have_both():
    from answers_data import Collection, Gold, Item
    from answers_judge import Shown
    from answers_outcomes import judged, summary

    there, gone = Gold("a.txt"), Gold("b.txt", left_out=True)
    outcomes = [
        judged(Collection(name, "en", {}, ()), "default", item, shown, {})
        for name, confidences in (("both", (0.9, 0.8)), ("one", (0.1, None)))
        for gold, confidence in zip((there, gone), confidences, strict=True)
        if confidence is not None
        for item in [Item("Is it?", ("fact",), (gold,))] * 2
        for shown in [Shown("", (), confidence)]
    ]
    area = summary(outcomes)["auc_taken_away"]
    assert (area["area"], area["above"], area["below"]) == (1.0, 2, 2)


def test_rare_kinds_are_filled_up_by_turns_within_one_half(data):
    def collection(name: str, count: int, **how) -> object:
        items = [data.Item(f"{name} {n}", ("how",), (data.Gold("a"),)) for n in range(count)]
        items += [data.Item(f"{name} gone {n}", ("how",), (data.Gold("a", left_out=True),))
                  for n in range(9)]  # fmt: skip
        return data.Collection(name, "en", {"a": ""}, tuple(items), **how)

    large, small, trivial = (
        collection("l", 60),
        collection("s", 8),
        collection("t", 60, trivial=True),
    )
    asked = {each.name: each.sample(4, tuned_on=True) for each in (large, small, trivial)}
    there = {name: sum(i.status == "answerable" for i in items) for name, items in asked.items()}
    found = data.of_kinds(["how", "why"], [large, small, trivial], asked, 16, tuned_on=True)
    new = [item for items in found.values() for item in items]
    assert len(new) + there["l"] + there["s"] == 16
    assert all(item.tuned_on and item.status == "answerable" for item in new)
    assert not {i.question for i in new} & {i.question for each in asked.values() for i in each}
    in_half = sum(i.tuned_on and i.status == "answerable" for i in small.items)
    assert len(found["s"]) == in_half - there["s"]
    assert "t" not in found


def test_what_is_asked_for_its_kind_counts_for_its_kind_alone():
    from dataclasses import replace

    from answers_data import Collection, Gold, Item
    from answers_judge import Shown, Span
    from answers_outcomes import judged, summaries

    texts = {"a.txt": "So it is."}
    item = Item("How?", ("how",), (Gold("a.txt"),))
    shown = Shown("So it is.", (Span("a.txt", 0, 9),), 1.0, valid=1)
    sampled = judged(Collection("c", "en", texts, (item,)), "default", item, shown, texts)
    found = summaries([sampled, replace(sampled, sampled=False)])
    count = {name: each["default"]["right"]["of"]
             for name, each in (("kind", found["kinds"]["how"]), ("all", found["english"]),
                                ("collection", found["collections"]["c"]))}  # fmt: skip
    assert count == {"kind": 2, "all": 1, "collection": 1}


def test_hotpot_golds_are_own_paragraphs_that_hold_the_answer(tmp_path, monkeypatch, data):
    import answers_hotpot as hotpot

    asked = [{"question": f"Which {n}?", "answer": f"Answer {n % 4}"} for n in range(12)]
    asked.append({"question": "Is it?", "answer": "yes"})
    texts = [f"{n}.{m}: " + (f"answer {n % 4}, yes." if m in (2, 5) else "no word of it")
             for n in range(13) for m in range(10)]  # fmt: skip
    (tmp_path / "asked").write_text(json.dumps(asked))
    (tmp_path / "texts").write_text(json.dumps(texts))
    monkeypatch.setattr(hotpot, "_SAMPLES", (("asked", "texts"),))
    monkeypatch.setattr(hotpot, "source_files", lambda _, pair: [tmp_path / name for name in pair])
    found = hotpot.hotpotqa()
    assert len(found.items) == 12
    out = [n for n in range(13) if data.is_fourth(f"hotpotqa/{asked[n]['question']}")]
    assert 0 < len(out) < 6
    for n, item in enumerate(found.items):
        assert [gold.path for gold in item.golds] == [f"{10 * n + m:05}.txt" for m in (2, 5)]
        assert item.status == ("taken_away" if n in out else "answerable")
        assert all((gold.path in found.documents) == (n not in out) for gold in item.golds)
    assert len(found.documents) == 10 * (13 - len(out))


def test_tables_are_asked_for_cells_and_count_for_their_kind_alone(tmp_path, monkeypatch, data):
    import answers_tables as tables

    rows = ['"Place","Rider \\"note\\""', *(f'"{n}","Rider {n}"' for n in range(4))]
    asked = ["id\tutterance\tcontext\ttargetValue"]
    for n in range(16):
        source = f"csv/200-csv/{n}.csv"
        (tmp_path / "csv/200-csv").mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_text("\n".join(rows))
        asked += [f"1\tWho won {n}?\t{source}\tRider 2", f"2\tHow many in {n}?\t{source}\t3"]
    (tmp_path / "data").mkdir()
    (tmp_path / tables._ASKED).write_text("\n".join(asked))
    monkeypatch.setattr(tables, "repository_folder", lambda _: tmp_path)
    found = tables.wikitables()
    assert 0 < len(found.documents) == len(found.items) < 16
    assert all(item.question.startswith("Who") for item in found.items)
    assert {quote for item in found.items for quote in item.golds[0].quotes} == {"2,Rider 2\n"}
    assert all('"Rider ""note"""' in text for text in found.documents.values())
    asked_of = {found.name: found.sample(24, tuned_on=True)}
    assert asked_of == {found.name: []}
    kinds = data.of_kinds(["table"], [found], asked_of, 60, tuned_on=True)
    assert kinds[found.name] == found.half(tuned_on=True) != []


def test_questions_in_another_language_are_summed_up_apart():
    from answers_data import Collection, Gold, Item
    from answers_judge import Shown, Span
    from answers_outcomes import judged, summaries

    texts = {"a.txt": "So ist es."}
    item = Item("How?", ("how",), (Gold("a.txt"),))
    shown = Shown("So ist es.", (Span("a.txt", 0, 10),), 1.0, valid=1)
    outcomes = [
        judged(Collection("c", "de", texts, (item,), asked_in), "default", item, shown, texts)
        for asked_in in ("", "en", "en")
    ]
    found = summaries(outcomes)["languages"]
    assert {name: of["default"]["right"]["of"] for name, of in found.items()} == {
        "de": 1,
        "en on de": 2,
    }
