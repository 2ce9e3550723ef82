"""Other names of perturbations, and those that are meant."""

from pathlib import Path

from perturbrl.data.text_tables import table_of
from perturbrl.errors import DataError, listed


def read_aliases(path: Path | str) -> dict[str, str]:
    """A table of two columns, an alias and the name that is meant by it; a first line ``alias``, ``name`` is no alias.

    Raises:
        DataError: the file is no such table, an alias has two names, or a name is itself an alias.
    """
    path = Path(path)
    table = table_of(path, lambda fields: fields == ["alias", "name"])
    if table.shape[1] != 2 or table.isna().any(axis=None):
        raise DataError(
            f"'{path.name}' has {table.shape[1]} columns and {int(table.isna().sum().sum())} empty fields; give an "
            "alias and the name that is meant on every line"
        )
    pairs = table.astype(str).drop_duplicates()
    aliases, names = (pairs.iloc[:, k].str.strip() for k in (0, 1))
    repeated = sorted(aliases[aliases.duplicated()].unique())
    if repeated:
        raise DataError(f"'{path.name}' gives {listed(repeated, 5)} several names; give each alias one")
    found = dict(zip(aliases, names, strict=True))
    chained = sorted(name for name in set(names) & set(aliases) if found[name] != name)
    if chained:
        raise DataError(
            f"'{path.name}' has {listed(chained, 5)} both as a name and as an alias of another; say for each alias "
            "the name that the data use"
        )
    return found
