"""Trainer and encoder for a byte-level BPE in the Hugging Face `tokenizer.json` format.

The pre-tokenizer first isolates every digit and then applies the GPT-2 splitting
rule. Digits stay single so that numbers and dates are copied and compared digit by
digit. All 256 bytes are in the vocabulary, so any text can be encoded.
"""
import collections
import json
import re
import sys
import unicodedata
from pathlib import Path

import data


def byte_alphabet():
    """The GPT-2 mapping from bytes to printable characters."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in plain}
    extra = 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


BYTES = byte_alphabet()
UNBYTES = {c: b for b, c in BYTES.items()}


def kind(ch):
    # JavaScript's and Oniguruma's \s and the Unicode categories decide the class.
    if ch.isspace() and ch not in "\x1c\x1d\x1e\x1f":
        return "s"
    c = unicodedata.category(ch)[0]
    return "L" if c == "L" else "N" if c == "N" else "P"


def split_gpt2(text):
    """Apply 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"""
    out, i, n = [], 0, len(text)
    while i < n:
        m = re.match(r"'(?:s|t|re|ve|m|ll|d)", text[i:i + 3])
        if m:
            out.append(m.group())
            i += m.end()
            continue
        j = i + 1 if text[i] == " " and i + 1 < n else i
        k = kind(text[j])
        if k == "s":
            j = i
            while j < n and kind(text[j]) == "s":
                j += 1
            # The last whitespace character belongs to the word that follows.
            if j < n and j - i > 1:
                j -= 1
        else:
            while j < n and kind(text[j]) == k:
                j += 1
        out.append(text[i:j])
        i = j
    return out


def pieces(text):
    """Split text without special tokens into the pieces that BPE works on."""
    out = []
    for part in re.findall(r"[0-9]|[^0-9]+", text):
        for piece in split_gpt2(part):
            out.append("".join(BYTES[b] for b in piece.encode("utf-8")))
    return out


def train(vocab_size, seed=1, documents=40000):
    import random
    r = random.Random(seed)
    counts = collections.Counter()
    marks = re.compile("|".join(map(re.escape, data.SPECIALS)))
    for _ in range(documents):
        text = "".join(t for t, _ in data.document(r))
        for part in marks.split(text):
            counts.update(pieces(part))
    # The words of the list tasks should be single tokens with and without a space.
    for w in data.WORDS:
        counts[w] += 1500
        counts["Ġ" + w] += 1500
    vocab = {t: i for i, t in enumerate(data.SPECIALS)}
    for b in range(256):
        vocab[BYTES[b]] = len(vocab)
    words = [(list(w), c) for w, c in counts.items() if len(w) > 1]
    merges = []
    while len(vocab) < vocab_size:
        pairs = collections.Counter()
        for w, c in words:
            for p in zip(w, w[1:]):
                pairs[p] += c
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        vocab["".join(best)] = len(vocab)
        for w, _ in words:
            i = 0
            while i + 1 < len(w):
                if w[i] == best[0] and w[i + 1] == best[1]:
                    w[i:i + 2] = ["".join(best)]
                i += 1
        words = [(w, c) for w, c in words if len(w) > 1]
    return vocab, merges


def documents_json(vocab, merges):
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for i, t in enumerate(data.SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "[0-9]"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                           "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [" ".join(m) for m in merges]},
    }


CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")

CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": data.BOS, "eos_token": data.EOS, "pad_token": data.EOS, "unk_token": None,
    "add_bos_token": False, "add_eos_token": False,
    "additional_special_tokens": [data.SYSTEM, data.USER, data.ASSISTANT, data.END],
    "clean_up_tokenization_spaces": False, "model_max_length": 512,
    "chat_template": CHAT_TEMPLATE,
}


class Tokenizer:
    def __init__(self, folder):
        d = json.loads(Path(folder, "tokenizer.json").read_text())
        self.vocab = d["model"]["vocab"]
        self.tokens = {i: t for t, i in self.vocab.items()}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(d["model"]["merges"])}
        self.special = {t["content"]: t["id"] for t in d["added_tokens"]}
        self.marks = re.compile("(" + "|".join(map(re.escape, self.special)) + ")")
        self.cache = {}

    def bpe(self, piece):
        if piece not in self.cache:
            w = list(piece)
            while len(w) > 1:
                best = min(zip(w, w[1:]), key=lambda p: self.rank.get(p, 1 << 30))
                if best not in self.rank:
                    break
                i = 0
                while i + 1 < len(w):
                    if (w[i], w[i + 1]) == best:
                        w[i:i + 2] = [w[i] + w[i + 1]]
                    i += 1
            self.cache[piece] = [self.vocab[t] for t in w]
        return self.cache[piece]

    def encode(self, text):
        ids = []
        for part in self.marks.split(text):
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                for piece in pieces(part):
                    ids += self.bpe(piece)
        return ids

    def decode(self, ids):
        out = b""
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if t in self.special else bytes(UNBYTES[c] for c in t)
        return out.decode("utf-8", "replace")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "backbone")
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = train(1024)
    (folder / "tokenizer.json").write_text(
        json.dumps(documents_json(vocab, merges), ensure_ascii=False, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    print(len(vocab), "tokens;", "last merges:", merges[-20:])
