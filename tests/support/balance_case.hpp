// What a balancing part gets to see, with storage of its own: for tests of the parts without a router around
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/balance/concept.hpp"
#include "support/router_laws.hpp"

namespace test {

/// T tokens, N outputs, M choices each. Fill the vectors, then ask a part.
struct BalanceCase {
  Index tokens, outputs, most;
  std::vector<double> logit, clean, noise_scale, score,
      probability;                  // [T, N]; clean and noise_scale may be empty
  std::vector<ExpertId> chosen;     // [T, M]
  std::vector<Index> chosen_count;  // [T]
  std::vector<double> weight;       // [T, M]
  moe::Buffer<bool> keep;           // [T, M]
  moe::Buffer<bool> active;         // [T]
  moe::RouterInput<double> call;

  BalanceCase(Index tokens_, Index outputs_, Index most_)
      : tokens(tokens_),
        outputs(outputs_),
        most(most_),
        logit(size(tokens * outputs)),
        score(size(tokens * outputs)),
        probability(size(tokens * outputs)),
        chosen(size(tokens * most)),
        chosen_count(size(tokens), most),
        weight(size(tokens * most), 1),
        keep(tokens * most),
        active(tokens) {
    keep.fill(true);
    active.fill(true);
    call.x.rows = tokens;
  }

  double& p(Index t, Index e) { return probability[size(t * outputs + e)]; }
  ExpertId& choice(Index t, Index i) { return chosen[size(t * most + i)]; }
  Index active_tokens() const { return std::count(active.begin(), active.end(), true); }

  moe::BalanceInput<double> input() const {
    moe::BalanceInput<double> in{
        .call = call, .logit = view(logit), .score = view(score), .probability = view(probability)};
    if (!clean.empty()) in.clean = view(clean);
    if (!noise_scale.empty()) in.noise_scale = view(noise_scale);
    in.chosen = chosen.data();
    in.chosen_count = chosen_count.data();
    in.weight = weight.data();
    in.keep = keep.data();
    in.most = most;
    in.active = active.data();
    in.active_count = active_tokens();
    return in;
  }

  /// The loss, on exactly the measured memory.
  template <class Part>
  double loss(const Part& part) const {
    MeasuredMemory memory([&](moe::Arena& a) { part.measure(a, tokens, outputs); });
    moe::Arena arena = memory.arena();
    return part.forward(input(), arena);
  }

  struct Gradients {
    std::vector<double> logit, clean, noise_scale, score, probability, weight;
  };
  /// Its gradients times `scale`, added to zeros.
  template <class Part>
  Gradients gradients(const Part& part, double scale = 1) const {
    Gradients g;
    const std::size_t n = size(tokens * outputs);
    for (auto* v : {&g.logit, &g.clean, &g.noise_scale, &g.score, &g.probability}) v->assign(n, 0);
    g.weight.assign(size(tokens * most), 0);
    MeasuredMemory memory([&](moe::Arena& a) { part.measure(a, tokens, outputs); });
    moe::Arena arena = memory.arena();
    part.backward(input(), scale,
                  moe::BalanceGradients<double>{mutable_view(g.logit), mutable_view(g.clean),
                                                mutable_view(g.noise_scale), mutable_view(g.score),
                                                mutable_view(g.probability), g.weight.data()},
                  arena);
    return g;
  }

  static std::size_t size(Index n) { return static_cast<std::size_t>(n); }

 private:
  moe::ConstMatrixView<double> view(const std::vector<double>& v) const {
    return {v.data(), tokens, outputs};
  }
  moe::MatrixView<double> mutable_view(std::vector<double>& v) const { return {v.data(), tokens, outputs}; }
};

/// Random logits, their softmax, k different random choices; every fifth token, from the third on, is not
/// active (and holds numbers that would show).
inline BalanceCase random_balance_case(Index tokens, Index outputs, Index k, std::uint64_t seed) {
  BalanceCase c(tokens, outputs, k);
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  std::vector<Index> order(BalanceCase::size(outputs));
  for (Index t = 0; t < tokens; ++t) {
    const auto row = static_cast<std::uint64_t>(t);
    double sum = 0;
    for (Index e = 0; e < outputs; ++e) {
      const auto at = BalanceCase::size(t * outputs + e);
      c.logit[at] = 2 * draw.normal(row, static_cast<std::uint32_t>(e));
      c.p(t, e) = std::exp(c.logit[at]);
      sum += c.p(t, e);
    }
    for (Index e = 0; e < outputs; ++e) c.p(t, e) /= sum;
    std::iota(order.begin(), order.end(), Index{0});
    std::sort(order.begin(), order.end(), [&](Index a, Index b) {
      return draw.bits(row, static_cast<std::uint32_t>(1000 + a)) <
             draw.bits(row, static_cast<std::uint32_t>(1000 + b));
    });
    for (Index i = 0; i < k; ++i) c.choice(t, i) = static_cast<ExpertId>(order[BalanceCase::size(i)]);
    if (t % 5 == 2) c.active[t] = false;
  }
  c.score = c.probability;
  return c;
}

/// d loss / d p of a loss that is linear in the probabilities (all that are built on f * P): a difference is
/// exact but for rounding.
template <class Part>
void check_probability_gradient(const Part& part, BalanceCase c, double scale) {
  const auto analytic = c.gradients(part, scale);
  const double size = 1 + std::abs(c.loss(part));
  for (std::size_t i = 0; i < c.probability.size(); ++i) {
    const double start = c.probability[i];
    c.probability[i] = start + 0.5;
    const double above = c.loss(part);
    c.probability[i] = start - 0.5;
    const double below = c.loss(part);
    c.probability[i] = start;
    INFO("element " << i);
    // Sums of some thousand numbers of this size at most: 1e-12 of it is far above their rounding.
    CHECK(std::abs(analytic.probability[i] - scale * (above - below)) <=
          1e-12 * size * (1 + std::abs(scale)));
  }
  for (const auto* other : {&analytic.logit, &analytic.score, &analytic.weight, &analytic.clean}) {
    for (const double g : *other) CHECK(g == 0);
  }
}

/// d loss / d one array against fourth-order central differences, times `scale`. The loss is smooth within
/// 4e-3.
template <class Part>
void check_array_gradient(const Part& part, BalanceCase c, double scale,
                          std::vector<double> BalanceCase::*array,
                          std::vector<double> BalanceCase::Gradients::*gradient) {
  const std::vector<double> analytic = c.gradients(part, scale).*gradient;
  const double size = std::abs(c.loss(part)) * std::abs(scale);
  bool any = false;
  for (std::size_t i = 0; i < analytic.size(); ++i) {
    double& value = (c.*array)[i];
    const double start = value;
    const auto at = [&](double shift) {
      value = start + shift;
      const double loss = c.loss(part);
      value = start;
      return scale * loss;
    };
    const auto difference = [&](double h) {
      return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    };
    const double coarse = difference(2e-3), fine = difference(1e-3);
    // The coarse error is 16 times the fine one; plus some tens of roundings of the loss over the step.
    const double bound = std::abs(coarse - fine) + 64 * 0x1p-52 * (1 + size) / 1e-3;
    INFO("element " << i << ": analytic " << analytic[i] << ", central difference " << fine);
    REQUIRE(bound <= 1e-7 * (1 + std::abs(fine)));  // else the difference says nothing
    CHECK(std::abs(analytic[i] - fine) <= bound);
    any = any || std::abs(fine) > 1e3 * bound;
  }
  CHECK(any);  // else nothing was compared
}

}  // namespace test
