"""What the Python peers share: shapes, inputs from a seed, the reference, timing and the table.

Inputs are those of moe_bench in kind (standard normal rows, weights uniform in +-1 / sqrt(inputs), a random softmax
top-k router with weights that sum to 1), not in bits: each script verifies its own result against plain numpy in double.
"""
import argparse
import json
import re
import statistics
import time

import numpy

SHAPES = {"S1": (1024, 3584, 8, 2), "S2": (1024, 512, 64, 8), "S3": (2048, 1024, 64, 8)}  # D, F, E, K


class Problem:
    """Weights [E, 2F, D] (gate over up) and [E, D, F]; batches of rows [T, D] with routes [T, K]."""

    def __init__(self, shape, tokens, batches=4, seed=1):
        self.name, self.tokens = shape, tokens
        self.D, self.F, self.E, self.K = SHAPES[shape]
        random = numpy.random.default_rng(seed)

        def uniform(rows, inputs):
            bound = 1 / numpy.sqrt(inputs)
            values = random.random((self.E, rows, inputs), dtype=numpy.float32)
            return (2 * values - 1) * numpy.float32(bound)

        self.gate_up, self.down = uniform(2 * self.F, self.D), uniform(self.D, self.F)
        router = (random.random((self.E, self.D), dtype=numpy.float32) * 2 - 1) / numpy.float32(numpy.sqrt(self.D))
        self.x = [random.standard_normal((tokens, self.D), dtype=numpy.float32) for _ in range(batches)]
        self.logits = [x @ router.T for x in self.x]
        self.ids = [numpy.argsort(-logits, axis=1, kind="stable")[:, :self.K] for logits in self.logits]
        self.weights = []
        for logits, ids in zip(self.logits, self.ids):
            kept = numpy.take_along_axis(logits, ids, axis=1)
            kept = numpy.exp(kept - kept.max(axis=1, keepdims=True))
            self.weights.append(kept / kept.sum(axis=1, keepdims=True))

    def flops(self):
        return 6 * self.D * self.F * self.tokens * self.K

    def reference(self, batch, token, gate_up=None, down=None):
        """The row of Y in double; from other weights where they were quantised."""
        gate_up = self.gate_up if gate_up is None else gate_up
        down = self.down if down is None else down
        x = self.x[batch][token].astype(numpy.float64)
        y = numpy.zeros(self.D)
        for e, weight in zip(self.ids[batch][token], self.weights[batch][token]):
            pre = gate_up[e].astype(numpy.float64) @ x
            gate, up = pre[:self.F], pre[self.F:]
            y += weight * (down[e].astype(numpy.float64) @ (gate / (1 + numpy.exp(-gate)) * up))
        return y

    def verify(self, y, batch, tolerance, gate_up=None, down=None):
        """Relative L2 error of the first and the last row; raises above `tolerance`."""
        for token in {0, self.tokens - 1}:
            want = self.reference(batch, token, gate_up, down)
            error = numpy.linalg.norm(y[token] - want) / numpy.linalg.norm(want)
            if not error <= tolerance:
                raise AssertionError(f"{self.name}, T = {self.tokens}, row {token}: relative error {error:.2e}")


def median_seconds(call, batches, least=7, budget=1.0):
    """call(batch) after one round of warming up: median of at least `least` calls and `budget` seconds."""
    for batch in range(batches):
        call(batch)
    samples, start = [], time.perf_counter()
    while len(samples) < least or time.perf_counter() - start < budget:
        begin = time.perf_counter()
        call(len(samples) % batches)
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples)


def arguments(description, library=None):
    """`library`: help for an option of this name, of the peers that have several."""
    parser = argparse.ArgumentParser(description=description)
    if library:
        parser.add_argument("--library", help=library)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 8, 64, 512, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--moe", help="JSON of a run of moe_bench on this machine, for the column next to the peers'")
    return parser.parse_args()


def ours(path):
    """(kind, storage, shape, tokens, threads) -> median GFLOP/s of moe_bench's run."""
    if not path:
        return {}
    samples = {}
    with open(path, encoding="utf-8") as file:
        for entry in json.load(file)["benchmarks"]:
            match = re.match(r"(forward|train)/(\w+)/(\w+)/tokens:(\d+)/threads:(\d+)/real_time", entry["name"])
            if match and entry.get("run_type") != "aggregate" and "flops_per_s" in entry:
                key = (match[1], match[2], match[3], int(match[4]), int(match[5]))
                samples.setdefault(key, []).append(entry["flops_per_s"] * 1e-9)
    return {key: statistics.median(values) for key, values in samples.items()}


def print_table(title, results, options):
    """results: (kind, storage, shape, tokens) -> {peer: GFLOP/s}."""
    theirs = ours(options.moe)
    peers = sorted({peer for row in results.values() for peer in row})
    print(f"{title}, {options.threads} thread(s), GFLOP/s\n")
    print("| pass | storage | shape | T | " + " | ".join(peers) + " | moe |")
    print("|" + "---|" * (5 + len(peers)))
    for (kind, storage, shape, tokens), row in results.items():
        cells = [f"{row[peer]:.1f}" if peer in row else "" for peer in peers]
        mine = theirs.get((kind, storage, shape, tokens, options.threads))
        cells.append("" if mine is None else f"{mine:.1f}")
        print(f"| {kind} | {storage} | {shape} | {tokens} | " + " | ".join(cells) + " |")
