from figure_tables import learning, warm_start

from perturbrl.pl.learning import plot_learning
from perturbrl.rl.outcomes import TrustRegionOutcome
from perturbrl.training.iteration import outcome_column


def entries(metrics, panel=1):
    legend = plot_learning(metrics).figure.axes[panel].get_legend()
    return [text.get_text() for text in legend.get_texts()]


def test_every_outcome_of_the_natural_step_is_marked_and_counted():
    said = " ".join(entries(learning(30)))
    for outcome in TrustRegionOutcome:
        words = outcome.value.replace("_", " ").replace("kl", "KL")
        assert f"{words} (5)" in said
    assert said.count("rejected") == 5


def test_rejections_are_in_the_legend_only_where_there_are_some():
    accepted = learning().assign(**{outcome_column(o): 0.0 for o in TrustRegionOutcome})
    accepted[outcome_column(TrustRegionOutcome.ACCEPTED)] = 1.0
    assert "Rejected" not in plot_learning(accepted).caption
    assert entries(accepted) == ["stage 1: natural step", "stage 2: PPO epochs", "accepted (30)"]


def test_a_warm_start_shows_where_the_stages_meet():
    figure = plot_learning(warm_start()).figure
    assert "stage 1 ends" in entries(warm_start())
    assert all(9.5 in line.get_xdata() for axes in figure.axes for line in [axes.lines[-1]])
    assert "stage 1 ends" not in entries(learning())


def test_the_penalty_is_logarithmic_only_where_it_moves_far():
    figure = plot_learning(learning().assign(**{"ppo/kl_coef": 1.0})).figure
    assert figure.axes[2].get_yscale() == "linear"
    assert plot_learning(learning()).figure.axes[2].get_yscale() == "log"


def test_without_stages_there_is_the_return_alone():
    plot = plot_learning(learning()[["epoch", "return"]])
    assert len(plot.figure.axes) == 1
    assert plot.caption == "Return of the exploring policy."


def test_the_caption_says_what_the_rejections_mean():
    caption = plot_learning(learning()).caption
    for outcome in TrustRegionOutcome:
        assert (outcome.meaning in caption) == (outcome is not TrustRegionOutcome.ACCEPTED)


def test_a_file_from_before_an_outcome_was_known_reads_as_it_was():
    older = learning().drop(columns=outcome_column(TrustRegionOutcome.SINGULAR_CURVATURE))
    assert [e for e in entries(older) if "rejected" in e] == [
        e for e in entries(learning()) if "rejected" in e and "singular" not in e
    ]
