// Experts at random, each as likely as any other: THOR, Zuo et al. 2110.04260. No parameters, no loss.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Who shares a draw.
enum class DrawOf : std::uint8_t {
  row,   // nobody: drawn by row key (the paper; sentences whose rows share a key are drawn as one)
  call,  // all rows of a step (the paper's code, in training)
};

struct RandomRouterOptions {
  Index experts = 0;  // E
  Index k = 1;        // different experts a row, each of weight 1 / k
  DrawOf draw = DrawOf::row;
};

/// Draws by (seed, call, row key), in training and in inference: two passes of one batch differ, as THOR's
/// consistency loss has them, for they are two calls of one counter. K of a call: any of [1, E]; with E the
/// mean of all experts. Reads no rows.
template <class RealType>
class RandomRouter {
 public:
  static constexpr const char* kName = "random";
  using Real = RealType;
  using Options = RandomRouterOptions;
  struct Tape {};
  struct Gradients {};

  /// What a row draws depends on no other row, even if they draw the same.
  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  /// Throws config_error unless 1 <= k <= experts.
  explicit RandomRouter(Options options) : options_(options) {
    require_range("experts", options.experts, 1, INT32_MAX);
    require_range("experts per token", options.k, 1, options.experts);
  }

  const Options& options() const noexcept { return options_; }
  Index experts() const noexcept { return options_.experts; }
  Index width() const noexcept { return 0; }
  /// Throws config_error for a K of the call beyond the experts.
  Index max_pairs(const CallShape& shape) const {
    return checked_product("routed pairs", shape.tokens, k_of(shape.options));
  }

  /// Throws config_error without draws, for a mask or an option of the call that no draw follows, or a K
  /// beyond the experts.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena&, X&) const {
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for a random router, got one");
    impl::refuse_score_options(in.options, "a random router");
    const Index k = k_of(in.options);
    in.require_draws("a random router");
    const KeyedRandom draw = in.random(DrawStream::expert);
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (in.takes_part(t)) push_some(table, t, k, draw, options_.draw == DrawOf::call ? 0 : in.key(t));
    }
  }
  /// Nothing is learned. Throws config_error for gradients from outside.
  template <Executor X>
  void backward(const RouterInput<Real>&, const RouteTable<Real>&, const Tape&,
                const RouteGradients<Real>& out, Gradients*, Arena&, X&) const {
    impl::refuse_outside_gradients(out, "a random router");
  }

 private:
  Index k_of(const CallOptions& options) const {
    if (options.experts_per_token == 0) return options_.k;
    require_range("experts per token", options.experts_per_token, 1, options_.experts);
    return options.experts_per_token;
  }

  /// Floyd's sample of k out of E (Bentley and Floyd, CACM 30 (1987) 754): k draws, every subset as likely.
  void push_some(RouteTable<Real>& table, Index t, Index k, const KeyedRandom& draw,
                 std::uint64_t key) const noexcept {
    const Real weight = Real{1} / static_cast<Real>(k);
    for (Index last = options_.experts - k; last < options_.experts; ++last) {
      const double u = draw.uniform(key, static_cast<std::uint32_t>(last));
      const auto id = static_cast<ExpertId>(u * static_cast<double>(last + 1));
      table.push(t, has(table, t, id) ? static_cast<ExpertId>(last) : id, weight);
    }
  }
  static bool has(const RouteTable<Real>& table, Index t, ExpertId e) noexcept {
    for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
      if (table.expert[p] == e) return true;
    }
    return false;
  }

  Options options_;
};

MOE_NAMESPACE_END
