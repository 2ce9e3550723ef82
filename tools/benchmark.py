"""Run one benchmark; it prints tables, and its last line is one JSON object.

python tools/benchmark.py natural-step
"""

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

BENCHMARKS = {
    "gym-return": "benchmarks.gym_return",
    "natural-step": "benchmarks.natural_step",
    "responses": "benchmarks.responses",
    "simulator": "benchmarks.simulator",
    "train": "benchmarks.train",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("options", nargs=argparse.REMAINDER, help="passed on; --help lists them")
    arguments = parser.parse_args()
    importlib.import_module(BENCHMARKS[arguments.benchmark]).main(arguments.options)


if __name__ == "__main__":
    main()
