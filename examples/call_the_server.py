"""The OpenAI client against `lmstack up docs`. Usage: call_the_server.py [BASE_URL MODEL]"""

import sys

from openai import OpenAI

base_url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
model = sys.argv[2] if len(sys.argv) > 2 else "docs"

client = OpenAI(base_url=base_url, api_key="unused")
print("models:", ", ".join(m.id for m in client.models.list()))
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Who may call the server?"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
