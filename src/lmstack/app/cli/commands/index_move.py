"""`lmstack index move`, and what the other commands of an index say of its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from lmstack.app import wiring
from lmstack.app.cli.command import command, option
from lmstack.app.cli.commands._index_options import ChosenIndex, chosen_index
from lmstack.app.cli.commands._options import Docs, IndexFolder
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable
from lmstack.app.wiring import documents
from lmstack.core import IntegrityError

if TYPE_CHECKING:
    from lmstack.rag.stores.ledger import StoreReport

__all__ = ["StoreAddress", "check_store", "move", "store_lines"]

NONE = "none"


def store_address(text: str) -> str:
    """The parser of ``--store``: an address is checked before anything is opened or made."""
    from lmstack.rag.stores.address import parse_address

    return str(parse_address(text))


def new_store(text: str) -> str:
    """The parser of ``--to``, which may also go back to the index's own search."""
    return text if text == NONE else store_address(text)


StoreAddress = Annotated[
    str | None,
    option(
        "--store STORE: Keep the vectors in this store besides, and search there by meaning: "
        "faiss:DIR, chroma:DIR, chroma+http://HOST:PORT/NAME, qdrant+http://HOST:PORT/NAME, "
        "postgresql://HOST/DB#TABLE, weaviate+https://HOST/CLASS or pinecone://INDEX-HOST.",
        parser=store_address,
    ),
]


@command("index move", "lmstack index move --index notes.idx --to faiss:notes.faiss")
def move(
    out: Output,
    to: Annotated[
        str,
        option(
            "--to STORE: The store, as for `index add --store`; none for the index's own search.",
            parser=new_store,
        ),
    ],
    docs: Docs = None,
    index: IndexFolder = None,
) -> None:
    """Move the vectors of an index to another store.

    The new store is filled, compared with the index row by row, and only then used; the old one
    is emptied. Stopped half way, the same command goes on where it was. With the address of the
    store in use, that one is emptied and filled again.
    """
    chosen = chosen_index(docs, index, "lmstack index move")
    out.interrupted = ("the index is as it was; what was sent is kept", out.again())
    title = f"Filling {printable(to, one_line=True)}"
    with (
        documents.open_index(chosen.place, None, create=False, embeds=False) as opened,
        out.progress(title, "passages") as bar,
    ):
        report = opened.move_store(None if to == NONE else to, bar.update)
    if out.as_json:
        facts = None if report is None else wiring.as_json(report)
        out.result(
            {"index": str(chosen.place), "store": None if to == NONE else to, "report": facts}
        )
    elif report is None:
        out.line(f"{chosen.name} is searched by itself")
    else:
        out.lines(store_lines(report))


def store_lines(report: StoreReport) -> list[str]:
    """What a comparison found, for people."""
    name = printable(report.store, one_line=True)
    lines = [f"{name} holds {report.rows} passages as the index does"]
    if report.waiting:
        lines.append(f"{report.waiting} documents are not in it and are scanned in the index")
    recall = report.recall
    if recall is not None:
        lines.append(
            f"recall@{recall.k} against exact search: {recall.mean:.3f}"
            f" ({recall.low:.3f} to {recall.high:.3f}, {recall.queries} queries)"
        )
    return lines


def check_store(report: StoreReport | None, chosen: ChosenIndex) -> None:
    """`IntegrityError` if a store differs from its index."""
    if report is None or not report.findings:
        return
    raise IntegrityError(
        f"{report.store} differs from the index: {'; '.join(report.findings[:3])}",
        hint=f"fill it again: lmstack index move {chosen.option} --to STORE",
    )
