// Two frames at once: y = outer(inner(sum)). Latent projections inside a bias of the output, say.
#pragma once

#include <cstring>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/frame/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// The outer frame sees the layer's rows and y, the inner one what the outer gives to the experts and takes
/// from them; in `FrameChain<A, FrameChain<B, C>>` there are three. Parameters: the outer's, then the
/// inner's, all of them called "inner." + name if one is called as one of the outer's.
template <class Outer, class Inner>
class FrameChain {
 public:
  struct Tape {
    typename Outer::Tape outer;
    typename Inner::Tape inner;
  };
  struct Gradients {
    typename Outer::Gradients outer;
    typename Inner::Gradients inner;
  };

  FrameChain(Outer outer, Inner inner) : outer_(std::move(outer)), inner_(std::move(inner)) {
    auto each = [this](const auto& parameter) {
      auto compare = [&](const auto& other) {
        if (std::strcmp(parameter.name, other.name) == 0) prefix_ = "inner.";
      };
      inner_.visit_parameters(nullptr, compare);
    };
    outer_.visit_parameters(nullptr, each);
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, outer_, f);
    impl::visit_names_of(role, inner_, f);
  }

  Outer& outer() noexcept { return outer_; }
  const Outer& outer() const noexcept { return outer_; }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }

  /// Throws config_error unless the outer frame's inner rows are as wide as the inner frame's outer ones.
  Index inner_width(Index expert_width) const {
    const Index middle = inner_.outer_width(expert_width);
    if (Index{outer_.inner_width(middle)} != middle) {
      fail<config_error>("frame chain: expected an inner frame of outer width ",
                         Index{outer_.inner_width(middle)}, ", got ", middle);
    }
    return inner_.inner_width(expert_width);
  }
  Index outer_width(Index expert_width) const { return outer_.outer_width(inner_.outer_width(expert_width)); }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    outer_.measure(arena, tokens, concurrency);
    inner_.measure(arena, tokens, concurrency);
    outer_.measure(arena, tokens, concurrency);  // of that, the middle in `after`
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    outer_.measure_backward(arena, tokens, concurrency);
    inner_.measure_backward(arena, tokens, concurrency);
    outer_.measure_backward(arena, tokens, concurrency);  // of that, the middle in `before_backward`
  }

  template <class Real, Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    return inner_.before(outer_.before(x, outer(tape), arena, executor), inner(tape), arena, executor);
  }
  template <class Real>
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& arena) const {
    return inner_.inner_y(outer_.inner_y(y, arena), arena);
  }
  template <class Real, Executor X>
  void after(const MatrixView<Real>& sum, const MatrixView<Real>& y, const bool* active, Tape* tape,
             Arena& arena, X& executor) const {
    Arena probe;  // measuring: an inner frame that works in place returns what it got
    const bool in_place = same_view(inner_.inner_y(y, probe), y);
    const MatrixView<Real> middle = in_place ? sum : outer_.inner_y(y, arena);
    inner_.after(sum, middle, active, inner(tape), arena, executor);
    outer_.after(middle, y, active, outer(tape), arena, executor);
  }

  template <class Real>
  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return inner_.inner_x(tape.inner, outer_.inner_x(tape.outer, x));
  }
  template <class Real, Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena& arena, X& executor) const {
    return inner_.after_backward(tape.inner,
                                 outer_.after_backward(tape.outer, dy, outer(gradients), arena, executor),
                                 inner(gradients), arena, executor);
  }
  template <class Real>
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index tokens, Arena& arena) const {
    return inner_.inner_dx(outer_.inner_dx(dx, tokens, arena), tokens, arena);
  }
  template <class Real, Executor X>
  void before_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& dinner,
                       const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    Arena probe;
    const bool in_place = same_view(inner_.inner_dx(dinner, x.rows, probe), dinner);
    const MatrixView<Real> middle = in_place ? dinner : outer_.inner_dx(dx, x.rows, arena);
    inner_.before_backward(tape.inner, outer_.inner_x(tape.outer, x), dinner, middle, inner(gradients), arena,
                           executor);
    if (middle) outer_.before_backward(tape.outer, x, middle, dx, outer(gradients), arena, executor);
  }

  Gradients make_gradients() const { return {outer_.make_gradients(), inner_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    outer_.visit_parameters(outer(gradients), f);
    auto named = [&](auto parameter) {
      const ParameterName name(prefix_, parameter.name);
      parameter.name = name.c_str();
      f(parameter);
    };
    inner_.visit_parameters(inner(gradients), named);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    impl::visit_storage_of(outer_, outer(gradients), f);
    auto named = [&](const char* name, auto... range) { f(ParameterName(prefix_, name).c_str(), range...); };
    impl::visit_storage_of(inner_, inner(gradients), named);
  }

 private:
  template <class Both>
  static auto* outer(Both* both) noexcept {
    return both == nullptr ? nullptr : &both->outer;
  }
  template <class Both>
  static auto* inner(Both* both) noexcept {
    return both == nullptr ? nullptr : &both->inner;
  }

  Outer outer_;
  Inner inner_;
  const char* prefix_ = "";  // of the inner frame's parameters
};

MOE_NAMESPACE_END
