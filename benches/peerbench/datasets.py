"""The inputs: made once in a folder, and found there the next time.

    tree/       a source tree of some 33,000 files
    sql-1..3/   a dump of pgbench's tables, and two later ones
    root/       a minimal Debian
    images-1/   two image tars: a build image, and a web image on the same base
    images-2/   the web image with another top layer
    images-3/   the web image rebuilt: more packages, all of their files with new times
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from . import images

TREE_FILES = 33_000
SQL_ROWS = 2_000_000
PACKAGES = {
    "build": ["python3", "gcc", "g++", "make", "git", "cmake", "gdb"],
    "web": ["python3", "nginx-light", "ca-certificates", "nodejs"],
    "other": ["python3", "nginx-light", "ca-certificates", "nodejs", "curl", "sqlite3"],
}


def prepare(data, names, options):
    """The folders of the inputs called for, by name."""
    data.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in sorted(names):
        folder = data / name
        if not folder.is_dir():
            print(f"making {folder.name} …", file=sys.stderr, flush=True)
            MAKERS[name.split("-")[0]](data, options)
        found[name] = folder
    return found


def read_once(folder):
    """Brings a folder into the page cache."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass


def publish(part, folder):
    """A half-made input never has its name."""
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def fresh(data, name):
    part = data / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    return part


def make_tree(data, options):
    source = options.tree or Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry" / "src"
    sources = [source] if source.is_dir() else [Path("/usr/include"), Path("/usr/share"), Path("/usr/lib/python3")]
    part, files = fresh(data, "tree"), 0
    for parent in sources:
        if parent.parent.name == "registry":
            parent = next(parent.iterdir())
        for child in sorted(parent.iterdir()):
            if files >= TREE_FILES:
                break
            if child.is_dir() and not child.is_symlink():
                shutil.copytree(child, part / child.name, symlinks=True, dirs_exist_ok=True)
                files += sum(len(names) for _, _, names in os.walk(part / child.name))
    publish(part, data / "tree")


def make_sql(data, _options):
    """Three dumps. As PostgreSQL does it, an updated row moves to the end of its table."""
    numbers = random.Random(20_261_125)
    order, balances, history = list(range(1, SQL_ROWS + 1)), {}, []
    for version in (1, 2, 3):
        if version > 1:
            changed = set(numbers.sample(range(1, SQL_ROWS + 1), SQL_ROWS // 100))
            for row in sorted(changed):
                delta = numbers.randrange(-5000, 5001)
                balances[row] = balances.get(row, 0) + delta
                stamp = f"2026-11-{20 + version} {numbers.randrange(24):02}:{numbers.randrange(60):02}:00.000000"
                history.append(f"{numbers.randrange(200) + 1}\t{numbers.randrange(20) + 1}\t{row}\t{delta}\t{stamp}\t\\N\n")
            order = [row for row in order if row not in changed] + sorted(changed, key=lambda row: hash((row, version)))
        part = fresh(data, f"sql-{version}")
        write_dump(part / "dump.sql", order, balances, history)
        publish(part, data / f"sql-{version}")


def write_dump(path, order, balances, history):
    filler = " " * 84
    with open(path, "w", encoding="ascii", buffering=1 << 20) as out:
        out.write("--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n"
                  "CREATE TABLE public.pgbench_accounts (aid integer NOT NULL, bid integer, abalance integer, "
                  "filler character(84));\n\nCOPY public.pgbench_accounts (aid, bid, abalance, filler) FROM stdin;\n")
        for row in order:
            out.write(f"{row}\t{(row - 1) // 100_000 + 1}\t{balances.get(row, 0)}\t{filler}\n")
        out.write("\\.\n\nCOPY public.pgbench_history (tid, bid, aid, delta, mtime, filler) FROM stdin;\n")
        out.writelines(history)
        out.write("\\.\n\n--\n-- PostgreSQL database dump complete\n--\n")


def make_root(data, options):
    base = root_of(data, "base", options)
    part = fresh(data, "root")
    subprocess.run(["cp", "-a", f"{base}/.", part], check=True)
    publish(part, data / "root")


def root_of(data, name, options):
    """A Debian root: the minimal one, or that with more packages."""
    folder = data / "roots" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(exist_ok=True)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    if name == "base":
        if options.root:
            subprocess.run(["cp", "-a", options.root, part], check=True)
        elif shutil.which("debootstrap"):
            subprocess.run(["debootstrap", "--variant=minbase", "bookworm", part], check=True, stdout=sys.stderr)
        else:
            sys.exit("the rows of images and of the root need debootstrap (as root), or --root DIR")
    else:
        subprocess.run(["cp", "-a", root_of(data, "base", options), part], check=True)
        # No daemon starts while packages are configured.
        policy = part / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        command = f"apt-get install -y --no-install-recommends {' '.join(PACKAGES[name])} && apt-get clean"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["chroot", part, "sh", "-c", command], check=True, stdout=sys.stderr, env=environment)
        policy.unlink()
    part.rename(folder)
    return folder


def make_images(data, options):
    if options.images:
        one, other, following, rebuilt = options.images
        for number, tars in (1, [one, other]), (2, [following]), (3, [rebuilt]):
            part = fresh(data, f"images-{number}")
            for tar in tars:
                shutil.copyfile(tar, part / tar.name)
            publish(part, data / f"images-{number}")
        return
    roots = {name: root_of(data, name, options) for name in ("base", "build", "web", "other")}
    part = fresh(data, "layers")
    images.make(roots, part)
    for number in (1, 2, 3):
        publish(part / str(number), data / f"images-{number}")
    shutil.rmtree(part)


MAKERS = {"tree": make_tree, "sql": make_sql, "root": make_root, "images": make_images}
