"""What perturbations do to cells on their way, each by the best evidence there is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.data.labels import Label
from perturbrl.data.regulators import Regulators
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError, DataError, listed
from perturbrl.responses.base import ResponseModel
from perturbrl.responses.matches import kind_of_names
from perturbrl.schema import CONTROL_LABEL, CellState, Expression
from perturbrl.twins.target_senses import target_senses

DriftEvidence = Literal["measured", "response", "regulators", "association", "none"]

DRIFT_EVIDENCE: Final[dict[DriftEvidence, str]] = {
    "measured": "the mean shift of cells under this very perturbation",
    "response": "what the response model expects of it",
    "regulators": "what goes with the genes that a table of regulators says it switches on and off, in cells nobody "
    "perturbed",
    "association": "what goes with its own expression in cells nobody perturbed: it may be the consequence of a state "
    "and not its cause",
    "none": "nothing: its gene does not vary in cells nobody perturbed, so a dose of it does nothing",
}
_FEWEST_CELLS: Final = 3
_FEWEST_TARGETS: Final = 2
_NAMED: Final = 6
_OF_ANOTHER_SPECIES: Final = (
    0.05  # share of a table's edges up to which the names that match are those that look alike
)

Rows = Float[Tensor, "perturbations latent"]


@dataclass(frozen=True, eq=False)
class DriftEffects:
    """The push of each perturbation, and what it rests on.

    Attributes:
        names: perturbations.
        rows: ``[perturbations, latent]`` shift of a cell's state that one action at dose 1 amounts to: over-expression
            where the evidence is ``regulators`` or ``association``, else the perturbation as it was measured.
        evidence: of each, a key of ``DRIFT_EVIDENCE``.
        low: ``[perturbations]`` lowest dose: -1 is knock-down, the push the other way; 0 where the evidence says
            nothing of that.
        senses: of each, see ``DigitalTwin.senses``.
    """

    names: tuple[str, ...]
    rows: Rows
    evidence: tuple[DriftEvidence, ...]
    low: Float[Tensor, " perturbations"]
    senses: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Push:
    row: Float[Tensor, " latent"]
    evidence: DriftEvidence

    @property
    def low(self) -> float:
        return 0.0 if self.as_measured else -1.0

    @property
    def as_measured(self) -> bool:
        return self.evidence in ("measured", "response")


def drift_effects(
    cells: EncodedCells,
    encoder: Encoder,
    names: Sequence[str],
    *,
    regulators: Regulators | None = None,
    response: ResponseModel | None = None,
) -> DriftEffects:
    """The push of each perturbation, by the first of ``DRIFT_EVIDENCE`` that says something of it.

    Args:
        cells: training cells; those labelled ``control`` are the ones nobody perturbed, or all where none is.
        encoder: of their states.
        names: perturbations.
        regulators: which factor regulates which gene.
        response: fitted to the expression of these cells.

    Raises:
        ConfigurationError: nothing is known of a perturbation, or all genes that may be dosed do not vary.
        DataError: there are too few cells that nobody perturbed, or the table of regulators is not of these genes.
    """
    sources = list(_sources(cells, encoder, names, regulators, response))
    found = {name: next((own[name] for own in sources if name in own), None) for name in names}
    unknown = sorted(name for name, push in found.items() if push is None)
    if unknown:
        raise ConfigurationError(_unknown(unknown, cells))
    pushes = [push for push in found.values() if push is not None]
    if all(push.evidence == "none" for push in pushes):
        raise ConfigurationError(
            f"no dose would do anything: the genes that may be dosed ({listed(sorted(found), _NAMED)}) do not vary in "
            "cells nobody perturbed; allow others (data.allowed_perturbations)"
        )
    senses = target_senses(cells, tuple(found))
    return DriftEffects(
        tuple(found),
        torch.stack([push.row for push in pushes]).to(cells.latent),
        tuple(push.evidence for push in pushes),
        torch.tensor([push.low for push in pushes]),
        tuple(sense if push.as_measured else 1 for push, sense in zip(pushes, senses, strict=True)),
    )


def dosable(cells: EncodedCells, regulators: Regulators | None = None) -> tuple[str, ...]:
    """What may be dosed: what a user allows, else what was measured, else factors among the genes, else all genes."""
    if cells.allowed is not None:
        return cells.allowed
    measured = dict.fromkeys(label.names[0] for label in cells.perturbations if not label.is_combination)
    if measured:
        return tuple(measured)
    factors = set(regulators.factors) if regulators is not None else set()
    return tuple(gene for gene in cells.genes if gene in factors) or cells.genes


def known_unperturbed(
    cells: EncodedCells, names: Sequence[str], regulators: Regulators | None = None
) -> tuple[str, ...]:
    """Those of the names that cells nobody perturbed, or a table of regulators, tell something of.

    Raises:
        DataError: see ``drift_effects``.
    """
    told = list(_in_silico(cells, names, regulators, _resting(cells)))
    return tuple(name for name in names if any(name in own for own in told))


def _sources(
    cells: EncodedCells,
    encoder: Encoder,
    names: Sequence[str],
    regulators: Regulators | None,
    response: ResponseModel | None,
) -> Iterator[dict[str, _Push]]:
    """What each kind of evidence says, the best first."""
    resting = _resting(cells)
    yield _measured(cells, names)
    if response is not None:
        yield _expected(cells, encoder, names, response, resting)
    yield from _in_silico(cells, names, regulators, resting)
    nothing = torch.zeros_like(resting.latent[0])
    yield {name: _Push(nothing, "none") for name in names if name in cells.genes}


def _in_silico(
    cells: EncodedCells, names: Sequence[str], regulators: Regulators | None, resting: "_Resting"
) -> Iterator[dict[str, _Push]]:
    associated = _associated(cells, names, resting)
    if regulators is not None:
        yield _regulating(cells, names, regulators, associated, resting)
    yield associated


def _resting(cells: EncodedCells) -> "_Resting":
    """Cells labelled as control; all where none is."""
    rows = cells.rows_of(CONTROL_LABEL)
    every = torch.arange(len(cells.latent)) if len(rows) == 0 else rows
    return _Resting(cells.expression[every], cells.latent[every])


class _Resting:
    """Cells that nobody perturbed, around their mean.

    Raises:
        DataError: there are too few.
    """

    def __init__(self, expression: Expression, latent: CellState) -> None:
        if len(latent) < _FEWEST_CELLS:
            raise DataError(
                f"{len(latent)} training cells were not perturbed, and what goes with a gene cannot be told from fewer "
                f"than {_FEWEST_CELLS}; add control cells"
            )
        self.mean = expression.mean(0)
        self.expression, self.latent = expression - self.mean, latent - latent.mean(0)
        self.sd = self.expression.square().mean(0).sqrt()

    def goes_with(self, values: Float[Tensor, "cells _"]) -> Float[Tensor, "_ latent"]:
        """Change of state that goes with one standard deviation more of centred values."""
        spread = values.square().mean(0).sqrt().clamp_min(torch.finfo(values.dtype).tiny)
        return values.T @ self.latent / len(values) / spread[:, None]


def _measured(cells: EncodedCells, names: Sequence[str]) -> dict[str, _Push]:
    """Mean shifts against control."""
    kept = [name for name in names if len(cells.rows_of(name))]
    if not kept or not len(cells.rows_of(CONTROL_LABEL)):
        return {}
    control = cells.mean_of(CONTROL_LABEL)
    return {name: _Push(cells.mean_of(name) - control, "measured") for name in kept}


def _expected(
    cells: EncodedCells, encoder: Encoder, names: Sequence[str], response: ResponseModel, resting: _Resting
) -> dict[str, _Push]:
    """What the response model says of perturbations that it has any evidence for."""
    asked = [(label, context) for context in response.contexts[:1] for label in map(Label.parse, names)]
    told = response.predict(asked).evidence
    kept = [name for name, evidence in zip(names, told, strict=True) if evidence != "none"]
    if not kept:
        return {}
    shifts = torch.as_tensor(response.overall(kept)).to(resting.mean)
    states = encoder.encode(torch.cat((resting.mean[None], resting.mean + shifts)))
    return {name: _Push(row, "response") for name, row in zip(kept, states[1:] - states[0], strict=True)}


def _associated(cells: EncodedCells, names: Sequence[str], resting: _Resting) -> dict[str, _Push]:
    """What goes with one standard deviation more of a gene."""
    place = {gene: i for i, gene in enumerate(cells.genes)}
    kept = [name for name in names if name in place and float(resting.sd[place[name]]) > 0]
    rows = resting.goes_with(resting.expression[:, [place[name] for name in kept]])
    return {name: _Push(row, "association") for name, row in zip(kept, rows, strict=True)}


def _regulating(
    cells: EncodedCells,
    names: Sequence[str],
    regulators: Regulators,
    associated: dict[str, _Push],
    resting: _Resting,
) -> dict[str, _Push]:
    """What goes with one standard deviation more of a factor's activity: the signed sum over its targets.

    The push is drawn towards the association with the factor's own expression (to nothing, where it is no measured
    gene) by as much as targets do not vary together as their signs say: 1 - Σ w² / var(Σ w x), as Cronbach 1951
    (10.1007/BF02310555). A factor whose targets do not is left to the association.

    Raises:
        DataError: no target is a gene of the data, or so few are that the table is of another species.
    """
    known = regulators.among(cells.genes)
    _require_same_names(regulators, known, cells.genes)
    place = {gene: i for i, gene in enumerate(cells.genes)}
    found: dict[str, _Push] = {}
    for name, edges in known.edges[known.edges["factor"].isin(set(names))].groupby("factor"):
        columns = torch.tensor([place[target] for target in edges["target"]])
        weights = torch.as_tensor(edges["weight"].to_numpy()).to(resting.latent)
        factor = place.get(str(name))
        push = _activity(
            resting, columns, weights / weights.abs().max(), None if regulators.is_signed else factor
        )
        if push is not None:
            share, row = push
            other = associated[str(name)].row if str(name) in associated else torch.zeros_like(row)
            found[str(name)] = _Push(share * row + (1 - share) * other, "regulators")
    return found


def _activity(
    resting: _Resting, columns: Tensor, weights: Float[Tensor, " targets"], signed_by: int | None
) -> tuple[float, Float[Tensor, " latent"]] | None:
    """How much targets vary together as their signs say, and what goes with their sum; nothing where they do not."""
    varies = resting.sd[columns] > 0
    columns, weights = columns[varies], weights[varies]
    if len(columns) < _FEWEST_TARGETS:
        return None
    standard = resting.expression[:, columns] / resting.sd[columns]
    if signed_by is not None:  # the table does not say, so the factor's own expression does
        weights = weights * (resting.expression[:, [signed_by]].T @ standard)[0].sign()
    activity = standard @ weights
    share = 1.0 - float(weights.square().sum() / activity.square().mean().clamp_min(1e-12))
    return (share, resting.goes_with(activity[:, None])[0]) if share > 0 else None


def _require_same_names(regulators: Regulators, known: Regulators, genes: Sequence[str]) -> None:
    theirs, ours = kind_of_names(regulators.targets), kind_of_names(genes)
    differ = theirs is not None and ours is not None and theirs != ours
    if len(known.edges) > (_OF_ANOTHER_SPECIES * len(regulators.edges) if differ else 0):
        return
    in_other_case = len({name.lower() for name in regulators.targets} & {gene.lower() for gene in genes})
    regulated = len(known.targets) or "none"
    said = (
        f"'{regulators.source}' regulates {regulated} of the {len(genes)} genes kept: it has "
        f"{listed(regulators.targets, _NAMED)}, the data have {listed(genes, _NAMED)}"
    )
    if differ:
        alike = f" ({in_other_case} are the same but for the case)" if in_other_case else ""
        raise DataError(
            f"{said}; the first look like {theirs} and the others like {ours}{alike}: give that species' table"
        )
    raise DataError(
        f"{said}; give a table with these names, or a table of aliases (data.aliases, columns alias and name)"
    )


def _unknown(names: Sequence[str], cells: EncodedCells) -> str:
    near = {name for name in names if name.lower() in {gene.lower() for gene in cells.genes}}
    case = f" ({listed(sorted(near), _NAMED)} but for the case)" if near else ""
    return (
        f"nothing tells what {listed(names, _NAMED)} would do to these cells: no cell was measured under it, and it is "
        f"neither one of the {len(cells.genes)} genes kept{case} nor a factor whose targets are; leave it out, keep "
        "all genes (data.n_top_genes null), or give regulators that know it"
    )
