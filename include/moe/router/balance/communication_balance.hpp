// Communication balance: groups of experts receive equal numbers of tokens. DeepSeek-V2, 2405.04434 section
// 2.2.3. Groups are equal blocks of ids.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/group_loss.hpp"
#include "moe/router/expert_blocks.hpp"

MOE_NAMESPACE_BEGIN

/// c * sum over G groups of f_j * P_j: f_j = G / (M T) * (tokens with a choice in group j), P_j the sum over
/// the group of the mean probabilities, M the groups a token may reach at most (device-limited routing). c
/// when every token reaches M groups and they are balanced. It counts tokens, which counts per expert do not
/// tell, so outside_counts has no part in it.
class CommunicationBalance {
 public:
  static constexpr const char* kName = "communication_balance";

  struct Options {
    double coefficient = 0.02;
    Index groups = 1;   // G
    Index reached = 1;  // M
  };

  /// Throws config_error unless 1 <= reached <= groups.
  explicit CommunicationBalance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    require_range("groups", options.groups, 1, INT32_MAX);
    require_range("reached groups", options.reached, 1, options.groups);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { impl::require_blocks("groups", options_.groups, outputs); }
  void measure(Arena& arena, Index, Index) const {
    arena.take<double>(options_.groups);
    arena.take<Index>(options_.groups);
  }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    return impl::group_loss(in, factors(in, arena), group_of(in));
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    impl::group_loss_backward(in, factors(in, arena), group_of(in), scale, out.dprobability);
  }

 private:
  template <class Real>
  impl::BlockOf group_of(const BalanceInput<Real>& in) const noexcept {
    return {in.outputs() / options_.groups};
  }
  /// c * f_j / (active tokens).
  template <class Real>
  const double* factors(const BalanceInput<Real>& in, Arena& arena) const {
    const Index groups = options_.groups;
    double* const sent = arena.take<double>(groups);
    Index* const last_token = arena.take<Index>(groups);
    for (Index j = 0; j < groups; ++j) {
      sent[j] = 0;
      last_token[j] = -1;
    }
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      for (Index i = 0; i < in.chosen_count[t]; ++i) {
        const Index j = group_of(in)(Index{in.choices(t)[i]});
        if (last_token[j] == t) continue;
        last_token[j] = t;
        sent[j] += 1;
      }
    }
    const auto active = static_cast<double>(in.active_count);
    const double common = in.active_count > 0 ? options_.coefficient * static_cast<double>(groups) /
                                                    static_cast<double>(options_.reached) / active / active
                                              : 0.0;
    for (Index j = 0; j < groups; ++j) sent[j] *= common;
    return sent;
  }

  Options options_;
};

MOE_NAMESPACE_END
