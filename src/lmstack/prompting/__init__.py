"""How a model is asked: prompts with examples, chains of thought, answers of a given form."""

from __future__ import annotations

from lmstack.prompting.asking import PromptAnswer, PromptAsker
from lmstack.prompting.chat_prompt import ChatPrompt, PromptTurn
from lmstack.prompting.examples import Examples, FixedExamples, NearestExamples, PromptExample
from lmstack.prompting.explanation import (
    Explanation,
    PromptPart,
    PromptTokenizer,
    TokenReading,
    explain,
)
from lmstack.prompting.forms import AnswerForm, NotOfFormError, form_of
from lmstack.prompting.json_reader import JsonReader
from lmstack.prompting.prompt_file import PromptFile, load_prompt
from lmstack.prompting.prompt_folder import PromptFolder
from lmstack.prompting.schemas import type_schema
from lmstack.prompting.structuring import (
    Partial,
    Structured,
    StructuredError,
    stream_structured,
    structured,
    structured_answer,
)
from lmstack.prompting.template import PromptTemplate, TemplateTurn
from lmstack.prompting.thinking import ChainOfThought, Thought, think
from lmstack.prompting.variables import Variable
from lmstack.prompting.votes import Vote, Votes, normalized, self_consistency

__all__ = [
    "AnswerForm",
    "ChainOfThought",
    "ChatPrompt",
    "Examples",
    "Explanation",
    "FixedExamples",
    "JsonReader",
    "NearestExamples",
    "NotOfFormError",
    "Partial",
    "PromptAnswer",
    "PromptAsker",
    "PromptExample",
    "PromptFile",
    "PromptFolder",
    "PromptPart",
    "PromptTemplate",
    "PromptTokenizer",
    "PromptTurn",
    "Structured",
    "StructuredError",
    "TemplateTurn",
    "Thought",
    "TokenReading",
    "Variable",
    "Vote",
    "Votes",
    "explain",
    "form_of",
    "load_prompt",
    "normalized",
    "self_consistency",
    "stream_structured",
    "structured",
    "structured_answer",
    "think",
    "type_schema",
]
