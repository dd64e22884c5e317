// A good path through layers that each have a few ways to go, by Monte-Carlo tree search, where there are too
// many to try them all: what labels routers that skip, execute or repeat blocks. Dr.LLM, Heakl et al.
// 2510.12773.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "moe/analysis/oracle_path.hpp"
#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

struct SearchPathOptions {
  OraclePathOptions path{};              // layers, choices, their costs and the budget
  Index simulations = 1000;              // calls of the loss
  double cost_weight = 0;                // >= 0: what is least is the loss + this times the path's cost
  double explore = std::numbers::sqrt2;  // >= 0, beside rewards in [0, 1]
  std::uint64_t seed = 0;
};

namespace impl {

/// The tree of a search: nodes are beginnings of paths, children of a node side by side, one a choice.
class PathTree {
 public:
  explicit PathTree(const SearchPathOptions& options)
      : options_(options), draw_(options.seed, 0, DrawStream::user) {
    least_cost_ = std::numeric_limits<double>::infinity();
    for (Index c = 0; c < options.path.choices; ++c)
      least_cost_ = cost_of(c) < least_cost_ ? cost_of(c) : least_cost_;
    nodes_.emplace_back();
  }

  bool done() const noexcept { return nodes_[0].done; }
  double cost_of(Index choice) const noexcept {
    return options_.path.cost.empty() ? 0 : options_.path.cost[static_cast<std::size_t>(choice)];
  }

  /// A path for simulation `number`, down the tree, one node further, then by chance; and its cost.
  double walk(Index number, std::vector<Index>& path) {
    trail_.assign(1, 0);
    double cost = 0;
    bool inside = true;
    for (Index l = 0; l < options_.path.layers; ++l) {
      Index choice = 0;
      if (inside) {
        const Index node = trail_.back();
        inside = nodes_[at(node)].children >= 0;
        if (!inside) open(node, l, cost);
        choice = best_child(node);
        trail_.push_back(nodes_[at(node)].children + choice);
      } else {
        choice = draw_choice(number, l, cost);
      }
      cost += cost_of(choice);
      path[at(l)] = choice;
    }
    return cost;
  }
  /// What came of the last walk.
  void learn(double value) {
    best_ = value < best_ ? value : best_;
    worst_ = value > worst_ ? value : worst_;
    for (const Index node : trail_) {
      nodes_[at(node)].sum += value;
      nodes_[at(node)].visits += 1;
    }
    Node& last = nodes_[at(trail_.back())];
    last.done = last.done || static_cast<Index>(trail_.size()) == options_.path.layers + 1;
    for (std::size_t i = trail_.size() - 1; i-- > 0;) {
      bool all = true;
      const Index first = nodes_[at(trail_[i])].children;
      for (Index c = 0; c < options_.path.choices; ++c) all = all && nodes_[at(first + c)].done;
      nodes_[at(trail_[i])].done = all;
    }
  }

 private:
  struct Node {
    Index children = -1;
    Index visits = 0;
    double sum = 0;
    bool done = false;  // nothing below it is left to try, or the budget forbids it
  };

  static std::size_t at(Index i) noexcept { return static_cast<std::size_t>(i); }
  /// Whether a beginning of that cost, `choice` and the cheapest of what follows keep the budget.
  bool affords(double cost, Index choice, Index layer) const noexcept {
    return cost + cost_of(choice) + least_cost_ * static_cast<double>(options_.path.layers - layer - 1) <=
           options_.path.budget;
  }
  void open(Index node, Index layer, double cost) {
    nodes_[at(node)].children = static_cast<Index>(nodes_.size());
    for (Index c = 0; c < options_.path.choices; ++c) {
      nodes_.emplace_back();
      nodes_.back().done = !affords(cost, c, layer);
    }
  }
  /// Who was not tried yet, else the greatest upper bound of the reward; the lower id of equal ones.
  Index best_child(Index node) const {
    const Node& of = nodes_[at(node)];
    Index best = -1;
    double most = 0;
    for (Index c = 0; c < options_.path.choices; ++c) {
      const Node& child = nodes_[at(of.children + c)];
      if (child.done) continue;
      if (child.visits == 0) return c;
      const auto visits = static_cast<double>(child.visits);
      const double reward = worst_ > best_ ? (worst_ - child.sum / visits) / (worst_ - best_) : 0.5;
      const double bound =
          reward + options_.explore * std::sqrt(std::log(static_cast<double>(of.visits)) / visits);
      if (best < 0 || bound > most) best = c, most = bound;
    }
    return best;
  }
  /// Of those that the budget allows, each as likely.
  Index draw_choice(Index number, Index layer, double cost) const {
    Index open = 0;
    for (Index c = 0; c < options_.path.choices; ++c) open += affords(cost, c, layer) ? 1 : 0;
    auto left =
        static_cast<Index>(static_cast<double>(open) * draw_.uniform(static_cast<std::uint64_t>(number),
                                                                     static_cast<std::uint32_t>(layer)));
    for (Index c = 0; c < options_.path.choices; ++c) {
      if (affords(cost, c, layer) && left-- == 0) return c;
    }
    return 0;
  }

  const SearchPathOptions& options_;
  KeyedRandom draw_;
  double least_cost_;
  double best_ = std::numeric_limits<double>::infinity(), worst_ = -std::numeric_limits<double>::infinity();
  std::vector<Node> nodes_;
  std::vector<Index> trail_;
};

}  // namespace impl

/// The best path that was tried, by loss(std::span<const Index> path), a finite number, plus cost_weight
/// times its cost; of equal ones the first. Upper confidence bounds down the tree of beginnings, chance below
/// it; a beginning all of whose ends were tried is left alone, so that with simulations enough the path is
/// oracle_path's. With the choices 0, 1, 2 for skip, execute and repeat (dr_llm()) choice[l] is the label of
/// layer l for the sequence whose loss this is. The same seed, the same path. Throws config_error for options
/// out of their range and a budget that no path keeps, numeric_error for a loss that is not finite.
template <class Loss>
OraclePath search_path(const SearchPathOptions& options, Loss&& loss) {
  impl::check_oracle_options(options.path);
  require_range("simulations", options.simulations, 1, PTRDIFF_MAX);
  for (const auto& [name, value] :
       {std::pair{"cost weight", options.cost_weight}, {"explore", options.explore}}) {
    if (!(value >= 0 && is_finite(value)))
      fail<config_error>(name, ": expected a finite value >= 0, got ", value);
  }
  impl::PathTree tree(options);
  double cheapest = std::numeric_limits<double>::infinity();
  for (Index c = 0; c < options.path.choices; ++c)
    cheapest = tree.cost_of(c) < cheapest ? tree.cost_of(c) : cheapest;
  if (cheapest * static_cast<double>(options.path.layers) > options.path.budget) {
    fail<config_error>("budget: expected one that some path keeps, got ", options.path.budget);
  }
  OraclePath best;
  double least = 0;
  std::vector<Index> path(static_cast<std::size_t>(options.path.layers));
  for (Index i = 0; i < options.simulations && !tree.done(); ++i) {
    const double cost = tree.walk(i, path);
    const double of = loss(std::span<const Index>(path)), value = of + options.cost_weight * cost;
    if (!is_finite(of)) fail<numeric_error>("search path: expected a finite loss, got ", of, " for path ", i);
    tree.learn(value);
    if (best.tried++ != 0 && !(value < least)) continue;
    best.choice = path;
    best.loss = of;
    best.cost = cost;
    least = value;
  }
  return best;
}

MOE_NAMESPACE_END
