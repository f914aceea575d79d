"""Epochs with their accounts, and claims on a chain: the second half of docs/reference/proofs.md."""

import ethereum
import specification as spec
from world import NOW, World, drawn, uuid

EPOCH = "Epoch(uint64 number,bytes32 digest,uint64 signedAt)"
CLAIM = "PayoutClaim(bytes32 digest,uint64 signedAt)"
KINDS = {"tenant": 1, "version": 2}
COUNTS = ["promptTokens", "cachedPromptTokens", "completionTokens"]


def u64(value):
    return value.to_bytes(8, "big")


def ranges(numbers):
    """`[1, 2, 3, 5]` as `1-3` and `5`."""
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(a) if a == b else f"{a}-{b}" for a, b in found]


def word(kind, value):
    return ethereum.word(kind, value)


def keccak_pair(a, b):
    return ethereum.keccak256(min(a, b) + max(a, b))


def openzeppelin_tree(leaves):
    """Root and proof of each leaf of OpenZeppelin's StandardMerkleTree."""
    ordered = sorted(leaves)
    nodes = [b""] * (2 * len(ordered) - 1)
    for i, leaf in enumerate(ordered):
        nodes[len(nodes) - 1 - i] = leaf
    for i in range(len(nodes) - 1 - len(ordered), -1, -1):
        nodes[i] = keccak_pair(nodes[2 * i + 1], nodes[2 * i + 2])
    proofs = {}
    for i, leaf in enumerate(ordered):
        at, proof = len(nodes) - 1 - i, []
        while at > 0:
            proof.append(nodes[at + 1 if at % 2 else at - 1])
            at = (at - 1) // 2
        proofs[leaf] = proof
    return nodes[0], proofs


class EpochWorld(World):
    def __init__(self, name, about):
        super().__init__(name, about)
        self.epochs, self.accounts, self.statements, self.claims = [], [], [], []

    def request_hash(self, request):
        return spec.H(b"patchbay:request:v1\0", self.log, bytes.fromhex(request.replace("-", ""))).hex()

    def account_key(self, number, kind, subject):
        subject = bytes.fromhex(subject.replace("-", ""))
        return spec.H(b"patchbay:account-key:v1\0", self.log, u64(number), bytes([KINDS[kind]]), subject)

    def values(self, receipt):
        return {field["name"]: field["value"] for field in self.receipts[receipt]["fields"]}

    def subjects(self, receipt):
        """Who counts a receipt: kind, subject, number, part."""
        values = self.values(receipt)
        yield "tenant", values["tenant"], values["tenantCounter"], None
        for part in range((len(values) - len(spec.REQUEST)) // len(spec.PART)):
            if values[f"part.{part}.version"]:
                yield "version", values[f"part.{part}.version"], values[f"part.{part}.counter"], part

    def account(self, kind, subject, counted, summed, lasts):
        numbers = [number for receipt in counted for k, s, number, _ in self.subjects(receipt) if (k, s) == (kind, subject)]
        own = [(r, part) for r in summed for k, s, _, part in self.subjects(r) if (k, s) == (kind, subject)]
        lanes = [
            {"lane": lane, "last": str(last), "numbers": ranges([int(n.split(":")[1]) for n in numbers if n.split(":")[0] == lane])}
            for lane, last in lasts.items()
        ]
        found = {
            "kind": kind,
            "subject": subject,
            "lanes": lanes,
            "receipts": str(len(own)),
            **{name: str(sum(int(self.values(r)[name]) for r, _ in own)) for name in COUNTS},
        }
        named = set()
        for r, only in own:
            values = self.values(r)
            for name, value in values.items():
                part, _, field = name[5:].partition(".")
                documents = ("price", "royaltyTerms", "split")
                if name.startswith("part.") and field in documents and value and only in (None, int(part)):
                    named.add(value)
        if kind == "tenant":
            total = sum(int(self.values(r)["amount"]) for r, _ in own)
            found["charged"] = [{"currency": "USD", "amount": str(total)}] if total else []
        else:
            owners, royalty, fee, earned = set(), 0, 0, {}
            for r in counted + summed:
                for k, s, _, part in self.subjects(r):
                    if (k, s) == (kind, subject):
                        owners.add(self.values(r)[f"part.{part}.owner"])
            for r, part in own:
                values, expected = self.values(r), self.receipts[r]["parts"][part]
                royalty += int(expected["royalty"])
                fee += int(expected["fee"])
                rest = int(expected["royalty"]) - int(expected["fee"])
                alone = [{"tenant": values[f"part.{part}.owner"], "amount": str(rest)}]
                for one in expected["earnings"] or alone:
                    earned[one["tenant"]] = earned.get(one["tenant"], 0) + int(one["amount"])
            found["owner"] = owners.pop()
            listed = [{"tenant": tenant, "amount": str(amount)} for tenant, amount in sorted(earned.items()) if amount]
            found["royalties"] = (
                [{"currency": "USD", "royalty": str(royalty), "fee": str(fee), "earned": listed}] if royalty else []
            )
        found["documents"] = sorted(named)
        return found

    def epoch(self, head, counted, quarantined, released, lasts):
        """`counted` are the receipts whose leaves it has; `lasts` the last numbers, by kind, lane and place among the subjects."""
        number = len(self.epochs) + 1
        before = self.epochs[-1] if self.epochs else None
        held = [one[0] for one in quarantined if isinstance(one[0], int)]
        summed = [r for r in counted if r not in held] + [one[0] for one in released if isinstance(one[0], int)]
        subjects = sorted({(k, s) for r in [*counted, *summed] for k, s, _, _ in self.subjects(r)})
        leaves = []
        for kind, subject in subjects:
            order = sorted({s for k, s in subjects if k == kind})
            last = {lane: of[order.index(subject)] for lane, of in lasts[kind].items()}
            account = self.account(kind, subject, counted, summed, last)
            salt = drawn(f"{self.name} {number} {kind} {subject}")
            key = self.account_key(number, kind, subject)
            commitment = spec.H(b"patchbay:account:v1\0", salt, bytes.fromhex(spec.digest(account)))
            leaves.append((key, commitment, salt, account))
        leaves.sort(key=lambda leaf: leaf[0])
        hashes = [spec.H(b"\0", key, commitment) for key, commitment, _, _ in leaves]
        self.accounts.append([
            {"key": k.hex(), "commitment": c.hex(), "salt": s.hex(), "account": a, "leaf": h.hex()}
            for (k, c, s, a), h in zip(leaves, hashes)
        ])
        listed = []
        for one in quarantined:
            if isinstance(one[0], int):
                receipt = self.receipts[one[0]]
                one = (self.request_hash(receipt["id"]), receipt["leaf"], one[1])
            listed.append({"request": one[0], "leaf": one[1], "reason": one[2]})
        free = []
        for one in released:
            if isinstance(one[0], int):
                receipt = self.receipts[one[0]]
                one = (self.request_hash(receipt["id"]), receipt["leaf"], one[1])
            free.append({"request": one[0], "leaf": one[1], "epoch": str(one[2])})
        # A leaf that was missing is one of the range when it comes.
        added = [one for one in free if one["leaf"] is not None]
        found = self.signed_head(head)
        first = int(before["document"]["epoch"]["size"]) if before else 0
        with_leaf = [one for one in listed if one["leaf"] is not None]
        signed_at = NOW + 1_000_000 * number
        epoch = {
            "number": str(number),
            "firstSize": str(first),
            "size": found["size"],
            "root": found["root"],
            "closedAt": str(signed_at),
            "previous": before["digest"] if before else "0" * 64,
            "accounts": {"root": spec.root(hashes).hex(), "size": str(len(hashes))},
            "receipts": str(int(found["size"]) - first - len(with_leaf) + len(added)),
            "quarantined": sorted(listed, key=lambda one: one["request"]),
            "released": sorted(free, key=lambda one: one["request"]),
        }
        digest = spec.digest(epoch)
        signed = self.sign(EPOCH, [number, bytes.fromhex(digest), signed_at])
        document = {
            "format": "patchbay-epoch/1",
            "log": self.log.hex(),
            "epoch": epoch,
            "head": found,
            "signedAt": str(signed_at),
            "signature": signed["signature"],
        }
        self.epochs.append({"digest": digest, "signed": signed["digest"], "document": document})

    def nobody(self, number, place):
        """A tenant without an account, whose key is before the first, between two, or behind the last."""
        keys = [leaf["key"] for leaf in self.accounts[number - 1]]
        for i in range(10_000):
            subject = uuid(f"nobody {i}")
            key = self.account_key(number, "tenant", subject).hex()
            found = "start" if key < keys[0] else "end" if key > keys[-1] else "middle"
            if found == place:
                return subject

    def statement(self, number, kind, subject):
        leaves = self.accounts[number - 1]
        hashes = [bytes.fromhex(leaf["leaf"]) for leaf in leaves]
        key = self.account_key(number, kind, subject).hex()
        path = lambda i: [h.hex() for h in spec.path(i, hashes)]
        present, absent = None, None
        place = next((i for i, leaf in enumerate(leaves) if leaf["key"] == key), None)
        if place is not None:
            leaf = leaves[place]
            present = {"salt": leaf["salt"], "account": leaf["account"], "index": str(place), "path": path(place)}
        else:
            after = next((i for i, leaf in enumerate(leaves) if leaf["key"] > key), len(leaves))
            neighbour = lambda i: {
                "index": str(i),
                "key": leaves[i]["key"],
                "commitment": leaves[i]["commitment"],
                "path": path(i),
            }
            absent = {
                "before": neighbour(after - 1) if after > 0 else None,
                "after": neighbour(after) if after < len(leaves) else None,
            }
        self.statements.append({
            "format": "patchbay-statement/1",
            "log": self.log.hex(),
            "epoch": str(number),
            "kind": kind,
            "subject": subject,
            "present": present,
            "absent": absent,
        })

    def payouts(self, sequence, decimals, by_tenant):
        """A payout tree and the claim of each tenant in it; payouts are nano-units with the time before which they were earned."""
        chain, distributor, token = 31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3", "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
        entries = []
        for tenant, payouts in by_tenant.items():
            account = ethereum.address(int.from_bytes(drawn(f"wallet {tenant}"), "big") % ethereum.N)
            total = sum(amount for amount, _ in payouts)
            unit = 10 ** max(0, 9 - decimals)
            cumulative = total // unit * 10 ** max(0, decimals - 9)
            words = [("uint256", chain), ("address", distributor), ("address", token), ("address", account), ("uint256", cumulative)]
            leaf = ethereum.keccak256(ethereum.keccak256(b"".join(word(kind, value) for kind, value in words)))
            entries.append((tenant, account, cumulative, leaf, total % unit, payouts))
        root, proofs = openzeppelin_tree([leaf for _, _, _, leaf, _, _ in entries])
        for tenant, account, cumulative, leaf, rest, payouts in entries:
            claim = {
                "tenant": tenant,
                "chainId": str(chain),
                "distributor": distributor,
                "token": token,
                "decimals": str(decimals),
                "currency": "USD",
                "sequence": str(sequence),
                "root": "0x" + root.hex(),
                "account": account,
                "cumulative": str(cumulative),
                "proof": ["0x" + h.hex() for h in proofs[leaf]],
                "payouts": [
                    {"payout": uuid(f"payout {tenant} {i}"), "amount": str(amount), "earnedBefore": str(before)}
                    for i, (amount, before) in enumerate(payouts)
                ],
                "rest": str(rest),
            }
            signed_at = NOW + 2_000_000 + sequence
            signed = self.sign(CLAIM, [bytes.fromhex(spec.digest(claim)), signed_at])
            document = {
                "format": "patchbay-claim/1",
                "log": self.log.hex(),
                "claim": claim,
                "signedAt": str(signed_at),
                "signature": signed["signature"],
            }
            self.claims.append({"leaf": "0x" + leaf.hex(), "signed": signed["digest"], "document": document})

    def result(self):
        return {
            **super().result(),
            "accounts": self.accounts,
            "epochs": self.epochs,
            "statements": self.statements,
            "claims": self.claims,
        }
