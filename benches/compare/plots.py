"""Draws the curves of results.json as SVG: `plots.py RESULTS FOLDER`, in the virtual environment."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "ssh-mcp"
matplotlib.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot  # noqa: E402


def draw(plot, folder):
    figure, panels = pyplot.subplots(1, len(plot["series"]), figsize=(4.5 * len(plot["series"]), 3.2), layout="constrained")
    x = [point[plot["x"]] for point in plot["points"]]
    for panel, (field, label) in zip(panels, plot["series"].items()):
        y = [point[field] for point in plot["points"]]
        panel.loglog(x, y, marker="o", color="#1f5f99")
        # What linear would be, from the last point down.
        panel.loglog(x, [y[-1] * value / x[-1] for value in x], linestyle=":", color="#999999", label="linear")
        panel.set_xlabel(plot["x"])
        panel.set_ylabel(label)
        panel.grid(True, which="major", linewidth=0.3)
        panel.legend(frameon=False)
    figure.suptitle(plot["title"])
    figure.savefig(Path(folder) / plot["file"], metadata={"Date": None})
    pyplot.close(figure)


def main(results, folder):
    for plot in json.loads(Path(results).read_text())["plots"]:
        draw(plot, folder)


main(*sys.argv[1:])
