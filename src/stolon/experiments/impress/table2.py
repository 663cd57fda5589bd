"""The paper's table 2: what a task costs to store, as printed, by its formula, and in bits with all that is kept.

The numbers are computed by :mod:`stolon.masks.table2`; nothing is trained.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Final

from stolon import durable
from stolon.experiments import provenance, report
from stolon.experiments.report_parts import Section, Table
from stolon.masks.table2 import DENSITY, Row, rows

TITLE: Final = "impress-table2: what a task costs to store"
NAME: Final = "impress-table2"


def section() -> Section:
    """The table: the paper's numbers, ours, and the ratio when everything counts."""
    found = rows()
    text = (
        "SupSup keeps a mask for each task; ImpressLearn m masks for all, and m numbers per layer for each task. Φ is "
        "what a task then costs, with its share of the masks; C is a SupSup mask over Φ. The paper counts two bits per "
        "weight of a mask, four bytes per coefficient, and no statistics of batch normalisation.\n\n"
        "In bits: a bit per weight, two bytes per coefficient, and the statistics of batch normalisation that a task "
        "keeps in either method, in single precision. The first ratio is that of all that is kept; the second as if "
        "SupSup kept no statistics. Where tasks are few, or normalisation's channels many, little of the paper's "
        "ratio is left; where it is below 1, coefficients cost more than masks."
    )
    return Section("Table 2: storage", text, [_printed(found), _counted(found), _honest(found)])


def publish(folder: Path, command: str) -> Path:
    """Write ``report.html``, ``report.md`` and ``impress-table2.json``; the path of the first.

    Raises:
        StoreError: they could not be written.
    """
    durable.write(folder / f"{NAME}.json", (json.dumps(compact(command), indent=1) + "\n").encode())
    where = [
        ("command", command),
        ("versions", ", ".join(f"{key} {value}" for key, value in provenance.versions().items())),
    ]
    origin = Section("Where this comes from", tables=[Table(("what", "value"), where)])
    page, _ = report.publish(folder, TITLE, [section(), origin])
    return page


def compact(command: str) -> dict[str, Any]:
    """The rows as JSON values."""
    values = [{**dataclasses.asdict(row), "tasks": _finite(row.tasks)} for row in rows()]
    return {"command": command, "versions": provenance.versions(), "rows": values}


def _printed(found: tuple[Row, ...]) -> Table:
    heads = (
        "data",
        "network",
        "tasks",
        "weights",
        "mask [kB]",
        "m",
        "layers",
        "coefficients",
        "Φ [kB]",
        "C",
        "C by the formula",
    )
    lines = [
        (
            row.data,
            row.network,
            _tasks(row),
            f"{row.printed.parameters / 1e6:.3g} M",
            f"{row.printed.mask_kb:,.5g}",
            str(row.printed.masks),
            str(row.printed.layers),
            f"{row.printed.alphas:,}",
            f"{row.printed.phi_kb:,.5g}",
            f"{row.printed.ratio:.4g}",
            f"{row.recomputed.ratio:.4g}",
        )
        for row in found
    ]
    return Table(heads, lines, "As printed; the last column is the paper's formula on its own counts")


def _counted(found: tuple[Row, ...]) -> Table:
    heads = ("data", "network", "weights", "layers", "mask [kB]", "coefficients", "Φ [kB]", "C")
    lines = [
        (
            row.data,
            row.network,
            f"{row.counted.weights:,}",
            str(row.counted.layers),
            f"{row.formula.mask_kb:,.1f}",
            f"{row.formula.alphas:,}",
            f"{row.formula.phi_kb:,.2f}",
            f"{row.formula.ratio:.3g}",
        )
        for row in found
    ]
    caption = "The paper's formula on our counts: weights alone, with as many outputs as a task has classes"
    return Table(heads, lines, caption)


def _honest(found: tuple[Row, ...]) -> Table:
    heads = (
        "data",
        "network",
        "mask [kB]",
        f"at density {DENSITY:g} at most [kB]",
        "coefficients [kB]",
        "statistics [kB]",
        "Φ [kB]",
        "C, all that is kept",
        "C, masks coded",
        "C, SupSup without statistics",
    )
    lines = [
        (
            row.data,
            row.network,
            f"{row.honest.mask_kb:,.1f}",
            f"{row.honest.entropy_kb:,.1f}",
            f"{row.honest.alpha_kb:.2f}",
            f"{row.honest.statistics_kb:.2f}",
            f"{row.honest.phi_kb:,.2f}",
            f"{row.honest.ratio:.3g}",
            f"{row.honest.ratio_coded:.3g}",
            f"{row.honest.ratio_mask_alone:.3g}",
        )
        for row in found
    ]
    return Table(heads, lines, "In bits, with all that is kept")


def _tasks(row: Row) -> str:
    return f"{row.tasks:,.0f}" if math.isfinite(row.tasks) else "784!"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
