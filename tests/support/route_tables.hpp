// Route tables and dispatch plans with memory of their own, exactly as much as was measured.
#pragma once

#include <cstddef>
#include <random>
#include <utility>
#include <vector>

#include "moe/plan/dispatch_plan.hpp"

namespace test {

using moe::ExpertId;
using moe::Index;

/// By token, first choice first: expert and weight.
template <class Real>
using Choices = std::vector<std::vector<std::pair<ExpertId, Real>>>;

template <class Real>
Index pairs_of(const Choices<Real>& choices) {
  Index pairs = 0;
  for (const auto& token : choices) pairs += static_cast<Index>(token.size());
  return pairs;
}

template <class Real>
class OwnedTable {
 public:
  OwnedTable(const Choices<Real>& choices, Index experts) {
    const auto tokens = static_cast<Index>(choices.size());
    moe::Arena measuring;
    moe::RouteTable<Real>::carve(measuring, tokens, experts, pairs_of(choices));
    moe::Arena arena = memory_.arena(measuring.bytes());
    table = moe::RouteTable<Real>::carve(arena, tokens, experts, pairs_of(choices));
    for (Index t = 0; t < tokens; ++t) {
      table.begin_token(t);
      for (const auto& [e, w] : choices[static_cast<std::size_t>(t)]) table.push(t, e, w);
    }
  }
  OwnedTable(OwnedTable&&) = delete;

 private:
  moe::Workspace memory_;

 public:
  moe::RouteTable<Real> table;
};

template <class Real>
class OwnedPlan {
 public:
  template <class Capacity>
  OwnedPlan(const moe::RouteTable<Real>& table, const Capacity& capacity,
            const moe::Segments& segments = {}) {
    moe::Arena measuring;
    moe::DispatchPlan<Real>::carve(measuring, table.tokens, table.experts, table.pairs());
    moe::measure_plan(measuring, capacity, table.pairs(), table.experts);
    moe::Arena arena = memory_.arena(measuring.bytes());
    plan = moe::DispatchPlan<Real>::carve(arena, table.tokens, table.experts, table.pairs());
    moe::build_plan(table, capacity, segments, plan, arena);
  }
  OwnedPlan(OwnedPlan&&) = delete;

 private:
  moe::Workspace memory_;

 public:
  moe::DispatchPlan<Real> plan;
};

/// Each token gets 0 to `most` different experts. Weights are multiples of 1/8 in [-1, 1], so that many are
/// equal and sums are exact.
template <class Real>
Choices<Real> random_choices(std::mt19937& random, Index tokens, Index experts, Index most) {
  const auto below = [&random](Index n) {
    return static_cast<Index>(random() % static_cast<std::uint32_t>(n));
  };
  Choices<Real> choices(static_cast<std::size_t>(tokens));
  std::vector<ExpertId> order(static_cast<std::size_t>(experts));
  for (auto& token : choices) {
    for (std::size_t e = 0; e < order.size(); ++e) order[e] = static_cast<ExpertId>(e);
    const Index count = below(most + 1);
    for (Index k = 0; k < count; ++k) {
      const auto at = static_cast<std::size_t>(k);
      std::swap(order[at], order[static_cast<std::size_t>(k + below(experts - k))]);
      token.emplace_back(order[at], static_cast<Real>(below(17) - 8) / 8);
    }
  }
  return choices;
}

}  // namespace test
