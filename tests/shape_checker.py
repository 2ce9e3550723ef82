"""The run-time type checker of the test suite: beartype, with ints accepted where floats are asked for."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
