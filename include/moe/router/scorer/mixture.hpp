// A mixture of routers: n linear routers, whose probabilities are mixed by a main router. "Mixture of
// Routers" (2503.23362; not Mixture-of-Recursions).
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/log_softmax.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct MixtureScorerOptions {
  Index width = 0;    // D
  Index routers = 2;  // n
  Index outputs = 0;  // N
};

/// logits = ln sum_i a_i softmax(W_i x), a = softmax(V x): their softmax is the mixture itself, in which
/// masks and temperatures act as in any distribution. Parameters "sub_routers.weight" [n N, D] (W_i one below
/// the other), "main_router.weight" [n, D]. Zero until initialise().
template <class RealType>
class MixtureScorer {
 public:
  using Real = RealType;
  using Options = MixtureScorerOptions;
  struct Tape {
    Buffer<Real> part;   // [T, n, N] ln softmax(W_i x)
    Buffer<Real> share;  // [T, n] ln a
  };
  struct Gradients {
    typename Projection<Real>::Gradients part, share;
  };
  static constexpr const char* kName = "mixture";

  /// Throws config_error for sizes below 1.
  explicit MixtureScorer(const Options& o)
      : part_(o.width, checked_outputs(o), false), share_(o.width, o.routers, false), outputs_(o.outputs) {}

  Index width() const noexcept { return part_.in(); }
  Index outputs() const noexcept { return outputs_; }
  Index routers() const noexcept { return share_.out(); }
  void initialise(std::uint64_t seed) {
    part_.initialise(seed, 0);
    share_.initialise(seed, 1);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take_parts(arena, tokens), take_shares(arena, tokens);
    part_.measure(arena, tokens), share_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_parts(arena, tokens), take_shares(arena, tokens);
    part_.measure_backward(arena, tokens, concurrency);
    share_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), n = routers();
    Real* const parts = tape == nullptr ? take_parts(arena, tokens) : tape->part.resize(tokens * part_.out());
    Real* const shares = tape == nullptr ? take_shares(arena, tokens) : tape->share.resize(tokens * n);
    part_.forward(in.x, {parts, tokens, part_.out()}, arena, executor);
    share_.forward(in.x, {shares, tokens, n}, arena, executor);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      Real* const part = parts + t * part_.out();
      Real* const share = shares + t * n;
      impl::finite_or_spoiled(part, part_.out());  // a softmax would hide a -inf
      impl::finite_or_spoiled(share, n);
      impl::log_softmax_row(share, n);
      for (Index i = 0; i < n; ++i) impl::log_softmax_row(part + i * outputs_, outputs_);
      for (Index e = 0; e < outputs_; ++e) out.value(t, e) = mixed(part, share, e);
    });
  }

  /// With r_ie = a_i p_ie / s_e, the share of router i in the mixture s_e: d ln p_ie = d ln a_i = r_ie dL_e,
  /// the latter summed over e; a logarithm of a softmax passes d on as d - softmax * sum of d.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), n = routers(), size = part_.out();
    const Real* const parts = impl::taped(kName, tape.part, tokens * size);
    const Real* const shares = impl::taped(kName, tape.share, tokens * n);
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    const MatrixView<Real> dparts(take_parts(arena, tokens), tokens, size);
    const MatrixView<Real> dshares(take_shares(arena, tokens), tokens, n);
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Real* const part = parts + t * size;
      const Real* const share = shares + t * n;
      Real* const dpart = dparts.row(t);
      Real* const dshare = dshares.row(t);
      for (Index i = 0; i < n; ++i) dshare[i] = 0;
      for (Index e = 0; e < outputs_; ++e) {
        const Real mixture = mixed(part, share, e);
        for (Index i = 0; i < n; ++i) {
          const Real through =
              dlogits.value(t, e) * math::exp_nonpositive(Real(share[i] + part[i * outputs_ + e] - mixture));
          dpart[i * outputs_ + e] = through;
          dshare[i] += through;
        }
      }
      for (Index i = 0; i < n; ++i) through_log_softmax(part + i * outputs_, dpart + i * outputs_, outputs_);
      through_log_softmax(share, dshare, n);
    });
    part_.backward_rows(dlogits.rows, count, in.x, dparts, dx,
                        gradients == nullptr ? nullptr : &gradients->part, arena, executor);
    share_.backward_rows(dlogits.rows, count, in.x, dshares, dx,
                         gradients == nullptr ? nullptr : &gradients->share, arena, executor);
  }

  Gradients make_gradients() const { return {part_.make_gradients(), share_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    part_.visit_parameters("sub_routers", gradients == nullptr ? nullptr : &gradients->part, f);
    share_.visit_parameters("main_router", gradients == nullptr ? nullptr : &gradients->share, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    part_.visit_storage("sub_routers", gradients == nullptr ? nullptr : &gradients->part, f);
    share_.visit_storage("main_router", gradients == nullptr ? nullptr : &gradients->share, f);
  }

 private:
  static Index checked_outputs(const Options& o) {
    require_range("outputs", o.outputs, 1, INT32_MAX);
    require_range("routers", o.routers, 1, INT32_MAX);
    return checked_product("sub-routers", o.routers, o.outputs);
  }
  Real* take_parts(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("sub-router logits", tokens, part_.out()));
  }
  Real* take_shares(Arena& arena, Index tokens) const { return arena.take<Real>(tokens * routers()); }

  static void through_log_softmax(const Real* row, Real* d, Index n) noexcept {
    const Real sum = sum_row(d, n);
    for (Index i = 0; i < n; ++i) d[i] -= math::exp_nonpositive(row[i]) * sum;
  }
  /// ln s_e.
  Real mixed(const Real* part, const Real* share, Index e) const noexcept {
    return impl::log_sum_exp(routers(), [&](Index i) { return Real(share[i] + part[i * outputs_ + e]); });
  }

  Projection<Real> part_;   // D to n N
  Projection<Real> share_;  // D to n
  impl::Movable<Index> outputs_;
};

MOE_NAMESPACE_END
