"""How each of the tools is told to do the same thing: encryption on, zstd level 3 where it has levels."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PASSPHRASE = "a passphrase for measuring"


class Failed(Exception):
    """A command ended with another status than 0."""


@dataclass
class Usage:
    """What one command cost."""
    wall: float
    cpu: float
    rss_mib: float


class Tool:
    """One tool with a home, caches and repositories of its own."""

    name = ""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.log = folder / "log"
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "TMPDIR": str(self.folder),
            **self.settings(),
        }

    @classmethod
    def start(cls, folder):
        return cls(folder)

    @classmethod
    def version(cls):
        result = subprocess.run([cls.name, "--version"], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            result = subprocess.run([cls.name, "version"], capture_output=True, text=True, check=False)
        words = result.stdout.split()
        return words[1] if len(words) > 1 else "?"

    def settings(self):
        return {}

    def repository(self, name):
        return self.folder / f"repo-{name}"

    def forget_caches(self):
        shutil.rmtree(self.home / ".cache", ignore_errors=True)

    def run(self, arguments, cwd, accept=(0,)):
        """Runs to the end, and gives time and memory as the kernel counted them."""
        with open(self.log, "wb") as log:
            began = time.monotonic()
            process = subprocess.Popen([self.name, *map(str, arguments)], cwd=cwd, env=self.environment,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        if code not in accept:
            said = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise Failed(f"{self.name} {arguments[0]}: exit {code}: {' / '.join(said)[-300:]}")
        return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


class Snap(Tool):
    name = "snap"

    def init(self, name):
        self.run(["init", "--repo", self.repository(name)], self.folder)

    def create(self, name, source):
        return self.run(["create", ".", "--repo", self.repository(name), "--compression", "3", "-q"], source)

    def restore(self, name, target):
        return self.run(["restore", "latest", "--repo", self.repository(name), "--target", target, "-q"], self.folder)

    def check(self, name):
        return self.run(["check", "--read-data", "--repo", self.repository(name), "-q"], self.folder)


class Restic(Tool):
    name = "restic"

    def settings(self):
        return {"RESTIC_PASSWORD": PASSPHRASE, "RESTIC_COMPRESSION": "auto"}

    def init(self, name):
        self.run(["init", "-q", "-r", self.repository(name)], self.folder)

    def create(self, name, source):
        return self.run(["backup", "-q", "-r", self.repository(name), "."], source)

    def restore(self, name, target):
        return self.run(["restore", "latest", "-q", "-r", self.repository(name), "--target", target], self.folder)

    def check(self, name):
        return self.run(["check", "--read-data", "-q", "-r", self.repository(name)], self.folder)


class Rustic(Tool):
    name = "rustic"

    def settings(self):
        return {"RUSTIC_PASSWORD": PASSPHRASE, "RUSTIC_NO_PROGRESS": "true", "RUSTIC_LOG_LEVEL": "warn"}

    def init(self, name):
        self.run(["init", "-r", self.repository(name), "--set-compression", "3"], self.folder)

    def create(self, name, source):
        return self.run(["backup", "-r", self.repository(name), "."], source)

    def restore(self, name, target):
        return self.run(["restore", "latest", "-r", self.repository(name), target], self.folder)

    def check(self, name):
        return self.run(["check", "--read-data", "-r", self.repository(name)], self.folder)


class Borg(Tool):
    name = "borg"

    def settings(self):
        return {"BORG_PASSPHRASE": PASSPHRASE, "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}

    def init(self, name):
        self.run(["init", "-e", "repokey-blake2", self.repository(name)], self.folder)

    def create(self, name, source):
        archive = f"{self.repository(name)}::{time.monotonic_ns()}"
        self.latest = archive
        return self.run(["create", "-C", "zstd,3", archive, "."], source)

    def restore(self, name, target):
        target.mkdir()
        return self.run(["extract", self.latest], target)

    def check(self, name):
        return self.run(["check", "--verify-data", self.repository(name)], self.folder)


class Vykar(Tool):
    name = "vykar"

    def settings(self):
        return {"VYKAR_PASSPHRASE": PASSPHRASE}

    def told(self, name, *arguments):
        return ["--config", self.folder / f"{name}.yaml", *arguments]

    def init(self, name):
        (self.folder / f"{name}.yaml").write_text(
            f"repositories:\n  - label: {name}\n    url: {self.repository(name)}\n"
            "compression:\n  algorithm: zstd\n  zstd_level: 3\n")
        self.run(self.told(name, "init"), self.folder)

    def create(self, name, source):
        return self.run(self.told(name, "backup", "."), source)

    def restore(self, name, target):
        return self.run(self.told(name, "restore", "latest", target), self.folder)

    def check(self, name):
        return self.run(self.told(name, "check", "--verify-data"), self.folder)


def settle(folder):
    """Waits until the file system of a folder has written everything."""
    subprocess.run(["sync", "-f", folder], check=True)


TOOLS = [Snap, Restic, Rustic, Borg, Vykar]


def size_of(folder: Path):
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                pass
    return total
