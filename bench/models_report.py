#!/usr/bin/python3
"""Tables and picture of what bench/models.py measured.

bench/models_report.py  # prints the tables of bench/models.json
bench/models_report.py --page docs/models.md --picture docs/models.png
"""

import argparse
import json
from pathlib import Path

import pages
from layers_report import table


class Result:
    """A setting: its model, layout and so on, and what its contestants took."""

    def __init__(self, name, contestants, document):
        self.model, self.layout, self.dtype, self.memory, self.threads = name.split("/")
        self.batch = document["inputs"][self.model].split("x")[0]
        self.of = contestants

    @property
    def title(self):
        layout = "" if self.layout == "contiguous" else f", {self.layout}"
        dtype = "" if self.dtype == "f32" else f", {self.dtype}"
        return f"{self.model} ({self.batch}){layout}{dtype}"

    def seconds(self, who, what="step"):
        return self.of[who][what]["seconds"]

    def ratio(self, what="step", peer="torch", ours="evenkeel"):
        return self.seconds(peer, what) / self.seconds(ours, what)

    def part(self, who):
        """Normalization's part of the step: beyond what the bare network has.

        Of its additions those do not count that evenkeel has fused.
        """
        bare, ours = (self.of[w]["step"] for w in ("bare", "evenkeel"))
        fused = max(0.0, bare["additions"] - ours["additions"])
        return self.of[who]["step"]["part"] - (bare["part"] - fused)

    def part_ratio(self):
        ours = self.part("evenkeel")
        return self.part("torch") / ours if ours > 0 else None

    def layer_norm(self):
        times = [self.of[who]["step"]["layer_norm"] for who in ("torch", "evenkeel")]
        return f"{times[0] / times[1]:.2f}" if all(times) else "-"


def milliseconds(seconds):
    return f"{seconds * 1e3:.0f}"


def steps(results):
    header = ["", "memory", "threads", "PyTorch, ms", "evenkeel, ms", "bare, ms", "step",
              "inference", "part of the step", "part"]  # fmt: skip
    rows = []
    for r in results:
        rows.append([
            r.title, r.memory, r.threads,
            *(milliseconds(r.seconds(who)) for who in ("torch", "evenkeel", "bare")),
            f"{r.ratio():.2f}", f"{r.ratio('infer'):.2f}",
            f"{r.part('torch') / r.seconds('torch'):.0%}",
            f"{r.part_ratio():.2f}" if r.part_ratio() else "-",
        ])  # fmt: skip
    return table(header, rows)


def memory(results):
    header = ["", "page faults: PyTorch", "evenkeel", "memory kept: PyTorch", "evenkeel",
              "peak, MB: PyTorch", "evenkeel", "peak, evenkeel's share"]  # fmt: skip
    rows = []
    # Some systems do not count them, or not all.
    counted = all(r.of["torch"]["step"]["faults"] > 0 for r in results if r.memory == "usual")
    by_memory = {(r.title, r.threads, r.memory): r for r in results}
    for r in results:
        if r.memory != "usual":
            continue
        kept = by_memory.get((r.title, r.threads, "kept"))
        faults = [
            f"{of.of[who]['step']['faults']:,.0f}" if of and counted else "-"
            for of in (r, kept)
            for who in ("torch", "evenkeel")
        ]
        peaks = [r.of[who]["peak"] for who in ("torch", "evenkeel")]
        rows.append([f"{r.title}, {r.threads} threads", *faults,
                     *(f"{peak / 1e6:.0f}" for peak in peaks), f"{peaks[1] / peaks[0]:.0%}"])  # fmt: skip
    return table(header, rows)


def spread(results):
    """How far the rounds of a contestant lie apart, of its median."""
    rows = [
        [f"{r.title}, {r.memory}, {r.threads} threads"]
        + [
            f"{step['least'] / step['seconds'] - 1:+.0%} to"
            f" {step['most'] / step['seconds'] - 1:+.0%}"
            for step in (r.of[who]["step"] for who in ("torch", "evenkeel"))
        ]
        + [r.layer_norm()]
        for r in results
    ]
    return table(["", "PyTorch", "evenkeel", "LayerNorm's own time"], rows)


def compiled(results):
    rows = [
        [r.title, r.memory, f"{r.ratio(peer='compiled'):.2f}",
         f"{r.ratio(peer='compiled', ours='evenkeel compiled'):.2f}"]
        for r in results if "compiled" in r.of
    ]  # fmt: skip
    if not rows:
        return "`torch.compile` was not measured (`--compile`)."
    return table(["", "memory", "compiled / evenkeel", "compiled / evenkeel compiled"], rows)


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    threads = results[0].threads
    results = [r for r in results if r.threads == threads]
    titles = list(dict.fromkeys(r.title for r in results))
    kinds = [("usual", "#9db4d6", "memory as it is"), ("kept", "#1f4e9c", "ek.keep_memory()")]
    figure, panels = plt.subplots(1, 2, figsize=(11, 1.4 + 0.3 * len(titles)), sharey=True,
                                  layout="constrained")  # fmt: skip
    measures = (
        ("whole training step", lambda r: r.ratio()),
        ("normalization's part of it", lambda r: r.part_ratio()),
    )
    for panel, (title, value) in zip(panels, measures, strict=True):
        for kind, color, label in kinds:
            points = [(value(r), titles.index(r.title)) for r in results if r.memory == kind]
            points = [(x, y) for x, y in points if x is not None]
            panel.scatter([x for x, _ in points], [y for _, y in points], s=42, color=color,
                          label=label, zorder=3)  # fmt: skip
        panel.axvline(1, color="#444", lw=1, zorder=1)
        panel.grid(axis="x", color="#dddddd", lw=0.6)
        panel.set_axisbelow(True)
        panel.set_title(title, fontsize=11, fontweight="bold")
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(titles)), titles, fontsize=9)
    panels[0].set_ylim(len(titles) - 0.5, -0.5)
    panels[0].legend(fontsize=9, loc="lower right")
    figure.suptitle(
        f"PyTorch's time over evenkeel's, {threads} threads (right of 1: evenkeel is faster)",
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
                        default=[Path(__file__).with_name("models.json")],
                        help="files of bench/models.py, of other settings each")  # fmt: skip
    parser.add_argument("--page", type=Path, help="rewrite the blocks `models...` of this page")
    parser.add_argument("--picture", type=Path, help="draw the picture")
    options = parser.parse_args()
    for path in options.results:
        if not path.exists():
            parser.error(f"there is no {path}; bench/models.py writes it")
    documents = [json.loads(path.read_text()) for path in options.results]
    document = documents[0]
    if len({(d["machine"], d["torch"]) for d in documents}) > 1:
        parser.error("the results are of different machines or versions of PyTorch")
    every = [Result(name, of, d) for d in documents for name, of in d["results"].items()]
    results = [r for r in every if "compiled" not in r.of] or every
    blocks = {
        "models": f"{document['machine']}; PyTorch {document['torch']}; medians of"
        f" {' and '.join(str(d['rounds']) for d in documents)} rounds, of {document['profiled']} profiled ones for the part;"
        f" measured on {document['date']}.\n\n" + steps(results),
        "models-memory": memory(results),
        "models-spread": spread(results),
        "models-compiled": compiled(every),
    }
    if options.page:
        pages.rewrite(options.page, blocks)
    else:
        print("\n\n".join(blocks.values()))
    if options.picture:
        draw(results, options.picture)


if __name__ == "__main__":
    main()
