#!/usr/bin/env python3
"""Reads a lastgood repository of format 1, from docs/format/ alone and without the index.

Slow and short: every name, signature, tag and id is checked, and packs are read whole.
Inode flags are not restored, nor are paths that are longer than the system takes.
Without SNAPSHOT and TARGET the snapshots are listed.
Exit code: 0 all is restored, 1 nothing could be done, 3 some entries or snapshots are not.
"""
import argparse, functools, os, re, resource, stat, struct, sys
from types import SimpleNamespace
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB, U32, U64 = 1 << 20, (1 << 32) - 1, (1 << 64) - 1
BLOB_MAX, GROUP_MAX, PACK_MAX, PACK_BLOBS_MAX = 8 * MIB, 9 * MIB, 128 * MIB, 1 << 18
SMALL_MAX, REVISION_MAX, SNAPSHOT_MAX = 64 << 10, 32 * MIB, 16 * MIB
ITEMS_MAX, PATH_MAX = 8192, 64 << 10
(DATA, META, REFS), (CHUNK, TREE, RECIPE, HINTS, LINKS, PACKSET) = range(1, 4), range(1, 7)
CLASS_OF = {CHUNK: DATA, TREE: META, RECIPE: META, HINTS: META, LINKS: META, PACKSET: REFS}
V1 = "lastgood 2026-11 v1 "
FEATURES = b"rotated-roots", b"deltas"

class Damaged(Exception):
    """Bytes that are not what a chapter says."""

BAD = (Damaged, InvalidTag, InvalidSignature, zstandard.ZstdError, OSError, ValueError, OverflowError)
PROBLEMS = []

def need(condition, why):
    if not condition:
        raise Damaged(why)

def attempt(where, action, *arguments, **options):
    """Calls `action`; whatever is wrong is told and does not stop the run."""
    try:
        return action(*arguments, **options)
    except BAD as error:
        where = os.fsdecode(where).encode("utf-8", "backslashreplace").decode()
        PROBLEMS.append(where)
        print(f"{where}: {error or 'authentication failed'}", file=sys.stderr)

class Reader:
    """layout.md, section 3."""
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        need(count <= len(self.data) - self.at, "cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def unpack(self, form):
        values = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return values[0] if len(values) == 1 else values

    def varint(self, limit=U64):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                need((byte or not shift) and value <= limit, "an integer is too long or too large")
                return value
        raise Damaged("an integer is too long")

    def bytes(self, limit=PACK_MAX):
        return self.take(self.varint(limit))

    def many(self, limit, read):
        return [read() for _ in range(self.varint(limit))]

    def deltas(self, count, signed=False):
        last, out = 0, []
        for _ in range(count):
            raw = self.varint()
            last = (last + (raw >> 1 ^ -(raw & 1))) & U64
            out.append(last - U64 - 1 if signed and last >> 63 else last)
        return out

    def front(self, before, limit):
        shared = self.varint(min(limit, len(before)))
        suffix = self.bytes(limit - shared)
        need(not suffix or before[shared:shared + 1] != suffix[:1], "front coding is not canonical")
        return before[:shared] + suffix

    def end(self, value=None):
        need(self.at == len(self.data), "bytes follow the end")
        return value

def record(data):
    reader, fields = Reader(data), {}
    while reader.at < len(data):
        tag = reader.varint()
        need(tag > next(reversed(fields), 0) and len(fields) < 1024, "record fields are out of order or too many")
        fields[tag] = reader.bytes()
    return fields

def field(fields, tag, length=None):
    need(tag in fields and length in (None, len(fields[tag])), f"field {tag} is missing or malformed")
    return fields[tag]

def items(fields, tag, read):
    reader = Reader(field(fields, tag))
    return reader.end(reader.many(U64, lambda: read(reader)))

def framed(*parts):
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)

def derive(secret, context, *parts):
    return blake3(secret + framed(*parts), derive_key_context=V1 + context).digest()

def verify(public, context, parts, signature):
    digest = blake3(framed(context.encode(), *parts), derive_key_context=V1 + "signature").digest()
    Ed25519PublicKey.from_public_bytes(public).verify(signature, digest)

def open_once(key, data, aad):
    return AESGCM(key).decrypt(bytes(12), data, aad)

def parse_recovery_code(text):
    digits = str.maketrans("0123456789ABCDEFGHJKMNPQRSTVWXYZOIL", "0123456789abcdefghijklmnopqrstuv011")
    text = re.sub(r"[\s-]", "", text).upper().translate(digits)
    need(re.fullmatch("[0-9a-v]{56}", text), "this is not a recovery code")
    data = int(text, 32).to_bytes(35, "big")
    need(derive(data[:32], "recovery checksum")[:3] == data[32:], "the recovery code has a slip")
    return data[:32]

def unguarded(data, limit):
    """parity.md, section 4, for an object of which no piece has to be mended."""
    length, _, _, magic, digest = Reader(data, 480).unpack("IBB2s16s")
    content = b"".join(data[at:at + 480] for at in range(0, len(data), 512))[:length]
    is_whole = magic == b"gb" and blake3(content).digest()[:16] == digest
    need(is_whole and length <= limit, "it is too long, or damaged and to be mended first")
    return content

class Repository:
    def __init__(self, path, root):
        self.path, self.blobs = path, {}
        data = self.get("config", SMALL_MAX, b"") or self.get(f"revisions/{1:016x}", SMALL_MAX)
        need(data[:6] == b"lgconf" and len(data) > 72, "this is no lastgood repository")
        need(data[6:8] == b"\x01\n", "the repository is newer than this program")
        config = record(data[8:-64])
        unknown = [one for one in items(config, 1, Reader.bytes) if one not in FEATURES]
        need(not unknown, f"it requires unknown features: {unknown}")
        self.id, self.roots = field(config, 4, 16), [field(config, 5, 32)]
        self.older, self.there = [], {}
        verify(self.roots[0], "config", [data[:-64]], data[-64:])
        secrets, self.signers = [root], {}
        for number, sealed in reversed(self.revise()):
            key = derive(secrets[-1], "previous root", self.id, struct.pack("<Q", number))
            secrets.append(open_once(key, sealed, self.id))
        key = lambda root, context, number=0: derive(root, context, self.id, bytes([number]))
        for secret, public in zip(secrets, reversed(self.roots)):
            signer = Ed25519PrivateKey.from_private_bytes(key(secret, "root signer")).public_key()
            need(signer.public_bytes_raw() == public, "the key is that of another repository")
        self.wraps = [{c: key(secret, "wrap", c) for c in (DATA, META, REFS)} for secret in secrets]
        self.blob_keys = {kind: key(secrets[-1], "blob id", kind) for kind in CLASS_OF}

    def revise(self):
        """config.md, section 5: notes the roots and what they left; returns the sealed roots of before."""
        sealed, newest = [], 1
        names = [name for name in self.names("revisions", 16) if int(name, 16) > 1]
        for number, name in ((int(name, 16), name) for name in names):
            try:
                data = self.get(f"revisions/{name}", REVISION_MAX)
                need(data[:8] == b"lgrevn\x01\n", "this is no revision")
                fields = record(data[8:-128])
                public = field(fields, 6, 32)
                for signer, signature in ((self.roots[-1], data[-128:-64]), (public, data[-64:])):
                    verify(signer, "config revision", [self.id, data[:-128]], signature)
                need(Reader(field(fields, 1)).varint() == number, "a revision is of another number")
            except BAD as error:
                print(f"revisions/{name} is passed over: {error or 'no root signed it'}", file=sys.stderr)
                continue
            unknown = [one for one in items(fields, 3, Reader.bytes) if one not in FEATURES]
            need(not unknown, f"it requires unknown features: {unknown}")
            before = Reader(field(fields, 15)).varint() if 15 in fields else number - 1
            need(before == newest, "a revision is missing or damaged")
            newest = number
            need((7 in fields) == (public != self.roots[-1]), "a revision does not seal the root before")
            if 7 in fields:
                sealed.append((number, field(fields, 7, 48)))
                self.roots.append(public)
            if 8 in fields:
                self.older = self.roots[:-1]
                ids = lambda *tags: {one for tag in tags for one in items(fields, tag, lambda r: r.take(32))}
                self.there = {"snapshots": ids(8, 9, 10), "retired": ids(9)}
        return sealed

    def get(self, name, limit, missing=None):
        path = os.path.join(self.path, name)
        if missing is not None and not os.path.exists(path):
            return missing
        with open(path, "rb") as file:
            return unguarded(file.read(3 * limit + 8193), limit)

    def hashed(self, name, limit):
        data = self.get(name, limit)
        need(blake3(data).hexdigest() == name.rsplit("/", 1)[1], "it is not what its name says")
        return data

    def names(self, prefix, digits=64):
        path = os.path.join(self.path, prefix)
        is_id = re.compile("[0-9a-f]{%d}" % digits).fullmatch
        return sorted(filter(is_id, os.listdir(path))) if os.path.isdir(path) else []

    def envelope(self, kind, data):
        need(data[:24] == b"lgobj\n\x01%c" % kind + self.id, "it is of another kind, repository or version")
        return Reader(data, 24)

    def signer(self, reader, role, context, parts):
        """Checks certificate and signature at the end of `reader`; returns the writer's id."""
        data = reader.take(97)
        need(data[0] == role, "it is signed by a key of another role")
        for root in self.roots:
            try:
                verify(root, V1 + "certificate", [self.id, data[:1], data[1:33]], data[33:])
                break
            except InvalidSignature:
                need(root != self.roots[-1], "no root of the repository certified its signer")
        verify(data[1:33], context, [*parts, reader.data[:reader.at]], reader.take(64))
        writer = reader.end(blake3(data[1:33], derive_key_context=V1 + "writer id").digest()[:16])
        self.signers[writer] = root
        return writer

    def counts(self, signer, kind, name):
        """config.md, section 5: whether it was there when its signer's root was rotated out."""
        return self.signers[signer] not in self.older or bytes.fromhex(name) in self.there[kind]

    def signed(self, kind, role, data):
        reader = self.envelope(kind, data)
        body = reader.take(reader.unpack("I"))
        return body, self.signer(reader, role, "signed object", [])

    def class_secret(self, cls, session, wrapped, committed):
        need(len(wrapped) == 65 and wrapped[0] == 1, "a secret is wrapped in an unknown way")
        for wrap in self.wraps:
            key = derive(wrap[cls], "wrap key", session, wrapped[1:17])
            try:
                secret = open_once(key, wrapped[17:], self.id + session + bytes([cls]))
                break
            except InvalidTag:
                need(wrap is not self.wraps[-1], "a secret is wrapped for another repository")
        need(derive(secret, "key commitment") == committed, "a commitment does not fit")
        return secret

    def snapshot(self, name):
        """snapshot.md, section 1: start, name and fields, or None when it is not live."""
        reader = self.envelope(3, self.hashed(f"snapshots/{name}", SNAPSHOT_MAX))
        suite, cls, session, committed, wrapped = reader.unpack("BB16s32sH")
        need((suite, cls) == (1, META), "it has another suite or class")
        secret = self.class_secret(META, session, reader.take(wrapped), committed)
        key = derive(secret, "object key", reader.take(32))
        reader = Reader(open_once(key, reader.data[reader.at:], reader.data[:reader.at]))
        how, length = reader.unpack("BI")
        need(length <= SNAPSHOT_MAX, "it is too long")
        reader = Reader(decompress(how, reader.data[5:], length))
        fields = record(reader.bytes())
        writer = self.signer(reader, 1, "snapshot", [self.id])
        need((field(fields, 18, 16), field(fields, 1, 16), field(fields, 17)) ==
             (writer, session, b"\x01"), "it is another writer's, or its hash is unknown")
        need(self.counts(writer, "snapshots", name), "its keys were rotated out")
        outcome = self.get(f"outcomes/{session.hex()}", 256, b"")
        is_commit = len(outcome) == 24 + 4 + 48 + 97 + 64
        body, signer = self.signed(2, 1 if is_commit else 2, outcome) if outcome else (session, None)
        need(body[:16] == session and len(body) in (16, 48), "its outcome is of another session")
        if body[16:].hex() != name:
            return None
        need(signer == writer, "another writer committed it")
        if not self.is_retired(name):
            return struct.unpack("<qI", field(fields, 2, 12)), name, fields

    def is_retired(self, name):
        retired = self.get(f"retired/{name}", SMALL_MAX, b"")
        if not retired:
            return False
        body, signer = self.signed(5, 2, retired)
        fields = record(body)
        return field(fields, 1, 32).hex() == name and self.counts(signer, "retired", name)

    def snapshots(self):
        """Live snapshots by start; damaged ones hide no other."""
        found = [attempt(f"snapshots/{name}", self.snapshot, name) for name in self.names("snapshots")]
        return sorted(filter(None, found), key=lambda one: one[:2])

    def add_pack(self, ref):
        """Reads a pack whole, checks it, and notes where its blobs are; parity is passed over."""
        paths = (f"packs/{place}/{ref[1].hex()}" for place in [ref[0].hex(), *self.names("packs", 32)])
        path = next((p for p in paths if os.path.exists(os.path.join(self.path, p))), "it")
        with open(os.path.join(self.path, path), "rb") as file:
            reader = Reader(data := file.read(PACK_MAX + 1))
        (magic, cls, suite, log2, scheme, shards, parity, repository, session, groups,
         directory_bytes, salt, committed, wrapped) = reader.unpack("8s4B2H16s16sII16s32sH")
        wrapped, _ = reader.take(wrapped), reader.take(8)  # a checksum, which the name covers
        need(magic == b"lgpack\x01\n" and suite == 1 and 9 <= log2 <= 16, "a version or suite is unknown")
        need((shards > 0) == (parity > 0) == (scheme == 1) and scheme <= 1 and shards + parity <= 255
             and repository == self.id and cls == ref[2], "its parity, repository or class")
        head, size, own = reader.at, 1 << log2, -(-directory_bytes // ((1 << log2) - 16))
        extra = -(-(groups + own) // shards) * parity if shards else 0
        middle = head + groups * size
        directory = middle + 8 * (groups + own + extra) + head + extra * size
        checksums = directory + own * size
        again = checksums + 8 * (groups + own + extra)
        need(len(data) == ref[3] == again + head + 32, "its length does not fit")
        starts = [*range(head, middle, size), *range(directory, checksums, size)]
        hasher = blake3(data[:head], derive_key_context=V1 + "pack id")
        hasher.update(b"".join(data[start + size - 16:start + size] for start in starts))
        need(hasher.update(data[checksums:again]).digest() == ref[1], "it is not what its name says")
        secret = self.class_secret(cls, session, wrapped, committed)
        common = secret, bytes([1, cls, log2]), self.id + session, size
        plain = open_frames(common, 2, salt, data[directory:checksums], directory_bytes)
        frame, reader = 0, Reader(plain)
        for _ in range(reader.varint(PACK_BLOBS_MAX)):
            stored, raw = reader.varint(GROUP_MAX), reader.varint(GROUP_MAX)
            how, salt = reader.unpack("B16s")
            used, offset = -(-stored // (size - 16)), 0
            group = path, head + frame * size, used * size, common, salt, stored, raw, how
            for _ in range(reader.varint(PACK_BLOBS_MAX)):
                tag, count, blob = reader.unpack("B"), reader.varint(BLOB_MAX), reader.take(32)
                need(CLASS_OF.get(tag & 127) == cls, "a blob is of another class")
                base = reader.take(32) if tag & 128 else None
                self.blobs.setdefault((tag & 127, blob), []).append((group, offset, count, base))
                offset += count
            need(offset == raw, "blobs do not fill their group")
            frame += used
        need(reader.end(frame) == groups, "groups do not fill their frames")

    @functools.lru_cache(32)
    def group(self, path, start, count, common, salt, stored, raw, how):
        with open(os.path.join(self.path, path), "rb") as file:
            file.seek(start)
            return decompress(how, open_frames(common, 1, salt, file.read(count), stored), raw)

    def blob(self, kind, blob, is_base=False):
        for group, offset, count, base in self.blobs.get((kind, blob), []):
            if base and is_base:  # a base is no delta
                continue
            data = (attempt(group[0], self.group, *group) or b"")[offset:offset + count]
            if base:
                data = attempt(group[0], lambda: resolve(data, self.blob(kind, base, True))) or b""
            if blake3(data, key=self.blob_keys[kind]).digest() == blob:
                return data
        raise Damaged(f"no pack holds blob {blob.hex()} undamaged")

    def walk(self, kind, root, leaf):
        """tree.md, section 2: items of a list. `leaf` gives (key, measure, item) triples."""
        last = b""
        def page(blob, level):
            nonlocal last
            reader, total, end = Reader(self.blob(kind, blob)), 0, b""
            found = reader.unpack("B")
            need(found <= 8 and level in (None, found), "a page has another level")
            if found == 0:
                for end, measure, item in leaf(reader):
                    need(not end or last < end, "keys do not ascend")
                    last, total = end, total + measure
                    yield item
            else:
                children = reader.many(ITEMS_MAX, lambda: (
                    reader.varint(), reader.bytes(PATH_MAX), reader.take(32)))
                need(reader.end(children), "an interior page is empty")
                for measure, end, child in children:
                    below = yield from page(child, found - 1)
                    need(below == (measure, end), "a page is not what its parent says")
                    total += measure
            return min(total, U64), end
        yield from page(root, None)

    def load_packs(self, fields):
        """snapshot.md, section 5: opens all packs of a snapshot."""
        for refs in (items(fields, 8, pack_ref), self.walk(PACKSET, field(fields, 7, 32), pack_set_leaf)):
            for ref in refs:
                attempt(f"pack {ref[1].hex()}", self.add_pack, ref)

def decompress(how, payload, raw):
    need(how <= 1, "a compression is unknown")
    if how == 1:
        declared = zstandard.get_frame_parameters(payload).content_size
        need(declared in (raw, zstandard.CONTENTSIZE_UNKNOWN), "a group has another length")
        payload = zstandard.ZstdDecompressor().decompress(payload, raw, allow_extra_data=False)
    need(len(payload) == raw, "a group has another length")
    return payload

def resolve(delta, base):
    """pack.md, section 6."""
    reader = Reader(delta)
    length = reader.varint(BLOB_MAX)
    declared = zstandard.get_frame_parameters(frame := delta[reader.at:]).content_size
    need(length and declared in (length, zstandard.CONTENTSIZE_UNKNOWN), "a delta has another length")
    prefix = zstandard.ZstdCompressionDict(base, zstandard.DICT_TYPE_RAWCONTENT)
    data = zstandard.ZstdDecompressor(prefix).decompress(frame, length, allow_extra_data=False)
    need(len(data) == length, "a delta has another length")
    return data

def open_frames(common, purpose, salt, frames, payload):
    secret, start, names, size = common
    need(len(frames) == -(-payload // (size - 16)) * size, "a group is cut short")
    aad = start + bytes([purpose]) + struct.pack("<I", len(frames) // size) + names
    cipher = AESGCM(derive(secret, "group key", salt, aad))
    out = b"".join(cipher.decrypt(struct.pack("<IQ", number, 0), frames[at:at + size], aad)
                   for number, at in enumerate(range(0, len(frames), size)))
    need(not any(out[payload:]), "a group is not filled up with zeros")
    return out[:payload]

def pack_ref(reader):
    ref = *reader.unpack("16s32sB"), reader.varint(PACK_MAX)
    need(ref[2] in (DATA, META, REFS), "a class is unknown")
    return ref

def pack_set_leaf(reader):
    refs = reader.many(ITEMS_MAX, lambda: pack_ref(reader))
    need(all(a[:2] < b[:2] for a, b in zip(refs, refs[1:])), "a pack set is out of order")
    return reader.end([(b"", 1, ref) for ref in refs])

def is_name(name):
    return 1 <= len(name) <= 255 and name not in (b".", b"..") and not set(name) & {0, 0x2F}

def links_leaf(reader):
    path, rows = b"", []
    for _ in range(reader.varint(ITEMS_MAX)):
        path = reader.front(path, PATH_MAX)
        leader = reader.front(path, PATH_MAX)
        need(leader < path and all(map(is_name, path.split(b"/") + leader.split(b"/"))), "a bad link")
        rows.append((path, 1, (path, leader)))
    return reader.end(rows)

def recipe_leaf(reader):
    def head():
        kind, length = (head := reader.varint()) & 3, head >> 2
        need(not length if kind == 1 else kind != 3 and 1 <= length <= BLOB_MAX, "a bad part")
        times = reader.varint() if kind else 1
        need(times >= (1, 1, 2)[kind], "an empty hole or repeat")
        return kind, length, times
    heads = reader.many(ITEMS_MAX, head)
    parts = [(*head, None if head[0] == 1 else reader.take(32)) for head in heads]
    return reader.end([(b"", part[2] * (part[1] or 1), part) for part in parts])

def tree_leaf(reader):
    """tree.md, sections 3 and 4."""
    name, names = b"", []
    for _ in range(reader.varint(ITEMS_MAX)):
        name = reader.front(name, 255)
        need(is_name(name), "a name is not allowed")
        names.append(name)
    count, each, entries = len(names), range(len(names)), []
    tags, modes = reader.take(count), [reader.varint(0o7777) for _ in each]
    owners, groups, seconds = reader.deltas(count), reader.deltas(count), reader.deltas(count, True)
    nanos = [reader.unpack("I") for _ in each]
    for tag in tags:  # inode flags
        need(not tag & 64 or reader.varint(U32), "an entry's flags are not canonical")
    for tag in tags:  # marks
        need(not tag & 32 or reader.unpack("B"), "an entry's marks are not canonical")
    need(max(owners + groups, default=0) <= U32 and max(nanos, default=0) < 10**9, "a number is too large")
    for index in each:
        kind = tags[index] & 31
        need(kind <= 8, "an entry's kind is unknown")
        entry = SimpleNamespace(name=names[index], kind=kind, mode=modes[index], uid=owners[index],
                                gid=groups[index], mtime=seconds[index] * 10**9 + nanos[index],
                                size=0, device=0, xattrs=[])
        if kind in (1, 2):
            entry.size = reader.varint()
            need(entry.size, "a file that has content has no size")
        if kind in (1, 2, 3):
            entry.id = reader.take(32)
        if kind == 4:
            entry.target = reader.bytes(4095)
            need(entry.target and 0 not in entry.target, "a link's target is not allowed")
        if kind in (7, 8):
            entry.device = os.makedev(reader.varint(U32), reader.varint(U32))
        entries.append(entry)
    attribute = lambda: (reader.bytes(255), reader.bytes(64 << 10))
    sets = reader.many(count, lambda: reader.many(1 << 16, attribute))
    sizes = [sum(len(name) + len(value) for name, value in one) for one in sets]
    total = 0
    for entry in (entry for entry, tag in zip(entries, tags) if tag & 128):
        number = reader.varint(len(sets) - 1)
        total, entry.xattrs = total + sizes[number], sets[number]
    need(total <= BLOB_MAX and max(sizes, default=0) <= 4 * MIB, "attributes are too large")
    return reader.end([(entry.name, 1, entry) for entry in entries])

class Restore:
    """Restores to a new directory, so every directory that it enters it has made."""
    def __init__(self, repo, fields, target):
        self.repo, self.target, self.made = repo, os.fsencode(target), {}
        self.links = dict(repo.walk(LINKS, field(fields, 6, 32), links_leaf))
        os.umask(0o077)
        os.mkdir(target)
        for is_second in (False, True):  # a file's smallest path may come after its others
            attempt(b"/", self.directory, b"", field(fields, 4, 32), is_second)

    def directory(self, path, tree, is_second):
        need(path.count(b"/") < 8192, "directories are too deep")
        for entry in self.repo.walk(TREE, tree, tree_leaf):
            child = path + b"/" + entry.name
            attempt(child, self.entry, child, entry, is_second)

    def entry(self, path, entry, is_second):
        there, leader = self.target + path, b"/" + self.links.get(path[1:], b"")
        kind = max(entry.kind, 2)  # 2: a file, however it is stored
        if entry.kind == 3:
            if not is_second:
                os.mkdir(there)
            self.directory(path, entry.id, is_second)
            if is_second:  # after all that changes its time
                self.metadata(there, entry)
        elif is_second == (len(leader) > 1 and leader[1:] not in self.links):
            if is_second and self.made.get(leader) == kind:
                return os.link(self.target + leader, there, follow_symlinks=False)
            self.create(there, entry)
            self.made[path] = kind
            self.metadata(there, entry)

    def create(self, there, entry):
        if entry.kind <= 2:
            with open(there, "xb", 0) as file:
                self.content(file.fileno(), entry)
        elif entry.kind == 4:
            os.symlink(entry.target, there)
        else:
            kinds = {5: stat.S_IFIFO, 6: stat.S_IFSOCK, 7: stat.S_IFCHR, 8: stat.S_IFBLK}
            os.mknod(there, kinds[entry.kind] | 0o600, entry.device)

    def content(self, file, entry):
        os.ftruncate(file, entry.size)
        parts, at = [(0, entry.size, 1, entry.id)] if entry.kind == 1 else [], 0
        if entry.kind == 2:
            parts = self.repo.walk(RECIPE, entry.id, recipe_leaf)
        for kind, length, times, blob in parts:
            need(at + times * (length or 1) <= entry.size, "the parts exceed the file")
            data = b"" if kind == 1 else self.repo.blob(CHUNK, blob)
            need(len(data) == length, "a chunk has another length")
            for _ in range(times if data else 0):
                need(os.pwrite(file, data, at) == length, "a short write")
                at += length
            at += times if kind == 1 else 0
        need(at == entry.size, "the parts do not add up to the file")

    def metadata(self, there, entry):
        """Owner, mode, attributes, time: in the order in which none undoes another."""
        if os.geteuid() == 0:
            attempt(there, os.chown, there, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind != 4:
            attempt(there, os.chmod, there, entry.mode)
        for attribute, value in entry.xattrs:
            attempt(there, os.setxattr, there, attribute, value, follow_symlinks=False)
        attempt(there, os.utime, there, ns=(entry.mtime,) * 2, follow_symlinks=False)

def run(arguments):
    repo = Repository(arguments.repository, parse_recovery_code(arguments.recovery_code))
    snapshots = repo.snapshots()
    if arguments.target:
        want = arguments.snapshot
        found = snapshots[-1:] if want == "latest" else [s for s in snapshots if s[1].startswith(want)]
        need(len(found) == 1, f"{len(found)} snapshots are called {want!r}")
        repo.load_packs(found[0][2])
        Restore(repo, found[0][2], arguments.target)
    else:
        for (seconds, _), name, fields in snapshots:
            sources = b" ".join(items(fields, 9, Reader.bytes))
            print(name, seconds, fields.get(10, b"").decode(), repr(sources)[2:-1])
    sys.exit(3 if PROBLEMS else 0)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository")
    parser.add_argument("recovery_code", help="unlock.py finds it by a password or key file")
    parser.add_argument("snapshot", nargs="?", help="an id or the start of one, or latest")
    parser.add_argument("target", nargs="?", help="a new directory; the tree of / comes below it")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_STACK, [resource.getrlimit(resource.RLIMIT_STACK)[1]] * 2)
    sys.setrecursionlimit(200_000)  # directories may be 8192 deep
    attempt(arguments.repository, run, arguments)
    sys.exit(1)

if __name__ == "__main__":
    main()
