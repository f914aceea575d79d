"""docs/reference/proofs.md and docs/concepts/pricing.md, written down in Python as plainly as possible."""

import hashlib
import hmac
import json
import struct
from decimal import Decimal
from fractions import Fraction

REQUEST = (
    "tenant tenantCounter key backbone priority promptTokens cachedPromptTokens completionTokens promptCommitment "
    "outputCommitment admittedAt endedAt finish settledBy currency amount"
).split()
PART = (
    "version digest weight share owner counter rank price royaltyTerms split input cached output rankAmount royalty fee "
    "total"
).split()
LINES = ["input", "cached", "output", "rankAmount", "royalty"]
OWNER_REQUEST = "backbone priority promptTokens cachedPromptTokens completionTokens endedAt settledBy currency".split()
NOT_FOR_TENANTS = ["owner", "counter", "split", "fee"]


def H(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u16(value):
    return value.to_bytes(2, "big")


def log_id(uuid):
    return H(b"patchbay:log:v1\0", bytes.fromhex(uuid.replace("-", "")))


def salt(secret, index):
    return hmac.new(secret, b"patchbay:field-salt:v1\0" + u16(index), hashlib.sha256).digest()


def commitment(index, field_salt, value):
    return H(b"patchbay:field:v1\0", u16(index), field_salt, value.encode())


def body(log, receipt_id, commitments):
    return b"".join(
        [
            b"patchbay:receipt:v1\0",
            log,
            bytes.fromhex(receipt_id.replace("-", "")),
            u16(len(commitments)),
            *commitments,
        ]
    )


def leaf_hash(entry):
    return H(b"\0", entry)


def text_commitment(domain, text_salt, ids):
    return H(domain, text_salt, b"".join(number.to_bytes(4, "little") for number in ids))


def canonical(document):
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(document):
    return H(canonical(document).encode()).hex()


# RFC 6962, sections 2.1 to 2.1.2, by their recursive definitions; the entries are hashed already.


def split_at(n):
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def root(leaves):
    if not leaves:
        return H()
    if len(leaves) == 1:
        return leaves[0]
    k = split_at(len(leaves))
    return H(b"\1", root(leaves[:k]), root(leaves[k:]))


def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = split_at(len(leaves))
    if m < k:
        return path(m, leaves[:k]) + [root(leaves[k:])]
    return path(m - k, leaves[k:]) + [root(leaves[:k])]


def consistency(m, leaves):
    return [] if m == 0 else subproof(m, leaves, True)


def subproof(m, leaves, whole):
    n = len(leaves)
    if m == n:
        return [] if whole else [root(leaves)]
    k = split_at(n)
    if m <= k:
        return subproof(m, leaves[:k], whole) + [root(leaves[k:])]
    return subproof(m - k, leaves[k:], False) + [root(leaves[:k])]


def nodes(leaves):
    """Every inner node by the leaves below it, from the first up to but without the last."""
    found = {}

    def walk(start, end):
        if end - start > 1:
            k = start + split_at(end - start)
            walk(start, k)
            walk(k, end)
            found[f"{start}-{end}"] = root(leaves[start:end]).hex()

    walk(0, len(leaves))
    return found


# docs/concepts/pricing.md. `round` of a Fraction is to the nearest integer, and at a tie to the even one.


def shares(weights):
    exact = [abs(Fraction(Decimal(repr(float(weight))))) for weight in weights]
    scale = 1
    for weight in exact:
        scale = scale * weight.denominator // gcd(scale, weight.denominator)
    whole = sum(exact)
    divisor = int(whole * scale)
    for weight in exact:
        divisor = gcd(divisor, int(weight * scale))
    return [f"{int(w * scale) // divisor}/{int(whole * scale) // divisor}" for w in exact]


def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def weight_hex(weight):
    return struct.pack(">d", weight).hex()


def amounts(counts, share, part, priority):
    prompt, cached, completion = counts
    price, royalty, rank = part["price"], part.get("royalty"), part.get("rank")
    if price is None:
        return {name: None for name in [*LINES, "fee", "total"]}
    share = Fraction(share)
    multiplier = Fraction(int(price[priority.lower() + "Ppm"]), 10**6)
    tokens = lambda count, name: round(Fraction(count * int(price[name]), 10**6) * multiplier * share)
    found = {
        "input": tokens(prompt - cached, "inputPerMillion"),
        "cached": tokens(cached, "cachedInputPerMillion"),
        "output": tokens(completion, "outputPerMillion"),
        "rankAmount": 0,
        "royalty": 0,
    }
    if rank is not None:
        work = (prompt - cached + completion) * rank * int(price["rankPerMillion"])
        found["rankAmount"] = round(Fraction(work, 10**6) * multiplier)
    if royalty is not None and royalty["kind"] == "SHARE":
        found["royalty"] = round(Fraction(sum(found.values()) * int(royalty["sharePpm"]), 10**6))
    elif royalty is not None:
        asked = prompt * int(royalty["inputPerMillion"]) + completion * int(royalty["outputPerMillion"])
        found["royalty"] = round(Fraction(asked, 10**6) * share)
    found["total"] = sum(found[name] for name in LINES)
    found["fee"] = round(Fraction(found["royalty"] * int(price["platformFeePpm"]), 10**6))
    return found


def divide(total, beneficiaries):
    whole = sum(int(b["parts"]) for b in beneficiaries)
    exact = [Fraction(total * int(b["parts"]), whole) for b in beneficiaries]
    given = [int(part) for part in exact]
    order = sorted(range(len(exact)), key=lambda j: (-(exact[j] - given[j]), j))
    for j in order[: total - sum(given)]:
        given[j] += 1
    return [{"tenant": b["tenant"], "amount": str(amount)} for b, amount in zip(beneficiaries, given)]


def opened_indexes(reader, fields):
    """Which fields a reader's view opens; `owner:UUID` is the owner of that name."""
    owners = {f["name"].split(".")[1] for f in fields if f["name"].endswith(".owner") and reader == f"owner:{f['value']}"}
    for field in fields:
        names = field["name"].split(".")
        if reader == "tenant" and names[-1] not in NOT_FOR_TENANTS:
            yield field["index"]
        elif reader.startswith("owner:"):
            if (len(names) == 1 and names[0] in OWNER_REQUEST) or (len(names) > 1 and names[1] in owners):
                yield field["index"]
