"""The small part of the safetensors format that is needed here."""
import json
import struct

import numpy as np
import torch


def save(path, tensors):
    """Write tensors as float16, sorted by name, with an 8-byte aligned header."""
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        blob = tensors[name].detach().to(torch.float16).contiguous().numpy().tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensors[name].shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            assert t["dtype"] == "F16", t["dtype"]
            a, b = t["data_offsets"]
            array = np.frombuffer(raw[8 + n + a:8 + n + b], np.float16).reshape(t["shape"])
            out[name] = torch.from_numpy(array.astype(np.float32))
    return out
