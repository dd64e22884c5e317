// Experts that are merged head by head: columns of the input and of the output in equal shares, each with a
// mixture of its own. MHR, Caccia et al. 2211.03831, whose modules are low-rank adapters.
#pragma once

#include "moe/core/check.hpp"
#include "moe/expert/merging.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// A MergingBank B of two layers with H heads: of fc1 [F, D] head h weighs columns [h D/H, (h + 1) D/H), of
/// fc2 [D, F] those rows. An expert by itself is B's, and so are all parameters. One head is B.
template <MergingBank B>
class MultiHead : public B {
 public:
  using typename B::Gradients;
  using typename B::Merged;
  using typename B::Real;

  /// Throws config_error unless 1 <= heads, and they divide the width; with several, for biases: those of the
  /// first layer belong to no head.
  MultiHead(B experts, Index heads) : B(std::move(experts)), heads_(heads) {
    require_range("heads", heads, 1, this->width());
    if (this->width() % heads != 0) {
      fail<config_error>("heads: expected a divisor of the width ", this->width(), ", got ", heads);
    }
    require_range("output of experts of several heads", this->output_width(), this->width(), this->width());
    if (heads > 1 && this->has_bias()) {
      fail<config_error>("experts of several heads: expected them without biases, got some with");
    }
  }
  Index heads() const noexcept { return heads_; }

  /// B's draws for the first layer, and a second layer of 0: adapters begin as no change.
  template <Executor X = SerialExecutor>
  void initialise_adapters(std::uint64_t seed, X&& executor = X{}) {
    this->initialise(seed, executor);
    for (Index e = 0; e < this->experts(); ++e) {
      const auto second = this->parameters().second(e);
      fill_row(Real{0}, second.data, second.size());
    }
  }

  void measure_merge_backward(Arena& arena, Index concurrency) const {
    B::measure_merge_backward(arena, concurrency, heads());
  }
  template <Executor X>
  void merge(const Real* p, const Merged& one, Arena& arena, X& executor) const {
    B::merge(p, one, arena, executor, heads());
  }
  template <Executor X>
  void merge_backward(const Real* p, const Merged& done, Real* dp, Gradients* gradients, Arena& arena,
                      X& executor) const {
    B::merge_backward(p, done, dp, gradients, arena, executor, heads());
  }
  /// The expert of mixture p [H, E] as a bank of its own.
  template <Executor X>
  void merge_into(const Real* p, B& one, X& executor) const {
    B::merge_into(p, one, executor, heads());
  }

 private:
  Index heads_;
};

MOE_NAMESPACE_END
