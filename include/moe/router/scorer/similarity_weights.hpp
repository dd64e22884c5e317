// Rows that are alike weigh each other: similarity-aware routing, Nguyen et al. 2505.00792.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/scorer/row_mixer.hpp"

MOE_NAMESPACE_BEGIN

struct SimilarityOptions {
  Index width = 0;         // D
  double temperature = 1;  // tau > 0
  bool causal = false;     // row t weighs rows up to itself: a language model's
};

/// RowWeights S_tj = softmax over j of <W x_t, x_j> / tau. Parameter "similarity.weight" [D, D], zero until
/// initialise(): all rows then weigh the same. S is formed again in the backward.
template <class RealType>
class SimilarityWeights {
 public:
  using Real = RealType;
  using Options = SimilarityOptions;
  static constexpr const char* kName = "similarity";
  struct Tape {
    Buffer<Real> query;  // [T, D] W x
    Buffer<Real> scale;  // [2, T] largest exponent and sum of a row's softmax
  };
  using Gradients = typename Projection<Real>::Gradients;

  /// Throws config_error for a width below 1 or a temperature whose inverse is not a finite number > 0.
  explicit SimilarityWeights(const Options& o)
      : map_(o.width, o.width, false), inverse_(static_cast<Real>(1 / o.temperature)), causal_(o.causal) {
    if (!(inverse_ > 0 && is_finite(inverse_))) {
      fail<config_error>("similarity: expected a temperature whose inverse is a finite number > 0, got ",
                         o.temperature);
    }
  }

  void initialise(std::uint64_t seed) { map_.initialise(seed, 1); }

  /// Throws shape_error for rows of another width.
  void check_call(const RouterInput<Real>& in) const {
    require_extent("similarity", "columns of x", map_.in(), in.x.cols);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take_query(arena, tokens), take_scale(arena, tokens);
    map_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_query(arena, tokens), arena.take<Real>(tokens), arena.take<std::int32_t>(tokens);
    map_.measure_backward(arena, tokens, concurrency);
  }

  /// The weights of a call.
  struct Rows {
    const RouterInput<Real>& in;
    MixedRows rows;
    const Real* query;  // [T, D]
    Real* scale;        // [2, T]
    Real inverse;
    bool causal;

    bool sees(Index t, Index j) const noexcept { return rows.open[j] && (!causal || j <= t); }
    Real exponent(Index t, Index j) const noexcept {
      return dot(query + t * in.x.cols, in.x.row(j), in.x.cols) * inverse;
    }
    Real one(Index t, Index j) const noexcept {
      if (!sees(t, j)) return Real{0};
      return math::exp_nonpositive(Real(exponent(t, j) - scale[t])) / scale[in.tokens() + t];
    }
    void row(Index t, Real* s) const noexcept {
      const Index begin = rows.begin[t], end = rows.end[t];
      Real top = exponent(t, t), sum = 0;
      for (Index j = begin; j < end; ++j) {
        if (!sees(t, j)) continue;
        s[j - begin] = exponent(t, j);
        if (s[j - begin] > top) top = s[j - begin];
      }
      for (Index j = begin; j < end; ++j) {
        Real& w = s[j - begin];
        w = sees(t, j) ? math::exp_nonpositive(Real(w - top)) : Real{0};
        sum += w;
      }
      for (Index j = begin; j < end; ++j) s[j - begin] /= sum;
      scale[t] = top;
      scale[in.tokens() + t] = sum;
    }
  };

  template <Executor X>
  Rows forward(const RouterInput<Real>& in, const MixedRows& rows, Tape* tape, Arena& arena,
               X& executor) const {
    const Index tokens = in.tokens(), width = map_.in();
    Real* const query = tape == nullptr ? take_query(arena, tokens)
                                        : tape->query.resize(checked_product("tape", tokens, width));
    Real* const scale = tape == nullptr ? take_scale(arena, tokens) : tape->scale.resize(2 * tokens);
    map_.forward(in.x, MatrixView<Real>(query, tokens, width), arena, executor);
    for (Index t = 0; t < tokens; ++t) {
      rows.open[t] = rows.open[t] && all_finite(query + t * width, width);
    }
    return {in, rows, query, scale, inverse_, causal_};
  }
  Rows again(const RouterInput<Real>& in, const MixedRows& rows, const Tape& tape) const {
    const Index tokens = in.tokens();
    return {in,
            rows,
            impl::taped(kName, tape.query, tokens * map_.in()),
            const_cast<Real*>(impl::taped(kName, tape.scale, 2 * tokens)),
            inverse_,
            causal_};
  }

  /// With a_tj = S_tj (dS_tj - sum_i S_ti dS_ti) / tau: d (W x_t) = sum_j a_tj x_j, d x_j += sum_t a_tj W
  /// x_t.
  template <class DS, Executor X>
  void backward(const RouterInput<Real>& in, const MixedRows& rows, const bool* active, const Rows& s,
                const DS& ds, const MatrixView<Real>& dx, Gradients* gradients, Arena& arena,
                X& executor) const {
    const Index tokens = in.tokens(), width = map_.in();
    const MatrixView<Real> dquery(take_query(arena, tokens), tokens, width);
    Real* const mean = arena.take<Real>(tokens);
    std::int32_t* const listed = arena.take<std::int32_t>(tokens);
    Index count = 0;
    for (Index t = 0; t < tokens; ++t) {
      if (active[t]) listed[count++] = static_cast<std::int32_t>(t);
    }
    const auto through = [&](Index t, Index j) noexcept {
      return s.one(t, j) * (ds(t, j) - mean[t]) * inverse_;
    };
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = Index{listed[a]};
      fill_row(Real{0}, dquery.row(t), width);
      mean[t] = 0;
      for (Index j = rows.begin[t]; j < rows.end[t]; ++j) {
        if (s.sees(t, j)) mean[t] += s.one(t, j) * ds(t, j);
      }
      for (Index j = rows.begin[t]; j < rows.end[t]; ++j) {
        if (s.sees(t, j)) axpy_row(through(t, j), in.x.row(j), dquery.row(t), width);
      }
    });
    executor.parallel_for(dx ? tokens : 0, [&](Index j, Index) noexcept {
      for (Index t = rows.begin[j]; rows.open[j] && t < rows.end[j]; ++t) {
        if (active[t] && s.sees(t, j)) axpy_row(through(t, j), s.query + t * width, dx.row(j), width);
      }
    });
    map_.backward_rows(listed, count, in.x, dquery, dx, gradients, arena, executor);
  }

  Gradients make_gradients() const { return map_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    map_.visit_parameters(kName, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    map_.visit_storage(kName, gradients, f);
  }

 private:
  Real* take_query(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("queries", tokens, map_.in()));
  }
  static Real* take_scale(Arena& arena, Index tokens) { return arena.take<Real>(2 * tokens); }

  Projection<Real> map_;
  Real inverse_;
  bool causal_;
};

MOE_NAMESPACE_END
