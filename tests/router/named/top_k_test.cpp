#include "moe/router/named/top_k.hpp"

#include <cmath>
#include <vector>

#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using moe::Normalise;
using moe::TopKOptions;
using test::route;

const test::RouterCases kCases{
    {"SoftmaxTopK",
     [] {
       return moe::softmax_top_k<double>({.width = 5, .experts = 6, .k = 3, .jitter = 0.2, .z_loss = 0.1});
     }},
    {"SoftmaxTopK, shares",
     [] {
       return moe::softmax_top_k<double>({.width = 4,
                                          .experts = 5,
                                          .k = 2,
                                          .load_balance = 0.5,
                                          .weights = {.normalise = Normalise::sum, .scale = 2}});
     }},
    {"SoftmaxTopK, k = E, bias",
     [] { return moe::softmax_top_k<double>({.width = 3, .experts = 4, .k = 4, .bias = true}); },
     {.ties = false}},  // rows of zeros have the bias as logits
    {"SoftmaxTopK, float", [] { return moe::softmax_top_k<float>({.width = 19, .experts = 21, .k = 4}); }},
    {"TopKSoftmax",
     [] { return moe::top_k_softmax<double>({.width = 5, .experts = 6, .k = 3, .z_loss = 0.1}); }},
    {"TopKSoftmax, bias",
     [] { return moe::top_k_softmax<double>({.width = 3, .experts = 4, .k = 2, .bias = true}); },
     {.ties = false}},
    {"SigmoidTopK",
     [] { return moe::sigmoid_top_k<double>({.width = 5, .experts = 6, .k = 3, .z_loss = 0.1}); }},
    {"SigmoidTopK, shares",
     [] {
       return moe::sigmoid_top_k<double>(
           {.width = 4, .experts = 5, .k = 2, .weights = {.normalise = Normalise::sum_plus_eps, .eps = 0.1}});
     }},
    {"SigmoidTopK, normalised",
     [] { return moe::normalised_sigmoid_top_k<double>({.width = 4, .experts = 5, .k = 2}); }},
};

}  // namespace

TEST_CASE("softmax then renormalise is softmax over the kept", "[top_k]") {
  for (const Index k : {1, 2, 5, 9}) {
    TopKOptions options{.width = 6, .experts = 9, .k = k};
    auto over_kept = moe::top_k_softmax<double>(options);
    options.weights.normalise = Normalise::sum;
    auto over_all = moe::softmax_top_k<double>(options);
    test::randomise(over_all, 4, 3);
    test::randomise(over_kept, 4, 3);
    const auto call = test::random_call<double>(50, 6, static_cast<std::uint64_t>(k));
    const auto a = route(over_all, call), b = route(over_kept, call);
    CHECK(a.expert == b.expert);
    for (std::size_t p = 0; p < a.weight.size(); ++p) CHECK(std::abs(a.weight[p] - b.weight[p]) <= 1e-12);
  }
}

TEST_CASE("a single weight that is 1 gives the router no gradient at all", "[top_k]") {
  TopKOptions options{.width = 5, .experts = 7, .k = 1, .bias = true, .load_balance = 0};
  const auto check = [](auto router) {
    test::randomise(router, 9);
    auto call = test::random_call<double>(40, 5, 2);
    call.training = true;
    typename decltype(router)::Tape tape;
    test::OwnedTable<double> table(router, call.shape());
    const auto routed = test::route_train(router, call, table, tape);
    for (const double w : routed.weight) CHECK(w == 1);
    std::vector<double> dweight;
    for (std::size_t p = 0; p < routed.weight.size(); ++p)
      dweight.push_back(std::sin(static_cast<double>(p) + 1));
    auto gradients = router.make_gradients();
    for (const double d : test::backward(router, call, table, tape, dweight, 1, &gradients)) CHECK(d == 0);
    for (const auto& element : test::elements(router, gradients)) CHECK(*element.gradient == 0);
  };
  check(moe::top_k_softmax<double>(options));
  options.weights.normalise = Normalise::sum;
  check(moe::softmax_top_k<double>(options));
  check(moe::sigmoid_top_k<double>(options));
}

TEST_CASE("sigmoid gates that are normalised sum to 1 and feel a shift of all logits", "[top_k]") {
  auto router = moe::sigmoid_top_k<double>(
      {.width = 4, .experts = 6, .k = 3, .weights = {.normalise = Normalise::sum}});
  test::randomise(router, 6);
  auto call = test::random_call<double>(20, 4, 3);
  const auto plain = route(router, call);
  call.mask.assign(6, 1.0);  // every logit one higher: softmax would not notice
  const auto shifted = route(router, call);
  CHECK(plain.expert == shifted.expert);
  double change = 0;
  for (Index t = 0; t < 20; ++t) {
    double sum = 0;
    for (const double w : plain.weights_of(t)) sum += w;
    CHECK(std::abs(sum - 1) <= 1e-15 * 4);
  }
  for (std::size_t p = 0; p < plain.weight.size(); ++p)
    change = std::max(change, std::abs(plain.weight[p] - shifted.weight[p]));
  CHECK(change > 1e-3);
}

TEST_CASE("top-k options reach their parts", "[top_k]") {
  CHECK_THROWS_AS(moe::softmax_top_k<float>({.width = 0, .experts = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::softmax_top_k<float>({.width = 4, .experts = 4, .k = 5}), moe::config_error);
  CHECK_THROWS_AS(moe::top_k_softmax<float>({.width = 4, .experts = 4, .jitter = 1}), moe::config_error);
  CHECK_THROWS_AS(moe::sigmoid_top_k<float>({.width = 4, .experts = 4, .weights = {.eps = -1}}),
                  moe::config_error);
  auto isolating = moe::softmax_top_k<double>(
      {.width = 2, .experts = 3, .k = 2, .non_finite = moe::NonFinite::isolate_row});
  auto call = test::random_call<double>(2, 2, 1);
  call.x[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK(route(isolating, call).spoiled == std::vector<bool>{true, false});
  auto gradients = isolating.make_gradients();
  CHECK(test::elements(isolating, gradients).size() == 6);
}

TEST_CASE(
    "normalised sigmoids sum to 1 and move with a shift of all logits, which shares of a softmax do not",
    "[top_k]") {
  const TopKOptions options{.width = 6, .experts = 6, .k = 3, .weights = {.normalise = Normalise::sum}};
  auto sigmoid = moe::normalised_sigmoid_top_k<double>({.width = 6, .experts = 6, .k = 3});
  auto softmax = moe::softmax_top_k<double>(options);
  test::set_parameter(sigmoid, "gate.weight", test::identity(6));
  test::set_parameter(softmax, "gate.weight", test::identity(6));
  auto call = test::random_call<double>(30, 6, 3), shifted = call;
  for (double& x : shifted.x) x += 2;
  const auto a = route(sigmoid, call), b = route(sigmoid, shifted);
  const auto c = route(softmax, call), d = route(softmax, shifted);
  REQUIRE((a.expert == b.expert && a.expert == c.expert && a.expert == d.expert));
  for (Index t = 0; t < 30; ++t) {
    double sum = 0, moved = 0;
    for (Index i = 3 * t; i < 3 * t + 3; ++i) {
      const auto p = static_cast<std::size_t>(i);
      const auto logit = [&](const test::RouterCall<double>& of, std::size_t q) {
        return 1 / (1 + std::exp(-of.x[static_cast<std::size_t>(6 * t + a.expert[q])]));
      };
      const double all = logit(call, static_cast<std::size_t>(3 * t)) +
                         logit(call, static_cast<std::size_t>(3 * t + 1)) +
                         logit(call, static_cast<std::size_t>(3 * t + 2));
      CHECK(test::near(a.weight[p], logit(call, p) / all));
      CHECK(test::near(c.weight[p], d.weight[p]));
      sum += a.weight[p];
      moved += std::abs(a.weight[p] - b.weight[p]);
    }
    CHECK(test::near(sum, 1));
    CHECK(moved > 1e-6);
  }
}
