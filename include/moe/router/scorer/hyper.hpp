// A linear router whose weights a frozen network makes of one trained embedding. HyperRouter, Do et al.
// 2312.07035.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct HyperScorerOptions {
  Index width = 0;         // D, of the embedding as well
  Index hidden = 256;      // H of the frozen network
  Index outputs = 0;       // N
  std::uint64_t seed = 0;  // of the frozen network
};

/// logits = W x + b, rows [w_e, b_e] of W2 relu(W1 z + b1) + b2. Parameter "embedding" [1, D] (z), zero until
/// initialise(). W1 [H, D], b1, W2 [N (D + 1), H], b2 are drawn from `seed` in +-1 / sqrt(inputs) and never
/// move; they are not saved: the same options make them again. Every call makes W and b anew, unless fix()
/// kept them.
template <class RealType>
class HyperScorer {
 public:
  using Real = RealType;
  using Options = HyperScorerOptions;
  struct Tape {};
  struct Gradients {
    Buffer<Real> embedding;  // [D]
  };
  static constexpr const char* kName = "hyper";

  /// Throws config_error for sizes below 1.
  explicit HyperScorer(const Options& o) : width_(o.width), outputs_(o.outputs) {
    require_range("width", o.width, 1, INT32_MAX - 1);
    require_range("hidden width", o.hidden, 1, INT32_MAX);
    require_range("outputs", o.outputs, 1, INT32_MAX);
    embedding_.assign(o.width, Real{0});
    draw(first_, first_bias_, o.hidden, o.width, o.seed, 0);
    draw(second_, second_bias_, generated(), o.hidden, o.seed, 1);
  }

  Index width() const noexcept { return width_; }
  Index hidden() const noexcept { return first_bias_.size(); }
  Index outputs() const noexcept { return outputs_; }

  /// z standard normal.
  void initialise(std::uint64_t seed) {
    const KeyedRandom random(seed, 0, DrawStream::initialise);
    for (Index j = 0; j < width(); ++j) {
      embedding_[j] = static_cast<Real>(random.normal(static_cast<std::uint64_t>(j), 0));
    }
  }
  /// Keeps W and b of now, for inference: the same bits, without the network's cost, as long as z is what it
  /// is now.
  void fix() {
    Buffer<Real> units(hidden());
    SerialExecutor serial;
    make_weights(units.data(), fixed_.resize(generated()), serial);
    fixed_embedding_ = embedding_;
  }
  bool fixed() const noexcept {
    return !fixed_.empty() && std::equal(embedding_.begin(), embedding_.end(), fixed_embedding_.begin());
  }

  void measure(Arena& arena, Index, Index) const { Made{arena, *this}; }
  void measure_backward(Arena& arena, Index, Index) const {
    Made{arena, *this};
    Made{arena, *this};
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena& arena, X& executor) const {
    const Real* weights = fixed_.data();
    if (!fixed()) {
      const Made made(arena, *this);
      make_weights(made.units, made.weights, executor);
      weights = made.weights;
    }
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      for (Index e = 0; e < outputs_; ++e) {
        const Real* const w = weights + e * (width_ + 1);
        out.value(t, e) = dot(in.x.row(t), w, width_) + w[width_];
      }
      impl::finite_or_spoiled(out.value.row(t), outputs_);
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count, w = width_ + 1;
    const auto row = [&](Index a) noexcept { return dlogits.rows == nullptr ? a : Index{dlogits.rows[a]}; };
    const Made made(arena, *this), d(arena, *this);
    make_weights(made.units, made.weights, executor);
    executor.parallel_for(dx ? count : 0, [&](Index a, Index) noexcept {
      const Index t = row(a);
      for (Index e = 0; e < outputs_; ++e) {
        axpy_row(dlogits.value(t, e), made.weights + e * w, dx.row(t), width_);
      }
    });
    if (gradients == nullptr) return;
    executor.parallel_for(outputs_, [&](Index e, Index) noexcept {
      Real* const de = d.weights + e * w;
      fill_row(Real{0}, de, w);
      for (Index a = 0; a < count; ++a) {
        axpy_row(dlogits.value(row(a), e), in.x.row(row(a)), de, width_);
        de[width_] += dlogits.value(row(a), e);
      }
    });
    fill_row(Real{0}, d.units, hidden());
    for (Index o = 0; o < generated(); ++o) {
      axpy_row(d.weights[o], second_.data() + o * hidden(), d.units, hidden());
    }
    for (Index h = 0; h < hidden(); ++h) {
      if (made.units[h] > 0)
        axpy_row(d.units[h], first_.data() + h * width_, gradients->embedding.data(), width_);
    }
  }

  Gradients make_gradients() const { return {Buffer<Real>(width_)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    f(Parameter<Real>{"embedding", view(embedding_),
                      gradients == nullptr ? ParameterView<Real>{} : view(gradients->embedding)});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "embedding", embedding_, gradients, &Gradients::embedding);
  }

 private:
  struct Made {
    Real* units;    // [H]
    Real* weights;  // [N, D + 1]
    Made(Arena& arena, const HyperScorer& of)
        : units(arena.take<Real>(of.hidden())), weights(arena.take<Real>(of.generated())) {}
  };

  Index generated() const { return checked_product("generated weights", outputs_, width_ + 1); }
  static ParameterView<Real> view(Buffer<Real>& values) noexcept {
    return {values.data(), 1, values.size(), 1, values.size(), 1};
  }

  /// A layer of the frozen network.
  static void draw(Buffer<Real>& weight, Buffer<Real>& bias, Index out, Index in, std::uint64_t seed,
                   std::uint64_t layer) {
    weight.resize(checked_product("frozen weights", out, in));
    bias.resize(out);
    const KeyedRandom random(seed, layer, DrawStream::initialise);
    const double bound = 1 / std::sqrt(static_cast<double>(in));
    const auto uniform = [&](Index o, Index i) {
      const double u = random.uniform(static_cast<std::uint64_t>(o), static_cast<std::uint32_t>(i));
      return static_cast<Real>(bound * (2 * u - 1));
    };
    for (Index o = 0; o < out; ++o) {
      for (Index i = 0; i < in; ++i) weight[o * in + i] = uniform(o, i);
      bias[o] = uniform(o, in);
    }
  }
  /// A task makes the weights of one output.
  template <Executor X>
  void make_weights(Real* units, Real* weights, X& executor) const {
    for (Index h = 0; h < hidden(); ++h) {
      const Real pre = dot(first_.data() + h * width_, embedding_.data(), width_) + first_bias_[h];
      units[h] = pre > 0 || !is_finite(pre) ? pre : Real{0};  // what is not finite must show
    }
    executor.parallel_for(outputs_, [&](Index e, Index) noexcept {
      for (Index o = e * (width_ + 1); o < (e + 1) * (width_ + 1); ++o) {
        weights[o] = dot(second_.data() + o * hidden(), units, hidden()) + second_bias_[o];
      }
    });
  }

  impl::Movable<Index> width_;
  impl::Movable<Index> outputs_;
  Buffer<Real> embedding_;             // [D]
  Buffer<Real> first_, first_bias_;    // [H, D], [H]
  Buffer<Real> second_, second_bias_;  // [N (D + 1), H], [N (D + 1)]
  Buffer<Real> fixed_;                 // [N, D + 1] that fix() kept, or empty
  Buffer<Real> fixed_embedding_;       // [D] of which it made them
};

MOE_NAMESPACE_END
