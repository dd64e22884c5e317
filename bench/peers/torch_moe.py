#!/usr/bin/env python3
"""PyTorch on the CPU, forward and forward + backward: a loop over experts, torch's grouped product, padded bmm.

    pip install torch numpy
    bench/peers/torch_moe.py --threads 2 --moe run.json

Optional, no part of any test. A form that this version of torch does not have on the CPU is left out.
"""
import numpy
import torch
import torch.nn.functional as functional

from common import Problem, arguments, median_seconds, print_table


class Layer:
    """Weights as leaves with gradients; every form takes the same sorted rows."""

    def __init__(self, problem, dtype):
        self.problem, self.dtype = problem, dtype
        self.gate_up = torch.from_numpy(problem.gate_up).to(dtype)  # [E, 2F, D]
        self.down = torch.from_numpy(problem.down).to(dtype)  # [E, D, F]
        # The loop has a matrix of its own for each expert, as a list of modules would: the gradient of a slice of
        # one big tensor is as big as the tensor.
        self.experts = [(self.gate_up[e].detach(), self.down[e].detach()) for e in range(problem.E)]
        self.x = [torch.from_numpy(x).to(dtype) for x in problem.x]
        self.ids = [torch.from_numpy(ids) for ids in problem.ids]
        self.weights = [torch.from_numpy(weights).to(dtype) for weights in problem.weights]

    def sort(self, batch):
        """Pairs by expert: their tokens, weights, and where each expert's end."""
        order = self.ids[batch].flatten().argsort(stable=True)
        counts = torch.bincount(self.ids[batch].flatten(), minlength=self.problem.E)
        return order // self.problem.K, self.weights[batch].flatten()[order], counts

    def unit(self, pre):
        gate, up = pre.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def loop(self, batch, x):
        token, weight, counts = self.sort(batch)
        y = torch.zeros_like(x)
        first = 0
        for e, count in enumerate(counts.tolist()):
            if count == 0:
                continue
            rows = token[first:first + count]
            hidden = self.unit(functional.linear(x[rows], self.experts[e][0]))
            z = functional.linear(hidden, self.experts[e][1]) * weight[first:first + count, None]
            y = y.index_add(0, rows, z)
            first += count
        return y

    def grouped(self, batch, x):
        token, weight, counts = self.sort(batch)
        ends = counts.cumsum(0).to(torch.int32)
        hidden = self.unit(torch._grouped_mm(x[token], self.gate_up.transpose(1, 2), offs=ends))
        z = torch._grouped_mm(hidden, self.down.transpose(1, 2), offs=ends)
        return torch.zeros_like(x).index_add(0, token, z * weight[:, None])

    def bmm(self, batch, x):
        """Every expert padded to the most rows that one has."""
        token, weight, counts = self.sort(batch)
        most, E = int(counts.max()), self.problem.E
        expert = torch.repeat_interleave(torch.arange(E), counts)
        place = torch.arange(len(token)) - (counts.cumsum(0) - counts)[expert] + expert * most
        rows = x.new_zeros(E * most, self.problem.D).index_copy(0, place, x[token])
        hidden = self.unit(torch.bmm(rows.view(E, most, -1), self.gate_up.transpose(1, 2)))
        z = torch.bmm(hidden, self.down.transpose(1, 2)).view(E * most, -1)[place]
        return torch.zeros_like(x).index_add(0, token, z * weight[:, None])


def forward_call(layer, form):
    def call(batch):
        with torch.no_grad():
            return form(batch, layer.x[batch])
    return call


def train_call(layer, form):
    """Gradients of x and of all weights; those of the weights are made anew, which costs less than adding."""
    leaves = [layer.gate_up, layer.down] + [weight for expert in layer.experts for weight in expert]
    for leaf in leaves:
        leaf.requires_grad_()

    def call(batch):
        for leaf in leaves:
            leaf.grad = None
        x = layer.x[batch].detach().requires_grad_()
        form(batch, x).backward(layer.x[batch])
    return call


def main():
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(options.threads)
    results, left_out = {}, set()
    for shape in options.shapes:
        for tokens in options.tokens:
            problem = Problem(shape, tokens)
            for storage, dtype, tolerance in (("float", torch.float32, 1e-5), ("bf16", torch.bfloat16, 3e-2)):
                layer = Layer(problem, dtype)
                for name in ("loop", "grouped", "bmm"):
                    form = getattr(layer, name)
                    if name == "bmm" and tokens < 8:
                        continue  # all E experts for a few rows: no one would
                    try:
                        y = forward_call(layer, form)(0)
                    except (RuntimeError, AttributeError) as error:
                        left_out.add(f"{name}, {storage}: {str(error).splitlines()[0]}")
                        continue
                    problem.verify(y.to(torch.float64).numpy().astype(numpy.float64), 0, tolerance)
                    row = results.setdefault(("forward", storage, shape, tokens), {})
                    seconds = median_seconds(forward_call(layer, form), len(problem.x))
                    row[f"torch {name}"] = problem.flops() / seconds * 1e-9
                if storage != "float" or tokens < 64:
                    continue
                for name in ("loop", "grouped", "bmm"):
                    try:
                        seconds = median_seconds(train_call(layer, getattr(layer, name)), len(problem.x))
                    except (RuntimeError, AttributeError) as error:
                        left_out.add(f"{name}, backward: {str(error).splitlines()[0]}")
                        continue
                    row = results.setdefault(("train", storage, shape, tokens), {})
                    row[f"torch {name}"] = 3 * problem.flops() / seconds * 1e-9
    print_table(f"PyTorch {torch.__version__}", results, options)
    for reason in sorted(left_out):
        print(f"\nLeft out: {reason}")


if __name__ == "__main__":
    main()
