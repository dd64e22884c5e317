#include "moe/router/balance/device_balance.hpp"

#include <cmath>
#include <set>
#include <vector>

#include "moe/router/balance/communication_balance.hpp"
#include "support/balance_case.hpp"

namespace {

using moe::CommunicationBalance;
using moe::DeviceBalance;
using moe::Index;
using test::BalanceCase;

bool close(double a, double b) {
  return std::abs(a - b) <= 1e-12 * (1 + std::abs(b));
}

/// Sum of the mean probabilities of group j.
double group_probability(const BalanceCase& c, Index groups, Index j) {
  double p = 0;
  for (Index t = 0; t < c.tokens; ++t) {
    for (Index e = 0; c.active[t] && e < c.outputs; ++e) {
      if (e / (c.outputs / groups) == j) p += c.probability[static_cast<std::size_t>(t * c.outputs + e)];
    }
  }
  return p / static_cast<double>(c.active_tokens());
}

/// The paper's words: f_i = N / (K T) times choices of i, with K T the choices; f'_j the mean of f_i over the
/// group.
double naive_device(const BalanceCase& c, Index groups, const std::vector<double>& outside) {
  std::vector<double> f(static_cast<std::size_t>(c.outputs), 0);
  double choices = 0;
  for (std::size_t e = 0; e < outside.size(); ++e) choices += f[e] = outside[e];
  for (Index t = 0; t < c.tokens; ++t) {
    for (Index i = 0; c.active[t] && i < c.most; ++i) {
      f[static_cast<std::size_t>(c.chosen[static_cast<std::size_t>(t * c.most + i)])] += 1;
      choices += 1;
    }
  }
  double loss = 0;
  const Index size = c.outputs / groups;
  for (Index j = 0; j < groups; ++j) {
    double mean = 0;
    for (Index e = j * size; e < (j + 1) * size; ++e) {
      mean += static_cast<double>(c.outputs) * f[static_cast<std::size_t>(e)] / choices /
              static_cast<double>(size);
    }
    loss += mean * group_probability(c, groups, j);
  }
  return loss;
}

/// f''_j = G / (M T) times the tokens sent to j.
double naive_communication(const BalanceCase& c, Index groups, Index reached) {
  double loss = 0;
  for (Index j = 0; j < groups; ++j) {
    Index sent = 0;
    for (Index t = 0; t < c.tokens; ++t) {
      std::set<Index> of;
      for (Index i = 0; c.active[t] && i < c.most; ++i) {
        of.insert(c.chosen[static_cast<std::size_t>(t * c.most + i)] / (c.outputs / groups));
      }
      sent += static_cast<Index>(of.count(j));
    }
    loss += static_cast<double>(groups * sent) / static_cast<double>(reached * c.active_tokens()) *
            group_probability(c, groups, j);
  }
  return loss;
}

}  // namespace

TEST_CASE("device balance: hand examples", "[device_balance]") {
  // Two groups of two. All choices on the two experts of group 0, evenly: experts could not be told apart,
  // groups can.
  BalanceCase c(2, 4, 2);
  for (Index t = 0; t < 2; ++t) {
    c.choice(t, 0) = 0;
    c.choice(t, 1) = 1;
    c.p(t, 0) = c.p(t, 1) = 0.5;
  }
  CHECK(close(c.loss(DeviceBalance({.coefficient = 0.05, .groups = 2})), 0.1));  // G times the least
  CHECK(close(c.loss(DeviceBalance({.coefficient = 0.05, .groups = 1})), 0.05));
  // All on one expert of each group: as far from balance as can be for experts, balanced for groups.
  for (Index t = 0; t < 2; ++t) {
    c.choice(t, 1) = 2;
    c.p(t, 1) = 0;
    c.p(t, 2) = 0.5;
  }
  CHECK(close(c.loss(DeviceBalance({.coefficient = 0.05, .groups = 2})), 0.05));
}

TEST_CASE("communication balance: hand examples", "[device_balance]") {
  // Three groups of two, M = 2. Both choices of token 0 in group 0 count once; token 1 reaches groups 0
  // and 2.
  BalanceCase c(2, 6, 2);
  c.choice(0, 0) = 0;
  c.choice(0, 1) = 1;
  c.choice(1, 0) = 5;
  c.choice(1, 1) = 0;
  for (Index t = 0; t < 2; ++t) {
    c.p(t, 0) = 0.5;
    c.p(t, 4) = 0.25;
    c.p(t, 3) = 0.25;
  }
  // f = 3 / (2 * 2) * {2, 0, 1}, P = {0.5, 0.25, 0.25}.
  CHECK(close(c.loss(CommunicationBalance({.coefficient = 1, .groups = 3, .reached = 2})),
              0.75 * (2 * 0.5 + 0.25)));
}

TEST_CASE("group losses match their definition and its gradient", "[device_balance]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    INFO("seed " << seed);
    BalanceCase c = test::random_balance_case(3 + 4 * static_cast<Index>(seed), 12,
                                              1 + static_cast<Index>(seed % 4), seed);
    std::vector<double> outside;
    for (double i = 0; seed % 2 == 1 && i < 12; ++i) outside.push_back(i);
    c.call.outside_counts = outside;
    for (const Index groups : {1, 3, 4, 12}) {
      const DeviceBalance device({.coefficient = 0.3, .groups = groups});
      const CommunicationBalance sent({.coefficient = 0.7, .groups = groups, .reached = (groups + 1) / 2});
      CHECK(close(c.loss(device), 0.3 * naive_device(c, groups, outside)));
      CHECK(close(c.loss(sent), 0.7 * naive_communication(c, groups, (groups + 1) / 2)));
      test::check_probability_gradient(device, c, 2);
      test::check_probability_gradient(sent, c, -0.5);
    }
  }
}

TEST_CASE("group losses of nothing are 0", "[device_balance]") {
  BalanceCase c = test::random_balance_case(3, 4, 2, 1);
  c.active.fill(false);
  const DeviceBalance device({.groups = 2});
  const CommunicationBalance sent({.groups = 2, .reached = 1});
  CHECK(c.loss(device) == 0);
  CHECK(c.loss(sent) == 0);
  CHECK(BalanceCase(0, 4, 2).loss(device) == 0);
  CHECK(BalanceCase(0, 4, 2).loss(sent) == 0);
  for (const double g : c.gradients(device).probability) CHECK(g == 0);
  for (const double g : c.gradients(sent).probability) CHECK(g == 0);
}

TEST_CASE("groups must divide the outputs", "[device_balance]") {
  CHECK_THROWS_AS(DeviceBalance({.groups = 0}), moe::config_error);
  CHECK_THROWS_AS(CommunicationBalance({.groups = 2, .reached = 3}), moe::config_error);
  CHECK_THROWS_AS(CommunicationBalance({.groups = 2, .reached = 0}), moe::config_error);
  CHECK_THROWS_WITH(DeviceBalance({.groups = 4}).check(6),
                    "moe: groups: expected a divisor of the 6 outputs, got 4");
  CHECK_THROWS_AS(CommunicationBalance({.groups = 4}).check(6), moe::config_error);
  CHECK_NOTHROW(DeviceBalance({.groups = 3}).check(6));
}
