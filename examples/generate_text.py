"""One model, two ways to call it: plain text with settings, and a conversation."""

import lmstack
from lmstack.core import Message

with lmstack.load("smollm2-135m-instruct") as model:
    print(model.generate("The capital of France is", max_tokens=8, temperature=0))
    question = [Message("user", "Name three colours, separated by commas.")]
    print(model.generate(question, max_tokens=32, temperature=0.7, top_p=0.9, seed=7))
