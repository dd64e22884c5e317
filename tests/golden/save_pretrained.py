"""A whole tiny model as Transformers' save_pretrained writes it: two layers, two shards and an index."""
import os
import shutil

import torch
import transformers

from golden_io import ROOT, write_tensors
from hf_block import choice_of, fill, generic_capture, seeded, stable_tokens


def make(folder):
    torch.manual_seed(1)
    generator = seeded(folder, 1)
    config = transformers.Qwen3MoeConfig(
        hidden_size=32, intermediate_size=36, moe_intermediate_size=20, num_experts=6, num_experts_per_tok=2,
        norm_topk_prob=True, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
        vocab_size=32, max_position_embeddings=64, attn_implementation="eager", experts_implementation="eager")
    model = transformers.Qwen3MoeForCausalLM(config).eval()
    fill(model, generator, True, "inv_freq")
    path = os.path.join(ROOT, folder)
    shutil.rmtree(path, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(path, max_shard_size="40KB")
    model.float()
    expected = {}
    for number, layer in enumerate(model.model.layers):
        x = stable_tokens(lambda rows: choice_of(generic_capture(layer.mlp, rows, lambda b, r: b(r[None]))), 5, 32,
                          generator, layer.mlp.gate.weight)
        with torch.no_grad():
            seen = generic_capture(layer.mlp, x, lambda block, rows: block(rows[None]))
            expected |= {f"layers.{number}.x": x, f"layers.{number}.y": layer.mlp(x[None])[0],
                         f"layers.{number}.ids": seen["ids"].to(torch.int32),
                         f"layers.{number}.weights": seen["weights"]}
    write_tensors(os.path.join(path, "expected.safetensors"), expected,
                  f"transformers {transformers.__version__} Qwen3MoeForCausalLM, torch {torch.__version__}, float32")
    for file in os.listdir(path):
        os.chmod(os.path.join(path, file), 0o644)
    return sum(os.path.getsize(os.path.join(path, file)) for file in os.listdir(path))
