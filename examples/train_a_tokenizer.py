"""Train byte-level BPE on this project's own pages, and look at what larger vocabularies learn."""

from pathlib import Path

from lmstack.text import VocabularyConfig, pieces, token_report, train_tokenizer

TEXT = "The server streams tokens, and every citation is verified. Ça va?"

pages = [path.read_text(encoding="utf-8") for path in sorted(Path("docs").glob("*.md"))]
held_out = Path("README.md").read_text(encoding="utf-8")

for size in (300, 1000, 4000):
    tokenizer = train_tokenizer(pages, VocabularyConfig(vocab_size=size))
    report = token_report("", tokenizer, held_out)
    print(f"{size} tokens: {report.bytes_per_token:.2f} bytes a token in the README")
    print("  " + "|".join(piece.text for piece in pieces(tokenizer, TEXT)))

print("comes back:", tokenizer.decode(tokenizer.encode(TEXT)) == TEXT)
