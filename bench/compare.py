"""The changes of a run of the benchmarks against a saved one, for bench/run.

A figure's noise is how far its runs lie from their median, at the median of these distances, in parts of it; of two runs that are compared,
both count. A change counts that is more than a hundredth, and more than three times the noise. (Three times the median
distance is about two standard deviations.) A figure that was measured once has no noise that is known, and its change is listed apart.
"""

import statistics

# Changes below this are none, whatever the noise
LEAST = 0.01
NOISES = 3

LESS = ("s", "ms", "us", "µs", "bytes", "rows", "kB", "MB")


def better(metric):
    """+1: more of it is better, -1: less; 0: it is not known."""
    unit, aim = metric.get("unit", ""), str(metric.get("aim", ""))
    if "better" in metric:
        return {"more": 1, "less": -1}[metric["better"]]
    if unit.endswith("/s"):
        return 1
    if unit in LESS or aim.startswith("<"):
        return -1
    name = metric["metric"]
    return 1 if unit == "" and ("ratio" in name or "against" in name or "throughput" in name) else 0


def noise(metric):
    """The noise of a figure in parts of it, or None."""
    runs = [r for r in metric.get("runs") or [] if isinstance(r, (int, float))]
    if len(runs) < 2 or not statistics.median(runs):
        return None
    middle = statistics.median(runs)
    return statistics.median(abs(r - middle) for r in runs) / abs(middle)


def figures(run):
    """((benchmark, metric, its place among those of the same name), (benchmark's record, metric's)) of a run."""
    seen = {}
    for r in run:
        for m in r["metrics"]:
            name = (r["name"], m["metric"])
            seen[name] = seen.get(name, 0) + 1
            yield name + (seen[name],), (r, m)


def changes(old, new):
    """(benchmark's title, metric, old value, new value, change, noise or None, sign) of all figures that both have. change > 0: more."""
    before = dict(figures(old))
    out = []
    for key, (r, m) in figures(new):
        r0, m0 = before.get(key, (None, None))
        if m0 is None or r0.get("scale") != r.get("scale") or not isinstance(m["value"], (int, float)) \
                or not isinstance(m0["value"], (int, float)) or not m0["value"]:
            continue
        if m.get("unit") and r0.get("machine") != r.get("machine"):
            continue        # only ratios mean something on another machine
        both = [noise(m0), noise(m)]
        n = None if None in both else sum(x * x for x in both) ** 0.5
        out.append((r["title"], m, m0["value"], m["value"], m["value"] / m0["value"] - 1, n, better(m)))
    return out


def report(old, new):
    """Lines that say what got slower, by how much, with how much noise; and how many figures did."""
    found = changes(old, new)
    groups = {"slower": [], "quicker": [], "changed, whether for the better is not known": [],
              "measured once, so that the noise is not known; worse by more than a twentieth": []}
    names = list(groups)
    for title, m, was, now, change, n, sign in found:
        line = (f"  {change:+.1%} (noise {n:.1%}): " if n is not None else f"  {change:+.1%}: ") + \
            f"{m['metric']}: {was:.4g} -> {now:.4g} {m.get('unit', '')}".rstrip() + f" [{title}]"
        if n is None:
            if sign * change < -0.05:
                groups[names[3]].append((sign * change, line))
        elif abs(change) > max(LEAST, NOISES * n):
            groups[names[0 if sign * change < 0 else 1 if sign else 2]].append((sign * change, line))
    lines = [f"compared with the saved run: {len(found)} figures, {len(groups['slower'])} slower, {len(groups['quicker'])} quicker"]
    for name in names:
        if groups[name]:
            lines.append(f"{name}:")
            lines += [line for _, line in sorted(groups[name], key=lambda x: x[0])]
    return lines, len(groups["slower"])
