"""What each process of `test_processes` runs where runs fail: `lmstack train` of each recipe on
its command line, in turn. Fails by itself where one of them does not."""

from __future__ import annotations

import sys

import torch.distributed as dist

from lmstack.app.cli import main
from lmstack.train import parallel


def trained(path: str) -> int:
    try:
        return main(["train", path])
    except SystemExit as stop:  # of who need not say it
        return int(stop.code or 0)


if __name__ == "__main__":
    for number, path in enumerate(sys.argv[1:]):
        if number:
            # A process that has failed ends; these go on, and the next error is another.
            dist.barrier()
            if dist.get_rank() == 0:
                dist.distributed_c10d._get_default_store().delete_key(parallel._FAILED)
            dist.barrier()
        code = trained(path)
        assert code, f"{path} did not fail"
    sys.exit(code)
