// The weights of all experts z = second(unit(first(x))), packed as the kernels read them, or their gradients,
// which look the same. What `unit` does is not known here, only how many matrices the first layer has.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/weights/packed_matrix.hpp"
#include "moe/weights/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct TwoLayerOptions {
  Index experts = 0;  // E >= 1
  Index width = 0;    // D >= 1
  Index hidden = 0;   // F >= 1
  bool bias = false;  // of every matrix

  friend bool operator==(const TwoLayerOptions&, const TwoLayerOptions&) = default;
};

/// How parameters are called and how many matrices stand side by side in the first layer.
struct MlpLayout {
  static constexpr Index kParts = 1;
  static constexpr const char* kPart[kParts] = {"fc1"};
  static constexpr const char* kSecond = "fc2";
  static constexpr const char* kFirstStorage = "experts.fc1";
  static constexpr const char* kSecondStorage = "experts.fc2";
};

struct GluLayout {
  static constexpr Index kParts = 2;  // paired panels: gate | up
  static constexpr const char* kPart[kParts] = {"gate_proj", "up_proj"};
  static constexpr const char* kSecond = "down_proj";
  static constexpr const char* kFirstStorage = "experts.gate_up";
  static constexpr const char* kSecondStorage = "experts.down";
};

/// One buffer per kind of matrix, expert after expert. Kernels get at an expert only through first(e),
/// second(e) and their biases, the first layer [D][panels] and the second [F][plain_panels(D)]; biases stand
/// in panel order.
template <class Layout, class Real>
class TwoLayerWeights {
 public:
  static constexpr Index kParts = Layout::kParts;
  /// Hidden columns of one panel of the first layer; part p of them starts at p * kColumns.
  static constexpr Index kColumns = kPanel<Real> / kParts;

  /// All zero. Throws config_error for an extent below 1, size_error when the weights would not fit 63 bits;
  /// both name it.
  explicit TwoLayerWeights(const TwoLayerOptions& options) : shape_(checked(options)) {
    first_.assign(checked_product("first layer of the experts", experts(), first_size()), Real{0});
    second_.assign(checked_product("second layer of the experts", experts(), second_size()), Real{0});
    if (!has_bias()) return;
    first_bias_.assign(experts() * first_positions(), Real{0});
    second_bias_.assign(experts() * second_positions(), Real{0});
  }

  Index experts() const noexcept { return shape_.experts; }
  Index width() const noexcept { return shape_.width; }
  Index hidden() const noexcept { return shape_.hidden; }
  bool has_bias() const noexcept { return shape_.bias; }
  const TwoLayerOptions& shape() const noexcept { return shape_; }
  bool same_shape(const TwoLayerWeights& other) const noexcept { return shape_ == other.shape_; }

  Index first_panels() const noexcept { return ceil_div(hidden(), kColumns); }
  /// Numbers of one row in front of the unit, and of one row of hidden values behind it, padding included.
  Index first_positions() const noexcept { return first_panels() * kPanel<Real>; }
  Index hidden_stride() const noexcept { return first_panels() * kColumns; }

  PackedView<const Real> first(Index e) const noexcept {
    return {first_.data() + e * first_size(), width(), first_panels()};
  }
  PackedView<Real> first(Index e) noexcept {
    return {first_.data() + e * first_size(), width(), first_panels()};
  }
  PackedView<const Real> second(Index e) const noexcept {
    return {second_.data() + e * second_size(), hidden(), second_panels()};
  }
  PackedView<Real> second(Index e) noexcept {
    return {second_.data() + e * second_size(), hidden(), second_panels()};
  }
  const Real* first_bias(Index e) const noexcept { return first_bias_.data() + e * first_positions(); }
  Real* first_bias(Index e) noexcept { return first_bias_.data() + e * first_positions(); }
  const Real* second_bias(Index e) const noexcept { return second_bias_.data() + e * second_positions(); }
  Real* second_bias(Index e) noexcept { return second_bias_.data() + e * second_positions(); }

  /// Matrix `part` of expert e's first layer as published, [F, D], and the others likewise; biases [n, 1].
  ParameterView<Real> first_view(Index e, Index part) noexcept {
    return {first(e).data + part * kColumns, hidden(),    width(), kColumns,
            width() * kPanel<Real>,          kPanel<Real>};
  }
  ParameterView<Real> second_view(Index e) noexcept {
    return {second(e).data, width(), hidden(), kPanel<Real>, hidden() * kPanel<Real>, kPanel<Real>};
  }
  ParameterView<Real> first_bias_view(Index e, Index part) noexcept {
    return {first_bias(e) + part * kColumns, hidden(), 1, kColumns, kPanel<Real>, 1};
  }
  ParameterView<Real> second_bias_view(Index e) noexcept { return {second_bias(e), width(), 1}; }

  Index bytes() const noexcept {
    return (first_.size() + second_.size() + first_bias_.size() + second_bias_.size()) * Index{sizeof(Real)};
  }

  /// Matrices uniform in +-1 / sqrt(inputs), biases 0. The draw of an element depends on (seed, matrix,
  /// expert, its place in the published matrix) alone.
  template <Executor X>
  void initialise(std::uint64_t seed, X& executor) noexcept {
    first_bias_.fill(0);
    second_bias_.fill(0);
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      for (Index part = 0; part < kParts; ++part) draw(seed, part, e, first_view(e, part));
      draw(seed, kParts, e, second_view(e));
    });
  }

  template <class Visitor>
  void visit_parameters(TwoLayerWeights* gradients, Visitor&& f, Index first_id) {
    const auto show = [&](Index e, const char* matrix, const char* kind, auto view_of) {
      f(Parameter<Real>{ParameterName("experts.", first_id + e, ".", matrix, kind).c_str(), view_of(*this),
                        gradients == nullptr ? ParameterView<Real>{} : view_of(*gradients)});
    };
    for (Index e = 0; e < experts(); ++e) {
      for (Index p = 0; p < kParts; ++p) {
        show(e, Layout::kPart[p], ".weight", [&](auto& w) { return w.first_view(e, p); });
        if (has_bias()) show(e, Layout::kPart[p], ".bias", [&](auto& w) { return w.first_bias_view(e, p); });
      }
      show(e, Layout::kSecond, ".weight", [&](auto& w) { return w.second_view(e); });
      if (has_bias()) show(e, Layout::kSecond, ".bias", [&](auto& w) { return w.second_bias_view(e); });
    }
  }

  template <class Visitor>
  void visit_storage(TwoLayerWeights* gradients, Visitor&& f) {
    const auto show = [&](const char* name, const char* kind, Buffer<Real> TwoLayerWeights::*range) {
      f(ParameterName(name, kind).c_str(), (this->*range).data(),
        gradients == nullptr ? nullptr : (gradients->*range).data(), (this->*range).size());
    };
    show(Layout::kFirstStorage, "", &TwoLayerWeights::first_);
    show(Layout::kSecondStorage, "", &TwoLayerWeights::second_);
    if (!has_bias()) return;
    show(Layout::kFirstStorage, ".bias", &TwoLayerWeights::first_bias_);
    show(Layout::kSecondStorage, ".bias", &TwoLayerWeights::second_bias_);
  }

 private:
  static const TwoLayerOptions& checked(const TwoLayerOptions& options) {
    require_range("experts", options.experts, 1, std::numeric_limits<ExpertId>::max());
    require_range("width", options.width, 1, PTRDIFF_MAX);
    require_range("hidden", options.hidden, 1, PTRDIFF_MAX);
    // Room to round up to whole panels and to count bytes of both parts.
    constexpr Index kMargin = 4 * kPanel<Real> * Index{sizeof(Real)};
    checked_product("experts x width x hidden", options.experts, options.width, options.hidden, kMargin);
    return options;
  }

  Index second_panels() const noexcept { return plain_panels<Real>(width()); }
  Index second_positions() const noexcept { return second_panels() * kPanel<Real>; }
  Index first_size() const noexcept { return packed_size<Real>(width(), first_panels()); }
  Index second_size() const noexcept { return packed_size<Real>(hidden(), second_panels()); }

  /// The matrix takes the place of the step in the key, so that no two share a draw; routers and frames use
  /// steps below kFirstStep.
  static void draw(std::uint64_t seed, Index matrix, Index e, const ParameterView<Real>& view) noexcept {
    constexpr Index kFirstStep = 256;
    const KeyedRandom random(seed, static_cast<std::uint64_t>(kFirstStep + matrix), DrawStream::initialise);
    const double bound = 1 / std::sqrt(static_cast<double>(view.cols));
    for (Index o = 0; o < view.rows; ++o) {
      for (Index i = 0; i < view.cols; ++i) {
        const double u =
            random.uniform(static_cast<std::uint64_t>(o * view.cols + i), static_cast<std::uint32_t>(e));
        view(o, i) = static_cast<Real>(bound * (2 * u - 1));
      }
    }
  }

  TwoLayerOptions shape_;
  Buffer<Real> first_;        // [E] x [D][first_panels]
  Buffer<Real> second_;       // [E] x [F][second_panels]
  Buffer<Real> first_bias_;   // [E, first_positions], empty without biases
  Buffer<Real> second_bias_;  // [E, second_positions]
};

MOE_NAMESPACE_END
