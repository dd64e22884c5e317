#include "moe/layer/soft/mhr.hpp"

#include <cmath>

#include "layer/soft/plain_merging.hpp"
#include "moe/core/random.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

using moe::Index;
using test::Values;

namespace {

constexpr Index kWidth = 6, kRank = 3, kModules = 4, kTasks = 3;
const Index kEnds[] = {0, 3, 3, 7, 9};
const std::int32_t kTask[] = {1, 1, 1, 0, 0, 0, 0, 1, 1};

template <class Act = moe::Identity>
moe::MhrLayer<double, Act> make(Index heads, bool noise = true, Index modules = kModules) {
  auto layer = moe::mhr<double, Act>({.width = kWidth,
                                      .rank = kRank,
                                      .modules = modules,
                                      .tasks = kTasks,
                                      .heads = heads,
                                      .noise = noise,
                                      .temperature = 0.7});
  test::draw_parameters(layer, 4);
  return layer;
}
moe::LayerInput<double> input(const Values& x) {
  moe::LayerInput<double> in(test::view(x, kWidth));
  in.segments = moe::Segments(kEnds);
  in.task = kTask;
  return in;
}
void set_gates(auto& layer, const std::function<double(Index task, Index head, Index module)>& z) {
  layer.visit_parameters([&](const auto& p) {
    if (std::string(p.name) != "task_logits") return;
    for (Index t = 0; t < p.value.rows; ++t) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(t, i) = z(t, i / kModules, i % kModules);
    }
  });
}

}  // namespace

TEST_CASE("MHR: laws of layers", "[layer]") {
  test::LayerCall call;
  call.columns = [](moe::LayerInput<double>& in, const std::vector<Index>& rows) {
    std::vector<Index> task;  // one a segment of the laws' calls: {0, 3, 3, 7}; converted, so the input's own
    for (const Index t : rows) task.push_back(t < 3 ? 2 : 0);
    in.task = task;
  };
  for (const Index heads : {1, 3}) {
    test::check_layer(
        "mhr", [heads] { return make(heads); }, [] { return make(2); }, call);
  }
  test::check_layer(
      "plain adapters", [] { return make<moe::Silu>(2); }, call);
}

TEST_CASE("every head mixes its share of the columns by its own gates, by plain loops", "[layer]") {
  for (const Index heads : {1, 2, 6}) {
    const auto layer = make(heads);
    auto all = test::layer_parameters(layer);
    const Values x = test::random_rows(9, kWidth, 1), y = test::run_layer(layer, input(x));
    Values want;
    for (Index t = 0; t < 9; ++t) {
      Values p(static_cast<std::size_t>(heads * kModules));
      for (Index h = 0; h < heads; ++h) {
        const auto at = static_cast<std::size_t>(h * kModules);
        double sum = 0;
        for (std::size_t e = 0; e < kModules; ++e) {
          const double z = all["task_logits"][static_cast<std::size_t>(kTask[t]) * p.size() + at + e];
          sum += p[at + e] = 1 / (1 + std::exp(-z));
        }
        for (std::size_t e = 0; e < kModules; ++e) p[at + e] /= sum;
      }
      const Values row = test::plain_merged_row(all, p, heads, kModules, x.data() + t * kWidth, kWidth, kRank,
                                                [](double a) { return a; });
      want.insert(want.end(), row.begin(), row.end());
    }
    CHECK(test::distance(y, want) <= 1e-13);
  }
}

TEST_CASE("one head is Poly; heads that agree are one head", "[layer]") {
  const moe::MhrOptions options{.width = kWidth, .rank = kRank, .modules = kModules, .tasks = kTasks};
  auto poly = moe::poly<double>(options);
  test::draw_parameters(poly, 4);
  auto one = make(1), three = make(3);
  const Values x = test::random_rows(9, kWidth, 2);
  CHECK(test::same_bits(test::run_layer(poly, input(x)), test::run_layer(one, input(x))));
  const auto z = [](Index task, Index, Index module) {
    return 0.3 * static_cast<double>(task) - 0.2 * static_cast<double>(module);
  };
  // The same modules: they are drawn behind the gates.
  auto& modules = one.experts();
  for (Index e = 0; e < kModules; ++e) {
    Values fc1(kRank * kWidth), fc2(kRank * kWidth);
    modules.unpack(e, test::view(fc1, kWidth), test::view(fc2, kRank));
    three.experts().load(e, test::view(std::as_const(fc1), kWidth), test::view(std::as_const(fc2), kRank));
  }
  set_gates(one, z), set_gates(three, z);
  CHECK(test::same_bits(test::run_layer(one, input(x)), test::run_layer(three, input(x))));
  moe::MhrOptions two = options;
  two.heads = 2;
  CHECK(test::message_of<moe::config_error>([&] { moe::poly<double>(two); }) ==
        "moe: heads of Poly: expected a value in [1, 1], got 2");
}

TEST_CASE("gates of one module give that module; with heads, module by head", "[layer]") {
  auto layer = make(2);
  // Head 0 takes module 3, head 1 module 1: nothing is left of the others in double.
  set_gates(layer, [](Index, Index h, Index e) { return e == (h == 0 ? 3 : 1) ? 0.0 : -800.0; });
  auto all = test::layer_parameters(layer);
  const Values x = test::random_rows(9, kWidth, 3), y = test::run_layer(layer, input(x));
  Values want;
  for (Index t = 0; t < 9; ++t) {
    Values p(2 * kModules, 0);
    p[3] = p[kModules + 1] = 1;
    const Values row = test::plain_merged_row(all, p, 2, kModules, x.data() + t * kWidth, kWidth, kRank,
                                              [](double a) { return a; });
    want.insert(want.end(), row.begin(), row.end());
  }
  CHECK(test::distance(y, want) <= 1e-13);
}

TEST_CASE("training draws the gates, as often high as their sigmoid says; inference does not", "[layer]") {
  auto layer = make(1);
  set_gates(layer, [](Index, Index, Index e) { return e == 0 ? 1.0 : -1.0; });
  const Values x = test::random_rows(9, kWidth, 4);
  auto in = input(x);
  moe::DrawCounter draws(5);
  in.draws = &draws;
  auto tape = layer.make_tape();
  // P(gate of module 0 > gate of module 1) = P(2 + L - L' > 0) for logistic L, L': (e^2 - 1 - 2) e^2 / (e^2 -
  // 1)^2 = 0.7940.
  Index higher = 0, calls = 500;
  for (Index i = 0; i < calls; ++i) {
    test::train_layer(layer, in, tape);
    for (const Index s : {0, 2, 3}) {
      double sum = 0;
      for (Index e = 0; e < kModules; ++e) sum += tape.mixtures()(s, e);
      CHECK(std::fabs(sum - 1) <= 1e-15);
      higher += tape.mixtures()(s, 0) > tape.mixtures()(s, 1);
    }
  }
  CHECK(std::fabs(static_cast<double>(higher) / 1500 - 0.7940) < 0.05);  // 5 deviations
  in.mode = moe::Mode::inference;
  Values y = test::train_layer(layer, in, tape);
  CHECK(test::same_bits(y, test::run_layer(layer, input(x))));
  in.mode = moe::Mode::by_call;
  in.draws = nullptr;
  CHECK_THROWS_AS(test::train_layer(layer, in, tape), moe::config_error);
  CHECK(test::gradient_error(layer, in, 21) <= 1e-8);
  auto quiet = make(2, false);
  CHECK(test::gradient_error(quiet, in, 21) <= 1e-8);
}

TEST_CASE("MHR-z trains the gates alone", "[layer]") {
  const auto layer = make(2, false);
  const Values x = test::random_rows(9, kWidth, 5), dy = test::random_rows(9, kWidth, 6);
  auto tape = layer.make_tape();
  test::train_layer(layer, input(x), tape);
  auto all = layer.make_gradients(), gates = layer.make_gradients();
  Values dx(x.size()), same(x.size());
  moe::Workspace workspace;
  using Back = decltype(make(2))::LayerGradients;
  layer.backward(tape, Back(test::view(dy, kWidth), test::view(dx, kWidth), all), workspace);
  layer.backward(tape, moe::mhr_z(layer, test::view(dy, kWidth), test::view(same, kWidth), gates), workspace);
  CHECK(test::same_bits(dx, same));
  Values of_all, of_gates;
  Index modules = 0;
  layer.visit_storage(all, [&](const char* name, const double*, const double* g, Index n) {
    if (std::string(name) == "task_logits") of_all.assign(g, g + n);
  });
  layer.visit_storage(gates, [&](const char* name, const double*, const double* g, Index n) {
    if (std::string(name) == "task_logits") of_gates.assign(g, g + n);
    for (Index i = 0; std::string(name) != "task_logits" && i < n; ++i) modules += g[i] != 0;
  });
  CHECK(test::same_bits(of_all, of_gates));
  CHECK(modules == 0);
}

TEST_CASE("MHR-mu is the mean of the modules", "[layer]") {
  auto layer = make(2);
  set_gates(layer, [](Index, Index, Index) { return 0.25; });  // all gates equal: a mean
  const Values x = test::random_rows(9, kWidth, 7);
  const auto mean = moe::mhr_mu(layer);
  CHECK(mean.experts() == 1);
  auto modules = test::layer_parameters(layer);
  Values fc1(kRank * kWidth), fc2(kRank * kWidth);
  mean.unpack(0, test::view(fc1, kWidth), test::view(fc2, kRank));
  Values want1(fc1.size(), 0), want2(fc2.size(), 0);
  for (Index e = 0; e < kModules; ++e) {
    const std::string name = "experts." + std::to_string(e);
    for (std::size_t i = 0; i < fc1.size(); ++i) {
      want1[i] += modules[name + ".fc1.weight"][i] / kModules;
      want2[i] += modules[name + ".fc2.weight"][i] / kModules;
    }
  }
  CHECK(test::distance(fc1, want1) <= 1e-15);
  CHECK(test::distance(fc2, want2) <= 1e-15);
}

TEST_CASE("adapters begin as no change", "[layer]") {
  auto layer = make(2);
  layer.router().initialise(3);
  layer.experts().initialise_adapters(3);
  const Values x = test::random_rows(9, kWidth, 8);
  for (const double v : test::run_layer(layer, input(x))) CHECK(v == 0);
}

TEST_CASE("tasks that are missing, several in a segment or not there are refused", "[layer]") {
  const auto layer = make(2);
  const Values x = test::random_rows(9, kWidth, 9);
  const auto call = [&]<class Error>(Error*, auto change) {
    auto in = input(x);
    change(in);
    return test::message_of<Error>([&] { test::run_layer(layer, in); });
  };
  moe::config_error* config = nullptr;
  moe::route_error* route = nullptr;
  CHECK(call(config, [](auto& in) { in.task = {}; }) ==
        "moe: task: expected 9 tasks, one for each row, got none");
  const std::int32_t several[] = {1, 1, 1, 0, 0, 2, 0, 1, 1}, none[] = {1, 1, 1, 0, 0, 0, 0, 3, 3};
  CHECK(call(config, [&](auto& in) { in.task = several; }) ==
        "moe: task: expected one for all rows of a segment, got 0 and 2 for tokens 3 and 5");
  CHECK(call(route, [&](auto& in) { in.task = none; }) ==
        "moe: task: expected numbers in [0, 3), got 3 for token 7");
  CHECK(call(config, [](auto& in) { in.options.temperature = 2; }) ==
        "moe: temperature: expected none for a mixture by tasks, which cannot obey it, got 2");
  const Values mask(kModules, 0.0);
  CHECK(call(config, [&](auto& in) { in.logit_mask = test::view(mask, kModules); }) ==
        "moe: logit_mask: expected none for a mixture by tasks, got one");
  const bool valid[] = {true, true, true, true, true, false, true, true, true};
  auto padded = input(x);
  padded.task = several, padded.valid = valid;  // the other task is of a row that takes no part
  CHECK(test::run_layer(layer, padded).size() == x.size());
  const auto build = [](moe::MhrOptions o) {
    return test::message_of<moe::config_error>([&] { moe::mhr<double>(o); });
  };
  CHECK(build({.width = 6, .rank = 2, .modules = 2, .tasks = 0}).find("moe: tasks: expected") == 0);
  CHECK(build({.width = 6, .rank = 2, .modules = 2, .tasks = 1, .heads = 4}) ==
        "moe: heads: expected a divisor of the width 6, got 4");
  CHECK(build({.width = 6, .rank = 2, .modules = 2, .tasks = 1, .temperature = 0}) ==
        "moe: temperature: expected a finite number > 0, got 0");
  auto spoilt = make(1);
  set_gates(spoilt, [](Index t, Index, Index) { return t == 1 ? NAN : 0.0; });
  CHECK(test::message_of<moe::numeric_error>([&] { test::run_layer(spoilt, input(x)); }) ==
        "moe: task_logits: expected finite values, got nan for task 1");
}
