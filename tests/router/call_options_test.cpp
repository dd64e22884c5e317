// Temperature, threshold and p of a call: obeyed as plain loops say, or refused by their names.
#include "moe/router/call_options.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/balance/load.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/router/kind/given.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/selection/assignment.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/sinkhorn_top_k.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/errors.hpp"
#include "support/plain_routing.hpp"

namespace {

using moe::CallOptions;
using moe::ExpertId;
using moe::Index;
using test::Vector;
constexpr Index kWidth = 5, kOutputs = 8;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The highest until their choice scores add up to p of the call, else to its own.
struct MassSelection {
  static constexpr const char* kName = "mass";
  double own = 0.5;

  Index most(const CallOptions& options, Index n) const {
    moe::impl::refuse_option("threshold", options.threshold, "the selection ", kName);
    return n;
  }
  template <class Real>
  Index select(const moe::RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const double p = row.call.options.p == 0 ? own : row.call.options.p;
    moe::top_k_row(choice, row.n, row.n, out);
    Index count = 0;
    for (double sum = 0; count < row.n && sum < p; ++count) sum += static_cast<double>(choice[out[count]]);
    return count;
  }
};

template <class F, class Select>
auto router_of(F score, Select selection) {
  moe::TokenChoice<moe::LinearScorer<double>, F, Select, moe::GatherWeighting> router(
      moe::LinearScorer<double>({.width = kWidth, .outputs = kOutputs}), score, selection,
      moe::GatherWeighting());
  test::randomise(router, 5, 2);
  return router;
}
moe::HashTable table() {
  std::vector<ExpertId> ids;
  for (int v = 0; v < 50; ++v) ids.push_back(v % 8);
  return moe::HashTable::own(ids, 50, kOutputs, 1);
}

/// Logits of every token over the temperature.
test::Matrix cooled(test::Matrix logits, double temperature) {
  for (Vector& row : logits) {
    for (double& logit : row) logit /= temperature;
  }
  return logits;
}

double CallOptions::*const kOptions[] = {&CallOptions::capacity_factor, &CallOptions::temperature,
                                         &CallOptions::threshold, &CallOptions::p};
const char* const kNames[] = {"capacity factor", "temperature", "threshold", "p"};

/// The router obeys those options of the four and refuses the others by name.
template <class R>
void check_obeys(const R& router, const std::vector<bool>& obeys, const std::string& of) {
  auto call = test::random_call<double>(3, kWidth, 1);
  for (std::size_t i = 0; i < 4; ++i) {
    INFO(of << ": " << kNames[i]);
    call.options = {};
    call.options.*kOptions[i] = 0.5;
    const std::string message = test::message_of<moe::config_error>([&] { test::route(router, call); });
    CHECK(message == (obeys[i] ? "nothing thrown"
                               : std::string("moe: ") + kNames[i] + ": expected none for " + of +
                                     ", which cannot obey it, got 0.5"));
  }
}

}  // namespace

TEST_CASE("logits are divided by the call's temperature", "[call_options]") {
  auto router = router_of(moe::Softmax(), moe::TopKSelection(3));
  auto call = test::random_call<double>(20, kWidth, 2);
  const auto logits = test::linear(test::parameter(router, "gate.weight"), call);
  for (const double temperature : {0.0, 0.25, 1.0, 3.0}) {
    INFO("temperature " << temperature);
    call.options.temperature = temperature;
    const auto scaled = cooled(logits, temperature == 0 ? 1 : temperature);
    const auto routed = test::route(router, call);
    for (std::size_t t = 0; t < scaled.size(); ++t) {
      const Vector score = test::softmax(scaled[t]);
      const auto ids = test::best(score, 3);
      Vector weights;
      for (const ExpertId e : ids) weights.push_back(score[static_cast<std::size_t>(e)]);
      test::check_pairs(routed, static_cast<Index>(t), ids, weights);
    }
  }
}

TEST_CASE("temperatures whose inverse is no number of use are refused", "[call_options]") {
  auto router = router_of(moe::Softmax(), moe::TopKSelection(3));
  auto call = test::random_call<double>(2, kWidth, 2);
  for (const double temperature : {1e-320, 1e300 * 1e300}) {
    call.options.temperature = temperature;
    CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  }
}

TEST_CASE("gradients know the temperature, of noise and losses too", "[call_options]") {
  const auto cold = [](double temperature) {
    return [temperature](Index tokens, std::uint64_t seed) {
      auto call = test::random_call<double>(tokens, kWidth, seed);
      call.options.temperature = temperature;
      return call;
    };
  };
  auto router = router_of(moe::Softmax(), moe::TopKSelection(3));
  test::check_router_gradients(router, 5, cold(0.5));
  test::check_router_gradients(router, 5, cold(2));
  using Balance = moe::Balancing<moe::LoadLoss, moe::ZLoss>;
  moe::TokenChoice<moe::NoisyScorer<double>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting, Balance>
      noisy(moe::NoisyScorer<double>({.width = kWidth, .outputs = kOutputs}), moe::Softmax(),
            moe::TopKSelection(2), moe::GatherWeighting(), Balance(moe::LoadLoss(0.4), moe::ZLoss(0.3)));
  test::randomise(noisy, 6);
  test::check_router_gradients(noisy, 4, cold(2));
}

TEST_CASE("choice scores must lie above the call's threshold", "[call_options]") {
  auto router = router_of(moe::SigmoidScore(), moe::PositiveSelection());
  auto call = test::random_call<double>(20, kWidth, 2);
  const auto logits = test::linear(test::parameter(router, "gate.weight"), call);
  Index before = 20 * kOutputs + 1;
  for (const double threshold : {0.0, 0.25, 0.5, 0.75}) {
    INFO("threshold " << threshold);
    call.options.threshold = threshold;
    const auto routed = test::route(router, call);
    CHECK(routed.pairs() < before);
    before = routed.pairs();
    for (std::size_t t = 0; t < logits.size(); ++t) {
      Vector score, weights;
      Index above = 0;
      for (const double logit : logits[t]) {
        score.push_back(1 / (1 + std::exp(-logit)));
        above += score.back() > threshold ? 1 : 0;
      }
      const auto ids = test::best(score, above);
      for (const ExpertId e : ids) weights.push_back(score[static_cast<std::size_t>(e)]);
      test::check_pairs(routed, static_cast<Index>(t), ids, weights);
    }
  }
}

TEST_CASE("a selection by mass gets the call's p", "[call_options]") {
  auto router = router_of(moe::Softmax(), MassSelection());
  auto call = test::random_call<double>(20, kWidth, 2);
  const auto logits = test::linear(test::parameter(router, "gate.weight"), call);
  for (const double p : {0.0, 0.1, 0.6, 0.9}) {
    INFO("p " << p);
    call.options.p = p;
    const auto routed = test::route(router, call);
    for (std::size_t t = 0; t < logits.size(); ++t) {
      const Vector score = test::softmax(logits[t]);
      const auto order = test::best(score, kOutputs);
      std::vector<ExpertId> ids;
      Vector weights;
      for (double mass = 0; mass < (p == 0 ? 0.5 : p); mass += weights.back()) {
        ids.push_back(order[ids.size()]);
        weights.push_back(score[static_cast<std::size_t>(ids.back())]);
      }
      test::check_pairs(routed, static_cast<Index>(t), ids, weights);
    }
  }
}

TEST_CASE("a router refuses by name what it cannot obey", "[call_options]") {
  const moe::Softmax softmax;
  check_obeys(router_of(softmax, moe::TopKSelection(2)), {false, true, false, false}, "the selection top_k");
  check_obeys(router_of(softmax, moe::GroupLimitedSelection({.k = 2, .groups = 4, .kept = 2})),
              {false, true, false, false}, "the selection group_limited");
  check_obeys(router_of(softmax, moe::TableSelection(table())), {false, true, false, false},
              "the selection table");
  check_obeys(router_of(softmax, moe::PositiveSelection()), {false, true, true, false},
              "the selection positive");
  check_obeys(router_of(softmax, moe::ColumnTopK({.capacity_factor = 1})), {true, true, false, false},
              "the selection column_top_k");
  check_obeys(router_of(softmax, moe::SinkhornTopK({})), {false, true, false, false},
              "the selection sinkhorn_top_k");
  check_obeys(router_of(softmax, moe::Assignment({})), {false, true, false, false},
              "the selection assignment");
  check_obeys(moe::HashRouter<double>(table()), {false, false, false, false}, "a hash router");
  check_obeys(moe::EveryExpert<double>(kOutputs), {false, false, false, false}, "every expert");
  const std::vector<ExpertId> ids{0, 1, 2, 3, 4, 5};
  const std::vector<double> weights(6, 1);
  const moe::GivenRoutes<double> given(moe::ConstMatrixView<ExpertId>(ids.data(), 3, 2),
                                       moe::ConstMatrixView<double>(weights.data(), 3, 2), kOutputs);
  check_obeys(given, {false, false, false, false}, "given routes");
  auto call = test::random_call<double>(3, kWidth, 1);
  call.options.experts_per_token = 2;
  CHECK_NOTHROW(test::route(given, call));
  call.options.experts_per_token = 1;
  CHECK_THROWS_WITH(test::route(given, call),
                    "moe: experts per token: expected 2 (columns of the given ids), got 1");
}

TEST_CASE("a layer's capacity obeys the call's factor", "[call_options]") {
  moe::Glu<moe::Silu, double> bank({.experts = kOutputs, .width = kWidth, .hidden = 3});
  bank.initialise(3);
  const auto router = router_of(moe::Softmax(), moe::TopKSelection(2));
  const auto call = test::random_call<double>(20, kWidth, 2);
  struct Result {
    std::vector<double> y, dx;
    Index dropped;
    bool operator==(const Result&) const = default;
  };
  const auto run = [&](const auto& capacity, double factor) {
    const moe::MoeLayer layer(router, bank, capacity);
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(call.x.data(), 20, kWidth));
    in.segments = moe::Segments::uniform(10);
    in.options.capacity_factor = factor;
    std::vector<double> y(call.x.size()), dx(y.size());
    const std::vector<double> dy(y.size(), 0.5);
    moe::RouteStats stats;
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 20, kWidth), &stats);
    moe::Workspace workspace;
    auto tape = layer.make_tape();
    layer.forward_train(in, out, tape, workspace);
    layer.backward(
        tape,
        {moe::ConstMatrixView<double>(dy.data(), 20, kWidth), moe::MatrixView<double>(dx.data(), 20, kWidth)},
        workspace);
    return Result{y, dx, stats.dropped};
  };
  const moe::FixedCapacity half({.factor = 0.5}), places({.tokens_per_expert = 3});
  const Result built = run(half, 0);
  CHECK(built.dropped > 0);
  CHECK(run(moe::FixedCapacity({.factor = 2}), 0.5) == built);
  CHECK(run(moe::AnyCapacity(moe::FixedCapacity({.factor = 2})), 0.5) == built);
  CHECK(run(half, 8) == run(moe::Dropless{}, 0));
  const auto refused = [&](const auto& capacity, double factor) {
    return test::message_of<moe::config_error>([&] { run(capacity, factor); });
  };
  CHECK(refused(places, 0.5) ==
        "moe: capacity factor: expected none for a capacity of 3 places, which cannot obey it, got 0.5");
  CHECK(refused(half, 1e10).starts_with("moe: capacity factor: expected a value in (0, 1e9]"));
  CHECK(refused(moe::AnyCapacity(moe::Dropless{}), 0.5) ==
        "moe: capacity factor: expected none for the capacity dropless, which cannot obey it, got 0.5");
  CHECK(refused(moe::Dropless{}, 0.5).find("the selection top_k, which cannot obey it") != std::string::npos);
}

TEST_CASE("a layer refuses options that are no numbers of use, naming them", "[call_options]") {
  moe::Glu<moe::Silu, double> bank({.experts = kOutputs, .width = kWidth, .hidden = 3});
  const moe::MoeLayer layer(router_of(moe::Softmax(), moe::TopKSelection(2)), std::move(bank));
  const std::vector<double> x(2 * kWidth, 0.5);
  std::vector<double> y(x.size());
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 2, kWidth));
  moe::Workspace workspace;
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 2, kWidth));
  for (std::size_t i = 0; i < 4; ++i) {
    for (const double bad : {-1.0, kNan, kInfinity}) {
      in.options = {};
      in.options.*kOptions[i] = bad;
      const std::string message =
          test::message_of<moe::config_error>([&] { layer.forward(in, out, workspace); });
      CHECK(message.find(std::string("moe: ") + kNames[i] + ": expected a finite value > 0") == 0);
    }
  }
  in.options = {};  // 0 is no temperature of 0, but none
  CHECK_NOTHROW(layer.forward(in, out, workspace));
}

TEST_CASE("options by name are those of the struct", "[call_options]") {
  const CallOptions none = moe::call_options({});
  CHECK(none == CallOptions{});
  CHECK(moe::call_options({{"k", "3"}}) == CallOptions{.experts_per_token = 3});
  CHECK(moe::call_options({{"capacity_factor", "1.25"}}) == CallOptions{.capacity_factor = 1.25});
  CHECK(moe::call_options({{"temperature", "5e-1"}, {"k", "16"}}) ==
        CallOptions{.experts_per_token = 16, .temperature = 0.5});
  CHECK(moe::call_options({{"threshold", ".25"}}) == CallOptions{.threshold = 0.25});
  const std::vector<moe::NamedOption> listed{{"p", "0.4"}, {"temperature", "2"}};
  CHECK(moe::call_options(listed) == CallOptions{.temperature = 2, .p = 0.4});
}

TEST_CASE("a name or value that is none is refused by name", "[call_options]") {
  const auto message = [](const moe::NamedOption& option) {
    return test::message_of<moe::config_error>([&] { moe::call_options({option}); });
  };
  const std::string known =
      "moe: options of a call: expected one of k, capacity_factor, temperature, threshold, p, got ";
  CHECK(message({"top_k", "2"}) == known + "top_k");
  CHECK(message({"", "2"}) == known);
  CHECK(message({nullptr, "2"}) == known + "no name");
  for (const char* const bad :
       {"0", "-1", "2.5", "two", "2 ", " 2", "1e12", "-1e300", "0x10", "inf", "nan"}) {
    CHECK(message({"k", bad}) == std::string("moe: k: expected a whole number >= 1, got ") + bad);
  }
  for (const char* const name : {"capacity_factor", "temperature", "threshold", "p"}) {
    const std::string wanted =
        std::string("moe: ") + name + ": expected a finite number > 0 (none: the router's own), got ";
    for (const char* const bad : {"0", "-0.5", "hot", "0.5x", "0,5", "0x1", "1e400", "inf", "nan"}) {
      CHECK(message({name, bad}) == wanted + bad);
    }
    CHECK(message({name, ""}) == wanted + "nothing");
    CHECK(message({name, nullptr}) == wanted + "nothing");
  }
  CHECK(test::message_of<moe::config_error>([] {
          moe::call_options({{"k", "2"}, {"p", "0.4"}, {"k", "2"}});
        }) == "moe: k: expected it once, got it twice");
}
