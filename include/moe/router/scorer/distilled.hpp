// A linear router that is replaced, once trained, by one on token ids that learned from it. StableMoE,
// 2204.08396.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct DistilledScorerOptions {
  Index width = 0;        // D
  Index outputs = 0;      // N
  Index vocabulary = 0;   // V
  Index embedding = 50;   // M: columns of the small router's table
  Index first_stage = 0;  // steps of training; the paper: a tenth of all
};

/// First stage, in training: logits = W x. In inference, and in training from the second stage on: the same
/// logit for the output that the small router, argmax of centroids * embedding[token id], sends the token to,
/// and -inf for the others, so that the route is a function of the id (a logit_mask that hides that output
/// leaves the row none). The small router learns by RouteDistillation (router/balance/distillation.hpp), in
/// the first stage. Parameters "gate.weight" [N, D], "routing_embedding" [V, M], "routing_centroids" [N, M],
/// zero until initialise(); state "routing_steps".
template <class RealType>
class DistilledScorer {
 public:
  using Real = RealType;
  using Options = DistilledScorerOptions;
  struct Tape {};
  struct Gradients {
    typename Projection<Real>::Gradients gate;
    Buffer<Real> embedding;  // [V, M]
    Buffer<Real> centroid;   // [N, M]
  };
  static constexpr const char* kName = "distilled";

  /// Throws config_error for sizes below 1 or a negative number of steps.
  explicit DistilledScorer(const Options& o) : gate_(o.width, o.outputs, false), options_(o) {
    require_range("vocabulary", o.vocabulary, 1, INT32_MAX);
    require_range("routing embedding", o.embedding, 1, INT32_MAX);
    require_range("steps of the first stage", o.first_stage, 0, Index{1} << 53);
    embedding_.assign(checked_product("routing embedding", o.vocabulary, o.embedding), Real{0});
    centroid_.assign(checked_product("routing centroids", o.outputs, o.embedding), Real{0});
  }

  Index width() const noexcept { return gate_.in(); }
  Index outputs() const noexcept { return gate_.out(); }
  Index embedding_width() const noexcept { return options_->embedding; }
  bool first_stage() const noexcept { return steps_ < static_cast<double>(options_->first_stage); }
  /// Score of output e for a token id, by the small router.
  Real distilled_score(TokenId id, Index e) const noexcept {
    return dot(embedding_row(id), centroid_row(e), options_->embedding);
  }
  const Real* embedding_row(TokenId id) const noexcept {
    return embedding_.data() + Index{id} * options_->embedding;
  }
  const Real* centroid_row(Index e) const noexcept { return centroid_.data() + e * options_->embedding; }

  /// Gate in +-1 / sqrt(D), embeddings standard normal, centroids of 0.1 / sqrt(M) times that.
  void initialise(std::uint64_t seed) {
    gate_.initialise(seed);
    const KeyedRandom draw(seed, 1, DrawStream::initialise);
    for (Index i = 0; i < embedding_.size(); ++i) {
      embedding_[i] = static_cast<Real>(draw.normal(static_cast<std::uint64_t>(i), 0));
    }
    const double scale = 0.1 / std::sqrt(static_cast<double>(options_->embedding));
    for (Index i = 0; i < centroid_.size(); ++i) {
      centroid_[i] = static_cast<Real>(scale * draw.normal(static_cast<std::uint64_t>(i), 1));
    }
  }

  template <class Call>
  void check_call(const Call& in) const {
    impl::check_token_ids(in, options_->vocabulary);
  }
  void measure(Arena& arena, Index tokens, Index) const { gate_.measure(arena, tokens); }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    gate_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena& arena, X& executor) const {
    gate_.forward(in.x, out.value, arena, executor);
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      Real* const row = out.value.row(t);
      if (!impl::finite_or_spoiled(row, outputs()) || !distilled(in) || !in.takes_part(t)) return;
      const Index own = distilled_choice(in.token_id.data()[t]);
      for (Index e = 0; e < outputs(); ++e) {
        if (own < 0) row[e] = std::numeric_limits<Real>::quiet_NaN();
        if (own >= 0 && e != own) row[e] = -std::numeric_limits<Real>::infinity();
      }
    });
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(distilled(in) ? count : 0, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      const Index own = distilled_choice(in.token_id.data()[t]);
      for (Index e = 0; e < outputs(); ++e) {
        if (e != own) dlogits.value(t, e) = 0;
      }
    });
    gate_.backward_rows(dlogits.rows, count, in.x, dlogits.value, dx,
                        gradients == nullptr ? nullptr : &gradients->gate, arena, executor);
  }

  void on_step_end(const RouteStats& stats) noexcept {
    if (stats.tokens > 0 && first_stage()) steps_ += 1;
  }
  /// f gets a copy, taken over if it is a count; otherwise numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    double steps = steps_;
    f("routing_steps", &steps, Index{1});
    if (!(steps >= 0 && is_finite(steps)))
      fail<numeric_error>("routing steps: expected a count, got ", steps);
    steps_ = steps;
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    f("routing_steps", &steps_, Index{1});
  }

  Gradients make_gradients() const {
    return {gate_.make_gradients(), Buffer<Real>(embedding_.size()), Buffer<Real>(centroid_.size())};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const bool with = gradients != nullptr;
    gate_.visit_parameters("gate", with ? &gradients->gate : nullptr, f);
    f(Parameter<Real>{"routing_embedding", view(embedding_),
                      with ? view(gradients->embedding) : ParameterView<Real>{}});
    f(Parameter<Real>{"routing_centroids", view(centroid_),
                      with ? view(gradients->centroid) : ParameterView<Real>{}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    gate_.visit_storage("gate", gradients == nullptr ? nullptr : &gradients->gate, f);
    visit_buffer(f, "routing_embedding", embedding_, gradients, &Gradients::embedding);
    visit_buffer(f, "routing_centroids", centroid_, gradients, &Gradients::centroid);
  }

 private:
  ParameterView<Real> view(Buffer<Real>& values) const noexcept {
    return {
        values.data(), values.size() / options_->embedding, options_->embedding, 1, options_->embedding, 1};
  }

  bool distilled(const RouterInput<Real>& in) const noexcept { return !in.training || !first_stage(); }
  /// Where the small router sends a token id; -1 if its scores are not finite.
  Index distilled_choice(TokenId id) const noexcept {
    Index best = 0;
    for (Index e = 0; e < outputs(); ++e) {
      const Real score = distilled_score(id, e);
      if (!is_finite(score)) return -1;
      if (score > distilled_score(id, best)) best = e;
    }
    return best;
  }

  Projection<Real> gate_;
  impl::Movable<Options> options_;
  Buffer<Real> embedding_;  // [V, M]
  Buffer<Real> centroid_;   // [N, M]
  double steps_ = 0;        // of the first stage that are over
};

MOE_NAMESPACE_END
