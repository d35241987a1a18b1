"""The tables of an index. Documents and their texts are kept once; chunks, vectors and postings
belong to a space, which is one embedder's view of all documents (`spaces`).
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "ACTIVE",
    "FORMAT_VERSION",
    "METADATA",
    "chunks",
    "documents",
    "exclusions",
    "label_rules",
    "meta",
    "postings",
    "problems",
    "sources",
    "spaces",
    "texts",
    "vectors",
]

FORMAT_VERSION = 3

METADATA = sa.MetaData()
# SQLite finds rows by their number only in a column that is declared an INTEGER.
_LARGE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
meta = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
sources = sa.Table(
    "sources",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("root", sa.Text, nullable=False, unique=True),
)
exclusions = sa.Table("exclusions", METADATA, sa.Column("path", sa.Text, primary_key=True))
documents = sa.Table(
    "documents",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("source_id", sa.ForeignKey("sources.id"), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("checked_ns", sa.BigInteger, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    # Of the active space.
    sa.Column("chunk_count", sa.Integer, nullable=False),
    # A new one whenever anything about the document changes: what was cached of it is stale.
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("language", sa.Text, nullable=False, server_default=""),
    # JSON: what the document says of itself, and all labels that it carries (`labels`).
    sa.Column("fields", sa.Text, nullable=False, server_default="{}"),
    sa.Column("labels", sa.Text, nullable=False, server_default="[]"),
    sa.UniqueConstraint("source_id", "path"),
    sqlite_autoincrement=True,
)
# Labels given by hand, for an absolute path and everything under it (JSON, ascending).
label_rules = sa.Table(
    "label_rules",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("labels", sa.Text, nullable=False),
)
# Apart from `documents`, so that listing documents does not read their texts. ``blocks`` is NULL
# where an older format did not keep them.
texts = sa.Table(
    "texts",
    METADATA,
    sa.Column("document_id", sa.ForeignKey("documents.id"), primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("sections", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("blocks", sa.Text),
    sa.Column("pages", sa.Text, nullable=False, server_default="[]"),
    # By which texts alike are found (`duplicates`); NULL where an older format did not keep it.
    sa.Column("sketch", sa.LargeBinary),
)
# One embedder and what it made of the documents. One space is active: it is searched and kept
# up to date; another may be building beside it. ``recipe`` names how its documents were cut when
# it was begun; ``generation`` is the state of the index in which it became what it is.
spaces = sa.Table(
    "spaces",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("embedder", sa.Text, nullable=False),
    sa.Column("embedder_digest", sa.Text, nullable=False),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("max_tokens", sa.Integer, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
ACTIVE = sa.select(spaces.c.id).where(spaces.c.state == "active").scalar_subquery()
# Ids are never used twice (`meta` counts them), and those of a document follow one another.
chunks = sa.Table(
    "chunks",
    METADATA,
    sa.Column("id", _LARGE, primary_key=True, autoincrement=False),
    sa.Column("space_id", sa.ForeignKey("spaces.id"), nullable=False),
    sa.Column("document_id", sa.ForeignKey("documents.id"), nullable=False, index=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("end", sa.Integer, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("embed_key", sa.LargeBinary, nullable=False, index=True),
    sa.Column("section", sa.Text, nullable=False),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
# One blob a document: float32, little endian, (rows, dimensions); row i is chunk
# first_chunk + i. Loading ten thousand vectors is then a few hundred rows, not ten thousand.
vectors = sa.Table(
    "vectors",
    METADATA,
    # Documents are taken out one by one, spaces are read and dropped whole.
    sa.Column("document_id", sa.ForeignKey("documents.id"), primary_key=True),
    sa.Column("space_id", sa.ForeignKey("spaces.id"), primary_key=True),
    sa.Column("first_chunk", _LARGE, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
problems = sa.Table(
    "problems",
    METADATA,
    sa.Column("source_id", sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("recipe", sa.Text, nullable=False),
)
# One blob a document, in the form that `words.posting_blob` gives it.
postings = sa.Table(
    "postings",
    METADATA,
    sa.Column("document_id", sa.ForeignKey("documents.id"), primary_key=True),
    sa.Column("space_id", sa.ForeignKey("spaces.id"), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
