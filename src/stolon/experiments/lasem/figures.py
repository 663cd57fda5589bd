"""Figures 1, 4 and 6 of the papers on selective layer transfer, with the numbers that they are drawn from."""

from stolon.experiments.by_seed import NOTHING, BySeed, difference, number, percent, points
from stolon.experiments.drawing import Figure
from stolon.experiments.lasem import paper
from stolon.experiments.lasem.common import MEAN, all_of, data_of, lines, pictures, printed_of, verdict
from stolon.experiments.lasem.measured import Measured
from stolon.experiments.lasem.methods import MECHANISMS, Method, configuration_words
from stolon.experiments.report_parts import Section, Table


def figure1(found: Measured) -> Section:
    """Static configurations."""
    plan = found.plan
    names = list(dict.fromkeys(method.configuration for method in plan.methods))
    heads, rows = ["configuration"], [[configuration_words(name)] for name in names]
    for transfer in plan.transfers:
        word = MECHANISMS[transfer]
        methods = [method for method in plan.methods if method.transfer == transfer]
        all_ = methods[0]
        best = found.best(methods)
        heads += [f"{word} [%]", "− All [points]", "kept (end)", "kept (peak)", "time (All = 1)"]
        for row, method in zip(rows, methods, strict=True):
            star = " (best)" if method == best else ""
            peak = found.peak(method)
            row += [percent(peak) + star, points(difference(peak, found.peak(all_)))]
            row += [number(found.kept(method)), number(found.kept_of_peak(method)), found.time(method, all_)]
    text = (
        "One configuration for all tasks, chosen beforehand. "
        + " ".join(_span_words(found, transfer) for transfer in plan.transfers)
        + f" The paper has a picture of these; of its numbers only All is printed{_all_words(found)}."
    )
    shown = {
        MECHANISMS[transfer]: lines(
            {
                configuration_words(m.configuration): found.peak(m)
                for m in plan.methods
                if m.transfer == transfer
            }
        )
        for transfer in plan.transfers
    }
    figures = pictures(shown, "Static configurations", "mean peak per-task accuracy")
    return Section(
        "Figure 1: static configurations",
        text,
        [Table(heads, rows, f"Peak accuracy and time, {MEAN}")],
        figures,
    )


def figure4(found: Measured) -> Section:
    """LASEM against the range of static configurations, and what is kept."""
    plan = found.plan
    rows, kept, words = [], [], []
    for transfer in plan.transfers:
        all_, statics = all_of(found, transfer), plan.find(transfer=transfer, kind="static")
        best, span = found.best(statics), found.span(statics)
        printed = printed_of(found, transfer)
        first = plan.find(transfer=transfer, kind="lasem")[0]
        for method in plan.find(transfer=transfer, kind="lasem"):
            peak = found.peak(method)
            rows.append(
                (
                    method.label,
                    percent(peak),
                    percent(found.peak(all_)),
                    NOTHING if span is None else f"{100 * span[0]:.1f} to {100 * span[1]:.1f}",
                    NOTHING
                    if best is None
                    else f"{configuration_words(best.configuration)} {percent(found.peak(best))}",
                    points(difference(peak, found.peak(all_))),
                    NOTHING if best is None else points(difference(peak, found.peak(best))),
                    *((str(printed.lasem), str(printed.all_layers)) if printed else (NOTHING, NOTHING)),
                )
            )
            words.append(verdict(found, method, all_))
        for method in (
            all_,
            *([best] if best not in (None, all_) else []),
            *plan.find(transfer=transfer, kind="lasem"),
        ):
            assert method is not None
            kept.append(
                (
                    method.label,
                    number(found.kept(method)),
                    number(found.kept_of_peak(method)),
                    percent(found.final(method)),
                    found.time(method, first),
                    _paper_kept(found, method),
                )
            )
    tables = [
        Table(
            (
                "",
                "LASEM [%]",
                "All [%]",
                "static [%]",
                "best static [%]",
                "− All",
                "− best static",
                "paper: LASEM",
                "paper: All",
            ),
            rows,
            f"Peak accuracy, {MEAN}; differences in points, of the same seeds; static: lowest to highest mean",
        ),
        Table(
            ("", "kept (end)", "kept (peak)", "final [%]", "time (LASEM = 1)", "paper: kept"),
            kept,
            f"Forgetting ratio and time, {MEAN}",
        ),
    ]
    text = (
        " ".join(words)
        + " The best static configuration is chosen in hindsight, by the very accuracies that are shown: a user could "
        "not have it."
    )
    return Section("Figure 4: LASEM and static configurations", text, tables, _figures4(found))


def _figures4(found: Measured) -> list[Figure]:
    plan = found.plan
    peaks: dict[str, dict[str, BySeed]] = {}
    kept: dict[str, dict[str, BySeed]] = {}
    boxes = {}
    for transfer in plan.transfers:
        word = MECHANISMS[transfer]
        statics = plan.find(transfer=transfer, kind="static")
        all_, best, span = all_of(found, transfer), found.best(statics), found.span(statics)
        if span is not None:
            boxes[word] = span
        shown = [("All", all_), *([("best static", best)] if best else [])]
        shown += [
            (f"LASEM{'' if m.variant == 'default' else ' ' + m.variant}", m)
            for m in plan.find(transfer=transfer, kind="lasem")
        ]
        for label, method in shown:
            if label != "best static":
                peaks.setdefault(label, {})[word] = found.peak(method)
            kept.setdefault(label, {})[word] = found.kept(method)
    return [
        *pictures(
            {label: lines(values) for label, values in peaks.items()},
            "Peak accuracy; boxes are the range of static ones",
            "mean peak per-task accuracy",
            boxes=boxes,
        ),
        *pictures(
            {label: lines(values) for label, values in kept.items()},
            "Forgetting ratio; 1 is none forgotten",
            "kept (end)",
            is_share=False,
        ),
    ]


def figure6(found: Measured) -> Section:
    """LASEM against a fixed posterior."""
    plan = found.plan
    rows = []
    for transfer in plan.transfers:
        first = plan.find(transfer=transfer, probability=0.0)[0]
        for method in plan.find(transfer=transfer):
            peak = found.peak(method)
            rows.append(
                (
                    method.label,
                    percent(peak),
                    points(difference(peak, found.peak(first))) if method != first else NOTHING,
                    number(found.kept(method)),
                    number(found.kept_of_peak(method)),
                    found.time(method, first),
                )
            )
    heads = ("", "accuracy [%]", "− LASEM [points]", "kept (end)", "kept (peak)", "time (LASEM = 1)")
    shown = {"": lines({method.label: found.peak(method) for method in plan.methods})}
    text = (
        "What is lost to gradients of other configurations: the posterior is not inferred but fixed, with "
        f"probability P on {configuration_words(plan.wanted.fixed)} (the paper found Top 2 best on Office-Home) and "
        "the rest evenly on the others. The paper has a picture of this and no numbers; it says that differences "
        "are small and P = 1 is best."
    )
    return Section(
        "Figure 6: a fixed posterior",
        text,
        [Table(heads, rows, f"Peak accuracy, {MEAN}")],
        pictures(shown, "A fixed posterior", "mean peak per-task accuracy"),
    )


def _paper_kept(found: Measured, method: Method) -> str:
    line = paper.TABLE1.get(method.label)
    return str(line.forgetting) if line is not None and data_of(found) == "Office-Home" else NOTHING


def _span_words(found: Measured, transfer: str) -> str:
    statics = found.plan.find(transfer=transfer, kind="static")
    span, best = found.span(statics), found.best(statics)
    if span is None or best is None:
        return ""
    return (
        f"{MECHANISMS[transfer]}: {100 * span[0]:.1f} to {100 * span[1]:.1f} %, best in hindsight "
        f"{configuration_words(best.configuration)}."
    )


def _all_words(found: Measured) -> str:
    told = [
        f"{MECHANISMS[transfer]} {printed.all_layers} %"
        for transfer in found.plan.transfers
        if (printed := printed_of(found, transfer)) is not None
    ]
    return f" ({data_of(found)}: {', '.join(told)})" if told else ", and not for these data"
