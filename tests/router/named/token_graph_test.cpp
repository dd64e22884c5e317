#include "moe/router/named/token_graph.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/router/scorer/attention_weights.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/scorer/row_mixer.hpp"
#include "moe/router/scorer/similarity_weights.hpp"
#include "support/masked_row.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using test::near;
using Call = test::RouterCall<double>;

auto similar(moe::SimilarityAwareOptions options) {
  options.width = 4;
  options.experts = 6;
  return moe::similarity_aware<double>(options);
}
auto attentive(double load_balance = 0.3) {
  return moe::attention_aware<double>({.width = 4, .experts = 6, .k = 2, .load_balance = load_balance});
}

const test::RouterCases kCases{
    {"SimilarityAware",
     [] { return similar({.temperature = 0.7, .load_balance = 0.3}); },
     {.segments = true}},
    {"SimilarityAware, causal", [] { return similar({.causal = true, .z_loss = 0.1}); }, {.segments = true}},
};

/// With a column of weights in (0, 1), some of them 0; as wide as there are rows.
Call mixing_call(Index tokens, std::uint64_t seed) {
  Call call = test::random_call<double>(tokens, 4, seed);
  const moe::KeyedRandom draw(seed, 2, moe::DrawStream::user);
  auto& mixing = call.columns.reals["mixing"];
  mixing.clear();
  for (Index t = 0; t < tokens; ++t) {
    for (Index j = 0; j < tokens; ++j) {
      const double u = draw.uniform(static_cast<std::uint64_t>(t), static_cast<std::uint32_t>(j));
      mixing.push_back(u < 0.2 ? 0 : u);
    }
  }
  return call;
}

/// Row t of S x logits over the rows [begin, end) that `sees(t, j)`.
template <class Weigh>
test::Matrix mixed(const test::Matrix& logit, const std::vector<Index>& segments, const Weigh& weigh) {
  test::Matrix all;
  for (std::size_t s = 0; s + 1 < segments.size(); ++s) {
    for (Index t = segments[s]; t < segments[s + 1]; ++t) {
      const test::Vector w = weigh(t, segments[s], segments[s + 1]);
      all.emplace_back(logit[0].size(), 0);
      for (std::size_t j = 0; j < w.size(); ++j) {
        for (std::size_t e = 0; e < logit[0].size(); ++e) {
          all.back()[e] += w[j] * logit[static_cast<std::size_t>(segments[s]) + j][e];
        }
      }
    }
  }
  return all;
}

void check_route(const test::Routed<double>& routed, const test::Matrix& logit) {
  for (Index t = 0; t < routed.tokens(); ++t) {
    const auto ids = test::best(logit[static_cast<std::size_t>(t)], 2);
    test::Vector chosen;
    for (const auto e : ids)
      chosen.push_back(logit[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)]);
    test::check_pairs(routed, t, ids, test::softmax(chosen));
  }
}

template <class Error, class R>
std::string refused(const R& router, const Call& call) {
  try {
    test::route(router, call);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("mixed logits against plain loops, by similarity and by attention, over segments",
          "[token_graph]") {
  auto call = mixing_call(40, 3);
  call.segments = {0, 7, 7, 21, 40};
  for (const bool causal : {false, true}) {
    auto router = similar({.temperature = 0.4, .causal = causal});
    test::randomise(router, 5);
    const test::Matrix w = test::parameter(router, "similarity.weight"), query = test::linear(w, call);
    check_route(test::route(router, call), mixed(test::linear(test::parameter(router, "gate.weight"), call),
                                                 call.segments, [&](Index t, Index begin, Index end) {
                                                   test::Vector a;
                                                   for (Index j = begin; j < (causal ? t + 1 : end); ++j) {
                                                     double sum = 0;
                                                     for (std::size_t i = 0; i < 4; ++i) {
                                                       sum += query[static_cast<std::size_t>(t)][i] *
                                                              call.row(j)[i];
                                                     }
                                                     a.push_back(sum / 0.4);
                                                   }
                                                   return test::softmax(a);
                                                 }));
  }
  auto router = attentive();
  test::randomise(router, 5);
  check_route(test::route(router, call), mixed(test::linear(test::parameter(router, "gate.weight"), call),
                                               call.segments, [&](Index t, Index begin, Index end) {
                                                 const auto first =
                                                     call.columns.reals["mixing"].begin() + 40 * t;
                                                 return test::Vector(first, first + (end - begin));
                                               }));
}

TEST_CASE("rows that weigh themselves alone are the plain router, bit for bit", "[token_graph]") {
  auto plain = moe::top_k_softmax<double>({.width = 4, .experts = 6, .k = 2, .load_balance = 0.3});
  auto attention = attentive();
  auto similarity = similar({.temperature = 1e-3, .load_balance = 0.3});
  test::randomise(plain, 5);
  test::set_parameter(attention, "gate.weight", test::parameter(plain, "gate.weight"));
  test::set_parameter(similarity, "gate.weight", test::parameter(plain, "gate.weight"));
  test::set_parameter(similarity, "similarity.weight", test::identity(4));
  auto call = test::call_of({{1, 0, 0.3, 0}, {0, 1, 0, 0.2}, {0.1, 0, 1, 0}, {0, -0.2, 0, 1}});  // far apart
  auto& mixing = call.columns.reals["mixing"];
  mixing.assign(16, 0);
  for (std::size_t t = 0; t < 4; ++t) mixing[5 * t] = 1;
  call.training = true;
  const auto routed = test::route(plain, call);
  CHECK(test::same_route(routed, test::route(attention, call)));
  CHECK(test::same_route(routed, test::route(similarity, call)));
  CHECK(test::same_bits(test::all_gradients(plain, call), test::all_gradients(attention, call)));
}

TEST_CASE("equal weights route all rows of a segment alike", "[token_graph]") {
  auto similarity = similar({});
  similarity.scorer().inner().initialise(2);  // W is zero
  auto attention = attentive();
  attention.scorer().initialise(2);
  auto call = test::random_call<double>(30, 4, 3);
  call.segments = {0, 12, 30};
  call.columns.reals["mixing"].assign(30 * 18, 1.0 / 18);
  const auto by_similarity = test::route(similarity, call), by_attention = test::route(attention, call);
  for (const auto* routed : {&by_similarity, &by_attention}) {
    for (Index t = 0; t < 30; ++t) CHECK(test::same_row(*routed, t, *routed, t < 12 ? 0 : 29));
    CHECK(!test::same_row(*routed, 0, *routed, 29));
  }
  similarity.scorer().initialise(2);
  const auto apart = test::route(similarity, call);
  CHECK(!test::same_row(apart, 0, apart, 1));
}

TEST_CASE("with causal weights no later token changes a route", "[token_graph]") {
  auto router = similar({.causal = true});
  test::randomise(router, 5);
  auto call = test::random_call<double>(30, 4, 3);
  call.segments = {0, 30};
  const auto before = test::route(router, call);
  for (Index t = 17; t < 30; ++t) call.row(t)[0] = 40;
  const auto after = test::route(router, call);
  for (Index t = 0; t < 17; ++t) CHECK(test::same_row(before, t, after, t));
  CHECK(!test::same_row(before, 29, after, 29));
}

TEST_CASE("attention over rows: laws, gradients, segments, threads", "[token_graph]") {
  auto router = attentive();
  test::randomise(router, 5);
  test::check_router_laws<decltype(router)>(router, mixing_call, {.padding = false});
  test::check_router_gradients(router, 5, mixing_call);
  test::check_router_gradients(router, 5, mixing_call, {.weight_scale = 0});

  // Rows that take no part are as if they were not there, whatever their weights.
  auto call = mixing_call(12, 4);
  call.training = true;
  call.valid.assign(12, true);
  call.valid[3] = call.valid[8] = false;
  auto without = call;
  auto& mixing = call.columns.reals["mixing"];
  auto& zeros = without.columns.reals["mixing"];
  for (std::size_t t = 0; t < 12; ++t) {
    for (const std::size_t j : {std::size_t{3}, std::size_t{8}}) {
      mixing[12 * t + j] = t % 2 == 0 ? -1 : std::numeric_limits<double>::quiet_NaN();
      zeros[12 * t + j] = 0;
    }
  }
  call.row(3)[1] = std::numeric_limits<double>::quiet_NaN();
  CHECK(test::same_route(test::route(router, call), test::route(router, without)));
  CHECK(test::same_bits(test::all_gradients(router, call), test::all_gradients(router, without)));

  auto one = mixing_call(20, 6), attacked = one;
  one.training = attacked.training = true;
  one.segments = attacked.segments = {0, 6, 6, 13, 20};
  for (Index t = 6; t < 13; ++t) {
    attacked.row(t)[0] = 50;
    attacked.columns.reals["mixing"][static_cast<std::size_t>(20 * t + 1)] = 7;
  }
  const auto want = test::route(router, one), got = test::route(router, attacked);
  for (Index t = 0; t < 20; ++t) CHECK((test::same_row(want, t, got, t) || (t >= 6 && t < 13)));

  const auto many = mixing_call(70, 6);
  moe::PoolExecutor pool(8);
  CHECK(test::same_route(test::route(router, many),
                         test::erased::route<double>(test::erase(router), many, test::AnyExecutor(pool))));
}

TEST_CASE("a row that is masked whole is not mixed into others", "[token_graph]") {
  test::check_masked_row(similar({.temperature = 0.7, .load_balance = 0.3}), mixing_call(6, 4));
  test::check_masked_row(attentive(), mixing_call(6, 4));
}

TEST_CASE("what cannot be mixed is refused", "[token_graph]") {
  const auto router = attentive();
  auto call = mixing_call(4, 1);
  call.segments = {0, 1, 4};
  auto& mixing = call.columns.reals["mixing"];
  mixing[0] = -1;
  CHECK(refused<moe::numeric_error>(router, call) ==
        "moe: mixing: expected finite weights >= 0, got -1 of token 0 for token 0");
  mixing[0] = 1;
  mixing[3] = -1;  // of no row of the segment
  CHECK(refused<moe::numeric_error>(router, call).empty());
  mixing[9] = std::numeric_limits<double>::infinity();
  CHECK(!refused<moe::numeric_error>(router, call).empty());
  mixing.resize(8);
  CHECK(refused<moe::shape_error>(router, call) ==
        "moe: mixing: expected at least 3 columns (rows of a segment), got 2");
  call.columns.reals.erase("mixing");
  CHECK(refused<moe::config_error>(router, call) ==
        "moe: mixing: expected the weights of every row for the rows of its segment, got none");
  for (const double tau : {0.0, -1.0, 1e-320, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(similar({.temperature = tau}), moe::config_error);
  }
  CHECK_THROWS_AS(moe::SimilarityWeights<float>({.width = 0}), moe::config_error);
  CHECK_THROWS_AS(
      (moe::RowMixer(moe::NoisyScorer<float>({.width = 3, .outputs = 4}), moe::AttentionWeights<float>{})),
      moe::config_error);
  auto other = similar({});
  test::randomise(other, 1);
  const auto narrow = test::random_call<double>(3, 3, 1);
  CHECK(!refused<moe::shape_error>(other, narrow).empty());
}
