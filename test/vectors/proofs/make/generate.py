"""Writes the vectors beside this folder; with --check, says whether they are current. Python 3.9 or newer, no packages."""

import json
import pathlib
import sys

from epochs import EpochWorld
from world import NOW, World, drawn, uuid

FOLDER = pathlib.Path(__file__).parent.parent
OWNERS = [uuid("owner 0"), uuid("owner 1")]


def price(name, **more):
    return {
        "format": "patchbay-price/1",
        "id": uuid("price " + name),
        "currency": "USD",
        "inputPerMillion": "150000000",
        "cachedInputPerMillion": "75000001",
        "outputPerMillion": "600000007",
        "rankPerMillion": "1300001",
        "interactivePpm": "1500000",
        "standardPpm": "1000000",
        "batchPpm": "333333",
        "platformFeePpm": "123457",
        **more,
    }


TOKENS = {
    "format": "patchbay-royalty/1",
    "id": uuid("royalty tokens"),
    "kind": "PER_TOKEN",
    "inputPerMillion": "10000003",
    "outputPerMillion": "50000021",
}
SHARE = {"format": "patchbay-royalty/1", "id": uuid("royalty share"), "kind": "SHARE", "sharePpm": "250000"}
SPLIT = {
    "format": "patchbay-split/1",
    "id": uuid("split"),
    "beneficiaries": [
        {"tenant": uuid("beneficiary b"), "parts": "1"},
        {"tenant": uuid("beneficiary a"), "parts": "1"},
        {"tenant": OWNERS[0], "parts": "5"},
    ],
}


def plain(terms):
    return [{"weight": 1.0, "price": terms}]


def adapter(number, weight=1.0, **more):
    return {
        "version": f"{uuid('version')[:-1]}{number}",
        "owner": OWNERS[number],
        "rank": 8 * (number + 1),
        "weight": weight,
        "price": price(f"adapter {number}"),
        **more,
    }


def plain_request():
    world = World("plain", "A request on the plain backbone, alone in its batch and in the log.")
    world.receipt("only", (12, 0, 5), plain(price("backbone")))
    world.batch([0])
    world.head([bytes.fromhex(world.receipts[0]["leaf"])])
    world.view("tenant", 0, 0)
    return world


def one_adapter():
    world = World("adapter", "One adapter with a royalty for tokens and a split; the log does not have it yet.")
    part = adapter(0, 0.75, royalty=TOKENS, split=SPLIT)
    world.receipt("only", (40, 16, 9), [part], priority="INTERACTIVE", finish="length")
    world.batch([0])
    world.view("tenant", 0)
    world.view("owner:" + OWNERS[0], 0)
    return world


def blend():
    world = World("blend", "A blend of two adapters of two owners, seen by the tenant and by each owner.")
    parts = [
        adapter(0, 0.7, royalty=SHARE, split=SPLIT),
        adapter(1, -0.2, royalty=TOKENS, price=price("dear", inputPerMillion="999999999999999")),
    ]
    world.receipt("only", (1021, 512, 77), parts, priority="BATCH")
    world.receipt("neighbour", (3, 0, 1), plain(price("backbone")))
    world.batch([1, 0])
    world.head([bytes.fromhex(world.receipts[i]["leaf"]) for i in (0, 1)])
    for reader in ["tenant", *("owner:" + owner for owner in OWNERS)]:
        world.view(reader, 0, 0)
    return world


def ties():
    world = World("ties", "Amounts that end in exactly one half: rounded to the even neighbour, up and down.")
    parts = [
        adapter(0, 0.5, price=price("half", inputPerMillion="1000000"), royalty=SHARE),
        adapter(1, -0.5, price=price("three halves", inputPerMillion="3000000", platformFeePpm="500000"), royalty=TOKENS),
    ]
    parts[1]["royalty"] = {**TOKENS, "inputPerMillion": "2000000", "outputPerMillion": "0"}
    world.receipt("only", (1, 0, 0), parts, finish="cancelled")
    world.batch([0])
    for reader in ["tenant", *("owner:" + owner for owner in OWNERS)]:
        world.view(reader, 0)
    return world


def batch_of_three():
    world = World("batch", "Three receipts that were signed together, in a log of three.")
    for name, counts in [("a", (5, 0, 2)), ("b", (6, 4, 3)), ("c", (7, 7, 1))]:
        world.receipt(name, counts, plain(price("backbone")))
    world.batch([0, 1, 2])
    world.head([bytes.fromhex(receipt["leaf"]) for receipt in world.receipts])
    for receipt in range(3):
        world.view("tenant", receipt, 0)
    return world


def log(size, about):
    world = World(f"log-{size}", about)
    world.receipt("first", (5, 0, 2), plain(price("backbone")))
    world.receipt("last", (6, 0, 2), plain(price("backbone")))
    world.batch([0, 1])
    others = [drawn(f"leaf {i}") for i in range(size - 2)]
    ends = [bytes.fromhex(receipt["leaf"]) for receipt in world.receipts]
    leaves = [ends[0], *others, ends[1]] if size > 1 else ends[:1]
    heads = [world.head(leaves[:n], NOW + 1000 * (n + 1)) for n in range(size + 1)]
    for first in heads:
        world.connect(first, heads[-1])
    world.view("tenant", 0, heads[-1])
    if size > 1:
        world.view("tenant", 1, heads[-1])
    return world


def rotation():
    keys = [(NOW - 10**9, NOW), (NOW, NOW + 5000), (NOW + 6000, None)]
    world = World("rotation", "Three keys after each other: the first signed the batch and a head, the others later heads.", keys)
    world.receipt("only", (5, 0, 2), plain(price("backbone")))
    world.batch([0], NOW - 1)
    leaf = bytes.fromhex(world.receipts[0]["leaf"])
    heads = [
        world.head([leaf], NOW - 1, 0),
        world.head([leaf, drawn("leaf 1")], NOW, 1),
        world.head([leaf, drawn("leaf 1"), drawn("leaf 2")], NOW + 6000, 2),
    ]
    world.connect(heads[0], heads[1])
    world.connect(heads[1], heads[2])
    world.view("tenant", 0, heads[2])
    return world


def erased():
    world = World("erased", "The secret was erased and nothing can be opened; signature and place in the log still hold.")
    world.receipt("only", (1021, 512, 77), [adapter(0, royalty=SHARE, split=SPLIT)])
    world.batch([0])
    world.head([drawn("leaf 0"), bytes.fromhex(world.receipts[0]["leaf"])])
    world.view("nobody", 0, 0)
    return world


def recovered():
    world = World("recovered", "Settled by recovery, before there was any price: nothing is due.")
    part = adapter(0, 0.1, price=None)
    world.receipt("only", (12, 0, 3), [part], settledBy="recovery", finish="error")
    world.batch([0])
    for reader in ["tenant", "owner:" + OWNERS[0]]:
        world.view(reader, 0)
    return world


def epochs():
    world = EpochWorld(
        "epochs",
        "Three epochs: one quarantines a receipt, the next releases it and misses a leaf, the last has that leaf, which has no "
        "record, and no accounts; "
        "statements of present and absent accounts, and claims of two payout trees.",
    )
    tenants = [uuid("asking 0"), uuid("asking 1")]
    numbers = {0: 0, 1: 0}
    of_tenant = {0: 0, 1: 0}

    def request(name, tenant, counts, versions):
        parts = []
        for version in versions:
            numbers[version] += 1
            terms = {"royalty": TOKENS, "split": SPLIT} if version == 0 else {"royalty": SHARE}
            parts.append(adapter(version, 0.5 + version, counter=f"0:{numbers[version]}", **terms))
        of_tenant[tenant] += 1
        more = {"tenant": tenants[tenant], "tenantCounter": f"3:{of_tenant[tenant]}"}
        return world.receipt(name, counts, parts or plain(price("backbone")), **more)

    order = [
        request("a", 0, (400, 16, 90), [0]),
        request("b", 1, (100, 0, 10), []),
        request("c", 0, (70, 0, 7), [0, 1]),
        request("d", 0, (31, 30, 1), [1]),
        request("e", 1, (999, 0, 77), [0]),
        request("f", 0, (5, 0, 5), []),
        request("g", 1, (12, 4, 3), [1]),
    ]
    world.batch(order)
    # The log gets the fifth before the fourth, so that a number is missing in the first epoch and comes in the second.
    leaves = [bytes.fromhex(world.receipts[i]["leaf"]) for i in (0, 1, 2, 4, 3, 5, 6)] + [drawn("leaf without a record")]
    heads = [world.head(leaves[:n], NOW + 1000 * n) for n in (4, 7, 8)]
    world.connect(heads[0], heads[1])
    world.connect(heads[1], heads[2])
    lost = world.request_hash(uuid("a request that was lost"))
    quarantine = [(2, "CAPTURE_DIFFERS")]
    world.epoch(heads[0], [0, 1, 2, 4], quarantine, [], {"tenant": {"3": {0: 3, 1: 2}}, "version": {"0": {0: 3, 1: 2}}})
    world.epoch(
        heads[1],
        [3, 5, 6],
        [(lost, None, "LEAF_MISSING")],
        [(2, 1)],
        {"tenant": {"3": {0: 4, 1: 3}}, "version": {"0": {0: 3, 1: 3}}},
    )
    # The lost leaf comes, and has no record.
    stray = (lost, leaves[7].hex(), "RECORD_MISSING")
    world.epoch(heads[2], [], [stray], [(lost, None, 2)], {"tenant": {}, "version": {}})
    for tenant in tenants:
        for epoch in (1, 2, 3):
            world.statement(epoch, "tenant", tenant)
    for version in (0, 1):
        for epoch in (1, 2, 3):
            world.statement(epoch, "version", f"{uuid('version')[:-1]}{version}")
    for epoch in (1, 2):
        for place in ("start", "middle", "end"):
            world.statement(epoch, "tenant", world.nobody(epoch, place))
    for reader, receipts in [("tenant", range(7)), ("owner:" + OWNERS[0], (0, 2, 4)), ("owner:" + OWNERS[1], (2, 3, 6))]:
        for receipt in receipts:
            world.view(reader, receipt, heads[1])
    accounts = [uuid("beneficiary a"), uuid("beneficiary b"), OWNERS[0], OWNERS[1]]
    world.payouts(1, 6, {tenant: [(9_000_000_000 + 1_234 * i, NOW + 5000)] for i, tenant in enumerate(accounts)})
    world.payouts(
        2, 6, {tenant: [(9_000_000_000 + 1_234 * i, NOW + 5000), (999, NOW + 9000)] for i, tenant in enumerate(accounts)}
    )
    world.payouts(3, 18, {OWNERS[1]: [(9_000_003_702, NOW + 5000), (7, NOW + 9000)]})
    return world


def main():
    worlds = [
        plain_request(),
        one_adapter(),
        blend(),
        ties(),
        batch_of_three(),
        log(1, "A log of one leaf, and how it grew from an empty one."),
        log(7, "A log of seven leaves, the receipts first and last, and how it grew from each smaller one."),
        log(8, "A log of eight leaves, the receipts first and last, and how it grew from each smaller one."),
        rotation(),
        erased(),
        recovered(),
        epochs(),
    ]
    stale = []
    for world in worlds:
        file = FOLDER / f"{world.name}.json"
        text = json.dumps(world.result(), indent=1) + "\n"
        if not file.exists() or file.read_text() != text:
            stale.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(text)
    print(("not current: " if "--check" in sys.argv else "written: ") + ", ".join(stale) if stale else "current")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


main()
