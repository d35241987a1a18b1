"""A text written from more passages than a model reads at once: map, then reduce.

The passages are cut into windows that fit the model's context. Of each window the model takes
notes (map); each note is checked against its passages, and those that nothing bears out are
dropped. From the notes the model writes the text (reduce), whose sentences are checked against
the passages of the notes they cite, not against the notes; notes that do not fit one window are
condensed first, again and again while they become fewer. Passages that fit one window are written
from as they are. Of a list the items of each window are the text. The number of calls is bounded,
and passages that would need more are left out evenly over their documents. Does not cover which
passages or what kind of text (`planning`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from lmstack.core import ContextLengthError
from lmstack.rag.answer.answer import AnswerEvent, ReadingProgress
from lmstack.rag.answer.composing import Composer
from lmstack.rag.answer.support import Claim, Source
from lmstack.rag.answer.writing import Job, WritingTask, claims, say, write

__all__ = ["map_reduce"]

# UTF-8 bytes of a token, few enough for any tokenizer that knows the language.
TOKEN_BYTES = 3
# Tokens of the instructions, the question, and what numbers a passage.
PROMPT_TOKENS, NUMBER_TOKENS = 400, 30
# Of a model that does not say how long its context is.
USUAL_CONTEXT = 32_768
# Calls of every four that are kept for condensing notes and for the text.
WRITING_SHARE = 4


@dataclass
class _Work:
    task: WritingTask
    composer: Composer
    calls: int = 0
    done: int = 0
    total: int = 0
    notes: list[Claim] = field(default_factory=list)
    said: set[str] = field(default_factory=set)

    @property
    def left(self) -> int:
        return self.task.config.max_calls - self.calls

    def asked(self, job: Job, sources: Sequence[Source]) -> WritingTask:
        self.calls += 1
        # What a client says of its answer is not for notes.
        own = "" if job == "notes" else self.task.instructions
        return replace(self.task, job=job, sources=sources, instructions=own)

    def progress(self) -> ReadingProgress:
        return ReadingProgress(self.done, self.total, self.composer.unread)

    def leave_out(self, window: Sequence[Source]) -> ReadingProgress:
        self.composer.unread += len(window)
        self.total -= len(window)
        return self.progress()


async def map_reduce(task: WritingTask, composer: Composer) -> AsyncGenerator[AnswerEvent, None]:
    """Say what the model writes from all of ``task.sources``. Nothing said: as in `write`.
    ``composer.unread`` counts the passages that were left out."""
    work = _Work(task, composer)
    room, most = _room(task), _calls_of_map(task)
    kept = _within(task.sources, room * most)
    windows = list(_windows(kept, room))[:most]
    work.total = sum(map(len, windows))
    composer.unread += len(task.sources) - work.total
    yield work.progress()
    each = task.job if task.job == "list" or len(windows) == 1 else "notes"
    for window in windows:
        async with aclosing(_read(work, each, window)) as events:
            async for event in events:
                yield event
    if work.notes:
        async with aclosing(_reduce(work, _most_room(task))) as events:
            async for event in events:
                yield event


async def _read(
    work: _Work, job: Job, window: Sequence[Source]
) -> AsyncGenerator[AnswerEvent, None]:
    """Notes of a window, or what is said of it. One that turns out not to fit is halved, and its
    halves are read for notes: two texts are none. It is left out where no calls are left."""
    if not work.left:
        yield work.leave_out(window)
        return
    asked = work.asked(job, window)
    try:
        if job == "notes":
            async with aclosing(claims(asked, work.composer)) as found:
                work.notes += [claim async for claim in found if claim.quotes]
        else:
            async with aclosing(write(asked, work.composer, work.said)) as events:
                async for event in events:
                    yield event
    except ContextLengthError:
        half = len(window) // 2
        if not half or work.left < 2:
            if work.total == len(window):
                raise
            yield work.leave_out(window)
            return
        for part in (window[:half], window[half:]):
            each: Job = "list" if job == "list" else "notes"
            async with aclosing(_read(work, each, part)) as events:
                async for event in events:
                    yield event
        return
    work.done += len(window)
    yield work.progress()


async def _reduce(work: _Work, room: int) -> AsyncGenerator[AnswerEvent, None]:
    """The text from the notes. Where the model makes none of them that is borne out, the notes
    are the text."""
    notes = _distinct(work.notes)
    while len(windows := list(_windows([note.note for note in notes], room))) > 1:
        if work.left <= len(windows):
            break
        condensed: list[Claim] = []
        for window in windows:
            async with aclosing(claims(work.asked("notes", window), work.composer)) as found:
                condensed += [claim async for claim in found if claim.quotes]
        if not 0 < sum(map(_size_of, condensed)) < sum(map(_size_of, notes)):
            break
        notes = _distinct(condensed)
    sources = _within([note.note for note in notes], room)
    work.composer.unread += len(notes) - len(sources)
    async with aclosing(write(work.asked(work.task.job, sources), work.composer)) as events:
        async for event in events:
            yield event
    if not any(sentence.supported for sentence in work.composer.sentences):
        for note in notes:
            for event in say(work.task, work.composer, replace(note, apart="\n")):
                yield event


def _distinct(notes: Sequence[Claim]) -> list[Claim]:
    return list({note.text.casefold(): note for note in notes}.values())


def _size_of(claim: Claim) -> int:
    return _tokens(claim.note)


def _tokens(source: Source) -> int:
    return len(f"{source.path}{source.text}".encode()) // TOKEN_BYTES + NUMBER_TOKENS


def _room(task: WritingTask) -> int:
    """Tokens of the passages in one call: as few as are read well, and more where otherwise there
    would be too many calls."""
    # Windows are not filled to the brim, so that a few more are needed than their sum says.
    wanted = sum(map(_tokens, task.sources)) * 5 // (4 * _calls_of_map(task))
    return min(_most_room(task), max(task.config.window_tokens, wanted))


def _most_room(task: WritingTask) -> int:
    """As far as the model's context goes."""
    context = task.model.info.context_length or USUAL_CONTEXT
    written = task.sampling.max_tokens or task.config.max_tokens
    said = (len(task.question.encode()) + len(task.instructions.encode())) // TOKEN_BYTES
    return max(context // 4, context - written - PROMPT_TOKENS - said)


def _calls_of_map(task: WritingTask) -> int:
    calls = task.config.max_calls
    return calls - max(1, calls // WRITING_SHARE)


def _windows(sources: Sequence[Source], room: int) -> Iterator[list[Source]]:
    window: list[Source] = []
    filled = 0
    for source in sources:
        size = _tokens(source)
        if window and filled + size > room:
            yield window
            window, filled = [], 0
        window.append(source)
        filled += size
    if window:
        yield window


def _within(sources: Sequence[Source], room: int) -> list[Source]:
    """As many of ``sources`` as fit, from the beginning of each document, in their order."""
    of: dict[str, list[int]] = {}
    for n, source in enumerate(sources):
        of.setdefault(source.path, []).append(n)
    kept: set[int] = set()
    turn = 0
    while any(turn < len(places) for places in of.values()):
        for places in of.values():
            if turn < len(places):
                room -= _tokens(sources[places[turn]])
                if room < 0 and kept:
                    return [source for n, source in enumerate(sources) if n in kept]
                kept.add(places[turn])
        turn += 1
    return list(sources)
