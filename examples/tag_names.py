"""An encoder at work: which parts of a text are personal data?"""

import lmstack

TEXTS = [
    "Please call Maria Lindqvist before Friday.",
    "Send the invoice to 12 Dorset Street, London.",
]

tag = lmstack.task("ner", "pii-ner", aggregation="first")
for text, found in zip(TEXTS, tag(TEXTS), strict=True):
    print(text)
    for entity in found.entities:
        print(f"  {entity.label:16} {entity.score:.2f}  {text[entity.start : entity.end]}")
