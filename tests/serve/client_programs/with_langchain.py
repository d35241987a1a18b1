"""LangChain as its documentation shows it. Arguments: the server's address, a question, a way:
"responses" or "chat", with "-streamed" to call a bound tool; or the method of a structured output.
Prints JSON."""

import json
import sys

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


url, question, way = sys.argv[1:]
api, _, streamed = way.partition("-")
chat = ChatOpenAI(
    model="m", base_url=f"{url}/v1", api_key="unused", use_responses_api=api == "responses"
)
if api in ("chat", "responses"):
    bound = chat.bind_tools([multiply])
    messages = [HumanMessage(question)]
    if streamed:
        chunks = list(bound.stream(messages))
        turn = sum(chunks[1:], chunks[0])
    else:
        turn = bound.invoke(messages)
    messages += [turn, *(multiply.invoke(call) for call in turn.tool_calls)]
    print(json.dumps(bound.invoke(messages).text))
else:
    print(chat.with_structured_output(City, method=way).invoke(question).model_dump_json())
