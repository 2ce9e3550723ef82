"""A report on an invented design."""

from functools import cache

import pandas as pd
from judged_designs import PAIR, Fixed, evaluate

from perturbrl.pl.designs import plot_designs
from perturbrl.pl.doses import plot_hits
from perturbrl.planning.planners import default_planners
from perturbrl.reporting.report import Report
from perturbrl.reporting.report_tables import designs_frame, hits_frame
from perturbrl.reporting.report_text import answer_sentence, caution, certificate_sentences


@cache
def good_design():
    return evaluate([Fixed("policy", PAIR), *default_planners()])


def report_on(evaluation, **more):
    given = {
        "title": "Design: control to G0+G1",
        "plots": [
            plot_designs(designs_frame(evaluation), "latent units"),
            plot_hits(hits_frame(evaluation.hits)),
        ],
        **more,
    }
    return Report(
        answer=answer_sentence(evaluation, evaluation.hits),
        warnings=caution(evaluation),
        certified=certificate_sentences(evaluation),
        question={"cells": "<toy>", "seed": "0"},
        evaluation=evaluation,
        hits=evaluation.hits,
        per_perturbation=pd.DataFrame({"perturbation": ["G0"]}),
        **given,
    )
