// Hash routing: the expert is looked up by token id in a table fixed before training. No parameters, weight
// 1, no loss. Roller et al., "Hash layers for large sparse models", 2106.04426.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/hash_table.hpp"

MOE_NAMESPACE_BEGIN

/// Routes by LayerInput::token_id, one expert per hash, weight 1. Reads no rows.
template <class RealType>
class HashRouter {
 public:
  static constexpr const char* kName = "hash";
  using Real = RealType;
  struct Tape {};
  struct Gradients {};

  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  explicit HashRouter(HashTable table) : table_(std::move(table)) {}

  const HashTable& table() const noexcept { return table_; }
  Index experts() const noexcept { return table_.experts(); }
  Index width() const noexcept { return 0; }
  Index max_pairs(const CallShape& shape) const {
    return checked_product("routed pairs", shape.tokens, table_.hashes());
  }

  /// Throws config_error without token ids, route_error for one outside the vocabulary, config_error for a
  /// mask or an option of the call, which a table cannot follow.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena&, X&) const {
    check(in);
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (!in.takes_part(t)) continue;
      for (Index h = 0; h < table_.hashes(); ++h)
        table.push(t, table_.expert(h, Index{in.token_id[t]}), Real{1});
    }
  }
  /// Nothing is learned. Throws config_error for gradients from outside.
  template <Executor X>
  void backward(const RouterInput<Real>&, const RouteTable<Real>&, const Tape&,
                const RouteGradients<Real>& out, Gradients*, Arena&, X&) const {
    impl::refuse_outside_gradients(out, "a hash router");
  }

 private:
  void check(const RouterInput<Real>& in) const {
    impl::require_there("router", experts() > 0);
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for a hash router, got one");
    if (in.options.experts_per_token != 0 && in.options.experts_per_token != table_.hashes()) {
      fail<config_error>("experts per token: expected ", table_.hashes(), " (one per hash), got ",
                         in.options.experts_per_token);
    }
    impl::refuse_score_options(in.options, "a hash router");
    impl::check_token_ids(in, table_.vocabulary());
  }

  HashTable table_;
};

MOE_NAMESPACE_END
