"""Gene sets as prior knowledge: genes of one set may do alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from scipy.sparse import csr_matrix

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.text_tables import lines_of
from perturbrl.errors import DataError

SMALLEST_SET: Final = 3
LARGEST_SET: Final = 500


def read_gene_sets(path: Path | str) -> PriorKnowledge:
    """Gene sets of a GMT file, plain or gzipped: a line holds a name, a description and genes, tab-separated.

    Sets of fewer than ``SMALLEST_SET`` or more than ``LARGEST_SET`` genes say little and are left out. A gene's
    features are its sets, each weighted by one over the root of its size, so that a small set says more. Lines that
    share a name are different sets, and a line that comes twice counts once.

    Raises:
        DataError: the file is not there, or is no GMT file.
    """
    path = Path(path)
    sets = [
        genes for _, genes in dict.fromkeys(_gmt_lines(path)) if SMALLEST_SET <= len(genes) <= LARGEST_SET
    ]
    if not sets:
        raise DataError(
            f"'{path.name}' has no gene set of {SMALLEST_SET} to {LARGEST_SET} genes; give a GMT file, one set a "
            "line: name, description and genes, separated by tabs"
        )
    names = tuple(sorted(set().union(*sets)))
    row_of = {name: row for row, name in enumerate(names)}
    entries = [(row_of[gene], column, len(genes)) for column, genes in enumerate(sets) for gene in genes]
    rows, columns, sizes = np.array(entries).T
    features = csr_matrix((sizes**-0.5, (rows, columns)), shape=(len(names), len(sets)))
    return PriorKnowledge(path.name, names, features)


def _gmt_lines(path: Path) -> Iterator[tuple[str, frozenset[str]]]:
    for number, line in enumerate(lines_of(path), start=1):
        fields = line.split("\t")
        if len(fields) < 3:
            raise DataError(
                f"'{path.name}' is no GMT file: line {number} ('{line[:40]}') has {len(fields)} tab-separated fields; "
                "give a name, a description and genes on every line"
            )
        yield fields[0], frozenset(gene for gene in fields[2:] if gene)
