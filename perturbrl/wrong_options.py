"""A wrong option is one sentence: the usage of ``fit`` alone has 150 lines, after which nobody finds the error."""

import argparse
import re
import sys
from collections.abc import Collection
from difflib import get_close_matches
from typing import NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

UNRECOGNISED = "unrecognized arguments: "


class _OneSentence(argparse.ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        command = f"perturbrl {_subcommand(parser.prog)}".strip()
        said = sentence(message, re.findall(r"--[\w.]+", parser.format_help()))
        print(f"perturbrl: error: {said} ({command} --help says more)", file=sys.stderr)
        sys.exit(2)


class OneSentenceParser(_OneSentence, ArgumentParser):
    """jsonargparse's parser, which says a wrong option in one sentence and exits with 2."""


class OneSentenceLightningParser(_OneSentence, LightningArgumentParser):
    """The same for Lightning's parser."""


def sentence(message: str, options: Collection[str]) -> str:
    """jsonargparse's message in one line.

    Args:
        message: what it says.
        options: those there are, to name the closest.
    """
    if message.startswith(UNRECOGNISED):
        return _unrecognised(message.removeprefix(UNRECOGNISED), options)
    option = re.search(r'key "(.+?)"', message)
    given = re.search(r"Given value: (.*)", message)
    types = re.findall(r"- Expected an? (.+)", message)
    if option and given and types:
        return f"{option[1]} is {given[1]}; give {_either([_plain(one) for one in types])}"
    return " ".join(message.split())


def _unrecognised(arguments: str, options: Collection[str]) -> str:
    first = arguments.split()[0]
    if not first.startswith("-"):
        return f"'{first}' belongs to no option; write several values as a list, such as '[..., {first}]'"
    name = first.split("=")[0]
    near = get_close_matches(name, options, n=1)
    return f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else "; remove it")


def _plain(type_name: str) -> str:
    name = re.sub(r"<class '(.+)'>", r"\1", type_name)
    name = re.sub(r"typing\.Literal\[(.+)\]", r"\1", name)
    return "null" if name == "NoneType" else name


def _either(choices: list[str]) -> str:
    *others, last = ", ".join(choices).split(", ")
    return f"{', '.join(others)} or {last}" if others else last


def _subcommand(prog: str) -> str:
    """``fit`` of ``cli.py [options] fit``."""
    return " ".join(word for word in prog.split()[1:] if not word.startswith("["))
