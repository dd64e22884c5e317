// Logits that attend to each other: the attention router of Yuan 2.0-M32, 2405.17976.
#pragma once

#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct AttentionScorerOptions {
  Index width = 0;    // D
  Index outputs = 0;  // N
};

/// q, k, v = three linear maps of x into [N]; logit_i = sum_j A_ij v_j, A_i = softmax over j of q_i k_j:
/// every expert is a position with a head of width 1, so that nothing is scaled. Parameters "query.weight",
/// "key.weight", "value.weight" [N, D]. Zero until initialise(). Backward forms A again: [N, N] of a row at a
/// time.
template <class RealType>
class AttentionScorer {
 public:
  using Real = RealType;
  using Options = AttentionScorerOptions;
  struct Tape {
    Buffer<Real> rows;  // [3, T, N] q, k, v
  };
  struct Gradients {
    typename Projection<Real>::Gradients query, key, value;
  };
  static constexpr const char* kName = "attention";

  /// Throws config_error for sizes below 1.
  explicit AttentionScorer(const Options& o)
      : query_(o.width, o.outputs, false),
        key_(o.width, o.outputs, false),
        value_(o.width, o.outputs, false) {}

  Index width() const noexcept { return query_.in(); }
  Index outputs() const noexcept { return query_.out(); }
  void initialise(std::uint64_t seed) {
    query_.initialise(seed, 0);
    key_.initialise(seed, 1);
    value_.initialise(seed, 2);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens), take_weights(arena, concurrency);
    for (Index i = 0; i < 3; ++i) query_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens), take_weights(arena, concurrency);
    for (Index i = 0; i < 3; ++i) query_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), n = outputs();
    const Rows rows(tape == nullptr ? take_rows(arena, tokens) : tape->rows.resize(size(tokens)), tokens, n);
    Real* const weights = take_weights(arena, executor.concurrency());
    query_.forward(in.x, rows.query, arena, executor);
    key_.forward(in.x, rows.key, arena, executor);
    value_.forward(in.x, rows.value, arena, executor);
    executor.parallel_for(tokens, [&](Index t, Index worker) noexcept {
      if (!rows.finite(t)) {  // a softmax would hide a -inf
        fill_row(std::numeric_limits<Real>::quiet_NaN(), out.value.row(t), n);
        return;
      }
      Real* const a = weights + worker * n;
      for (Index i = 0; i < n; ++i) {
        attend(rows.query(t, i), rows.key.row(t), a);
        out.value(t, i) = dot(a, rows.value.row(t), n);
      }
    });
  }

  /// d v_j = sum_i dL_i A_ij; with d_ij = dL_i A_ij (v_j - logit_i): d q_i = sum_j d_ij k_j, d k_j = sum_i
  /// d_ij q_i.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), n = outputs();
    const Real* const taped = impl::taped(kName, tape.rows, size(tokens));
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    const Rows d(take_rows(arena, tokens), tokens, n);
    Real* const weights = take_weights(arena, executor.concurrency());
    executor.parallel_for(count, [&](Index r, Index worker) noexcept {
      const Index t = dlogits.rows == nullptr ? r : Index{dlogits.rows[r]};
      const Real* const query = taped + t * n;
      const Real* const key = query + tokens * n;
      const Real* const value = key + tokens * n;
      Real* const a = weights + worker * n;
      fill_row(Real{0}, d.key.row(t), n);
      fill_row(Real{0}, d.value.row(t), n);
      for (Index i = 0; i < n; ++i) {
        attend(query[i], key, a);
        const Real own = dlogits.value(t, i), logit = dot(a, value, n);
        axpy_row(own, a, d.value.row(t), n);
        for (Index j = 0; j < n; ++j) a[j] *= own * (value[j] - logit);
        d.query(t, i) = dot(a, key, n);
        axpy_row(query[i], a, d.key.row(t), n);
      }
    });
    const auto back = [&](const Projection<Real>& map, const MatrixView<Real>& from, auto* own) {
      map.backward_rows(dlogits.rows, count, in.x, from, dx, own, arena, executor);
    };
    back(query_, d.query, gradients == nullptr ? nullptr : &gradients->query);
    back(key_, d.key, gradients == nullptr ? nullptr : &gradients->key);
    back(value_, d.value, gradients == nullptr ? nullptr : &gradients->value);
  }

  Gradients make_gradients() const {
    return {query_.make_gradients(), key_.make_gradients(), value_.make_gradients()};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    query_.visit_parameters("query", gradients == nullptr ? nullptr : &gradients->query, f);
    key_.visit_parameters("key", gradients == nullptr ? nullptr : &gradients->key, f);
    value_.visit_parameters("value", gradients == nullptr ? nullptr : &gradients->value, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    query_.visit_storage("query", gradients == nullptr ? nullptr : &gradients->query, f);
    key_.visit_storage("key", gradients == nullptr ? nullptr : &gradients->key, f);
    value_.visit_storage("value", gradients == nullptr ? nullptr : &gradients->value, f);
  }

 private:
  struct Rows {
    MatrixView<Real> query, key, value;  // [T, N]
    Rows(Real* data, Index tokens, Index n)
        : query(data, tokens, n),
          key(data + tokens * n, tokens, n),
          value(data + 2 * tokens * n, tokens, n) {}
    bool finite(Index t) const noexcept {
      return all_finite(query.row(t), query.cols) && all_finite(key.row(t), key.cols) &&
             all_finite(value.row(t), value.cols);
    }
  };
  Index size(Index tokens) const { return checked_product("queries, keys and values", 3, tokens, outputs()); }
  Real* take_rows(Arena& arena, Index tokens) const { return arena.take<Real>(size(tokens)); }
  Real* take_weights(Arena& arena, Index workers) const { return arena.take<Real>(workers * outputs()); }

  /// a_j = softmax over j of query * key_j; NaN where a product overflows.
  void attend(Real query, const Real* key, Real* a) const noexcept {
    const Index n = outputs();
    scale_row(query, key, a, n);
    if (is_finite(max_row(a, n))) {
      softmax_row(a, a, n);
    } else {
      fill_row(std::numeric_limits<Real>::quiet_NaN(), a, n);
    }
  }

  Projection<Real> query_, key_, value_;
};

MOE_NAMESPACE_END
