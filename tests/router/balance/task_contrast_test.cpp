#include "moe/router/balance/task_contrast.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Matrix = std::vector<std::vector<double>>;

/// A call of rows with logits, their segments and tasks.
struct Case {
  Matrix logit;
  std::vector<Index> ends;
  std::vector<std::int32_t> task;
  std::vector<char> active;

  moe::TaskContrast::Options options{.coefficient = 0.3, .tau = 0.2};

  std::vector<double> flat() const {
    std::vector<double> all;
    for (const auto& row : logit) all.insert(all.end(), row.begin(), row.end());
    return all;
  }
  template <class F>
  void with(F&& f) const {
    const Index tokens = static_cast<Index>(logit.size()), n = static_cast<Index>(logit[0].size());
    const std::vector<double> values = flat();
    moe::RouterInput<double> call;
    call.x = {values.data(), tokens, n};
    call.segments = moe::Segments(std::span<const Index>(ends));
    call.task = std::span<const std::int32_t>(task);
    call.training = true;
    std::vector<char> on = active.empty() ? std::vector<char>(logit.size(), 1) : active;
    bool takes_part[16];
    Index count = 0;
    for (std::size_t t = 0; t < on.size(); ++t) count += (takes_part[t] = on[t] != 0) ? 1 : 0;
    const moe::BalanceInput<double> in{.call = call,
                                       .logit = {values.data(), tokens, n},
                                       .score = {values.data(), tokens, n},
                                       .probability = {values.data(), tokens, n},
                                       .active = takes_part,
                                       .active_count = count};
    moe::Arena measuring;
    const moe::TaskContrast loss(options);
    loss.measure(measuring, tokens, n);
    std::vector<std::byte> memory(static_cast<std::size_t>(measuring.bytes()));
    moe::Arena arena(memory.data(), static_cast<Index>(memory.size()));
    f(loss, in, arena);
  }
  double loss() const {
    double value = 0;
    with([&](const auto& loss, const auto& in, moe::Arena& arena) { value = loss.forward(in, arena); });
    return value;
  }
  std::vector<double> gradient(double scale) const {
    std::vector<double> d(flat().size());
    with([&](const auto& loss, const auto& in, moe::Arena& arena) {
      moe::BalanceGradients<double> out;
      out.dlogit = {d.data(), in.tokens(), in.outputs()};
      loss.backward(in, scale, out, arena);
    });
    return d;
  }
  /// From the formula, segments with rows alone.
  double plain() const {
    Matrix z;
    std::vector<std::int32_t> of;
    for (std::size_t s = 1; s < ends.size(); ++s) {
      std::vector<double> sum;
      for (Index t = ends[s - 1]; t < ends[s]; ++t) {
        const auto row = static_cast<std::size_t>(t);
        if (!active.empty() && !active[row]) continue;
        if (sum.empty()) {
          sum.resize(logit[row].size());
          of.push_back(task[row]);
        }
        for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += std::isinf(logit[row][e]) ? 0 : logit[row][e];
      }
      if (!sum.empty()) z.push_back(sum);
    }
    const auto cosine = [&](std::size_t a, std::size_t b) {
      double ab = 0, aa = 0, bb = 0;
      for (std::size_t e = 0; e < z[a].size(); ++e) {
        ab += z[a][e] * z[b][e];
        aa += z[a][e] * z[a][e];
        bb += z[b][e] * z[b][e];
      }
      return ab / std::sqrt(aa * bb);
    };
    double sum = 0;
    int anchors = 0;
    for (std::size_t i = 0; i < z.size(); ++i) {
      double all = 0, own = 0;
      int positives = 0;
      for (std::size_t k = 0; k < z.size(); ++k) {
        if (k == i) continue;
        all += std::exp(cosine(i, k) / options.tau);
        if (of[k] != of[i]) continue;
        ++positives;
        own += cosine(i, k) / options.tau;
      }
      if (positives == 0) continue;
      ++anchors;
      sum += std::log(all) - own / positives;
    }
    return anchors == 0 ? 0 : options.coefficient * sum / anchors;
  }
};

Case example() {
  return {.logit = {{1, -0.5, 0.3},
                    {0.2, 0.9, -1},
                    {0.4, 0.1, 0.8},
                    {-0.6, 0.5, 0.2},
                    {0.7, 0.3, -0.2},
                    {0.1, -0.9, 0.6},
                    {2, 1, 0}},
          .ends = {0, 2, 2, 3, 5, 6, 7},
          .task = {4, 4, 7, 4, 4, 7, 9},
          .active = {}};
}

}  // namespace

TEST_CASE("task contrast: the formula in plain loops, with empty segments, padding and masked outputs",
          "[task_contrast]") {
  Case c = example();
  CHECK(std::abs(c.loss() - c.plain()) <= 1e-14);
  CHECK(c.loss() > 0);
  c.active = {1, 0, 1, 1, 1, 1, 1};
  c.logit[2][1] = -std::numeric_limits<double>::infinity();
  CHECK(std::abs(c.loss() - c.plain()) <= 1e-14);
  c.active = {1, 1, 0, 1, 1, 0, 1};  // no segment of task 7 is left
  CHECK(std::abs(c.loss() - c.plain()) <= 1e-14);
  c.active = {0, 0, 0, 0, 0, 0, 0};
  CHECK(c.loss() == 0);
  CHECK(c.gradient(1) == std::vector<double>(21));
}

TEST_CASE("task contrast: least where tasks agree within and are opposite between", "[task_contrast]") {
  Case good = example(), bad = example();
  for (std::size_t t = 0; t < 7; ++t) {
    const double sign = good.task[t] == 4 ? 1 : -1;
    good.logit[t] = {sign * 2, sign, 0};
    bad.logit[t] = {t % 2 == 0 ? 2.0 : -2.0, 1, 0};
  }
  CHECK(good.loss() < bad.loss());
  // Lengths do not matter, only directions.
  Case longer = good;
  for (double& v : longer.logit[2]) v *= 10;
  CHECK(std::abs(longer.loss() - good.loss()) <= 1e-14);
  // Nobody has a partner: nothing to contrast.
  Case alone = example();
  alone.task = {1, 1, 2, 3, 3, 4, 5};
  CHECK(alone.loss() == 0);
}

TEST_CASE("task contrast: gradient by differences", "[task_contrast]") {
  Case c = example();
  c.active = {1, 1, 1, 0, 1, 1, 1};
  const double scale = 0.7;
  const std::vector<double> d = c.gradient(scale);
  for (std::size_t i = 0; i < d.size(); ++i) {
    double& entry = c.logit[i / 3][i % 3];
    const double old = entry, h = 1e-4;
    const auto at = [&](double value) {
      entry = value;
      const double f = scale * c.loss();
      entry = old;
      return f;
    };
    const double near = (at(old + h) - at(old - h)) / (2 * h),
                 far = (at(old + 2 * h) - at(old - 2 * h)) / (4 * h);
    CHECK(std::abs((4 * near - far) / 3 - d[i]) <= std::abs(near - far) + 1e-11);
  }
}

TEST_CASE("task contrast refuses options out of range and calls without tasks", "[task_contrast]") {
  const double inf = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(moe::TaskContrast({.coefficient = inf}), moe::config_error);
  for (const double bad : {0.0, -1.0, inf, std::nan("")}) {
    CHECK_THROWS_AS(moe::TaskContrast({.tau = bad}), moe::config_error);
  }
  const double x[] = {1, 2};
  moe::RouterInput<double> in;
  in.x = {x, 2, 1};
  in.training = true;
  CHECK_THROWS_AS(moe::TaskContrast().check_call(in), moe::config_error);
  moe::TaskContrast({.coefficient = 0}).check_call(in);
  in.training = false;
  moe::TaskContrast().check_call(in);
}
