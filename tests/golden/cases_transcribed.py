"""Folders made by the transcriptions of transcribed.py: shapes, configs, random weights."""
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import torch

import transcribed
from golden_io import bf16_exact, kept_gradients, write_folder
from hf_block import choice_of, seeded, stable_tokens
from quantised import mxfp4_packed, narrow


@dataclass
class Transcription:
    folder: str
    block: Callable
    config: dict
    prefix: str
    shapes: dict                  # name after the prefix -> shape
    router: str                   # name whose gradient is d_router
    width: int
    seed: int
    bf16: bool
    formula: str
    tokens: int = 7
    keep_f32: str = r"correction_bias|expert_bias|gate\.wg"
    store: Optional[Callable] = None
    carry: Optional[int] = None   # width of the carried logits
    wide: dict = field(default_factory=dict)  # regex -> factor on the random weights
    experts: int = 1


def draw(case, generator):
    weights = {}
    for name, shape in sorted(case.shapes.items()):
        value = torch.randn(shape, generator=generator)
        if re.search("correction_bias|expert_bias", name):
            value = value * 0.15
        elif len(shape) < 2 or "bias" in name:
            value = value * 0.3 + (1.0 if re.search(r"norm|temperature", name) else 0.0)
        else:
            value = value * (1.5 if re.search(r"gate\.|router|wg", name) else 1.2) / shape[-1] ** 0.5
        for pattern, factor in case.wide.items():
            value = value * factor if re.search(pattern, name) else value
        weights[name] = bf16_exact(value) if case.bf16 and not re.search(case.keep_f32, name) else value
    return weights


def make(case):
    torch.manual_seed(case.seed)
    generator = seeded(case.folder, case.seed)
    weights = draw(case, generator)
    if case.store:
        stored, exact = case.store({case.prefix + k: v for k, v in weights.items()})
        weights = {k.removeprefix(case.prefix): v for k, v in exact.items()}
    else:
        stored = {case.prefix + k: narrow(v) if case.bf16 else v for k, v in weights.items()}
    carry = torch.randn(case.tokens, case.carry, generator=generator) if case.carry else None

    def run(rows):
        extra = (carry,) if case.block is transcribed.moepp else ()
        return case.block(weights, rows, case.config, *extra)

    def choice(rows):
        with torch.no_grad():
            return choice_of(run(rows))

    matrix = weights[case.router]
    x = stable_tokens(choice, case.tokens, case.width, generator, matrix if matrix.shape[1] == case.width else None)
    leaf = x.clone().requires_grad_(True)
    for value in weights.values():
        value.requires_grad_(True)
    if carry is not None:
        carry.requires_grad_(True)
    out = run(leaf)
    dy = torch.randn(out["y"].shape, generator=generator)
    (out["y"] * dy).sum().backward()
    expected = {"x": x, "ids": out["ids"].to(torch.int32), "weights": out["weights"], "y": out["y"],
                "router_logits": out["router_logits"], "dy": dy, "dx": leaf.grad}
    if "kept" in out:
        expected["kept"] = out["kept"]
    if carry is not None:
        expected |= {"carry": carry, "d_carry": carry.grad}
    chosen = out["ids"].reshape(-1)
    expert = int(chosen[(chosen < case.experts).nonzero()[-1]])
    gradients = {case.prefix + k: v.grad for k, v in weights.items() if not case.store or k == case.router}
    expected |= kept_gradients(gradients, expert, case.experts, case.prefix + case.router)
    source = (f"independent transcription of {case.formula}; transcribed.{case.block.__name__}, "
              f"torch {torch.__version__}, float32, CPU, seed {case.seed}")
    return write_folder(case.folder, case.config, stored, expected, source)


def per_expert(E, F, D, gate, up, down, prefix="experts."):
    shapes = {}
    for e in range(E):
        shapes |= {f"{prefix}{e}.{gate}.weight": (F, D), f"{prefix}{e}.{up}.weight": (F, D),
                   f"{prefix}{e}.{down}.weight": (D, F)}
    return shapes


def triple(name, F, D):
    return {f"{name}.gate_proj.weight": (F, D), f"{name}.up_proj.weight": (F, D), f"{name}.down_proj.weight": (D, F)}


def nomic(folder, seed, D, F, E, bf16):
    config = {"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "activation_function": "gelu",
              "n_embd": D, "n_inner": F, "n_layer": 2, "n_head": 2, "num_experts": E, "moe_top_k": 2,
              "moe_every_n_layers": 2, "moe_impl": "megablocks", "moe_normalize_expert_weights": False,
              "num_shared_experts": 0, "ffn_div": 1, "expert_choice_router": False, "mlp_fc1_bias": True,
              "mlp_fc2_bias": True, "torch_dtype": "float32"}
    return Transcription(folder, transcribed.nomic, config, "encoder.layers.1.mlp.", {
        "router.layer.weight": (E, D), "experts.mlp.w1": (E * F, D), "experts.mlp.w2": (E * F, D),
        "experts.bias": (D,)}, "router.layer.weight", D, seed, bf16,
        "y = bias + sum s_e gelu_erf(x w1_e^T) w2_e, s = softmax over E (nomic-embed-text-v2-moe)", experts=E)


def arctic(folder, seed, D, F, E, K, bf16):
    config = {"architectures": ["ArcticForCausalLM"], "model_type": "arctic", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K, "moe_layer_frequency": 2,
              "parallel_attn_mlp_res": True, "use_residual": True, "num_hidden_layers": 2, "num_attention_heads": 2,
              "moe_eval_capacity_factor": 1, "moe_train_capacity_factor": 1, "moe_min_capacity": 0,
              "moe_token_dropping": False, "router_aux_loss_coef": 0.001, "torch_dtype": "bfloat16"}
    return Transcription(folder, transcribed.arctic, config, "model.layers.1.block_sparse_moe.",
                         {"gate.weight": (E, D)} | per_expert(E, F, D, "w1", "w3", "w2"), "gate.weight", D, seed, bf16,
                         "the MoE of Snowflake Arctic (the dense residual MLP runs beside it and is not in y)",
                         experts=E)


def grok(folder, seed, D, F, E, K, bf16, cap):
    config = {"architectures": ["Grok1ModelForCausalLM"], "model_type": "grok-1", "hidden_size": D,
              "intermediate_size": F, "num_experts": E, "num_experts_per_tok": K, "num_hidden_layers": 1,
              "num_attention_heads": 2, "max_attn_value": 30.0, "output_router_logits": False,
              "router_aux_loss_coef": 0.001, "torch_dtype": "bfloat16"}
    if cap:
        config["router_logit_softcapping"] = cap
    return Transcription(folder, transcribed.grok, config, "model.layers.0.moe_block.",
                         {"gate.weight": (E, D)} | per_expert(E, F, D, "linear", "linear_v", "linear_1"),
                         "gate.weight", D, seed, bf16, "Grok-1's MoE as in xAI's JAX code (softmax over E, no division)"
                         + (f", with the serving engines' soft cap {cap}" if cap else ""), experts=E,
                         wide={r"gate\.weight": 3.0} if cap else {})


def bailing(folder, seed, D, F, E, K, groups, kept, bf16):
    config = {"architectures": ["BailingMoeV2ForCausalLM"], "model_type": "bailing_moe", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E,
              "num_experts_per_tok": K, "num_shared_experts": 1, "moe_shared_expert_intermediate_size": F,
              "n_group": groups, "topk_group": kept, "norm_topk_prob": True, "routed_scaling_factor": 2.5,
              "score_function": "sigmoid", "moe_router_enable_expert_bias": True, "router_dtype": "fp32",
              "first_k_dense_replace": 1, "num_hidden_layers": 2, "num_attention_heads": 2, "use_bias": False,
              "torch_dtype": "bfloat16"}
    return Transcription(folder, transcribed.bailing, config, "model.layers.1.mlp.",
                         {"gate.weight": (E, D), "gate.expert_bias": (E,)}
                         | per_expert(E, F, D, "gate_proj", "up_proj", "down_proj") | triple("shared_experts", F, D),
                         "gate.weight", D, seed, bf16, "BailingMoeV2's block (Ling, Ring): DeepSeek-V3's router",
                         experts=E)


def kimi_k3(folder, seed, D, latent, F, E, K, shared, norm):
    text = {"architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "hidden_act": "situ",
            "activation_situ_beta": 4.0, "activation_situ_linear_beta": 25.0, "hidden_size": D,
            "intermediate_size": 36, "moe_intermediate_size": F, "routed_expert_hidden_size": latent,
            "latent_moe_use_norm": norm, "num_experts": E, "num_experts_per_token": K, "num_shared_experts": shared,
            "num_expert_group": 1, "topk_group": 1, "use_grouped_topk": True, "topk_method": "noaux_tc",
            "moe_renormalize": True, "moe_router_activation_func": "sigmoid", "routed_scaling_factor": 2.446,
            "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_hidden_layers": 2, "num_attention_heads": 2,
            "rms_norm_eps": 1e-5, "quantization_config": {
                "config_groups": {"group_0": {"input_activations": None, "output_activations": None,
                                              "targets": ["Linear"], "weights": {
                                                  "dynamic": False, "group_size": 32, "num_bits": 4,
                                                  "scale_dtype": "torch.uint8", "strategy": "group",
                                                  "symmetric": True, "type": "float"}}},
                "format": "mxfp4-pack-quantized", "quant_method": "compressed-tensors"}}
    config = {"architectures": ["KimiK3ForConditionalGeneration"], "model_type": "kimi_k3", "text_config": text,
              "torch_dtype": "bfloat16"}
    shapes = {"gate.weight": (E, D), "gate.e_score_correction_bias": (E,),
              "routed_expert_down_proj.weight": (latent, D), "routed_expert_up_proj.weight": (D, latent)}
    if norm:
        shapes["routed_expert_norm.weight"] = (latent,)
    return Transcription(folder, transcribed.kimi_k3, config, "language_model.model.layers.1.block_sparse_moe.",
                         shapes | per_expert(E, F, latent, "w1", "w3", "w2") | triple("shared_experts", F * shared, D),
                         "gate.weight", D, seed, True, "Kimi K3's latent MoE with SiTU, MXFP4 experts dequantised",
                         experts=E, store=mxfp4_packed, wide={r"w1\.weight|w3\.weight": 4.0})


def swin(folder, seed, D, F, E, K, bf16, cosine, factor, projected=10):
    config = {"model_type": "swin_moe", "hidden_size": D, "num_local_experts": E, "top_value": K,
              "capacity_factor": factor, "cosine_router": cosine, "cosine_router_dim": projected,
              "normalize_gate": True, "use_bpr": False, "mlp_ratio": F / D, "mlp_fc2_bias": True,
              "torch_dtype": "float32"}
    gate, experts = "_moe_layer.gates.0.", "_moe_layer.experts."
    router = {gate + "cosine_projector.weight": (projected, D), gate + "cosine_projector.bias": (projected,),
              gate + "sim_matrix": (projected, E), gate + "temperature": (1,)} if cosine else {
                  gate + "wg.weight": (E, D)}
    return Transcription(folder, transcribed.tutel, config, "layers.2.blocks.1.mlp.", router | {
        experts + "batched_fc1_w": (E, F, D), experts + "batched_fc2_w": (E, F, D),
        experts + "batched_fc1_bias": (E, F), experts + "batched_fc2_bias": (E, D)},
        gate + ("sim_matrix" if cosine else "wg.weight"), D, seed, bf16,
        "Swin-MoE's block by Tutel (gelu experts, bias weighted by the gate); the config keys are Swin-MoE's options",
        tokens=9, keep_f32=r"gates", experts=E)


def moepp(folder, seed, D, F, E, bf16, two_layers, norm, carry):
    config = {"architectures": ["MoEPPForCausalLM"], "model_type": "moepp", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_experts": [E], "moe_expert_interval": 1, "moe_use_mixtral_gating": False,
              "moe_2layer_gate": two_layers, "moe_use_logits_norm": norm, "moe_gate_norm_std": 1.0,
              "moe_feature_no_mul_topk": not two_layers, "num_hidden_layers": 2, "num_attention_heads": 2,
              "torch_dtype": "bfloat16"}
    experts = "moe.experts.experts."
    shapes = per_expert(E - 4, F, D, "gate_proj", "up_proj", "down_proj", experts)
    for e in (E - 4, E - 3):
        shapes |= {f"{experts}{e}.constant": (D,), f"{experts}{e}.wg.weight": (2, D)}
    shapes |= {"moe.gate.wg.0.weight": (8 * E, D), "moe.gate.wg.2.weight": (E, 8 * E)} if two_layers else {
        "moe.gate.wg.weight": (E, D)}
    shapes["moe.gate.gate_map.weight"] = (E, E)
    return Transcription(folder, transcribed.moepp, config, "model.layers.1.mlp.", shapes,
                         "moe.gate.wg.2.weight" if two_layers else "moe.gate.wg.weight", D, seed, bf16,
                         "MoE++'s block", tokens=12, carry=E if carry else None, experts=E - 4,
                         wide={r"wg\.2\.weight": 2.0, "constant": 3.0})


CASES = [
    nomic("nomic_v2", 1, 32, 20, 7, False), nomic("nomic_v2_2", 2, 24, 24, 5, False),
    arctic("arctic", 1, 32, 20, 7, 2, True), arctic("arctic_2", 2, 24, 12, 6, 1, False),
    grok("grok1", 1, 32, 20, 7, 2, True, None), grok("grok1_2", 2, 24, 12, 6, 2, False, 5.0),
    bailing("bailing_v2", 1, 32, 12, 12, 3, 4, 2, True), bailing("bailing_v2_2", 2, 24, 12, 6, 2, 1, 1, False),
    kimi_k3("kimi_k3", 1, 40, 32, 32, 7, 3, 2, True), kimi_k3("kimi_k3_2", 2, 24, 32, 32, 6, 2, 1, False),
    swin("swin_moe", 1, 24, 20, 6, 2, False, True, 0.0), swin("swin_moe_2", 2, 20, 12, 4, 2, False, False, 0.5),
    swin("swin_moe_3", 3, 20, 12, 4, 1, False, True, 1.0),
    moepp("moepp", 1, 24, 20, 8, True, True, False, True), moepp("moepp_2", 2, 20, 12, 7, False, False, True, False),
]
