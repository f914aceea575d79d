"""A deployment of which everything is known: its keys, its receipts with their secrets, its batches and its log."""

import hashlib

import ethereum
import specification as spec

BATCH = "ReceiptBatch(bytes32 root,uint64 size,uint64 signedAt)"
HEAD = "TreeHead(bytes32 root,uint64 size,uint64 signedAt)"
SUCCESSION = "KeySuccession(address next,uint64 validFrom)"
NOW = 1764400000000


def drawn(text):
    """32 bytes that look random and are the same at every run."""
    return hashlib.sha256(b"patchbay test vectors: " + text.encode()).digest()


def uuid(text):
    """A UUID of version 7 by its form."""
    digits = drawn("uuid " + text).hex()
    return f"019ad000-{digits[:4]}-7{digits[4:7]}-8{digits[7:10]}-{digits[10:22]}"


class World:
    def __init__(self, name, about, keys=((NOW - 10**9, None),)):
        self.name, self.about = name, about
        self.uuid = uuid(name + " log")
        self.log = spec.log_id(self.uuid)
        self.private = [int.from_bytes(drawn(f"{name} key {i}"), "big") % ethereum.N for i in range(len(keys))]
        self.keys = {"format": "patchbay-keys/1", "log": self.log.hex(), "keys": []}
        for i, (start, end) in enumerate(keys):
            address = ethereum.address(self.private[i])
            values = [address, start]
            endorsement = self.sign(SUCCESSION, values, i - 1)["signature"] if i > 0 else None
            self.keys["keys"].append(
                {
                    "address": address,
                    "validFrom": str(start),
                    "validUntil": None if end is None else str(end),
                    "endorsement": endorsement,
                }
            )
        self.documents, self.receipts, self.batches, self.heads = {}, [], [], []
        self.consistency, self.views = [], []

    def sign(self, declaration, values, key=0):
        digest = ethereum.typed_digest(self.log, declaration, values)
        return {"digest": digest.hex(), "signature": ethereum.sign(self.private[key], digest)}

    def document(self, document):
        if document is None:
            return ""
        self.documents[spec.digest(document)] = document
        return spec.digest(document)

    def receipt(self, name, counts, parts, priority="STANDARD", **more):
        prompt, cached, completion = counts
        prompt_ids, output_ids = list(range(7, 7 + prompt)), list(range(300, 300 + completion))
        text_salt, secret = drawn(f"{self.name} {name} text salt"), drawn(f"{self.name} {name} K")
        parts = sorted(parts, key=lambda part: part.get("version") or "")
        weights = [part["weight"] for part in parts]
        shares = spec.shares(weights) if len(parts) > 1 else ["1/1"]
        currencies = {part["price"]["currency"] for part in parts if part["price"] is not None}
        request = {
            "tenant": uuid("tenant"),
            "tenantCounter": f"3:{len(self.receipts) + 41}",
            "key": uuid("api key"),
            "backbone": drawn("backbone").hex(),
            "priority": priority,
            "promptTokens": str(prompt),
            "cachedPromptTokens": str(cached),
            "completionTokens": str(completion),
            "promptCommitment": spec.text_commitment(b"patchbay:prompt:v1\0", text_salt, prompt_ids).hex(),
            "outputCommitment": spec.text_commitment(b"patchbay:output:v1\0", text_salt, output_ids).hex(),
            "admittedAt": str((NOW - 2000) * 1000 + 123),
            "endedAt": str((NOW - 1000) * 1000 + 456),
            "finish": "stop",
            "settledBy": "engine",
            "currency": "".join(currencies),
            **more,
        }
        values, expected = [], []
        for number, (part, share) in enumerate(zip(parts, shares)):
            adapter = part.get("version") is not None
            due = spec.amounts(counts, share, part, priority)
            split = part.get("split")
            expected.append(
                {
                    **{key: "" if value is None else str(value) for key, value in due.items()},
                    "earnings": spec.divide(due["royalty"] - due["fee"], split["beneficiaries"]) if split else None,
                }
            )
            fields = {
                "version": part.get("version") or "",
                "digest": drawn(f"content {part['version']}").hex() if adapter else "",
                "weight": spec.weight_hex(part["weight"]) if adapter else "",
                "share": share,
                "owner": part.get("owner") or "",
                "counter": part.get("counter", f"0:{number + 7}") if adapter else "",
                "rank": str(part["rank"]) if adapter and part["price"] is not None else "",
                "price": self.document(part["price"]),
                "royaltyTerms": self.document(part.get("royalty")),
                "split": self.document(split),
                **{key: "" if value is None else str(value) for key, value in due.items()},
            }
            values += [(f"part.{number}.{key}", fields[key]) for key in spec.PART]
        totals = [part["total"] for part in expected]
        request["amount"] = "" if "" in totals else str(sum(int(total) for total in totals))
        values = [(key, request[key]) for key in spec.REQUEST] + values
        fields = []
        for index, (key, value) in enumerate(values):
            salt = spec.salt(secret, index)
            fields.append(
                {
                    "index": index,
                    "name": key,
                    "value": value,
                    "salt": salt.hex(),
                    "commitment": spec.commitment(index, salt, value).hex(),
                }
            )
        receipt_id = uuid(f"{self.name} {name}")
        body = spec.body(self.log, receipt_id, [bytes.fromhex(f["commitment"]) for f in fields])
        self.receipts.append(
            {
                "id": receipt_id,
                "secret": secret.hex(),
                "textSalt": text_salt.hex(),
                "promptIds": prompt_ids,
                "outputIds": output_ids,
                "fields": fields,
                "body": body.hex(),
                "leaf": spec.leaf_hash(body).hex(),
                "parts": expected,
            }
        )
        return len(self.receipts) - 1

    def batch(self, receipts, signed_at=NOW, key=0):
        leaves = [bytes.fromhex(self.receipts[i]["leaf"]) for i in receipts]
        root = spec.root(leaves)
        self.batches.append(
            {
                "receipts": list(receipts),
                "root": root.hex(),
                "size": str(len(leaves)),
                "signedAt": str(signed_at),
                **self.sign(BATCH, [root, len(leaves), signed_at], key),
                "paths": [[h.hex() for h in spec.path(i, leaves)] for i in range(len(leaves))],
            }
        )

    def head(self, leaves, signed_at=NOW + 1000, key=0):
        root = spec.root(leaves)
        self.heads.append(
            {
                "leaves": [leaf.hex() for leaf in leaves],
                "nodes": spec.nodes(leaves) if leaves else {},
                "paths": [[h.hex() for h in spec.path(i, leaves)] for i in range(len(leaves))],
                "root": root.hex(),
                "size": str(len(leaves)),
                "signedAt": str(signed_at),
                **self.sign(HEAD, [root, len(leaves), signed_at], key),
            }
        )
        return len(self.heads) - 1

    def signed_head(self, number):
        head = self.heads[number]
        return {name: head[name] for name in ("root", "size", "signedAt", "signature")}

    def connect(self, first, second):
        """The consistency proof between two heads."""
        a, b = self.signed_head(first), self.signed_head(second)
        leaves = [bytes.fromhex(leaf) for leaf in self.heads[second]["leaves"]]
        self.consistency.append(
            {
                "format": "patchbay-consistency/1",
                "log": self.log.hex(),
                "first": a["size"],
                "second": b["size"],
                "path": [h.hex() for h in spec.consistency(int(a["size"]), leaves)],
                "firstHead": a,
                "secondHead": b,
            }
        )

    def view(self, reader, receipt, head=None):
        """The receipt as it is handed out to a reader."""
        found = self.receipts[receipt]
        opened = [found["fields"][i] for i in spec.opened_indexes(reader, found["fields"])]
        named = [f["value"] for f in opened if f["name"].split(".")[-1] in ("price", "royaltyTerms", "split")]
        batch = next(b for b in self.batches if receipt in b["receipts"])
        place = batch["receipts"].index(receipt)
        inclusion = None
        if head is not None:
            index = self.heads[head]["leaves"].index(found["leaf"])
            inclusion = {
                "index": str(index),
                "path": self.heads[head]["paths"][index],
                "head": self.signed_head(head),
            }
        document = {
            "format": "patchbay-receipt/1",
            "log": self.log.hex(),
            "id": found["id"],
            "commitments": [f["commitment"] for f in found["fields"]],
            "opened": [{key: f[key] for key in ("index", "name", "salt", "value")} for f in opened],
            "batch": {
                "size": batch["size"],
                "index": str(place),
                "path": batch["paths"][place],
                "signedAt": batch["signedAt"],
                "signature": batch["signature"],
            },
            "inclusion": inclusion,
            "documents": [self.documents[name] for name in dict.fromkeys(named) if name != ""],
        }
        self.views.append({"reader": reader, "receipt": receipt, "document": document})

    def result(self):
        return {
            "about": self.about,
            "log": {"uuid": self.uuid, "id": self.log.hex()},
            "privateKeys": [private.to_bytes(32, "big").hex() for private in self.private],
            "keys": self.keys,
            "documents": [
                {"digest": name, "canonical": spec.canonical(document)} for name, document in self.documents.items()
            ],
            "receipts": self.receipts,
            "batches": self.batches,
            "heads": self.heads,
            "consistency": self.consistency,
            "views": self.views,
        }
