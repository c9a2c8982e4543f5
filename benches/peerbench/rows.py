"""The rows of the table: what is done, to which repository, with which input.

Rows of one repository build on each other in this order.
"""

import os
import shutil
import stat
import sys
import time
from dataclasses import dataclass
from typing import Optional

from .tools import Failed, settle, size_of


@dataclass
class Outcome:
    """What one row cost one tool once; or why it failed."""
    wall: float = 0.0
    cpu: float = 0.0
    rss_mib: float = 0.0
    grown: Optional[int] = None
    size: Optional[int] = None
    durable: Optional[float] = None
    error: str = ""


@dataclass(frozen=True)
class Row:
    """One row."""
    name: str
    title: str
    repository: str
    action: str
    input: str = ""
    needs: tuple = ()
    fresh: bool = False
    cold: bool = False
    show: bool = True

    def measure(self, peer, inputs, verify):
        try:
            return self.measured(peer, inputs, verify)
        except (Failed, OSError) as error:
            return Outcome(error=str(error))

    def measured(self, peer, inputs, verify):
        if self.fresh:
            peer.init(self.repository)
        if self.cold:
            peer.forget_caches()
        store = peer.repository(self.repository)
        if self.action == "create":
            before = size_of(store)
            usage = peer.create(self.repository, inputs[self.input])
            size = size_of(store)
            return Outcome(usage.wall, usage.cpu, usage.rss_mib, size - before, size)
        if self.action == "check":
            usage = peer.check(self.repository)
            return Outcome(usage.wall, usage.cpu, usage.rss_mib)
        target = peer.folder / "target"
        try:
            began = time.monotonic()
            usage = peer.restore(self.repository, target)
            # Only some of the tools wait for the disk: until all is on it is comparable.
            settle(target)
            durable = time.monotonic() - began
            if verify:
                verify_apart(inputs[self.input], target)
        finally:
            put_aside(target)
        return Outcome(usage.wall, usage.cpu, usage.rss_mib, durable=durable)


def past(work):
    return work.with_name(f"{work.name}.past")


def put_aside(target):
    """Out of the way, and deleted only after all was measured: for minutes ext4 looks at each inode that
    was just freed before it takes another, which made whoever restores next five times slower."""
    if target.exists():
        aside = past(target.parent.parent)
        aside.mkdir(exist_ok=True)
        target.rename(aside / str(time.monotonic_ns()))


ROWS = [
    Row("images-first", "first: two image tars", "images", "create", "images-1", fresh=True),
    Row("images-restore", "restore two image tars", "images", "restore", "images-1", needs=("images-first",)),
    Row("images-next", "next version of one image tar (top layer changed)", "images", "create", "images-2",
        needs=("images-first",)),
    Row("images-rebuilt", "rebuilt image, other packages", "images", "create", "images-3", needs=("images-first",)),
    Row("root", "Debian root whose files are inside the image tars", "images", "create", "root",
        needs=("images-first",)),
    Row("check", "check, every byte read (the images' repository)", "images", "check", needs=("images-first",)),
    Row("sql-first", "SQL dump, first", "sql", "create", "sql-1", fresh=True),
    Row("sql-next", "SQL dump, next (1 % of rows changed)", "sql", "create", "sql-2", needs=("sql-first",)),
    Row("sql-third", "SQL dump, the one after", "sql", "create", "sql-3", needs=("sql-first", "sql-next")),
    Row("tree-first", "source tree, first", "tree", "create", "tree", fresh=True),
    Row("tree-unchanged", "same tree, nothing changed", "tree", "create", "tree", needs=("tree-first",)),
    Row("tree-restore", "restore source tree", "tree", "restore", "tree", needs=("tree-first",)),
    Row("tree-cold", "same tree, nothing changed, caches deleted", "tree", "create", "tree", needs=("tree-first",),
        cold=True),
    Row("tree-restore-cold", "restore source tree, caches deleted", "tree", "restore", "tree", needs=("tree-first",),
        cold=True),
]


def with_what_they_need(wanted):
    """The rows, and the ones they build on, in order."""
    names = {row.name for row in wanted}
    for row in reversed(ROWS):
        if row.name in names:
            names.update(row.needs)
    return [row for row in ROWS if row.name in names]


def listing(folder):
    """What lies below a folder: for each path its kind, and the size or target."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            detail = os.readlink(path) if kind == stat.S_IFLNK else status.st_size if kind == stat.S_IFREG else 0
            found[os.path.relpath(path, folder)] = (kind, detail)
    return found


def verify_apart(source, target):
    """Compares in a process of its own: the kernel counts this one's memory as that of the tools it starts."""
    child = os.fork()
    if child == 0:
        try:
            compare(source, target)
        except Failed as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise Failed("what was restored is not what was stored")


def compare(source, target):
    """Every name, kind and size, and the content of every hundredth file."""
    want, have = listing(source), listing(target)
    if have != want:
        differing = sorted(set(want.items()) ^ set(have.items()))[:3]
        raise Failed(f"what was restored is not what was stored: {differing}")
    for path, (kind, _) in sorted(want.items())[::100]:
        if kind == stat.S_IFREG:
            with open(source / path, "rb") as a, open(target / path, "rb") as b:
                while piece := a.read(1 << 20):
                    if b.read(len(piece)) != piece:
                        raise Failed(f"{path} was restored with other content")
