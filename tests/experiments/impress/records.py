"""Records of a plan with numbers that are known beforehand."""

from stolon.experiments.results import Record


def value(kind, density, run, item):
    """An accuracy that says where it comes from."""
    base = {"heterogeneous": 0.5, "homogeneous": 0.4, "random": 0.3, "supsup": 0.9}[kind]
    step = {"wrong": -0.4, "hybrid": 0.005, "gg": 0.3, "basis-gn": 0.2}.get(item.what, 0.0)
    return base + step + 0.02 * item.size + 0.1 * density + 0.012 * run + 0.0013 * item.task


def made(plan, leave_out=lambda unit, item: False):
    """All records of a plan, or all but some."""
    found = [Record("experiment", plan.name, data={"recipe": plan.recipe(), "command": "one"})]
    for unit in plan.units():
        about = (plan.name, unit.label, plan.stream, unit.run)
        facts = {"weights": [768, 120], "statistics_bytes": 0, "classes": 10, "results": 1}
        found.append(Record("trial", *about, facts, versions={"torch": "2"}, hardware={"cores": 2}))
        for item in plan.items(unit.kind):
            if leave_out(unit, item):
                continue
            number = value(unit.kind, unit.density, unit.run, item)
            data = {"task": f"task {item.task}", "accuracy": number, "seconds": 1.0}
            match item.what:  # as Work gives them, and no more
                case "own":
                    data |= {"mask_bytes": 111, "coded_bytes": 50 + 100 * unit.density}
                case "basis-gn":
                    data |= {"own_share": 0.5, "own_largest": 0.25}
                case "found-in-batch" | "found-alone" | "gn-in-batch" | "gn-alone":
                    data |= {"found": number / 2, "found_each": number / 4}
            found.append(Record("task", *about, data, item.where))
        found.append(Record("done", *about))
    return found
