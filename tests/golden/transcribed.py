"""Independent transcriptions of published formulas, for models that Transformers does not have.

Each block(w, x, c) takes the layer's tensors by published name (without the prefix), the rows x [T,D] and the config,
and returns a dict: y, ids, weights, router_logits, and where tokens can be dropped `kept`. Tokens are handled one by
one in plain loops, so that every line can be held against the formula; autograd gives the gradients.
"""
import math

import torch
import torch.nn.functional as F


def top(scores, k):
    """The k largest, larger first, equal ones lower id first."""
    return torch.sort(scores, descending=True, stable=True).indices[:k]


def swiglu(w, name, x, gate="gate_proj", up="up_proj", down="down_proj"):
    inner = F.silu(w[f"{name}.{gate}.weight"] @ x) * (w[f"{name}.{up}.weight"] @ x)
    return w[f"{name}.{down}.weight"] @ inner


def gather(rows):
    """Per-token (y, ids, weights[, kept]) to the dict of stacked tensors."""
    names = ("y", "ids", "weights", "kept")
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(names) if i < len(rows[0])}


def nomic(w, x, c):
    """softmax over E, top k, weights as they are; expert: gelu(erf) without gate; one bias after the sum."""
    E, width = c["num_experts"], c["n_inner"]
    logits = x @ w["router.layer.weight"].T
    scores = torch.softmax(logits, dim=-1)
    w1 = w["experts.mlp.w1"].reshape(E, width, -1)
    w2 = w["experts.mlp.w2"].reshape(E, width, -1)
    rows = []
    for t in range(x.shape[0]):
        ids = top(scores[t], c["moe_top_k"])
        y = torch.zeros_like(x[t])
        for e in ids:
            y = y + scores[t, e] * (F.gelu(w1[e] @ x[t]) @ w2[e])
        rows.append((y + w["experts.bias"], ids, scores[t, ids]))
    return gather(rows) | {"router_logits": logits}


def arctic(w, x, c):
    """softmax over E, top k, divided by their sum if k > 1; experts w1 (gate), w3 (up), w2 (down)."""
    logits = x @ w["gate.weight"].T
    scores = torch.softmax(logits, dim=-1)
    k = c["num_experts_per_tok"]
    rows = []
    for t in range(x.shape[0]):
        ids = top(scores[t], k)
        weights = scores[t, ids]
        if k > 1:
            weights = weights / weights.sum()
        y = sum(weights[j] * swiglu(w, f"experts.{e}", x[t], "w1", "w3", "w2") for j, e in enumerate(ids))
        rows.append((y, ids, weights))
    return gather(rows) | {"router_logits": logits}


def grok(w, x, c):
    """softmax over E of the (soft-capped) logits, top k, undivided; expert: linear_1(gelu_tanh(linear) * linear_v)."""
    logits = x @ w["gate.weight"].T
    cap = c.get("router_logit_softcapping")
    capped = cap * torch.tanh(logits / cap) if cap else logits
    scores = torch.softmax(capped, dim=-1)
    rows = []
    for t in range(x.shape[0]):
        ids = top(scores[t], c["num_experts_per_tok"])
        y = torch.zeros_like(x[t])
        for e in ids:
            gate = F.gelu(w[f"experts.{e}.linear.weight"] @ x[t], approximate="tanh")
            up = w[f"experts.{e}.linear_v.weight"] @ x[t]
            y = y + scores[t, e] * (w[f"experts.{e}.linear_1.weight"] @ (gate * up))
        rows.append((y, ids, scores[t, ids]))
    return gather(rows) | {"router_logits": logits}


def grouped_sigmoid(logits, bias, k, groups, kept_groups, norm, scale):
    """DeepSeek-V3's choice for one token: (ids, weights)."""
    scores = torch.sigmoid(logits)
    choice = (scores + bias).detach()
    if groups > 1:
        parts = choice.reshape(groups, -1)
        group_scores = torch.sort(parts, dim=-1, descending=True).values[:, :2].sum(-1)
        keep = top(group_scores, kept_groups)
        masked = torch.full_like(parts, float("-inf"))
        masked[keep] = parts[keep]
        choice = masked.reshape(-1)
    ids = top(choice, k)
    weights = scores[ids]
    if norm and k > 1:
        weights = weights / (weights.sum() + 1e-20)
    return ids, weights * scale


def bailing(w, x, c):
    """Ling / Ring (BailingMoeV2): sigmoid, groups by their two best of score + bias, shared expert added."""
    logits = x @ w["gate.weight"].T
    rows = []
    for t in range(x.shape[0]):
        ids, weights = grouped_sigmoid(logits[t], w["gate.expert_bias"], c["num_experts_per_tok"], c["n_group"],
                                       c["topk_group"], c["norm_topk_prob"], c["routed_scaling_factor"])
        y = sum(weights[j] * swiglu(w, f"experts.{e}", x[t]) for j, e in enumerate(ids))
        rows.append((y + swiglu(w, "shared_experts", x[t]), ids, weights))
    return gather(rows) | {"router_logits": logits}


def situ(gate, up, beta, linear_beta):
    return beta * torch.tanh(gate / beta) * torch.sigmoid(gate) * (linear_beta * torch.tanh(up / linear_beta))


def kimi_k3(w, x, c):
    """V3 router on x; experts on the latent rows; RMSNorm of the routed sum, then up; shared expert on x."""
    c = c["text_config"]
    beta, linear_beta = c["activation_situ_beta"], c["activation_situ_linear_beta"]
    logits = x @ w["gate.weight"].T
    latent = x @ w["routed_expert_down_proj.weight"].T
    rows = []
    for t in range(x.shape[0]):
        ids, weights = grouped_sigmoid(logits[t], w["gate.e_score_correction_bias"], c["num_experts_per_token"],
                                       c["num_expert_group"], c["topk_group"], c["moe_renormalize"],
                                       c["routed_scaling_factor"])
        total = torch.zeros_like(latent[t])
        for j, e in enumerate(ids):
            inner = situ(w[f"experts.{e}.w1.weight"] @ latent[t], w[f"experts.{e}.w3.weight"] @ latent[t], beta,
                         linear_beta)
            total = total + weights[j] * (w[f"experts.{e}.w2.weight"] @ inner)
        if c["latent_moe_use_norm"]:
            total = total * torch.rsqrt((total * total).mean() + c["rms_norm_eps"]) * w["routed_expert_norm.weight"]
        shared = situ(w["shared_experts.gate_proj.weight"] @ x[t], w["shared_experts.up_proj.weight"] @ x[t], beta,
                      linear_beta)
        y = w["routed_expert_up_proj.weight"] @ total + w["shared_experts.down_proj.weight"] @ shared
        rows.append((y, ids, weights))
    return gather(rows) | {"router_logits": logits}


def tutel(w, x, c):
    """Swin-MoE by Tutel: linear or cosine router, softmax, top k, capacity in order of choice, then of token."""
    k, E = c["top_value"], c["num_local_experts"]
    gate = "_moe_layer.gates.0."
    if c["cosine_router"]:
        projected = F.linear(x, w[gate + "cosine_projector.weight"], w[gate + "cosine_projector.bias"])
        columns = w[gate + "sim_matrix"] / w[gate + "sim_matrix"].norm(dim=0, keepdim=True)
        scale = torch.exp(torch.clamp(w[gate + "temperature"], max=math.log(100.0)))
        logits = projected / projected.norm(dim=1, keepdim=True) @ columns * scale
    else:
        logits = x @ w[gate + "wg.weight"].T
    scores = torch.softmax(logits, dim=-1)
    T = x.shape[0]
    ids = torch.stack([top(scores[t], k) for t in range(T)])
    weights = torch.stack([scores[t, ids[t]] for t in range(T)])
    if k > 1 and c["normalize_gate"]:
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).eps)
    capacity = k * int(c["capacity_factor"] * math.ceil(T / E)) if c["capacity_factor"] > 0 else T
    kept, used = torch.zeros(T, k, dtype=torch.int32), [0] * E
    for j in range(k):
        for t in range(T):
            used[ids[t, j]] += 1
            kept[t, j] = int(used[ids[t, j]] <= capacity)
    experts = "_moe_layer.experts."
    y = []
    for t in range(T):
        row = torch.zeros_like(x[t])
        for j in range(k):
            e = ids[t, j]
            inner = F.gelu(w[experts + "batched_fc1_w"][e] @ x[t] + w[experts + "batched_fc1_bias"][e])
            out = inner @ w[experts + "batched_fc2_w"][e] + w[experts + "batched_fc2_bias"][e]
            row = row + kept[t, j] * weights[t, j] * out
        y.append(row)
    return {"y": torch.stack(y), "ids": ids, "weights": weights, "kept": kept, "router_logits": logits}


def moepp(w, x, c, carry):
    """MoE++: E - 4 SwiGLU experts, two constant, one copy, one zero expert; logits of the layer below come along."""
    E = c["num_experts"][0]
    if c["moe_2layer_gate"]:
        logits = torch.tanh(x @ w["moe.gate.wg.0.weight"].T) @ w["moe.gate.wg.2.weight"].T
    else:
        logits = x @ w["moe.gate.wg.weight"].T
    if carry is not None:
        logits = logits + carry @ w["moe.gate.gate_map.weight"].T
    used = logits
    if c["moe_use_logits_norm"]:
        used = logits / (logits.std(dim=1, keepdim=True) / c["moe_gate_norm_std"])
    scores = torch.softmax(used, dim=-1)
    rows = []
    for t in range(x.shape[0]):
        ids = top(scores[t], 2)
        weights = torch.where(ids == E - 1, torch.zeros(2), scores[t, ids])
        weights = weights / weights.sum()
        row = x[t] if c["moe_feature_no_mul_topk"] else 2 * x[t]
        y = torch.zeros_like(x[t])
        for j, e in enumerate(ids.tolist()):
            name = f"moe.experts.experts.{e}"
            if e < E - 4:
                out = swiglu(w, name, row)
            elif e < E - 2:
                alpha = torch.softmax(w[name + ".wg.weight"] @ row, dim=-1)
                out = alpha[0] * row + alpha[1] * w[name + ".constant"]
            else:
                out = row if e == E - 2 else torch.zeros_like(row)
            y = y + weights[j] * out
        rows.append((y, ids, weights))
    return gather(rows) | {"router_logits": logits}
