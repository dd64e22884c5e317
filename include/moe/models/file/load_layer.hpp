// One layer of a released model from its folder, as published: config.json says which preset, the preset says
// what to build, the tensors are read expert by expert. Or from a GGUF file, whose metadata say it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/experts.hpp"
#include "moe/io/json/config.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/models/any/any_parts.hpp"
#include "moe/models/file/gguf_layer.hpp"
#include "moe/models/file/layer_source.hpp"
#include "moe/models/file/layer_tensors.hpp"
#include "moe/models/preset/registry.hpp"
#include "moe/plan/capacity/dropless.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// Called after every expert; borrowed for the call.
struct LoadProgress {
  void* context = nullptr;
  void (*call)(void* context, Index done, Index total) noexcept = nullptr;
  void operator()(Index done, Index total) const noexcept {
    if (call != nullptr) call(context, done, total);
  }
};

struct LoadOptions {
  StorageKind storage = StorageKind::float32;
  LoadProgress progress{};
};

namespace impl {

/// A parameter that is not an expert's.
inline void load_parameter(const LayerSource& source, const Parameter<float>& p) {
  Buffer<float> values(p.value.size());
  const MatrixView<float> view(values.data(), p.value.rows, p.value.cols);
  source.read(p.name, view);
  p.value.assign(ConstMatrixView<float>(view));
}
inline void load_state(const LayerSource& source, const char* name, double* to, Index n) {
  Buffer<float> values(n);
  source.read(name, MatrixView<float>(values.data(), 1, n));
  for (Index i = 0; i < n; ++i) to[i] = static_cast<double>(values[i]);
}

/// All parameters of a part without experts.
template <class Part>
void load_parameters(Part& part, const LayerSource& source) {
  auto parameter = [&](const Parameter<float>& p) { load_parameter(source, p); };
  part.visit_parameters(nullptr, parameter);
}

inline OptionsRouter<float> load_router(const LayerSource& source, const LayerSpec& spec) {
  OptionsRouter<float> router = spec.hash_table
                                    ? token_choice_router<float>(spec.router, source.hash_table(spec))
                                    : token_choice_router<float>(spec.router);
  auto state = [&](const char* name, double* to, Index n) { load_state(source, name, to, n); };
  load_parameters(router, source);
  router.visit_state(state);
  return router;
}

/// Routed experts into a bank of their kind and extents.
template <class Bank>
void load_bank(Bank& bank, const LayerSource& source, const LayerSpec& spec, const LoadProgress& progress) {
  io::load_experts(bank, *source.routed(spec),
                   [&](Index done, Index total) noexcept { progress(done, total); });
}

/// The one shared expert, whose tensors have no expert dimension.
template <class Bank>
void load_shared_bank(Bank& bank, const LayerSource& source, const LayerSpec& spec) {
  const Index width = spec.width, hidden = spec.shared_hidden;
  const auto codes_of = [&](io::ExpertMatrix part) {
    const bool second = part == io::ExpertMatrix::down || part == io::ExpertMatrix::fc2;
    return source.shared_groups(part, second ? width : hidden, second ? hidden : width);
  };
  const auto read_into = [&](io::ExpertMatrix part, const MatrixView<float>& to) {
    source.read_shared(part, to);
  };
  if (io::impl::repack_expert(bank, 0, codes_of, read_into)) return;
  const auto read = [&](io::ExpertMatrix part, Index out, Index in, Buffer<float>& to) {
    to.resize(checked_product("shared expert", out, in));
    const MatrixView<float> view(to.data(), out, in);
    source.read_shared(part, view);
    return ConstMatrixView<float>(view);
  };
  Buffer<float> first, second, third;
  if constexpr (io::impl::GatedBank<Bank>) {
    const auto gate = read(io::ExpertMatrix::gate, hidden, width, first),
               up = read(io::ExpertMatrix::up, hidden, width, second);
    bank.load(0, gate, up, read(io::ExpertMatrix::down, width, hidden, third));
  } else {
    const auto fc1 = read(io::ExpertMatrix::fc1, hidden, width, first);
    bank.load(0, fc1, read(io::ExpertMatrix::fc2, width, hidden, second));
  }
}
template <class Shared>
void load_shared_gate(Shared& shared, const LayerSource& source) {
  auto parameter = [&](const Parameter<float>& p) {
    if (std::string_view(p.name) == "shared_expert_gate.weight") load_parameter(source, p);
  };
  shared.visit_parameters(nullptr, parameter);
}

inline ZeroComputation<float> make_cheap_experts(const LayerSpec& spec) {
  return ZeroComputation<float>({.width = spec.expert_width(),
                                 .zero = spec.zero_experts,
                                 .copy = spec.copy_experts,
                                 .constant = spec.constant_experts});
}
/// Constant experts' vectors and gates.
inline ZeroComputation<float> load_cheap_experts(const LayerSource& source, const LayerSpec& spec) {
  ZeroComputation<float> cheap = make_cheap_experts(spec);
  auto parameter = [&](const Parameter<float>& p) { load_parameter(source, p); };
  cheap.visit_parameters(nullptr, parameter, spec.experts);
  return cheap;
}

/// With the gate of the shared expert.
inline LayerSpec shared_spec(LayerSpec spec) {
  if (spec.shared_act) spec.gate = *spec.shared_act;
  return spec;
}

template <class Storage>
FeedForward<Storage> make_bank(const LayerSpec& spec, Index experts, Index width, Index hidden, bool bias) {
  const TwoLayerOptions options{experts, width, hidden, bias};
  if (spec.gated) return Glu<AnyGate, Storage>(options, spec.gate);
  return Mlp<AnyActivation, Storage>(options, spec.activation);
}

// Parts behind run-time choices: with `source` null made of the right shape, for who fills them otherwise.

template <class Storage>
AnyBank<Storage> load_any_bank(const LayerSource* source, const LayerSpec& spec,
                               const LoadProgress& progress) {
  FeedForward<Storage> bank =
      make_bank<Storage>(spec, spec.experts, spec.expert_width(), spec.hidden, spec.expert_bias);
  if (source != nullptr) bank.visit([&](auto& of_kind) { load_bank(of_kind, *source, spec, progress); });
  if (spec.outputs() == spec.experts) return bank;
  return Composite<FeedForward<Storage>, ZeroComputation<float>>(
      std::move(bank), source == nullptr ? make_cheap_experts(spec) : load_cheap_experts(*source, spec));
}

template <class Storage>
AnyShared<FeedForward<Storage>> load_any_shared(const LayerSource* source, const LayerSpec& spec) {
  if (spec.shared_hidden == 0) return {};
  FeedForward<Storage> bank = make_bank<Storage>(shared_spec(spec), 1, spec.width, spec.shared_hidden, false);
  if (source != nullptr) bank.visit([&](auto& of_kind) { load_shared_bank(of_kind, *source, spec); });
  SharedExperts<FeedForward<Storage>> shared(std::move(bank), spec.shared_gate, spec.shared_scale);
  if (source != nullptr) load_shared_gate(shared, *source);
  return shared;
}

inline AnyFrame<> load_frame(const LayerSource* source, const LayerSpec& spec) {
  // AnyFrame holds one, and no released model has two; FrameChain of layer/frame/chain.hpp composes them by
  // type.
  if (int{spec.output_bias} + int{spec.input_scale != 1} + int{spec.latent > 0} > 1) {
    fail<config_error>(
        "frame: expected at most one of output bias, input scale and latent projections, got more");
  }
  AnyFrame<> frame = IdentityFrame{};
  if (spec.output_bias) frame = OutputBias<float>(spec.width);
  if (spec.input_scale != 1) frame = ScaledFrame<float>(spec.width, spec.input_scale);
  if (spec.latent > 0) frame = LatentFrame<float>(spec.width, spec.latent, spec.latent_norm);
  if (source != nullptr) load_parameters(frame, *source);
  return frame;
}

template <class Storage>
AnyLayer load_any(const LayerSource* source, const LayerSpec& spec, OptionsRouter<float> router,
                  const LoadProgress& progress) {
  AnyBank<Storage> bank = load_any_bank<Storage>(source, spec, progress);
  const auto make = [&](auto capacity) {
    using Capacity = decltype(capacity);
    return AnyLayer(spec, ModelLayer<Storage, Capacity>(std::move(router), std::move(bank), capacity,
                                                        load_any_shared<Storage>(source, spec),
                                                        load_frame(source, spec)));
  };
  if (spec.capacity.holds<Dropless>()) return make(Dropless{});
  return make(spec.capacity);
}

inline AnyLayer load_any(const LayerSource* source, const LayerSpec& spec, OptionsRouter<float> router,
                         StorageKind storage, const LoadProgress& progress) {
  std::optional<AnyLayer> layer;
  with_storage(storage, [&]<class Storage>(std::type_identity<Storage>) {
    layer.emplace(load_any<Storage>(source, spec, std::move(router), progress));
  });
  return *std::move(layer);
}

}  // namespace impl

/// Layer `layer` of the model whose config and tensors these are. Throws config_error naming the key, its
/// expected and its actual value, also for a layer without experts; format_error naming the tensor, also
/// where a tensor of the block is one that the layer does not read; numeric_error for a router that is not
/// finite. Shapes are compared before anything of their size is allocated.
inline AnyLayer load_layer(const io::Config& config, const io::Checkpoint& checkpoint, Index layer,
                           const LoadOptions& options = {}) {
  const LayerSpec spec = describe_layer(config, layer);
  const LayerTensors tensors(checkpoint, config, spec);
  tensors.require_whole_block(spec);
  return impl::load_any(&tensors, spec, impl::load_router(tensors, spec), options.storage, options.progress);
}

/// Layer `layer` of a GGUF file, by its own metadata: docs/models.md names the architectures.
inline AnyLayer load_layer(const io::GgufFile& file, Index layer, const LoadOptions& options = {}) {
  const LayerSpec spec = describe_layer(gguf_config(file, layer), layer);
  const GgufTensors tensors(file, spec);
  tensors.require_whole_block(spec);
  return impl::load_any(&tensors, spec, impl::load_router(tensors, spec), options.storage, options.progress);
}

/// Whether a path is that of a GGUF file, and not of a model's folder.
inline bool is_gguf(const std::filesystem::path& path) {
  return path.extension() == ".gguf" || path.extension() == ".GGUF";
}

/// The same of a model's folder, config.json and model.safetensors or its shards, or of a file "<name>.gguf",
/// perhaps the first of several. Also throws file_error.
inline AnyLayer load_layer(const std::filesystem::path& path, Index layer, const LoadOptions& options = {}) {
  if (is_gguf(path)) return load_layer(io::GgufFile(path), layer, options);
  return load_layer(io::Config::from_file(path / "config.json"), io::Checkpoint(path), layer, options);
}

}  // namespace models
MOE_NAMESPACE_END
