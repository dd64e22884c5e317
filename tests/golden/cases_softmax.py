"""Models with a softmax over all experts and then a choice, or a softmax over the chosen logits."""
import torch
from hf_block import Case, generic_capture
from quantised import awq, gptq, mxfp4_gpt_oss, nvfp4

TINY = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
BIG = {"seed": 1, "D": 32, "F": 20, "E": 7, "K": 2, "bf16": True}
SMALL = {"seed": 2, "D": 24, "F": 12, "E": 6, "K": 3, "bf16": False}


def folder(name, seed):
    return name if seed == 1 else f"{name}_{seed}"


def mixtral(seed, D, F, E, K, bf16, name="mixtral", architecture="MixtralForCausalLM", extra=None):
    config = {"architectures": [architecture], "model_type": name, "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K, "num_hidden_layers": 1,
              "output_router_logits": False, "router_aux_loss_coef": 0.02, "router_jitter_noise": 0.0, **TINY,
              **(extra or {})}
    return Case(folder(name, seed), config, "model.layers.0.mlp", "model.layers.0.block_sparse_moe.", "gate.weight",
                seed, bf16=bf16)


def minimax(seed, D, F, E, K, bf16):
    return mixtral(seed, D, F, E, K, bf16, "minimax", "MiniMaxForCausalLM", {
        "shared_intermediate_size": 0, "postnorm": True, "layernorm_mlp_alpha": 3.5565588200778455,
        "layernorm_mlp_beta": 1.0, "head_dim": 16, "layer_types": ["full_attention"]})


def qwen(name, architecture, seed, D, F, E, K, bf16, norm, shared=None, layers=1, layer=0, extra=None):
    config = {"architectures": [architecture], "model_type": name, "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E, "num_experts_per_tok": K,
              "norm_topk_prob": norm, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": layers,
              "output_router_logits": False, "router_aux_loss_coef": 0.001, **TINY}
    if shared:
        config["shared_expert_intermediate_size"] = shared
    config |= extra or {}
    return Case(folder(name, seed), config, f"model.layers.{layer}.mlp", f"model.layers.{layer}.mlp.", "gate.weight",
                seed, bf16=bf16)


def qwen2_moe(norm, **sizes):
    return qwen("qwen2_moe", "Qwen2MoeForCausalLM", **sizes, norm=norm, shared=28)


def qwen3_moe(norm, layer=0, layers=1, extra=None, **sizes):
    return qwen("qwen3_moe", "Qwen3MoeForCausalLM", **sizes, norm=norm, layers=layers, layer=layer,
                extra={"head_dim": 16} | (extra or {}))


def quantised_qwen3_moe(name, store, quantization_config):
    """Of the sizes that words and groups need."""
    case = qwen3_moe(True, seed=1, D=64, F=32, E=7, K=2, bf16=True)
    case.folder, case.store = "qwen3_moe_" + name, store
    case.config = case.config | {"quantization_config": quantization_config}
    return case


def qwen3_next(norm, **sizes):
    return qwen("qwen3_next", "Qwen3NextForCausalLM", **sizes, norm=norm, shared=20, extra={
        "head_dim": 16, "partial_rotary_factor": 0.25, "full_attention_interval": 1,
        "layer_types": ["full_attention"], "linear_num_value_heads": 2, "linear_num_key_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4})


def swap_experts(tensors):
    """Fused expert tensors to [in,out]: Qwen3-VL-MoE and Llama 4 publish [E,D,2F] and [E,F,D]."""
    return {k: v.transpose(1, 2).contiguous() if k.endswith(("experts.gate_up_proj", "experts.down_proj")) else v
            for k, v in tensors.items()}


def fuse_experts(tensors):
    """Per-expert gate_proj, up_proj, down_proj to gate_up_proj [E,2F,D] and down_proj [E,D,F]."""
    fused = {k: v for k, v in tensors.items() if ".mlp.experts." not in k}
    layers = sorted({k.split(".experts.")[0] for k in tensors if ".mlp.experts." in k})
    for layer in layers:
        count = len([k for k in tensors if k.startswith(layer + ".experts.") and k.endswith("down_proj.weight")])
        part = {name: [tensors[f"{layer}.experts.{i}.{name}.weight"] for i in range(count)]
                for name in ("gate_proj", "up_proj", "down_proj")}
        fused[layer + ".experts.gate_up_proj"] = torch.cat([torch.stack(part["gate_proj"]),
                                                            torch.stack(part["up_proj"])], dim=1)
        fused[layer + ".experts.down_proj"] = torch.stack(part["down_proj"])
    return fused


def qwen3_5_moe(seed, D, F, E, K, bf16):
    config = {"architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe",
              "text_config": {"model_type": "qwen3_5_moe_text", "hidden_act": "silu", "hidden_size": D,
                              "moe_intermediate_size": F, "shared_expert_intermediate_size": 16, "num_experts": E,
                              "num_experts_per_tok": K, "num_hidden_layers": 1, "layer_types": ["full_attention"],
                              "full_attention_interval": 1, "head_dim": 16, "linear_num_value_heads": 2,
                              "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
                              "output_router_logits": False, "router_aux_loss_coef": 0.001, **TINY},
              "vision_config": {"model_type": "qwen3_5_moe", "depth": 1, "hidden_size": 16, "intermediate_size": 16,
                                "num_heads": 2, "out_hidden_size": D, "patch_size": 4, "num_position_embeddings": 4},
              "tie_word_embeddings": False}
    return Case(folder("qwen3_5_moe", seed), config, "model.language_model.layers.0.mlp",
                "model.language_model.layers.0.mlp.", "gate.weight", seed, bf16=bf16,
                model_class="Qwen3_5MoeForConditionalGeneration", config_class="Qwen3_5MoeConfig",
                publish=fuse_experts if seed == 1 else lambda tensors: tensors,
                note="experts fused as released" if seed == 1 else "experts one by one, as save_pretrained writes them")


def qwen3_vl_moe(seed, D, F, E, K, bf16):
    config = {"architectures": ["Qwen3VLMoeForConditionalGeneration"], "model_type": "qwen3_vl_moe",
              "text_config": {"model_type": "qwen3_vl_moe_text", "hidden_act": "silu", "hidden_size": D,
                              "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E,
                              "num_experts_per_tok": K, "norm_topk_prob": True, "decoder_sparse_step": 1,
                              "mlp_only_layers": [], "num_hidden_layers": 1, "head_dim": 16,
                              "rope_scaling": {"rope_type": "default", "mrope_interleaved": True,
                                               "mrope_section": [2, 3, 3]}, **TINY},
              "vision_config": {"model_type": "qwen3_vl_moe", "depth": 1, "hidden_size": 16, "intermediate_size": 16,
                                "num_heads": 2, "out_hidden_size": D, "patch_size": 4, "num_position_embeddings": 4,
                                "deepstack_visual_indexes": []},
              "tie_word_embeddings": False}
    return Case(folder("qwen3_vl_moe", seed), config, "model.language_model.layers.0.mlp",
                "model.language_model.layers.0.mlp.", "gate.weight", seed, bf16=bf16,
                model_class="Qwen3VLMoeForConditionalGeneration", config_class="Qwen3VLMoeConfig",
                publish=swap_experts, loadable=D != 2 * F,
                note="" if D != 2 * F else "D = 2F, where Transformers' own loader would not transpose")


def olmoe(norm, seed, D, F, E, K, bf16):
    config = {"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": norm,
              "num_hidden_layers": 1, "clip_qkv": None, "output_router_logits": False, "router_aux_loss_coef": 0.01,
              **TINY}
    return Case(folder("olmoe", seed), config, "model.layers.0.mlp", "model.layers.0.mlp.", "gate.weight", seed,
                bf16=bf16)


def jamba(seed, D, F, E, K, bf16):
    config = {"architectures": ["JambaForCausalLM"], "model_type": "jamba", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_experts": E, "num_experts_per_tok": K, "num_hidden_layers": 2,
              "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 1, "attn_layer_offset": 0,
              "output_router_logits": False, "router_aux_loss_coef": 0.001, **TINY, "use_mamba_kernels": False,
              "mamba_d_state": 4, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 4}
    return Case(folder("jamba", seed), config, "model.layers.1.feed_forward", "model.layers.1.feed_forward.",
                "router.weight", seed, bf16=bf16)


def dbrx(norm, seed, D, F, E, K, bf16):
    config = {"architectures": ["DbrxForCausalLM"], "model_type": "dbrx", "d_model": D, "n_heads": 2, "n_layers": 1,
              "max_seq_len": 64, "vocab_size": 32, "output_router_logits": False, "router_aux_loss_coef": 0.05,
              "attn_config": {"clip_qkv": 8, "kv_n_heads": 2, "model_type": "", "rope_theta": 500000},
              "ffn_config": {"ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": F, "model_type": "",
                             "moe_jitter_eps": 0.01, "moe_loss_weight": 0.05, "moe_normalize_expert_weights": norm,
                             "moe_num_experts": E, "moe_top_k": K},
              "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    return Case(folder("dbrx", seed), config, "transformer.blocks.0.ffn", "transformer.blocks.0.ffn.",
                "router.layer.weight", seed, bf16=bf16, extra={
                    "ffn_config": {k: v for k, v in config["ffn_config"].items() if k != "model_type"}
                    | {"hidden_size": D},
                    "attn_config": {"clip_qkv": 8, "kv_n_heads": 2, "rope_theta": 500000}},
                note="ffn_config.hidden_size given as d_model")


def granitemoe(seed, D, F, E, K, bf16):
    config = {"architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K,
              "num_hidden_layers": 1, "attention_multiplier": 0.015625, "embedding_multiplier": 12.0,
              "logits_scaling": 6.0, "residual_multiplier": 0.22, "output_router_logits": False,
              "router_aux_loss_coef": 0.0, **TINY}
    return Case(folder("granitemoe", seed), config, "model.layers.0.block_sparse_moe",
                "model.layers.0.block_sparse_moe.", "router.layer.weight", seed, bf16=bf16)


def granite_shared(name, architecture, seed, D, F, E, K, bf16, extra=None):
    config = granitemoe(seed, D, F, E, K, bf16).config | {
        "architectures": [architecture], "model_type": name, "shared_intermediate_size": 16} | (extra or {})
    layer = "model.layers.0."
    return Case(folder(name, seed), config, [layer + "block_sparse_moe", layer + "shared_mlp"],
                [layer + "block_sparse_moe.", layer + "shared_mlp."], "router.layer.weight", seed, bf16=bf16,
                capture=lambda parts, x: generic_capture(parts[0], x, lambda block, rows: block(rows[None])),
                call=lambda parts, x: (parts[0](x[None]) + parts[1](x[None]))[0],
                note="y = block_sparse_moe(x) + shared_mlp(x), as in the decoder layer, without residual_multiplier")


def granitemoeshared(**sizes):
    return granite_shared("granitemoeshared", "GraniteMoeSharedForCausalLM", **sizes)


def granitemoehybrid(**sizes):
    return granite_shared("granitemoehybrid", "GraniteMoeHybridForCausalLM", **sizes, extra={
        "layer_types": ["attention"], "position_embedding_type": "nope", "mamba_n_heads": 4, "mamba_d_head": "auto",
        "mamba_d_state": 4, "mamba_expand": 2, "mamba_n_groups": 1})


def jetmoe(seed, D, F, E, K, bf16):
    config = {"architectures": ["JetMoeForCausalLM"], "model_type": "jetmoe", "activation_function": "silu",
              "hidden_size": D, "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K,
              "num_hidden_layers": 1, "num_key_value_heads": 2, "kv_channels": 8, "vocab_size": 32,
              "max_position_embeddings": 64, "output_router_logits": False, "aux_loss_coef": 0.01, "rms_norm_eps": 1e-5,
              "tie_word_embeddings": True, "torch_dtype": "bfloat16"}

    def capture(block, x):
        with torch.no_grad():
            logits = block.router(x)[4]
            top, ids = logits.topk(K, dim=1)
        return {"router_logits": logits, "ids": ids, "weights": torch.softmax(top, dim=1)}
    return Case(folder("jetmoe", seed), config, "model.layers.0.mlp", "model.layers.0.mlp.", "router.layer.weight",
                seed, bf16=bf16, capture=capture, note="ids, weights: the router's own topk and softmax of its logits")


def phimoe(seed, D, F, E, K, bf16, noise, zero_token=False):
    near = (tuple(2.0 - 0.015 * i - 0.9 * (i > 2) for i in range(E)),     # three within the 2 % of SparseMixer's mask
            tuple(-1.0 - 0.006 * i - 0.9 * (i > 3) for i in range(E)))    # four, all negative
    config = {"architectures": ["PhiMoEForCausalLM"], "model_type": "phimoe", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K, "num_hidden_layers": 1,
              "router_jitter_noise": noise, "input_jitter_noise": 0.01, "lm_head_bias": True, "attention_bias": True,
              "output_router_logits": False, "router_aux_loss_coef": 0.0, **TINY}
    if zero_token:
        near = (*near, (0.0,) * E)
    return Case(folder("phimoe", seed), config, "model.layers.0.mlp", "model.layers.0.block_sparse_moe.",
                "gate.weight", seed, bf16=bf16, targets=near,
                note="token 3 is zero: 0/0 in the mask, nobody masked" if zero_token else "")


def aria(seed, D, F, E, K, bf16):
    text = {"model_type": "aria_text", "hidden_act": "silu", "hidden_size": D, "intermediate_size": F,
            "moe_num_experts": E, "moe_topk": K, "moe_num_shared_experts": 2, "num_hidden_layers": 1, **TINY}
    config = {"architectures": ["AriaForConditionalGeneration"], "model_type": "aria", "text_config": text,
              "vision_config": {"model_type": "idefics3_vision", "hidden_size": 16, "intermediate_size": 16,
                                "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 16, "patch_size": 4},
              "projector_patch_to_query_dict": {"16": 4}, "image_token_index": 9, "torch_dtype": "bfloat16"}
    return Case(folder("aria", seed), config, "model.language_model.layers.0.mlp",
                "language_model.model.layers.0.mlp.", "router.weight", seed, bf16=bf16,
                model_class="AriaForConditionalGeneration", config_class="AriaConfig")


def gpt_oss(seed, D, F, E, K, bf16, quantised):
    config = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_act": "silu", "hidden_size": D,
              "intermediate_size": F, "num_local_experts": E, "num_experts_per_tok": K, "experts_per_token": K,
              "num_hidden_layers": 1, "layer_types": ["full_attention"], "head_dim": 16, "sliding_window": 16,
              "swiglu_limit": 7.0, "output_router_logits": False, "router_aux_loss_coef": 0.9, "attention_bias": True,
              **TINY}
    if quantised:
        config["quantization_config"] = {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                                       "lm_head"], "quant_method": "mxfp4"}

    def widen(block, generator):  # some gates above +7 and up values beyond +-7, so that the clamps act
        with torch.no_grad():
            block.experts.gate_up_proj[:, :, :6] *= 6.0
    return Case(folder("gpt_oss", seed), config, "model.layers.0.mlp", "model.layers.0.mlp.", "router.weight", seed,
                tokens=6, bf16=bf16, adjust=widen, store=mxfp4_gpt_oss if quantised else None, keep_gradients=True,
                call=lambda block, x: block(x[None])[0].reshape(x.shape),
                note="MXFP4 experts dequantised" if quantised else "experts in the bf16 export's layout")


def mellum(norm, layers=1, layer=0, extra=None, **sizes):
    case = qwen("mellum", "MellumForCausalLM", **sizes, norm=norm, layers=layers, layer=layer, extra={
        "head_dim": 16, "sliding_window": 4, "layer_types": ["full_attention"] * layers} | (extra or {}))
    for key in ("decoder_sparse_step", "mlp_only_layers"):
        del case.config[key]
    return case


OMNI_AUDIO = {"model_type": "qwen3_omni_moe_audio_encoder", "d_model": 16, "encoder_layers": 1,
              "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "output_dim": 32, "num_mel_bins": 8,
              "downsample_hidden_size": 8, "max_source_positions": 16}
OMNI_VISION = {"model_type": "qwen3_omni_moe_vision_encoder", "depth": 1, "hidden_size": 16, "intermediate_size": 16,
               "num_heads": 2, "out_hidden_size": 32, "patch_size": 4, "num_position_embeddings": 4,
               "deepstack_visual_indexes": []}
OMNI_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3], "interleaved": True}


def qwen3_omni_moe(seed, D, F, E, K, bf16, norm, talker):
    """The whole model, of which one block is kept: the thinker's, or the talker's with its shared expert."""
    text = {"hidden_act": "silu", "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F,
            "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": norm, "decoder_sparse_step": 1,
            "mlp_only_layers": [], "num_hidden_layers": 1, "head_dim": 16, "rope_scaling": OMNI_ROPE,
            "output_router_logits": False, "router_aux_loss_coef": 0.001, **TINY}
    predictor = {"model_type": "qwen3_omni_moe_talker_code_predictor", "hidden_size": 16, "intermediate_size": 16,
                 "num_hidden_layers": 1, "head_dim": 8, "num_code_groups": 2,
                 **{k: v for k, v in TINY.items() if k != "torch_dtype"}}
    wave = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "codebook_size": 8, "decoder_dim": 16, "upsample_rates": [2],
            "upsampling_ratios": [2], "num_quantizers": 2}
    config = {"architectures": ["Qwen3OmniMoeForConditionalGeneration"], "model_type": "qwen3_omni_moe",
              "enable_audio_output": True,
              "thinker_config": {"model_type": "qwen3_omni_moe_thinker", "audio_config": OMNI_AUDIO,
                                 "vision_config": OMNI_VISION,
                                 "text_config": text | {"model_type": "qwen3_omni_moe_text"}},
              "talker_config": {"model_type": "qwen3_omni_moe_talker", "thinker_hidden_size": D, "num_code_groups": 2,
                                "accept_hidden_layer": 0, "speaker_id": {}, "spatial_merge_size": 2,
                                "text_config": text | {"model_type": "qwen3_omni_moe_talker_text",
                                                       "shared_expert_intermediate_size": 20},
                                "code_predictor_config": predictor},
              "code2wav_config": wave}
    who = "talker" if talker else "thinker"
    block = f"{who}.model.{'' if talker else 'language_model.'}layers.0.mlp"
    return Case(folder("qwen3_omni_moe", seed), config["talker_config"]["text_config"] if talker else config, block,
                f"{who}.model.layers.0.mlp.", "gate.weight", seed, bf16=bf16, whole=config,
                model_class="Qwen3OmniMoeForConditionalGeneration", config_class="Qwen3OmniMoeConfig",
                note=f"the {who}'s")


def mistral4(seed, D, F, E, K, bf16, groups, kept, norm, scale, dense, wrapped):
    text = {"model_type": "mistral4", "hidden_act": "silu", "hidden_size": D, "intermediate_size": 36,
            "moe_intermediate_size": F, "n_routed_experts": E, "num_experts_per_tok": K, "n_shared_experts": 1,
            "n_group": groups, "topk_group": kept, "norm_topk_prob": norm, "routed_scaling_factor": scale,
            "first_k_dense_replace": dense, "num_hidden_layers": dense + 1, "q_lora_rank": 8, "kv_lora_rank": 8,
            "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, **TINY}
    config = {"architectures": ["Mistral4ForCausalLM"]} | text
    options = {"model_class": "Mistral4ForCausalLM", "config_class": "Mistral4Config"}
    prefix = f"model.layers.{dense}.mlp"
    if wrapped:
        config = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": text,
                  "vision_config": {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16,
                                    "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "patch_size": 4,
                                    "image_size": 16}, "spatial_merge_size": 2, "tie_word_embeddings": False}
        options = {"model_class": "Mistral3ForConditionalGeneration", "config_class": "Mistral3Config"}
        prefix = f"model.language_model.layers.{dense}.mlp"
    disk = f"language_model.model.layers.{dense}.mlp." if wrapped else prefix + "."
    return Case(folder("mistral4", seed), config, prefix, disk, "gate.weight", seed, bf16=bf16, **options)


def cohere2_moe(seed, D, F, E, K, bf16, select, norm, shared, combine, dense=0):
    config = {"architectures": ["Cohere2MoeForCausalLM"], "model_type": "cohere2_moe", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": F, "num_experts": E, "num_experts_per_tok": K,
              "num_shared_experts": shared, "shared_expert_combination_strategy": combine,
              "expert_selection_fn": select, "norm_topk_prob": norm, "first_k_dense_replace": dense,
              "prefix_dense_intermediate_size": 36, "num_hidden_layers": dense + 1, "head_dim": 16,
              "layer_norm_eps": 1e-5, "sliding_window": 4, "sliding_window_pattern": 1, "logit_scale": 0.0625,
              **{k: v for k, v in TINY.items() if k != "rms_norm_eps"}}
    path = f"model.layers.{dense}.mlp"

    def capture(block, rows):  # the mean with shared experts halves the weights
        seen = generic_capture(block, rows, lambda b, x: b(x[None]))
        return seen | {"weights": seen["weights"] * (0.5 if shared and combine == "average" else 1.0)}
    return Case(folder("cohere2_moe", seed), config, path, path + ".", "gate.weight", seed, bf16=bf16,
                capture=capture)


CASES = [
    mixtral(**BIG), mixtral(**SMALL),
    qwen2_moe(False, **BIG), qwen2_moe(True, **SMALL),
    qwen3_moe(True, **BIG),
    qwen3_moe(False, **SMALL, layers=4, layer=3, extra={"decoder_sparse_step": 2, "mlp_only_layers": [1]}),
    quantised_qwen3_moe("gptq", gptq(32), {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False,
                                           "sym": False, "checkpoint_format": "gptq"}),
    quantised_qwen3_moe("awq", awq(16), {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True,
                                         "version": "gemm"}),
    quantised_qwen3_moe("nvfp4", nvfp4, {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
                                         "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                                             "num_bits": 4, "type": "float", "group_size": 16, "symmetric": True,
                                             "strategy": "tensor_group"}}}}),
    qwen3_next(True, **BIG), qwen3_next(False, **SMALL),
    olmoe(False, **BIG), olmoe(True, **SMALL),
    gpt_oss(1, 64, 32, 6, 3, True, True), gpt_oss(2, 24, 12, 5, 2, True, False),
    jamba(**BIG), jamba(**SMALL),
    dbrx(1.0, **BIG), dbrx(2.0, **SMALL), dbrx(None, **(SMALL | {"seed": 3, "D": 12, "F": 12})),
    granitemoe(**BIG), granitemoe(**SMALL), granitemoeshared(**BIG), granitemoehybrid(**SMALL | {"seed": 1}),
    jetmoe(**BIG), jetmoe(**SMALL),
    phimoe(**BIG, noise=0.01), phimoe(**(SMALL | {"K": 2}), noise=0.2),
    phimoe(3, 12, 8, 5, 2, False, noise=0.01, zero_token=True),
    minimax(**BIG), aria(**BIG), aria(**(SMALL | {"D": 24, "F": 12})),
    qwen3_vl_moe(**BIG), qwen3_vl_moe(**(SMALL | {"D": 24, "F": 12})), qwen3_5_moe(**BIG), qwen3_5_moe(**SMALL),
    mellum(True, **BIG), mellum(False, **SMALL, layers=2, layer=1, extra={"mlp_layer_types": ["dense", "sparse"]}),
    qwen3_omni_moe(**BIG, norm=True, talker=False), qwen3_omni_moe(**SMALL | {"D": 32}, norm=False, talker=True),
    mistral4(1, 32, 16, 12, 3, True, groups=4, kept=2, norm=True, scale=1.5, dense=1, wrapped=False),
    mistral4(**SMALL, groups=1, kept=1, norm=False, scale=1.0, dense=0, wrapped=True),
    cohere2_moe(**BIG, select="sigmoid", norm=True, shared=2, combine="average"),
    cohere2_moe(**SMALL, select="sigmoid", norm=False, shared=1, combine="sum", dense=1),
    cohere2_moe(**SMALL | {"seed": 3}, select="softmax", norm=True, shared=1, combine="average"),
]
