#!/usr/bin/env python3
"""Restores a version of a mirror made by lastgood. Needs Python 3 and nothing else.

    restore.py                          lists the versions
    restore.py VERSION TARGET [PATH]    writes a version, or one path of it, into TARGET
"""

import hashlib
import os
import re
import stat
import sys

MIRROR = os.fsencode(os.path.dirname(os.path.abspath(__file__)))
OURS = b".lastgood/"


def unescape(field):
    if field == b"-":
        return b""
    plain = {b"\\\\": b"\\", b"\\t": b"\t", b"\\n": b"\n"}
    return re.sub(
        rb"\\(?:\\|t|n|0[0-7]{3})",
        lambda it: plain.get(it[0]) or bytes([int(it[0][2:], 8)]),
        field,
    )


def read(path):
    """The seal of a text and its lines; None for one that is missing or damaged."""
    try:
        with open(os.path.join(MIRROR, path), "rb") as file:
            body, mark, seal = file.read().rpartition(b"\nseal\t")
    except OSError:
        return None
    body += b"\n"
    if not mark or hashlib.sha256(body).hexdigest().encode() != seal.strip():
        return None
    lines = [[unescape(field) for field in line.split(b"\t")] for line in body.split(b"\n")[:-1]]
    if lines[0][:2] != [b"lastgood-mirror", b"1"] or lines[1][1] != b"":
        sys.exit(f"{os.fsdecode(path)} needs a later release: {lines[0]} {lines[1]}")
    return seal.strip(), lines[2:]


def names(path):
    """What a path may be called while a commit is under way, its own name first: by itself, or
    because a directory above it is renamed."""
    found = [path]
    journal = read(OURS + b"journal") or read(OURS + b"second/journal")
    for line in journal[1] if journal else []:
        if line[0] not in (b"keep", b"put"):
            continue
        for one, other in ((line[1], line[2]), (line[2], line[1])):
            for known in found:
                name = other + known[len(one):]
                if (known + b"/").startswith(one + b"/") and name not in found:
                    found.append(name)
    return found


def text_names(path):
    """Where a text may be: each is written twice."""
    return names(path) + names(OURS + b"second/" + path[len(OURS):])


def sealed(path, seal):
    for name in text_names(path):
        text = read(name)
        if text and text[0] == seal:
            return text[1]
    return None


def records(lines):
    kinds = (b"f", b"d", b"l", b"p", b"s", b"c", b"b", b"")
    return {line[1]: line for line in lines if line[0] in kinds}


def load():
    """The versions, and the newest of them whole."""
    for name in text_names(OURS + b"versions"):
        text = read(name)
        if not text:
            continue
        versions = [line for line in text[1] if line[0] == b"version"]
        latest = sealed(OURS + b"latest", versions[-1][3])
        if latest is not None:
            return versions, records(latest)
    sys.exit("the list of versions or the newest manifest is missing or damaged")


def is_safe(path):
    parts = path.split(b"/")
    return path == b"." or not any(part in (b"", b".", b"..") for part in parts)


class Version:
    """A version, whose files are looked up in the deltas behind it."""

    def __init__(self, name):
        versions, self.latest = load()
        listed = [version[1] for version in versions]
        if name not in listed:
            sys.exit(f"there is no version {os.fsdecode(name)}")
        self.names = listed[listed.index(name):-1]
        self.deltas = []
        for version in versions[listed.index(name):-1]:
            lines = sealed(OURS + b"deltas/" + version[1], version[3])
            if lines is None:
                sys.exit(f"the delta of {os.fsdecode(version[1])} is missing or damaged")
            self.deltas.append(records(lines))

    def all(self):
        merged = dict(self.latest)
        for delta in reversed(self.deltas):
            merged.update(delta)
        return {path: line for path, line in merged.items() if line[0]}

    def place(self, path):
        """Where the bytes of a file are, below the mirror."""
        start = 0
        while True:
            for index in range(start, len(self.deltas)):
                line = self.deltas[index].get(path)
                if line is None:
                    continue
                word, _, other = line[2].partition(b":") if line[0] else (b"lost", b"", b"")
                path = other or path
                if word == b"here":
                    return self.names[index] + b"/" + path
                if word == b"lost":
                    return None
                start = index + 1
                break
            else:
                line = self.latest.get(path)
                return b"latest/" + path if line and line[2] != b"lost" else None

    def open(self, path, wanted):
        place = self.place(path)
        for name in names(place) if place else []:
            try:
                file = open(os.path.join(MIRROR, name), "rb")
            except OSError:
                continue
            found = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
            if found.hexdigest().encode() == wanted:
                file.seek(0)
                return file
            file.close()
        return None


def remove(path):
    """Makes room; what is a directory stays one."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass


def look(path, line):
    """Owner, mode, attributes and time, as far as they can be set here."""
    is_link = line[0] == b"l"
    if os.geteuid() == 0:
        os.chown(path, int(line[7]), int(line[8]), follow_symlinks=False)
    if not is_link:
        os.chmod(path, int(line[6], 8))
    for pair in filter(None, line[12].split(b",")):
        name, value = (bytes.fromhex(part.decode()) for part in pair.split(b"="))
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            print(f"{os.fsdecode(path)}: {os.fsdecode(name)}: {error}", file=sys.stderr)
    seconds, nanos = line[5].split(b".")
    moment = int(seconds) * 10**9 + int(nanos)
    os.utime(path, ns=(moment, moment), follow_symlinks=False)


def write(version, path, line, to, links):
    """One entry; False when it is damaged."""
    kind = line[0]
    if kind == b"d":
        if os.path.islink(to) or not os.path.isdir(to):
            remove(to)
            os.makedirs(to)
        os.chmod(to, 0o700)
        return True
    remove(to)
    if kind == b"f":
        key = (line[9], line[4]) if line[9] else None
        if key in links:
            os.link(links[key], to)
            return True
        source = version.open(path, line[4])
        if source is None:
            return False
        with source, open(to, "xb") as file:
            for block in iter(lambda: source.read(1 << 20), b""):
                file.write(block)
        if key:
            links[key] = to
    elif kind == b"l":
        os.symlink(line[2], to)
    elif kind == b"p":
        os.mkfifo(to)
    elif kind == b"s":
        os.mknod(to, stat.S_IFSOCK | 0o600)
    else:
        major, minor = (int(number) for number in line[2].split(b":"))
        node = stat.S_IFCHR if kind == b"c" else stat.S_IFBLK
        os.mknod(to, node | 0o600, os.makedev(major, minor))
    look(to, line)
    return True


def restore(name, target, below):
    version = Version(name)
    below = below.strip(b"/")
    os.makedirs(target, exist_ok=True)
    failed, found, directories, links = 0, 0, [], {}
    for path, line in sorted(version.all().items(), key=lambda it: it[0].split(b"/")):
        if not is_safe(path):
            sys.exit(f"a hostile path: {path!r}")
        if below and path != below and not path.startswith(below + b"/"):
            continue
        found += 1
        relative = path[len(below):].strip(b"/") if below else path
        if below and not relative and line[0] != b"d":
            relative = os.path.basename(path)
        to = os.path.join(target, relative) if relative not in (b"", b".") else target
        try:
            whole = write(version, path, line, to, links)
        except OSError as error:
            print(f"{os.fsdecode(path)}: {error}", file=sys.stderr)
            failed += 1
            continue
        if not whole:
            print(f"{os.fsdecode(path)}: damaged or lost", file=sys.stderr)
            failed += 1
        elif line[0] == b"d":
            directories.append((to, line))
    for to, line in reversed(directories):
        look(to, line)
    if not found:
        sys.exit("the version has nothing there")
    print(f"{found - failed} entries restored, {failed} failed")
    return 1 if failed else 0


def main(arguments):
    if not arguments:
        for version in load()[0]:
            print(f"{version[1].decode()}  {int(version[4])} files  {int(version[5])} bytes")
        return 0
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    name, target, *below = map(os.fsencode, arguments)
    return restore(name, target, below[0] if below else b"")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
