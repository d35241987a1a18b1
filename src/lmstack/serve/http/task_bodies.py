"""Bodies and answers of /v1/rerank (as Jina and Cohere have it), /v1/classify (as vLLM's) and
/v1/tasks.

Field by field, like `requests` and `responses`: what is known is honoured or refused with a
reason. Does not cover what the routes do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lmstack.serve.http.fields import Body, FirstMistake, Refused, Whole, at_most, text_up_to
from lmstack.serve.http.requests import Hint
from lmstack.serve.http.responses import Out, PromptDetails
from lmstack.serve.tasks.names import ScoringTask

__all__ = [
    "ClassifiedItem",
    "ClassifiedList",
    "ClassifyBody",
    "RankedDocument",
    "RankedItem",
    "RankedList",
    "RankedUsage",
    "RerankBody",
    "TaskBody",
    "TaskResults",
    "TaskUsage",
]

MAX_DOCUMENTS = 1024
MAX_TEXTS = 1024
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
NO_PRIORITY = "requests are served in the order in which they come"


class Document(Body):
    text: str


class RerankBody(Body):
    """``documents``: texts, or objects with a ``text``."""

    model: ModelName
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[str | Document], Field(min_length=1, max_length=MAX_DOCUMENTS), FirstMistake()
    ]
    top_n: Annotated[int, Field(ge=1, le=2**31, description="All where absent."), Whole] | None = (
        None
    )
    return_documents: (
        Annotated[bool, Field(description="Give the texts back; true where absent.")] | None
    ) = None
    max_tokens_per_doc: (
        Annotated[
            int,
            Field(
                ge=1,
                le=2**31,
                description="Cut each document after so many tokens. Without it, one that is"
                " too long is an error.",
            ),
            Whole,
        ]
        | None
    ) = None
    user: Hint = None
    rank_fields: Annotated[Any, Refused("documents have one field, text", ["text"])] = None
    max_chunks_per_doc: Annotated[
        Any, Refused("documents are not split; set max_tokens_per_doc")
    ] = None
    truncate_prompt_tokens: Annotated[Any, Refused("set max_tokens_per_doc")] = None
    priority: Annotated[Any, Refused(NO_PRIORITY, 0)] = None


class ClassifyBody(Body):
    model: ModelName
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS), FirstMistake()]
    use_activation: (
        Annotated[bool, Field(description="false: logits instead of probabilities.")] | None
    ) = None
    user: Hint = None
    truncate_prompt_tokens: Annotated[Any, Refused("nothing is cut; split the text")] = None
    priority: Annotated[Any, Refused(NO_PRIORITY, 0)] = None


# Of each input; a tagger reads as far as it goes, and nobody stops it in between.
MAX_TEXT, MAX_ASKED = 100_000, 4096
Text = Annotated[str, Field(max_length=MAX_TEXT), text_up_to(MAX_TEXT)]


class PairInput(Body):
    """A text, alone or with another that it is judged with."""

    text: Text
    text_pair: Text | None = None


class QuestionInput(Body):
    question: Annotated[str, Field(min_length=1, max_length=MAX_ASKED), text_up_to(MAX_ASKED)]
    context: Text


class QueryInput(Body):
    query: Annotated[str, Field(min_length=1, max_length=MAX_TEXT), text_up_to(MAX_TEXT)]
    documents: Annotated[list[Text], Field(min_length=1, max_length=MAX_DOCUMENTS), FirstMistake()]


TaskInput = Text | PairInput | QuestionInput | QueryInput


class TaskBody(Body):
    """``input``: one, or a list. ``options``: of the task, under their names in Python."""

    model: ModelName
    task: ScoringTask
    input: (
        TaskInput
        | Annotated[list[TaskInput], Field(min_length=1, max_length=MAX_TEXTS), FirstMistake()]
    )
    options: Annotated[dict[str, Any], Field(max_length=16), at_most(16)] | None = None
    user: Hint = None


class RankedDocument(Out):
    text: str


class RankedItem(Out):
    index: int
    relevance_score: float
    document: RankedDocument | None = None


class RankedUsage(Out):
    prompt_tokens: int
    total_tokens: int


class RankedList(Out):
    id: str
    object: Literal["list"]
    model: str
    results: list[RankedItem]
    usage: RankedUsage


class TaskResults(Out):
    """``data``: the result of each input, in order, in the form that the task's page shows."""

    id: str
    object: Literal["list"]
    model: str
    task: str
    data: list[dict[str, Any]]


class ClassifiedItem(Out):
    index: int
    label: str
    probs: list[float]
    num_classes: int


class TaskUsage(RankedUsage):
    completion_tokens: int
    prompt_tokens_details: PromptDetails | None


class ClassifiedList(Out):
    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ClassifiedItem]
    usage: TaskUsage
