"""Writing one golden folder: config.json, model.safetensors, expected.safetensors.

Names in expected.safetensors (all float32 unless said):
  x [T,D]              rows the block reads
  router_logits        [T,E]; absent where the code does not expose them
  ids, weights [T,K]   chosen experts (int32, order as the code returns them) and combine weights
  y [T,D]              the whole block, shared experts included
  dy, dx [T,D]         for the loss sum(y * dy)
  d_router             gradient of the router's matrix, in the shape of its tensor on disk
  grad.<tensor name>   gradient of that tensor; of a fused or stacked expert tensor only expert `grad_expert`'s part
  grad_expert [1]      int32: the expert whose gradients are kept
and where the model needs them:
  kept [T,K]           int32: 0 where a capacity dropped the pair
  segments             int32: first token of each sequence, then T (capacity counted per sequence)
  token_ids [T]        int32: for routing by table
  expert_x, d_expert_x rows the experts read, where the router reads others (x), and their gradient
  carry, d_carry       logits of the layer below, and their gradient
"""
import json
import os
import re

import torch
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.abspath(__file__))


def bf16_exact(value):
    """Nearest bfloat16, as float32."""
    return value.to(torch.bfloat16).to(torch.float32)


def write_tensors(path, tensors, source=None):
    """One metadata entry at most: the writer's order of several is not fixed, and the bytes should be."""
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path,
              metadata={"source": source} if source else None)
    os.chmod(path, 0o644)


def write_folder(name, config, tensors, expected, source):
    """config: dict in the published format; tensors, expected: dicts of tensors; source: who computed `expected`."""
    folder = os.path.join(ROOT, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
        file.write("\n")
    write_tensors(os.path.join(folder, "model.safetensors"), tensors)
    write_tensors(os.path.join(folder, "expected.safetensors"), expected, source)
    return sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))


def kept_gradients(gradients, expert, experts, router, first=0):
    """gradients: published name -> tensor. Returns the few arrays that expected.safetensors keeps. `first`: number of
    the first expert in names."""
    kept = {}
    for name, value in gradients.items():
        if value is None:
            continue
        if name == router:
            kept["d_router"] = value
        elif re.search(r"experts\.(?:expert_)?\d+\.", name):
            if re.search(rf"experts\.(?:expert_)?{first + expert}\.", name):
                kept["grad." + name] = value
        elif value.dim() == 3:
            kept["grad." + name] = value[expert]
        elif value.dim() == 2 and value.shape[0] % experts == 0 and ".experts." in name and "shared" not in name:
            rows = value.shape[0] // experts
            kept["grad." + name] = value[expert * rows:(expert + 1) * rows]
        elif value.numel() <= 256 or re.search(r"shared.*(down_proj|w2|output_linear)\.weight$", name):
            kept["grad." + name] = value
    kept["grad_expert"] = torch.tensor([expert], dtype=torch.int32)
    return kept
