"""Measure every adapter, and the plain backbone, on the held-out cases of every task.

A case counts only if the greedy answer equals the expected text exactly and the
model stopped by itself. The result is written to eval/table.md.
"""
import json
import time

import torch

import data
from adapter import ROOT, backbone, exact, load_adapter
from tokenizer import Tokenizer


if __name__ == "__main__":
    torch.set_num_threads(1)
    tok = Tokenizer(ROOT / "backbone")
    tasks = [t for t in data.TASKS if (ROOT / "adapters" / t).exists()]
    cases = {t: [json.loads(l) for l in (ROOT / "eval" / f"{t}.jsonl").read_text().splitlines()]
             for t in tasks}
    lines = ["| Model | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for name in ["plain backbone", *tasks]:
        start = time.time()
        model = backbone()
        if name in tasks:
            load_adapter(model, ROOT / "adapters" / name)
        row = []
        for t in tasks:
            score = 100 * exact(model, tok, [(c["prompt"], c["answer"]) for c in cases[t]])
            row.append(f"**{score:.1f}**" if t == name else f"{score:.1f}")
        title = f"adapter `{name}`" if name in tasks else name
        lines.append(f"| {title} | " + " | ".join(row) + " |")
        print(lines[-1], f"({time.time() - start:.0f}s)", flush=True)
    constant = []
    for t in tasks:
        answers = [c["answer"] for c in cases[t]]
        constant.append(f"{100 * max(map(answers.count, set(answers))) / len(answers):.1f}")
    lines.append("| best constant answer | " + " | ".join(constant) + " |")
    lines.append("| cases | " + " | ".join(str(len(cases[t])) for t in tasks) + " |")
    text = ("# Exact match on held-out cases, in percent\n\nGreedy decoding in float32. A row is a model, "
            "a column is a task; the bold cell is the\nadapter on its own task.\n\n" + "\n".join(lines) + "\n")
    (ROOT / "eval" / "table.md").write_text(text)
