"""llm as its documentation shows it. Arguments: the server's address, a question, and "streamed" or
"whole". Prints JSON."""

import json
import sys

from llm.default_plugins.openai_models import Chat


def multiply(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


url, question, way = sys.argv[1:]
chat = Chat("m", api_base=f"{url}/v1", key="unused", supports_tools=True)
print(json.dumps(chat.chain(question, tools=[multiply], stream=way == "streamed").text()))
