"""Reader of Boolean networks in the ``.bnet`` format, as pyboolnet, BoolNet and AEON write it.

Grammar of a line: ``target, factor`` with ``!`` (binds tightest), ``&``, ``|``, parentheses, the constants
``0 1 true false`` and names. A name is anything without white space and ``, ! & | ( ) #``, so dots and dashes
are fine. A header line ``targets, factors`` is optional, ``#`` starts a comment. One kind of comment means
something here: ``# @attractor NAME: factor`` names the stable states in which the factor is true.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from perturbrl.errors import NetworkError

BoolArray = NDArray[np.bool_]
T = TypeVar("T")

MAX_REGULATORS: Final = 20
_CONSTANTS: Final = {"0": "0", "1": "1", "false": "0", "true": "1"}
_BINDING: Final = {"|": 1, "&": 2, "!": 3}
_TOKEN: Final = re.compile(r"[!&|()]|[^\s,!&|()#]+|\S")
_PUNCTUATION: Final = set("!&|(),#")
_HEADER: Final = re.compile(r"\s*targets\s*,\s*(factors|functions)\s*$", re.IGNORECASE)
_MARKER: Final = re.compile(r"\s*#\s*@attractor\s+([^\s:]+)\s*:")


@dataclass(frozen=True)
class Rule:
    """A Boolean function in postfix order.

    Attributes:
        postfix: names, constants (``"0"``, ``"1"``) and operators; an operator follows its operands.
        regulators: the names that occur, in order of first occurrence.
    """

    postfix: tuple[str, ...]
    regulators: tuple[str, ...]

    def evaluate(self, values: Mapping[str, BoolArray]) -> BoolArray:
        """The function's value, elementwise over equally shaped arrays, one for each regulator."""
        constants = (np.zeros((), dtype=bool), np.ones((), dtype=bool))
        result = self._fold(
            lambda name: values[name], np.logical_not, np.logical_and, np.logical_or, constants
        )
        return np.asarray(result)

    @cached_property
    def truth_table(self) -> BoolArray:
        """``[2 ** n_regulators]`` values; bit j of the index is the value of regulator j.

        Raises:
            NetworkError: there are more than ``MAX_REGULATORS`` regulators.
        """
        n = len(self.regulators)
        if n > MAX_REGULATORS:
            raise NetworkError(
                f"a rule has {n} regulators ({', '.join(self.regulators[:6])}, ...), so its truth table has "
                f"2^{n} rows; split it with intermediate genes of at most {MAX_REGULATORS} regulators"
            )
        index = np.arange(2**n)
        bits = {name: (index >> j & 1).astype(bool) for j, name in enumerate(self.regulators)}
        return np.broadcast_to(self.evaluate(bits), index.shape).copy()

    def text(self, rename: Callable[[str], str] = str) -> str:
        """The rule in ``.bnet`` syntax, fully parenthesised, with every name replaced by ``rename(name)``."""
        constants = ("false", "true")
        return self._fold(
            rename, lambda a: f"!{a}", lambda a, b: f"({a} & {b})", lambda a, b: f"({a} | {b})", constants
        )

    def _fold(
        self,
        name: Callable[[str], T],
        negate: Callable[[T], T],
        both: Callable[[T, T], T],
        either: Callable[[T, T], T],
        constants: tuple[T, T],
    ) -> T:
        stack: list[T] = []
        for symbol in self.postfix:
            if symbol == "!":
                stack.append(negate(stack.pop()))
            elif symbol in _BINDING:
                right, left = stack.pop(), stack.pop()
                stack.append((both if symbol == "&" else either)(left, right))
            elif symbol in _CONSTANTS:
                stack.append(constants[int(symbol)])
            else:
                stack.append(name(symbol))
        return stack.pop()


@dataclass(frozen=True)
class ParsedNetwork:
    """What a ``.bnet`` text says: one rule per gene, and markers that name attractors."""

    rules: dict[str, Rule]
    markers: dict[str, Rule]


def parse_bnet(text: str, source: str = "network") -> ParsedNetwork:
    """Read a network from the text of a ``.bnet`` file.

    Args:
        text: the file's content.
        source: named in errors, usually the file's name.

    Raises:
        NetworkError: with line and column of a syntax error, a repeated target or an undefined name.
    """
    rules: dict[str, Rule] = {}
    markers: dict[str, Rule] = {}
    mentioned: dict[str, NetworkError] = {}
    for number, content in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        line = _Line(source, number, content)
        found = _MARKER.match(content)
        if found:
            markers[found[1]] = line.rule(found.end(), mentioned)
            continue
        code = _Line(source, number, content.split("#", 1)[0])
        if code.text.strip() and not (not rules and _HEADER.match(code.text)):
            code.add_to(rules, mentioned)
    undefined = [error for name, error in mentioned.items() if name not in rules]
    if undefined:
        raise undefined[0]
    if not rules:
        raise NetworkError(f"{source} defines no gene; write lines like 'GENE, FACTOR'")
    return ParsedNetwork(rules, markers)


@dataclass(frozen=True)
class _Line:
    source: str
    number: int
    text: str

    def error(self, column: int, problem: str) -> NetworkError:
        return NetworkError(f"{self.source}, line {self.number}, column {column + 1}: {problem}")

    def add_to(self, rules: dict[str, Rule], mentioned: dict[str, NetworkError]) -> None:
        target, comma, _ = self.text.partition(",")
        name, start = target.strip(), len(target) - len(target.lstrip())
        if not comma:
            raise self.error(len(self.text.rstrip()), "there is no comma; write 'GENE, FACTOR'")
        if not name or name.lower() in _CONSTANTS or _PUNCTUATION & set(name) or len(name.split()) > 1:
            raise self.error(start, f"'{name}' is no gene name; use letters, digits, '_', '.' or '-'")
        if name in rules:
            raise self.error(start, f"gene '{name}' has a rule already; keep one of them")
        rules[name] = self.rule(len(target) + 1, mentioned)

    def rule(self, start: int, mentioned: dict[str, NetworkError]) -> Rule:
        """The factor that begins at column ``start``; names it mentions get the error of being undefined."""
        regulators: dict[str, None] = {}
        postfix: list[str] = []
        for symbol, column in self._postfix(start):
            postfix.append(symbol)
            if symbol not in _BINDING and symbol not in _CONSTANTS:
                regulators[symbol] = None
                problem = f"'{symbol}' is not defined; give it a rule ('{symbol}, {symbol}' for an input)"
                mentioned.setdefault(symbol, self.error(column, problem))
        return Rule(tuple(postfix), tuple(regulators))

    def _postfix(self, start: int) -> Iterator[tuple[str, int]]:
        # Shunting-yard: no recursion, so deeply nested rules are no problem.
        waiting: list[tuple[str, int]] = []
        operand_next = True
        for token, column in self._tokens(start):
            if operand_next is (token in ("&", "|", ")")):
                raise self.error(column, self._surprise(token, operand_next))
            if token in ("!", "("):
                waiting.append((token, column))
            elif token == ")":
                yield from self._close(waiting, column)
            elif token in _BINDING:
                while waiting and _BINDING.get(waiting[-1][0], 0) >= _BINDING[token]:
                    yield waiting.pop()
                waiting.append((token, column))
                operand_next = True
            else:
                yield _CONSTANTS.get(token.lower(), token), column
                operand_next = False
        if operand_next:
            raise self.error(len(self.text.rstrip()), "the factor ends where a name is expected; complete it")
        yield from self._drain(waiting)

    def _tokens(self, start: int) -> Iterator[tuple[str, int]]:
        for match in _TOKEN.finditer(self.text, start):
            if match[0] in (",", "#"):
                raise self.error(match.start(), f"'{match[0]}' cannot stand inside a factor; remove it")
            yield match[0], match.start()

    def _surprise(self, token: str, operand_next: bool) -> str:
        wanted = "a name, a constant, '!' or '('" if operand_next else "'&', '|', ')' or the end of the line"
        return f"found '{token}' where {wanted} is expected"

    def _close(self, waiting: list[tuple[str, int]], column: int) -> Iterator[tuple[str, int]]:
        while waiting and waiting[-1][0] != "(":
            yield waiting.pop()
        if not waiting:
            raise self.error(column, "this ')' closes nothing; remove it or add its '('")
        waiting.pop()

    def _drain(self, waiting: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        for symbol, column in reversed(waiting):
            if symbol == "(":
                raise self.error(column, "this '(' is never closed; add its ')'")
            yield symbol, column
