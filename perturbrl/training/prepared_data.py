"""Cells that were read, split and fitted: those a twin learns from, episodes start from, and results are judged on."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from lightning import LightningDataModule

from perturbrl.data.aliases import read_aliases
from perturbrl.data.allowed_perturbations import AllowedPerturbations
from perturbrl.data.cell_order import OrderOptions
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.split import Split
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.embeddings.measured import MeasuredCells, Part
from perturbrl.errors import ConfigurationError
from perturbrl.responses.matches import matched_names
from perturbrl.responses.prior_files import read_priors
from perturbrl.schema import CellIndex, CellState, Expression
from perturbrl.training.progress import working
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


class PreparedData(LightningDataModule):
    """What training and reports ask of the data; how they are prepared is left to a subclass, which has the options.

    Attributes:
        dataset: the cells; ``None`` before they are read, and where the twin brings its own.
        split: their parts; ``None`` before they are split, and of cells that are new to a trained model.
        preprocessor: fitted on training cells.
        encoder: fitted on training cells.
        ordering: what orders cells.
        source: population that cells start from.
        target: population that they should reach.
    """

    dataset: PerturbationDataset | None
    split: Split | None
    preprocessor: Preprocessor
    encoder: Encoder
    ordering: OrderOptions
    source: str
    target: str | None
    allowed_perturbations: Sequence[str] | str | None
    max_perturbations: int | None
    min_dose: float | None
    gene_sets: str | list[str] | None
    edges: str | list[str] | None
    features: str | list[str] | None
    reference: str | None
    aliases: str | None

    def training_rows(self) -> CellIndex:
        """Rows of the cells that the twin, and but for the reference cells genes and encoder, are learned from.

        Held-out ones are refused when they are read.
        """
        return self._split_now().train

    def _rows_to_learn_from(self) -> CellIndex:
        rows = self.training_rows()
        return self._split_now().require_train(rows, self._dataset_now().labels[rows])

    def _dataset_now(self) -> PerturbationDataset:
        if self.dataset is None:
            raise ConfigurationError("no cells are loaded: data.path is null; give data.path a file")
        return self.dataset

    def _split_now(self) -> Split:
        if self.split is None:
            raise ConfigurationError("no cells are loaded: data.path is null; give data.path a file")
        return self.split

    @property
    def measured(self) -> MeasuredCells:
        """The cells, with what was fitted on them.

        Raises:
            ConfigurationError: none are loaded.
        """
        return MeasuredCells(self._dataset_now(), self.split, self.preprocessor, self.encoder, self.ordering)

    def training_cells(self) -> EncodedCells:
        """All training cells in both spaces.

        Raises:
            LeakageError: a cell among them is held out, or tells of a held-out perturbation.
            DataError: a file of prior knowledge is not what it should be, or has no name of the data.
        """
        return self._with_what_is_known(self.measured.training(self._rows_to_learn_from()))

    def judging_cells(self) -> EncodedCells:
        """All cells that judge, in both spaces: what a twin of their own may be learned from, to judge by.

        Nothing else is learned from them.
        """
        return self._with_what_is_known(self.measured.training(self._split_now().test))

    def _with_what_is_known(self, cells: EncodedCells) -> EncodedCells:
        perturbed = {name for label in cells.perturbations for name in label.names}
        matched_names(self.priors, perturbed)
        known = perturbed.union(
            map(str, cells.perturbations), self.genes, *(prior.names for prior in self.priors)
        )
        allowed = None if self._allowed is None else self._allowed.among(known)
        aliases = read_aliases(self.aliases) if self.aliases else {}
        return replace(cells, priors=self.priors, allowed=allowed, aliases=aliases)

    @cached_property
    def _allowed(self) -> AllowedPerturbations | None:
        given = self.allowed_perturbations
        return None if given is None else AllowedPerturbations.of(given)

    @cached_property
    def priors(self) -> tuple[PriorKnowledge, ...]:
        """What the files of prior knowledge say.

        Raises:
            DataError: a file is not what it should be.
        """
        with working("reading prior knowledge"):
            sources = self.gene_sets or (), self.edges or (), self.features or ()
            return read_priors(*sources, self.reference, self.aliases)

    def require_untold(self, labels: Sequence[str]) -> None:
        """Refuse to learn from cells with these labels where one tells of a held-out perturbation.

        Raises:
            LeakageError: which labels.
        """
        self._split_now().require_untold(labels)

    @property
    def genes(self) -> Sequence[str]:
        """Genes kept, in the order of expression's columns."""
        return self.preprocessor.genes

    def rows(self, label: str, part: Part) -> np.ndarray:
        """Row numbers (see ``MeasuredCells``)."""
        return self.measured.rows(label, part)

    def expression(self, label: str, part: Part) -> Expression:
        """Log-normalised expression (see ``MeasuredCells``)."""
        return self.measured.expression(label, part)

    def cells(self, label: str, part: Part) -> CellState:
        """Cell states (see ``MeasuredCells``)."""
        return self.measured.states(label, part)

    def reference_cells(self) -> CellState:
        """Cell states of the source's reference cells (see ``MeasuredCells``)."""
        return self.measured.reference(self.source)

    def other_types(self) -> tuple[CellState, ...]:
        """Training cells of each cell type, without those of source and target; none where types are unknown."""
        return self.measured.other_types((self.source, str(self.target)))

    def restrict(self, twin: DigitalTwin) -> PerturbationSpace:
        """What may be dosed in ``twin`` under the limits given here."""
        allowed = self._allowed
        return twin.perturbations.restrict(
            None if allowed is None else allowed.among(twin.perturbations.names),
            min_dose=self.min_dose,
            max_perturbations=self.max_perturbations,
        )
