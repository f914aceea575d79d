"""Keccak-256, secp256k1 and EIP-712 in nothing but integers, so that the vectors share no library with the program."""

import hashlib
import hmac

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
MASK = 2**64 - 1


def rotate(value, by):
    by %= 64
    return ((value << by) | (value >> (64 - by))) & MASK


def permute(lanes):
    """Keccak-f[1600]; the round constants and rotations are computed as FIPS 202 defines them."""
    register = 1
    for _ in range(24):
        parity = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        change = [parity[(x - 1) % 5] ^ rotate(parity[(x + 1) % 5], 1) for x in range(5)]
        lanes = [[lanes[x][y] ^ change[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], rotate(current, (step + 1) * (step + 2) // 2)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5] & MASK)
        for bit in range(7):
            register = ((register << 1) ^ ((register >> 7) * 0x71)) % 256
            if register & 2:
                lanes[0][0] ^= 1 << ((1 << bit) - 1)
    return lanes


def keccak256(data):
    rate = 136
    padded = bytearray(data) + b"\x01" + bytes(rate - 1 - len(data) % rate)
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), rate):
        for i in range(rate // 8):
            word = int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
            lanes[i % 5][i // 5] ^= word
        lanes = permute(lanes)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    if a == b:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(factor, point):
    total = None
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def address(private):
    x, y = times(private, G)
    text = keccak256(x.to_bytes(32, "big") + y.to_bytes(32, "big"))[12:].hex()
    check = keccak256(text.encode()).hex()
    return "0x" + "".join(c.upper() if int(check[i], 16) >= 8 else c for i, c in enumerate(text))


def nonce(private, digest):
    """RFC 6979, so that the same message has the same signature at every run."""
    key, value = bytes(32), b"\x01" * 32
    seed = private.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    for mark in (b"\x00", b"\x01"):
        key = hmac.new(key, value + mark + seed, hashlib.sha256).digest()
        value = hmac.new(key, value, hashlib.sha256).digest()
    while True:
        value = hmac.new(key, value, hashlib.sha256).digest()
        found = int.from_bytes(value, "big")
        if 0 < found < N:
            return found
        key = hmac.new(key, value + b"\x00", hashlib.sha256).digest()
        value = hmac.new(key, value, hashlib.sha256).digest()


def sign(private, digest, high=False):
    k = nonce(private, digest)
    x, y = times(k, G)
    r = x % N
    s = pow(k, -1, N) * (int.from_bytes(digest, "big") + r * private) % N
    odd = y % 2
    if (s > N // 2) != high:
        s, odd = N - s, 1 - odd
    return "0x" + r.to_bytes(32, "big").hex() + s.to_bytes(32, "big").hex() + bytes([27 + odd]).hex()


def word(kind, value):
    if kind == "bytes32":
        return value
    if kind == "address":
        return bytes.fromhex(value[2:]).rjust(32, b"\x00")
    return int(value).to_bytes(32, "big")


def typed_digest(log, declaration, values):
    """EIP-712 for a flat struct in the domain of a log; the declaration is as docs/reference/proofs.md prints it."""
    domain = b"".join(
        [
            keccak256(b"EIP712Domain(string name,string version,bytes32 salt)"),
            keccak256(b"Patchbay proofs"),
            keccak256(b"1"),
            log,
        ]
    )
    kinds = [member.split(" ")[0] for member in declaration[declaration.index("(") + 1 : -1].split(",")]
    struct = keccak256(declaration.encode()) + b"".join(word(kind, value) for kind, value in zip(kinds, values))
    return keccak256(b"\x19\x01" + keccak256(domain) + keccak256(struct))
