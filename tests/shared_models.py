"""The published networks' facts, where the folder that holds them is there."""

import json
from typing import Any

import pytest
from places import MODELS

NAMES = (
    "arabidopsis_flower_chaos2006",
    "bcell_macrophage_collombet2017",
    "cd4_martinez2015",
    "emt_steinway2014",
    "emt_switch12",
    "gsd",
    "hsc_boolode",
    "krumsiek11",
    "mcad",
    "synthetic_trap_ladder_L2_m4",
    "synthetic_trap_ladder_L4_m6",
    "thelper_mendoza2006",
    "tlgl_saadatpour2011",
    "vsc",
)


def facts(name: str) -> Any:
    """The content of a file of the folder; skips the test where it is absent."""
    path = MODELS / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there (set PERTURBRL_MODELS)")
    return json.loads(path.read_text())
