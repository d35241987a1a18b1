"""Scaled dot-product attention written out, and the same from lmstack's own function."""

import torch

from lmstack.model import scaled_dot_product_attention

torch.manual_seed(0)
heads, tokens, channels = 2, 5, 16
query, key, value = torch.randn(3, heads, tokens, channels)

# How well each query fits each key; a token may not look at those after it.
scores = query @ key.transpose(-1, -2) / channels**0.5
scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), float("-inf"))
# Each row becomes shares that sum to one, and the output is that mixture of values.
weights = scores.softmax(-1)
output = weights @ value

for row in weights[0]:
    print(" ".join(f"{share:5.2f}" for share in row))

theirs, shares = scaled_dot_product_attention(query, key, value, causal=True, return_weights=True)
tiled = scaled_dot_product_attention(query, key, value, causal=True)
print("same weights:", torch.allclose(weights, shares, atol=1e-6))
print("same output:", torch.allclose(output, theirs, atol=1e-6))
print("same without keeping the weights:", torch.allclose(output, tiled, atol=1e-6))
