"""What does this perturbation do? From a fitted model and questions to shifts, intervals, evidence and cells."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import listed
from perturbrl.responses import discoveries
from perturbrl.responses.answered_cells import answered_cells, require_number
from perturbrl.responses.base import EVIDENCE, Evidence, PredictedShifts
from perturbrl.responses.inner_split import measured_conditions, require_others
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.matches import matched_names
from perturbrl.responses.prior_notes import prior_notes
from perturbrl.responses.questions import Asked, Known, questions, text_of
from perturbrl.responses.target_loadings import SOURCE
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL

Z_90: Final = 1.645
# Queries whose weights on all measured rows are held at a time.
_AT_ONCE: Final = 512
MOST_SIMILAR: Final = 10
ITSELF: Final = "itself"
_NAMED: Final = 3
_WORTH_NAMING: Final = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class Answers:
    """Expected responses, one row for each condition that was asked for, under the text it was asked by.

    Attributes:
        delta: queries x genes, expected shift of mean log1p(counts per 10,000) from control.
        sd: queries x genes, standard deviation of that shift, without the noise of cells that might judge it.
        evidence: what each rests on: ``measured``, ``combined``, ``transferred``, ``prior`` or ``none``.
        effects: columns ``effect`` (size: length of the expected shift, the root of the sum of its squares over genes),
            the ends ``low`` and ``high`` of a 90 % interval of the shift in that direction, and ``fdr``, the false
            discovery rate over all queries (``discoveries.of_queries``).
        n_perturbations: how many each query joins.
        sentences: the evidence in words, with all that has to be known of a row.
        similar: columns ``query``, ``measured``, ``weight``: the measured conditions whose shifts enter a prediction
            with the largest weights; ``itself`` is the one that is asked about.
        weights: share of the variance of effects that each similarity between perturbations explains.
        matches: how many names each prior has in common with the data (``matches.matched_names``).
        notes: what should make a reader of any row careful, in sentences.
        worth: what each source of prior knowledge was found to be worth, in sentences.
        unknown: perturbations asked for of which nothing is known.
        extrapolated: rows that ask for a dose outside of those measured.
        cells: predicted cells with counts beside real control cells; ``None`` where none were asked for.
    """

    delta: pd.DataFrame
    sd: pd.DataFrame
    evidence: pd.Series
    effects: pd.DataFrame
    n_perturbations: pd.Series
    sentences: pd.Series
    similar: pd.DataFrame
    weights: dict[str, float]
    matches: pd.DataFrame
    notes: tuple[str, ...]
    worth: tuple[str, ...]
    unknown: tuple[str, ...]
    extrapolated: pd.Series
    cells: AnnData | None = field(default=None)

    @property
    def claimed(self) -> pd.Series:
        """Whether each query has an effect, at a false discovery rate of 5 % over all queries."""
        return self.effects["fdr"] <= discoveries.LEVEL

    @cached_property
    def sure(self) -> pd.DataFrame:
        """Queries x genes: whether the gene shifts; see ``discoveries.of_genes``."""
        rates = self.effects["fdr"].to_numpy()
        found = discoveries.of_genes(self.delta.to_numpy(), self.sd.to_numpy(), rates)
        return pd.DataFrame(found, self.delta.index, self.delta.columns)

    @property
    def match_notes(self) -> tuple[str, ...]:
        """How many names each prior has in common with the data, in words."""
        return tuple(
            f"{source} knows {row.measured} of the {row.of_measured} measured perturbations and {row.asked} of the "
            f"{row.of_asked} asked for"
            for source, row in self.matches.iterrows()
            if source != SOURCE
        )

    def effect(self, query: str) -> tuple[float, float, float]:
        """Size of the effect and the ends of its interval."""
        columns = self.effects[["effect", "low", "high"]].to_numpy()
        effect, low, high = columns[self.effects.index.get_loc(query)].tolist()
        return effect, low, high

    def genes(self, query: str, direction: int) -> list[str]:
        """Genes that go up (1) or down (-1), the largest shift first: those of ``sure``, however many."""
        row = self.delta.index.get_loc(query)
        shift = direction * self.delta.to_numpy()[row]
        order = np.argsort(-shift, kind="stable")
        sure = self.sure.to_numpy()[row][order]
        return [str(gene) for gene in self.delta.columns[order[sure & (shift[order] > 0)]]]

    def named(self, query: str) -> str:
        """The measured conditions that carry a prediction most, ``JAK2 .41, IFNGR1 .38``; none where none does."""
        own = self._carriers.get(query)
        if own is None:
            return ""
        worth = own[own["weight"].abs() >= _WORTH_NAMING].head(_NAMED)
        return ", ".join(
            f"{name} {'−' if weight < 0 else ''}{f'{abs(weight):.2f}'.lstrip('0')}"
            for name, weight in zip(worth["measured"], worth["weight"], strict=True)
        )

    @cached_property
    def _carriers(self) -> dict[str, pd.DataFrame]:
        return {str(query): own for query, own in self.similar.groupby("query", sort=False)}


def answer(
    model: Kriging,
    dataset: PerturbationDataset,
    genes: Sequence[str],
    queries: Sequence[str],
    *,
    aliases: Mapping[str, str] = MappingProxyType({}),
    n_cells: int = 0,
    seed: int = 0,
) -> Answers:
    """Answer queries with a model that was fitted on cells of a data set.

    Args:
        model: the model.
        dataset: control and perturbed cells; the controls among them are moved where cells are asked for.
        genes: of the columns of the model's shifts.
        queries: see ``questions``.
        aliases: the name that is meant by another one in a query.
        n_cells: predicted cells of each query.
        seed: of the cells drawn.

    Raises:
        ConfigurationError: ``n_cells`` is negative.
        DataError: a query cannot be answered, prior knowledge has no name of the data, or cells are asked for and the
            data are no counts.
    """
    require_number(n_cells)
    asked = questions(queries, known_of(model, dataset, aliases))
    conditions = [one.condition for one in asked]
    names = {name for label, _ in conditions for name in label.names}
    matches = matched_names(model.priors, _measured_names(model), names)
    found = model.predict(conditions)
    similar = _similar(model, asked)
    texts = [one.text for one in asked]
    index = pd.Index(texts, name="query")
    cells = (
        answered_cells(model, dataset, genes, conditions, texts, found.mean, n_cells, seed)
        if n_cells
        else None
    )
    without = Answers(
        delta=pd.DataFrame(found.mean, index, list(genes)),
        sd=pd.DataFrame(found.sd, index, list(genes)),
        evidence=pd.Series(found.evidence, index, name="evidence"),
        effects=_effects(found, index),
        n_perturbations=pd.Series(
            [len(label.names) for label, _ in conditions], index, name="n_perturbations"
        ),
        sentences=pd.Series("", index, name="sentence"),
        similar=similar,
        weights=model.weights,
        matches=matches,
        notes=(*_left_out(dataset), *_alone(model)),
        worth=prior_notes(model),
        unknown=_unknown(model, conditions, found.evidence),
        extrapolated=pd.Series([one.extrapolated for one in asked], index, name="extrapolated"),
        cells=cells,
    )
    without.sentences[:] = [_sentence(one, without, model) for one in asked]
    for line in (*without.match_notes, *without.worth, *without.notes):
        _log.info(line)
    return without


def fit_kriging(
    dataset: PerturbationDataset, priors: Sequence[PriorKnowledge] = ()
) -> tuple[Kriging, tuple[str, ...]]:
    """A model of all cells of a data set, and its genes; cell types, where they are known, are contexts.

    Raises:
        DataError: see ``Moments``; one perturbation was measured in one context; or prior knowledge has no name of the
            data.
    """
    everything = np.arange(dataset.n_cells)
    preprocessor = Preprocessor(n_top_genes=None).fit(dataset, everything)
    matched_names(priors, {name for label in dataset.perturbations for name in label.names})
    expression = preprocessor.transform_sparse(dataset, everything)
    types = list(dataset.cell_types) if dataset.fields.cell_type_key else None
    training = TrainingCells(expression, list(dataset.labels), preprocessor.genes, types)
    if measured := measured_conditions(training):
        require_others(measured)
    return Kriging(priors).fit(training), preprocessor.genes


def _left_out(dataset: PerturbationDataset) -> tuple[str, ...]:
    """Perturbed cells of which nothing is learned, because their context has no control cell."""
    if dataset.fields.cell_type_key is None:
        return ()
    control = dataset.control_cells
    types, perturbed = dataset.cell_types, np.ones(dataset.n_cells, dtype=bool)
    perturbed[control] = False
    lost = perturbed & ~np.isin(types, sorted(set(types[control])))
    if not lost.any():
        return ()
    names = sorted(set(types[lost]))
    return (
        f"{int(lost.sum())} perturbed cells of {listed(names, 5)} are left out: without '{CONTROL_LABEL}' cells of "
        "the same type nothing says how far they were shifted",
    )


def _alone(model: Kriging) -> tuple[str, ...]:
    """What a single perturbation cannot tell."""
    names = sorted(_measured_names(model))
    if len(names) > 1:
        return ()
    return (
        f"only {names[0]} was measured, so what it does of its own cannot be told from what any perturbation does",
    )


def known_of(model: Kriging, dataset: PerturbationDataset, aliases: Mapping[str, str]) -> Known:
    """What a fitted model may be asked about."""
    names = {name for label in dataset.measured for name in label.names} | set(dataset.genes)
    names |= {name for prior in model.priors for name in prior.names}
    measured = {str(label): label for label in dataset.measured}
    column = dataset.fields.cell_type_key or CELL_TYPE_OBS
    return Known(measured, model.contexts, names, _learned(model), aliases, column)


def _learned(model: Kriging) -> set[Label]:
    return {label for label, _ in model.moments.conditions}


def _measured_names(model: Kriging) -> set[str]:
    return {name for label in _learned(model) for name in label.names}


def _unknown(model: Kriging, asked: Sequence[Condition], evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """Perturbations of conditions without evidence that have none alone."""
    without = [condition for condition, one in zip(asked, evidence, strict=True) if one == "none"]
    singles = sorted({(single, where) for label, where in without for single in label.singles})
    alone = model.predict(singles).evidence if singles else ()
    names = [single.names[0] for (single, _), one in zip(singles, alone, strict=True) if one == "none"]
    return tuple(dict.fromkeys(names))


def _effects(found: PredictedShifts, index: pd.Index) -> pd.DataFrame:
    size, half = np.linalg.norm(found.mean, axis=1), Z_90 * found.along
    rates = discoveries.of_queries(found.mean, found.sd)
    return pd.DataFrame({"effect": size, "low": size - half, "high": size + half, "fdr": rates}, index)


def _similar(model: Kriging, asked: Sequence[Asked]) -> pd.DataFrame:
    rows = [text_of(condition) for condition in model.moments.conditions]
    found = [
        (one.text, ITSELF if model.moments.conditions[row] == one.condition else rows[row], float(own[row]))
        for some in (asked[i : i + _AT_ONCE] for i in range(0, len(asked), _AT_ONCE))
        for one, own in zip(some, model.row_weights([one.condition for one in some]), strict=True)
        for row in _largest(own)
    ]
    return pd.DataFrame(found, columns=["query", "measured", "weight"])


def _largest(weights: Float[np.ndarray, " rows"]) -> Iterator[int]:
    yield from np.argsort(-np.abs(weights), kind="stable")[:MOST_SIMILAR].tolist()


def _sentence(one: Asked, answers: Answers, model: Kriging) -> str:
    evidence = answers.evidence[one.text]
    named = answers.named(one.text)
    unsure = "" if answers.claimed[one.text] else "it may have no effect at all"
    unknown = [name for name in one.condition[0].names if name in answers.unknown]
    # Of what nobody knows, all measured ones tell a little: none of them is like it.
    alike = evidence != "measured" and len(unknown) < len(one.condition[0].names)
    like = f"it is predicted like {named}" if named and alike else ""
    known, doubtful = EVIDENCE[evidence], evidence == "prior" and not model.confirmed
    if unknown:
        known = (
            f"nothing is known of {listed(unknown)}: no more is expected than what all perturbations have in common, "
            "with a wide interval"
        )
    unconfirmed = "the measured perturbations do not confirm that it helps" if doubtful else ""
    said = [known, unconfirmed, *one.said, like, unsure]
    return f"{one.text}: {'; '.join(part for part in said if part)}"
