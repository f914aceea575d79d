"""Pretrain the backbone on the generated corpus and write it in Hugging Face layout.

One thread is used on purpose: the matrices are so small that a second thread costs
more in synchronisation than it gives.
"""
import argparse
import json
import math
import random
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import data
import safetensors
from model import CONFIG, Llama
from tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent


class Packer:
    """Fill rows with whole documents, so that no answer is cut off from its question."""

    def __init__(self, tok, seed):
        self.tok, self.r, self.waiting = tok, random.Random(seed), []

    def batch(self, rows, width, make=None):
        ids, weights = [[] for _ in range(rows)], [[] for _ in range(rows)]
        misses = 0
        while misses < 6:
            doc = encode_whole(self.tok, (make or data.document)(self.r))
            for i in range(rows):
                if len(ids[i]) + len(doc[0]) <= width:
                    ids[i] += doc[0]
                    weights[i] += doc[1]
                    break
            else:
                misses += 1
        pad = self.tok.special[data.EOS]
        for i in range(rows):
            weights[i] += [0.0] * (width - len(ids[i]))
            ids[i] += [pad] * (width - len(ids[i]))
        return torch.tensor(ids), torch.tensor(weights)


def encode_whole(tok, pieces):
    """Encode the joined text; a token takes the weight of the piece it ends in."""
    text = "".join(t for t, _ in pieces)
    ids = tok.encode(text)
    ends, at = [], 0
    for t, w in pieces:
        at += len(t.encode())
        ends.append((at, w))
    weights, at, k = [], 0, 0
    for i in ids:
        t = tok.tokens[i]
        at += len(t)  # Each character of a byte-level token stands for one byte.
        while ends[k][0] < at:
            k += 1
        weights.append(ends[k][1])
    return ids, weights


def backward(model, ids, weights, tokens=512):
    """Accumulate the gradient of the weighted loss.

    The rows go through in small groups, because the activations of about 512 tokens
    still fit in the processor's cache.
    """
    total, value = weights[:, 1:].sum(), 0.0
    group = max(1, tokens // ids.shape[1])
    for x, w in zip(ids.split(group), weights.split(group)):
        logits = model(x[:, :-1])
        losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), x[:, 1:].reshape(-1),
                                 reduction="none")
        loss = (losses * w[:, 1:].reshape(-1)).sum() / total
        loss.backward()
        value += loss.item()
    return value


def probe(model, tok):
    """Measure how often the predictable parts of each document kind are predicted.

    The sorting line uses held-out words, but only reports: nothing is chosen by it.
    """
    model.eval()
    out = []
    with torch.no_grad():
        for make, _ in data.MIX:
            ids, w = Packer(tok, 777).batch(8, 160, lambda r: make(r) + [(data.EOS, 1.0)])
            logits = model(ids[:, :-1])
            right = (logits.argmax(-1) == ids[:, 1:]) & (w[:, 1:] == 1.0)
            out.append(f"{make.__name__[4:]} {right.sum().item() / max(1, (w[:, 1:] == 1.0).sum().item()):.3f}")
        r, prompts, wanted = random.Random(9), [], []
        for _ in range(64):
            text, answer = data.sample("sort", r, evaluation=True)
            prompts.append(tok.encode(f"List: {text}\nA to Z: "[:-1]))
            wanted.append(answer)
        got, _ = model.generate(prompts, {tok.encode("\n")[0], tok.special[data.EOS]}, 12)
        hit = sum(tok.decode(g).strip() == a for g, a in zip(got, wanted))
        out.append(f"SORTED {hit / 64:.2f}")
    model.train()
    return " ".join(out)


def write(model, folder):
    folder.mkdir(parents=True, exist_ok=True)
    c = model.config
    safetensors.save(folder / "model.safetensors", dict(model.named_parameters()))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        **c, "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
        "bos_token_id": 0, "eos_token_id": [1, 5], "pad_token_id": 1,
        "initializer_range": 0.02, "pretraining_tp": 1, "rope_scaling": None,
        "tie_word_embeddings": True, "torch_dtype": "float16", "use_cache": True,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"bos_token_id": 0, "eos_token_id": [1, 5], "pad_token_id": 1, "do_sample": False,
                  "max_new_tokens": 64}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--steps", type=int, default=6500)
    p.add_argument("--seconds", type=float, default=1620)
    p.add_argument("--lr", type=float, default=2.5e-3)
    p.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "patchbay-starter"))
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tok = Tokenizer(ROOT / "backbone")
    assert CONFIG["vocab_size"] == len(tok.vocab)
    model = Llama().init(0)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    decay = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                            lr=a.lr, betas=(0.9, 0.98))
    packer = Packer(tok, 1)
    start, seen, mean = time.time(), 0, None
    for step in range(a.steps):
        # On a busy machine the clock ends the schedule before the steps do.
        progress = max(step / a.steps, (time.time() - start) / a.seconds)
        if progress >= 1.0:
            break
        lr = a.lr * min(1.0, (step + 1) / 150) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))
        for g in opt.param_groups:
            g["lr"] = lr
        # A few long rows teach the positions that the short rows never reach.
        ids, w = packer.batch(3, 512) if step % 16 == 15 else packer.batch(12, 128)
        opt.zero_grad(set_to_none=True)
        loss = backward(model, ids, w)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        seen += ids.numel()
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        if step % 50 == 49:
            print(f"step {step + 1} loss {mean:.4f} tokens {seen} {seen / (time.time() - start):.0f}/s "
                  f"{time.time() - start:.0f}s", flush=True)
        if step % 250 == 249:
            print("   ", probe(model, tok), flush=True)
            a.work.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), a.work / "backbone.pt")
    write(model, ROOT / "backbone")
    print(f"done after {step} steps, {seen} tokens, {time.time() - start:.0f}s", flush=True)
