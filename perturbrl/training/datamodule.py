"""From a file to cells that are read, split and fitted, for training and from a checkpoint."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from anndata import AnnData
from torch.utils.data import DataLoader, Dataset

from perturbrl.data.cell_order import OrderOptions
from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.labels import Label
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions, detect_fields
from perturbrl.data.reading import ValueKind
from perturbrl.data.split import Split
from perturbrl.data.splits import HeldOutCells, SplitStrategy
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.base import Encoder
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL
from perturbrl.training.options import SyntheticOptions
from perturbrl.training.prepared_data import PreparedData
from perturbrl.training.progress import working
from perturbrl.training.saved_data import (
    learned_data,
    require_same_start,
    restore_encoder,
    say_unheeded,
    split_of_cells,
)


class PerturbationDataModule(PreparedData):
    """Cells, target and what may be dosed. Everything learned here is learned from training cells only.

    Args:
        path: .h5ad, 10x .h5, 10x .mtx folder or .h5mu with control and perturbed cells; null where the twin is
            a network and brings its own states.
        target: where cells should go: a perturbation of the file, a query of obs (cell_type=Erythrocyte, or
            cell_type=B,perturbation=IFNB), an attractor (of a landscape a cell type, Erythrocyte), or a partial state
            of a network (Gata1=1,Fli1=0: the attractors that have it). Its measured cells are held out of all fitting.
        source: where cells start, named in the same way; the controls.
        learn_target: whether genes, encoder and twin learn from those cells of the target that define the goal: a
            landscape must, or it has no basin there. The cells that judge are never learned from. Cells need no
            perturbation then, and a file that tells of none has untreated cells only.
        columns: which columns of obs say what, where they are not recognised.
        value_kind: what the values are (counts, log1p, normalised); null tells by them.
        synthetic: a simulated screen in place of a file.
        split: which cells are held out for testing; null holds out a fifth of every population (HeldOutCells).
        goal_fraction: share of the target's cells that defines the goal; only the rest judges the result.
        reference_fraction: share of the source's cells, after those that judge, that neither genes are chosen
            on nor the encoder is fitted on: only cells as unseen as the target's can tell whether it differs. With
            learn_target both are learned from.
        n_top_genes: highly variable genes kept, chosen on training cells; null keeps all. With learn_target the allowed
            perturbations are kept, too, where they are genes.
        encoder: turns expression into cell states; null is 20 principal components (PCAEncoder).
        allowed_perturbations: the only perturbations that may be dosed: a list, or a file of one name a line, of which
            those that the data know; null allows all.
        max_perturbations: different perturbations per cell and episode, at most; null is no limit.
        min_dose: share of the dose range below which a dose counts as unused; null keeps the twin's own.
        gene_sets: GMT files, plain or gzipped: perturbed genes of one set may do alike.
        edges: edge lists such as STRING's: perturbations with the same neighbours may do alike.
        features: tables of numbers by perturbation, such as GenePT's: perturbations alike in them may do alike.
        reference: another screen (.h5ad): what the same perturbations did there, and which did alike.
        aliases: table of other names and those that are meant, for what these files know and for queries.
        queries: what predict answers where no target is given: STAT1, KLF1+MAP2K6 (together), dexamethasone:3 (dose),
            IFNB@NK (context), several as '[STAT1, IFNB@NK]'; null asks everything that the data and prior knowledge let
            one ask.
        time_key: obs column with the time at which a cell was taken, as numbers, for twins that need an order of
            cells; null recognises a plain name (time, day, hours), else pseudotime.
        pseudotime_key: obs column with pseudotime, in place of time points; null recognises a plain name.
        root: population that the others come from (a label or an obs query such as cell_type=HSC), from which
            diffusion pseudotime is computed on training cells, in place of a column.
    """

    def __init__(
        self,
        path: str | None = None,
        target: str | None = None,
        source: str = CONTROL_LABEL,
        learn_target: bool = False,
        columns: ColumnOptions = ColumnOptions(),  # noqa: B008  frozen
        value_kind: ValueKind | None = None,
        synthetic: SyntheticOptions | None = None,
        split: SplitStrategy | None = None,
        goal_fraction: float = 0.5,
        reference_fraction: float = 0.2,
        n_top_genes: int | None = 2000,
        encoder: Encoder | None = None,
        allowed_perturbations: list[str] | str | None = None,
        max_perturbations: int | None = None,
        min_dose: float | None = None,
        gene_sets: str | list[str] | None = None,
        edges: str | list[str] | None = None,
        features: str | list[str] | None = None,
        reference: str | None = None,
        aliases: str | None = None,
        queries: list[str] | str | None = None,
        time_key: str | None = None,
        pseudotime_key: str | None = None,
        root: str | None = None,
    ) -> None:
        super().__init__()
        if path is not None and synthetic is not None:
            raise ConfigurationError(
                f"both data.path '{path}' and data.synthetic are given; give one of them"
            )
        if target is not None and queries is not None:
            raise ConfigurationError(
                f"both data.target '{target}' and data.queries are given, and what is trained towards a target answers "
                "no queries; give one of them"
            )
        if path is not None and reference is not None and Path(path).resolve() == Path(reference).resolve():
            raise ConfigurationError(
                f"data.reference '{reference}' is data.path itself and tells of held-out cells; give another screen"
            )
        self.path, self.synthetic = path, synthetic
        self.target, self.source, self.learn_target = target, source, learn_target
        self.columns, self.value_kind = columns, value_kind
        self.strategy: SplitStrategy = HeldOutCells() if split is None else split
        self.goal_fraction, self.reference_fraction = goal_fraction, reference_fraction
        self.preprocessor = Preprocessor(n_top_genes=n_top_genes)
        self.encoder: Encoder = PCAEncoder() if encoder is None else encoder
        self.allowed_perturbations: Sequence[str] | str | None = allowed_perturbations
        self.max_perturbations, self.min_dose = max_perturbations, min_dose
        self.gene_sets, self.edges, self.features = gene_sets, edges, features
        self.reference, self.aliases = reference, aliases
        self.queries: Sequence[str] | None = [queries] if isinstance(queries, str) else queries
        self.ordering = OrderOptions(time_key, pseudotime_key, root)
        self.adata: AnnData | None = None
        self.dataset: PerturbationDataset | None = None
        self.split: Split | None = None
        self._new_cells_allowed = self._to_train = False

    @classmethod
    def from_adata(cls, adata: AnnData, target: str | None, **options: Any) -> "PerturbationDataModule":
        """The same on cells in memory; ``options`` are the constructor's."""
        module = cls(target=target, **options)
        module.adata = adata
        return module

    @property
    def has_cells(self) -> bool:
        """Whether there are measured (or simulated) cells, rather than a network's own states."""
        return self.path is not None or self.synthetic is not None or self.adata is not None

    def setup(self, stage: str) -> None:
        """Read the cells; at stage ``fit`` also split them and fit preprocessing and encoder on training cells.

        Raises:
            DataError: the file cannot be used (the message says why and what to do).
            LeakageError: a strategy of the user's puts cells into training that tell of what is held out.
        """
        self._to_train = stage == "fit"
        if not self.has_cells or (self.dataset is not None and not self._to_train):
            return
        with working("reading cells"):
            self.dataset = self._read()
        self._new_cells_allowed = stage == "predict"
        if self.split is None and not self._new_cells_allowed:
            self._split(self.dataset)
        if self._to_train:
            self._fit(self.dataset)

    def _read(self) -> PerturbationDataset:
        labels_needed = not self.learn_target
        if self.path is not None:
            return load_dataset(
                Path(self.path), self.columns, value_kind=self.value_kind, labels_needed=labels_needed
            )
        adata = self.adata if self.synthetic is None else simulate_screen(**vars(self.synthetic))
        assert adata is not None
        fields = detect_fields(adata, self.columns, labels_needed=labels_needed)
        return PerturbationDataset.from_adata(adata, fields, self.value_kind)

    def _split(self, dataset: PerturbationDataset) -> None:
        self.source, held = dataset.populations.named(self.source), self._held_out(dataset)
        split = self.strategy.split(
            dataset,
            hold_out=held,
            goal_fraction=self.goal_fraction,
            source=self.source if held else None,
            reference_fraction=self.reference_fraction,
            learn_target=self.learn_target,
        )
        # A strategy of the user's may not say that the target is held out; nothing is learned of it all the same.
        untold = [] if self.learn_target else [name for name in held if isinstance(name, Label)]
        labels = tuple(dict.fromkeys((*split.held_out_perturbations, *untold)))
        self.split = replace(split, held_out_perturbations=labels)

    def _held_out(self, dataset: PerturbationDataset) -> tuple[str, ...]:
        if self.target is None:
            return ()
        target = dataset.populations.target(self.target)
        if isinstance(target, Label) and not self.learn_target:
            dataset.require_perturbations(at_least=2)
        dataset.populations.require_apart(self.source, target)
        self.target = target
        return (target,)

    def _fit(self, dataset: PerturbationDataset) -> None:
        with working("choosing genes and fitting the encoder"):
            rows = self._rows_to_learn_from()
            # Where they learned the goal's cells, those to tell these from must be as well known to them.
            rows = rows if self.learn_target else np.setdiff1d(rows, self._split_now().reference)
            # On a landscape a factor is dosed by what goes with its own expression.
            keep = self._allowed.names if self.learn_target and self._allowed else ()
            self.preprocessor.fit(dataset, rows, keep)
            self.encoder.fit(self.preprocessor.transform(dataset, rows))

    def train_dataloader(self) -> DataLoader:
        """One element for every process: an epoch is one iteration of the optimiser."""
        processes = 1 if self.trainer is None else self.trainer.world_size
        return DataLoader(cast(Dataset[int], list(range(processes))), batch_size=None)

    test_dataloader = predict_dataloader = train_dataloader

    def state_dict(self) -> dict[str, Any]:
        """What was learned and which cells it was learned from, as plain values."""
        target = None if self.target is None else str(self.target)
        state: dict[str, Any] = {"target": target, "source": str(self.source)}
        if self.split is not None:
            state |= learned_data(self.split, self.preprocessor, self.encoder, self.priors)
            state["ordering"] = vars(self.ordering)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned.

        Raises:
            CheckpointError: the file now holds other cells than the checkpoint was trained with, and the stage
                is not ``predict``; the configured encoder is not the checkpoint's; or a run would go on with
                other held-out cells, genes or prior knowledge than it began with.
        """
        asked = self.source, self.target
        self.source = self._as_measured(state["source"])
        self.target = None if state["target"] is None else self._as_measured(state["target"])
        if not self._to_train:
            used = {"data.source": self.source, "data.target": self.target}
            say_unheeded(dict(zip(used, map(self._in_one_spelling, asked), strict=True)), used)
        if "split" not in state:
            return
        split = split_of_cells(
            state["split"], self._dataset_now(), self.path, may_be_new=self._new_cells_allowed
        )
        if split is not None and self._to_train:
            require_same_start(state | {"split": split.to_dict()}, self.state_dict())
        self.preprocessor = Preprocessor.from_state_dict(state["preprocessor"])
        restore_encoder(self.encoder, state["encoder"])
        self.split = self.split if split is None else split

    def _in_one_spelling(self, text: str | None) -> str | None:
        ours = (self.source, self.target)
        if text is None or text in ours:
            return text
        as_type = f"{CELL_TYPE_OBS}={text}"
        return as_type if as_type in ours else Label.parse(text)

    def _as_measured(self, text: str) -> str:
        """The label of the loaded cells that is written ``text``; the text itself where there is none."""
        measured = () if self.dataset is None else self.dataset.measured
        return next((label for label in measured if label == text), text)
