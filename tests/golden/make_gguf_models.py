"""Blocks of golden folders as GGUF files, written by the `gguf` package: gguf/<folder>.gguf.

pip install gguf torch safetensors; python make_gguf_models.py [folder ...]

Weights are the folders' own (BF16 where they are, else F32), so that a layer loaded from either must give the same
bits. Keys and names of tensors are those of the package's constants; which of a model's tensors becomes which is what
llama.cpp's converter does.
"""
import json
import os
import sys

import gguf
import numpy
import torch
from safetensors.torch import load_file

ROOT = os.path.dirname(os.path.abspath(__file__))
ARCH = gguf.MODEL_ARCH
TENSOR = gguf.MODEL_TENSOR


def first(table, *keys):
    """Of the first key that is there; of a list by layers its first entry (they are alike)."""
    for key in keys:
        if table.get(key) is not None:
            return table[key][0] if isinstance(table[key], list) else table[key]
    return None


class Block:
    """One layer of a golden folder."""

    def __init__(self, folder):
        with open(os.path.join(ROOT, folder, "config.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        self.tensors = load_file(os.path.join(ROOT, folder, "model.safetensors"))

    def find(self, *tails):
        for tail in tails:
            for name, value in self.tensors.items():
                if name.endswith(tail):
                    return value
        return None

    def experts(self, *tails):
        """[E, out, in] of one tensor per expert."""
        for tail in tails:
            found = {}
            for name, value in self.tensors.items():
                parts = name.split(".")
                if "experts" in parts and name.endswith(tail) and parts[parts.index("experts") + 1].isdigit():
                    found[int(parts[parts.index("experts") + 1])] = value
            if found:
                return torch.stack([found[e] for e in range(len(found))])
        return None

    def layer(self):
        for name in self.tensors:
            parts = name.split(".")
            for key in ("layers", "blocks"):
                if key in parts:
                    return int(parts[parts.index(key) + 1])
        raise ValueError("no layer")


def write(folder, arch, extra=None, hidden_key=None):
    block = Block(folder)
    config = block.config.get("text_config", block.config)
    layer = block.layer()
    os.makedirs(os.path.join(ROOT, "gguf"), exist_ok=True)
    path = os.path.join(ROOT, "gguf", folder + ".gguf")
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    ffn = config.get("ffn_config", config)
    layers = first(config, "num_hidden_layers", "n_layers")
    writer.add_block_count(layers)
    writer.add_embedding_length(first(config, "hidden_size", "d_model"))
    writer.add_expert_count(first(ffn, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"))
    writer.add_expert_used_count(first(ffn, "num_experts_per_tok", "moe_topk", "moe_k", "moe_top_k",
                                       "num_experts_per_token", "top_k_experts"))
    if hidden_key:
        writer.add_expert_feed_forward_length(first(ffn, hidden_key))
    if extra:
        extra(writer, config)

    def name(tensor, suffix="weight"):
        return gguf.TENSOR_NAMES[tensor].format(bid=layer) + "." + suffix

    def add(tensor, value, suffix="weight"):
        if value is None:
            return
        value = value.contiguous()
        if value.dtype == torch.bfloat16 and value.dim() > 1 and suffix == "weight":
            raw = value.view(torch.int16).numpy().view(numpy.uint8)
            writer.add_tensor(name(tensor, suffix), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name(tensor, suffix), value.float().numpy())

    router = block.find("gate.weight", "router.layer.weight", "router.weight", "gate.wg.weight",
                        "router.proj.weight")
    bias = block.find("e_score_correction_bias", "expert_bias")
    add(TENSOR.FFN_GATE_INP, router)
    if arch == ARCH.GPT_OSS:
        add(TENSOR.FFN_GATE_INP, block.find("router.bias"), "bias")
    add(TENSOR.FFN_EXP_PROBS_B, None if bias is None else bias.reshape(-1), "bias")
    gate, up, down = (block.experts("gate_proj.weight", "w1.weight"), block.experts("up_proj.weight", "w3.weight"),
                      block.experts("down_proj.weight", "w2.weight"))
    if gate is None:
        both = block.find("experts.gate_up_proj", "input_linear.weight")
        down = block.find("experts.down_proj", "output_linear.weight")
        if arch in (ARCH.LLAMA4, ARCH.GPT_OSS):
            both, down = both.transpose(1, 2), down.transpose(1, 2)
        if arch == ARCH.GPT_OSS:
            gate, up = both[:, 0::2], both[:, 1::2]
        elif both is not None:
            gate, up = both.chunk(2, dim=1)
    if arch == ARCH.GEMMA4:  # the router's scale, the factor of an expert, the dense MLP beside the block
        add(TENSOR.FFN_GATE_INP, block.find("router.scale"), "scale")
        add(TENSOR.FFN_DOWN_EXP, block.find("router.per_expert_scale"), "scale")
        for ours, theirs in ((TENSOR.FFN_GATE, "gate_proj"), (TENSOR.FFN_UP, "up_proj"),
                             (TENSOR.FFN_DOWN, "down_proj")):
            add(ours, block.find(f".mlp.{theirs}.weight"))
        add(TENSOR.FFN_PRE_NORM_2, block.find("pre_feedforward_layernorm_2.weight"))
        if folder == "gemma4":  # the other one's gate and up in tensors of their own
            add(TENSOR.FFN_GATE_UP_EXP, both)
            gate = up = None
    if arch == ARCH.NEMOTRON_H_MOE:
        up, down = block.experts("up_proj.weight"), block.experts("down_proj.weight")
        gate = None
        add(TENSOR.MOE_LATENT_DOWN, block.find("fc1_latent_proj.weight"))
        add(TENSOR.MOE_LATENT_UP, block.find("fc2_latent_proj.weight"))
    if arch == ARCH.DBRX:
        experts = ffn["moe_num_experts"]
        gate, up, down = (block.find("experts.mlp." + n).reshape(experts, ffn["ffn_hidden_size"], -1)
                          for n in ("w1", "v1", "w2"))
        down = down.transpose(1, 2)
    add(TENSOR.FFN_GATE_EXP, gate)
    add(TENSOR.FFN_UP_EXP, up)
    add(TENSOR.FFN_DOWN_EXP, down)
    if arch == ARCH.GPT_OSS:
        both = block.find("gate_up_proj_bias")
        add(TENSOR.FFN_GATE_EXP, both[:, 0::2], "bias")
        add(TENSOR.FFN_UP_EXP, both[:, 1::2], "bias")
        add(TENSOR.FFN_DOWN_EXP, block.find("down_proj_bias"), "bias")
    for ours, theirs in ((TENSOR.FFN_GATE_SHEXP, "gate_proj"), (TENSOR.FFN_UP_SHEXP, "up_proj"),
                         (TENSOR.FFN_DOWN_SHEXP, "down_proj")):
        add(ours, block.find(*("%s.%s.weight" % (s, theirs)
                               for s in ("shared_expert", "shared_experts", "shared_mlp"))))
    gates = block.find("shared_expert_gate.weight")
    add(TENSOR.FFN_GATE_INP_SHEXP, None if gates is None else gates.reshape(-1))
    if arch == ARCH.GRANITE_MOE and block.find("shared_mlp.input_linear.weight") is not None:
        first_half, second_half = block.find("shared_mlp.input_linear.weight").chunk(2, dim=0)
        add(TENSOR.FFN_GATE_SHEXP, first_half)
        add(TENSOR.FFN_UP_SHEXP, second_half)
        add(TENSOR.FFN_DOWN_SHEXP, block.find("shared_mlp.output_linear.weight"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.chmod(path, 0o644)


def told(dense="first_k_dense_replace", norm="norm_topk_prob", scale="routed_scaling_factor", groups=False):
    def extra(writer, config):
        writer.add_leading_dense_block_count(config.get(dense, 0))
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_norm(config.get(norm, True))
        writer.add_expert_weights_scale(config.get(scale, 1.0))
        if groups and config.get("n_group"):
            writer.add_expert_group_count(config["n_group"])
            writer.add_expert_group_used_count(config["topk_group"])
    return extra


def dense_lead(key):
    return lambda writer, config: writer.add_leading_dense_block_count(config[key])


def deepseek_v2(writer, config):
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    writer.add_expert_weights_norm(config["norm_topk_prob"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])


def ernie(writer, config):
    writer.add_leading_dense_block_count(config["moe_layer_start_index"])
    writer.add_interleave_moe_layer_step(config["moe_layer_interval"])


def nemotron(writer, config):
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_shared_feed_forward_length(config["moe_shared_expert_intermediate_size"])
    writer.add_expert_weights_norm(config["norm_topk_prob"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_group_count(config["n_group"])
    if config.get("moe_latent_size"):
        writer.add_moe_latent_size(config["moe_latent_size"])


FILES = [
    ("mixtral", ARCH.LLAMA, None, None),
    ("llama4", ARCH.LLAMA4, None, "intermediate_size"),
    ("qwen2_moe", ARCH.QWEN2MOE, None, "moe_intermediate_size"),
    ("qwen3_moe", ARCH.QWEN3MOE, None, "moe_intermediate_size"),
    ("qwen3_next", ARCH.QWEN3NEXT, None, "moe_intermediate_size"),
    ("olmoe", ARCH.OLMOE, None, None),
    ("granitemoe", ARCH.GRANITE_MOE, None, None),
    ("granitemoeshared", ARCH.GRANITE_MOE, None, None),
    ("dbrx", ARCH.DBRX, None, None),
    ("deepseek_v1", ARCH.DEEPSEEK, dense_lead("first_k_dense_replace"), "moe_intermediate_size"),
    ("deepseek_v2_2", ARCH.DEEPSEEK2, deepseek_v2, "moe_intermediate_size"),
    ("deepseek_v3", ARCH.DEEPSEEK2, told(groups=True), "moe_intermediate_size"),
    ("glm4_moe", ARCH.GLM4_MOE, told(groups=True), "moe_intermediate_size"),
    ("dots1", ARCH.DOTS1, told(), "moe_intermediate_size"),
    ("minimax_m2", ARCH.MINIMAXM2, lambda w, c: w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID), None),
    ("bailing_v2", ARCH.BAILINGMOE2, told(groups=True), "moe_intermediate_size"),
    ("afmoe", ARCH.AFMOE, told("num_dense_layers", "route_norm", "route_scale"), "moe_intermediate_size"),
    ("lfm2_moe", ARCH.LFM2MOE, dense_lead("num_dense_layers"), "moe_intermediate_size"),
    ("ernie4_5_moe", ARCH.ERNIE4_5_MOE, ernie, "moe_intermediate_size"),
    ("hunyuan_v1_moe", ARCH.HUNYUAN_MOE, None, None),
    ("gpt_oss_2", ARCH.GPT_OSS, None, "intermediate_size"),
    ("nemotron_h", ARCH.NEMOTRON_H_MOE, nemotron, "moe_intermediate_size"),
    ("nemotron_h_2", ARCH.NEMOTRON_H_MOE, nemotron, "moe_intermediate_size"),
    ("gemma4", ARCH.GEMMA4, lambda w, c: w.add_layer_norm_rms_eps(c["rms_norm_eps"]), "moe_intermediate_size"),
    ("gemma4_2", ARCH.GEMMA4, lambda w, c: w.add_layer_norm_rms_eps(c["rms_norm_eps"]), "moe_intermediate_size"),
]

if __name__ == "__main__":
    for one in FILES:
        if sys.argv[1:] and one[0] not in sys.argv[1:]:
            continue
        write(*one)
        print(one[0])
