"""The models by name, a hundred inputs each, beside transformers on the folder that was pulled.

Both compute in float32 from the same numbers, so the tolerances are float32's: 1e-4 for logits,
2e-5 for vectors and probabilities, and the same tags, tokens and texts. That the numbers are
those of the packages is what `test_named_originals` asks the packages' own run time.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tests.e2e.named_inputs import PAIRS, PASSAGES, PERSONAL, QUERIES, REACTIONS, SENTENCES

import lmstack
from lmstack.registry import load

pytestmark = pytest.mark.weights


def reference(kind, folder):
    model, info = kind.from_pretrained(folder.path, output_loading_info=True, dtype=torch.float32)
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    missing = {name for name in info["missing_keys"] if not name.startswith("pooler.")}
    assert not missing
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder.path)


def batches(values, size=20):
    return (list(values[i : i + size]) for i in range(0, len(values), size))


@torch.no_grad()
def logits_of(model, tokenizer, *texts):
    """Logits of each input, without padding."""
    found = []
    for batch in batches(list(zip(*texts, strict=True))):
        encoded = tokenizer(*map(list, zip(*batch, strict=True)), padding=True, return_tensors="pt")
        output = model(**encoded)
        output = output.logits if "logits" in output else output.last_hidden_state
        mask = encoded["attention_mask"].bool()
        found += [row if output.dim() == 2 else row[m] for row, m in zip(output, mask, strict=True)]
    return found


# All inputs take minutes; every run of the suite looks at some.
def some(step):
    return pytest.mark.parametrize(
        "inputs", [slice(0, 100, step), pytest.param(slice(100), marks=pytest.mark.long)]
    )


@some(19)
def test_reranker_scores_as_transformers_does(reranker, inputs):
    kind = transformers.BertForSequenceClassification
    expected = torch.cat(logits_of(*reference(kind, reranker), *zip(*PAIRS[inputs], strict=True)))
    questions = [{"query": query, "documents": [text]} for query, text in PAIRS[inputs]]
    task = lmstack.task("rerank", load(reranker))
    found = [one.results[0].score for one in task(questions)]
    assert max(found) > 5 > -5 > min(found)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@some(19)
def test_embedder_pools_and_normalizes_as_its_makers_say(bge, inputs):
    texts = [" ".join(pair) for pair in PAIRS[inputs]]
    states = logits_of(*reference(transformers.BertModel, bge), texts)
    expected = torch.nn.functional.normalize(torch.stack([s[0] for s in states]), dim=-1)
    found = [one.vector for one in lmstack.task("sentence-embedding", load(bge))(texts)]
    np.testing.assert_allclose(np.stack(found), expected, atol=2e-5, rtol=0)


def test_embedder_puts_its_prefix_before_queries(bge):
    task = lmstack.task("sentence-embedding", load(bge))
    prefix = "Represent this sentence for searching relevant passages: "
    [asked], [plain] = task([QUERIES[0]], kind="query"), task([prefix + QUERIES[0]])
    np.testing.assert_array_equal(asked.vector, plain.vector)


@some(9)
def test_ner_tags_as_transformers_does(pii_ner, inputs):
    model, tokenizer = reference(transformers.BertForTokenClassification, pii_ner)
    pipeline = transformers.pipeline(
        "token-classification", model, tokenizer=tokenizer, aggregation_strategy="simple"
    )
    found = lmstack.task("ner", load(pii_ner), aggregation="simple")(list(PERSONAL[inputs]))
    kinds = set()
    for text, ours in zip(PERSONAL[inputs], found, strict=True):
        theirs = pipeline(text)
        spans = [(e["entity_group"], e["start"], e["end"]) for e in theirs]
        assert [(e.label, e.start, e.end) for e in ours.entities] == spans, text
        np.testing.assert_allclose(
            [e.score for e in ours.entities], [e["score"] for e in theirs], atol=2e-5, rtol=0
        )
        kinds |= {e.label for e in ours.entities}
    assert {"GIVEN_NAME", "SURNAME", "EMAIL", "STREET_NAME"} <= kinds


@pytest.fixture(scope="module")
def ner(pii_ner):
    return lmstack.task("ner", load(pii_ner))


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("His address is bob@example.com, call him.", ["EMAIL bob@example.com"]),
        ("My email is john.smith42@gmail.com.", ["EMAIL john.smith42@gmail.com"]),
        ("Anna Smith (info@lmu.edu) will attend.", ["EMAIL info@lmu.edu"]),
        (
            "Call (555) 867-5309 or (555) 867-5310.",
            ["PHONE (555) 867-5309", "PHONE (555) 867-5310"],
        ),
        (
            "We met Anna,Peter and Maria.",
            ["GIVEN_NAME Anna", "GIVEN_NAME Peter", "GIVEN_NAME Maria"],
        ),
    ],
)
def test_an_address_is_one_entity_by_default_although_the_model_begins_it_anew(ner, text, whole):
    found = [f"{e.label} {text[e.start : e.end]}" for e in ner(text).entities]
    label = whole[0].split()[0]
    assert [entity for entity in found if entity.startswith(label)] == whole


@some(19)
@torch.no_grad()
def test_albert_fills_masks_as_transformers_does(albert_smiles, inputs):
    model, tokenizer = reference(transformers.AlbertForMaskedLM, albert_smiles)
    texts = [text for text, _ in REACTIONS[inputs]]
    found = lmstack.task("fill-mask", load(albert_smiles), top_k=5)(texts)
    right = 0
    for (text, masked), ours in zip(REACTIONS[inputs], found, strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        place = encoded["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        scores, ids = model(**encoded).logits[0, place].softmax(-1).topk(5)
        [fills] = ours.masks
        assert [fill.id for fill in fills] == ids.tolist(), text
        np.testing.assert_allclose([f.score for f in fills], scores, atol=2e-5, rtol=0)
        right += fills[0].token == masked
    # Weights, vocabulary and pattern belong together: by chance it would be 1 in 500.
    assert right > len(texts) / 3


def test_late_interaction_ranks_the_passage_of_a_question_first(colbert):
    task = lmstack.task("rerank", load(colbert))
    documents = [text[:200] for text in PASSAGES]
    for place in (1, 5):
        assert task(documents, query=QUERIES[place]).results[0].index == place


@pytest.mark.long
@pytest.mark.parametrize("inputs", [slice(0, 100, 24), slice(100)])
def test_t5_translates_as_transformers_does(flan_t5, inputs):
    """`tests/engine/test_encoder_decoder.py` does the same with random models."""
    model, tokenizer = reference(transformers.T5ForConditionalGeneration, flan_t5)
    prefix = "translate English to German: "
    expected = []
    for batch in batches(SENTENCES[inputs], 25):
        encoded = tokenizer([prefix + s for s in batch], padding=True, return_tensors="pt")
        ids = model.generate(**encoded, max_new_tokens=24, do_sample=False)
        expected += tokenizer.batch_decode(ids, skip_special_tokens=True)
    task = lmstack.task("translation", load(flan_t5), prefix=prefix, max_tokens=24, temperature=0)
    found = [one.text.strip() for one in task(list(SENTENCES[inputs]))]
    assert found == [text.strip() for text in expected]
    assert found[0] == "Das Haus ist wunderbar."
