"""A block of Qwen2-MoE as W8A8 checkpoints have it, and what their runtime computes: w8a8/qwen2_moe.

pip install numpy safetensors; python make_w8a8.py

The format is compressed-tensors' "int-quantized": of every matrix of the experts codes I8 [out, in] and a scale F32
[out, 1]; rows are rounded while the model runs, to 8 bits with one scale a row (strategy "token", dynamic). Plain loops
of the definition, in float32:
  scale = largest / 127, code = x * (127 / largest) to the nearest integer, ties to even, of every row x
  y = float(sum of products of codes, exact in 32 bits) * scale of the output * scale of the row
Codes of the weights do not use their whole range in every row, and use -128 in some, so that rounding them anew would
show. No number of a row that is rounded is within 1/200 of a step of the middle between two codes, so that codes do not
depend on the order of the sums before.
"""
import json
import os

import numpy as np
from safetensors.numpy import save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "w8a8", "qwen2_moe")
T, D, F, SHARED, E, K = 6, 40, 36, 20, 5, 2
f32 = np.float32

CONFIG = {
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "hidden_act": "silu", "hidden_size": D,
    "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E, "num_experts_per_tok": K,
    "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": 1,
    "output_router_logits": False, "router_aux_loss_coef": 0.001, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "shared_expert_intermediate_size": SHARED,
    "quantization_config": {
        "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*mlp.gate$", "re:.*shared_expert_gate$"],
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token",
                                  "dynamic": True}}}},
}


class Tie(Exception):
    pass


def bf16(x):
    """Nearest bfloat16, as float32."""
    bits = np.asarray(x, f32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(f32)


def round_row(x):
    largest = np.abs(x).max()
    steps = x * (f32(127) / largest)
    if np.abs(np.abs(steps - np.floor(steps)) - 0.5).min() < 0.005:
        raise Tie
    return np.rint(steps).astype(np.int32), largest / f32(127)


class Matrix:
    def __init__(self, random, out, width):
        value = (random.standard_normal((out, width)) / np.sqrt(width)).astype(f32)
        clip = random.uniform(0.7, 1.3, (out, 1))
        self.scale = (np.abs(value).max(1, keepdims=True) * clip / 127).astype(f32)
        self.code = np.clip(np.rint(value / self.scale), -128, 127).astype(np.int8)

    def __call__(self, x):
        code, scale = round_row(x)
        return (self.code.astype(np.int32) @ code).astype(f32) * self.scale[:, 0] * scale


class Expert:
    def __init__(self, random, hidden):
        self.gate_proj, self.up_proj = Matrix(random, hidden, D), Matrix(random, hidden, D)
        self.down_proj = Matrix(random, D, hidden)

    def __call__(self, x):
        gate = self.gate_proj(x)
        return self.down_proj(gate / (f32(1) + np.exp(-gate)) * self.up_proj(x))


def block(seed):
    random = np.random.default_rng(seed)
    router, shared_gate = bf16(random.standard_normal((E, D)) / 2), bf16(random.standard_normal((1, D)) / 6)
    experts = [Expert(random, F) for _ in range(E)]
    shared = Expert(random, SHARED)
    x = random.standard_normal((T, D)).astype(f32)
    ids, weights, y = np.zeros((T, K), np.int32), np.zeros((T, K), f32), np.zeros((T, D), f32)
    for t in range(T):
        logits = router @ x[t]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        order = np.argsort(-p, kind="stable")
        if p[order[K - 1]] - p[order[K]] < 1e-3:
            raise Tie
        ids[t], weights[t] = order[:K], p[order[:K]]
        for e, w in zip(ids[t], weights[t]):
            y[t] += w * experts[e](x[t])
        y[t] += shared(x[t]) / (f32(1) + np.exp(-(shared_gate @ x[t])[0]))
    tensors = {"gate.weight": router, "shared_expert_gate.weight": shared_gate}
    named = {f"experts.{e}.": expert for e, expert in enumerate(experts)} | {"shared_expert.": shared}
    for prefix, expert in named.items():
        for name, matrix in vars(expert).items():
            tensors[prefix + name + ".weight"] = matrix.code
            tensors[prefix + name + ".weight_scale"] = matrix.scale
    return {"model.layers.0.mlp." + k: v for k, v in tensors.items()}, {
        "x": x, "ids": ids, "weights": weights, "y": y, "dy": np.zeros_like(y)}


def main():
    seed = 0
    while True:
        try:
            tensors, expected = block(seed)
            break
        except Tie:
            seed += 1
    os.makedirs(ROOT, exist_ok=True)
    with open(os.path.join(ROOT, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file, indent=1)
        file.write("\n")
    save_file(tensors, os.path.join(ROOT, "model.safetensors"))
    save_file(expected, os.path.join(ROOT, "expected.safetensors"), metadata={"source": "plain loops of W8A8"})
    for name in os.listdir(ROOT):
        os.chmod(os.path.join(ROOT, name), 0o644)
    print("seed", seed)


if __name__ == "__main__":
    main()
