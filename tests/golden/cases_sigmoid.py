"""DeepSeek's line and the other models with sigmoid scores or a correction bias."""
import torch

from cases_softmax import BIG, SMALL, TINY, folder
from hf_block import Case, generic_capture
from quantised import fp4_deepseek_v4, fp8_store, int4_packed

FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8"}
MLA = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
GROUPED = {"seed": 1, "D": 32, "F": 16, "E": 12, "K": 3, "bf16": True}  # experts divide into groups


def deepseek_v3(seed, D, F, E, K, bf16, groups, kept, norm=True, shared=1, scale=2.5, name="deepseek_v3", block=None,
                tokens=7, pack=None, extra=None, targets=(), adjust=None):
    config = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "n_routed_experts": E,
              "num_experts_per_tok": K, "n_shared_experts": shared, "n_group": groups, "topk_group": kept,
              "norm_topk_prob": norm, "routed_scaling_factor": scale, "scoring_func": "sigmoid",
              "topk_method": "noaux_tc", "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_hidden_layers": 2,
              "num_nextn_predict_layers": 1, "ep_size": 1, **MLA, **TINY, **(extra or {})}
    store = pack
    if block:
        config["quantization_config"] = FP8 | {"weight_block_size": list(block)}
        store = fp8_store(block)
    return Case(folder(name, seed), config, "model.layers.1.mlp", "model.layers.1.mlp.", "gate.weight", seed,
                tokens=tokens, bf16=bf16, store=store, targets=targets, adjust=adjust)


def all_negative(block, generator):
    """Correction biases so low that score + bias < 0: groups masked by 0 in place of -inf would win."""
    with torch.no_grad():
        block.gate.e_score_correction_bias -= 1.5


def wide_router(block, generator):
    with torch.no_grad():
        block.gate.weight *= 8.0


def underflow(E, level):
    """Logits near `level`, where the sum of the chosen sigmoids is about as small as the epsilon added to it."""
    return (tuple(level + 0.1 * (i % 5) for i in range(E)),)


def kimi_k2(seed, D, F, E, K, bf16, **options):
    case = deepseek_v3(seed, D, F, E, K, bf16, 1, 1, scale=2.827, name="kimi_k2", **options)
    case.config |= {"model_type": "kimi_k2"}
    case.extra = {"model_type": "deepseek_v3"}
    case.note = "DeepseekV3 code, as the release's own"
    return case


def kimi_k2_thinking(**sizes):
    group = {"input_activations": None, "output_activations": None, "targets": ["Linear"], "weights": {
        "actorder": None, "block_structure": None, "dynamic": False, "group_size": 32, "num_bits": 4,
        "observer": "minmax", "observer_kwargs": {}, "strategy": "group", "symmetric": True, "type": "int"}}
    case = kimi_k2(**sizes, pack=int4_packed)
    case.config["quantization_config"] = {
        "config_groups": {"group_0": group}, "format": "pack-quantized", "kv_cache_scheme": None,
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"],
        "quant_method": "compressed-tensors", "quantization_status": "compressed"}
    return case


def deepseek_v2(seed, D, F, E, K, bf16, method, groups, kept, scale, name="deepseek_v2", model_type="deepseek_v2"):
    config = {"architectures": ["DeepseekV2ForCausalLM"], "model_type": model_type, "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "n_routed_experts": E,
              "num_experts_per_tok": K, "n_shared_experts": 2, "n_group": groups, "topk_group": kept,
              "norm_topk_prob": False, "routed_scaling_factor": scale, "scoring_func": "softmax",
              "topk_method": method, "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_hidden_layers": 2,
              "aux_loss_alpha": 0.001, "seq_aux": True, "ep_size": 1, **MLA, **TINY}
    return Case(folder(name, seed), config, "model.layers.1.mlp", "model.layers.1.mlp.", "gate.weight", seed,
                bf16=bf16)


def deepseek_v1(seed, D, F, E, K, bf16):
    case = deepseek_v2(seed, D, F, E, K, bf16, "greedy", 1, 1, 1.0, name="deepseek_v1")
    case.extra = {k: v for k, v in case.config.items() if k in (*MLA, "topk_method", "n_group", "topk_group",
                                                                  "routed_scaling_factor", "ep_size")}
    case.extra["model_type"] = "deepseek_v2"
    for key in case.extra:
        case.config.pop(key, None)
    case.config |= {"model_type": "deepseek", "architectures": ["DeepseekForCausalLM"]}
    case.note = "DeepSeek-V1's block as V2's greedy with scale 1 (same formula; no V1 class in Transformers)"
    return case


def glm4_moe(seed, D, F, E, K, bf16, norm=True, scale=2.5):
    config = {"architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "n_routed_experts": E,
              "num_experts_per_tok": K, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": norm,
              "routed_scaling_factor": scale, "first_k_dense_replace": 1, "num_hidden_layers": 2, "head_dim": 16,
              "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "use_qk_norm": True, **TINY}
    return Case(folder("glm4_moe", seed), config, "model.layers.1.mlp", "model.layers.1.mlp.", "gate.weight", seed,
                bf16=bf16)


def dots1(seed, D, F, E, K, bf16):
    config = {"architectures": ["Dots1ForCausalLM"], "model_type": "dots1", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": 36, "moe_intermediate_size": F, "n_routed_experts": E, "num_experts_per_tok": K,
              "n_shared_experts": 2, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
              "routed_scaling_factor": 2.5, "scoring_func": "noaux_tc", "first_k_dense_replace": 1,
              "num_hidden_layers": 2, "head_dim": 16, **TINY}
    return Case(folder("dots1", seed), config, "model.layers.1.mlp", "model.layers.1.mlp.", "gate.weight", seed,
                bf16=bf16)


def minimax_m2(seed, D, F, E, K, bf16, block=None):
    config = {"architectures": ["MiniMaxM2ForCausalLM"], "model_type": "minimax_m2", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K,
              "num_hidden_layers": 1, "scoring_func": "sigmoid", "use_routing_bias": True,
              "shared_intermediate_size": 0, "router_jitter_noise": 0.0, "router_aux_loss_coef": 0.001,
              "head_dim": 16, "rotary_dim": 8, "use_qk_norm": True, "qk_norm_type": "per_layer", **TINY}
    if block:
        config["quantization_config"] = FP8 | {"weight_block_size": list(block)}
    return Case(folder("minimax_m2", seed), config, "model.layers.0.mlp", "model.layers.0.block_sparse_moe.",
                "gate.weight", seed, bf16=bf16, keep_f32=r"e_score_correction_bias|gate\.weight$",
                store=fp8_store(block) if block else None)


def ernie(seed, D, F, E, K, bf16, shared, start, layers):
    config = {"architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "moe_num_experts": E, "moe_k": K,
              "moe_num_shared_experts": shared, "moe_layer_start_index": start, "moe_layer_end_index": layers - 1,
              "moe_layer_interval": 1, "moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_use_aux_free": True,
              "moe_norm_min": 1e-12, "use_bias": False, "num_hidden_layers": layers, **TINY}
    return Case(folder("ernie4_5_moe", seed), config, f"model.layers.{layers - 1}.mlp",
                f"model.layers.{layers - 1}.mlp.", "gate.weight", seed, bf16=bf16, bias_spread=0.06,
                keep_f32=r"e_score_correction_bias|gate\.weight$")


def hunyuan(seed, D, F, E, K, bf16, lists):
    per_layer = (lambda value: [value, value]) if lists else (lambda value: value)
    config = {"architectures": ["HunYuanMoEV1ForCausalLM"], "model_type": "hunyuan_v1_moe", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": F, "moe_intermediate_size": per_layer(F), "num_experts": E,
              "moe_topk": per_layer(K), "num_shared_expert": per_layer(1), "use_mixed_mlp_moe": True,
              "moe_layer_num_skipped": 0, "moe_drop_tokens": False, "norm_topk_prob": True, "num_hidden_layers": 2,
              "head_dim": 16, "use_qk_norm": True, **TINY}
    return Case(folder("hunyuan_v1_moe", seed), config, "model.layers.1.mlp", "model.layers.1.mlp.",
                "gate.wg.weight", seed, bf16=bf16, keep_f32=r"gate\.wg\.weight$",
                note="dropless; Transformers reads neither moe_intermediate_size nor num_shared_expert")


def lfm2_moe(seed, D, F, E, K, bf16, norm, scale, bias):
    config = {"architectures": ["Lfm2MoeForCausalLM"], "model_type": "lfm2_moe", "hidden_size": D,
              "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E, "num_experts_per_tok": K,
              "num_dense_layers": 1, "norm_topk_prob": norm, "routed_scaling_factor": scale, "use_expert_bias": bias,
              "num_hidden_layers": 2, "layer_types": ["full_attention", "full_attention"], "conv_L_cache": 3,
              "conv_bias": False, "norm_eps": 1e-5, "num_attention_heads": 2, "num_key_value_heads": 2,
              "vocab_size": 32, "max_position_embeddings": 64, "torch_dtype": "bfloat16"}
    return Case(folder("lfm2_moe", seed), config, "model.layers.1.feed_forward", "model.layers.1.feed_forward.",
                "gate.weight", seed, bf16=bf16, targets=underflow(E, -14.5) if norm else ())


def afmoe(seed, D, F, E, K, bf16, scale):
    config = {"architectures": ["AfmoeForCausalLM"], "model_type": "afmoe", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E, "num_experts_per_tok": K,
              "num_shared_experts": 1, "num_dense_layers": 1, "num_expert_groups": 1, "num_limited_groups": 1,
              "n_group": 1, "topk_group": 1, "route_norm": True, "route_scale": scale, "score_func": "sigmoid",
              "load_balance_coeff": 5e-4, "use_grouped_mm": True, "mup_enabled": True, "num_hidden_layers": 2,
              "layer_types": ["full_attention", "full_attention"], "sliding_window": 16, "head_dim": 16, **TINY}
    return Case(folder("afmoe", seed), config, "model.layers.1.mlp", "model.layers.1.mlp.", "router.gate.weight",
                seed, bf16=bf16)


def nemotron_h(seed, D, F, E, K, bf16, latent):
    config = {"architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "mlp_hidden_act": "relu2",
              "hidden_size": D, "intermediate_size": F, "moe_intermediate_size": F,
              "moe_shared_expert_intermediate_size": 28, "n_routed_experts": E, "num_experts_per_tok": K,
              "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
              "routed_scaling_factor": 2.5, "mlp_bias": False, "hybrid_override_pattern": "*E",
              "num_hidden_layers": 2, "head_dim": 16, "layer_norm_epsilon": 1e-5, **TINY}
    if latent:
        config["moe_latent_size"] = latent
    return Case(folder("nemotron_h", seed), config, "model.layers.1.mixer", "backbone.layers.1.mixer.",
                "gate.weight", seed, bf16=bf16, note=f"latent width {latent}" if latent else "")


def longcat_flash(seed, D, F, E, K, bf16, zero):
    config = {"architectures": ["LongcatFlashForCausalLM"], "model_type": "longcat_flash", "hidden_act": "silu",
              "hidden_size": D, "ffn_hidden_size": 36, "expert_ffn_hidden_size": F, "n_routed_experts": E,
              "zero_expert_num": zero, "zero_expert_type": "identity", "moe_topk": K, "routed_scaling_factor": 6.0,
              "router_bias": False, "num_layers": 1, "head_dim": 4, **MLA, **TINY}

    def shrink(tensors):  # Transformers allocates gate_up_proj for the identity experts too; releases do not store it
        return {k: v for k, v in tensors.items()
                if not any(f".experts.{E + i}." in k for i in range(zero))}
    return Case(folder("longcat_flash", seed), config, "model.layers.0.mlp", "model.layers.0.mlp.",
                "router.classifier.weight", seed, bf16=bf16, experts=E, publish=shrink, loadable=False,
                bias_spread=0.06,
                note="tensors of the identity experts, which Transformers allocates and never reads, left out")


def deepseek_v4(seed, D, F, E, K, bf16, hashed, tokens=7):
    config = {"architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "hidden_act": "silu",
              "hidden_size": D, "moe_intermediate_size": F, "n_routed_experts": E, "num_experts_per_tok": K,
              "n_shared_experts": 1, "scoring_func": "sqrtsoftplus", "topk_method": "noaux_tc",
              "norm_topk_prob": True, "routed_scaling_factor": 1.5, "swiglu_limit": 10.0,
              "num_hash_layers": 1, "num_hidden_layers": 2, "head_dim": 8, "q_lora_rank": 8, "o_lora_rank": 8,
              "o_groups": 2, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4, "sliding_window": 16,
              "expert_dtype": "fp4", "quantization_config": FP8 | {"scale_fmt": "ue8m0",
                                                                   "weight_block_size": [128, 128]},
              "num_nextn_predict_layers": 1, **(TINY | {"num_key_value_heads": 1})}
    layer = 0 if hashed else 1
    token_ids = torch.randint(0, config["vocab_size"], (tokens,), generator=torch.Generator().manual_seed(77))

    def call(block, x):
        return block(x[None], token_ids[None])[0]

    def adjust(block, generator):
        with torch.no_grad():
            block.experts.gate_up_proj[:, ::5] *= 8.0  # some gate and up values beyond the clamp
            if hashed:
                for row in block.gate.tid2eid:
                    row.copy_(torch.randperm(E, generator=generator)[:K])

    case = Case(folder("deepseek_v4", seed), config, f"model.layers.{layer}.mlp", f"layers.{layer}.ffn.",
                "gate.weight", seed, tokens=tokens, bf16=bf16, call=call, adjust=adjust, store=fp4_deepseek_v4,
                publish=lambda tensors: {k.removeprefix("model."): v for k, v in tensors.items()},
                extra={"expert_dtype": None}, note="hash layer, token_ids given" if hashed else "")
    if hashed:
        case.inputs = {"token_ids": token_ids.to(torch.int32)}
    return case


def v3_like(name, architecture, D, F, E, K, bf16, seed=1, layers=2, layer=1, extra=None, text=None, tail="mlp.",
            router="gate.weight", prefix="model.", **options):
    """A model whose router is DeepSeek-V3's: keys as its releases have them. `text`: what stands around text_config."""
    config = {"architectures": [architecture], "model_type": name, "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": 36, "moe_intermediate_size": F, "n_routed_experts": E, "num_experts_per_tok": K,
              "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "num_hidden_layers": layers, **TINY,
              **(extra or {})}
    config = {k: v for k, v in config.items() if v != "absent"}
    if text:
        config = {"architectures": [architecture], "model_type": name,
                  "text_config": config | {"model_type": name + "_text"}, **text}
        del config["text_config"]["architectures"]
    path = f"{prefix}layers.{layer}."
    return Case(folder(name, seed), config, path + "mlp", path + tail, router, seed, bf16=bf16, **options)


def glm4_moe_lite(**sizes):
    return v3_like("glm4_moe_lite", "Glm4MoeLiteForCausalLM", **sizes, extra={
        "n_shared_experts": 1, "routed_scaling_factor": 1.8, "topk_method": "noaux_tc", "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1, "partial_rotary_factor": 1.0, **MLA})


def solar_open(**sizes):
    return v3_like("solar_open", "SolarOpenForCausalLM", **sizes, layers=1, layer=0, extra={
        "n_shared_experts": 1, "routed_scaling_factor": 1.0, "first_k_dense_replace": 0, "head_dim": 16,
        "n_group": "absent", "topk_group": "absent", "partial_rotary_factor": 1.0})


def glm4v_moe(**sizes):
    return v3_like(
        "glm4v_moe", "Glm4vMoeForConditionalGeneration", **sizes, prefix="model.language_model.",
        model_class="Glm4vMoeForConditionalGeneration", config_class="Glm4vMoeConfig",
        text={"vision_config": {"model_type": "glm4v_moe_vision", "depth": 1, "hidden_size": 16, "num_heads": 2,
                                "out_hidden_size": sizes["D"], "intermediate_size": 16, "patch_size": 4,
                                "image_size": 16}, "tie_word_embeddings": False},
        extra={"n_shared_experts": 1, "routed_scaling_factor": 1.5, "first_k_dense_replace": 1, "head_dim": 16,
               "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2],
                                   "partial_rotary_factor": 0.5}})


def mimo_v2_flash(norm=True, scale=None, groups=1, kept=1, **sizes):
    return v3_like("mimo_v2_flash", "MiMoV2FlashForCausalLM", **sizes, extra={
        "n_shared_experts": None, "routed_scaling_factor": scale, "norm_topk_prob": norm, "n_group": groups,
        "topk_group": kept, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": [0, 1],
        "head_dim": 16, "v_head_dim": 8, "layernorm_epsilon": 1e-5})


def hy_v3(**sizes):
    return v3_like("hy_v3", "HYV3ForCausalLM", **sizes, router="router.gate.weight", extra={
        "n_routed_experts": "absent", "num_experts": sizes["E"], "n_group": "absent", "topk_group": "absent",
        "norm_topk_prob": "absent", "num_shared_experts": 2, "router_scaling_factor": 2.826, "route_norm": True,
        "moe_router_use_sigmoid": True, "moe_router_enable_expert_bias": True, "first_k_dense_replace": 1,
        "expert_hidden_dim": sizes["F"], "enable_moe_fp32_combine": False, "head_dim": 16, "qk_norm": True,
        "num_nextn_predict_layers": 1})


def exaone_moe(groups=1, kept=1, **sizes):
    return v3_like("exaone_moe", "ExaoneMoeForCausalLM", **sizes, extra={
        "n_routed_experts": "absent", "num_experts": sizes["E"], "num_shared_experts": 1, "n_group": groups,
        "topk_group": kept, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "first_last_k_dense_replace": 1, "is_moe_layer": [False, True], "head_dim": 16, "sliding_window": 4,
        "sliding_window_pattern": "LLLG", "layer_types": ["sliding_attention", "sliding_attention"]})


def axk1(groups=1, kept=1, **sizes):
    def without_norm(block, rows):  # the decoder layer's in the releases
        kept_norm, block.post_mlp_layernorm = block.post_mlp_layernorm, torch.nn.Identity()
        y = block(rows[None])[0]
        block.post_mlp_layernorm = kept_norm
        return y
    return v3_like("axk1", "AXK1ForCausalLM", **sizes, call=without_norm, note="before post_mlp_layernorm", extra={
        "n_shared_experts": 1, "n_group": groups, "topk_group": kept,
        "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "first_k_dense_replace": 1, "moe_layer_freq": 1, **MLA})


def scaled_capture(block, rows):
    """Of blocks that multiply the sum, not the weights."""
    seen = generic_capture(block, rows, lambda b, x: b(x[None]))
    return seen | {"weights": seen["weights"] * block.routed_scaling_factor}


def steep(scale):
    """Gates and ups beyond their limits, of routed and shared experts."""
    def adjust(block, generator):
        with torch.no_grad():
            block.experts.gate_up_proj[:, ::3] *= scale
            shared = block.shared_experts
            for matrix in ([shared.gate_up_proj] if hasattr(shared, "gate_up_proj")
                           else [shared.gate_proj, shared.up_proj]):
                matrix.weight[::3] *= scale
    return adjust


def step3p7(limit, shared_limit, seed, D, F, E, K, bf16, scale=3.0):
    text = {"architectures": ["Step3p5ForCausalLM"], "model_type": "step3p5", "hidden_size": D,
            "intermediate_size": 36, "moe_num_experts": E, "moe_top_k": K, "moe_intermediate_size": F,
            "share_expert_dim": 28, "num_hidden_layers": 3, "moe_layers_enum": "1,2",
            "moe_router_activation": "sigmoid", "moe_router_scaling_factor": scale, "norm_expert_weight": True,
            "use_moe_router_bias": True, "need_fp32_gate": True, "swiglu_limits": [0.0, 0.0, limit, 0.0],
            "swiglu_limits_shared": [0.0, 0.0, shared_limit, 0.0], "num_nextn_predict_layers": 1,
            "layer_types": ["full_attention"] * 4, "head_dim": 16, "num_attention_groups": 2, "sliding_window": 4,
            "num_attention_heads": 2, "vocab_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "torch_dtype": "bfloat16"}
    config = {"architectures": ["Step3p7ForConditionalGeneration"], "model_type": "step3p7", "text_config": text,
              "vision_config": {"model_type": "step3p5_vision", "width": 16, "layers": 1, "heads": 2, "image_size": 28,
                                "patch_size": 14}}
    path = "model.layers.2."
    return Case(folder("step3p7", seed), config, "model.language_model.layers.2.mlp",
                [path + "moe.", path + "share_expert."], "gate.weight", seed, bf16=bf16, keep_f32="router_bias|e_score",
                adjust=steep(5.0), capture=scaled_capture, model_class="Step3p7ForConditionalGeneration",
                config_class="Step3p7Config")


def minimax_m3(seed, D, F, E, K, bf16, alpha=1.702, limit=7.0):
    text = {"model_type": "minimax_m3_vl_text", "hidden_act": "swigluoai", "hidden_size": D, "intermediate_size": F,
            "dense_intermediate_size": 36, "shared_intermediate_size": 28, "n_shared_experts": 1,
            "num_local_experts": E, "num_experts_per_tok": K, "scoring_func": "sigmoid", "use_routing_bias": True,
            "routed_scaling_factor": 2.0, "router_aux_loss_coef": 0.001, "moe_layer_freq": [0, 1],
            "swiglu_alpha": alpha, "swiglu_limit": limit, "num_hidden_layers": 2, "head_dim": 16, "rotary_dim": 8,
            "use_qk_norm": True, "qk_norm_type": "per_head", **TINY}
    config = {"architectures": ["MiniMaxM3SparseForConditionalGeneration"], "model_type": "minimax_m3_vl",
              "text_config": text, "vision_config": {"model_type": "minimax_m3_vl_vision", "hidden_size": 16,
                                                     "intermediate_size": 16, "num_hidden_layers": 1,
                                                     "num_attention_heads": 2, "image_size": 28, "patch_size": 14}}
    return Case(folder("minimax_m3", seed), config, "model.language_model.layers.1.mlp",
                "language_model.model.layers.1.block_sparse_moe.", "gate.weight", seed, bf16=bf16, adjust=steep(6.0),
                capture=scaled_capture, keep_f32=r"e_score_correction_bias|gate\.weight$",
                model_class="MiniMaxM3SparseForConditionalGeneration", config_class="MiniMaxM3VLConfig")


CASES = [
    deepseek_v3(**GROUPED, groups=4, kept=2),
    deepseek_v3(2, 40, 24, 12, 4, True, groups=3, kept=2, block=(16, 16), scale=1.5, adjust=all_negative),
    deepseek_v3(3, 136, 12, 6, 2, True, groups=3, kept=1, block=(128, 128), tokens=4),
    deepseek_v3(4, 24, 12, 6, 2, False, groups=3, kept=2, targets=underflow(6, -47.0), adjust=wide_router),
    deepseek_v2(**GROUPED, method="group_limited_greedy", groups=4, kept=2, scale=16.0),
    deepseek_v2(**SMALL, method="greedy", groups=1, kept=1, scale=1.0), deepseek_v1(**BIG),
    glm4_moe(**BIG), glm4_moe(**SMALL, norm=False, scale=1.0), dots1(**BIG), dots1(**SMALL),
    minimax_m2(**BIG), minimax_m2(2, 40, 24, 6, 3, True, block=(16, 16)),
    ernie(**BIG, shared=2, start=1, layers=3), ernie(**SMALL, shared=0, start=0, layers=1),
    hunyuan(**BIG, lists=True), hunyuan(**SMALL | {"K": 1}, lists=False),
    lfm2_moe(**BIG, norm=True, scale=1.0, bias=True), lfm2_moe(**SMALL, norm=False, scale=2.0, bias=False),
    afmoe(**BIG, scale=2.448), afmoe(**SMALL, scale=1.0),
    nemotron_h(**BIG, latent=None), nemotron_h(**SMALL, latent=12),
    longcat_flash(**BIG | {"K": 3}, zero=3), longcat_flash(**SMALL, zero=2),
    kimi_k2(**BIG), kimi_k2_thinking(seed=2, D=64, F=32, E=7, K=3, bf16=True),
    deepseek_v4(1, 64, 32, 7, 3, True, hashed=False), deepseek_v4(2, 64, 32, 6, 2, True, hashed=True),
    glm4_moe_lite(**BIG), solar_open(**BIG), glm4v_moe(**BIG), mimo_v2_flash(**BIG),
    mimo_v2_flash(**GROUPED | {"seed": 2}, norm=False, scale=1.5, groups=4, kept=2), hy_v3(**BIG),
    exaone_moe(**BIG), exaone_moe(**GROUPED | {"seed": 2}, groups=3, kept=2),
    axk1(**BIG), axk1(**GROUPED | {"seed": 2}, groups=4, kept=3),
    step3p7(0.0, 0.0, **BIG), step3p7(1.5, 2.5, **SMALL), step3p7(1.5, 0.0, **SMALL | {"seed": 3}, scale=1.0),
    minimax_m3(**BIG), minimax_m3(**SMALL),
]
