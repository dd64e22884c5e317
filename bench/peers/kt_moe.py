#!/usr/bin/env python3
"""kt-kernel's MoE layers on the CPU, forward, bf16 and int8 (a scale a row).

    pip install kt-kernel torch numpy
    bench/peers/kt_moe.py --threads 1 --moe run.json

Loads the kernels of the package without its Python part. Optional, no part of any test. A call hands its work to a
thread of the package, which took 8 ms for a single token where this was written.
"""
import importlib.util
import pathlib
import sys

import numpy
import torch

from common import Problem, arguments, median_seconds, print_table

# Library -> (storage, class of a layer): what it is best at.
KERNELS = {"avx2": [("bf16", "AVX2BF16_MOE")],
           "avx512_bf16": [("bf16", "AMXBF16_MOE"), ("int8", "AMXInt8_MOE")]}  # by AVX-512 where there is no AMX


def load(library):
    spec = importlib.util.find_spec("kt_kernel")
    if spec is None:
        sys.exit("kt-kernel is not there: pip install kt-kernel")
    found = list(pathlib.Path(spec.submodule_search_locations[0]).glob(f"_kt_kernel_ext_{library}.*"))
    if not found:
        sys.exit(f"kt-kernel has no library {library}; there are: {', '.join(KERNELS)}")
    extension = importlib.util.spec_from_file_location("kt_kernel_ext", found[0])
    module = importlib.util.module_from_spec(extension)
    extension.loader.exec_module(module)
    return module


def pool(kernels, threads):
    options = kernels.WorkerPoolConfig()
    options.subpool_count = 1
    options.subpool_numa_map = [0]
    options.subpool_thread_count = [threads]
    return kernels.CPUInfer(options)


class Layer:
    """Keeps every array alive that the layer has a pointer to."""

    def __init__(self, kernels, cpu, kind, problem):
        self.problem, self.cpu = problem, cpu

        def bf16(weights):
            return torch.from_numpy(numpy.ascontiguousarray(weights)).to(torch.bfloat16)

        self.gate, self.up = bf16(problem.gate_up[:, :problem.F]), bf16(problem.gate_up[:, problem.F:])
        self.down = bf16(problem.down)
        self.nowhere_else = torch.zeros(problem.E, dtype=torch.bool)
        self.order = torch.arange(problem.E, dtype=torch.int64)
        options = kernels.moe.MOEConfig(problem.E, problem.K, problem.D, problem.F)
        options.max_len = max(problem.tokens, 64)
        options.gpu_experts_mask = self.nowhere_else.data_ptr()
        options.physical_to_logical_map = self.order.data_ptr()
        options.layer_idx = 0
        options.pool = cpu.backend_
        options.gate_proj, options.up_proj, options.down_proj = (m.data_ptr() for m in (self.gate, self.up, self.down))
        self.layer = getattr(kernels.moe, kind)(options)
        cpu.submit(self.layer.load_weights_task(self.order.data_ptr()))
        cpu.sync()
        self.x = [bf16(x) for x in problem.x]
        self.ids = [torch.from_numpy(ids.astype(numpy.int64)) for ids in problem.ids]
        self.weights = [torch.from_numpy(weights.astype(numpy.float32)) for weights in problem.weights]
        self.tokens = torch.tensor([problem.tokens], dtype=torch.int32)
        self.y = torch.empty_like(self.x[0])

    def __call__(self, batch):
        self.cpu.submit(self.layer.forward_task(self.tokens.data_ptr(), self.problem.K, self.ids[batch].data_ptr(),
                                                self.weights[batch].data_ptr(), self.x[batch].data_ptr(),
                                                self.y.data_ptr(), False))
        self.cpu.sync()
        return self.y


def main():
    options = arguments(__doc__.splitlines()[0], library=f"one of {', '.join(KERNELS)}; otherwise what this processor has")
    library = options.library or ("avx512_bf16" if "AVX512" in torch.backends.cpu.get_cpu_capability() else "avx2")
    kernels = load(library)
    cpu = pool(kernels, options.threads)
    results = {}
    for shape in options.shapes:
        for tokens in options.tokens:
            problem = Problem(shape, tokens)
            for storage, kind in KERNELS[library]:
                layer = Layer(kernels, cpu, kind, problem)
                problem.verify(layer(0).to(torch.float64).numpy(), 0, 3e-2)
                seconds = median_seconds(layer, len(problem.x))
                results[("forward", storage, shape, tokens)] = {"kt-kernel": problem.flops() / seconds * 1e-9}
    print_table(f"kt-kernel, {library}", results, options)


if __name__ == "__main__":
    main()
