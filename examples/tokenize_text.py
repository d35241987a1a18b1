"""How the default model sees a text: its tokens, their bytes, and the chat template."""

import lmstack
from lmstack.core import Message

with lmstack.load("smollm2-135m-instruct") as model:
    tokenizer = model.tokenizer
    ids = tokenizer.encode("Größe matters: 3.14 🙂", add_special_tokens=False)
    for i in ids:
        print(f"{i:6} {tokenizer.token_bytes(i)!r}")
    print(tokenizer.decode(ids))
    print(model.template.render([Message("user", "Hello")]))
