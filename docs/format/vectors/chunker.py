#!/usr/bin/env python3
"""A second implementation of docs/format/chunker.md, written from the chapter alone.

Writes chunker.txt, the vectors beside it, to standard output. Needs the `blake3` package.
"""
from blake3 import blake3

CONTEXT = "lastgood 2026-11 v1 min-aes round keys"
MASK = (1 << 64) - 1


def times2(x):
    return ((x << 1) ^ (0x11B if x & 0x80 else 0)) & 0xFF


def times(x, y):
    product = 0
    while y:
        product ^= x if y & 1 else 0
        x, y = times2(x), y >> 1
    return product


def substitute(x):
    inverse = next((y for y in range(256) if times(x, y) == 1), 0)
    rotated = [((inverse << n) | (inverse >> (8 - n))) & 0xFF for n in range(5)]
    return rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63


S = [substitute(x) for x in range(256)]
S2 = [times2(x) for x in S]
S3 = [S[x] ^ S2[x] for x in range(256)]


def aes_round(b, key):
    out = bytearray(16)
    for c in range(0, 16, 4):
        p, q, r, s = b[c], b[(c + 5) % 16], b[(c + 10) % 16], b[(c + 15) % 16]
        out[c] = S2[p] ^ S3[q] ^ S[r] ^ S[s] ^ key[c]
        out[c + 1] = S[p] ^ S2[q] ^ S3[r] ^ S[s] ^ key[c + 1]
        out[c + 2] = S[p] ^ S[q] ^ S2[r] ^ S3[s] ^ key[c + 2]
        out[c + 3] = S3[p] ^ S[q] ^ S[r] ^ S2[s] ^ key[c + 3]
    return out


def round_keys(key):
    stream = blake3(key, derive_key_context=CONTEXT).digest(length=48)
    return stream[0:16], stream[16:32], stream[32:48]


def value(keys, window):
    state = bytes(x ^ y for x, y in zip(window, keys[0]))
    return int.from_bytes(aes_round(aes_round(state, keys[1]), keys[2])[:4], "little")


def cuts(algorithm, length, key, data):
    keys, lengths, start = round_keys(key), [], 0
    low, high = (length // 2, length // 2 * 3) if algorithm == "min-aes" else (length, length)
    while start < len(data):
        if len(data) - start < high:
            chunk = len(data) - start
        elif algorithm == "fixed":
            chunk = high
        else:  # min() takes the first of equals
            chunk = min(range(low, high + 1), key=lambda p: value(keys, data[start + p - 16:start + p]))
        lengths.append(chunk)
        start += chunk
    return lengths


def splitmix(seed, length):
    out = bytearray()
    while len(out) < length:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out += (z ^ (z >> 31)).to_bytes(8, "little")
    return bytes(out[:length])


def generate(kind, argument, length):
    if kind == "zeros":
        return bytes(length)
    if kind == "repeat":  # `argument` bytes of splitmix with that seed, over and over
        return (splitmix(argument, argument) * (length // argument + 1))[:length]
    if kind == "text":  # 16 bytes of each kind, so that values repeat
        return bytes(97 + (x & 1) for x in splitmix(argument, length))
    return splitmix(argument, length)


KEYS = [bytes(32), bytes(range(32)), splitmix(7, 32)]
CASES = [
    ("min-aes", 4096, [("splitmix", 1, n) for n in (0, 1, 15, 16, 2047, 2048, 6143, 6144, 6145, 50000)]),
    ("min-aes", 4096, [("zeros", 0, 20000), ("repeat", 16, 20000), ("repeat", 5, 20000),
                       ("repeat", 3000, 30000), ("text", 3, 30000)]),
    ("min-aes", 5120, [("splitmix", 2, 60000), ("zeros", 0, 20000)]),
    ("min-aes", 65536, [("splitmix", 3, 98303), ("splitmix", 3, 98304), ("splitmix", 3, 300000)]),
    ("fixed", 4096, [("splitmix", 1, n) for n in (0, 1, 4095, 4096, 4097, 10000)]),
    ("fixed", 65536, [("zeros", 0, 200000)]),
]

if __name__ == "__main__":
    print("# Test vectors of docs/format/chunker.md, made by chunker.py beside this file.")
    print("# `key` and `round-keys` hold for the lines after them; `value` is a window and its value;")
    print("# `cuts` is algorithm, length parameter, generator, its argument, data length: chunk lengths.")
    for index, key in enumerate(KEYS):
        keys = round_keys(key)
        print(f"key {key.hex()}")
        print("round-keys", *(k.hex() for k in keys))
        for window in (bytes(16), bytes(range(16)), splitmix(9, 16)):
            print(f"value {window.hex()} {value(keys, window):08x}")
        for algorithm, length, inputs in CASES:
            if index and length == 65536:
                continue
            for kind, argument, size in inputs:
                chunks = cuts(algorithm, length, key, generate(kind, argument, size))
                print("cuts", algorithm, length, kind, argument, size, ":", *chunks)
