-- A small index of format 2, as lmstack 0.1 wrote it: two documents, one that could not be read,
-- one that was taken out by hand. DOCS stands for the folder of the documents.
CREATE TABLE meta ( "key" TEXT NOT NULL,  value TEXT NOT NULL,  PRIMARY KEY ("key"));
CREATE TABLE sources ( id INTEGER NOT NULL,  root TEXT NOT NULL,  PRIMARY KEY (id),  UNIQUE (root));
CREATE TABLE exclusions ( path TEXT NOT NULL,  PRIMARY KEY (path));
CREATE TABLE documents ( id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,  source_id INTEGER NOT NULL,  path TEXT NOT NULL,  digest BLOB NOT NULL,  recipe TEXT NOT NULL,  size INTEGER NOT NULL,  mtime_ns INTEGER NOT NULL,  ctime_ns INTEGER NOT NULL,  inode INTEGER NOT NULL,  checked_ns INTEGER NOT NULL,  format TEXT NOT NULL,  title TEXT NOT NULL,  chunk_count INTEGER NOT NULL,  revision INTEGER NOT NULL,  UNIQUE (source_id, path),  FOREIGN KEY(source_id) REFERENCES sources (id));
CREATE TABLE problems ( source_id INTEGER NOT NULL,  path TEXT NOT NULL,  kind TEXT NOT NULL,  message TEXT NOT NULL,  hint TEXT NOT NULL,  digest BLOB,  recipe TEXT NOT NULL,  PRIMARY KEY (source_id, path),  FOREIGN KEY(source_id) REFERENCES sources (id));
CREATE TABLE texts ( document_id INTEGER NOT NULL,  digest BLOB NOT NULL,  sections TEXT NOT NULL,  text TEXT NOT NULL,  PRIMARY KEY (document_id),  FOREIGN KEY(document_id) REFERENCES documents (id));
CREATE TABLE chunks ( id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,  document_id INTEGER NOT NULL,  ordinal INTEGER NOT NULL,  start INTEGER NOT NULL,  "end" INTEGER NOT NULL,  tokens INTEGER NOT NULL,  embed_key BLOB NOT NULL,  section TEXT NOT NULL,  prefix TEXT NOT NULL,  text TEXT NOT NULL,  pieces TEXT DEFAULT '' NOT NULL,  FOREIGN KEY(document_id) REFERENCES documents (id));
CREATE INDEX ix_chunks_embed_key ON chunks (embed_key);
CREATE INDEX ix_chunks_document_id ON chunks (document_id);
CREATE TABLE vectors ( document_id INTEGER NOT NULL,  first_chunk INTEGER NOT NULL,  rows INTEGER NOT NULL,  dimensions INTEGER NOT NULL,  data BLOB NOT NULL,  PRIMARY KEY (document_id),  FOREIGN KEY(document_id) REFERENCES documents (id));
CREATE VIRTUAL TABLE postings USING fts5(prefix, text, pieces, content='chunks', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');
CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN INSERT INTO postings(rowid, prefix, text, pieces) VALUES (new.id, new.prefix, new.text, new.pieces); END;
CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN INSERT INTO postings(postings, rowid, prefix, text, pieces) VALUES ('delete', old.id, old.prefix, old.text, old.pieces); END;
INSERT INTO meta VALUES ('embedder', 'hashing');
INSERT INTO meta VALUES ('embedder_digest', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO meta VALUES ('dimensions', '4');
INSERT INTO meta VALUES ('max_tokens', '256');
INSERT INTO meta VALUES ('inode of source 1', '11314375');
INSERT INTO meta VALUES ('generation', '5');
INSERT INTO sources VALUES (1, 'DOCS');
INSERT INTO exclusions VALUES ('DOCS/gone.txt');
INSERT INTO documents VALUES (2, 1, 'guide.md', x'ad50c1e08a6a9b78ae5b299ea689ac830f9d57cf0504eb4c244f19b864215e97', '71f64c03e0e0b90f', 73, 1795659924459863374, 1795659924459863374, 11314377, 1795659924512962607, 'markdown', 'Serving', 2, 3);
INSERT INTO documents VALUES (3, 1, 'in/page.html', x'f8d20412b1a84b2a5b1aa5180091f1e7ed30884bcd5127370c9ae9142873174e', '71f64c03e0e0b90f', 123, 1795659924459906109, 1795659924459906109, 11314378, 1795659924517962062, 'html', 'Penguins', 1, 4);
INSERT INTO texts VALUES (2, x'ad50c1e08a6a9b78ae5b299ea689ac830f9d57cf0504eb4c244f19b864215e97', '[["Serving", 1, 0, 37, ["Serving"]], ["Limits", 2, 37, 73, ["Serving", "Limits"]]]', '# Serving

It listens on port 8000.

## Limits

Sixty requests a minute.
');
INSERT INTO texts VALUES (3, x'326c616025dfa2d51b5222df1f3904185c41a6613e55f6d03e001563d0a6549a', '[["Penguins", 1, 0, 47, ["Penguins"]]]', 'Penguins

The emperor penguin breeds in winter.');
INSERT INTO chunks VALUES (2, 2, 0, 0, 35, 10, x'1b99f88c96ba1111509b7d784370a568', '["Serving"]', '', '# Serving

It listens on port 8000.', '');
INSERT INTO chunks VALUES (3, 2, 1, 37, 72, 11, x'e62dfb28e0731ab667c66d4d867dc9f3', '["Serving", "Limits"]', 'Serving', '## Limits

Sixty requests a minute.', '');
INSERT INTO chunks VALUES (4, 3, 0, 0, 47, 10, x'f9558fe9bb2d5cae825b89bcf0ad06f9', '["Penguins"]', '', 'Penguins

The emperor penguin breeds in winter.', '');
INSERT INTO vectors VALUES (2, 2, 2, 4, x'f304353f0000000000000000f304353f00000000abaa2a3fabaaaabeabaa2abf');
INSERT INTO vectors VALUES (3, 4, 1, 4, x'f30435bf0000000000000000f30435bf');
INSERT INTO problems VALUES (1, 'bad.txt', 'encoding', 'is not valid UTF-8 (byte 0xff at byte 0)', 'convert it: iconv -f ISO-8859-1 -t UTF-8 FILE', x'a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89', '71f64c03e0e0b90f');
UPDATE sqlite_sequence SET seq = 9 WHERE name = 'chunks';
PRAGMA application_id = 1819112299;
PRAGMA user_version = 2;
