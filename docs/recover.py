#!/usr/bin/env python3
"""Restores a snapshot from a snap repository without snap: Python 3.9, Linux, `age` and `zstd`.
    recover.py REPO IDENTITY list    or:  recover.py REPO IDENTITY SNAPSHOT TARGET
IDENTITY: the file that opens the repository (age or ssh), one that `snap key export` wrote, or `-` for
a passphrase. SNAPSHOT: the beginning of an id, or `latest`. TARGET: a new or empty folder. Every length
is compared and age authenticates every object, but BLAKE3 is not in Python's library: names of objects,
ids of chunks and MACs are NOT checked. Index objects are not read: packs have footers (see FORMAT.md).
Exit codes: 0 all is back, 1 it cannot work, 3 some attributes could not be set, 4 content is lost."""
import collections, contextlib, functools, io, json, os, re, struct, subprocess, sys

PLACES, SEGMENTS, MOVED = {}, {}, set()  # chunk id -> (pack, segment, first byte, length); pack -> its segments; packs
TOLD, UNZSTD, IDENTITIES = collections.Counter(), ["zstd", "-dcq"], os.memfd_create("identities")

def tell(what, text):
    TOLD[what] += 1
    print(f"{what}: {text}", file=sys.stderr)

def run(command, data=None, fds=()):
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds)
    if done.returncode: raise ValueError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout

def unseal(path):
    return run(["age", "-d", "-i", f"/proc/self/fd/{IDENTITIES}", f"{REPO}/{path}"], fds=(IDENTITIES,))

def open_keys(identity):
    """The repository's own identities, as the person's identity opens them: in memory, never on a disk."""
    found, keys = [b"" if identity == "-" else open(identity, "rb").read()], os.path.join(REPO, "keys")
    for name in sorted(name for name in os.listdir(keys) if name.endswith(".age")):
        with contextlib.suppress(ValueError):  # what is somebody else's
            secrets = json.loads(run(["age", "-d", *([] if identity == "-" else ["-i", identity]), f"{keys}/{name}"]))
            lines = [secrets["index_identity"]] + [epoch["identity"] or "" for epoch in secrets["epochs"]]
            found.append("\n".join(lines).encode())
    os.write(IDENTITIES, max(found[1:] or found, key=len))  # an owner's has more in it than a writer's

def snapshots():
    for name in os.listdir(f"{REPO}/snapshots"):
        try:
            manifest = json.loads(run(UNZSTD, unseal(f"snapshots/{name}")))
            if manifest["version"] != 1 or manifest.get("requires"): raise ValueError("a newer snap made it")
            yield manifest["time"], name, manifest
        except ValueError as error:
            tell("unreadable", f"snapshot {name[:8]}: {error}")

@functools.lru_cache(maxsize=4)
def unpacked(pack):
    return unseal(f"packs/{pack[:2]}/{pack}")

def read_footer(pack):
    length, end = struct.unpack("<I4s", unpacked(pack)[-8:])
    data, at, offset, SEGMENTS[pack] = unpacked(pack)[-8 - length:-8], 10, 0, []
    start, version, _kind, segments = struct.unpack_from("<4sBBI", data)
    if (start, end) != (b"SNPF", b"snap") or version not in (1, 2): raise ValueError("it does not end as a known pack")
    for number in range(segments):
        codec, stored, plain, chunks = struct.unpack_from("<BIII", data, at)
        SEGMENTS[pack].append((offset, codec, stored, plain))
        at, offset, first = at + 13, offset + stored, 0
        for name, length in struct.iter_unpack("<32sI", data[at:at + 36 * chunks]):
            PLACES[name] = (pack, number, first, length)
            at, first = at + 36, first + length
        origins = struct.unpack_from("<I", data, at)[0] if version == 2 else 0  # what was copied says where it was
        MOVED.update(name.hex() for name, _ in struct.iter_unpack("<32sI", data[at + 4:at + 4 + 36 * origins]))
        at += (4 + 36 * origins) * (version - 1)

@functools.lru_cache(maxsize=16)
def segment(pack, number):
    offset, codec, stored, plain = SEGMENTS[pack][number]
    data = run(UNZSTD if codec == 1 else ["cat"], unpacked(pack)[offset:offset + stored])
    if len(data) == plain:
        return data
    raise ValueError(f"segment {number} of pack {pack[:8]} has {len(data)} bytes, not {plain}")

def chunk(name, first=0, length=None, whole=True):
    pack, number, start, there = PLACES.get(name, (None, 0, 0, 0))
    if pack is None or first + (length := there if length is None else length) > there or (whole and length != there):
        raise ValueError(f"chunk {name.hex()[:8]} is in no pack that is there, or has another length")
    return segment(pack, number)[start + first:start + first + length]

def number(wire):
    byte = wire.read(1)[0]
    return byte if byte < 0x80 else (byte & 0x7f) | number(wire) << 7

def extents(wire):
    for _ in range(number(wire)):  # chunk (None: a hole), its first byte, length, is it the whole chunk
        kind = wire.read(1)[0]
        yield None if kind == 1 else wire.read(32), number(wire) if kind == 2 else 0, number(wire), kind == 0

def entries(tree):
    """The entries of a tree, in order. Where some are lost, a file that may go on there is lost too."""
    stack, last = [(bytes.fromhex(name), tree["level"]) for name in reversed(tree["chunks"])], None
    while stack:
        name, level = stack.pop()
        try:
            wire, path = io.BytesIO(chunk(name)), b""
            if wire.read(2) != bytes([1, level]): raise ValueError("a tree is of another version or level")
            ids = wire.read() if level else b""
            stack += [(ids[at:at + 32], level - 1) for at in range(len(ids) - 32, -1, -32)]
            while wire.tell() < len(wire.getvalue()):
                path, kind = path[:number(wire)] + wire.read(number(wire)), wire.read(1)[0]
                if kind == 7:
                    more = list(extents(wire))
                    last["extents"].extend(more if last["path"] == path else [])
                    continue
                yield from [last] if last else []
                mode, uid, gid, time, nanos, count = (number(wire) for _ in range(6))
                xattrs = [(wire.read(number(wire)), wire.read(number(wire))) for _ in range(count)]
                last = dict(path=path, kind=kind, mode=mode, uid=uid, gid=gid, xattrs=xattrs)
                last["time"] = ((time >> 1) ^ -(time & 1)) * 10**9 + nanos
                last["extents"] = list(extents(wire)) if kind == 1 else []
                last["target"] = wire.read(number(wire)) if kind in (2, 3) else b""
                last["device"] = os.makedev(number(wire), number(wire)) if kind in (5, 6) else 0
        except ValueError as error:
            tell("lost", f"some entries: {error}")
            if last and last["extents"] and len(last["extents"]) % 4096 == 0:
                last["extents"].append((b"", 0, 1, False))  # a chunk that does not exist
    yield from [last] if last else []

def make(path, entry, made, target):
    kind, where = entry["kind"], entry["path"]
    if where and made.get(os.path.dirname(where)) != 0 or kind == 3 and made.get(entry["target"]) != 1:
        raise ValueError("it lies in no folder of this tree, or is another name of no file in it")
    if kind == 0 and where:
        os.mkdir(path, 0o700)
    elif kind == 1:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            for name, first, length, whole in entry["extents"]:
                out.seek(length, 1) if name is None else out.write(chunk(name, first, length, whole))
            out.truncate()
    elif kind == 2:
        os.symlink(entry["target"], path)
    elif kind == 3:
        os.link(os.path.join(target, entry["target"]), path, follow_symlinks=False)
    elif kind > 3:
        os.mknod(path, {4: 0o010000, 5: 0o020000, 6: 0o060000}[kind] | 0o600, entry["device"])

def dress(path, entry):
    """Owner, attributes, mode, ACLs, time: in this order none undoes another."""
    do, itself = functools.partial, {"follow_symlinks": False}
    xattrs = [(x[0].startswith(b"system."), do(os.setxattr, path, *x, **itself)) for x in entry["xattrs"]]
    steps = [do(os.chown, path, entry["uid"], entry["gid"], **itself), *(do for late, do in xattrs if not late)]
    steps += [do(os.chmod, path, entry["mode"])] if entry["kind"] != 2 else []
    steps += [*(do for late, do in xattrs if late), do(os.utime, path, ns=(entry["time"],) * 2, **itself)]
    for step in steps:
        try:
            step()
        except OSError as error:
            tell("differs", f"{os.fsdecode(path)}: {step.func.__name__}: {error.strerror}")

def restore(tree, target):
    folders, made = [], {}
    for entry in entries(tree):
        path, kind = os.path.join(target, entry["path"]), entry["kind"]
        try:
            make(path, entry, made, target)
            made[entry["path"]] = kind
            folders += [(path, entry)] if kind == 0 else []
            dress(path, entry) if kind not in (0, 3) else None
        except (ValueError, OSError) as error:
            tell("lost", f"{os.fsdecode(path)}: {error}")
            if kind == 1 and isinstance(error, ValueError) and os.path.lexists(path):
                os.unlink(path)  # no half file under a real name
    for path, entry in reversed(folders):
        dress(path, entry)

def main(wanted, target=None):
    known = sorted(snapshots(), key=lambda found: found[:2])
    if target is None:
        for time, name, m in known:
            print(name[:12], time[:19], m["stack"], "on", m["host"], *m["tags"], "" if m["complete"] else "INCOMPLETE")
        return 0
    fitting = known[-1:] if wanted == "latest" else [found for found in known if found[1].startswith(wanted)]
    os.makedirs(target, exist_ok=True)
    if len(fitting) != 1 or os.listdir(target):
        sys.exit(f"{target} is not empty" if len(fitting) == 1 else f"{len(fitting)} snapshots fit {wanted}")
    manifest = fitting[0][2]
    there = {name for folder in os.listdir(f"{REPO}/packs") for name in os.listdir(f"{REPO}/packs/{folder}")}
    needed = {need["pack"] for need in manifest["needs"]}
    for pack in sorted(needed if needed <= there else there):  # where one is gone, any other may have a copy
        try:
            read_footer(pack)
        except (ValueError, struct.error) as error:
            tell("unreadable", f"pack {pack[:8]}: {error}")
    [tell("unreadable", f"pack {pack[:8]}: it is missing") for pack in sorted(needed - there - MOVED)]
    for source in manifest["sources"]:
        kind, root, project = source["kind"], source["root"], manifest.get("project")
        own = "files" if project and root == project["directory"] else f"outside{root}"
        name = own if kind == "files" else f"{kind}s/" + re.sub("[/:]", "_", source["name"])
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]  # nothing leads elsewhere
        place = os.path.join(target, *parts) if project else target
        os.makedirs(place, exist_ok=True)
        restore(source["tree"], os.fsencode(place))
    return 4 if TOLD["lost"] else 3 if TOLD["differs"] else 0

if len(sys.argv) not in (4, 5) or (sys.argv[3] == "list") != (len(sys.argv) == 4): sys.exit(__doc__)
sys.excepthook = lambda kind, error, _: print(f"cannot go on: {kind.__name__}: {error}", file=sys.stderr)
REPO = sys.argv[1]
with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # where it is lost: nothing in it is needed
    if json.load(open(f"{REPO}/config"))["version"] != 1: sys.exit("a repository of a version that is not known here")
open_keys(sys.argv[2])
sys.exit(main(*sys.argv[3:]))
