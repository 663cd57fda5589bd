"""Which task: tasks of the basis that are not named, and new tasks that are not."""

from typing import Final

from stolon.experiments.by_seed import percent
from stolon.experiments.impress import paper
from stolon.experiments.impress.common import MEAN, pictures, table
from stolon.experiments.impress.measured import Field, Measured
from stolon.experiments.impress.plans import Kind, What
from stolon.experiments.impress.settings import FEW
from stolon.experiments.report_parts import Section, Table

_FIELDS: Final[tuple[Field, ...]] = ("found", "found_each", "accuracy")
_GN: Final[tuple[What, ...]] = ("gn-in-batch", "gn-alone")


def basis_gn(found: Measured) -> Section:
    """Tasks of the basis as coefficients."""
    learned = found.basis("basis-gn", "", "coefficients, its mask not named")
    given = found.basis("gg", "GG", "its own mask")
    text = (
        "Coefficients are trained on tasks of the basis, with their labels, without saying which mask is theirs: it "
        f"is no inference from inputs alone. Means over the first {found.plan.setting.basis_gn} tasks of the basis, or "
        "all of a smaller one."
    )
    shares = [
        (
            column.label or str(column.size),
            percent(found.pooled(large)),
            percent(found.pooled(own)),
        )
        for column, large, own in zip(
            learned,
            found.basis("basis-gn", "", "", "own_largest"),
            found.basis("basis-gn", "", "", "own_share"),
            strict=True,
        )
    ]
    tables = [
        table(found, [*learned, *given], f"Accuracy on tasks of the basis in %, {MEAN}", None),
        Table(
            ("N", "its own is the largest [%]", "its share of |α| [%]"),
            shares,
            f"How much the coefficients are those of the task's own mask: means over layers and tasks, {MEAN}",
        ),
    ]
    series = {
        "coefficients": {str(column.size): column for column in learned},
        "its own mask (GG)": {str(column.size): column for column in given},
    }
    return Section(
        "Tasks of the basis without their mask's name (basis-GN)",
        text,
        tables,
        pictures(found, series, "Tasks of the basis", "masks in the basis"),
    )


def gn(found: Measured) -> Section:
    """The same, and SupSup's inference among the basis (figure 6)."""
    series = {
        "basis-GN": found.basis("basis-gn", "basis-GN", "coefficients, trained with labels"),
        "SupSup GG": found.basis("gg", "GG", "its own mask, named"),
        "SupSup GN, a batch": found.basis(
            "gn-in-batch", "GN, a batch", f"one answer for {paper.BATCH} inputs", among=True
        ),
        "SupSup GN, a sample": found.basis(
            "gn-alone", "GN, a sample", "one answer for each input", among=True
        ),
    }
    columns = [column for group in zip(*series.values(), strict=True) for column in group]
    text = (
        "Basis-GN trains coefficients with the labels of the task; SupSup's GN sees inputs alone, and chooses the mask "
        f"under which the entropy falls fastest: once for a batch of {paper.BATCH} inputs of one task, as in the "
        f"papers, or {one_by_one(found)}. What is taken for another task counts as wrong. Batches are the first of "
        f"{found.plan.setting.orders} orders of the test data."
    )
    rows = []
    for size in found.plan.sizes("heterogeneous"):
        named = [
            next(c for c in found.basis(what, "", "", field, among=True) if c.size == size)
            for field in _FIELDS[:2]
            for what in _GN
        ]
        rows.append((str(size), *(percent(found.pooled(column)) for column in named)))
    shown = {name: {str(c.size): c for c in columns} for name, columns in series.items()}
    return Section(
        "Tasks of the basis, learned, named and inferred",
        text,
        [
            table(found, columns, f"Accuracy on tasks of the basis in %, {MEAN}", None),
            Table(
                ("N", "a batch [%]", "a sample [%]", "by each, a batch [%]", "by each, a sample [%]"),
                rows,
                f"How often GN finds the task among N, all densities, {MEAN}; by each: every task's own mask answers, "
                "and the surest wins",
            ),
        ],
        pictures(found, shown, "Tasks of the basis", "masks in the basis"),
    )


def new_tasks(found: Measured) -> Section:
    """SupSup's inference among new tasks."""
    rows = []
    for kind, size, among in found.inferences():
        rows.append(_row(found, kind, size, among))
    protocol = found.plan.setting.paper
    is_it = protocol is not None and protocol.data == "Permuted MNIST"
    told = ", ".join(f"{value} % in {epochs} epochs" for epochs, value in paper.FOUND.items())
    theirs = (
        f" The paper has {told}, among {paper.INFERRED} learned tasks; it does not say epochs of what, nor whether "
        f"for a batch. Here coefficients were trained for {found.plan.setting.alphas.epochs} epoch(s), and one-shot "
        "looks once."
        if is_it
        else " The paper has numbers of Permuted MNIST alone."
    )
    text = (
        "The new tasks' masks are real-valued sums, and SupSup's one-shot inference (entropy) chooses among them, once "
        f"for a batch of {paper.BATCH} inputs of one task, or {one_by_one(found)}.{theirs}"
    )
    heads = (
        "",
        "what",
        "tasks",
        "found, a batch [%]",
        "found, a sample [%]",
        "by each, a batch [%]",
        "by each, a sample [%]",
        "accuracy, a batch [%]",
        "accuracy, a sample [%]",
    )
    return Section(
        "Which new task an input belongs to (GN)",
        text,
        [
            Table(
                heads,
                rows,
                f"All densities, {MEAN}; by each: every task's own network answers, and the surest wins; accuracy: "
                "task and class are right",
            )
        ],
    )


def one_by_one(found: Measured) -> str:
    """For how many inputs by themselves."""
    most = found.plan.setting.samples
    few = f" ({paper.BATCH} where there are more than {FEW} tasks)" * (most > paper.BATCH)
    return f"for each of at most {most:,} inputs of a task by itself{few}"


def _row(found: Measured, kind: Kind, size: int, among: int) -> tuple[str, ...]:
    batch = found.inferred(kind, size, among, "found-in-batch")
    values = [
        percent(found.pooled(found.inferred(kind, size, among, what, field)))
        for field in _FIELDS
        for what in ("found-in-batch", "found-alone")
    ]
    return (batch.label, batch.words, str(among), *values)
