"""Every figure is found in ``perturbrl.pl``, and that in ``perturbrl``."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

import perturbrl.pl

FIRST_USE = """
import sys, perturbrl
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
print(perturbrl.pl.plot_hits.__name__, "lightning" in sys.modules)
"""


def figures() -> dict[str, object]:
    modules = [
        import_module(f"perturbrl.pl.{info.name}") for info in pkgutil.iter_modules(perturbrl.pl.__path__)
    ]
    return {
        name: function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("plot_")
    }


def test_every_figure_is_exported_and_explained() -> None:
    found = figures()
    assert len(found) >= 9
    assert set(found) == {name for name in perturbrl.pl.__all__ if name.startswith("plot_")}
    for name in perturbrl.pl.__all__:
        described = getattr(perturbrl.pl, name)
        assert found.get(name, described) is described
        assert len(inspect.getdoc(described) or "") > 20


def test_figures_are_imported_on_first_use_and_without_lightning() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_USE], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["plot_hits", "False"], done.stderr
