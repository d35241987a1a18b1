"""Which sentences mean the same? Cosine similarity of sentence vectors."""

import lmstack

SENTENCES = ["A dog runs in the park.", "A puppy is playing outside.", "Interest rates rose."]

embedder = lmstack.load("all-minilm-l6-v2")
vectors = embedder.embed(SENTENCES)
for sentence, row in zip(SENTENCES, vectors @ vectors.T, strict=True):
    print(" ".join(f"{value:5.2f}" for value in row), sentence)
