"""Image tars with the layout of `docker save`, made from Debian roots."""

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile

REBUILT = "2026-11-24 12:00:00"


def make(roots, out):
    """Writes 1/build.tar and 1/web.tar, 2/web.tar with another top layer, 3/web.tar rebuilt."""
    layer = lambda name: out / f"{name}.layer"  # noqa: E731
    base = pack(roots["base"], everything(roots["base"]), layer("base"))
    build = pack(roots["build"], beyond(roots["build"], roots["base"]), layer("build"))
    web = pack(roots["web"], beyond(roots["web"], roots["base"]), layer("web"))
    other = pack(roots["other"], beyond(roots["other"], roots["base"]), layer("other"), ["--mtime", REBUILT])
    modules = application(roots["web"], layer("modules"), "modules", 90, 1)
    app = application(roots["web"], layer("app-1"), "app", 12, 2)
    next_app = application(roots["web"], layer("app-2"), "app", 12, 3)
    for number in ("1", "2", "3"):
        (out / number).mkdir()
    save(out / "1" / "build.tar", "build:1", [base, build])
    save(out / "1" / "web.tar", "web:1", [base, web, modules, app])
    save(out / "2" / "web.tar", "web:2", [base, web, modules, next_app])
    save(out / "3" / "web.tar", "web:3", [base, other, modules, next_app])


def everything(root):
    return sorted(walk(root))


def walk(root):
    for parent, folders, names in os.walk(root):
        for name in folders + names:
            path = os.path.join(parent, name)
            yield os.path.relpath(path, root)


def beyond(root, base):
    """What a root has, or has otherwise, that its base has not: the layer above it."""
    def state(path):
        found = os.lstat(path)
        folder = os.path.isdir(path) and not os.path.islink(path)
        return (found.st_mode, 0 if folder else found.st_size, found.st_mtime_ns)

    changed = []
    for path in sorted(walk(root)):
        below = base / path
        if not os.path.lexists(below) or state(root / path) != state(below):
            changed.append(path)
    return changed


def pack(root, paths, layer, options=()):
    names = "\0".join(paths).encode("utf-8", "surrogateescape")
    subprocess.run(["tar", "-C", root, "--no-recursion", "--numeric-owner", "--null", "-T", "-", "-c", "-f", layer,
                    *options], input=names, check=True)
    return layer


def application(root, layer, name, megabytes, seed):
    """A layer such as an application has: code, of which a later version shares nine tenths, and
    some data that does not shrink."""
    numbers = random.Random(seed)
    sources = sorted(path for path in walk(root) if path.endswith((".py", ".js", ".h", ".so", ".mo")))
    text = [path for path in sources if os.path.isfile(root / path) and not os.path.islink(root / path)]
    left = megabytes << 20
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(1 << 20):
            if left <= 0:
                break
            # Each file is a mosaic of pieces, so that it is not one that a layer below has.
            common = random.Random(f"{name} {number}")
            source = numbers if numbers.random() < 0.1 else common
            pieces = []
            for _ in range(source.randrange(1, 40)):
                if source.random() < 0.15:
                    pieces.append(source.randbytes(source.randrange(64, 2048)))
                else:
                    with open(root / source.choice(text), "rb") as file:
                        size = os.fstat(file.fileno()).st_size
                        file.seek(source.randrange(max(1, size)))
                        pieces.append(file.read(source.randrange(64, 4096)))
            content = b"".join(pieces)
            info = tarfile.TarInfo(f"srv/{name}/{number // 100:04}/{number:06}.bin")
            info.size, info.mtime, info.mode = len(content), 1_790_000_000 + seed, 0o644
            tar.addfile(info, io.BytesIO(content))
            left -= len(content)
    return layer


def digest(path):
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def save(path, tag, layers):
    """Writes an image tar: layers and documents, each under its digest."""
    digests = [digest(layer) for layer in layers]
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
                         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{name}" for name in digests]}}).encode()
    config_name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"blobs/sha256/{config_name}", "RepoTags": [tag],
                 "Layers": [f"blobs/sha256/{name}" for name in digests]}]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, layer in sorted(zip(digests, layers)):
            info = tarfile.TarInfo(f"blobs/sha256/{name}")
            info.size = os.path.getsize(layer)
            with open(layer, "rb") as content:
                tar.addfile(info, content)
        for name, content in ((f"blobs/sha256/{config_name}", config), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
