"""Llama 4, Gemma 4 and the capacity models, and two hybrids with DeepSeek-V3's block."""
import torch

from cases_softmax import BIG, SMALL, TINY, folder
from hf_block import Case, generic_capture


def llama4(seed, D, F, E, K, bf16):
    text = {"model_type": "llama4_text", "hidden_act": "silu", "hidden_size": D, "intermediate_size": F,
            "intermediate_size_mlp": 36, "num_local_experts": E, "num_experts_per_tok": K, "num_hidden_layers": 2,
            "interleave_moe_layer_step": 2, "head_dim": 16, "output_router_logits": False,
            "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "no_rope_layers": [1, 1],
            "attention_chunk_size": 16, **TINY}
    config = {"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "text_config": text,
              "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 16, "intermediate_size": 64,
                                "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8,
                                "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
              "torch_dtype": "bfloat16"}

    def capture(block, x):
        with torch.no_grad():
            scores, logits = block.router(x)
            ids = logits.topk(K, dim=1).indices
        return {"router_logits": logits, "ids": ids, "weights": scores.gather(1, ids)}
    return Case(folder("llama4", seed), config, "language_model.model.layers.1.feed_forward",
                "language_model.model.layers.1.feed_forward.", "router.weight", seed, bf16=bf16, capture=capture,
                call=lambda block, x: block(x)[0], model_class="Llama4ForConditionalGeneration",
                config_class="Llama4Config", note="weights multiply the experts' inputs")


def gemma4(seed, D, F, E, K, bf16):
    text = {"model_type": "gemma4_text", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": D,
            "intermediate_size": 20, "enable_moe_block": True, "num_experts": E, "top_k_experts": K,
            "moe_intermediate_size": F, "num_hidden_layers": 1, "layer_types": ["full_attention"], "head_dim": 16,
            "global_head_dim": 16, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "rms_norm_eps": 1e-6,
            "sliding_window": 16, **{k: v for k, v in TINY.items() if k not in ("rms_norm_eps", "tie_word_embeddings")}}
    config = {"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "text_config": text,
              "vision_config": None, "audio_config": None, "tie_word_embeddings": True}
    layer = "model.language_model.layers.0."
    names = ["router", "experts", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2",
             "pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm_1", "post_feedforward_layernorm"]

    def capture(parts, x):
        with torch.no_grad():
            _, weights, ids = parts[0](x)
            logits = parts[0].proj(parts[0].norm(x) * parts[0].scale * parts[0].scalar_root_size)
        return {"router_logits": logits, "ids": ids, "weights": weights}

    def call(parts, x, expert_x=None):
        _, weights, ids = parts[0](x)
        return parts[1](parts[2](x) if expert_x is None else expert_x, ids, weights)

    def whole(parts, x):
        dense = parts[6](parts[5](parts[4](x[None])[0]))
        return {"y_feed_forward": parts[7](dense + parts[3](call(parts, x)))}
    return Case(folder("gemma4", seed), config, [layer + name for name in names],
                [layer + name + "." for name in names], "proj.weight", seed, bf16=bf16, capture=capture, call=call,
                second_input=lambda parts, x: parts[2](x), more=whole, model_class="Gemma4ForConditionalGeneration",
                config_class="Gemma4Config", note=(
                    "x: residual, read by the router; expert_x = pre_feedforward_layernorm_2(x), read by the experts; "
                    "y: routed sum before post_feedforward_layernorm_2; y_feed_forward: what the layer adds to x"))


def switch(seed, D, F, E, bf16, capacity, bias):
    config = {"architectures": ["SwitchTransformersForConditionalGeneration"], "model_type": "switch_transformers",
              "d_model": D, "d_ff": F, "d_kv": 8, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 2,
              "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "encoder_sparse_step": 2,
              "decoder_sparse_step": 2, "num_experts": E, "expert_capacity": capacity, "router_bias": bias,
              "router_dtype": "float32", "router_jitter_noise": 0.01, "router_ignore_padding_tokens": False,
              "router_type": "tokens_masked", "dense_act_fn": "relu", "feed_forward_proj": "relu",
              "is_gated_act": False, "add_router_probs": False, "vocab_size": 32, "layer_norm_epsilon": 1e-6,
              "dropout_rate": 0.0, "decoder_start_token_id": 0, "tie_word_embeddings": False,
              "torch_dtype": "bfloat16" if bf16 else "float32"}

    def capture(block, x):
        with torch.no_grad():
            mask, top, logits = block.router(x.view(2, -1, D))
        return {"router_logits": logits.reshape(-1, E), "ids": logits.reshape(-1, E).argmax(-1, keepdim=True),
                "weights": top.reshape(-1, 1), "kept": mask.reshape(-1, E).sum(-1, keepdim=True).to(torch.int32)}
    case = Case(folder("switch_transformers", seed), config, "encoder.block.1.layer.1.mlp",
                "encoder.block.1.layer.1.mlp.", "router.classifier.weight", seed, tokens=14, bf16=bf16,
                keep_f32=r"classifier", capture=capture, call=lambda block, x: block(x.view(2, -1, D)).reshape(-1, D),
                model_class="SwitchTransformersForConditionalGeneration", config_class="SwitchTransformersConfig",
                note="two sequences of 7 tokens; dropped tokens (kept 0) give 0")
    case.inputs = {"segments": torch.tensor([0, 7, 14], dtype=torch.int32)}
    return case


def nllb(seed, D, F, E, bf16, fraction, before, prioritised):
    config = {"architectures": ["NllbMoeForConditionalGeneration"], "model_type": "nllb-moe", "d_model": D,
              "encoder_ffn_dim": F, "decoder_ffn_dim": F, "encoder_layers": 2, "decoder_layers": 2,
              "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_sparse_step": 2,
              "decoder_sparse_step": 2, "num_experts": E, "expert_capacity": 64, "activation_function": "relu",
              "router_bias": False, "router_dtype": "float32", "router_ignore_padding_tokens": False,
              "second_expert_policy": "all", "normalize_router_prob_before_dropping": before,
              "batch_prioritized_routing": prioritised, "moe_eval_capacity_token_fraction": fraction,
              "moe_token_dropout": 0.2, "vocab_size": 32, "max_position_embeddings": 64,
              "torch_dtype": "bfloat16" if bf16 else "float32"}

    def capture(block, x):
        with torch.no_grad():
            _, combine, logits = block.router(x)
            first = logits.argmax(-1, keepdim=True)
            second = logits.scatter(1, first, float("-inf")).argmax(-1, keepdim=True)
            ids = torch.cat([first, second], dim=1)
            weights = combine.gather(1, ids)
        return {"router_logits": logits, "ids": ids, "weights": weights, "kept": (weights > 0).to(torch.int32)}

    def call(block, x):
        _, combine, _ = block.router(x)
        y = torch.zeros_like(x)
        for expert in range(E):
            part = block.experts[f"expert_{expert}"](x) * (1 - block.experts.moe_token_dropout)
            y = y + combine[:, expert:expert + 1] * part
        return y
    return Case(folder("nllb_moe", seed), config, "model.encoder.layers.1.ffn", "model.encoder.layers.1.ffn.",
                "router.classifier.weight", seed, tokens=10, bf16=bf16, keep_f32=r"classifier", capture=capture,
                call=call, model_class="NllbMoeForConditionalGeneration", config_class="NllbMoeConfig", note=(
                    "router and experts of Transformers; their weighted sum transcribed, because NllbMoeExperts of "
                    "this version runs experts 0 and 1 only; weights are those after dropping, without the factor "
                    "0.8 of y"))


def bailing_hybrid(seed, D, F, E, K, bf16):
    config = {"architectures": ["BailingMoeV2_5ForCausalLM"], "model_type": "bailing_hybrid", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E,
              "num_experts_per_tok": K, "num_shared_experts": 1, "n_group": 4, "topk_group": 2, "norm_topk_prob": True,
              "routed_scaling_factor": 2.5, "score_function": "sigmoid", "moe_router_enable_expert_bias": True,
              "first_k_dense_replace": 1, "num_hidden_layers": 2, "head_dim": 8, "layer_group_size": 1,
              "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
              "pad_token_id": 0, **TINY}
    return Case(folder("bailing_hybrid", seed), config, "model.layers.1.mlp", "model.layers.1.mlp.", "gate.weight",
                seed, bf16=bf16)


def kimi_linear(seed, D, F, E, K, bf16):
    config = {"architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "hidden_act": "silu",
              "hidden_size": D, "intermediate_size": 36, "moe_intermediate_size": F, "num_experts": E,
              "num_experts_per_token": K, "num_shared_experts": 1, "num_expert_group": 1, "topk_group": 1,
              "moe_renormalize": True, "moe_router_activation_func": "sigmoid", "routed_scaling_factor": 2.446,
              "use_grouped_topk": True, "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_hidden_layers": 2,
              "kv_lora_rank": 8, "q_lora_rank": None, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
              "linear_attn_config": {"full_attn_layers": [1, 2], "head_dim": 8, "kda_layers": [], "num_heads": 2,
                                     "short_conv_kernel_size": 4}, "pad_token_id": 0, **TINY}
    return Case(folder("kimi_linear", seed), config, "model.layers.1.mlp", "model.layers.1.block_sparse_moe.",
                "gate.weight", seed, bf16=bf16)


def ernie_vl(seed, D, F, E, K, bf16, shared, vision):
    """Experts of their own for text rows and for those of pictures, with a router each; one shared expert."""
    text = {"model_type": "ernie4_5_vl_moe_text", "hidden_act": "silu", "hidden_size": D, "intermediate_size": 36,
            "moe_intermediate_size": [F, 12], "moe_num_experts": E, "moe_k": K, "moe_num_shared_experts": shared,
            "moe_norm_min": 1e-12, "mlp_layer_types": ["dense", "sparse"], "num_hidden_layers": 2, "use_bias": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                "mrope_section": [D // 8 - 1, D // 8 - 1, 2]}, **TINY}
    config = {"architectures": ["Ernie4_5_VLMoeForConditionalGeneration"], "model_type": "ernie4_5_vl_moe",
              "text_config": text,
              "vision_config": {"model_type": "ernie4_5_vl_moe_vision", "depth": 1, "hidden_size": 16,
                                "intermediate_size": 16, "num_heads": 2, "patch_size": 4}}
    config |= {"moe_modality": "vision"} if vision else {}

    def call(block, x):
        kind = torch.ones(1, len(x), dtype=torch.int32) if vision else None
        return block(x[None], kind)[0].reshape(x.shape)

    def capture(block, x):
        return generic_capture(block.vision_moe if vision else block.text_moe, x, lambda _, rows: call(block, rows))

    return Case(folder("ernie4_5_vl_moe", seed), config, "model.language_model.layers.1.mlp", "model.layers.1.mlp.",
                "gate.weight_1" if vision else "gate.weight", seed, bf16=bf16, bias_spread=0.06, call=call,
                capture=capture, experts=E, turned_router=True, first_expert=E if vision else 0,
                keep_f32=r"e_score_correction_bias|gate\.weight$",
                model_class="Ernie4_5_VLMoeForConditionalGeneration", config_class="Ernie4_5_VLMoeConfig",
                note="rows of pictures" if vision else "rows of text")


CASES = [
    llama4(**BIG | {"K": 1}), llama4(**SMALL | {"K": 2}),
    gemma4(**BIG | {"F": 12}), gemma4(**SMALL),
    switch(1, 24, 20, 4, False, 2, False), switch(2, 24, 12, 5, True, 1, True),
    nllb(1, 32, 20, 6, True, 1.0, False, False), nllb(2, 24, 12, 5, False, 0.25, False, False),
    nllb(3, 24, 12, 4, False, 0.3, True, True),
    bailing_hybrid(1, 32, 12, 12, 3, True), kimi_linear(**BIG),
    ernie_vl(**BIG, shared=2, vision=False), ernie_vl(**SMALL, shared=0, vision=True),
]
