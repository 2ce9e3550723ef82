"""Designs: do they hold where it counts, on simulated screens of every size and on real held-out cells?

Parts: `screens` are simulated (see `design_screens`); `norman` and `papalexi` are measured, every population the
target in turn (see `design_measured`): Norman 2019's doubles with both parts measured alone, those whose parts other
combinations tell of, its singles told by combinations and by prior knowledge alone; Papalexi 2021's genes with
Reactome. Methods: the policy of the shipped configuration, and all sets of one and two perturbations by three scores:
how likely the goal is under each (`likely`), and the distance left on kriged and on raw effects; and baselines. Means
over targets, each a mean over seeds, with 95 % t intervals; targets that cannot be told from control are counted, and
not judged. A method of ours wins on a target where the right set has a higher nDCG; it is at least as good as a
baseline where the paired difference is not clearly below 0.
"""

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter

from perturbrl.errors import ConfigurationError
from studies import design_measured, design_screens, design_verdicts
from studies.response_splits import add_data_argument
from studies.runner import Row, add_common_arguments

MEASURED = tuple(design_measured.PARTS)
PARTS = ("screens", *MEASURED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}, joined by commas")
    parser.add_argument("--targets", nargs="*", help="of measured data, only these targets, to try")
    parser.add_argument(
        "--sizes",
        nargs="*",
        type=int,
        default=design_screens.SIZES,
        help="perturbations of simulated screens",
    )
    add_common_arguments(parser, seeds=10)


def run(arguments: argparse.Namespace) -> None:
    started, said = perf_counter(), {}
    parts = _parts(arguments.parts)
    out = arguments.out or Path(tempfile.mkdtemp()) / "design.csv"
    for part in parts:
        rows = out.with_name(f"{out.stem}_{part}.csv")
        said[part] = _screens(arguments, rows) if part == "screens" else _measured(part, arguments, rows)
    print(f"rows: {out.parent}")
    print(json.dumps(said | {"seconds": round(perf_counter() - started)}))


def _parts(given: str) -> list[str]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ConfigurationError(f"--parts is '{given}'; give some of {', '.join(PARTS)}, joined by commas")
    return parts


def _screens(arguments: argparse.Namespace, out: Path) -> Row:
    table = design_screens.rows(arguments.seeds, arguments.jobs, out, arguments.sizes)
    design_screens.print_table(table)
    return design_screens.summary(table)


def _measured(part: str, arguments: argparse.Namespace, out: Path) -> Row:
    table = design_measured.rows(
        part, arguments.data.resolve(), arguments.seeds, arguments.jobs, out, arguments.targets
    )
    design_verdicts.print_verdicts(table)
    return design_verdicts.summary(table)
