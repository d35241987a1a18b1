"""An encoder-decoder at work: a T5 reads English with its encoder and writes German."""

import lmstack

TEXTS = ["The house is wonderful.", "I like coffee.", "The weather is nice today."]

translate = lmstack.task(
    "translation", "flan-t5-small-titles", prefix="translate English to German: "
)
for text, result in zip(TEXTS, translate(TEXTS), strict=True):
    print(f"{text:28} {result.text}")
