"""Figures of ours beside printed ones, a panel a table."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ich_ray.reporting.figures.style import COLOURS, INK, empty_figure
from ich_ray.reproduction_cells import Cell, Table

OURS, PRINTED = COLOURS[0], COLOURS[1]
ROW_INCHES = 0.26


def published(tables: Sequence[Table]) -> bytes:
    """Draw every figure that both have; return the bytes of an SVG.

    Args:
        tables: Those without such a figure are left out.
    """
    shown = [(table, _both(table)) for table in tables]
    panels = [(table, rows) for table, rows in shown if rows]
    sizes = [len(rows) + 1.5 for _, rows in panels] or [1.0]
    with empty_figure(7.2, 0.7 + ROW_INCHES * sum(sizes)) as (figure, buffer):
        axes: list[Axes] = list(
            figure.subplots(
                max(1, len(panels)), squeeze=False, gridspec_kw={"height_ratios": sizes}
            )[:, 0]
        )
        for one, (table, rows) in zip(axes, panels, strict=False):
            _draw(one, table, rows)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return buffer.getvalue()


def _both(table: Table) -> list[tuple[str, Cell]]:
    """Return what a table has of both, with a name each."""
    return [
        (row.title if len(table.columns) == 1 else f"{row.title}, {head}", row.cells[key])
        for row in table.rows
        for key, head in table.columns.items()
        # Differences have another scale than what they are the differences of.
        if key in row.cells
        and row.cells[key].less_printed is not None
        and not key.startswith("difference")
    ]


def _draw(axes: Axes, table: Table, rows: Sequence[tuple[str, Cell]]) -> None:
    for y, (_, cell) in enumerate(rows):
        assert cell.ours is not None
        assert cell.printed is not None
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [y, y], color=OURS, linewidth=1.8)
        axes.plot(cell.ours.mean, y, "o", markersize=5, color=OURS, label="ours" if y == 0 else "")
        axes.plot(
            cell.printed.value,
            y,
            "D",
            markersize=5,
            color=PRINTED,
            markerfacecolor="none",
            label="printed" if y == 0 else "",
        )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    known = f"Table {table.name}" if table.name.isdigit() else table.name
    axes.set_title(known, fontsize=9, loc="left", color=INK)
