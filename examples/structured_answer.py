"""A value of a class instead of text: the model is held to it while it writes."""

import asyncio

from pydantic import BaseModel, Field

import lmstack
from lmstack.core import Message, Request, SamplingParams
from lmstack.prompting import structured


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=130)
    city: str = Field(max_length=20)


ask = Request(
    (Message("user", "Extract: Alice is 30 and lives in Berlin."),),
    sampling=SamplingParams(temperature=0, max_tokens=100),
)
with lmstack.load("smollm2-135m-instruct") as model:
    person = asyncio.run(structured(model, ask, Person))
print(person)
