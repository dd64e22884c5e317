// Where the weights of one layer come from, whatever kind of file: by our names.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <variant>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/io/experts.hpp"
#include "moe/io/file/tensor.hpp"
#include "moe/io/layout.hpp"
#include "moe/io/quantised.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/models/preset/spec.hpp"
#include "moe/router/hash_table.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// Throws format_error naming the tensor that is missing or of another shape, numeric_error naming one that
/// is not finite (a router with NaN would choose anything), config_error for what the preset has no tensor
/// for.
class LayerSource {
 public:
  virtual ~LayerSource() = default;
  /// Whether there is a tensor for our parameter or state.
  virtual bool has(const char* ours) const = 0;
  /// One that is no expert's; of a vector one extent is 1.
  virtual void read(const char* ours, const MatrixView<float>& to) const = 0;
  /// Experts by token id.
  virtual HashTable hash_table(const LayerSpec& spec) const = 0;
  /// The routed feed-forward experts; refers to this source.
  virtual std::unique_ptr<const io::AnyExpertSource> routed(const LayerSpec& spec) const = 0;
  /// A matrix [out, in] of the one shared expert.
  virtual void read_shared(io::ExpertMatrix part, const MatrixView<float>& to) const = 0;
  /// Its codes and scales, if they can be repacked without loss.
  virtual std::optional<io::StoredCodes> shared_groups(io::ExpertMatrix part, Index out, Index in) const = 0;
};

namespace impl {

/// Of a parameter or state of the layer that is no expert's; of a vector one is 1.
struct Extents {
  Index rows, cols;
};

/// As `spec` asks for it, before anything of that size is made. Throws config_error for a name that no layer
/// has.
inline Extents extents_of(const LayerSpec& spec, std::string_view ours) {
  const Index outputs = spec.outputs(), width = spec.width;
  const auto* const cosine = std::get_if<CosineScorerOptions>(&spec.router.scorer);
  const auto* const two = std::get_if<TwoLayerScorerOptions>(&spec.router.scorer);
  if (ours == "gate.weight") return {outputs, width};
  if (ours == "gate.bias" || ours == "e_score_correction_bias" || ours == "per_expert_scale") {
    return {1, outputs};
  }
  if (two != nullptr && ours == "gate.0.weight") return {two->hidden, width};
  if (two != nullptr && ours == "gate.2.weight") return {outputs, two->hidden};
  if (cosine != nullptr && ours == "cosine_projector.weight") return {cosine->projected, width};
  if (cosine != nullptr && ours == "cosine_projector.bias") return {1, cosine->projected};
  if (cosine != nullptr && ours == "sim_matrix") return {cosine->projected, outputs};
  if (ours == "gate_map.weight") return {outputs, outputs};
  if (ours == "temperature") return {1, 1};
  if (ours == "latent_in.weight") return {spec.latent, width};
  if (ours == "latent_out.weight") return {width, spec.latent};
  if (ours == "latent_norm.weight") return {1, spec.latent};
  if (ours == "norm.scale" || ours == "output.bias" || ours == "shared_expert_gate.weight") return {1, width};
  if (ours.starts_with("experts.") && ours.ends_with(".constant")) return {1, spec.expert_width()};
  if (ours.starts_with("experts.") && ours.ends_with(".constant_gate.weight")) {
    return {2, spec.expert_width()};
  }
  fail<config_error>("preset: expected the name of a parameter or a state, got ",
                     io::in_quotes(ours).c_str());
}

/// Throws format_error unless the tensor is of that shape; a vector may have further extents of 1.
template <class Tensor>
void require_extents(const Tensor& tensor, const Extents& wanted) {
  const io::Shape& shape = tensor.shape;
  if (wanted.rows == 1 || wanted.cols == 1) {
    const Index n = wanted.rows * wanted.cols;
    Index others = 0, longest = 1;
    for (Index i = 0; i < shape.rank; ++i) {
      others += shape[i] != 1;
      longest = shape[i] == 1 ? longest : shape[i];
    }
    if (others <= 1 && longest == n) return;
    fail<format_error>(tensor.where().c_str(), ": expected ", n, " numbers, got shape ",
                       shape.text().c_str());
  }
  if (shape == io::Shape(wanted.rows, wanted.cols)) return;
  fail<format_error>(tensor.where().c_str(), ": expected shape ",
                     io::Shape(wanted.rows, wanted.cols).text().c_str(), ", got ", shape.text().c_str());
}

}  // namespace impl

namespace impl {

/// `where`: how messages call the tensor.
inline void require_finite(const char* where, const MatrixView<float>& values) {
  for (Index o = 0; o < values.rows; ++o) {
    for (Index i = 0; i < values.cols; ++i) {
      if (is_finite(values(o, i))) continue;
      fail<numeric_error>(where, ": expected finite numbers, got ", values(o, i), " at ",
                          o * values.cols + i);
    }
  }
}

/// Token ids' experts [V, K].
inline HashTable read_hash_table(const io::Tensor& tensor, const LayerSpec& spec) {
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

}  // namespace impl

}  // namespace models
MOE_NAMESPACE_END
