// What must hold for every layer, whatever its numbers: laws between layers rather than values.
#include <cmath>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/relu.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;
using Values = std::vector<double>;

constexpr Index kTokens = 23, kWidth = 9, kExperts = 6, kHidden = 7;

Values normals(Index n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Values values(static_cast<std::size_t>(n));
  for (double& v : values) v = normal(random);
  return values;
}

template <class Layer>
Values forward(const Layer& layer, const Values& x, moe::RouteStats* stats = nullptr,
               moe::CallOptions options = {}) {
  Values y(x.size(), 5);
  const Index ends[] = {0, 9, kTokens};
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), kTokens, kWidth));
  in.segments = moe::Segments(ends);
  in.options = options;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), kTokens, kWidth), stats);
  moe::Workspace workspace;
  layer.forward(in, out, workspace);
  return y;
}

Bank bank(Index experts = kExperts, std::uint64_t seed = 3) {
  Bank b({.experts = experts, .width = kWidth, .hidden = kHidden, .bias = true});
  b.initialise(seed);
  return b;
}

moe::SoftmaxTopK<double> router(Index k, moe::Normalise normalise = moe::Normalise::sum,
                                Index experts = kExperts) {
  auto r = moe::softmax_top_k<double>(
      {.width = kWidth, .experts = experts, .k = k, .weights = {.normalise = normalise}});
  r.scorer().initialise(8, 3);
  return r;
}

/// Differences below the rounding errors of sums of a few dozen terms of size 1.
void check_close(const Values& a, const Values& b, double tolerance = 1e-13) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i]))))
      FAIL("entry " << i << ": " << a[i] << ", " << b[i]);
  }
}

/// One parameter of one expert, as a matrix.
Values parameter(Bank& b, const std::string& name) {
  Values values;
  b.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; p.name == name && i < p.value.size(); ++i)
      values.push_back(p.value(i / p.value.cols, i % p.value.cols));
  });
  REQUIRE(!values.empty());
  return values;
}

void set_parameter(Bank& b, const std::string& name, const Values& values) {
  b.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; p.name == name && i < p.value.size(); ++i) {
      p.value(i / p.value.cols, i % p.value.cols) = values[static_cast<std::size_t>(i)];
    }
  });
}

const char* const kMatrices[] = {"gate_proj.weight", "gate_proj.bias",   "up_proj.weight",
                                 "up_proj.bias",     "down_proj.weight", "down_proj.bias"};

}  // namespace

TEST_CASE("identity experts give the sum of the weights times x", "[proof]") {
  const Values x = normals(kTokens * kWidth, 1);
  moe::ZeroComputation<double> copies({.width = kWidth, .copy = kExperts});
  check_close(forward(moe::MoeLayer(router(3), copies), x), x);
  // Raw weights sum to less than 1; the router of the same seed says to what.
  const moe::MoeLayer raw(router(2, moe::Normalise::none), copies);
  const Values y = forward(raw, x);
  for (Index t = 0; t < kTokens; ++t) {
    const double weight = y[static_cast<std::size_t>(t * kWidth)] / x[static_cast<std::size_t>(t * kWidth)];
    CHECK(weight > 2.0 / kExperts);
    CHECK(weight < 1);
    for (Index j = 1; j < kWidth; ++j) {
      const auto i = static_cast<std::size_t>(t * kWidth + j);
      CHECK(std::abs(y[i] - weight * x[i]) <= 1e-13 * (1 + std::abs(x[i])));
    }
  }
}

TEST_CASE("experts permuted together with the router's outputs change nothing", "[proof]") {
  const Values x = normals(kTokens * kWidth, 2);
  Bank plain = bank(), permuted = bank();
  auto first = router(2), second = router(2);
  const Index order[kExperts] = {4, 2, 0, 5, 1, 3};
  for (Index e = 0; e < kExperts; ++e) {
    for (const char* matrix : kMatrices) {
      set_parameter(permuted, "experts." + std::to_string(e) + "." + matrix,
                    parameter(plain, "experts." + std::to_string(order[e]) + "." + matrix));
    }
  }
  std::vector<Values> rows(kExperts);
  const auto read = [&](const moe::Parameter<double>& p) {
    for (Index e = 0; e < kExperts; ++e) {
      for (Index i = 0; i < kWidth; ++i) rows[static_cast<std::size_t>(e)].push_back(p.value(e, i));
    }
  };
  const auto write = [&](const moe::Parameter<double>& p) {
    for (Index e = 0; e < kExperts; ++e) {
      for (Index i = 0; i < kWidth; ++i)
        p.value(e, i) = rows[static_cast<std::size_t>(order[e])][static_cast<std::size_t>(i)];
    }
  };
  first.visit_parameters(nullptr, read);
  second.visit_parameters(nullptr, write);
  check_close(forward(moe::MoeLayer(std::move(second), std::move(permuted)), x),
              forward(moe::MoeLayer(std::move(first), std::move(plain)), x));
}

TEST_CASE("K = E is the dense mixture", "[proof]") {
  const Values x = normals(kTokens * kWidth, 3);
  const Values y = forward(moe::MoeLayer(router(kExperts, moe::Normalise::none), bank()), x);
  // The mixture by hand: each expert alone through a hash-free layer of one expert, weighted by its
  // probability.
  auto r = router(kExperts, moe::Normalise::none);
  Values gate;
  auto read = [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i) gate.push_back(p.value(i / kWidth, i % kWidth));
  };
  r.visit_parameters(nullptr, read);
  Values want(x.size(), 0.0);
  Bank all = bank();
  for (Index e = 0; e < kExperts; ++e) {
    Bank one = bank(1);
    for (const char* matrix : kMatrices) {
      set_parameter(one, std::string("experts.0.") + matrix,
                    parameter(all, "experts." + std::to_string(e) + "." + matrix));
    }
    const Values z = forward(moe::MoeLayer(router(1, moe::Normalise::none, 1), std::move(one)), x);
    for (Index t = 0; t < kTokens; ++t) {
      double sum = 0, own = 0;
      for (Index o = 0; o < kExperts; ++o) {
        double logit = 0;
        for (Index i = 0; i < kWidth; ++i)
          logit +=
              gate[static_cast<std::size_t>(o * kWidth + i)] * x[static_cast<std::size_t>(t * kWidth + i)];
        sum += std::exp(logit);
        if (o == e) own = std::exp(logit);
      }
      for (Index j = 0; j < kWidth; ++j) {
        const auto i = static_cast<std::size_t>(t * kWidth + j);
        want[i] += own / sum * z[i];
      }
    }
  }
  check_close(y, want);
}

TEST_CASE("equal experts are one dense expert", "[proof]") {
  const Values x = normals(kTokens * kWidth, 4);
  Bank equal = bank(), one = bank(1);
  for (Index e = 0; e < kExperts; ++e) {
    for (const char* matrix : kMatrices) {
      set_parameter(equal, "experts." + std::to_string(e) + "." + matrix,
                    parameter(one, std::string("experts.0.") + matrix));
    }
  }
  check_close(forward(moe::MoeLayer(router(3), std::move(equal)), x),
              forward(moe::MoeLayer(router(1, moe::Normalise::none, 1), std::move(one)), x));
}

TEST_CASE("capacity for all is no capacity; statistics count pairs", "[proof]") {
  const Values x = normals(kTokens * kWidth, 5);
  moe::RouteStats free_stats, roomy_stats, tight_stats;
  const Values free = forward(moe::MoeLayer(router(2), bank()), x, &free_stats);
  const Values roomy = forward(
      moe::MoeLayer(router(2), bank(), moe::FixedCapacity({.tokens_per_expert = kTokens})), x, &roomy_stats);
  CHECK(free == roomy);
  forward(moe::MoeLayer(router(2), bank(), moe::FixedCapacity({.tokens_per_expert = 2})), x, &tight_stats);
  CHECK(free_stats.pairs() == 2 * kTokens);
  CHECK(tight_stats.pairs() == 2 * kTokens);  // what was wanted; what was dropped is counted apart
  CHECK(tight_stats.dropped >= 2 * kTokens - 2 * 2 * kExperts);
  CHECK(roomy_stats.dropped == 0);
}

TEST_CASE("K of the call is K of the layer", "[proof]") {
  const Values x = normals(kTokens * kWidth, 6);
  for (const Index k : {1, 3, 6}) {
    CHECK(forward(moe::MoeLayer(router(2), bank()), x, nullptr, {.experts_per_token = k}) ==
          forward(moe::MoeLayer(router(k), bank()), x));
  }
  const auto choice = [](double factor) {
    auto r = moe::expert_choice<double>({.width = kWidth, .experts = kExperts, .capacity_factor = factor});
    r.scorer().initialise(8, 3);
    return r;
  };
  CHECK(forward(moe::MoeLayer(choice(1), bank()), x, nullptr, {.capacity_factor = 2.5}) ==
        forward(moe::MoeLayer(choice(2.5), bank()), x));
}

TEST_CASE("one router serves several layers", "[proof]") {
  const Values x = normals(kTokens * kWidth, 7);
  auto shared = router(2);
  using Shared = moe::MoeLayer<moe::SoftmaxTopK<double>&, Bank>;
  const Shared first(shared, bank(kExperts, 1)), second(shared, bank(kExperts, 2));
  CHECK(&first.router() == &second.router());
  CHECK(forward(first, x) == forward(moe::MoeLayer(router(2), bank(kExperts, 1)), x));
  CHECK(forward(second, x) == forward(moe::MoeLayer(router(2), bank(kExperts, 2)), x));
}

TEST_CASE("tokens permuted permute the result", "[proof]") {
  const Values x = normals(kTokens * kWidth, 8);
  Values reversed;
  for (Index t = kTokens; t-- > 0;)
    reversed.insert(reversed.end(), x.begin() + t * kWidth, x.begin() + (t + 1) * kWidth);
  auto relu = moe::relu_router<double>({.width = kWidth, .experts = kExperts});
  relu.scorer().initialise(8, 3);
  const moe::MoeLayer layer(std::move(relu), bank());
  const Values y = forward(layer, x), back = forward(layer, reversed);
  for (Index t = 0; t < kTokens; ++t) {
    CHECK(std::equal(y.begin() + t * kWidth, y.begin() + (t + 1) * kWidth,
                     back.begin() + (kTokens - 1 - t) * kWidth));
  }
}
