"""BERTScore with an encoder of the store, against bert-score with transformers' model."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evals.metrics.outputs import asked, wrote

from lmstack.core import InputError
from lmstack.evals import token_encoder
from lmstack.evals.metrics import BertScore, bert_score, make_scorer
from lmstack.evals.task_data import task_named
from lmstack.evals.token_encoder import LayerEncoder
from lmstack.registry import load

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

pytestmark = pytest.mark.weights
texts = st.lists(
    st.sampled_from(
        [
            "the",
            "a",
            "cat",
            "dogs",
            "sat",
            "on",
            "mats,",
            "ran",
            "42",
            "unbelievably!",
            "café",
            "日本",
        ]
    ),
    max_size=12,
).map(" ".join)


class Theirs:
    """bert-score's own steps, on a model of transformers cut after ``layer``."""

    def __init__(self, folder: Path, layer: int) -> None:
        import transformers  # it takes seconds, with bert-score

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder).eval()
        self.model.encoder.layer = self.model.encoder.layer[:layer]

    def scores(self, pairs: list[tuple[str, str]], idf: bool) -> np.ndarray:
        """(N, 3) of texts and their references: precision, recall, F1."""
        from bert_score.utils import bert_cos_score_idf, get_idf_dict

        hypotheses, references = map(list, zip(*pairs, strict=True))
        weights: Any = defaultdict(lambda: 1.0)
        if idf:
            weights = get_idf_dict(references, self.tokenizer, nthreads=1)
        else:
            weights[self.tokenizer.sep_token_id] = weights[self.tokenizer.cls_token_id] = 0
        found = bert_cos_score_idf(
            self.model, references, hypotheses, self.tokenizer, weights, device="cpu"
        )
        return np.asarray(found)


@pytest.fixture(scope="module")
def loaded(minilm: ModelFolder) -> Any:
    return load(minilm, weights="float32")


@pytest.mark.parametrize("layer", [pytest.param(3, marks=pytest.mark.long), 6])
def test_scores_are_those_of_bert_score(loaded: Any, minilm: ModelFolder, layer: int) -> None:
    ours, theirs = LayerEncoder(loaded, layer), Theirs(minilm.path, layer)

    @given(texts.filter(bool), texts.filter(bool))
    @settings(max_examples=20, deadline=None)
    def check(text: str, reference: str) -> None:
        """A pair at a time: in a batch, bert-score lets padding count as a token of cosine 0."""
        [expected] = theirs.scores([(text, reference)], idf=False)
        found = bert_score(*ours.token_vectors([text, reference]))
        assert found == pytest.approx(expected.tolist(), abs=2e-5)

    check()


def test_weights_by_document_frequency_are_those_of_bert_score(
    loaded: Any, minilm: ModelFolder
) -> None:
    pairs = [("a cat sat on a mat", "the cat sat on the mat"), ("dogs ran", "the dogs ran home")]
    samples = [asked(target) for _, target in pairs]
    scorer = BertScore.with_idf(LayerEncoder(loaded), samples)
    expected = Theirs(minilm.path, 6).scores(pairs, idf=True)
    for sample, (text, _), row in zip(samples, pairs, expected, strict=True):
        found = scorer.score(sample, wrote(text))
        names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
        assert [found[name] for name in names] == pytest.approx(row.tolist(), abs=2e-5)


def test_texts_that_are_empty_or_beyond_the_window_are_scored(loaded: Any) -> None:
    encoder = LayerEncoder(loaded)
    empty, long, text = encoder.token_vectors(["", "cat " * 2000, "cat"])
    assert len(empty.tokens) == 2
    assert len(long.tokens) == loaded.module.config.max_positions
    assert bert_score(empty, text) == (0, 0, 0)
    assert 0 < bert_score(long, text).f1 < bert_score(text, text).f1


def test_the_layer_and_the_model_are_in_the_signature(loaded: Any) -> None:
    ends = {BertScore(LayerEncoder(loaded, layer)).signature for layer in (0, 3, None)}
    assert len(ends) == 3
    assert all(each.startswith(loaded.digest) for each in ends)
    with pytest.raises(InputError, match="no layer 7"):
        LayerEncoder(loaded, 7)


def test_a_task_file_names_the_model_and_the_layer(
    tmp_path: Path, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def encoder(model: str | None, layer: int | None) -> LayerEncoder:
        opened.append((model, layer))
        return LayerEncoder(loaded, layer)

    monkeypatch.setattr("lmstack.evals.task_data.layer_encoder", encoder)
    rows = [{"q": "Where?", "a": "on the mat"}, {"q": "Who?", "a": "the cat"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: told\ndata: rows.jsonl\ninput: '{{q}}'\ntargets: a\nsolver: generate\n"
        "sampling: {temperature: 0, max_tokens: 4}\n"
        "scorer: {name: bert_score, model: small, layer: 4, idf: true}\n"
    )
    task = task_named(str(tmp_path / "task.yaml"), {})
    assert opened == [("small", 4)]
    assert f"{loaded.digest}_L4_idf[" in task.protocol["scorer"]["signature"]
    right, wrong = (
        asyncio.run(task.scorer(task.dataset.samples[1], wrote(text)))["bertscore_f1"]
        for text in ("a cat", "seven o'clock")
    )
    assert right > wrong


def test_the_usual_model_is_opened_in_float32(
    minilm: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []

    def opening(model: str, weights: str) -> Any:
        wanted.append((model, weights))
        return load(minilm, weights=weights)

    monkeypatch.setattr("lmstack.registry.load", opening)
    scorer = make_scorer("bert_score", encoder=token_encoder.layer_encoder)
    assert wanted == [("all-minilm-l6-v2", "float32")]
    assert scorer.protocol["name"] == "bert_score"
