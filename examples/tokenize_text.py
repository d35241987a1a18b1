"""How the default model sees a text: its tokens, their bytes, and the chat template."""

import lmstack
from lmstack.core import Message

TEXT = "Größe matters: 3.14 🙂"

with lmstack.load("smollm2-135m-instruct") as model:
    tokenizer = model.tokenizer
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    for i in ids:
        print(f"{i:6} {tokenizer.token_bytes(i)!r}")
    print("comes back:", tokenizer.decode(ids) == TEXT)
    print(model.template.render([Message("user", "Hello")]))
