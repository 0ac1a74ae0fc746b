"""Rounds in which the contestants take turns, and what comes of them."""

import statistics
import time
from dataclasses import asdict, dataclass, field


@dataclass
class Line:
    """One line of the table: what was measured, beside what, and whether the goal is met."""

    row: str
    work: str
    measured: float | None = None
    unit: str = ""
    against: str = ""
    reference: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    skipped: str = ""
    note: str = ""
    rounds: dict = field(default_factory=dict)

    def as_dict(self):
        return asdict(self)


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, round((len(values) - 1) * percent / 100))]


def alternate(contestants, rounds, warm_up=0):
    """Runs each contestant once per round and gives its values. Who comes first changes from round to round, so that
    nobody always runs in the wake of the same other."""
    values = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(warm_up + rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            value = contestants[name]()
            if turn >= warm_up:
                values[name].append(value)
    return values


def versus(row, work, values, ours, reference, *, unit="s", at_most=None, at_least=None, per=None, note=""):
    """A line that compares two contestants of the same rounds. The ratio is ours to theirs, of the medians; `at_least`
    turns it round, for a goal that is stated as throughput. `per` turns seconds into an amount per second."""
    mine, theirs = statistics.median(values[ours]), statistics.median(values[reference])
    ratio = theirs / mine if at_least is not None or per else mine / theirs
    goal, met = "", None
    if at_most is not None:
        goal, met = f"at most {at_most}x", round(ratio, 3) <= at_most
    elif at_least is not None:
        goal, met = f"at least {at_least}x", round(ratio, 3) >= at_least
    shown = (per / mine, per / theirs) if per else (mine, theirs)
    return Line(row, work, shown[0], unit, reference, shown[1], ratio, goal, met, note=note,
                rounds={ours: values[ours], reference: values[reference]})


def absolute(row, work, measured, unit, *, at_most=None, at_least=None, note="", rounds=None):
    """A line whose goal is a number of its own."""
    goal, met = "", None
    if at_most is not None:
        goal, met = f"at most {at_most:g} {unit}", measured <= at_most
    elif at_least is not None:
        goal, met = f"at least {at_least:g} {unit}", measured >= at_least
    return Line(row, work, measured, unit, goal=goal, met=met, note=note, rounds=rounds or {})


def skipped(row, work, why):
    return Line(row, work, skipped=why)
