#include "moe/router/named/switch.hpp"

#include "moe/core/random.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

template <class Real = double>
auto router_of(moe::SwitchOptions options) {
  auto router = moe::switch_router<Real>(options);
  test::randomise(router, 8);
  return router;
}

// In the cheap subset as well: [smoke].
const test::RouterCases kCases{
    {"SwitchRouter",
     [] {
       return moe::switch_router<double>(
           {.width = 4, .experts = 5, .jitter = 0.2, .load_balance = 0.7, .z_loss = 0.3});
     },
     {.smoke = true}},
    {"SwitchRouter, float",
     [] { return moe::switch_router<float>({.width = 5, .experts = 7, .z_loss = 0.001}); },
     {.smoke = true}},
    {"SwitchRouter, one expert", [] { return moe::switch_router<double>({.width = 3, .experts = 1}); }},
};

}  // namespace

TEST_CASE("Switch by hand: raw probability as weight, loss and its gradient", "[router]") {
  auto router = moe::switch_router<double>({.width = 2, .experts = 2, .jitter = 0, .load_balance = 1});
  test::set_parameter(router, "gate.weight", test::identity(2));
  auto call = test::call_of(test::logs({{0.9, 0.1}, {0.6, 0.4}}));
  call.training = true;
  moe::SoftmaxTopK<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  test::check_pairs(routed, 0, {0}, {0.9});
  test::check_pairs(routed, 1, {0}, {0.6});
  CHECK(near(routed.loss(), 1.5));  // 2 * (1 * 0.75 + 0 * 0.25)

  // Rows are logits: dx is dlogit.
  const auto from_loss =
      test::backward<moe::SoftmaxTopK<double>>(router, call, table, tape, {0, 0}, 1, nullptr);
  CHECK(near(from_loss[0], 0.09));
  CHECK(near(from_loss[1], -0.09));
  CHECK(near(from_loss[2], 0.24));
  const auto from_task =
      test::backward<moe::SoftmaxTopK<double>>(router, call, table, tape, {1, 0}, 0, nullptr);
  CHECK(near(from_task[0], 0.09));  // d p / d l = p (1 - p): the router learns although k = 1
  CHECK(near(from_task[1], -0.09));
  CHECK(from_task[2] == 0);
}

TEST_CASE("Switch has the paper's defaults", "[router]") {
  const moe::SwitchOptions options;
  CHECK(options.jitter == 0.01);
  CHECK(options.load_balance == 0.01);
  CHECK(options.z_loss == 0);
}

TEST_CASE("Switch agrees with plain loops, jitter included", "[router]") {
  for (const bool training : {false, true}) {
    auto router = router_of({.width = 4, .experts = 6, .jitter = 0.3, .load_balance = 0.02, .z_loss = 0.5});
    auto call = test::random_call<double>(15, 4, 3);
    call.training = training;
    const auto routed = test::route(router, call);
    auto jittered = call;
    const moe::KeyedRandom draw(call.seed, call.step, moe::DrawStream::jitter);
    for (std::size_t i = 0; training && i < call.x.size(); ++i) {
      jittered.x[i] *= 0.7 + 0.6 * draw.uniform(call.key[i / 4], static_cast<std::uint32_t>(i % 4));
    }
    test::Matrix p;
    std::vector<std::vector<ExpertId>> chosen;
    double z = 0;
    for (const test::Vector& logit : test::linear(test::parameter(router, "gate.weight"), jittered)) {
      p.push_back(test::softmax(logit));
      chosen.push_back(test::best(p.back(), 1));
      double sum = 0;
      for (const double l : logit) sum += std::exp(l);
      z += std::log(sum) * std::log(sum) / 15;
      test::check_pairs(routed, static_cast<Index>(p.size()) - 1, chosen.back(),
                        {p.back()[static_cast<std::size_t>(chosen.back()[0])]});
    }
    if (training) {
      CHECK(
          near(test::loss_of(routed, "load_balance"), 0.02 * test::load_balance(test::counts(chosen, 6), p)));
      CHECK(near(test::loss_of(routed, "z_loss"), 0.5 * z));
    } else {
      CHECK(routed.losses.empty());
    }
  }
}

TEST_CASE("options of Switch are checked", "[router]") {
  CHECK_THROWS_AS(moe::switch_router<double>({.width = 4, .experts = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::switch_router<double>({.width = 4, .experts = 3, .jitter = 1}), moe::config_error);
}
