"""A small Llama in plain PyTorch, with optional LoRA on every projection.

The arithmetic follows the Hugging Face implementation (rotary embedding in the
half-split convention, RMSNorm in float32, SwiGLU, grouped-query attention, tied
embeddings), so that the saved weights mean the same thing in any Llama engine.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Linear(nn.Module):
    """A bias-free linear layer that can carry a LoRA pair beside its weight."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.lora_A = None
        self.lora_B = None
        self.scale = 0.0

    def add_lora(self, rank, alpha, generator):
        n_out, n_in = self.weight.shape
        # This is the initialisation that PEFT uses: A is random and B is zero, so
        # that training starts exactly at the backbone's behaviour.
        bound = 1.0 / math.sqrt(n_in)
        a = torch.empty(rank, n_in).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a)
        self.lora_B = nn.Parameter(torch.zeros(n_out, rank))
        self.scale = alpha / rank

    def forward(self, x):
        y = F.linear(x, self.weight)
        if self.lora_A is not None:
            y = y + F.linear(F.linear(x, self.lora_A), self.lora_B * self.scale)
        return y


class Normalise(torch.autograd.Function):
    """RMSNorm with a hand-written gradient, which saves several passes over memory."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).pow_(2).div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * r
        ctx.save_for_backward(unit, r, weight)
        return unit * weight

    @staticmethod
    def backward(ctx, g):
        unit, r, weight = ctx.saved_tensors
        gw = None
        t = g * unit
        if ctx.needs_input_grad[1]:
            gw = t.flatten(0, -2).sum(0)
        mean = torch.matmul(t, weight[:, None]) / unit.shape[-1]
        return torch.addcmul(g * weight, unit, mean, value=-1).mul_(r), gw, None


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        return Normalise.apply(x, self.weight, self.eps)


class Rotate(torch.autograd.Function):
    """Rotary embedding in the half-split convention.

    `sin` has a negative first half, so rolling by half the width is all that is
    needed to pair the halves.
    """

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        return torch.addcmul(x * cos, torch.roll(x, half, -1), sin)

    @staticmethod
    def backward(ctx, g):
        cos, sin = ctx.saved_tensors
        half = g.shape[-1] // 2
        return torch.addcmul(g * cos, torch.roll(g, half, -1), torch.roll(sin, half, -1)), None, None


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.h, self.kv, self.d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        n = c["hidden_size"]
        self.q_proj = Linear(n, self.h * self.d)
        self.k_proj = Linear(n, self.kv * self.d)
        self.v_proj = Linear(n, self.kv * self.d)
        self.o_proj = Linear(self.h * self.d, n)

    def forward(self, x, cos, sin, mask, cache=None):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.h, self.d).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv, self.d).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv, self.d).transpose(1, 2)
        q, k = Rotate.apply(q, cos, sin), Rotate.apply(k, cos, sin)
        if cache is not None:
            if "k" in cache:
                k, v = torch.cat((cache["k"], k), 2), torch.cat((cache["v"], v), 2)
            cache["k"], cache["v"] = k, v
        if self.kv != self.h:
            k = k.repeat_interleave(self.h // self.kv, 1)
            v = v.repeat_interleave(self.h // self.kv, 1)
        s = k.shape[2]
        flat = [z.reshape(b * self.h, -1, self.d) for z in (q, k, v)]
        # One call scales the scores and adds the mask.
        mask = mask.expand(b, self.h, t, s).reshape(b * self.h, t, s) if mask.shape[0] > 1 else mask[0]
        scores = torch.baddbmm(mask, flat[0], flat[1].transpose(1, 2), alpha=1.0 / math.sqrt(self.d))
        y = torch.bmm(torch.softmax(scores, -1), flat[2]).view(b, self.h, t, self.d)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, self.h * self.d))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        n, m = c["hidden_size"], c["intermediate_size"]
        self.gate_proj = Linear(n, m)
        self.up_proj = Linear(n, m)
        self.down_proj = Linear(m, n)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = MLP(c)

    def forward(self, x, cos, sin, mask, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Inner(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])


class Llama(nn.Module):
    def __init__(self, c=CONFIG):
        super().__init__()
        self.config = c
        self.model = Inner(c)
        d = c["head_dim"]
        inv = c["rope_theta"] ** (-torch.arange(0, d, 2, dtype=torch.float32) / d)
        angle = torch.outer(torch.arange(c["max_position_embeddings"], dtype=torch.float32), inv)
        self.register_buffer("cos", torch.cat((angle.cos(), angle.cos()), -1), persistent=False)
        self.register_buffer("sin", torch.cat((-angle.sin(), angle.sin()), -1), persistent=False)

    def init(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.04 if "embed" in name else 1.0 / math.sqrt(p.shape[1])
                # The two projections that write into the residual stream start
                # smaller, so that its variance does not grow with the depth.
                if "o_proj" in name or "down_proj" in name:
                    std /= math.sqrt(2 * self.config["num_hidden_layers"])
                with torch.no_grad():
                    p.copy_(torch.randn(p.shape, generator=generator) * std)
        return self

    def linears(self):
        return [(n, m) for n, m in self.named_modules() if isinstance(m, Linear)]

    def add_lora(self, rank, alpha, seed):
        generator = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            p.requires_grad_(False)
        for _, m in self.linears():
            m.add_lora(rank, alpha, generator)
        return [p for n, p in self.named_parameters() if "lora_" in n]

    def hidden(self, ids, pad=None, caches=None, past=0):
        """Run the layers on the tokens after the first `past` ones.

        `pad` counts the padding tokens in front of each row. They are masked, and the
        positions of the row start after them.
        """
        b, t = ids.shape
        pos = torch.arange(past, past + t)
        mask = torch.full((t, past + t), -1e9).triu(past + 1)
        if pad is None:
            cos, sin = self.cos[pos], self.sin[pos]
            mask = mask[None, None]
        else:
            p = (pos[None] - pad[:, None]).clamp(min=0)
            cos, sin = self.cos[p][:, None], self.sin[p][:, None]
            hide = torch.arange(past + t)[None] < pad[:, None]
            mask = mask[None, None] + hide[:, None, None].float() * -1e9
        x = self.model.embed_tokens(ids)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, mask, None if caches is None else caches[i])
        return self.model.norm(x)

    def forward(self, ids, **kw):
        return F.linear(self.hidden(ids, **kw), self.model.embed_tokens.weight)

    @torch.no_grad()
    def generate(self, prompts, stop, limit):
        """Decode greedily for a batch of token lists, with left padding and a cache."""
        longest = max(map(len, prompts))
        pad = torch.tensor([longest - len(p) for p in prompts])
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        caches = [{} for _ in self.model.layers]
        out = [[] for _ in prompts]
        done = [False] * len(prompts)
        past = 0
        for _ in range(limit):
            x = self.hidden(ids, pad=pad, caches=caches, past=past)[:, -1]
            past += ids.shape[1]
            nxt = F.linear(x, self.model.embed_tokens.weight).argmax(-1)
            for i, token in enumerate(nxt.tolist()):
                if done[i]:
                    continue
                if token in stop:
                    done[i] = True
                else:
                    out[i].append(token)
            if all(done):
                break
            ids = nxt[:, None]
        return out, done
