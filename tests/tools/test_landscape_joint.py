import pandas as pd
import pytest
import torch
from studies import landscape_joint
from studies.landscape_joint import HALVES, HORIZON, TARGET, _summary, experiment, judged, network


def test_the_network_judges_doses() -> None:
    truth = network()
    names = ("EKLF", "Gata2")
    assert judged(truth, names, torch.ones(HORIZON, 2), seed=0) > 0.95
    assert judged(truth, names, torch.zeros(HORIZON, 2), seed=0) == 0.0


def test_the_experiment_has_mature_cells_of_the_target_and_every_single_perturbation() -> None:
    truth = network()
    adata = experiment(truth, seed=0)
    controls = adata.obs[adata.obs["perturbation"] == "control"]
    assert (controls["cell_type"] == TARGET).sum() > 50
    assert (controls["cell_type"] == "progenitor").sum() > 200
    assert set(adata.obs["perturbation"]) == {"control", *truth.perturbations.names}


def test_the_gain_is_over_the_half_that_is_better_on_average() -> None:
    designs = pd.DataFrame(
        [("alternate", 0, 0.1, 0.6, 0.8, 0.5), ("ppo_only", 1, 0.7, 0.4, 0.6, 0.5)],
        columns=["schedule", "seed", *HALVES],
    )
    effects = pd.DataFrame(
        {"perturbation": ["A", "B"], "in_silico": [0, 0.2], "experimental": 0.4, "joint": 0.5}
    )
    found = _summary(designs, effects)
    assert found["joint_gain"][0] == 0.2
    assert found["joint_gain_by_schedule"] == {"alternate": 0.2, "ppo_only": 0.2}
    assert found["joint_gain_effects_on_drift"][0] == 0.0
    assert found["joint_gain_norman"][0] == 0.1


@pytest.mark.parametrize("half", ["experimental", "joint"])
def test_a_policy_on_one_half_or_both_is_judged_by_the_network(
    half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ITERATIONS": 1, "JUDGED": 64}.items():
        monkeypatch.setattr(landscape_joint, name, value)
    made = landscape_joint.experiment
    monkeypatch.setattr(landscape_joint, "experiment", lambda truth, seed: made(truth, seed)[::2].copy())
    assert 0 <= landscape_joint.arrived(half, "alternate", 0) <= 1


def test_halves_are_one_twin_with_shares_of_its_members() -> None:
    shares = {
        half: landscape_joint.twin_of(half, 3).by_experiment.float().mean().item()
        for half in HALVES
        if half in landscape_joint.SHARES
    }
    assert shares == landscape_joint.SHARES
