"""
Run the suite many times in random order: `python -m tests.repeat 20`.

Further arguments go to pytest. The end says the commands that repeat what failed.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.repeat")
    parser.add_argument("times", type=int, help="how often to run the suite")
    chosen, options = parser.parse_known_args(arguments)
    failed = [
        seed
        for number in range(1, chosen.times + 1)
        if not run(
            seed := random.randrange(2**32), options, f"{number} of {chosen.times}"
        )
    ]
    for seed in failed:
        print(f"Failed: python -m pytest --randomly-seed={seed} {' '.join(options)}")
    print(f"{chosen.times - len(failed)} of {chosen.times} runs passed.")
    return 1 if failed else 0


def run(seed: int, options: list[str], which: str) -> bool:
    print(f"Run {which}: --randomly-seed={seed}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--randomly-seed={seed}"]
    return subprocess.run([*command, *options]).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
