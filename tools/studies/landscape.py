"""Landscapes learned from cells that nobody perturbed, judged on cells and knowledge that were held out.

Parts, each on its own atlas of --data; the keys of all that were run are one JSON object.
"""

import argparse
import importlib
import json
from pathlib import Path
from time import perf_counter

from perturbrl.errors import ConfigurationError
from studies.response_splits import add_data_argument

PARTS = {name: f"studies.landscape_{name}" for name in ("paul", "larry", "cao", "designs", "joint")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument(
        "--parts", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)}, separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... of every part")
    parser.add_argument("--out", type=Path, default=None, help="keep the last line in this .json file")


def _parts(text: str) -> list[str]:
    unknown = sorted(set(text.split(",")) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no part is called {', '.join(unknown)}; give some of {', '.join(PARTS)}"
        )
    return text.split(",")


def run(arguments: argparse.Namespace) -> None:
    if arguments.out is not None and arguments.out.exists():
        raise ConfigurationError(f"--out '{arguments.out}' exists already; name a new file")
    started, folder = perf_counter(), arguments.data.resolve()
    found: dict[str, object] = {}
    for part in arguments.parts:
        found |= importlib.import_module(PARTS[part]).rows(folder, arguments.seeds)
    line = json.dumps(found | {"seconds": round(perf_counter() - started)})
    if arguments.out is not None:
        arguments.out.write_text(line + "\n")
    print(line)
