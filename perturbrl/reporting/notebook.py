"""Tables of a report as a notebook shows them."""

from html import escape

from perturbrl.reporting.report_tables import CellText, Table


def html_table(table: Table, most: int) -> str:
    """A table's first rows, its title above."""
    heads = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_html, row.texts()))}</tr>" for row in table.rows[:most])
    return f"<table><caption>{escape(table.title)}</caption><tr>{heads}</tr>{rows}</table>"


def _html(cell: CellText) -> str:
    return f"<td>{escape(cell.value)} <small>{escape(cell.interval)}</small></td>"
