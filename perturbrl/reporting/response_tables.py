"""Answers and judged predictions as tables: for the page as text, for files as data frames."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from perturbrl.evaluation.statistics import Interval
from perturbrl.reporting.report_tables import CellText, Table, TableRow, interval_cell
from perturbrl.reporting.report_text import percent
from perturbrl.responses.answers import Answers
from perturbrl.responses.base import EVIDENCE
from perturbrl.responses.covariances import COMMON, INTERACTION, OWN
from perturbrl.responses.target_loadings import SOURCE

MOST_ROWS: Final = 40
NOTHING: Final = 0.005
GENES_SHOWN: Final = 5
GENES_KEPT: Final = 50
IN_WORDS: Final = {
    COMMON: "what all perturbations have in common",
    OWN: "what each perturbation does of its own",
    INTERACTION: "interaction within combinations",
    SOURCE: "what perturbed genes vary together with",
}


def answer_frame(answers: Answers) -> pd.DataFrame:
    """One row per query: evidence, effect with its 90 % interval, genes, what it is predicted like, the sentence.

    Genes are those whose 90 % interval is clear of 0, the largest shift first, at most ``GENES_KEPT``.
    """
    table = answers.effects.rename(columns={"low": "effect_low", "high": "effect_high"})
    table.insert(0, "evidence", answers.evidence)
    for name, direction in (("up", 1), ("down", -1)):
        genes = {query: answers.genes(query, direction) for query in table.index}
        table[f"n_{name}"] = [len(genes[query]) for query in table.index]
        table[f"genes_{name}"] = [";".join(genes[query][:GENES_KEPT]) for query in table.index]
    table["extrapolated"] = answers.extrapolated
    table["like"] = [answers.named(query) for query in table.index]
    table["sentence"] = answers.sentences
    return table.reset_index()


def surest_first(answers: Answers) -> list[str]:
    """Queries by the lower end of their effect's interval; by the effect where there is none."""
    low = answers.effects["low"].fillna(answers.effects["effect"])
    return [str(query) for query in low.sort_values(ascending=False, kind="stable").index]


def answer_table(answers: Answers) -> Table:
    """What each perturbation does, the surest effect first."""
    queries = surest_first(answers)
    rows = tuple(
        TableRow(
            (
                query,
                answers.evidence[query] + (", extrapolated" if answers.extrapolated[query] else ""),
                interval_cell(Interval(*answers.effect(query))),
                _genes(answers.genes(query, 1)),
                _genes(answers.genes(query, -1)),
                answers.named(query) or "–",
            )
        )
        for query in queries[:MOST_ROWS]
    )
    note = (
        "The surest effect first. Genes whose 90 % interval is clear of 0, the largest shift first; so less than one "
        "direction in twenty is wrong."
    )
    if len(queries) > MOST_ROWS:
        note += f" The other {len(queries) - MOST_ROWS} queries are in responses.csv."
    present = [name for name in EVIDENCE if (answers.evidence == name).any()]
    meaning = {
        "effect": "length of the expected shift over all genes (mean log1p of counts per 10,000), with a 90 % "
        "interval of the shift in that direction; where it holds 0, the direction itself is not sure",
        "predicted like": "measured conditions whose shifts enter the prediction with the largest weights",
        **{name: EVIDENCE[name] for name in present},
    }
    columns = ("query", "evidence", "effect", "genes up", "genes down", "predicted like")
    return Table("answers", "What each perturbation does", columns, rows, note, meaning)


def answers_in_text(answers: Answers, most: int, rest: str) -> str:
    """The table as plain text.

    Args:
        answers: what was found.
        most: rows shown.
        rest: where the others are.
    """
    table = answer_table(answers)
    rows = [
        [" ".join(filter(None, (cell.value, cell.interval))) for cell in row.texts()] for row in table.rows
    ]
    shown = pd.DataFrame(rows[:most], columns=list(table.columns)).to_string(index=False, max_colwidth=44)
    more = len(answers.delta) - most
    return f"{shown}\n... and {more} more in {rest}" if more > 0 else shown


def _genes(names: Sequence[str]) -> CellText:
    more = f"and {len(names) - GENES_SHOWN} more" if len(names) > GENES_SHOWN else ""
    return CellText(", ".join(names[:GENES_SHOWN]) or "–", more)


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
        "open. A prior that does not help explains next to nothing, and then does no harm."
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
