#!/usr/bin/env python3
"""onnxruntime's CPU operators MoE (float) and QMoE (8 and 4 bits, one scale for 32 weights), forward.

    pip install onnx onnxruntime numpy
    bench/peers/onnxruntime_moe.py --threads 2 --moe run.json

Optional, no part of any test. The operators route themselves from logits that are given. Weights are inputs of the
session's graph as initialisers, so that the operator may pack them beforehand.
"""
import numpy
import onnxruntime
from onnx import TensorProto, helper

from common import Problem, arguments, median_seconds, print_table

GROUP = 32


def interleaved(gate_up):
    """The operators want rows gate 0, up 0, gate 1, up 1, ..."""
    E, rows, D = gate_up.shape
    return numpy.ascontiguousarray(gate_up.reshape(E, 2, rows // 2, D).transpose(0, 2, 1, 3).reshape(E, rows, D))


def quantise(weights, bits):
    """codes (offset by half the range, 4 bits two to a byte, low half first), scales, and what they stand for."""
    E, rows, cols = weights.shape
    half = 2**(bits - 1)
    groups = weights.reshape(E, rows, cols // GROUP, GROUP)
    scales = numpy.abs(groups).max(axis=3) / (half - 1)
    codes = numpy.rint(groups / scales[..., None])
    exact = (codes * scales[..., None]).reshape(weights.shape).astype(numpy.float32)
    stored = (codes + half).astype(numpy.uint8).reshape(weights.shape)
    if bits == 4:
        stored = stored[..., 0::2] | (stored[..., 1::2] << 4)
    return stored, scales.astype(numpy.float32), exact


def session(problem, operator, initialisers, inputs, threads, **attributes):
    def initialiser(name, values):
        kind = TensorProto.UINT8 if values.dtype == numpy.uint8 else TensorProto.FLOAT
        return onnxruntime.OrtValue.ortvalue_from_numpy(values), helper.make_tensor_value_info(name, kind, values.shape)

    values = {name: initialiser(name, array) for name, array in initialisers.items()}
    node = helper.make_node(operator, inputs, ["y"], domain="com.microsoft", k=problem.K, activation_type="swiglu",
                            swiglu_fusion=1, normalize_routing_weights=1, activation_alpha=1.0, activation_beta=0.0,
                            swiglu_limit=1e30, **attributes)
    rows = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", problem.D]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["T", problem.E])]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", problem.D])
    # Initialisers beyond a protobuf's 2 GiB are handed over as values; the graph names them as external data.
    tensors = []
    for name, (_, info) in values.items():
        tensor = TensorProto(name=name, data_type=info.type.tensor_type.elem_type, dims=initialisers[name].shape,
                             data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="in_memory")
        tensors.append(tensor)
    graph = helper.make_graph([node], "moe", rows, [y], initializer=tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
                              ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_external_initializers(list(values), [value for value, _ in values.values()])
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def float_session(problem, threads):
    weights = {"fc1": interleaved(problem.gate_up), "fc2": problem.down}
    return session(problem, "MoE", weights, ["x", "logits", "fc1", "", "fc2"], threads), None, None


def quantised_session(problem, threads, bits):
    fc1, scales1, gate_up = quantise(problem.gate_up, bits)
    fc2, scales2, down = quantise(problem.down, bits)
    weights = {"fc1": interleaved(fc1), "scales1": interleaved(scales1), "fc2": fc2, "scales2": scales2}
    inputs = ["x", "logits", "fc1", "scales1", "", "fc2", "scales2"]
    return session(problem, "QMoE", weights, inputs, threads, expert_weight_bits=bits, block_size=GROUP), gate_up, down


def main():
    options = arguments(__doc__.splitlines()[0])
    results, left_out = {}, set()
    makers = (("float", 1e-5, float_session), ("int8", 2e-2, lambda p, n: quantised_session(p, n, 8)),
              ("int4", 2e-2, lambda p, n: quantised_session(p, n, 4)))
    for shape in options.shapes:
        for tokens in options.tokens:
            problem = Problem(shape, tokens)
            for storage, tolerance, make in makers:
                try:
                    run, gate_up, down = make(problem, options.threads)

                    def call(batch, run=run):
                        return run.run(["y"], {"x": problem.x[batch], "logits": problem.logits[batch]})[0]

                    y = call(0)
                except Exception as error:  # what onnxruntime raises has no common type
                    left_out.add(f"{storage}: {str(error).splitlines()[0]}")
                    continue
                problem.verify(y.astype(numpy.float64), 0, tolerance, gate_up, down)
                operator = "MoE" if storage == "float" else "QMoE"
                row = results.setdefault(("forward", storage, shape, tokens), {})
                row[f"onnxruntime {operator}"] = problem.flops() / median_seconds(call, len(problem.x)) * 1e-9
    print_table(f"onnxruntime {onnxruntime.__version__}", results, options)
    for reason in sorted(left_out):
        print(f"\nLeft out: {reason}")


if __name__ == "__main__":
    main()
