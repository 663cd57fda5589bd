"""The figures on growth as sections of a report: tables, pictures, and what they say in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from stolon.experiments import bindings, by_seed
from stolon.experiments.by_seed import NOTHING, BySeed
from stolon.experiments.drawing import Figure
from stolon.experiments.growth.fronts import Fronts
from stolon.experiments.growth.measured import Measured, Solution
from stolon.experiments.growth.plans import DRAWN, GROWN, POPULATION, SWEPT, Item, Kind
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.scatter import scatter
from stolon.growth.config import DELTA

COLUMNS: Final = (
    "accuracy [%]",
    "gain [points]",
    "relative gain [%]",
    "Δ (lower is better)",
    "parameters",
    "of independent [%]",
    "forgetting ratio",
    "seconds",
)
MEAN: Final = "mean ± half-width of the 95 % Student interval over seeds"
_WORDS: Final[Mapping[Kind, str]] = {
    "independent": "independent networks",
    "sweep": "bind-and-grow",
    "searched": "bind-and-grow, searched",
    "random": "random growth",
    "full-rate": "bind-and-grow, bound layers at the full rate",
    "frozen": "bind-and-grow, bound layers frozen",
    "as-released": "bind-and-grow as released",
    "learn-to-grow": "Learn-to-Grow",
    "rcl": "RCL",
    "finetune": "fine-tuning (one net, nothing grown)",
}
_GAINS: Final = (
    "Gain is the mean over tasks of test accuracy less that of independent networks (higher is better), also as a "
    "share of theirs; Δ is the paper's sum over tasks of relative changes of the error, of test data here, where below "
    "0 is a gain. Accuracies are measured after the last task. Independent networks are whole ones, also beside what "
    "is done as released. Seconds are by the clock, with the training of the independent networks that conflicts are "
    "measured with, and for bind-and-grow with measuring; there are none where work was taken from another method's "
    "run."
)


def figure(found: Measured) -> Section:
    """The figure, with what is missing yet."""
    made = {
        "growth-figure2": _figure2,
        "growth-figure4": _figure4,
        "growth-figure6": _figure6,
        "growth-pareto": _pareto,
    }[found.plan.wanted.figure]
    done, of = found.done()
    text = f"{of - done} of {of} results are not there yet." if done < of else ""
    return Section(found.plan.spec.title, text, sections=[*made(found), *_network(found)])


def words(item: Item) -> str:
    """What an item is, for readers."""
    word = _WORDS[item.kind]
    if item.kind in SWEPT:
        return f"{word}, δ {item.delta:g}"
    return f"{word} {item.draw}" if item.kind in DRAWN else word


def row(found: Measured, item: Item) -> tuple[str, ...]:
    """An item's numbers, as :data:`COLUMNS` name them."""

    def told(shape: str, of: Callable[[Solution], float | None]) -> str:
        return tell(found.at(item, of), shape)

    return (
        told("{:.1f}", lambda s: 100 * s.accuracy),
        told("{:+.2f}", lambda s: 100 * s.gain),
        told("{:+.2f}", lambda s: 100 * s.relative_gain),
        told("{:+.2f}", lambda s: s.error_change),
        told("{:,.0f}", lambda s: s.parameters),
        told("{:.1f}", lambda s: 100 * s.share),
        told("{:.3f}", lambda s: s.forgetting),
        told("{:.1f}", lambda s: s.seconds),
    )


def tell(values: BySeed, shape: str) -> str:
    """Mean ± half-width in a shape; a half-width of 0, or of one seed, is left out."""
    interval = by_seed.interval(values)
    if interval is None:
        return NOTHING
    mean = shape.format(interval.mean)
    if not 0 < interval.half_width < float("inf"):
        return mean
    return f"{mean} ± {shape.replace('+', '').format(interval.half_width)}"


def _numbers(found: Measured, items: Sequence[Item], caption: str) -> Table:
    return Table(("", *COLUMNS), [(words(item), *row(found, item)) for item in items], f"{caption}, {MEAN}")


def _independent(found: Measured) -> tuple[Item, ...]:
    return found.plan.items("independent")


def _figure4(found: Measured) -> list[Section]:
    items = [item for kind in found.plan.kinds for item in found.plan.items(kind)]
    shared = (
        " Bind-and-grow has one head for all tasks here, the other learners one for each."
        if found.plan.setting.head == "shared"
        else ""
    )
    return [
        Section(
            "Methods",
            _GAINS + shared,
            [_numbers(found, items, "Methods")],
            _picture(found, {words(item): [item] for item in items}, "Methods by size and gain"),
        )
    ]


def _figure6(found: Measured) -> list[Section]:
    sweep = found.plan.items("sweep")
    return [
        Section(
            "The sweep",
            f"{_GAINS} {_best(found, sweep)}",
            [_numbers(found, (*_independent(found), *sweep), "Grow coefficients"), _costs(found, sweep)],
            _picture(found, {"bind-and-grow": sweep}, "Grow coefficients by size and gain"),
            sections=[_decided(found)],
        )
    ]


def _costs(found: Measured, sweep: Sequence[Item]) -> Table:
    """What each coefficient took beside what earlier ones had left."""
    rows = [
        (
            f"{item.delta:g}",
            tell(found.told(item, "learned"), "{:.1f}"),
            tell(found.told(item, "seconds"), "{:.1f}"),
        )
        for item in sweep
    ]
    caption = f"What was learned anew for each coefficient, independent networks apart, {MEAN}"
    return Table(("δ", f"tasks, of {found.plan.setting.tasks}", "seconds"), rows, caption)


def _figure2(found: Measured) -> list[Section]:
    fronts = Fronts(found)
    sweep, random = found.plan.items("sweep"), found.plan.items("random")
    means = _numbers(found, sweep, "Grow coefficients")
    compared = Table(
        ("", "draws that it dominates [%]", "draws that dominate it [%]"),
        [
            (
                words(item),
                tell(fronts.dominated(item), "{:.0f}"),
                tell(fronts.dominating(item), "{:.0f}"),
            )
            for item in sweep
        ],
        f"Against the {len(random)} random growths of each seed, {MEAN}",
    )
    spread = Table(
        ("random growth", "accuracy [%]", "gain [points]", "of independent [%]"),
        [
            (name, *(tell(fronts.of_draws(of, choose), shape) for shape, of in _SPREAD))
            for name, choose in (("mean", None), ("lowest", min), ("highest", max))
        ],
        f"Over the draws of each seed, {MEAN}",
    )
    return [
        Section(
            "Random growth beside bind-and-grow",
            f"{_GAINS} A solution dominates another if it is at least as good in gain and parameters and better in "
            "one. Random growth binds each task to a random earlier one and grows a random number of random layers; "
            "weights and orders are those of bind-and-grow with the same seed.",
            [means, spread, compared],
            _picture(found, {"bind-and-grow": sweep, "random growth": random}, "Gain by size"),
        )
    ]


_SPREAD: Final[tuple[tuple[str, Callable[[Solution], float]], ...]] = (
    ("{:.1f}", lambda s: 100 * s.accuracy),
    ("{:+.2f}", lambda s: 100 * s.gain),
    ("{:.1f}", lambda s: 100 * s.share),
)


def _pareto(found: Measured) -> list[Section]:
    fronts, plan = Fronts(found), found.plan
    volumes = {kind: fronts.hypervolumes(kind) for kind in fronts.kinds}
    theirs = volumes["random"]
    table = Table(
        ("", "solutions of each seed", "hypervolume", "less random growth's"),
        [
            (
                _WORDS[kind],
                str(len(plan.items(kind))),
                tell(volume, "{:.2f}"),
                "" if kind == "random" else tell(by_seed.difference(volume, theirs), "{:+.2f}"),
            )
            for kind, volume in volumes.items()
        ],
        f"Hypervolumes, {MEAN}",
    )
    verdicts = "".join(_verdict(_WORDS[kind], volumes[kind], theirs) for kind in fronts.kinds)
    sweep = plan.items("sweep")
    text = (
        "The hypervolume is the area between a front and the reference: gain in points times the share of the "
        f"parameters of independent networks. {fronts.reference_told()} Draws of random growth differ in nothing but "
        "whom tasks are bound to and what they grow; weights and orders are those of bind-and-grow with the same seed. "
        f"Searched are coefficients, one for each task, by NSGA-II on validation data (the first {POPULATION} at "
        f"random), in as many trials as there are draws. {verdicts}{_best(found, sweep)}"
    )
    numbers = _numbers(found, (*_independent(found), *sweep, *plan.items("as-released")), "Grow coefficients")
    pictured = {_WORDS[kind]: plan.items(kind) for kind in fronts.kinds}
    picture = _picture(
        found, pictured, "Solutions of all seeds, and the fronts of them together", fronts=fronts
    )
    return [Section("Fronts", text, [table, numbers], picture), _half(found, fronts), _decided(found)]


def _half(found: Measured, fronts: Fronts) -> Section:
    """What is lost with at most half the parameters of full growth."""
    picks = {kind: fronts.picks(kind) for kind in fronts.kinds}
    rows = [
        (
            words(pick.item),
            str(seed),
            f"{100 * pick.share:.1f}",
            f"{100 * pick.accuracy:.1f}",
            f"{100 * pick.change:+.2f}",
        )
        for of_kind in picks.values()
        for seed, pick in of_kind.items()
    ]
    columns = ("", "seed", "of full growth's parameters [%]", "accuracy [%]", "less full growth's [points]")
    caption = "Of best validation accuracy with at most half of full growth's parameters (bind-and-grow, δ 1)"
    told = "; ".join(
        f"{_WORDS[kind]} by {tell({seed: 100 * pick.change for seed, pick in of_kind.items()}, '{:+.2f}')} points"
        f"{'' if len(of_kind) == found.plan.setting.seeds else f' ({len(of_kind)} seed(s) have one)'}"
        for kind, of_kind in picks.items()
        if of_kind
    )
    text = (
        "Chosen by validation accuracy among solutions of at most half the parameters of full growth, they change test "
        f"accuracy: {told}."
        if told
        else "No solution has at most half the parameters of full growth."
        if any(fronts.full(seed) for seed in range(found.plan.setting.seeds))
        else "Full growth (bind-and-grow, δ 1), which they are compared with, is not there yet."
    )
    return Section("Half the size", text, [Table(columns, rows, caption)])


def _verdict(kind: str, ours: BySeed, theirs: BySeed) -> str:
    """Whether a hypervolume and random growth's differ, as a sentence and a space; nothing where one is missing."""
    if ours is theirs or not ours or not theirs:
        return ""
    if by_seed.apart(ours, theirs):
        return f"{kind.capitalize()}: larger than random growth's; the intervals do not overlap. "
    if by_seed.apart(theirs, ours):
        return f"{kind.capitalize()}: smaller than random growth's; the intervals do not overlap. "
    return f"{kind.capitalize()} and random growth: the intervals overlap, or there is one seed. "


def _best(found: Measured, sweep: Sequence[Item]) -> str:
    """The coefficient of the largest mean gain, in words."""
    gains = {item: found.at(item, lambda s: 100 * s.gain) for item in sweep}
    known = {item: values for item, values in gains.items() if values}
    if not known:
        return ""
    best = max(known, key=lambda item: by_seed.mean(known[item]))
    interval = by_seed.interval(known[best])
    assert interval is not None
    sure = " (the interval is above 0)" if interval.mean > interval.half_width else ""
    return f"The mean gain is largest at δ {best.delta:g}: {tell(known[best], '{:+.2f}')} points{sure}."


def _decided(found: Measured) -> Section:
    """What was bound and grown, of the first seed."""
    rows = [
        (
            f"{item.delta:g}",
            growth.task,
            growth.bound or NOTHING,
            f"{growth.scores[growth.bound]:.3f}" if growth.bound and growth.scores else NOTHING,
            ", ".join(growth.grown) or "none",
            ", ".join(f"{mass:.2f}" for mass in growth.distribution) or NOTHING,
        )
        for item in found.plan.items("sweep")
        for growth in found.growths(item, 0)
    ]
    columns = ("δ", "task", "bound to", "conflict with it", "layers grown", "its distribution over layers")
    table = Table(columns, rows, "Decisions of the first seed", collapsed=True)
    return Section("What was bound and grown", "" if rows else "Nothing yet.", [table] if rows else ())


def _network(found: Measured) -> list[Section]:
    """Joint networks, drawn and explained by scores: of the default coefficient or the middle one, and of variants."""
    sweep = found.plan.items("sweep")
    default = next((item for item in sweep if item.delta == DELTA), sweep[len(sweep) // 2])
    variants = [kind for kind in found.plan.kinds if kind in GROWN and kind not in ("sweep", *DRAWN)]
    sections = []
    for item in (
        default,
        *(item for kind in variants for item in found.plan.items(kind) if item.delta == DELTA),
    ):
        each = [(seed, found.growths(item, seed)) for seed in range(found.plan.setting.seeds)]
        told = [(seed, {growth.task: growth.to_json() for growth in all_}) for seed, all_ in each if all_]
        if told:
            sections.append(bindings.explained(words(item), told))
    return sections


def _picture(
    found: Measured,
    series: Mapping[str, Sequence[Item]],
    title: str,
    *,
    fronts: Fronts | None = None,
) -> list[Figure]:
    """Solutions of all seeds by parameters and gain; means of the sweep are labelled; none where nothing is there."""
    points = {
        name: [
            (100 * solution.share, 100 * solution.gain)
            for item in items
            for seed in range(found.plan.setting.seeds)
            if (solution := found.solution(item, seed)) is not None
        ]
        for name, items in series.items()
    }
    points = {name: each for name, each in points.items() if each}
    if not points:
        return []
    labels = []
    for item in found.plan.items("sweep"):
        x, y = found.at(item, lambda s: 100 * s.share), found.at(item, lambda s: 100 * s.gain)
        if x:
            labels.append((by_seed.mean(x), by_seed.mean(y), f"δ {item.delta:g}"))
    told = "; ".join(f"{words_} {y:+.2f} points at {x:.0f} %" for x, y, words_ in labels)
    return [
        scatter(
            points,
            title=title,
            x_title="parameters [% of independent networks]",
            y_title="average gain [points]",
            alt=f"{title}: average gain by parameters, in percent of independent networks. Means: {told}.",
            caption="Each point is one run with one seed; labels stand at means over seeds. Above the dashed line "
            "tasks gain from each other.",
            fronts=None if fronts is None else fronts.lines(points),
            labels=labels,
            level=0.0,
        )
    ]
