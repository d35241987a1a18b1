"""The module that serves is the module that evaluates: its logits pick the same next token."""

import torch

import lmstack

with lmstack.load("smollm2-135m-instruct", dtype=torch.float32) as model:
    text = "The capital of France is"
    ids = torch.tensor([model.tokenizer.encode(text)])
    with torch.inference_mode():
        output = model.module(input_ids=ids, output_hidden_states=True)
    best = int(output.logits[0, -1].argmax())
    print("by the module:", repr(model.tokenizer.decode([best])))
    print("by the server:", repr(model.generate(text, max_tokens=1, temperature=0)))
    print(len(output.hidden_states), "hidden states of shape", tuple(output.hidden_states[0].shape))
