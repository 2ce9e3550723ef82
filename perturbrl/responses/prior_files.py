"""Prior knowledge from files of every kind."""

from collections.abc import Sequence
from pathlib import Path

from perturbrl.data.aliases import read_aliases
from perturbrl.data.edge_lists import read_edges
from perturbrl.data.feature_tables import read_features
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.reference import read_reference

Paths = str | Path | Sequence[str | Path]


def read_priors(
    gene_sets: Paths = (),
    edges: Paths = (),
    features: Paths = (),
    reference: str | Path | None = None,
    aliases: str | Path | None = None,
) -> tuple[PriorKnowledge, ...]:
    """Prior knowledge of files.

    Args:
        gene_sets: GMT files.
        edges: edge lists.
        features: tables of numbers by perturbation.
        reference: cells of another screen.
        aliases: table of other names, by which what the files know is renamed.

    Raises:
        DataError: a file is not what it should be.
    """
    readers = ((gene_sets, read_gene_sets), (edges, read_edges), (features, read_features))
    found = [
        read(path)
        for paths, read in readers
        for path in ([paths] if isinstance(paths, str | Path) else paths)
    ]
    if reference is not None:
        found.append(read_reference(reference))
    names = {} if aliases is None else read_aliases(aliases)
    return tuple(prior.renamed(names) for prior in found)
