"""docs/performance.png: the fraction of the streaming limit in every float case."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tables import by_threads, by_what, name, thread_counts, threads_title

DPI = 100
WIDTH = 12  # inches
LEGEND = 0.55  # inches
EDGE = 1.25  # what lies beyond is drawn here
STYLES = {
    "PyTorch": dict(marker="D", s=16, color="#d95f02"),
    "oneDNN, same layout": dict(marker="s", s=16, color="#7fb069"),
    "oneDNN, blocked": dict(marker="s", s=18, facecolors="white", edgecolors="#3c7a3b"),
    "evenkeel": dict(marker="o", s=34, color="#1f4e9c"),
}


def fractions(case):
    ours = case["fraction_of_limit"]
    versus = {"PyTorch": "vs_torch", "oneDNN, same layout": "vs_onednn",
              "oneDNN, blocked": "vs_onednn_blocked"}
    found = {label: ours / case[key] for label, key in versus.items() if case[key]}
    return {**found, "evenkeel": ours}


def lines_of(cases):
    """The rows of the picture from top to bottom: titles, and {threads: case}."""
    for title, group in by_what(cases):
        yield title
        yield from by_threads(group)


def draw(cases, path):
    cases = [case for case in cases if case["dtype"] == "f32"]
    counts = thread_counts(cases)
    lines = list(lines_of(cases))
    height = 0.9 + LEGEND + 0.145 * len(lines)
    figure, panels = plt.subplots(1, len(counts), figsize=(WIDTH, height), sharey=True,
                                  squeeze=False, layout="constrained")
    for panel, count in zip(panels[0], counts):
        points = {label: ([], []) for label in STYLES}
        for y, line in enumerate(lines):
            if isinstance(line, str) or count not in line:
                continue
            case = line[count]
            if case["residency"] == "cache":
                panel.axhspan(y - 0.5, y + 0.5, color="#eef1f5", zorder=0)
            found = {label: min(value, EDGE) for label, value in fractions(case).items()}
            panel.hlines(y, min(found.values()), max(found.values()), color="#b8bec8", lw=0.8,
                         zorder=1)
            for label, value in found.items():
                points[label][0].append(value)
                points[label][1].append(y)
        for z, (label, style) in enumerate(STYLES.items()):
            panel.scatter(*points[label], label=label, zorder=2 + z, clip_on=False, linewidths=1,
                          **style)
        panel.axvline(1, color="#444", lw=1, zorder=1)
        panel.set_xlim(0, EDGE)
        panel.set_ylim(len(lines) - 0.5, -0.5)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "limit"])
        panel.tick_params(axis="x", labelsize=9, labeltop=True, top=True)
        panel.grid(axis="x", color="#dddddd", lw=0.6)
        panel.set_axisbelow(True)
        panel.set_title(threads_title(count), fontsize=12, fontweight="bold")
    labels = [line if isinstance(line, str) else name(next(iter(line.values()))) for line in lines]
    panels[0][0].set_yticks(range(len(lines)), labels, fontsize=8)
    for label, line in zip(panels[0][0].get_yticklabels(), lines):
        if isinstance(line, str):
            label.set_fontweight("bold")
            label.set_fontsize(9)
    for panel in panels[0]:
        panel.tick_params(axis="y", length=0)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="upper center", ncols=len(names), fontsize=10,
                  title_fontsize=11, frameon=False,
                  title="Fraction of the streaming limit, float; gray rows fit in cache")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - LEGEND / height))
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
