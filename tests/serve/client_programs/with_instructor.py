"""instructor as its documentation shows it. Arguments: the server's address, a question, a mode.
Prints JSON."""

import json
import sys
from collections.abc import Iterable

import instructor
import openai
from pydantic import BaseModel


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


url, question, mode = sys.argv[1:]
client = instructor.from_openai(
    openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0),
    mode=instructor.Mode[mode],
)
several = mode == "PARALLEL_TOOLS"
found = client.chat.completions.create(
    model="m",
    response_model=Iterable[City] if several else City,
    messages=[{"role": "user", "content": question}],
    max_retries=0,
)
[city] = found if several else [found]
print(json.dumps(city.model_dump()))
