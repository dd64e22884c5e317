"""Quantised storage of expert weights, written from the formats' descriptions.

Each `store` function takes the block's tensors under published names and returns (tensors on disk, exact values):
the second are the dequantised weights in the shapes of the first argument, on which the reference runs.
"""
import math
import re

import torch

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
EXPERT_WEIGHT = r"experts\.(\d+\.)?\w+\.weight$"


def narrow(value):
    """As bfloat16 where that loses nothing (correction biases and some routers are float32 on disk)."""
    small = value.to(torch.bfloat16)
    return small if torch.equal(small.float(), value) else value


def fp8_blocks(value, rows, columns, power_of_two=False):
    """[out,in] -> (F8_E4M3 [out,in], F32 scale per block, exact float32). value = fp8 * scale of the block."""
    out, width = value.shape
    grid = torch.zeros(math.ceil(out / rows), math.ceil(width / columns))
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            grid[i, j] = value[i * rows:(i + 1) * rows, j * columns:(j + 1) * columns].abs().max() / 448
    if power_of_two:
        grid = torch.exp2(torch.ceil(torch.log2(grid)))
    wide = grid.repeat_interleave(rows, 0)[:out].repeat_interleave(columns, 1)[:, :width]
    quantised = (value / wide).to(torch.float8_e4m3fn)
    return quantised, grid, quantised.float() * wide


def fp8_store(block):
    """DeepSeek-V3's files: every expert and shared expert matrix as X.weight F8_E4M3 + X.weight_scale_inv F32."""
    def store(tensors):
        disk, exact = {}, {}
        for name, value in tensors.items():
            if re.search(EXPERT_WEIGHT, name):
                disk[name], disk[name + "_scale_inv"], exact[name] = fp8_blocks(value, *block)
            else:
                exact[name] = value
                disk[name] = narrow(value)
        return disk, exact
    return store


def mxfp4_groups(value):
    """[..., 32*G] -> (codes 0..15 [..., G, 32], scale bytes [..., G], exact): value = E2M1[code] * 2^(byte - 127)."""
    groups = value.reshape(*value.shape[:-1], -1, 32)
    exponent = torch.floor(torch.log2(groups.abs().amax(-1).clamp(min=1e-30))) - 2
    scaled = groups / torch.exp2(exponent)[..., None]
    codes = (scaled[..., None] - E2M1).abs().argmin(-1)
    exact = E2M1[codes] * torch.exp2(exponent)[..., None]
    return codes.to(torch.uint8), (exponent + 127).to(torch.uint8), exact.reshape(value.shape)


def pack_nibbles(codes):
    """[..., 2n] codes -> [..., n] bytes, the even element in the low nibble."""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def mxfp4_gpt_oss(tensors):
    """gpt-oss: gate_up_proj [E,D,2F] and down_proj [E,F,D] become *_blocks U8 [E,out,in/32,16] and *_scales U8."""
    disk, exact = {}, {}
    for name, value in tensors.items():
        if re.search(r"experts\.(gate_up|down)_proj$", name):
            codes, scales, back = mxfp4_groups(value.transpose(1, 2).contiguous())
            disk[name + "_blocks"], disk[name + "_scales"] = pack_nibbles(codes), scales
            exact[name] = back.transpose(1, 2)
        else:
            exact[name], disk[name] = value, narrow(value)
    return disk, exact


def mxfp4_packed(tensors):
    """compressed-tensors mxfp4-pack-quantized: routed experts as weight_packed U8 [out,in/2], weight_scale U8."""
    disk, exact = {}, {}
    for name, value in tensors.items():
        if re.search(r"experts\.\d+\.\w+\.weight$", name):
            codes, scales, exact[name] = mxfp4_groups(value)
            disk[name + "_packed"] = pack_nibbles(codes.reshape(value.shape))
            disk[name + "_scale"] = scales
        else:
            exact[name] = value
            disk[name] = narrow(value)
    return disk, exact


def int4_packed(tensors):
    """compressed-tensors pack-quantized: routed experts as weight_packed I32 [out,in/8], weight_scale BF16 [out,in/32].

    Value = (nibble - 8) * scale; the lowest nibble of a word is the first of its eight elements.
    """
    disk, exact = {}, {}
    for name, value in tensors.items():
        if re.search(r"\.experts\.\d+\.\w+\.weight$", name):
            groups = value.reshape(value.shape[0], -1, 32)
            scale = (groups.abs().amax(-1) / 7.5).to(torch.bfloat16)
            codes = torch.round(groups / scale.float()[..., None]).clamp(-8, 7)
            exact[name] = (codes * scale.float()[..., None]).reshape(value.shape)
            nibbles = (codes + 8).to(torch.int64).reshape(value.shape[0], -1, 8)
            words = (nibbles << (4 * torch.arange(8))).sum(-1)
            disk[name + "_packed"] = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
            disk[name + "_scale"] = scale
            disk[name + "_shape"] = torch.tensor(value.shape, dtype=torch.int64)
        else:
            exact[name] = value
            disk[name] = narrow(value)
    return disk, exact


def fp4_deepseek_v4(tensors):
    """DeepSeek-V4: routed experts I8 [out,in/2] + F8_E8M0 `scale` [out,in/32]; shared FP8 with E8M0 128x128 scales."""
    disk, exact = {}, {}
    for name, value in tensors.items():
        scale_name = name.replace(".weight", ".scale")
        if re.search(r"\.experts\.\d+\.\w+\.weight$", name):
            codes, scales, exact[name] = mxfp4_groups(value)
            disk[name] = pack_nibbles(codes.reshape(value.shape)).view(torch.int8)
            disk[scale_name] = scales.view(torch.float8_e8m0fnu)
        elif re.search(r"shared_experts\.\w+\.weight$", name):
            disk[name], grid, exact[name] = fp8_blocks(value, 128, 128, power_of_two=True)
            disk[scale_name] = (torch.log2(grid) + 127).to(torch.uint8).view(torch.float8_e8m0fnu)
        elif not value.is_floating_point():
            exact[name], disk[name] = value, value
        else:
            exact[name], disk[name] = value, narrow(value)
    return disk, exact


ROUTED = r"\.experts\.\d+\.\w+\.weight$"
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def pack_words(codes):
    """[..., 8n] codes 0..15 -> [..., n] int32, the first in the lowest bits."""
    words = (codes.to(torch.int64).reshape(*codes.shape[:-1], -1, 8) << (4 * torch.arange(8))).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def asymmetric_groups(value, group):
    """[out,in] -> (codes [in,out], zeros [in/group,out], scales f16 [in/group,out], exact [out,in])."""
    groups = value.t().reshape(-1, group, value.shape[0])
    low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
    scale = ((high - low) / 15).to(torch.float16)
    zero = torch.round(-low / scale.float()).clamp(0, 15)
    codes = (torch.round(groups / scale.float()[:, None]) + zero[:, None]).clamp(0, 15)
    exact = (codes - zero[:, None]) * scale.float()[:, None]
    return codes.reshape(-1, value.shape[0]), zero, scale, exact.reshape(-1, value.shape[0]).t().contiguous()


def gptq(group, version=1):
    """GPTQ: X.qweight I32 [in/8,out], X.qzeros I32 [in/group,out/8] less one in version 1, X.scales F16, X.g_idx."""
    def store(tensors):
        disk, exact = {}, {}
        for name, value in tensors.items():
            if not re.search(ROUTED, name):
                exact[name], disk[name] = value, narrow(value)
                continue
            codes, zero, scale, exact[name] = asymmetric_groups(value, group)
            zero = zero.clamp(min=1) if version == 1 else zero
            exact[name] = ((codes.reshape(-1, group, codes.shape[1]) - zero[:, None]) * scale.float()[:, None]).reshape(
                codes.shape).t().contiguous()
            base = name[:-len("weight")]
            disk[base + "qweight"] = pack_words(codes.t()).t().contiguous()
            disk[base + "qzeros"] = pack_words(zero - (1 if version == 1 else 0))
            disk[base + "scales"] = scale
            disk[base + "g_idx"] = (torch.arange(codes.shape[0]) // group).to(torch.int32)
        return disk, exact
    return store


def awq(group):
    """AWQ (gemm): X.qweight I32 [in,out/8], X.qzeros I32 [in/group,out/8], both in AWQ's order, X.scales F16."""
    def store(tensors):
        disk, exact = {}, {}
        for name, value in tensors.items():
            if not re.search(ROUTED, name):
                exact[name], disk[name] = value, narrow(value)
                continue
            codes, zero, scale, exact[name] = asymmetric_groups(value, group)
            turn = lambda x: x.reshape(x.shape[0], -1, 8)[..., AWQ_ORDER].reshape(x.shape)  # noqa: E731
            base = name[:-len("weight")]
            disk[base + "qweight"], disk[base + "qzeros"] = pack_words(turn(codes)), pack_words(turn(zero))
            disk[base + "scales"] = scale
        return disk, exact
    return store


def nvfp4(tensors):
    """compressed-tensors nvfp4-pack-quantized: X.weight_packed U8 [out,in/2], X.weight_scale F8_E4M3 [out,in/16],
    X.weight_global_scale F32 [1], which divides."""
    disk, exact = {}, {}
    for name, value in tensors.items():
        if not re.search(ROUTED, name):
            exact[name], disk[name] = value, narrow(value)
            continue
        groups = value.reshape(value.shape[0], -1, 16)
        whole = torch.tensor([448 * 6 / float(value.abs().max())], dtype=torch.float32)
        scale = (groups.abs().amax(-1) / 6 * whole).to(torch.float8_e4m3fn)
        wide = scale.float()[..., None] * (1 / whole)
        codes = (groups / wide.clamp(min=1e-30)).unsqueeze(-1).sub(E2M1).abs().argmin(-1)
        exact[name] = (E2M1[codes] * wide).reshape(value.shape)
        disk[name + "_packed"] = pack_nibbles(codes.to(torch.uint8).reshape(value.shape))
        disk[name + "_scale"], disk[name + "_global_scale"] = scale, whole
    return disk, exact
