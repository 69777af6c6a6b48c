"""Lists folders and opens a file in each while something else is copied; as a program.

    python -m tests.bench.elsewhere LATENCY_S FOLDER...

Prints the seconds of the slowest ``ls`` and of the slowest first open and read. It pauses before
each folder for another part of the latency, because the requests of a copy begin and end together.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, sleep


def _ls(folder: Path) -> Sequence[str]:
    listed = subprocess.run(("ls", folder), capture_output=True, check=True, text=True)
    return listed.stdout.splitlines()


def main(latency_s: float, folders: Sequence[Path]) -> None:
    """List and read, one after another."""
    slowest = {"ls": 0.0, "read": 0.0}
    for number, folder in enumerate(folders):
        sleep(latency_s * number / len(folders))
        began_s = perf_counter()
        name = _ls(folder)[0]
        listed_s = perf_counter()
        (folder / name).read_bytes()
        slowest["ls"] = max(slowest["ls"], listed_s - began_s)
        slowest["read"] = max(slowest["read"], perf_counter() - listed_s)
    print(json.dumps(slowest))  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
