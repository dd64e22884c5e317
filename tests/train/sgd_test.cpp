#include "moe/train/sgd.hpp"

#include <cmath>
#include <vector>

#include "support/close.hpp"
#include "train/optimiser_laws.hpp"

namespace {

using namespace test;

/// Number by number, with a bound for what T may be off.
struct PlainSgd {
  long double momentum, decay;
  bool nesterov;
  long double w = 0, m = 0, size = 0, bound = 0;  // size: of m, summed without signs
  int t = 0;

  template <class T>
  void step(long double g, long double rate) {
    ++t;
    m = momentum * m + g;
    size = momentum * size + std::fabs(g);
    const long double u = nesterov ? g + momentum * m : m;
    w -= rate * (u + decay * w);
    bound += rate * 2 * size * gamma<T>(3 * t + 4) + gamma<T>(6) * (std::fabs(w) + rate * std::fabs(u));
  }
};

template <class T>
void check_against_plain(const typename moe::Sgd<T>::Options& options) {
  PlainModel<T> model = plain_model<T>();
  moe::Sgd<T> optimiser(options);
  std::vector<std::vector<PlainSgd>> plain;
  for (const auto& range : model.ranges) {
    plain.emplace_back();
    for (const T w : range.values) {
      const bool decays = options.decays(range.name.c_str(), range.cols > 1);
      plain.back().push_back(
          {static_cast<T>(options.momentum), decays ? options.decay : 0, options.nesterov, w});
    }
  }
  for (int step = 1; step <= 12; ++step) {
    model.draw_gradients(static_cast<std::uint64_t>(step));
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

TEST_CASE("SGD follows plain loops", "[train][smoke]") {
  check_against_plain<double>({});
  check_against_plain<float>({.decay = 0.2, .decays = moe::decay_everything});
  check_against_plain<double>({.momentum = 0.9, .decay = 0.1});
  check_against_plain<float>({.momentum = 0.9});
  check_against_plain<double>({.momentum = 0.8, .nesterov = true});
  check_against_plain<float>({.momentum = 0.8, .nesterov = true, .decay = 0.1});
}

TEST_CASE("SGD is deterministic, resumes, freezes and refuses", "[train][threads]") {
  check_optimiser(moe::Sgd<float>({.momentum = 0.9}));
  check_optimiser(moe::Sgd<double>());
}

TEST_CASE("SGD without momentum keeps no state", "[train]") {
  PlainModel<double> model = plain_model<double>();
  moe::Sgd<double> plain, heavy({.momentum = 0.9});
  run_steps(plain, model, 0, 1);
  run_steps(heavy, model, 0, 1);
  int kept = 0;
  const auto count = [&](const moe::Parameter<double>&) { ++kept; };
  auto nothing = plain.state(model), momentum = heavy.state(model);
  nothing.visit_parameters(count);
  CHECK(kept == 0);
  momentum.visit_parameters(count);
  CHECK(kept == 3);
}

TEST_CASE("SGD's options are checked", "[train]") {
  const auto message = [](const moe::Sgd<float>::Options& options) {
    return message_of<moe::config_error>([&] { moe::Sgd<float> s(options); });
  };
  CHECK(message({.momentum = 1}) == "moe: momentum: expected a value in [0, 1), got 1");
  CHECK(message({.momentum = -0.5}) == "moe: momentum: expected a value in [0, 1), got -0.5");
  CHECK(message({.nesterov = true}) == "moe: momentum: expected a value above 0 for Nesterov's rule, got 0");
  CHECK(message({.decay = -1}) == "moe: decay: expected a finite value >= 0, got -1");
  CHECK(message({.decays = nullptr}) == "moe: decays: expected a function, got a null pointer");
}
