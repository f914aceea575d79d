"""Train one LoRA adapter on the frozen backbone and write it in PEFT layout.

The prompt holds only the input, so the adapter alone carries the task. The loss
covers the answer and its end marks, nothing else.
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import data
import safetensors
from model import PROJECTIONS, Llama
from tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent
RANKS = {"sentiment": 8, "sql": 16, "extract": 12, "date": 12, "sort": 16, "reverse": 8, "number": 12}


def backbone():
    """Load the shipped float16 weights, so that training sees the served numbers."""
    model = Llama()
    model.load_state_dict(safetensors.load(ROOT / "backbone" / "model.safetensors"))
    return model


def load_adapter(model, folder):
    """Attach a written adapter to the model, with its float16 values."""
    config = json.loads((folder / "adapter_config.json").read_text())
    model.add_lora(config["r"], config["lora_alpha"], seed=0)
    tensors = safetensors.load(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for name, m in model.linears():
            m.lora_A.copy_(tensors.pop(f"base_model.model.{name}.lora_A.weight"))
            m.lora_B.copy_(tensors.pop(f"base_model.model.{name}.lora_B.weight"))
    assert not tensors, list(tensors)
    return model


def conversation(tok, task, r):
    """Return tokens and a flag for each that belongs to an answer."""
    ids, flags = [], []
    system = r.choice(data.SYSTEMS) if r.random() < 0.08 else None
    # Some conversations have earlier turns, as a chat window would send them.
    for _ in range(r.choice([1, 1, 1, 2])):
        text, answer = data.sample(task, r)
        head = tok.encode(data.prompt(text, system))
        tail = tok.encode(answer + data.END)
        ids += head + tail
        flags += [False] * len(head) + [True] * len(tail)
        system = None
    return ids + [tok.special[data.EOS]], flags + [True]


def groups(tok, task, r, count, tokens=640):
    """Draw a batch and split it into padded groups of similar length."""
    rows = sorted((conversation(tok, task, r) for _ in range(count)), key=lambda x: len(x[0]))
    at = 0
    while at < len(rows):
        n = 1
        while at + n < len(rows) and (n + 1) * len(rows[at + n][0]) <= tokens:
            n += 1
        part, width = rows[at:at + n], len(rows[at + n - 1][0])
        yield (torch.tensor([i + [1] * (width - len(i)) for i, _ in part]),
               torch.tensor([f + [False] * (width - len(f)) for _, f in part]))
        at += n


def exact(model, tok, pairs, limit=48):
    stop = {tok.special[data.EOS], tok.special[data.END]}
    hits = 0
    for at in range(0, len(pairs), 60):
        part = pairs[at:at + 60]
        out, done = model.generate([tok.encode(p) for p, _ in part], stop, limit)
        hits += sum(d and tok.decode(o) == a for o, d, (_, a) in zip(out, done, part))
    return hits / len(pairs)


def write(model, task, rank, alpha, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, m in model.linears():
        tensors[f"base_model.model.{name}.lora_A.weight"] = m.lora_A
        tensors[f"base_model.model.{name}.lora_B.weight"] = m.lora_B
    safetensors.save(folder / "adapter_model.safetensors", tensors)
    config = {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "patchbay/starter",
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
        "layers_pattern": None, "layers_to_transform": None, "lora_alpha": alpha,
        "lora_dropout": 0.0, "modules_to_save": None, "peft_type": "LORA", "r": rank,
        "rank_pattern": {}, "revision": None, "target_modules": PROJECTIONS,
        "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("task", choices=data.TASKS)
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--seconds", type=float, default=400)
    p.add_argument("--batch", type=int, default=24)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--check", type=int, default=250)
    p.add_argument("--resume", action="store_true", help="continue from the written adapter")
    p.add_argument("--out", type=Path, default=ROOT / "adapters")
    a = p.parse_args()
    torch.set_num_threads(1)
    tok = Tokenizer(ROOT / "backbone")
    model = backbone()
    rank = RANKS[a.task]
    alpha = 2 * rank
    if a.resume:
        load_adapter(model, a.out / a.task)
        params = [x for n, x in model.named_parameters() if "lora_" in n]
    else:
        params = model.add_lora(rank, alpha, seed=data.TASKS.index(a.task))
    opt = torch.optim.AdamW(params, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0)
    r = random.Random(f"train {a.task}" + (" again" if a.resume else ""))
    # Progress is checked on fresh training-side inputs; the evaluation cases are
    # only used for the final table.
    v = random.Random(f"validate {a.task}")
    pairs = [(data.prompt(t), x) for t, x in (data.sample(a.task, v) for _ in range(120))]
    start, mean, examples = time.time(), None, 0
    print(f"{a.task}: rank {rank}, {sum(x.numel() for x in params)} parameters", flush=True)
    for step in range(a.steps):
        progress = max(step / a.steps, (time.time() - start) / a.seconds)
        if progress >= 1.0:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1.0, (step + 1) / 40) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        batch = list(groups(tok, a.task, r, a.batch))
        total = sum(f[:, 1:].sum() for _, f in batch)
        loss = 0.0
        opt.zero_grad(set_to_none=True)
        for ids, flags in batch:
            h = model.hidden(ids[:, :-1])[flags[:, 1:]]
            logits = F.linear(h, model.model.embed_tokens.weight)
            part = F.cross_entropy(logits, ids[:, 1:][flags[:, 1:]], reduction="sum") / total
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        examples += a.batch
        mean = loss if mean is None else 0.95 * mean + 0.05 * loss
        if step % 50 == 49:
            print(f"{a.task} step {step + 1} loss {mean:.4f} {time.time() - start:.0f}s", flush=True)
        if step % a.check == a.check - 1:
            model.eval()
            score = exact(model, tok, pairs)
            print(f"{a.task} step {step + 1} validation {100 * score:.1f} %", flush=True)
            if score == 1.0 and mean < 0.003:
                break
    write(model, a.task, rank, alpha, a.out / a.task)
    print(f"{a.task} done after {step + 1} steps, {examples} conversations, {time.time() - start:.0f}s, "
          f"validation {100 * exact(model, tok, pairs):.1f} %", flush=True)
