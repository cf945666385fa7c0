"""The generated parts of docs/performance.md and docs/performance-tables.md."""

from statistics import median

OPS = {
    "batch_norm": "BN",
    "batch_norm_relu": "BN + ReLU",
    "batch_norm_add_relu": "BN + add + ReLU",
    "layer_norm": "LN",
    "layer_norm_add": "LN + add",
    "group_norm": "GN",
    "group_norm_silu": "GN + SiLU",
    "instance_norm": "IN",
    "rms_norm": "RMS",
    "rms_norm_add": "RMS + add",
    "local_response_norm": "LRN",
}
PEERS = {"onednn": "oneDNN", "onednn_blocked": "oneDNN, blocked", "torch": "PyTorch"}


def table(head, rows):
    if not rows:
        return "None."
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def what(case):
    return f"{OPS.get(case['op'], case['op'])} {case['direction']}"


def name(case):
    layout = "" if case["layout"] == "rows" else f" {case['layout']}"
    return f"{case['shape']}{layout}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}x"


def percent(value):
    return f"{100 * value:.0f}%"


def span(values, form):
    """The least and the middle one."""
    return f"{form(min(values))} / {form(median(values))}" if values else "-"


def thread_counts(cases):
    return sorted({case["threads"] for case in cases})


def threads_title(count):
    return "1 thread" if count == 1 else f"{count} threads"


def by_threads(cases):
    """Yields the cases that differ in nothing else, as {threads: case}, in their first order."""
    groups = {}
    for case in cases:
        key = (case["op"], case["direction"], case["shape"], case["layout"], case["dtype"])
        groups.setdefault(key, {})[case["threads"]] = case
    yield from groups.values()


def by_what(cases):
    """Yields (title, cases) for each operation and direction."""
    groups = {}
    for case in cases:
        groups.setdefault(what(case), []).append(case)
    yield from groups.items()


def machine(results):
    m = results["machine"]
    mebi = 2**20
    text = (f"{m['processor']}, {m['cores']} cores, L2 {m['l2_bytes'] / mebi:g} MiB a core, "
            f"last-level cache {m['last_level_cache_bytes'] / mebi:g} MiB; "
            f"{m['compiler']}, SIMD target {m['simd_target']}; evenkeel {m['evenkeel']}, oneDNN "
            f"{m['onednn']}, PyTorch {m['torch']}; measured on {m['date']}.")
    if results["quick"]:
        text += " Only the quick selection of cases, in few rounds."
    if results["best"]:
        text += " Times are those of the fastest rounds, not medians."
    return text


def summary(cases):
    """Per operation: the fraction of the limit, and the ratio to the fastest peers."""
    plain = [case for case in cases if case["dtype"] == "f32"]
    counts = thread_counts(plain)
    rows = []
    for residency in ("cold", "cache"):
        for title, group in by_what(c for c in plain if c["residency"] == residency):
            row = [title, residency]
            for count in counts:
                row.append(span([c["fraction_of_limit"] for c in group if c["threads"] == count],
                                percent))
            fastest = [min(r for r in (c["vs_onednn"], c["vs_torch"]) if r) for c in group
                       if c["vs_onednn"] or c["vs_torch"]]
            blocked = [c["vs_onednn_blocked"] for c in group if c["vs_onednn_blocked"]]
            rows.append(row + [span(fastest, ratio), span(blocked, ratio)])
    return table(["float", "data", *(f"limit, {threads_title(count)}" for count in counts),
                  "fastest peer, same layout", "oneDNN, blocked"], rows)


def cases(cases):
    """Every case; a section for each operation and direction."""
    counts = thread_counts(cases)
    head = ["case", "dtype", "data", "streams"]
    for count in counts:
        head += [f"{threads_title(count)}: ms", "GB/s", "limit", "oneDNN", "blocked", "PyTorch"]
    sections = []
    for title, group in by_what(cases):
        rows = []
        for case in by_threads(group):
            any_case = next(iter(case.values()))
            row = [name(any_case), any_case["dtype"], any_case["residency"], any_case["streams"]]
            for count in counts:
                if count not in case:
                    row += [""] * 6
                    continue
                c = case[count]
                row += [f"{1e3 * c['seconds']:.4g}", f"{c['bytes'] / c['seconds'] / 1e9:.1f}",
                        percent(c["fraction_of_limit"]),
                        *(ratio(c[f"vs_{peer}"]) for peer in PEERS)]
            rows.append(row)
        sections.append(f"<details><summary>{title}</summary>\n\n{table(head, rows)}\n\n</details>")
    return "\n\n".join(sections)


def overlap(case, peer):
    ours, theirs = case["contestants"]["evenkeel"], case["contestants"][peer]
    return "overlap" if ours["max"] >= theirs["min"] and theirs["max"] >= ours["min"] else "apart"


def peers(cases):
    """Every case in which a peer is faster, worst first."""
    lost = [(case[f"vs_{peer}"], peer, case) for peer in PEERS for case in cases
            if case[f"vs_{peer}"] and case[f"vs_{peer}"] < 1]
    lost.sort(key=lambda item: item[0])
    compared = sum(case[f"vs_{peer}"] is not None for peer in PEERS for case in cases)
    rows = [[f"{what(case)} {name(case)}", case["dtype"], case["threads"], case["residency"],
             PEERS[peer], ratio(value), overlap(case, peer)] for value, peer, case in lost]
    return (f"{len(lost)} of {compared} comparisons.\n\n"
            + table(["case", "dtype", "threads", "data", "faster peer", "its time over ours",
                     "ranges of the rounds"], rows))


def fused(cases):
    some = [case for case in cases if "unfused_streams" in case and case["dtype"] == "f32"]
    counts = thread_counts(some)
    rows = []
    for case in by_threads(some):
        c = next(iter(case.values()))
        streams = f"{c['streams']}T / {c['unfused_streams']}T"
        rows.append([f"{what(c)} {name(c)}", c["residency"], streams,
                     ratio(c["unfused_streams"] / c["streams"]),
                     *(ratio(case[n]["vs_unfused"]) if n in case else "" for n in counts)])
    return table(["float", "data", "streams, fused / not", "predicted",
                  *(f"measured, {threads_title(count)}" for count in counts)], rows)


def sixteen(cases):
    """Cases that are cold in 16 bits, and so in float."""
    some = [case for case in cases if case["vs_f32"] and case["residency"] == "cold"]
    counts, dtypes = thread_counts(some), ("bf16", "f16")
    found = {}
    for case in some:
        key = f"{what(case)} {name(case)}"
        found.setdefault(key, {})[case["dtype"], case["threads"]] = ratio(case["vs_f32"])
    columns = [(dtype, count) for dtype in dtypes for count in counts]
    low = sum(case["vs_f32"] < 1.6 for case in some)
    rows = [[key, *(values.get(column, "") for column in columns)] for key, values in found.items()]
    return (f"{low} of {len(some)} are below 1.6x.\n\n"
            + table(["cold case", *(f"{d}, {threads_title(n)}" for d, n in columns)], rows))


MODULES = {"bn": "BN forward", "bn_add_relu": "BN + add + ReLU forward"}
STEPS = {"bn_relu_step": "BN + ReLU", "lrn_step": "LRN"}


def mebibytes(count):
    return f"{count / 2**20:.0f}"


def shape_of(result):
    return "x".join(str(size) for size in result["shape"])


def modules(results):
    some = [r for r in results if r["what"] in MODULES]
    counts, allocators = thread_counts(some), list(dict.fromkeys(r["allocator"] for r in some))
    found = {}
    for r in some:
        key = f"{MODULES[r['what']]}: {r['how']}"
        found.setdefault(key, {})[r["allocator"], r["threads"]] = r
    rows = []
    for key, by in found.items():
        row = [key]
        for count in counts:
            row += [f"{1e3 * by[a, count]['seconds']:.1f}" for a in allocators]
        row += [mebibytes(by[a, counts[-1]]["peak_growth_bytes"]) for a in allocators]
        rows.append(row)
    head = [f"{shape_of(some[0])}, float"]
    head += [f"ms, {threads_title(count)}, {a}" for count in counts for a in allocators]
    head += [f"peak growth, MiB, {a}" for a in allocators]
    return table(head, rows)


def memory(results):
    some = [r for r in results if r["what"] in STEPS]
    count = thread_counts(some)[-1]
    rows = [[f"{STEPS[r['what']]} {shape_of(r)}: {r['how']}", mebibytes(r["first_growth_bytes"]),
             f"{r['first_growth_bytes'] / r['tensor_bytes']:.1f}",
             mebibytes(r["peak_growth_bytes"]), f"{1e3 * r['seconds']:.1f}"]
            for r in some if r["threads"] == count]
    calls = max((r["calls"] for r in some), default=0)
    return table(["forward and backward, float", "one step, MiB", "in tensors",
                  f"{calls} steps, MiB", f"ms, {threads_title(count)}"], rows)
