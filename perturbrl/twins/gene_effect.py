"""The linear twin: each perturbation shifts every cell by its own vector."""

from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from perturbrl.data.labels import Label
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.schema import CONTROL_LABEL, CellState, Dose
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.dose_response import DoseResponse
from perturbrl.twins.part_effects import PartEffects
from perturbrl.twins.perturbations import PerturbationSpace

EffectSource = Literal["experimental", "in_silico", "joint"]
_ByDose = dict[
    float | None, Float[Tensor, " latent"]
]  # rising doses in the file's units; None where it has one


class GeneEffectTwin(DigitalTwin):
    """z' = z + scale * E(dose) + noise_scale * noise (paper, section on the gene-effect environment).

    E(dose) is dose @ E, linear; but a perturbation that was measured at several doses is one column, in units
    of its largest dose, whose effect is interpolated between the measured ones (see ``DoseResponse``).

    Rows of E, the effects at dose 1, come from

    - ``experimental``: mean latent shift of each training perturbation against training controls;
    - ``in_silico``: from control cells alone, the latent change that goes with one standard deviation more of
      a gene, cov(gene, latent) / sd(gene);
    - ``joint``: experimental where a perturbation was measured, in silico for all other genes.

    Args:
        effects: where the rows of E come from.
        combinations: whether measured combinations (``A+B``) are perturbations of their own, too; at
            several doses (``A:1+B``, ``A:2+B``) each is one.
        scale: factor on every effect.
        normalise: scale every row to length 1, and lower doses along with it; otherwise each keeps its
            measured length.
        noise_scale: standard deviation of the noise per step and latent dimension.
        min_dose_value: lowest dose; -1 lets a measured effect be run backwards, 0 does not.
        max_dose_value: highest dose; 1 is the perturbation as measured, at its largest dose.
    """

    needs_data = is_quick = True
    effects: Float[Tensor, "perturbations latent"]

    def __init__(
        self,
        effects: EffectSource = "experimental",
        combinations: bool = False,
        scale: float = 1.0,
        normalise: bool = False,
        noise_scale: float = 0.0,
        min_dose_value: float = 0.0,
        max_dose_value: float = 1.0,
    ) -> None:
        super().__init__()
        if not noise_scale >= 0:
            raise ConfigurationError(f"the twin's noise_scale is {noise_scale:g}; give 0 or more")
        self.source, self.combinations = effects, combinations
        self.scale, self.normalise, self.noise_scale = scale, normalise, noise_scale
        self.dose_range = (min_dose_value, max_dose_value)
        self.register_buffer("effects", torch.empty(0, 0))
        self.dose_response = DoseResponse()

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Estimate E from training cells.

        Raises:
            DataError: no training cell is a control, or no perturbation is left to estimate.
        """
        found: dict[str, _ByDose] = {} if self.source == "experimental" else _in_silico_effects(cells)
        if self.source != "in_silico":
            found |= self._experimental_effects(cells)
        effects = [torch.stack(list(by_dose.values())) for by_dose in found.values()]
        if self.normalise:
            effects = [effect / effect[-1].norm().clamp_min(1e-12) for effect in effects]
        self.encoder, self.latent_dim = encoder, encoder.latent_dim
        self.set_buffers(effects=torch.stack([effect[-1] for effect in effects]))
        doses = [[dose for dose in by_dose if dose is not None] for by_dose in found.values()]
        self.dose_response.learn([[dose / max(own) for dose in own] or [1.0] for own in doses], effects)
        space = PerturbationSpace(tuple(found), *self.dose_range, measured_doses=doses)
        self.perturbations = space.to(self.effects.device)
        return self

    def _experimental_effects(self, cells: EncodedCells) -> dict[str, _ByDose]:
        control = cells.mean_of(CONTROL_LABEL)
        labels = [p for p in cells.perturbations if self.combinations or not p.is_combination]
        if not labels:
            raise DataError(
                f"no single perturbation is left among the training labels {list(cells.perturbations)[:8]}; "
                "dose the measured combinations as they are "
                "(--model.twin GeneEffectTwin --model.twin.combinations true)"
            )
        found: dict[str, _ByDose] = {}
        for label in sorted(labels, key=_dose):
            name = str(label) if label.is_combination else label.names[0]
            found.setdefault(name, {})[_dose(label) or None] = cells.mean_of(label) - control
        return dict(sorted(found.items()))

    def transition(self, state: CellState, dose: Dose, noise: Tensor) -> CellState:
        """One step (see ``DigitalTwin``)."""
        effect = dose @ self.effects if self.dose_response.is_linear else self.dose_response(dose)
        following = state + self.scale * effect
        return following + self.noise_scale * noise if self.noise_scale else following

    def linear_effects(self) -> Float[Tensor, "perturbations latent"] | None:
        """The rows of E, scaled; ``None`` where a perturbation has several doses (see ``DigitalTwin``)."""
        return self.scale * self.effects if self.dose_response.is_linear else None

    def part_effects(self, n_parts: int) -> PartEffects:
        """See ``DigitalTwin``; the same in any number."""
        none = torch.empty(0, 1, dtype=torch.long, device=self.effects.device)
        shifts = self.scale * self.effects
        return PartEffects(
            shifts, shifts.new_zeros(len(shifts)), none, shifts[:0], True, self.dose_response.is_linear
        )

    def narrowed(self, columns: Int[Tensor, " some"]) -> Self:
        """See ``DigitalTwin``."""
        other = self._copied()
        other.dose_response = self.dose_response.narrowed(columns)
        other.set_buffers(effects=self.effects[columns])
        names = [self.perturbations.names[i] for i in columns.tolist()]
        other.perturbations = self.perturbations.restrict(names).alone()
        return other

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """Standard normal noise, or none at all where ``noise_scale`` is 0."""
        if self.noise_scale:
            return super().draw_noise(n_cells, generator)
        return self.start_cells.new_empty(n_cells, 0)


def _dose(label: Label) -> float:
    """The dose of a perturbation that has several, else 0."""
    return (label.parts[0].dose or 0.0) if not label.is_combination else 0.0


def _in_silico_effects(cells: EncodedCells) -> dict[str, _ByDose]:
    rows = cells.rows_of(CONTROL_LABEL)
    if len(rows) < 2:
        raise DataError(
            f"in-silico effects need at least 2 training control cells, found {len(rows)}; add more"
        )
    genes, latent = cells.expression[rows], cells.latent[rows]
    genes, latent = genes - genes.mean(0), latent - latent.mean(0)
    spread = genes.std(0)
    effects = genes.T @ latent / (len(rows) - 1) / spread.clamp_min(1e-12)[:, None]
    varies = (spread > 0).tolist()
    if not any(varies):
        raise DataError(
            f"none of the {len(cells.genes)} genes varies among {len(rows)} training control cells, so there is no "
            "in-silico effect; use measured effects (experimental) or other cells"
        )
    return {name: {None: effects[i]} for i, name in enumerate(cells.genes) if varies[i]}
