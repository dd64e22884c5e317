// One layer of a released model from its folder, as published: config.json says which preset, the preset says
// what to build, the tensors are read expert by expert.
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
#include "moe/kernel/finite.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/models/any/any_parts.hpp"
#include "moe/models/file/layer_tensors.hpp"
#include "moe/models/preset/registry.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/hash_table.hpp"

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

/// Throws numeric_error naming the tensor: a router with NaN or infinity would choose anything.
inline void require_finite(const io::Tensor& tensor, const float* values, Index n) {
  for (Index i = 0; i < n; ++i) {
    if (!is_finite(values[i])) {
      fail<numeric_error>(tensor.where().c_str(), ": expected finite numbers, got ", values[i], " at ", i);
    }
  }
}

inline const io::Tensor& tensor_of(const LayerTensors& tensors, const char* ours) {
  const std::string name = tensors.name_of(ours);
  if (name.empty()) fail<config_error>("preset: expected the name of a tensor for ", ours, ", got none");
  return tensors.checkpoint().at(name);
}

/// A parameter that is not an expert's.
inline void load_parameter(const LayerTensors& tensors, const Parameter<float>& p) {
  const io::Tensor& tensor = tensor_of(tensors, p.name);
  Buffer<float> values(p.value.size());
  if (p.value.rows == 1 || p.value.cols == 1) {
    io::read_vector(tensor, values.data(), values.size());
  } else {
    io::read_matrix(tensor, MatrixView<float>(values.data(), p.value.rows, p.value.cols));
  }
  require_finite(tensor, values.data(), values.size());
  p.value.assign(ConstMatrixView<float>(values.data(), p.value.rows, p.value.cols));
}
inline void load_state(const LayerTensors& tensors, const char* name, double* to, Index n) {
  const io::Tensor& tensor = tensor_of(tensors, name);
  Buffer<float> values(n);
  io::read_vector(tensor, values.data(), n);
  require_finite(tensor, values.data(), n);
  for (Index i = 0; i < n; ++i) to[i] = static_cast<double>(values[i]);
}

/// Token ids' experts [V, K].
inline HashTable load_table(const io::Tensor& tensor, const LayerSpec& spec) {
  if (tensor.shape.rank != 2 || tensor.shape[1] != spec.router.k) {
    fail<format_error>(tensor.where().c_str(), ": expected shape [vocabulary, ", spec.router.k, "], got ",
                       tensor.shape.text().c_str());
  }
  const Index vocabulary = tensor.shape[0], k = tensor.shape[1];
  Buffer<Index> ids(tensor.shape.elements());
  io::read_integers(tensor, ids.data(), ids.size());
  Buffer<ExpertId> by_hash(ids.size());
  for (Index v = 0; v < vocabulary; ++v) {
    for (Index h = 0; h < k; ++h) {
      const Index id = ids[v * k + h];
      if (id < 0 || id >= spec.outputs()) {
        fail<format_error>(tensor.where().c_str(), ": expected expert ids in [0, ", spec.outputs(), "), got ",
                           id, " for token id ", v);
      }
      for (Index other = 0; other < h; ++other) {
        if (ids[v * k + other] != id) continue;
        fail<format_error>(tensor.where().c_str(), ": expected different experts for a token id, got expert ",
                           id, " twice for token id ", v);
      }
      by_hash[h * vocabulary + v] = static_cast<ExpertId>(id);
    }
  }
  return HashTable::own({by_hash.data(), static_cast<std::size_t>(by_hash.size())}, vocabulary,
                        spec.outputs(), k);
}

/// All parameters of a part without experts.
template <class Part>
void load_parameters(Part& part, const LayerTensors& tensors) {
  auto parameter = [&](const Parameter<float>& p) { load_parameter(tensors, p); };
  part.visit_parameters(nullptr, parameter);
}

inline OptionsRouter<float> load_router(const LayerTensors& tensors, const LayerSpec& spec) {
  OptionsRouter<float> router =
      spec.hash_table
          ? token_choice_router<float>(spec.router, load_table(tensors.at(spec.hash_tensor), spec))
          : token_choice_router<float>(spec.router);
  auto state = [&](const char* name, double* to, Index n) { load_state(tensors, name, to, n); };
  load_parameters(router, tensors);
  router.visit_state(state);
  return router;
}

/// Routed experts into a bank of their kind and extents.
template <class Bank>
void load_bank(Bank& bank, const LayerTensors& tensors, const LayerSpec& spec, const LoadProgress& progress) {
  const io::CheckpointExperts source(tensors.checkpoint(), tensors.experts(), spec.experts,
                                     spec.expert_width(), spec.hidden);
  io::load_experts(bank, source, [&](Index done, Index total) noexcept { progress(done, total); });
}

/// The one shared expert, whose tensors have no expert dimension.
template <class Bank>
void load_shared_bank(Bank& bank, const LayerTensors& tensors, const LayerSpec& spec) {
  const Index width = spec.width, hidden = spec.shared_hidden;
  const auto read = [&](io::ExpertMatrix part, Index out, Index in, Buffer<float>& to) {
    to.resize(checked_product("shared expert", out, in));
    const MatrixView<float> view(to.data(), out, in);
    io::MatrixReader(tensors.checkpoint(), tensors.shared()[part], 0, out, in).read(0, view);
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
void load_shared_gate(Shared& shared, const LayerTensors& tensors) {
  auto parameter = [&](const Parameter<float>& p) {
    if (std::string_view(p.name) == "shared_expert_gate.weight") load_parameter(tensors, p);
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
inline ZeroComputation<float> load_cheap_experts(const LayerTensors& tensors, const LayerSpec& spec) {
  ZeroComputation<float> cheap = make_cheap_experts(spec);
  auto parameter = [&](const Parameter<float>& p) { load_parameter(tensors, p); };
  cheap.visit_parameters(nullptr, parameter, spec.experts);
  return cheap;
}

template <class Storage>
FeedForward<Storage> make_bank(const LayerSpec& spec, Index experts, Index width, Index hidden, bool bias) {
  const TwoLayerOptions options{experts, width, hidden, bias};
  if (spec.gated) return Glu<AnyGate, Storage>(options, spec.gate);
  return Mlp<AnyActivation, Storage>(options, spec.activation);
}

// Parts behind run-time choices: with `tensors` null made of the right shape, for who fills them otherwise.

template <class Storage>
AnyBank<Storage> load_any_bank(const LayerTensors* tensors, const LayerSpec& spec,
                               const LoadProgress& progress) {
  FeedForward<Storage> bank =
      make_bank<Storage>(spec, spec.experts, spec.expert_width(), spec.hidden, spec.expert_bias);
  if (tensors != nullptr) bank.visit([&](auto& of_kind) { load_bank(of_kind, *tensors, spec, progress); });
  if (spec.outputs() == spec.experts) return bank;
  return Composite<FeedForward<Storage>, ZeroComputation<float>>(
      std::move(bank), tensors == nullptr ? make_cheap_experts(spec) : load_cheap_experts(*tensors, spec));
}

template <class Storage>
AnyShared<FeedForward<Storage>> load_any_shared(const LayerTensors* tensors, const LayerSpec& spec) {
  if (spec.shared_hidden == 0) return {};
  FeedForward<Storage> bank = make_bank<Storage>(spec, 1, spec.width, spec.shared_hidden, false);
  if (tensors != nullptr) bank.visit([&](auto& of_kind) { load_shared_bank(of_kind, *tensors, spec); });
  SharedExperts<FeedForward<Storage>> shared(std::move(bank), spec.shared_gate);
  if (tensors != nullptr) load_shared_gate(shared, *tensors);
  return shared;
}

inline AnyFrame<> load_frame(const LayerTensors* tensors, const LayerSpec& spec) {
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
  if (tensors != nullptr) load_parameters(frame, *tensors);
  return frame;
}

template <class Storage>
AnyLayer load_any(const LayerTensors* tensors, const LayerSpec& spec, OptionsRouter<float> router,
                  const LoadProgress& progress) {
  AnyBank<Storage> bank = load_any_bank<Storage>(tensors, spec, progress);
  const auto make = [&](auto capacity) {
    using Capacity = decltype(capacity);
    return AnyLayer(spec, ModelLayer<Storage, Capacity>(std::move(router), std::move(bank), capacity,
                                                        load_any_shared<Storage>(tensors, spec),
                                                        load_frame(tensors, spec)));
  };
  if (spec.capacity.holds<Dropless>()) return make(Dropless{});
  return make(spec.capacity);
}

inline AnyLayer load_any(const LayerTensors* tensors, const LayerSpec& spec, OptionsRouter<float> router,
                         StorageKind storage, const LoadProgress& progress) {
  std::optional<AnyLayer> layer;
  with_storage(storage, [&]<class Storage>(std::type_identity<Storage>) {
    layer.emplace(load_any<Storage>(tensors, spec, std::move(router), progress));
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

/// The same of the model in `folder`: config.json and model.safetensors or its shards. Also throws
/// file_error.
inline AnyLayer load_layer(const std::filesystem::path& folder, Index layer,
                           const LoadOptions& options = {}) {
  return load_layer(io::Config::from_file(folder / "config.json"), io::Checkpoint(folder), layer, options);
}

}  // namespace models
MOE_NAMESPACE_END
