#include "moe/router/named/expert_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/executor/pool.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertChoice;
using moe::ExpertId;
using moe::Index;
using test::route;
using test::RouterCall;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

ExpertChoice<double> make_router(Index width, Index experts, double factor, std::uint64_t seed = 3) {
  auto router = moe::expert_choice<double>({.width = width, .experts = experts, .capacity_factor = factor});
  test::randomise(router, seed, 2);
  return router;
}

/// weight[t][e], 0 where e did not take t: softmax over experts, then for every expert and segment the C best
/// by (score falling, token rising).
std::vector<std::vector<double>> naive(ExpertChoice<double>& router, const RouterCall<double>& call,
                                       double factor) {
  auto gradients = router.make_gradients();
  const auto w = test::elements(router, gradients);
  const Index n = router.experts(), d = call.width;
  std::vector<std::vector<double>> p, taken;
  for (Index t = 0; t < call.tokens; ++t) {
    std::vector<double> row;
    double sum = 0;
    for (Index e = 0; e < n; ++e) {
      double logit =
          call.mask.empty() ? 0 : call.mask[static_cast<std::size_t>((call.mask_per_row ? t : 0) * n + e)];
      for (Index j = 0; j < d; ++j)
        logit += *w[static_cast<std::size_t>(e * d + j)].value * call.x[static_cast<std::size_t>(t * d + j)];
      row.push_back(std::exp(logit));
      sum += row.back();
    }
    for (double& v : row) v /= sum;
    p.push_back(row);
    taken.emplace_back(static_cast<std::size_t>(n), 0.0);
  }
  const std::vector<Index> offsets =
      call.segments.empty() ? std::vector<Index>{0, call.tokens} : call.segments;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    std::vector<std::size_t> tokens;
    for (Index t = offsets[s]; t < offsets[s + 1]; ++t) {
      if (call.valid.empty() || call.valid[t]) tokens.push_back(static_cast<std::size_t>(t));
    }
    if (tokens.empty()) continue;
    const double share = static_cast<double>(tokens.size()) * factor / static_cast<double>(n);
    const auto capacity = std::max<std::size_t>(1, static_cast<std::size_t>(std::floor(share)));
    for (std::size_t e = 0; e < static_cast<std::size_t>(n); ++e) {
      std::vector<std::size_t> order = tokens;
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return p[a][e] != p[b][e] ? p[a][e] > p[b][e] : a < b; });
      for (std::size_t i = 0; i < std::min(capacity, order.size()); ++i) taken[order[i]][e] = p[order[i]][e];
    }
  }
  return taken;
}

void check_against_naive(ExpertChoice<double>& router, const RouterCall<double>& call, double factor) {
  const auto expected = naive(router, call, factor);
  const auto routed = route(router, call);
  for (Index t = 0; t < call.tokens; ++t) {
    INFO("token " << t);
    std::vector<ExpertId> ids;
    for (std::size_t e = 0; e < expected[static_cast<std::size_t>(t)].size(); ++e) {
      if (expected[static_cast<std::size_t>(t)][e] > 0) ids.push_back(static_cast<ExpertId>(e));
    }
    REQUIRE(routed.experts_of(t) == ids);
    for (const ExpertId e : ids) {
      CHECK(std::abs(routed.weight_of(t, e) -
                     expected[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)]) <= 1e-14);
    }
  }
  CHECK(routed.pairs() <= router.max_pairs(call.shape()));
}

RouterCall<double> segmented_call(Index tokens, Index width, std::uint64_t seed) {
  RouterCall<double> call = test::random_call<double>(tokens, width, seed);
  if (tokens == 0) return call;
  // Segments of 1 to 9 tokens, and empty ones.
  const moe::KeyedRandom draw(seed, 5, moe::DrawStream::user);
  call.segments = {0};
  while (call.segments.back() < tokens) {
    const auto length = static_cast<Index>(draw.bits(call.segments.size(), 0) % 10);
    call.segments.push_back(std::min(tokens, call.segments.back() + length));
  }
  return call;
}

// Ties go to lower tokens, not to lower experts: "expert choice matches brute force".
const test::RouterCases kCases{
    {"ExpertChoice",
     [] { return make_router(4, 5, 2); },
     {.ties = false, .losses = false, .segments = true, .tokens = 9}},
    {"ExpertChoice, most tokens without an expert",
     [] { return make_router(3, 6, 0.5); },
     {.ties = false, .losses = false, .tokens = 12}},
    {"ExpertChoice, capped",
     [] {
       auto router = make_router(4, 5, 1.5);
       router.selection() = moe::ColumnTopK({.capacity_factor = 1.5, .cap = 2, .iterations = 5});
       return router;
     },
     {.ties = false, .losses = false, .segments = true, .tokens = 7}},
};

}  // namespace

TEST_CASE("expert choice by hand", "[expert_choice]") {
  // Two experts, W = (1, 0), so that softmax column 0 is sigmoid(x): {.9, .8, .3, .2}. C = 4 * 1 / 2.
  auto router = moe::expert_choice<double>({.width = 1, .experts = 2, .capacity_factor = 1});
  auto gradients = router.make_gradients();
  *test::elements(router, gradients)[0].value = 1;
  auto call = test::random_call<double>(4, 1, 1);
  const std::vector<double> column{0.9, 0.8, 0.3, 0.2};
  for (std::size_t t = 0; t < 4; ++t) call.x[t] = std::log(column[t] / (1 - column[t]));
  const auto routed = route(router, call);
  CHECK(routed.expert == std::vector<ExpertId>{0, 0, 1, 1});
  CHECK(routed.offsets == std::vector<Index>{0, 1, 2, 3, 4});
  for (std::size_t t = 0; t < 4; ++t)
    CHECK(std::abs(routed.weight[t] - std::max(column[t], 1 - column[t])) <= 1e-15);
}

TEST_CASE("capacity: rounded down, at least 1, at most the active tokens", "[expert_choice]") {
  CHECK(moe::ColumnTopK::capacity(8, 2, 4) == 4);
  CHECK(moe::ColumnTopK::capacity(7, 2, 4) == 3);
  CHECK(moe::ColumnTopK::capacity(1, 1, 4) == 1);
  CHECK(moe::ColumnTopK::capacity(3, 4, 4) == 3);
  CHECK(moe::ColumnTopK::capacity(0, 2, 4) == 0);
}

TEST_CASE("expert choice matches brute force", "[expert_choice]") {
  bool saw_none = false, saw_several = false;
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    INFO("seed " << seed);
    const Index experts = 1 + static_cast<Index>(seed % 6);
    const double factor = std::min(static_cast<double>(experts), 0.25 + 0.5 * static_cast<double>(seed % 5));
    ExpertChoice<double> router = make_router(3, experts, factor, seed);
    for (const Index tokens : {1, 7, 40}) {
      for (const bool segments : {false, true}) {
        RouterCall<double> call =
            segments ? segmented_call(tokens, 3, seed) : test::random_call<double>(tokens, 3, seed);
        if (seed % 3 == 0) {  // few different rows: many exact ties, the lower token goes first
          for (Index t = 0; t < tokens; ++t) std::copy_n(call.row(t % 3), 3, call.row(t));
        }
        if (seed % 2 == 0) {
          call.valid.assign(tokens, true);
          for (Index t = 0; t < tokens; ++t) call.valid[t] = (static_cast<std::uint64_t>(t) + seed) % 4 != 0;
        }
        check_against_naive(router, call, factor);
        call.options.capacity_factor = static_cast<double>(experts) * 0.6;  // of this call
        check_against_naive(router, call, call.options.capacity_factor);
        const auto routed = route(router, call);
        for (Index t = 0; t < tokens; ++t) {
          const bool valid = call.valid.empty() || call.valid[t];
          saw_none = saw_none || (valid && routed.experts_of(t).empty());
          saw_several = saw_several || routed.experts_of(t).size() > 1;
        }
      }
    }
  }
  CHECK(saw_none);
  CHECK(saw_several);
}

TEST_CASE("every expert has the same load without masks", "[expert_choice]") {
  ExpertChoice<double> router = make_router(4, 5, 1.5);
  const auto routed = route(router, test::random_call<double>(33, 4, 2));
  std::vector<Index> load(5, 0);
  for (const ExpertId e : routed.expert) ++load[static_cast<std::size_t>(e)];
  CHECK(load == std::vector<Index>(5, 9));  // floor(33 * 1.5 / 5)
}

TEST_CASE("a capped token has no more experts than that, and raw probabilities", "[expert_choice]") {
  const auto call = test::random_call<double>(40, 4, 6);
  ExpertChoice<double> free = make_router(4, 5, 1.8, 7), capped = free;
  capped.selection() = moe::ColumnTopK({.capacity_factor = 1.8, .cap = 2});
  const auto before = route(free, call), after = route(capped, call);
  std::vector<Index> load(5, 0);
  bool more = false;
  for (Index t = 0; t < 40; ++t) {
    more = more || before.experts_of(t).size() > 2;
    CHECK(after.experts_of(t).size() <= 2);
    for (const ExpertId e : after.experts_of(t)) {
      ++load[static_cast<std::size_t>(e)];
      const auto ids = before.experts_of(t);
      if (std::find(ids.begin(), ids.end(), e) != ids.end())
        CHECK(after.weight_of(t, e) == before.weight_of(t, e));
    }
  }
  CHECK(more);
  CHECK(load == std::vector<Index>(5, 14));
  // A cap that nobody reaches changes nothing.
  capped.selection() = moe::ColumnTopK({.capacity_factor = 1.8, .cap = 5});
  CHECK(test::same_route(route(capped, call), before));
  // One token: it cannot give every expert its row.
  CHECK(route(make_router(4, 5, 2), test::random_call<double>(1, 4, 1)).pairs() == 5);
  capped.selection() = moe::ColumnTopK({.capacity_factor = 2, .cap = 2});
  CHECK(route(capped, test::random_call<double>(1, 4, 1)).pairs() == 2);
}

TEST_CASE("masked entries are never taken", "[expert_choice]") {
  ExpertChoice<double> router = make_router(3, 4, 3);
  auto call = test::random_call<double>(12, 3, 8);
  call.mask_per_row = true;
  call.mask.assign(48, 0);
  for (std::size_t i = 0; i < 48; ++i) {
    if (i % 3 == 0 || i < 8) call.mask[i] = i % 4 == 3 ? 0 : -kInfinity;
  }
  check_against_naive(router, call, 3);
}

TEST_CASE("no segment sees another", "[expert_choice]") {
  ExpertChoice<double> router = make_router(3, 4, 2);
  auto call = test::random_call<double>(20, 3, 4);
  call.segments = {0, 6, 6, 13, 20};
  const auto before = route(router, call);
  for (Index t = 6; t < 13; ++t) {
    for (Index j = 0; j < 3; ++j) call.row(t)[j] = 50;
  }
  const auto after = route(router, call);
  bool changed = false;
  for (Index t = 0; t < 20; ++t) {
    if (t >= 6 && t < 13) {
      changed = changed || !test::same_row(before, t, after, t);
    } else {
      CHECK(test::same_row(before, t, after, t));
    }
  }
  CHECK(changed);

  // Two copies of one request, one behind other requests: same bits.
  auto alone = call.subset({0, 1, 2, 3, 4, 5});
  const auto routed = route(router, alone);
  for (Index t = 0; t < 6; ++t) CHECK(test::same_row(after, t, routed, t));
}

TEST_CASE("threads change no bit of expert choice", "[expert_choice][threads]") {
  auto router = moe::expert_choice<float>({.width = 17, .experts = 13, .capacity_factor = 3});
  test::randomise(router, 2);
  const auto call = test::random_call<float>(200, 17, 3);
  const auto expected = route(router, call);
  for (const Index threads : {2, 3, 8}) {
    moe::PoolExecutor pool(threads);
    test::OwnedTable<float> table(router, call.shape());
    test::MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), threads); });
    moe::Arena arena = memory.arena();
    router.route(call.input(), *table, arena, pool);
    CHECK(test::same_route(table.copy(), expected));
  }
}

TEST_CASE("expert choice refuses options out of range", "[expert_choice]") {
  for (const double bad : {0.0, -1.0, 4.5, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(moe::expert_choice<float>({.width = 2, .experts = 4, .capacity_factor = bad}),
                    moe::config_error);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto capped = [](moe::ColumnTopK::Options options) { moe::ColumnTopK(options).check(4); };
  CHECK_THROWS_WITH(
      capped({.capacity_factor = 2.5, .cap = 2}),
      "moe: capacity factor: expected a value in (0, 2] (experts per token on average), got 2.5");
  CHECK_THROWS_AS(capped({.cap = 5}), moe::config_error);
  CHECK_THROWS_AS(capped({.cap = -1}), moe::config_error);
  CHECK_THROWS_AS(capped({.rows = -1}), moe::config_error);
  CHECK_THROWS_AS(capped({.cap = 2, .iterations = 0}), moe::config_error);
  for (const double bad : {0.0, -1.0, nan, kInfinity})
    CHECK_THROWS_AS(capped({.cap = 2, .regularisation = bad}), moe::config_error);
  ExpertChoice<double> router = make_router(2, 4, 4);
  auto call = test::random_call<double>(3, 2, 1);
  call.options.capacity_factor = 5;
  CHECK_THROWS_AS(router.max_pairs(call.shape()), moe::config_error);
  call.options = {};
  call.options.experts_per_token = 2;
  CHECK_THROWS_AS(route(router, call), moe::config_error);
  call.options = {};
  call.mask.assign(3, 0);
  CHECK_THROWS_AS(route(router, call), moe::shape_error);
}

TEST_CASE("room for pairs: every segment may need one token per expert", "[expert_choice]") {
  ExpertChoice<double> router = make_router(2, 8, 0.5);
  auto call = test::random_call<double>(10, 2, 1);
  call.segments = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  CHECK(route(router, call).pairs() == 80);  // the law of exact memory holds here as well
  CHECK(router.max_pairs({1000, 1}) < 600);
}
