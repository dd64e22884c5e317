// Experts whose weights are products, element by element, of their own and of what they share: W_e = W o V_e,
// with biases b + c_e. The cluster networks of AdaptDHM, Li et al. 2211.12105.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// `Inner`, a Mlp or Glu of a dense storage. An expert's product is formed when it has rows, in memory of one
/// expert, and has the bits of a bank that holds it; experts run one after the other, on all workers each.
/// Gradients of what is shared are added by ascending expert. Parameters "shared.experts.0.<matrix>" and
/// Inner's, which are the experts' own.
template <class Inner>
class MultipliedExperts {
  using Weights = typename Inner::Merged;

 public:
  static constexpr const char* kName = "multiplied";
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  static constexpr Coupling coupling = Inner::coupling;
  static constexpr bool kFreezesPairs = impl::kFreezesPairs<Inner>;

  struct Gradients {
    typename Inner::Gradients shared;
    typename Inner::Gradients own;
  };

  /// Throws config_error unless `shared` is one expert of the others' shape.
  MultipliedExperts(Inner shared, Inner own) : shared_(std::move(shared)), own_(std::move(own)) {
    if (shared_.experts() != 1 || shared_.width() != own_.width() || shared_.hidden() != own_.hidden() ||
        shared_.output_width() != own_.output_width() || shared_.has_bias() != own_.has_bias()) {
      fail<config_error>("multiplied experts: expected a shared bank of 1 expert ", own_.width(), " x ",
                         own_.hidden(), own_.has_bias() ? " with" : " without", " biases, got ",
                         shared_.experts(), " experts ", shared_.width(), " x ", shared_.hidden(),
                         shared_.has_bias() ? " with" : " without", " biases");
    }
  }

  Index experts() const noexcept { return own_.experts(); }
  Index width() const noexcept { return own_.width(); }
  Index output_width() const noexcept { return own_.output_width(); }
  Inner& shared() noexcept { return shared_; }
  const Inner& shared() const noexcept { return shared_; }
  Inner& own() noexcept { return own_; }
  const Inner& own() const noexcept { return own_; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, kName);
    impl::visit_names_of(role, own_, f);
  }
  template <class Call>
  void check_call(const Call& in) const {
    impl::check_call_of(own_, in);
  }

  void measure(Arena& arena, Index pairs, Index concurrency) const {
    Scratch{arena, *this};
    own_.measure_merged(arena, pairs, concurrency);
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    Scratch{arena, *this};
    own_.take_merged(arena), own_.take_merged(arena);
    own_.measure_merged_backward(arena, pairs, concurrency);
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    run(batch, sink, nullptr, arena, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    if (batch.draws != nullptr && own_.dropout().active()) batch.draws->require("expert dropout");
    require_experts(experts(), batch);
    own_.open_tape(tape, batch.slots(), batch.draws);
    run(batch, sink, &tape, arena, executor);
  }

  /// With dz = weight * dy: dweight, dx (unless dx.data is null) and gradients (unless null) of slots that
  /// are not frozen. Throws as Inner's.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    if (tape.slots != batch.slots()) {
      fail<state_error>("expert tape: expected the tape of this bank and a batch of ", batch.slots(),
                        " rows, got one of ", tape.slots);
    }
    impl::check_gradients_of(*this, gradients);
    const Scratch scratch(arena, *this);
    const Weights done = own_.take_merged(arena), factor = own_.take_merged(arena);
    each_expert(batch, scratch, arena, executor, [&](Index e, Index first, const RowBatch<Real>& part) {
      RowGradients<Real> at = rows;
      at.dy += first, at.weight += first, at.dweight += first;
      if (at.frozen != nullptr) at.frozen += first;
      if (at.dx.data != nullptr) at.dx = {rows.dx.row(first), rows.dx.stride, rows.dx.result + first};
      own_.backward_merged(scratch.whole, part, tape, first, at, done, arena, executor);
      if (gradients == nullptr) return;
      const Weights of_own = gradients->own.weights(), of_shared = gradients->shared.weights();
      add_products(done, scratch.shared, of_own, e, executor);
      own_.merge(scratch.only(e), factor, arena, executor);
      add_products(done, factor, of_shared, 0, executor);
    });
  }

  Gradients make_gradients() const { return {shared_.make_gradients(), own_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    auto named = [&](auto parameter) {
      const ParameterName name(kShared, parameter.name);
      parameter.name = name.c_str();
      f(parameter);
    };
    shared_.visit_parameters(gradients == nullptr ? nullptr : &gradients->shared, named);
    own_.visit_parameters(gradients == nullptr ? nullptr : &gradients->own, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    auto named = [&](const char* name, auto... range) { f(ParameterName(kShared, name).c_str(), range...); };
    shared_.visit_storage(gradients == nullptr ? nullptr : &gradients->shared, named);
    own_.visit_storage(gradients == nullptr ? nullptr : &gradients->own, f);
  }

 private:
  static constexpr const char* kShared = "shared.";

  struct Scratch {
    Weights shared;  // a copy of the shared expert
    Weights whole;   // the product
    Real* p;         // [E] which expert
    Index experts;
    Scratch(Arena& arena, const MultipliedExperts& bank)
        : shared(bank.own_.take_merged(arena)),
          whole(bank.own_.take_merged(arena)),
          p(arena.take<Real>(bank.experts())),
          experts(bank.experts()) {}
    const Real* only(Index e) const noexcept {
      for (Index i = 0; i < experts; ++i) p[i] = i == e ? 1 : 0;
      return p;
    }
  };

  template <class X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape* tape, Arena& arena,
           X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, *this);
    each_expert(batch, scratch, arena, executor, [&](Index, Index first, const RowBatch<Real>& part) {
      const RowSink<Real> to{sink.row(first), sink.stride, sink.result + first};
      own_.forward_merged(scratch.whole, part, to, tape, first, arena, executor);
    });
  }
  /// f(e, first, batch of its rows) for every expert with rows, scratch.whole its product.
  template <class X, class F>
  void each_expert(const RowBatch<Real>& batch, const Scratch& scratch, Arena& arena, X& executor,
                   const F& f) const {
    const Real one = 1;
    shared_.merge(&one, scratch.shared, arena, executor);
    for (Index e = 0; e < experts(); ++e) {
      const Index first = batch.offsets[e], offsets[2] = {0, batch.offsets[e + 1] - first};
      if (offsets[1] == 0) continue;
      own_.merge(scratch.only(e), scratch.whole, arena, executor);
      multiply(scratch.shared, scratch.whole, executor);
      RowBatch<Real> part = batch;
      part.row += first, part.token += first;
      part.offsets = offsets;
      part.experts = 1;
      part.tokens = 0;
      const Index mark = arena.mark();
      f(e, first, part);
      arena.rewind(mark);
    }
  }
  /// to's expert e += done o factor, of biases done.
  template <class X>
  static void add_products(const Weights& done, const Weights& factor, const Weights& to, Index e,
                           X& executor) {
    const auto range = [&](const Real* a, const Real* b, Real* sum, Index n) {
      if (a == nullptr) return;
      stretches(n, executor, [=](Index i) noexcept {
        sum[e * n + i] = b == nullptr ? sum[e * n + i] + a[i] : moe::fma(a[i], b[i], sum[e * n + i]);
      });
    };
    range(done.first.data, factor.first.data, to.first.data, done.first.pitch);
    range(done.second.data, factor.second.data, to.second.data, done.second.pitch);
    range(done.first_biases, nullptr, to.first_biases, done.first_pitch);
    range(done.second_biases, nullptr, to.second_biases, done.second_pitch);
  }
  /// whole = shared o whole, of biases the sum.
  template <class X>
  static void multiply(const Weights& shared, const Weights& whole, X& executor) {
    const auto range = [&](bool bias, const Real* a, Real* b, Index n) {
      if (a == nullptr) return;
      stretches(n, executor, [=](Index i) noexcept { b[i] = bias ? a[i] + b[i] : a[i] * b[i]; });
    };
    range(false, shared.first.data, whole.first.data, shared.first.pitch);
    range(false, shared.second.data, whole.second.data, shared.second.pitch);
    range(true, shared.first_biases, whole.first_biases, shared.first_pitch);
    range(true, shared.second_biases, whole.second_biases, shared.second_pitch);
  }
  template <class X, class F>
  static void stretches(Index n, X& executor, const F& f) {
    constexpr Index kStretch = 4096;
    executor.parallel_for(ceil_div(n, kStretch), [&](Index task, Index) noexcept {
      for (Index i = task * kStretch; i < n && i < (task + 1) * kStretch; ++i) f(i);
    });
  }

  Inner shared_;
  Inner own_;
};

MOE_NAMESPACE_END
