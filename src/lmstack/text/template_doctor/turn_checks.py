"""The traps of chat templates that lie in the frame around messages, each found by rendering.

Covers the beginning and the end of turns, the prompt for a reply against the reply's place in
training, the tokens that count for the loss, and growth of a conversation. Every check looks at
the text and the token ids that `ChatTemplate` gives a model, which serve and train alike. Does
not cover tools, or what people write (``content_checks.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmstack.text.chat import ChatTemplate
from lmstack.text.template_doctor.exam import (
    ASKED,
    REPLIED,
    REPLIED_AGAIN,
    TALK,
    Checks,
    Exam,
    TemplateFinding,
    apart,
    excerpt,
    fail,
    note,
    ok,
    warn,
)

__all__ = ["TURN_CHECKS"]

CONTROL = re.compile(r"<\|[^<>|\s]{1,40}\|>|<(?:start|end)_of_\w+>|</?s>")
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def _control_tokens(exam: Exam) -> Iterator[TemplateFinding]:
    names = dict.fromkeys(CONTROL.findall(exam.text(*TALK, prompt=True)))
    for name in names:
        count = len(exam.tokenizer.encode(name, add_special_tokens=False))
        if count > 1:
            yield warn(
                f"{name} is no token of the vocabulary: it becomes {count} tokens of plain text",
                name,
                "add it to the tokenizer as a special token, or print one that is there",
            )


def _beginning(exam: Exam) -> Iterator[TemplateFinding]:
    bos = exam.tokenizer.bos_id
    if bos is None:
        return
    ids, name = exam.ids(ASKED, prompt=True), exam.tokenizer.token(bos)
    adds, prints = exam.tokenizer.adds_bos, ids[:1] == [bos]
    if ids[:2] == [bos, bos]:
        yield fail(
            "the template prints the beginning-of-text token twice",
            exam.spelled(ids[:3]),
            "print {{ bos_token }} once, before the first message",
        )
    elif adds and prints:
        yield warn(
            "the template prints the beginning-of-text token and the tokenizer adds it too: who"
            " tokenizes the rendered text gets two",
            name,
            "tokenize rendered prompts with add_special_tokens=False, as lmstack does",
        )
    elif adds:
        yield warn(
            "the tokenizer begins every text with a token that the template leaves out",
            f"{exam.spelled(ids[:3])} does not begin with {name}",
            "begin the template with {{ bos_token }}",
        )
    else:
        yield ok("one beginning of text", exam.spelled(ids[:1]))


def _end_of_turn(exam: Exam) -> Iterator[TemplateFinding]:
    ending = exam.ending
    ids = exam.tokenizer.encode(ending, add_special_tokens=False)
    stop = next((n for n, index in enumerate(ids) if index in exam.eos_ids), None)
    stops = ", ".join(exam.tokenizer.token(i) for i in sorted(exam.eos_ids)) or "no token"
    if not ending.strip():
        yield fail(
            "nothing ends the assistant's turn: a model trained so never learns to stop",
            excerpt(exam.text(ASKED, REPLIED)),
            "print {{ eos_token }} after the content of an assistant's message",
        )
    elif stop is None:
        yield fail(
            f"no token after the reply ends generation (it ends at {stops})",
            excerpt(ending),
            "add the token that ends a turn to eos_token_id of generation_config.json",
        )
    elif exam.tokenizer.decode(ids[:stop]).strip():
        yield warn(
            "the model must write more text after its reply before it can stop",
            excerpt(ending),
            "print the token that ends the turn right after the content",
        )
    else:
        yield ok("a reply ends in one token", exam.spelled([ids[stop]]))


def _generation_prompt(exam: Exam) -> Iterator[TemplateFinding]:
    without, with_prompt = exam.text(ASKED), exam.text(ASKED, prompt=True)
    before_reply = exam.text(ASKED, REPLIED).partition(REPLIED.content)[0]
    added = with_prompt.removeprefix(without)
    if not with_prompt.startswith(without):
        yield warn(
            "add_generation_prompt changes what comes before it",
            apart(without, with_prompt),
            "only add to the end where add_generation_prompt is set",
        )
    elif added:
        yield ok("the reply is asked for", excerpt(added))
    elif before_reply.strip() == without.strip():
        yield note("a reply follows without one", excerpt(without))
    else:
        yield fail(
            "add_generation_prompt changes nothing, yet a reply has a heading: the model would"
            " have to write it, or go on with the user's turn",
            excerpt(before_reply.removeprefix(without) or before_reply),
            "where add_generation_prompt is set, print what stands before an assistant's content",
        )


def _training_and_serving(exam: Exam) -> Iterator[TemplateFinding]:
    for asked, replied in ((TALK[:1], REPLIED), (TALK[:3], REPLIED_AGAIN)):
        served, trained = exam.text(*asked, prompt=True), exam.text(*asked, replied)
        if not trained.startswith(served):
            yield fail(
                "a reply is trained after another text than it is asked for with",
                apart(trained, served),
                "print the same text for add_generation_prompt as before an assistant's content",
            )
            return
        between = trained[len(served) :].partition(replied.content)[0]
        if between:
            yield warn(
                "in training this stands before a reply, so the model will write it first",
                excerpt(between),
                "end the generation prompt with it, or leave it out before a reply",
            )
            return
        ids, whole = exam.ids(*asked, prompt=True), exam.ids(*asked, replied)
        if whole[: len(ids)] != ids:
            yield fail(
                "the end of the prompt and the beginning of the reply share a token in training",
                excerpt(served, 24),
                "end the generation prompt with a control token, or with a line break if the"
                " vocabulary keeps those apart from words",
            )
            return
    yield ok("a reply follows the same tokens in both")


def _assistant_mask(exam: Exam) -> Iterator[TemplateFinding]:
    """Tokens that count for the loss: those between a prompt and the next message."""
    whole = exam.ids(*TALK)
    counted: list[int] = []
    for turn in (1, 3):
        prompt, until = exam.ids(*TALK[:turn], prompt=True), exam.ids(*TALK[: turn + 1])
        if whole[: len(prompt)] != prompt:
            yield fail(
                f"where reply {turn // 2 + 1} begins in the whole conversation cannot be told, so"
                " the loss would count the wrong tokens",
                apart(exam.text(*TALK), exam.text(*TALK[:turn], prompt=True)),
                "make the prompt for a reply a beginning of the conversation that holds it",
            )
            return
        reply = whole[len(prompt) : len(until)]
        said = exam.tokenizer.decode(reply)
        if exam.as_read(TALK[turn].content) not in said or exam.eos_ids.isdisjoint(reply):
            yield fail(
                "the tokens that count for the loss lack the reply or its end",
                excerpt(said),
                "print the reply and the token that ends it before anything of the next message",
            )
            return
        counted += reply
    share = f"{len(counted)} of {len(whole)} tokens"
    yield ok("replies and their ends count for the loss", share)


def _generation_tags(exam: Exam) -> Iterator[TemplateFinding]:
    """`{% generation %}` marks replies for transformers' trainers; ours do not need it."""
    source = exam.template.source
    if not GENERATION.search(source):
        yield note(
            "other trainers find no replies: their assistant mask is empty",
            "no {% generation %}",
            "put {% generation %}...{% endgeneration %} around an assistant's content and its end",
        )
        return
    opened, closed = "\ue000", "\ue001"
    marked = re.sub(r"(\{%-?\s*generation\s*%\}\n?)", rf"\1{{{{ '{opened}' }}}}", source)
    marked = re.sub(r"(\{%-?\s*generation\s*-%\})", rf"\1{{{{- '{opened}' -}}}}", marked)
    marked = re.sub(r"(\{%\s*endgeneration\b)", rf"{{{{ '{closed}' }}}}\1", marked)
    marked = re.sub(r"(\{%-\s*endgeneration\b)", rf"{{{{- '{closed}' }}}}\1", marked)
    names = (exam.tokenizer.name_of("bos_token"), exam.tokenizer.name_of("eos_token"))
    text = ChatTemplate(marked, *names).render([ASKED, REPLIED], add_generation_prompt=False)
    inside = "".join(re.findall(f"{opened}(.*?){closed}", text, re.S))
    ids = exam.tokenizer.encode(inside, add_special_tokens=False)
    if REPLIED.content not in inside or ASKED.content in inside or exam.eos_ids.isdisjoint(ids):
        yield fail(
            "what they mark is not the reply and the token that ends it",
            excerpt(inside),
            "close {% endgeneration %} after the token that ends the turn",
        )
    else:
        yield ok("they mark the reply and its end", excerpt(inside))


def _prefix(exam: Exam) -> Iterator[TemplateFinding]:
    for count in range(1, len(TALK)):
        shorter, longer = exam.text(*TALK[:count]), exam.text(*TALK[: count + 1])
        if not longer.startswith(shorter):
            yield warn(
                f"message {count + 1} changes how those before it are printed: nothing can be"
                " kept from turn to turn, and earlier replies are trained as they never look",
                apart(shorter, longer),
                "print a message the same whatever follows it, or train on the last reply only",
            )
            return
    yield ok("a conversation only grows at its end")


TURN_CHECKS: Checks = {
    "control tokens": _control_tokens,
    "beginning": _beginning,
    "end of turn": _end_of_turn,
    "generation prompt": _generation_prompt,
    "training and serving": _training_and_serving,
    "assistant mask": _assistant_mask,
    "generation tags": _generation_tags,
    "prefix": _prefix,
}
