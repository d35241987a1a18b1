"""Divergence, entropy, perplexity and predictions, against whole logits of each model."""

from __future__ import annotations

import math

import pytest
import torch
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.app.comparison.scoring import SideScorer, difference_of
from lmstack.core import InputError, Message
from lmstack.evals.answers import ModelAnswer, Pairing
from lmstack.registry import LoadedModel
from lmstack.text import ChatTemplate, Tokenizer

END = "<|end|>"
TEMPLATE = ChatTemplate(
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
)
TEXT = "The first of many sentences, and then another one. " * 14


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def model(seed: int, *tokens: str) -> LoadedModel:
    tokenizer = Tokenizer.from_json(byte_level(END, *tokens).to_str(), {"eos_token": END})
    made = tiny_decoder(tokenizer, template=TEMPLATE)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in made.module.parameters():
            weight.add_(torch.randn(weight.shape) * 0.3)
    return made


@pytest.fixture(scope="module")
def models() -> tuple[LoadedModel, LoadedModel]:
    return model(1), model(2)


def logs(of: LoadedModel, ids: list[int]) -> torch.Tensor:
    """(T, V) in float64, of the whole sequence at once."""
    with torch.no_grad():
        found = of.module(torch.tensor([ids])).logits[0]
    return found.double().log_softmax(-1)


def pairing(of: LoadedModel, number: int) -> Pairing:
    def answer(text: str, finish: str) -> ModelAnswer:
        ids = tuple(of.tokenizer.encode(text))
        return ModelAnswer(text, len(ids) + (finish == "stop"), finish, None, ids)  # type: ignore[arg-type]

    messages = (Message("user", f"question {number}"),)
    return Pairing(
        messages,
        (answer("yes, it is", "stop"), answer("no", "length")),
        (answer("well, " * (number + 1), "length"), answer("", "stop")),
    )


def test_sums_are_those_of_whole_logits(models: tuple[LoadedModel, LoadedModel]) -> None:
    base, tuned = models
    pairings = [pairing(base, number) for number in range(3)]
    found = SideScorer(base, tuned).answers(pairings)
    for number, each in enumerate(pairings):
        prompt = TEMPLATE.encode(each.messages, base.tokenizer)
        divergence = entropy = 0.0
        for answer in each.tuned:
            ids = [*prompt, *answer.ids]
            ours, theirs = logs(tuned, ids), logs(base, ids)
            places = slice(len(prompt) - 1, len(prompt) - 1 + answer.tokens)
            divergence += float((ours.exp() * (ours - theirs))[places].sum())
            entropy -= float((ours.exp() * ours)[places].sum())
        assert found.divergence[number] == pytest.approx(divergence, rel=1e-4)
        assert found.tuned_entropy[number] == pytest.approx(entropy, rel=1e-4)
        assert found.tokens[number] == sum(answer.tokens for answer in each.tuned)
        assert found.base_tokens[number] == len("yes, it is") + 1 + len("no")
    assert found.answers.tolist() == [2, 2, 2]


def test_a_model_does_not_diverge_from_itself(models: tuple[LoadedModel, LoadedModel]) -> None:
    base, _ = models
    found = SideScorer(base, base).answers([pairing(base, 0)])
    assert found.divergence[0] == 0
    assert found.tuned_entropy[0] > 0
    scored = SideScorer(base, base).text(TEXT)
    assert scored.base_nll.tolist() == scored.tuned_nll.tolist()


def test_the_divergence_is_what_drawn_tokens_have_on_average(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    """Its expectation over answers of one token is that of the difference of log-probabilities."""
    base, tuned = models
    messages = (Message("user", "q"),)
    prompt = TEMPLATE.encode(messages, base.tokenizer)
    ours, theirs = logs(tuned, prompt)[-1], logs(base, prompt)[-1]
    drawn = torch.multinomial(ours.exp(), 4000, replacement=True, generator=torch.manual_seed(0))
    estimate = float((ours - theirs)[drawn].mean())
    answer = ModelAnswer("a", 1, "length", None, (int(drawn[0]),))
    found = SideScorer(base, tuned).answers([Pairing(messages, (answer,), (answer,))])
    assert found.divergence[0] == pytest.approx(estimate, rel=0.1)


def test_perplexity_and_predictions_are_those_of_each_passage(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    base, tuned = models
    told: list[tuple[int, int]] = []
    found = SideScorer(base, tuned).text(TEXT, lambda done, total: told.append((done, total)))
    ids = base.tokenizer.encode(TEXT)
    size = 256 if base.module.config.max_positions >= 256 else base.module.config.max_positions
    windows = [ids[i : i + size] for i in range(0, len(ids), size)]
    assert told[-1] == (len(windows), len(windows))
    for number, window in enumerate(windows):
        whole = logs(tuned, window)[:-1]
        targets = torch.tensor(window[1:])
        nll = -float(whole.gather(-1, targets[:, None]).sum())
        assert found.tuned_nll[number] == pytest.approx(nll, rel=1e-4)
        best, place = whole.max(-1)
        assert found.tuned[number].confidence == pytest.approx(best.exp().numpy(), rel=1e-3)
        assert found.tuned[number].correct.tolist() == (place == targets).double().tolist()
    assert found.tokens.sum() == len(ids) - len(windows)
    assert math.isfinite(found.base_nll.sum())


def test_models_with_other_tokens_are_not_scored_together(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    base, _ = models
    other = model(3, "<|more|>")
    assert difference_of(base, base) is None
    assert "vocabular" in (difference_of(base, other) or "")
    with pytest.raises(InputError, match="cannot be scored together"):
        SideScorer(base, other)
