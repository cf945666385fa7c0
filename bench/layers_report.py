#!/usr/bin/python3
"""Tables and picture of what bench/layers.py measured.

bench/layers_report.py  # prints the tables of bench/layers.json
bench/layers_report.py --page docs/performance.md --picture docs/layers.png
"""

import argparse
import json
from pathlib import Path
from statistics import median

import pages

STATES = ("resident", "evicted", "fresh", "sequence")
SIZES = {"f32": 4, "bf16": 2}


class Results:
    def __init__(self, document):
        self.document = document
        self.seconds = document["seconds"]
        self.states = [state for state in STATES if state in self.seconds]

    def kinds(self):
        """{(operation and direction, order, type; threads): names of the cases}."""
        found = {}
        for name in self.seconds[self.states[0]]:
            op, direction, shape, order, dtype, threads = name.split("/")
            kind = f"{op} {direction}, {order}, {dtype}"
            if op == "batch_norm" and not shape.startswith("8x"):
                kind += f", {shape.split('x')[0]} images"
            found.setdefault((kind, int(threads)), []).append(name)
        return dict(sorted(found.items()))

    def ratios(self, names, state, over, under="evenkeel"):
        """Time of `over` by that of `under`, of the cases that have both."""
        cases = [self.seconds[state][name] for name in names]
        return [case[over] / case[under] for case in cases if over in case]


def megabytes(name):
    _, _, shape, _, dtype, _ = name.split("/")
    size = SIZES[dtype]
    for extent in shape.split("x"):
        size *= int(extent)
    return size / 1e6


def table(header, rows):
    return "\n".join(
        ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
        + ["| " + " | ".join(row) + " |" for row in rows]
    )


def median_and_least(ratios):
    return f"{median(ratios):.2f} / {min(ratios):.2f}" if ratios else "-"


def beside(results, peer):
    """The peer's time over ours."""
    rows = []
    for (kind, threads), names in results.kinds().items():
        by_state = [results.ratios(names, state, peer) for state in results.states]
        if any(by_state):
            cells = [median_and_least(ratios) for ratios in by_state]
            rows.append([kind, str(threads), str(len(names)), *cells])
    return table(["", "threads", "cases", *results.states], rows)


def of_stream(results):
    """The time of the bytes alone over ours and PyTorch's, medians."""
    rows = []
    for (kind, threads), names in results.kinds().items():
        cells = []
        for state in results.states:
            ours = median(results.ratios(names, state, "stream"))
            theirs = median(results.ratios(names, state, "stream", "torch"))
            cells.append(f"{ours:.0%} / {theirs:.0%}")
        rows.append([kind, str(threads), *cells])
    return table(["", "threads", *results.states], rows)


# What tests/core/shares holds: work by threads and the largest share, where a thread has 256 KB or
# more and where it has less, and the most of the work that is serial.
BALANCE, BALANCE_OF_SMALL, SERIAL = 0.9, 0.75, 0.02
# Assumed, in seconds, of each of an operation's two parallel parts.
FORK_AND_JOIN = 3e-6


def computed_gain(name, seconds, threads):
    balance = BALANCE if megabytes(name) / threads >= 0.25 else BALANCE_OF_SMALL
    shared = seconds * (SERIAL + (1 - SERIAL) / (balance * threads))
    return seconds / (shared + 2 * FORK_AND_JOIN)


def gains(results):
    """Of the second thread in cache, measured, and of 8 and 16 threads, computed: medians."""
    if "resident" not in results.seconds:
        return "The state `resident` was not measured."
    of_case = results.seconds["resident"]
    rows = []
    for (kind, threads), names in results.kinds().items():
        pairs = [
            (of_case[name], of_case[name[:-1] + "2"], name)
            for name in names
            if threads == 1 and 1 <= megabytes(name) <= 4 and name[:-1] + "2" in of_case
        ]
        if pairs:
            cells = [
                median_and_least([one[who] / two[who] for one, two, _ in pairs])
                for who in ("evenkeel", "torch", "stream")
            ]
            for count in (8, 16):
                computed = [computed_gain(name, one["evenkeel"], count) for one, _, name in pairs]
                cells.append(f"{median(computed):.1f}")
            rows.append([kind, str(len(pairs)), *cells])
    return table(["", "cases", "evenkeel", "PyTorch", "the bytes alone", "8 threads, computed",
                  "16 threads, computed"], rows)  # fmt: skip


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    threads = max(count for _, count in results.kinds())
    kinds = [(kind, names) for (kind, count), names in results.kinds().items() if count == threads]
    figure, panels = plt.subplots(
        1, len(results.states), figsize=(12, 1.2 + 0.24 * len(kinds)), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for panel, state in zip(panels[0], results.states, strict=True):
        for y, (_, names) in enumerate(kinds):
            ratios = results.ratios(names, state, "torch")
            panel.scatter(ratios, [y] * len(ratios), s=9, color="#9db4d6", zorder=2)
            panel.scatter(median(ratios), y, s=38, color="#1f4e9c", zorder=3)
        panel.axvline(1, color="#444", lw=1, zorder=1)
        panel.set_xscale("log", base=2)
        panel.set_xlim(0.45, 16)
        panel.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        panel.grid(axis="x", color="#dddddd", lw=0.6)
        panel.set_axisbelow(True)
        panel.set_title(state, fontsize=11, fontweight="bold")
        panel.tick_params(axis="y", length=0)
    panels[0][0].set_yticks(range(len(kinds)), [kind for kind, _ in kinds], fontsize=8)
    panels[0][0].set_ylim(len(kinds) - 0.5, -0.5)
    figure.suptitle(
        f"PyTorch's time over evenkeel's, {threads} threads: every layer, and the median"
        " (right of 1: evenkeel is faster)",
        fontsize=11,
    )
    new = path.with_name("new-" + path.name)
    figure.savefig(new, dpi=100)
    new.rename(path)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path,
                        default=[Path(__file__).with_name("layers.json")],
                        help="files of bench/layers.py, of other cases each")  # fmt: skip
    parser.add_argument("--page", type=Path, help="rewrite the blocks `layers...` of this page")
    parser.add_argument("--picture", type=Path, help="draw the picture")
    options = parser.parse_args()
    for path in options.results:
        if not path.exists():
            parser.error(f"there is no {path}; bench/layers.py writes it")
    documents = [json.loads(path.read_text()) for path in options.results]
    document = documents[0]
    for other in documents[1:]:
        for state, seconds in other["seconds"].items():
            document["seconds"].setdefault(state, {}).update(seconds)
    results = Results(document)
    blocks = {
        "layers": f"{document['machine']}; PyTorch {document['torch']}; medians of"
        f" {' and '.join(str(d['rounds']) for d in documents)} rounds, measured on"
        f" {document['date']}.\n\n" + beside(results, "torch"),
        "layers-stream": of_stream(results),
        "layers-onednn": beside(results, "onednn"),
        "layers-gains": gains(results),
    }
    if options.page:
        pages.rewrite(options.page, blocks)
    else:
        print("\n\n".join(blocks.values()))
    if options.picture:
        draw(results, options.picture)


if __name__ == "__main__":
    main()
