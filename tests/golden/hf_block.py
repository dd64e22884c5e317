"""One MoE block of a Transformers model at a tiny size: random weights, run, gradients, published names.

The published layout comes from save_pretrained, which undoes Transformers v5's fusing of experts, and where that writes
something else than the releases have, from `publish`; from_pretrained of the result must give the same parameters.
Gradients go the same way: they are put in place of the parameters and saved, so every array has the name and shape of
its tensor on disk.
"""
import copy
import os
import re
import tempfile
import zlib
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import torch
import transformers
from safetensors.torch import load_file, save_file

from golden_io import bf16_exact, kept_gradients, write_folder
from quantised import narrow


@dataclass
class Case:
    """What it takes to build one folder. `config` is the published config.json (the keys that matter)."""
    folder: str
    config: dict
    block: Any                    # path(s) of the block in the model, e.g. "model.layers.0.mlp"
    prefix: Any                   # published prefix(es) of the tensors to keep
    router: str                   # published name (after the prefix) of the router's matrix, [E,D]
    seed: int
    tokens: int = 7
    bf16: bool = True             # weights bf16 on disk, except `keep_f32`
    keep_f32: str = r"e_score_correction_bias|expert_bias$"
    model_class: str = "AutoModelForCausalLM"
    config_class: Optional[str] = None
    extra: dict = field(default_factory=dict)            # config keys needed to build, not part of the format
    whole: Optional[dict] = None                         # config to build from where `config` is a section of it
    turned_router: bool = False                          # it is published as [D,E]
    first_expert: int = 0                                # number of the block's first expert in published names
    experts: Optional[int] = None                        # E on disk; default: first dimension of the router
    capture: Optional[Callable] = None                   # (block, x) -> dict with ids, weights, router_logits
    call: Callable = lambda block, x: block(x[None])[0]  # x [T,D] -> y [T,D]
    second_input: Optional[Callable] = None              # (block, x) -> rows the experts read instead of x
    more: Optional[Callable] = None                      # (block, x) -> further outputs to keep
    targets: tuple = ()                                  # rows of logits that tokens 1, 2, ... are made to have
    bias_spread: float = 0.15                            # of correction biases, beside the scores they are added to
    adjust: Optional[Callable] = None                    # (block, generator): changes after the random fill
    publish: Callable = lambda tensors: tensors          # tensors as saved -> published names and orientation
    loadable: bool = True                                # False: Transformers misreads the published layout
    store: Optional[Callable] = None                     # (dict of disk tensors) -> dict: quantisation
    keep_gradients: bool = False                         # of experts, also where they are stored quantised
    inputs: dict = field(default_factory=dict)           # further inputs to keep, e.g. token_ids
    note: str = ""


def seeded(folder, seed):
    """Every folder draws its own numbers, and always the same ones."""
    return torch.Generator().manual_seed(zlib.crc32(folder.encode()) + seed)


def fill(block, generator, bf16, keep_f32, bias_spread=0.15):
    """Random parameters and buffers: matrices ~ N(0, 1.2/sqrt(fan in)), router rows wider, biases ~ N(0, 0.3)."""
    tensors = dict(block.named_parameters()) | {k: v for k, v in block.named_buffers() if v.is_floating_point()}
    with torch.no_grad():
        for name, value in sorted(tensors.items()):
            draw = torch.randn(value.shape, generator=generator)
            if re.search("correction_bias|expert_bias", name):
                draw = draw * bias_spread
            elif value.dim() < 2 or "bias" in name:
                draw = draw * 0.3 + (1.0 if re.search(r"norm|scale", name) else 0.0)
            else:
                fan_in = value.shape[-1]
                draw = draw * (1.5 if re.search(r"gate|router|classifier", name) else 1.2) / fan_in ** 0.5
            value.copy_(bf16_exact(draw) if bf16 and not re.search(keep_f32, name) else draw)


def round_parameters(block, keep_f32):
    with torch.no_grad():
        for name, value in block.named_parameters():
            if not re.search(keep_f32, name):
                value.copy_(bf16_exact(value))


def generic_capture(block, x, call):
    """ids and weights as they reach the experts module; logits as the router returns them first."""
    seen = {}

    def on_experts(_, args, kwargs):
        for value in list(args)[1:] + list(kwargs.values()):
            if torch.is_tensor(value) and value.dim() == 2:
                seen["weights" if value.is_floating_point() else "ids"] = value.detach().clone()

    def on_router(_, __, output):
        first = output[0] if isinstance(output, tuple) else output
        if torch.is_tensor(first) and first.dim() >= 2:
            seen["router_logits"] = first.detach().reshape(-1, first.shape[-1]).clone()

    hooks = [block.experts.register_forward_pre_hook(on_experts, with_kwargs=True)]
    router = getattr(block, "gate", None) or getattr(block, "router", None)
    if router is not None:
        hooks.append(router.register_forward_hook(on_router))
    with torch.no_grad():
        call(block, x)
    for hook in hooks:
        hook.remove()
    return seen


def choice_of(seen):
    """What must not change when x is moved a little: ids (and which are kept), and nearly the weights."""
    ids = torch.cat([seen["ids"], seen["kept"]], dim=1) if "kept" in seen else seen["ids"]
    return ids, seen["weights"].detach()


def stable_tokens(route, tokens, width, generator, router, targets=()):
    """x [T,D] whose choice survives a relative change of 1e-4; token 0 has only negative logits, then come `targets`.

    route(x) -> (choice, weights): neither the choice may change nor a weight by more than 0.02 (SparseMixer's masks).
    """
    x = torch.randn(tokens, width, generator=generator)
    if router is not None and router.shape[0] < width:
        wanted = torch.stack([-0.3 - 2.5 * torch.rand(router.shape[0], generator=generator),
                              *(torch.tensor(row) for row in targets)])
        x[:len(wanted)] = torch.linalg.lstsq(router.detach(), wanted.T).solution.T
    for _ in range(200):
        choice, weights = route(x)
        bad = torch.zeros(tokens, dtype=torch.bool)
        for _ in range(6):
            other, moved = route(x * (1 + 1e-4 * torch.randn(x.shape, generator=generator)))
            bad |= (choice != other).any(dim=-1) | ((weights - moved).abs() > 0.02).any(dim=-1)
        if not bad.any():
            return x
        if bad[1:1 + len(targets)].any():
            raise RuntimeError("a wanted row of logits is not stable")
        x[bad] = torch.randn(int(bad.sum()), width, generator=generator)
    raise RuntimeError("no stable tokens found")


def find(model, path):
    """The module at a dotted path; a list of paths gives a ModuleList of them (a block spread over a layer)."""
    if not isinstance(path, str):
        return torch.nn.ModuleList(find(model, one) for one in path)
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def prefixes(case):
    return [case.prefix] if isinstance(case.prefix, str) else case.prefix


def saved_tensors(model, case):
    """The block's tensors under the names that save_pretrained writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = {}
        for file in sorted(os.listdir(folder)):
            if file.endswith(".safetensors"):
                tensors |= load_file(os.path.join(folder, file))
    tensors = case.publish(tensors)
    return {k: v for k, v in sorted(tensors.items()) if any(k.startswith(p) for p in prefixes(case))}


def build_model(case):
    config = dict(case.whole or case.config) | case.extra
    config.pop("quantization_config", None)
    if case.config_class:
        config = getattr(transformers, case.config_class)(**{k: v for k, v in config.items() if k != "model_type"})
    else:
        config = transformers.AutoConfig.for_model(**config)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    cls = getattr(transformers, case.model_class)
    model = cls.from_config(config) if case.model_class.startswith("Auto") else cls(config)
    return model.float().eval()


def make(case):
    """Builds the folder; returns its size in bytes."""
    torch.manual_seed(case.seed)
    generator = seeded(case.folder, case.seed)
    model = build_model(case)
    block = find(model, case.block)
    fill(block, generator, case.bf16, case.keep_f32, case.bias_spread)
    if case.adjust:
        case.adjust(block, generator)
        if case.bf16:
            round_parameters(block, case.keep_f32)

    disk = saved_tensors(model, case)
    router_name = prefixes(case)[0] + case.router
    router = disk.get(router_name)
    if case.turned_router:
        router = router.T
    if case.store:  # the reference runs on what the quantised file says
        stored, exact = case.store({k: v.clone() for k, v in disk.items()})
        model.load_state_dict(load_published(model, case, exact).state_dict())
    else:
        exact = disk
        stored = {k: narrow(v) if case.bf16 else v for k, v in disk.items()}

    capture = case.capture or (lambda b, rows: generic_capture(b, rows, case.call))
    width = router.shape[1] if router is not None else case.config["hidden_size"]

    x = stable_tokens(lambda rows: choice_of(capture(block, rows)), case.tokens, width, generator, router,
                      case.targets)
    seen = capture(block, x)

    leaf = x.clone().requires_grad_(True)
    for parameter in block.parameters():
        parameter.requires_grad_(True)
    expert_leaf = []
    if case.second_input:
        expert_leaf = [case.second_input(block, x).detach().requires_grad_(True)]
    y = case.call(block, leaf, *expert_leaf)
    dy = torch.randn(y.shape, generator=generator)
    (y * dy).sum().backward()
    expected = {"x": x, "ids": seen["ids"].to(torch.int32), "weights": seen["weights"].float(), "y": y,
                "dy": dy, "dx": leaf.grad} | case.inputs
    if case.second_input:
        expected |= {"expert_x": expert_leaf[0], "d_expert_x": expert_leaf[0].grad}
    if case.more:
        with torch.no_grad():
            expected |= case.more(block, x)
    for name in ("router_logits", "kept"):
        if seen.get(name) is not None:
            expected[name] = seen[name]

    check_loads_back(model, case, exact, x, y)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for (_, parameter), (_, source) in zip(find(twin, case.block).named_parameters(), block.named_parameters()):
            parameter.copy_(source.grad if source.grad is not None else torch.zeros_like(source))
    experts = case.experts or router.shape[0]
    expert = int(seen["ids"].reshape(-1)[(seen["ids"].reshape(-1) < experts).nonzero()[-1]])
    state = "correction_bias|expert_bias|router_bias"
    gradients = {k: v for k, v in saved_tensors(twin, case).items() if not re.search(state, k)
                 and v.count_nonzero() and (k == router_name or not case.store or case.keep_gradients)}
    expected |= kept_gradients(gradients, expert, experts, router_name, case.first_expert)

    source = (f"transformers {transformers.__version__} {class_name(block)}, "
              f"torch {torch.__version__}, float32, CPU, seed {case.seed}{'; ' + case.note if case.note else ''}")
    return write_folder(case.folder, case.config, stored, expected, source)


def class_name(block):
    if isinstance(block, torch.nn.ModuleList):
        return " + ".join(class_name(part) for part in block)
    return f"{type(block).__module__.split('.')[-1]}.{type(block).__name__}"


def load_published(model, case, tensors):
    """The model as from_pretrained makes it from the published tensors (float32) of the block."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = os.path.join(folder, "model.safetensors")
        block = tuple(prefixes(case))
        rest = {k: v for k, v in load_file(file).items()
                if not k.startswith(block) and not k.removeprefix("model.").startswith(block)}
        published = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        save_file(rest | {k: v.contiguous() for k, v in published.items()}, file, metadata={"format": "pt"})
        return type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                           experts_implementation="eager").eval()


def check_loads_back(model, case, tensors, x, y):
    """What is published, from_pretrained must read: same parameter bits, same output."""
    if not case.loadable:
        return
    block, again = find(model, case.block), find(load_published(model, case, tensors), case.block)
    for (name, value), (_, other) in zip(block.state_dict().items(), again.state_dict().items()):
        if not torch.equal(value, other):
            raise RuntimeError(f"{case.folder}: {name} is not what was saved")
    with torch.no_grad():
        torch.testing.assert_close(case.call(again, x), y.detach(), rtol=1e-5, atol=1e-5)
