"""Answers and judged predictions as tables: for the page as text, for files as data frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool

from perturbrl.evaluation.statistics import Interval
from perturbrl.reporting.report_tables import CellText, Table, TableRow, interval_cell
from perturbrl.reporting.report_text import number, percent
from perturbrl.responses.answers import Z_90, Answers
from perturbrl.responses.base import EVIDENCE, Evidence
from perturbrl.responses.covariances import COMMON, INTERACTION, OWN
from perturbrl.responses.discoveries import LEVEL
from perturbrl.responses.target_loadings import SOURCE
from perturbrl.schema import EXPRESSION_UNIT

MOST_ROWS: Final = 40
MOST_OF_A_KIND: Final = 20
MOST_TO_READ: Final = 10
NOTHING: Final = 0.005
GENES_SHOWN: Final = 5
GENES_UNSURE: Final = 3
GENES_KEPT: Final = 50
TITLES: Final = {
    "answers": "What each perturbation does",
    "answers_measured": "Measured",
    "answers_single": "Single perturbations nobody measured",
    "answers_joined": "Combinations nobody measured",
}
IN_WORDS: Final = {
    COMMON: "what all perturbations have in common",
    OWN: "what each perturbation does of its own",
    INTERACTION: "interaction within combinations",
    SOURCE: "what perturbed genes vary together with",
}


def answer_frame(answers: Answers) -> pd.DataFrame:
    """One row per query: evidence, effect with interval and false discovery rate, genes, what it is like, the sentence.

    Genes are those of ``Answers.genes``, the largest shift first, at most ``GENES_KEPT`` in each direction of the
    ``n_up`` and ``n_down`` that there are.
    """
    table = answers.effects.rename(columns={"low": "effect_low", "high": "effect_high"})
    table.insert(0, "evidence", answers.evidence)
    table.insert(1, "n_perturbations", answers.n_perturbations)
    for name, direction in (("up", 1), ("down", -1)):
        genes = {query: answers.genes(query, direction) for query in table.index}
        table[f"n_{name}"] = [len(genes[query]) for query in table.index]
        table[f"genes_{name}"] = [";".join(genes[query][:GENES_KEPT]) for query in table.index]
    table["extrapolated"] = answers.extrapolated
    table["like"] = [answers.named(query) for query in table.index]
    table["sentence"] = answers.sentences
    return table.reset_index()


def surest_first(answers: Answers) -> list[str]:
    """Queries with an effect first, each kind by the size of the effect over its standard deviation."""
    effects = answers.effects
    sureness = effects["effect"] / (effects["high"] - effects["effect"])
    order = np.lexsort((-sureness.fillna(0.0).to_numpy(), ~answers.claimed.to_numpy()))
    return [str(query) for query in effects.index[order]]


def summed_up(answers: Answers) -> bool:
    """Whether queries are so many that effects are summed up by evidence."""
    return len(answers.delta) > MOST_TO_READ


def evidence_table(answers: Answers) -> Table:
    """How large effects are, and how many can be told from none, by what they rest on."""
    rows = tuple(
        _evidence_row(name, answers, (answers.evidence == name).to_numpy())
        for name in EVIDENCE
        if (answers.evidence == name).any()
    )
    meaning = {
        "median size": size_in_words(answers),
        "interval clear of 0": "share of queries whose 90 % interval of the size does not hold 0. A size is never "
        "negative, so this alone shows no effect",
        "with an effect": _claimed(answers),
        **_present(answers.evidence),
    }
    columns = ("evidence", "queries", "median size", "interval clear of 0", "with an effect")
    return Table("evidence", "By evidence", columns, rows, meaning=meaning)


def _present(evidence: pd.Series) -> dict[str, str]:
    """What each kind of evidence that there is means."""
    return {name: EVIDENCE[name] for name in EVIDENCE if (evidence == name).any()}


def _evidence_row(name: Evidence, answers: Answers, own: Bool[np.ndarray, " queries"]) -> TableRow:
    effects, claimed = answers.effects[own], answers.claimed[own]
    return TableRow(
        (
            name,
            f"{own.sum():,}",
            number(float(effects["effect"].median())),
            percent(float((effects["low"] > 0).mean())),
            f"{claimed.sum():,} ({percent(float(claimed.mean()))})",
        )
    )


def size_in_words(answers: Answers) -> str:
    """What the size of an effect is."""
    return (
        f"root of the sum, over {answers.delta.shape[1]:,} genes, of squared expected differences from control of the "
        f"{EXPRESSION_UNIT}; more genes make it larger"
    )


def _claimed(answers: Answers) -> str:
    n = len(answers.delta)
    over = f" over all {n:,} queries" if n > 1 else ""
    return (
        f"queries of which at least one gene shifts, at a false discovery rate of {percent(LEVEL)}{over} (Benjamini "
        f"and Hochberg): of those that are called so, no more than {percent(LEVEL)} are expected to have none"
    )


def by_kind(answers: Answers) -> dict[str, list[str]]:
    """Queries by the key of their table, the surest first: of many the measured and the other ones apart."""
    queries = surest_first(answers)
    if len(queries) <= MOST_ROWS:
        return {"answers": queries}
    measured, joined = answers.evidence == "measured", answers.n_perturbations > 1
    kinds = {
        "answers_measured": measured,
        "answers_single": ~measured & ~joined,
        "answers_joined": ~measured & joined,
    }
    return {key: [query for query in queries if own[query]] for key, own in kinds.items() if own.any()}


def some_of_each_kind(answers: Answers) -> list[str]:
    """All queries, the surest of each kind first, then the second ones."""
    places = ((place, query) for own in by_kind(answers).values() for place, query in enumerate(own))
    return [query for _, query in sorted(places, key=lambda pair: pair[0])]


def answer_tables(answers: Answers) -> tuple[Table, ...]:
    """What each perturbation does, the surest effect first; a table for each kind of many queries."""
    tables = [_answer_table(answers, key, TITLES[key], queries) for key, queries in by_kind(answers).items()]
    return (tables[0], *(replace(table, meaning={}) for table in tables[1:]))


def _answer_table(answers: Answers, key: str, title: str, queries: Sequence[str]) -> Table:
    most = MOST_ROWS if key == "answers" else MOST_OF_A_KIND
    rows = tuple(_answer_row(answers, query) for query in queries[:most])
    note = "The surest effect first: the largest for its standard deviation."
    if len(queries) > most:
        note += f" The other {len(queries) - most:,} of {len(queries):,} are in responses.csv."
    meaning = {
        "size of effect": f"{size_in_words(answers)}. Brackets: 90 % interval of the shift in that direction, "
        "which can clear 0 where there is no effect: the FDR tells",
        "FDR": "false discovery rate: the share of queries expected to have no effect among all whose FDR is as small "
        "as this one's or smaller",
        "genes up, genes down": "genes that shift, the largest shift first, at the same rate over genes: a query has "
        f"some where its FDR is at most {percent(LEVEL)}. Not sure: genes whose own 90 % interval does not hold 0, "
        "where none is",
        "predicted like": "measured conditions whose shifts enter the prediction with the largest weights",
    }
    present = {} if summed_up(answers) else _present(answers.evidence)
    columns = ("query", "evidence", "size of effect", "FDR", "genes up", "genes down", "predicted like")
    return Table(key, title, columns, rows, note, meaning | present)


def _answer_row(answers: Answers, query: str) -> TableRow:
    return TableRow(
        (
            query,
            answers.evidence[query] + (", extrapolated" if answers.extrapolated[query] else ""),
            interval_cell(Interval(*answers.effect(query))),
            _rate(float(answers.effects["fdr"][query])),
            _genes(answers, query, 1),
            _genes(answers, query, -1),
            answers.named(query) or "–",
        )
    )


def _rate(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def answers_in_text(answers: Answers, most: int, rest: str) -> str:
    """Tables as plain text, by evidence first where queries are many.

    Args:
        answers: what was found.
        most: rows shown.
        rest: where the others are.
    """
    tables = answer_tables(answers)
    each = -(-most // len(tables))
    said = [_text(evidence_table(answers), 5)] if summed_up(answers) else []
    for table in tables:
        said += [*([f"\n{table.title}:"] if summed_up(answers) else []), _text(table, each)]
    more = len(answers.delta) - sum(min(each, len(table.rows)) for table in tables)
    said += [f"... and {more:,} more in {rest}"] if more > 0 else []
    return "\n".join([*said, f"size: {size_in_words(answers)}"])


def _text(table: Table, most: int) -> str:
    rows = [
        [" ".join(filter(None, (cell.value, cell.interval))) for cell in row.texts()]
        for row in table.rows[:most]
    ]
    return pd.DataFrame(rows, columns=list(table.columns)).to_string(index=False, max_colwidth=32)


def _genes(answers: Answers, query: str, direction: int) -> CellText:
    names = answers.genes(query, direction)
    if not names:
        likely = [] if answers.claimed[query] else _likely(answers, query, direction)
        return CellText("–", f"not sure: {', '.join(likely)}" if likely else "")
    more = f"and {len(names) - GENES_SHOWN} more" if len(names) > GENES_SHOWN else ""
    return CellText(", ".join(names[:GENES_SHOWN]), more)


def _likely(answers: Answers, query: str, direction: int) -> list[str]:
    """The genes that are expected to go furthest among those whose own 90 % interval does not hold 0."""
    row = answers.delta.index.get_loc(query)
    shift, sd = direction * answers.delta.to_numpy()[row], answers.sd.to_numpy()[row]
    order = np.argsort(-shift, kind="stable")
    found = order[shift[order] > Z_90 * sd[order]][:GENES_UNSURE]
    return [str(gene) for gene in answers.delta.columns[found]]


def source_in_words(source: str) -> str:
    """What a similarity is called on the page."""
    return IN_WORDS.get(source, source)


def similarity_table(answers: Answers) -> Table:
    """What makes perturbations alike, and how much each source explains."""
    rows = tuple(
        TableRow((source_in_words(source), explains(share), *_matched(answers, source)))
        for source, share in sorted(answers.weights.items(), key=lambda item: -item[1])
    )
    note = (
        "Shares of the variance of effects, found from the measured perturbations and averaged over what they leave "
        "open. Of sixty perturbations and more, a prior that does not help explains next to nothing. Of fewer it may "
        "seem to explain a third: its log evidence tells whether the measured perturbations speak for it."
    )
    return Table(
        "similarities", "What the predictions rest on", ("source", "explains", "names in common"), rows, note
    )


def explains(share: float) -> str:
    """A share of the variance in words."""
    return "nothing" if share < NOTHING else f"{percent(share)} of the variance of effects"


def _matched(answers: Answers, source: str) -> tuple[str]:
    if source not in answers.matches.index:
        return ("–",)
    row = answers.matches.loc[source]
    return (
        f"{row['measured']} of {row['of_measured']} measured, {row['asked']} of {row['of_asked']} asked for",
    )
