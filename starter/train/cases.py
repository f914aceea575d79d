"""Write the held-out evaluation cases and prove that no training input is among them."""
import json
import random
from pathlib import Path

import data

ROOT = Path(__file__).parent.parent
COUNT = 240


def cases(task):
    r, seen = random.Random(f"evaluation {task}"), {}
    while len(seen) < COUNT:
        text, answer = data.sample(task, r, evaluation=True)
        seen.setdefault(text, answer)
    return [{"prompt": data.prompt(t), "answer": a} for t, a in seen.items()]


if __name__ == "__main__":
    (ROOT / "eval").mkdir(exist_ok=True)
    for task in data.TASKS:
        rows = cases(task)
        # The hash split already separates the two sides; this counts it as well.
        r, held = random.Random(f"check {task}"), {c["prompt"] for c in rows}
        training = {data.prompt(data.sample(task, r)[0]) for _ in range(100000)}
        assert not held & training, task
        path = ROOT / "eval" / f"{task}.jsonl"
        path.write_text("".join(json.dumps(c, ensure_ascii=False) + "\n" for c in rows))
        top = max(map([c["answer"] for c in rows].count, {c["answer"] for c in rows}))
        print(f"{task}: {len(rows)} cases, none among {len(training)} training inputs, "
              f"best constant answer {100 * top / len(rows):.1f} %")
