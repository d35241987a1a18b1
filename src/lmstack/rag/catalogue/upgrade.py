"""An index file of an older format becomes one of this format, in one transaction.

Nothing is lost and no file is read: documents, texts, chunks and vectors stay, and postings are
made of the stored chunks. What the older format did not keep (fields, pages, language, blocks)
comes in when the next update reads the files again; equal passages are not embedded again.
"""

from __future__ import annotations

import sqlalchemy as sa

from lmstack.rag.catalogue.schema import chunks, label_rules, postings, spaces, vectors
from lmstack.rag.lexical import posting_blob

__all__ = ["upgrade"]

_EMBEDDER_KEYS = "('embedder', 'embedder_digest', 'dimensions', 'max_tokens')"
_BEFORE = (
    "DROP TRIGGER chunk_added",
    "DROP TRIGGER chunk_removed",
    "DROP TABLE postings",
    "DROP INDEX ix_chunks_embed_key",
    "DROP INDEX ix_chunks_document_id",
    "ALTER TABLE chunks RENAME TO old_chunks",
    "ALTER TABLE vectors RENAME TO old_vectors",
    "ALTER TABLE documents ADD COLUMN language TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE documents ADD COLUMN fields TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE documents ADD COLUMN labels TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE texts ADD COLUMN blocks TEXT",
    "ALTER TABLE texts ADD COLUMN pages TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE texts ADD COLUMN sketch BLOB",
    # No document was read as this version reads it.
    "UPDATE documents SET recipe = ''",
)
_FILL = (
    "INSERT INTO spaces (embedder, embedder_digest, dimensions, max_tokens, recipe, state, "
    "generation) SELECT e.value, d.value, n.value, t.value, '', 'active', g.value "
    "FROM meta e, meta d, meta n, meta t, meta g WHERE e.key = 'embedder' "
    "AND d.key = 'embedder_digest' AND n.key = 'dimensions' AND t.key = 'max_tokens' "
    "AND g.key = 'generation'",
    f"DELETE FROM meta WHERE key IN {_EMBEDDER_KEYS}",
    "INSERT INTO meta SELECT 'last_chunk', seq FROM sqlite_sequence WHERE name = 'old_chunks'",
    'INSERT INTO chunks (id, space_id, document_id, ordinal, start, "end", tokens, embed_key, '
    "section, prefix, text) SELECT c.id, s.id, c.document_id, c.ordinal, c.start, "
    'c."end", c.tokens, c.embed_key, c.section, c.prefix, c.text '
    "FROM old_chunks c, spaces s",
    "INSERT INTO vectors (space_id, document_id, first_chunk, rows, dimensions, data) "
    "SELECT s.id, v.document_id, v.first_chunk, v.rows, v.dimensions, v.data "
    "FROM old_vectors v, spaces s",
    "DROP TABLE old_chunks",
    "DROP TABLE old_vectors",
)


def upgrade(connection: sa.Connection, version: int) -> None:
    """Bring the tables of format ``version`` (1 or 2) up to this one. SQLite only: PostgreSQL
    came with format 3."""
    assert version in (1, 2)  # they differ in postings only, which are made anew
    for statement in _BEFORE:
        connection.exec_driver_sql(statement)
    for table in (spaces, label_rules, chunks, vectors, postings):
        table.create(connection)
    for statement in _FILL:
        connection.exec_driver_sql(statement)
    _fill_postings(connection)


def _fill_postings(connection: sa.Connection) -> None:
    documents = connection.execute(sa.select(vectors.c.space_id, vectors.c.document_id)).all()
    for space_id, document_id in documents:
        texts = connection.execute(
            sa.select(chunks.c.prefix, chunks.c.text)
            .where((chunks.c.space_id == space_id) & (chunks.c.document_id == document_id))
            .order_by(chunks.c.ordinal)
        )
        blob = posting_blob([(row.prefix, row.text) for row in texts])
        connection.execute(
            sa.insert(postings).values(space_id=space_id, document_id=document_id, data=blob)
        )
