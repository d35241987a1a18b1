"""How fast PDF files are read, beside pypdf, pdfminer.six and docling-parse, in one run.

    python benchmarks/documents.py                  about five minutes
    python benchmarks/documents.py --pages 100      fewer pages of each file by the slow ones

The files are manuals that come in Debian packages (R, Octave, the Debian reference), so apt is
needed once; `--folder` takes PDF files of your own. One process a side on one core, best of two
rounds. The slower sides read only the first pages of each file; rates are pages a second. Page
counts must be those of poppler's pdfinfo, where that is installed, and of each other.
docling itself needs models from a hub; its parser, which is what reads the file, is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from machine import machine
from recording import add_options, result_file
from serving_environments import CACHE, Peer, build, versions
from spine import HERE

SCRIPTS = HERE / "document_peers"
FOLDER = CACHE / "manuals"
DEBIAN = ("r-doc-pdf", "octave-doc", "debian-reference-en")
SMALLEST = 300_000
ROUNDS = 2
PEERS = {
    peer.name: peer
    for peer in (
        Peer("pypdf", "with_pypdf.py", "pypdf", (("pypdf==7.1.1",),)),
        Peer("pdfminer", "with_pdfminer.py", "pdfminer.six", (("pdfminer.six==20260107",),)),
        Peer(
            "docling_parse",
            "with_docling_parse.py",
            "docling-parse",
            (("docling-parse==7.23.1",),),
        ),
    )
}


def manuals() -> pathlib.Path:
    """The PDF files, unpacked once."""
    if FOLDER.is_dir():
        return FOLDER
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", "-q", *DEBIAN], cwd=scratch, check=True)
        for package in sorted(pathlib.Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, scratch], check=True)
        FOLDER.mkdir(parents=True)
        for file in sorted(pathlib.Path(scratch).rglob("*.pdf")):
            if not file.is_symlink() and file.stat().st_size >= SMALLEST:
                shutil.copy(file, FOLDER / file.name)
    return FOLDER


def measure(name: str, folder: pathlib.Path, limit: int) -> dict[str, Any]:
    python = sys.executable if name == "lmstack" else str(PEERS[name].python)
    command = [python, str(SCRIPTS / f"with_{name}.py"), str(folder), str(limit)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"pages_per_s": found["pages"] / found["seconds"]}


def poppler(folder: pathlib.Path) -> dict[str, int] | None:
    """Page counts of an independent reader."""
    if shutil.which("pdfinfo") is None:
        return None
    counts = {}
    for file in sorted(folder.glob("*.pdf")):
        said = subprocess.run(["pdfinfo", file], check=True, capture_output=True, text=True).stdout
        line = next(line for line in said.splitlines() if line.startswith("Pages:"))
        counts[file.name] = int(line.split()[1])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=pathlib.Path)
    add_options(parser, "documents")
    args = parser.parse_args()
    if args.quick:
        args.pages, args.rounds = 3, 1
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = args.folder or manuals()
    for peer in PEERS.values():
        build(peer)
    around = machine()
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(args.rounds):
        for name in ("lmstack", *PEERS):
            found = measure(name, folder, args.pages)
            print(f"  {name}: {found['pages']:,} pages in {found['seconds']:.0f} s", flush=True)
            if name not in rows or found["pages_per_s"] > rows[name]["pages_per_s"]:
                rows[name] = found
    counts = {name: row.pop("counts") for name, row in rows.items()}
    independent = poppler(folder)
    if independent is not None:
        counts["pdfinfo"] = independent
    reconciled = all(count == counts["lmstack"] for count in counts.values())
    print(f"\n{len(counts['lmstack'])} files, {sum(counts['lmstack'].values()):,} pages")
    print(f"{'':16}{'pages/s':>10}{'ratio':>8}{'pages read':>12}")
    for name, row in rows.items():
        ratio = rows["lmstack"]["pages_per_s"] / row["pages_per_s"]
        print(f"{name:16}{row['pages_per_s']:>10.1f}{ratio:>8.2f}{row['pages']:>12,}")
    print(f"page counts {'agree' if reconciled else 'DIFFER: ' + json.dumps(counts)}")
    result = {
        "machine": around,
        "files": counts["lmstack"],
        "page_counts_agree": reconciled,
        "counted_by": sorted(counts),
        "versions": {name: versions(peer) for name, peer in PEERS.items()},
        "rows": rows,
    }
    result_file(args, "documents").write_text(json.dumps(result, indent=1) + "\n")
    if not reconciled:
        sys.exit(1)


if __name__ == "__main__":
    main()
