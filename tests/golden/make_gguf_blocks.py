"""Blocks of every quantised GGUF type and what the `gguf` package decodes them to: gguf_blocks.safetensors.

pip install gguf safetensors numpy; python make_gguf_blocks.py
"""
import os

import gguf
import numpy
from safetensors.numpy import save_file

ROOT = os.path.dirname(os.path.abspath(__file__))
# Where a block has its 16-bit scales; everything else are codes, for which any bytes will do.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "MXFP4": [],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
BLOCKS = 6


def main():
    random = numpy.random.default_rng(7)
    tensors = {}
    for name, halves in HALVES.items():
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (BLOCKS, size), dtype=numpy.uint8)
        for at in halves:
            scale = random.normal(size=BLOCKS).astype("<f2")
            blocks[:, at:at + 2] = scale.view(numpy.uint8).reshape(BLOCKS, 2)
        if name == "MXFP4":
            blocks[:, 0] = random.integers(100, 150, BLOCKS)
        tensors[name + ".bytes"] = blocks.reshape(-1)
        tensors[name + ".values"] = gguf.quants.dequantize(blocks, kind).astype(numpy.float32).reshape(-1)
    path = os.path.join(ROOT, "gguf_blocks.safetensors")
    save_file(tensors, path)
    os.chmod(path, 0o644)


if __name__ == "__main__":
    main()
