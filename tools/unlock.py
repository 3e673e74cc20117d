#!/usr/bin/env python3
"""Prints the recovery code of a lastgood repository, which a password or a key file opens.

Made from docs/format/keys.md alone, as decode.py is, which takes the code.
"""
import argparse, os, re, sys
import argon2.low_level
from blake3 import blake3
from decode import (
    BAD, SMALL_MAX, Reader, derive, field, need, open_once, record, unguarded, verify)

PASSWORD, KEY_FILE = 1, 2

def read(path):
    with open(path, "rb") as file:
        return file.read(SMALL_MAX)

def stored(*path):
    with open(os.path.join(*path), "rb") as file:
        return unguarded(file.read(), SMALL_MAX)

def open_slot(data, repository, root_public, kind, secret):
    """keys.md: the root secret, or None when the slot is for another credential."""
    need(data[:8] == b"lgkeys\x01\n", "this is no key slot of version 1")
    slot = record(data[8:])
    salt = field(slot, 5, 32)
    # Fields 6 to 8 have 34, 50 and 66 bytes; the slot is sealed with those before.
    verify(root_public, "key slot", [repository, data[8:-66]], field(slot, 8, 64))
    if Reader(field(slot, 1)).varint() != kind:
        return None
    if kind == PASSWORD:
        reader = Reader(field(slot, 2))
        memory, passes, lanes = reader.end([reader.varint() for _ in range(3)])
        need(64 << 10 <= memory <= 4 << 20 and 3 <= passes <= 16 and 1 <= lanes <= 4, "work factors")
        secret = argon2.low_level.hash_secret_raw(
            secret, salt, passes, memory, lanes, 32, argon2.low_level.Type.ID, 0x13)
    key = derive(secret, "slot key", repository, salt)
    if derive(key, "key commitment") == field(slot, 6, 32):
        return open_once(key, field(slot, 7, 48), repository + data[8:-150])

def unlock(path, kind, secret):
    data = stored(path, "config")
    need(data[:8] == b"lgconf\x01\n", "this is no lastgood repository of format 1")
    config = record(data[8:-64])
    repository, root_public = field(config, 4, 16), field(config, 5, 32)
    verify(root_public, "config", [data[:-64]], data[-64:])
    revisions = os.path.join(path, "revisions")
    names = sorted(os.listdir(revisions)) if os.path.isdir(revisions) else []
    for name in filter(lambda name: int(name, 16) > 1, names):
        try:
            revision = stored(revisions, name)
            public = field(record(revision[8:-128]), 6, 32)
            for signer, signature in ((root_public, revision[-128:-64]), (public, revision[-64:])):
                verify(signer, "config revision", [repository, revision[:-128]], signature)
        except BAD as error:  # whoever may add objects locks nobody out
            print(f"revisions/{name} is passed over: {error or 'no root signed it'}", file=sys.stderr)
            continue
        root_public = public
    for name in sorted(os.listdir(os.path.join(path, "keys"))):
        try:
            slot = stored(path, "keys", name)
            need(blake3(slot).hexdigest() == name, "it is not what its name says")
            root = open_slot(slot, repository, root_public, kind, secret)
        except BAD as error:  # a slot that does not open locks nobody out
            print(f"keys/{name}: {error or 'authentication failed'}", file=sys.stderr)
            continue
        if root:
            return root
    sys.exit("the key does not fit")

def recovery_code(root):
    number = int.from_bytes(root + derive(root, "recovery checksum")[:3], "big")
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    code = "".join(digits[number >> shift & 31] for shift in range(275, -1, -5))
    return "-".join(re.findall("....", code))

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository")
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--key-file")
    key.add_argument("--password-file")
    arguments = parser.parse_args()
    if arguments.key_file:
        credential = KEY_FILE, bytes.fromhex(read(arguments.key_file).decode())
    else:
        credential = PASSWORD, re.sub(rb"\r?\n\Z", b"", read(arguments.password_file))
    print(recovery_code(unlock(arguments.repository, *credential)))

if __name__ == "__main__":
    main()
