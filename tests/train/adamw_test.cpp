#include "moe/train/adamw.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/train/optimiser_state.hpp"
#include "support/close.hpp"
#include "train/optimiser_laws.hpp"

namespace {

using namespace test;

/// The paper's formulas, number by number, with a bound for what T may be off.
struct PlainAdamW {
  long double beta1, beta2, epsilon, decay;
  long double w = 0, m = 0, v = 0, size = 0, bound = 0;  // size: of m, summed without signs
  long double power1 = 1, power2 = 1;                    // beta^t
  int t = 0;

  template <class T>
  void step(long double g, long double rate) {
    ++t;
    m = beta1 * m + (1 - beta1) * g;
    size = beta1 * size + (1 - beta1) * std::fabs(g);
    v = beta2 * v + (1 - beta2) * g * g;
    const long double first = 1 - (power1 *= beta1), root = std::sqrt(v / (1 - (power2 *= beta2))) + epsilon;
    // Four roundings a step in m and v (the root halves those of v), a dozen in the step's factors.
    const long double direction = m / first / root, off = size / first / root * gamma<T>(8 * t + 16);
    w -= rate * (direction + decay * w);
    bound += rate * off + gamma<T>(6) * (std::fabs(w) + rate * std::fabs(direction));
  }
};

template <class T>
void check_against_plain(const typename moe::AdamW<T>::Options& options) {
  PlainModel<T> model = plain_model<T>();
  moe::AdamW<T> optimiser(options);
  std::vector<std::vector<PlainAdamW>> plain;
  for (const auto& range : model.ranges) {
    plain.emplace_back();
    for (const T w : range.values) {  // beta and epsilon as T has them
      plain.back().push_back({static_cast<T>(options.beta1), static_cast<T>(options.beta2),
                              static_cast<T>(options.epsilon), options.decay, w});
      if (!options.decays(range.name.c_str(), range.cols > 1)) plain.back().back().decay = 0;
    }
  }
  for (int step = 1; step <= 12; ++step) {
    model.draw_gradients(static_cast<std::uint64_t>(step), step == 5 ? 1e-3 : 1);
    const double rate = 0.05 / step;
    for (std::size_t r = 0; r < plain.size(); ++r) {
      for (std::size_t i = 0; i < plain[r].size(); ++i)
        plain[r][i].template step<T>(model.ranges[r].gradients[i], rate);
    }
    optimiser.step(model, rate);
    for (std::size_t r = 0; r < plain.size(); ++r) {
      const auto& values = model.ranges[r].values;
      CHECK(first_outside(
                values.data(), static_cast<Index>(values.size()),
                [&](Index i) { return plain[r][static_cast<std::size_t>(i)].w; },
                [&](Index i) { return plain[r][static_cast<std::size_t>(i)].bound; }) == -1);
    }
  }
}

}  // namespace

TEST_CASE("AdamW follows plain loops", "[train][smoke]") {
  check_against_plain<double>({});
  check_against_plain<float>({});
  check_against_plain<double>({.beta1 = 0, .beta2 = 0.9, .epsilon = 0.1, .decay = 0});
  check_against_plain<float>({.beta1 = 0.95, .beta2 = 0, .decay = 0.3, .decays = moe::decay_everything});
  check_against_plain<double>({.decays = [](const char* name, bool) { return name[0] == 'a'; }});
}

TEST_CASE("AdamW is deterministic, resumes, freezes and refuses", "[train][threads]") {
  check_optimiser(moe::AdamW<float>());
  check_optimiser(moe::AdamW<double>({.beta2 = 0.95, .decay = 0.1}));
}

TEST_CASE("the first step of AdamW is the learning rate against the gradient's sign", "[train]") {
  PlainModel<double> model({{"w", 1, 3}, {"zero", 2, 2}});
  model.ranges[0].values = {1, 2, 3};
  model.ranges[0].gradients = {1e-3, -40, 0};
  const auto before = model.ranges[1].values;
  moe::AdamW<double> optimiser({.epsilon = 1e-30, .decay = 0});
  optimiser.step(model, 0.25);
  CHECK(std::fabs(model.ranges[0].values[0] - 0.75) < 1e-15);
  CHECK(std::fabs(model.ranges[0].values[1] - 2.25) < 1e-15);
  CHECK(model.ranges[0].values[2] == 3);
  CHECK(model.ranges[1].values == before);
}

TEST_CASE("moments that fade become 0, not subnormal", "[train]") {
  PlainModel<float> model({{"w", 1, 40}});
  moe::AdamW<float> optimiser({.beta1 = 0.5, .beta2 = 0.5});
  model.draw_gradients(1);
  for (int step = 0; step < 200; ++step) optimiser.step(model, 0);
  auto state = optimiser.state(model);
  state.visit_parameters([](const moe::Parameter<float>& p) {
    for (Index i = 0; i < p.value.cols; ++i) CHECK(p.value(0, i) == 0);
  });
}

TEST_CASE("AdamW's options are checked", "[train]") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto message = [](const moe::AdamW<float>::Options& options) {
    return message_of<moe::config_error>([&] { moe::AdamW<float> a(options); });
  };
  CHECK(message({.beta1 = 1}) == "moe: beta: expected a value in [0, 1), got 1");
  CHECK(message({.beta2 = 1 - 1e-12}) == "moe: beta: expected a value in [0, 1), got 1");  // 1 as a float
  CHECK(message({.beta2 = kNan}) == "moe: beta: expected a value in [0, 1), got nan");
  CHECK(message({.epsilon = 0}) == "moe: epsilon: expected a finite value above 0, got 0");
  CHECK(message({.epsilon = 1e-60}) == "moe: epsilon: expected a finite value above 0, got 1e-60");
  CHECK(message({.decay = -0.1}) == "moe: decay: expected a finite value >= 0, got -0.1");
  CHECK(message({.decays = nullptr}) == "moe: decays: expected a function, got a null pointer");
}
