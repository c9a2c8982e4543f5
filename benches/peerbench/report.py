"""Medians and ratios, as tables in Markdown."""

import datetime
import os
import platform
from pathlib import Path
from statistics import median

from .tools import TOOLS, size_of


class Results:
    """Every figure that was measured."""

    def __init__(self, tools, inputs):
        self.tools = tools
        self.sizes = {name: (size_of(folder), count(folder)) for name, folder in inputs.items()}
        self.rows = {}
        self.failures = []

    def add(self, number, row, tool, outcome):
        if outcome.error:
            self.failures.append(f"run {number + 1}, {row.name}: {outcome.error}")
        else:
            self.rows.setdefault(row.name, {}).setdefault(tool, []).append(outcome)

    def median(self, row, tool, field):
        outcomes = self.rows.get(row, {}).get(tool, [])
        figures = [getattr(outcome, field) for outcome in outcomes if getattr(outcome, field) is not None]
        return median(figures) if figures else None

    def ratio(self, row, field):
        """snap beside the best of the others: the median of each run's ratio, so that what slows a
        whole run cancels out."""
        ours = self.rows.get(row, {}).get("snap", [])
        others = [self.rows.get(row, {}).get(tool, []) for tool in self.tools if tool != "snap"]
        others = [outcomes for outcomes in others if outcomes and len(outcomes) == len(ours)]
        if not ours or not others:
            return None
        figures = []
        for number, own in enumerate(ours):
            best = min(getattr(outcomes[number], field) for outcomes in others)
            figures.append(getattr(own, field) / best if best else float("inf"))
        return median(figures)

    def raw(self):
        return {row: {tool: [vars(outcome) for outcome in outcomes] for tool, outcomes in tools.items()}
                for row, tools in self.rows.items()}


def count(folder):
    return sum(len(names) for _, _, names in os.walk(folder))


def table(head, lines):
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    shown = lambda line: "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"  # noqa: E731
    return "\n".join([shown(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(shown, lines)])


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def tables(results, rows, runs):
    ratio_of = [] if results.tools == ["snap"] else ["snap ÷ fastest peer"]
    parts = [machine(results, runs), "Seconds of wall time; in brackets the megabytes that the repository grew by.", ""]
    lines = []
    for row in rows:
        cells = [row.title]
        for tool in results.tools:
            grown = results.median(row.name, tool, "grown")
            size = "" if grown is None else f" ({grown / 1e6:.1f})"
            cells.append(number(results.median(row.name, tool, "wall")) + size)
        lines.append(cells + [number(results.ratio(row.name, "wall")) for _ in ratio_of])
        if row.action == "restore":
            cells = [f"{row.title}, until it is on the disk"]
            cells += [number(results.median(row.name, tool, "durable")) for tool in results.tools]
            lines.append(cells + [number(results.ratio(row.name, "durable")) for _ in ratio_of])
    parts += [table(["step", *results.tools, *ratio_of], lines), "", "Seconds of processor time.", ""]
    lines = []
    for row in rows:
        cells = [row.title] + [number(results.median(row.name, tool, "cpu")) for tool in results.tools]
        lines.append(cells + [number(results.ratio(row.name, "cpu")) for _ in ratio_of])
    parts += [table(["step", *results.tools, *(["snap ÷ thriftiest peer"] if ratio_of else [])], lines), ""]
    parts += ["Peak memory in MiB: the highest of all rows of a kind.", ""]
    lines = []
    for action in ("create", "restore", "check"):
        names = [row.name for row in rows if row.action == action]
        if names:
            lines.append([action] + [peak(results, names, tool) for tool in results.tools])
    parts.append(table(["", *results.tools], lines))
    if results.failures:
        parts += ["", "Failures:", "", *(f"- {failure}" for failure in results.failures)]
    return "\n".join(parts)


def peak(results, names, tool):
    peaks = [results.median(name, tool, "rss_mib") for name in names]
    peaks = [figure for figure in peaks if figure is not None]
    return number(max(peaks), 0) if peaks else "–"


def field(path, key):
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return "?"


def machine(results, runs):
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    versions = ", ".join(f"{tool.name} {tool.version()}" for tool in TOOLS if tool.name in results.tools)
    inputs = ", ".join(f"{name} {size / 1e6:.0f} MB in {files} files" for name, (size, files) in results.sizes.items())
    return "\n".join([
        f"- {datetime.date.today()}, medians of {runs} runs, load at the end {os.getloadavg()[0]:.1f}",
        f"- {field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}",
        f"- {versions}",
        f"- inputs: {inputs}",
        "",
    ])
