"""Pages without a script, in a browser: legible in both themes, and no wider than a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.app.page.looks import CONTRASTS
from tests.evals.synthetic import paired_answers
from tests.evals.test_comparison import scores, text_scores

from lmstack.app.comparison.page import report_page
from lmstack.app.comparison.report import Report
from lmstack.app.inspect.token_page import token_page
from lmstack.evals.comparison import compare
from lmstack.text import TokenPiece

pytestmark = pytest.mark.browser


def words_of(_prompt: str, text: str) -> float:
    return 0.05 * len(text.split())


def comparison() -> str:
    found = compare(
        paired_answers(words_of, seed=1, longer=3),
        scores=scores(24, 0.3),
        text=text_scores(0.2, 0.3),
        rescore=lambda texts: [words_of("", text) for _, text in texts],
    )
    return report_page(Report("base", "tuned", found, {"base": "sha256:1"}, {"seed": 0}))


def tokens() -> str:
    words = ["One", " two", "\n", "\tthree", "?", " end"]
    pieces = [TokenPiece(word, 0, 1, (n,) * (n != 3), n == 4) for n, word in enumerate(words)]
    rows = [["words", "12", "0.3"]]
    return token_page("Tokens", ["Tokenizer", "Tokens", "a byte"], rows, [("words", pieces, True)])


@pytest.fixture(scope="module", params=[comparison, tokens])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("page") / f"{request.param.__name__}.html"
    path.write_text(request.param(), encoding="utf-8")
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_its_words_can_be_read(theme: str, file: Path, open_file: Any) -> None:
    page = open_file(file, width=320, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 10
    assert [each for each in contrasts if each[1] < 4.5] == []
