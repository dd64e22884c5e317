// Two routers in one: the logit of output j of group i makes its softmax over all outputs the product of two
// softmaxes, p(i) over the groups and q(j | i) within group i. SMILE, He et al. 2212.05191 (one router within
// for all groups, or one each); SAM, Jiang et al. 2110.07431.
#pragma once

#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct BiLevelScorerOptions {
  Index width = 0;      // D
  Index outputs = 0;    // N
  Index groups = 1;     // n, equal blocks of m = N / n ids
  bool shared = false;  // one router within, for all groups
};

/// logit(i, j) = a_i + b_ij - ln sum_j' e^b_ij', a = x A^T, b = x B^T (b_ij = b_j if shared). Parameters
/// "gate.group.weight" A [n, D], "gate.local.weight" B [N, D] or, shared, [m, D]; zero until initialise().
template <class RealType>
class BiLevelScorer {
 public:
  using Real = RealType;
  using Options = BiLevelScorerOptions;
  struct Tape {
    Buffer<Real> share;  // [T, L] q: L = N or, shared, m
  };
  struct Gradients {
    typename Projection<Real>::Gradients group, local;
  };
  static constexpr const char* kName = "bi_level";

  /// Throws config_error for sizes below 1 or groups that do not divide the outputs.
  explicit BiLevelScorer(const Options& options)
      : group_(options.width, checked(options).groups, false),
        local_(options.width, options.shared ? options.outputs / options.groups : options.outputs, false),
        outputs_(options.outputs) {}

  Index width() const noexcept { return group_.in(); }
  Index outputs() const noexcept { return outputs_; }
  Index groups() const noexcept { return group_.out(); }
  void initialise(std::uint64_t seed, double scale = 1) {
    group_.initialise(seed, 0, scale);
    local_.initialise(seed, 1, scale);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take(arena, tokens, group_);
    take(arena, tokens, local_);
    group_.measure(arena, tokens);
    local_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take(arena, tokens, group_);
    take(arena, tokens, local_);
    group_.measure_backward(arena, tokens, concurrency);
    local_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const MatrixView<Real> group = rows_of(arena, in.tokens(), group_);
    const MatrixView<Real> local = rows_of(arena, in.tokens(), local_);
    group_.forward(in.x, group, arena, executor);
    local_.forward(in.x, local, arena, executor);
    Real* const share = tape == nullptr ? nullptr : tape->share.resize(in.tokens() * local_.out());
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      const Index m = places();
      if (!all_finite(group.row(t), groups()) || !all_finite(local.row(t), local_.out())) {
        fill_row(std::numeric_limits<Real>::quiet_NaN(), out.value.row(t), outputs_);
        return;
      }
      for (Index first = 0; first < local_.out(); first += m) {
        Real* const within = local.row(t) + first;
        if (share != nullptr) softmax_row(within, share + t * local_.out() + first, m);
        const Real lse = logsumexp_row(within, m);
        for (Index j = 0; j < m; ++j) within[j] -= lse;
      }
      for (Index e = 0; e < outputs_; ++e) {
        out.value(t, e) = group(t, e / m) + local(t, e % local_.out());
      }
    });
  }

  /// da_i = sum_j d_ij; db_ij = d_ij - q_ij da_i, summed over i if shared.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Real* const shares = impl::taped(kName, tape.share, in.tokens() * local_.out());
    const MatrixView<Real> dgroup = rows_of(arena, in.tokens(), group_);
    const MatrixView<Real> dlocal = rows_of(arena, in.tokens(), local_);
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Index m = places();
      const Real* const share = shares + t * local_.out();
      fill_row(Real{0}, dlocal.row(t), local_.out());
      for (Index i = 0; i < groups(); ++i) {
        const Real* const dlogit = dlogits.value.row(t) + i * m;
        const Index first = i * m % local_.out();
        dgroup(t, i) = sum_row(dlogit, m);
        for (Index j = 0; j < m; ++j) dlocal(t, first + j) += dlogit[j] - share[first + j] * dgroup(t, i);
      }
    });
    group_.backward_rows(dlogits.rows, count, in.x, dgroup, dx,
                         gradients == nullptr ? nullptr : &gradients->group, arena, executor);
    local_.backward_rows(dlogits.rows, count, in.x, dlocal, dx,
                         gradients == nullptr ? nullptr : &gradients->local, arena, executor);
  }

  Gradients make_gradients() const { return {group_.make_gradients(), local_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    group_.visit_parameters("gate.group", gradients == nullptr ? nullptr : &gradients->group, f);
    local_.visit_parameters("gate.local", gradients == nullptr ? nullptr : &gradients->local, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    group_.visit_storage("gate.group", gradients == nullptr ? nullptr : &gradients->group, f);
    local_.visit_storage("gate.local", gradients == nullptr ? nullptr : &gradients->local, f);
  }

 private:
  static const Options& checked(const Options& options) {
    require_range("groups", options.groups, 1, INT32_MAX);
    impl::require_blocks("groups", options.groups, options.outputs);
    return options;
  }
  /// m.
  Index places() const noexcept { return outputs_ / groups(); }

  static Real* take(Arena& arena, Index tokens, const Projection<Real>& of) {
    return arena.take<Real>(checked_product("logits of two levels", tokens, of.out()));
  }
  static MatrixView<Real> rows_of(Arena& arena, Index tokens, const Projection<Real>& of) {
    return {take(arena, tokens, of), tokens, of.out()};
  }

  Projection<Real> group_, local_;
  impl::Movable<Index> outputs_;
};

MOE_NAMESPACE_END
