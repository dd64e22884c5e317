#include "moe/depth/vq_moe.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Codebook = moe::CodebookRouter<double>;
using Router = moe::SoftmaxTopK<double>;

constexpr Index kTokens = 6, kWidth = 4, kExperts = 3, kCodes = 5, kHidden = 3;

/// What a layer refers to; lives until the program ends.
struct Parts {
  Codebook codebook;
  Bank bank;
};
Parts& parts(double loss, Index width = kWidth, Index levels = 1) {
  static std::vector<std::unique_ptr<Parts>> all;
  const auto measure = levels == 1 ? moe::CodeMeasure::difference : moe::CodeMeasure::cosine;
  all.push_back(std::make_unique<Parts>(
      Parts{Codebook({.width = width,
                      .experts = kExperts,
                      .codes = kCodes,
                      .levels = levels,
                      .measure = measure,
                      .loss = loss}),
            Bank({.experts = kExperts, .width = width, .hidden = kHidden, .bias = true})}));
  return *all.back();
}
moe::VqMoe<Router, Bank> layer_of(Parts& of, double contribution) {
  return moe::vq_moe({.contribution = contribution}, of.codebook,
                     moe::softmax_top_k<double>({.width = of.bank.width(), .experts = kExperts, .k = 2}),
                     of.bank);
}

}  // namespace

TEST_CASE("vq_moe: laws of layers; differences where nothing is stopped", "[vq]") {
  test::check_layer(
      "vq_moe", [] { return layer_of(parts(0.5), 0.2); }, [] { return layer_of(parts(0.5, 5), 0.2); },
      {.gradients = false});
  test::check_layer("vq_moe of no codes", [] { return layer_of(parts(0), 0); });
  test::check_layer(
      "vq_moe of residual codes", [] { return layer_of(parts(0.5, kWidth, 2), 0.2); },
      [] { return layer_of(parts(0.5, 5, 2), 0.2); }, {.gradients = false});
}

namespace {

using Row = std::vector<double>;
using Matrices = std::map<std::string, Values>;

template <class L>
Matrices matrices_of(L& layer) {
  Matrices all;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i) {
      all[p.name].push_back(p.value(i / p.value.cols, i % p.value.cols));
    }
  });
  return all;
}
Row times(const Values& weight, const Row& x) {
  Row y(weight.size() / x.size());
  for (std::size_t i = 0; i < weight.size(); ++i) y[i / x.size()] += weight[i] * x[i % x.size()];
  return y;
}
Row softmax(Row v) {
  double sum = 0;
  for (double& p : v) sum += p = std::exp(p);
  for (double& p : v) p /= sum;
  return v;
}
Row norm(const Row& x, const Values& scale, const Values& shift) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, variance = 1e-5;
  for (const double v : x) mean += v / n;
  for (const double v : x) variance += (v - mean) * (v - mean) / n;
  Row y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    y.push_back((x[i] - mean) / std::sqrt(variance) * scale[i] + shift[i]);
  }
  return y;
}
Row expert(const Matrices& m, std::size_t e, const Row& x) {
  const std::string name = "branch0.experts." + std::to_string(e);
  Row hidden = times(m.at(name + ".fc1.weight"), x);
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    const double u = hidden[i] + m.at(name + ".fc1.bias")[i];
    hidden[i] = u / (1 + std::exp(-u));
  }
  Row y = times(m.at(name + ".fc2.weight"), hidden);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += m.at(name + ".fc2.bias")[i];
  return y;
}

/// What a row chose, and the values behind which no gradient goes.
struct Stopped {
  std::size_t left_out, code;  // the one expert of three that the router does not choose
  Row x, v;
};

struct Plain {
  double contribution, loss, commitment;

  static Row code(const Matrices& m, std::size_t j) {
    const Values& all = m.at("branch1.codebook.weight");
    return {all.begin() + static_cast<Index>(j) * kWidth, all.begin() + static_cast<Index>(j + 1) * kWidth};
  }
  static Stopped stop(const Matrices& m, const Row& x) {
    const Row logit = times(m.at("branch0.gate.weight"), x);
    Stopped s{0, 0, x, {}};
    double least = 1e300;
    for (std::size_t e = 1; e < 3; ++e) {
      if (logit[e] < logit[s.left_out]) s.left_out = e;
    }
    for (std::size_t j = 0; j < kCodes; ++j) {
      double distance = 0;
      for (std::size_t i = 0; i < x.size(); ++i) distance += std::pow(x[i] - code(m, j)[i], 2);
      if (distance < least) least = distance, s.code = j;
    }
    s.v = code(m, s.code);
    return s;
  }
  Row path_by_code(const Matrices& m, const Row& x, const Stopped& s) const {
    Row drawn;
    for (std::size_t i = 0; i < x.size(); ++i) {
      drawn.push_back((1 - contribution) * x[i] + contribution * (s.v[i] - s.x[i]));
    }
    const Values &scale = m.at("branch1.norm.scale"), &shift = m.at("branch1.norm.shift");
    return norm(expert(m, s.code % kExperts, norm(drawn, scale, shift)), scale, shift);
  }
  Row routed(const Matrices& m, const Row& x, const Stopped& s) const {
    const Row p = softmax(times(m.at("branch0.gate.weight"), x));
    Row y(x.size());
    for (std::size_t e = 0; e < 3; ++e) {
      const Row z = expert(m, e, x);
      for (std::size_t i = 0; e != s.left_out && i < y.size(); ++i) y[i] += p[e] * z[i];
    }
    return y;
  }
  Row operator()(const Matrices& m, const Row& x, const Stopped& s) const {
    Row logit = times(m.at("gate.weight"), x);
    for (std::size_t i = 0; i < 2; ++i) logit[i] += m.at("gate.bias")[i];
    const Row a = softmax(logit), first = routed(m, x, s), second = path_by_code(m, x, s);
    Row y(x.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = a[0] * first[i] + a[1] * second[i];
    return y;
  }
  /// sum dy y, and the loss `scale` times.
  double objective(const Matrices& m, const Values& x, const std::vector<Stopped>& s, const Values& dy,
                   double scale) const {
    double sum = 0;
    for (std::size_t t = 0; t < s.size(); ++t) {
      const Row row = row_of(x, t), y = (*this)(m, row, s[t]), v = code(m, s[t].code);
      for (std::size_t i = 0; i < y.size(); ++i) {
        sum += dy[t * y.size() + i] * y[i];
        sum += scale * loss / static_cast<double>(x.size()) *
               (std::pow(v[i] - s[t].x[i], 2) + commitment * std::pow(s[t].v[i] - row[i], 2));
      }
    }
    return sum;
  }
  static Row row_of(const Values& x, std::size_t t) {
    return {x.begin() + static_cast<Index>(t) * kWidth, x.begin() + static_cast<Index>(t + 1) * kWidth};
  }
};

/// A layer with drawn parameters, without the router's own loss.
moe::VqMoe<Router, Bank> drawn_layer(Parts& of, double contribution) {
  auto layer = moe::vq_moe(
      {.contribution = contribution}, of.codebook,
      moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2, .load_balance = 0}), of.bank);
  test::draw_parameters(layer, 7);
  return layer;
}

}  // namespace

TEST_CASE("vq_moe: plain loops, and their slopes behind what is stopped", "[vq]") {
  Parts& of = parts(0.5);
  auto layer = drawn_layer(of, 0.2);
  Matrices m = matrices_of(layer);
  Values x = test::normal_rows(3, kTokens, kWidth);
  const Values dy = test::normal_rows(4, kTokens, kWidth);
  const Plain plain{0.2, 0.5, 0.25};
  std::vector<Stopped> stopped;
  std::vector<bool> used(kCodes);
  for (std::size_t t = 0; t < kTokens; ++t) {
    stopped.push_back(Plain::stop(m, Plain::row_of(x, t)));
    used[stopped[t].code] = true;
  }
  CHECK(std::count(used.begin(), used.end(), true) > 2);

  test::Trained trained(layer, moe::LayerInput<double>(test::rows_of(std::as_const(x), kWidth)), dy, 0.6);
  double loss = 0;
  for (std::size_t t = 0; t < kTokens; ++t) {
    const Row y = plain(m, Plain::row_of(x, t), stopped[t]);
    for (std::size_t i = 0; i < y.size(); ++i) {
      CHECK(std::abs(trained.y[t * kWidth + i] - y[i]) <= 1e-12);
      loss += 0.5 * 1.25 * std::pow(stopped[t].x[i] - stopped[t].v[i], 2) / (kTokens * kWidth);
    }
  }
  CHECK(std::abs(trained.losses - loss) <= 1e-13);

  const auto slope = [&](double& at) {
    const double start = at, h = 1e-3;
    const auto value = [&](double by) {
      at = start + by;
      return plain.objective(m, x, stopped, dy, 0.6);
    };
    const double of_it = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
    at = start;
    return of_it;
  };
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::abs(trained.dx[i] - slope(x[i])) <= 1e-7);
  std::size_t seen = 0;
  layer.visit_parameters(trained.gradients, [&](const moe::Parameter<double>& p) {
    INFO(p.name);
    for (Index i = 0; i < p.value.size(); ++i) {
      const double got = p.gradient(i / p.value.cols, i % p.value.cols);
      CHECK(std::abs(got - slope(m.at(p.name)[static_cast<std::size_t>(i)])) <= 1e-7);
      ++seen;
    }
  });
  CHECK(seen == 8 + 2 + 12 + 3 * (12 + 3 + 12 + 4) + 20 + 8);  // the bank once
}

TEST_CASE("vq_moe: a gate that is one-hot gives each path alone", "[vq]") {
  Parts& of = parts(0.5);
  auto layer = drawn_layer(of, 0.05);
  const Matrices m = matrices_of(layer);
  const Values x = test::normal_rows(5, kTokens, kWidth);
  const Plain plain{0.05, 0.5, 0.25};
  for (const Index path : {0, 1}) {
    layer.visit_parameters([&](const moe::Parameter<double>& p) {
      if (std::string(p.name) == "gate.bias") p.value(path, 0) = 1000, p.value(1 - path, 0) = -1000;
    });
    moe::Workspace workspace;
    Values y(x.size()), alone(x.size());
    moe::LayerOutput<double> out(test::rows_of(y, kWidth)), to(test::rows_of(alone, kWidth));
    layer.forward(test::rows_of(x, kWidth), out, workspace);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const Row row = Plain::row_of(x, t);
      const Stopped s = Plain::stop(m, row);
      const Row want = path == 0 ? plain.routed(m, row, s) : plain.path_by_code(m, row, s);
      for (std::size_t i = 0; i < want.size(); ++i) {
        CHECK(std::abs(y[t * kWidth + i] - want[i]) <= 1e-12);
      }
    }
    if (path == 0) {
      std::get<0>(layer.layer().layers()).forward(test::rows_of(x, kWidth), to, workspace);
    } else {  // what is fine-tuned: the same bits without the routed path
      auto codes = moe::vq_path(moe::VqMoeOptions{}, of.codebook, of.bank);
      codes.frame() = std::move(std::get<1>(layer.layer().layers()).frame());
      codes.forward(test::rows_of(x, kWidth), to, workspace);
    }
    CHECK(test::same_bits(y, alone));
  }
}

TEST_CASE("vq_moe: the codebook's usage is among the state; bad arguments", "[vq]") {
  Parts& of = parts(0.5);
  auto layer = drawn_layer(of, 0.05);
  const Values x = test::normal_rows(6, kTokens, kWidth);
  of.codebook.collect(test::rows_of(x, kWidth));
  of.codebook.on_step_end({});
  std::vector<std::string> names;
  double sum = 0;
  layer.visit_state([&](const char* name, double* values, Index n) {
    names.push_back(name);
    for (Index i = 0; i < n; ++i) sum += values[i];
  });
  CHECK(names == std::vector<std::string>{"branch1.codebook.usage"});
  CHECK(std::abs(sum - 0.01) <= 1e-15);

  for (const double bad : {-0.1, 1.1, std::nan("")}) {
    CHECK_THROWS_AS(moe::vq_path({.contribution = bad}, of.codebook, of.bank), moe::config_error);
  }
  for (const double bad : {-0.1, std::nan("")}) {
    CHECK_THROWS_AS(moe::vq_path({.eps = bad}, of.codebook, of.bank), moe::config_error);
  }
  Codebook more({.width = kWidth, .experts = kExperts + 1}), wide({.width = kWidth + 1, .experts = kExperts});
  CHECK_THROWS_AS(moe::vq_path({}, more, of.bank), moe::config_error);
  CHECK_THROWS_AS(moe::vq_path({}, wide, of.bank), moe::config_error);
}
