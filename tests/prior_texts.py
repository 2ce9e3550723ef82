"""Files of prior knowledge, written for a test."""

import gzip
from pathlib import Path

GMT = "one\tabout\tA\tB\tC\ntwo\tabout\tC\tD\tE\nlonely\tabout\tF\n"


def write(folder: Path, text: str, name: str = "prior.gmt") -> Path:
    """``text`` as a file, gzipped where its name says so."""
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path
