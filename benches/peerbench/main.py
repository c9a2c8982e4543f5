"""The command line, and the order of things."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from . import datasets, report, rows, tools


def arguments():
    parser = argparse.ArgumentParser(prog="benches/peers", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder for the inputs; what is there is used again")
    parser.add_argument("--work", type=Path, help="folder for repositories and restores [default: DATA/work]")
    parser.add_argument("--rows", help=f"only these, by commas: {', '.join(row.name for row in rows.ROWS)}")
    parser.add_argument("--peers", help=f"only these, by commas: {', '.join(tool.name for tool in tools.TOOLS)}")
    parser.add_argument("--runs", type=int, default=5, help="each row is measured so often [default: 5]")
    parser.add_argument("--tree", type=Path, help="where the source tree is copied from [default: Cargo's sources]")
    parser.add_argument("--images", nargs=4, type=Path, metavar="TAR",
                        help="image tars of docker save: one, another, the other's next version, the other rebuilt")
    parser.add_argument("--root", type=Path, help="a Debian root [default: made with debootstrap]")
    parser.add_argument("--json", type=Path, help="write every single figure into this file")
    parser.add_argument("--markdown", type=Path, help="write the tables into this file, too")
    parser.add_argument("--keep", action="store_true", help="keep the repositories of the last run")
    return parser.parse_args()


def chosen(text, things):
    if not text:
        return list(things)
    names = text.split(",")
    known = {thing.name for thing in things}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return [thing for thing in things if thing.name in names]


def main():
    options = arguments()
    data = options.data.resolve()
    work = (options.work or data / "work").resolve()
    wanted = rows.with_what_they_need(chosen(options.rows, rows.ROWS))
    asked = chosen(options.peers, tools.TOOLS)
    present = [tool for tool in asked if shutil.which(tool.name)]
    for tool in asked:
        if tool not in present:
            print(f"{tool.name}: not on PATH", file=sys.stderr)
    if not present:
        sys.exit("none of them is on PATH")
    inputs = datasets.prepare(data, {row.input for row in wanted if row.input}, options)
    results = report.Results([tool.name for tool in present], inputs)
    for number in range(options.runs):
        shutil.rmtree(work, ignore_errors=True)
        # Whoever is first in one run is last in the next.
        turn = present[number % len(present):] + present[:number % len(present)]
        one_run(number, turn, wanted, inputs, work, results)
        if options.json:
            options.json.write_text(json.dumps(results.raw(), indent=1))
    if not options.keep:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(rows.past(work), ignore_errors=True)
    text = report.tables(results, [row for row in wanted if row.show], options.runs)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")
    return 1 if results.failures else 0


def one_run(number, turn, wanted, inputs, work, results):
    peers = {tool.name: tool.start(work / tool.name) for tool in turn}
    for row in wanted:
        for tool in turn:
            # Each time: borg tells the system to drop from memory what it has read.
            if row.action == "create":
                datasets.read_once(inputs[row.input])
            tools.settle(work)
            peer = peers[tool.name]
            outcome = row.measure(peer, inputs, verify=number == 0)
            results.add(number, row, tool.name, outcome)
            words = outcome.error or f"{outcome.wall:7.2f} s  {outcome.cpu:7.2f} s cpu  {outcome.rss_mib:5.0f} MiB"
            size = "" if outcome.grown is None else f"  {outcome.grown / 1e6:+8.1f} MB"
            print(f"run {number + 1}  {row.name:18} {tool.name:8} {words}{size}", file=sys.stderr, flush=True)
