"""How the measured cases stand against the goals of the kernels, and the layouts to each other."""

from statistics import median

from tables import (by_threads, by_what, name, percent, ratio, table, threads_title,
                    thread_counts, what)

# (operation, direction): the fraction of the streaming limit on one thread and on all cores, and the
# ratios to the fastest peer in the same layout and to oneDNN's blocked layout. For float; LRN
# everywhere, all others from memory.
GOALS = {
    ("batch_norm", "forward"): (0.60, 0.80, 1.5, 1.2),
    ("batch_norm", "backward"): (0.60, 0.80, 1.5, 1.2),
    ("batch_norm", "inference"): (0.80, 0.90, 1.1, 1.1),
    ("layer_norm", "forward"): (0.75, 0.90, 1.3, None),
    ("layer_norm", "backward"): (0.65, 0.80, 2.0, None),
    ("group_norm", "forward"): (0.75, 0.90, 2.0, None),
    ("group_norm", "backward"): (0.65, 0.80, 2.0, None),
    ("instance_norm", "forward"): (0.75, 0.90, 2.0, None),
    ("instance_norm", "backward"): (0.65, 0.80, 2.0, None),
    ("rms_norm", "forward"): (0.75, 0.90, 2.0, None),
    ("rms_norm", "backward"): (0.65, 0.80, 2.0, None),
    ("local_response_norm", "forward"): (0.55, 0.80, 3.0, 3.0),
    ("local_response_norm", "backward"): (0.45, 0.70, 5.0, 5.0),
}


def fastest_in_layout(case):
    ratios = [r for r in (case["vs_onednn"], case["vs_torch"]) if r]
    return min(ratios) if ratios else None


def beyond_bound(case, speedup):
    """Whether a case, so many times as fast, would be faster than what bounds it: the streaming
    limit, and the least loop in two passes where there is one."""
    bound = max(case["limit_seconds"], case["two_passes_seconds"] or 0)
    return case["seconds"] / speedup < bound


def line(title, measure, goal, values, form):
    """values: (case, value) pairs."""
    values = [(case, value) for case, value in values if value is not None]
    if not values or goal is None:
        return []
    worst = min(values, key=lambda pair: pair[1])
    missed = [(case, value) for case, value in values if value < goal]
    beyond = sum(beyond_bound(case, goal / value) for case, value in missed)
    return [[title, measure, f"{form(goal)}", f"{len(values) - len(missed)} of {len(values)}",
             f"{beyond} of {len(missed)}" if missed else "-",
             form(median(value for _, value in values)), f"{form(worst[1])} ({name(worst[0])})"]]


def goals(cases):
    floats = [case for case in cases if case["dtype"] == "f32"]
    counts = thread_counts(floats)
    rows = []
    for (op, direction), (one, all_cores, same, blocked) in GOALS.items():
        group = [case for case in floats if (case["op"], case["direction"]) == (op, direction)
                 and (case["residency"] == "cold" or op == "local_response_norm")]
        if not group:
            continue
        title = what(group[0])
        for count in counts:
            goal = one if count == 1 else all_cores
            rows += line(title, f"limit, {threads_title(count)}", goal,
                         [(c, c["fraction_of_limit"]) for c in group if c["threads"] == count],
                         percent)
        rows += line(title, "fastest peer, same layout", same,
                     [(c, fastest_in_layout(c)) for c in group], ratio)
        rows += line(title, "oneDNN, blocked", blocked,
                     [(c, c["vs_onednn_blocked"]) for c in group], ratio)
    small = [case for case in floats if case["residency"] == "cache"
             and (case["op"], case["direction"]) in GOALS and case["op"] != "local_response_norm"]
    rows += line("in cache, all", "fastest peer, same layout", 1.0,
                 [(c, fastest_in_layout(c)) for c in small], ratio)
    rows += line("in cache, all", "oneDNN, blocked", 1.0,
                 [(c, c["vs_onednn_blocked"]) for c in small], ratio)
    return table(["float", "measure", "goal", "cases that meet it", "others: beyond the bound",
                  "median", "worst"], rows)


def layouts(cases):
    """Channels-last over channels-first, where both move the same streams."""
    pairs = {}
    for case in cases:
        if case["dtype"] == "f32" and case["layout"] in ("nchw", "nhwc"):
            key = (case["op"], case["direction"], case["shape"], case["threads"], case["streams"])
            pairs.setdefault(key, {})[case["layout"]] = case
    both = [(pair["nchw"], pair["nhwc"]["seconds"] / pair["nchw"]["seconds"])
            for pair in pairs.values() if len(pair) == 2]
    rows = []
    for title, group in by_what([case for case, _ in both]):
        values = [value for case, value in both if what(case) == title]
        rows.append([title, f"{sum(value <= 1.15 for value in values)} of {len(group)}",
                     ratio(min(values)), ratio(median(values)), ratio(max(values))])
    return table(["float", "at most 1.15x", "least", "median", "most"], rows)


def two_passes(cases):
    """The least loop that reads each group twice, and the kernel, as fractions of the limit."""
    some = [case for case in cases if case["two_passes_seconds"] and case["residency"] == "cold"]
    counts = thread_counts(some)
    rows = []
    for case in by_threads(some):
        any_case = next(iter(case.values()))
        row = [f"{what(any_case)} {name(any_case)}"]
        for count in counts:
            if count not in case:
                row += [""] * 3
                continue
            c = case[count]
            row += [percent(c["limit_seconds"] / c["two_passes_seconds"]),
                    percent(c["fraction_of_limit"]), ratio(c["two_passes_seconds"] / c["seconds"])]
        rows.append(row)
    head = ["float, cold"]
    for count in counts:
        head += [f"{threads_title(count)}: loop", "kernel", "loop's time over the kernel's"]
    every = [c["two_passes_seconds"] / c["seconds"] for c in some]
    text = (f"In {sum(value >= 0.9 for value in every)} of {len(every)} cases the kernel has at "
            f"least 0.9 of the loop's speed; the median is {ratio(median(every))}.\n\n") if every else ""
    return text + table(head, rows)
