"""Run one benchmark: ``python tools/benchmark.py NAME``; the last line it prints is one JSON object."""

import argparse
import importlib
import json

COMMANDS = {
    "natural-step": "benchmarks.natural_step",
    "gym-return": "benchmarks.gym_return",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(COMMANDS))
    name = parser.parse_args().name
    print(json.dumps(importlib.import_module(COMMANDS[name]).main()))


if __name__ == "__main__":
    main()
