// Plain loops in double for layers of merged experts without a gate: y = W2 act(W1 x + b1) + b2, each number
// of W and b a mixture of the experts' by the weights of its head.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/visits.hpp"

namespace test {

using moe::Index;
using Values = std::vector<double>;

/// Parameters of a layer by name, row-major.
template <class L>
std::map<std::string, Values> layer_parameters(const L& layer) {
  std::map<std::string, Values> all;
  const ParameterVisit<const double> list = [&](const moe::Parameter<const double>& p) {
    Values& to = all[p.name];
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) to.push_back(p.value(o, i));
    }
  };
  layer.visit_parameters(list);
  return all;
}

/// Standard normal times `scale`.
template <class L>
void draw_parameters(L& layer, unsigned seed, double scale = 0.5) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const ParameterVisit<double> draw = [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = scale * normal(random);
    }
  };
  layer.visit_parameters(draw);
}

inline Values random_rows(Index rows, Index width, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Values x(static_cast<std::size_t>(rows * width));
  for (double& v : x) v = normal(random);
  return x;
}
inline moe::ConstMatrixView<double> view(const Values& x, Index width) {
  return {x.data(), static_cast<Index>(x.size()) / width, width};
}
inline moe::MatrixView<double> view(Values& x, Index width) {
  return {x.data(), static_cast<Index>(x.size()) / width, width};
}

/// Row x [D] through the mixture p [H, E] of the experts `all`.
inline Values plain_merged_row(std::map<std::string, Values>& all, const Values& p, Index heads,
                               Index experts, const double* x, Index width, Index hidden,
                               const std::function<double(double)>& act) {
  const auto mixed = [&](const char* matrix, std::size_t at, Index column) {
    double sum = 0;
    for (Index e = 0; e < experts; ++e) {
      const Values& own = all["experts." + std::to_string(e) + "." + matrix];
      const Index head = column * heads / width;
      if (!own.empty()) sum += p[static_cast<std::size_t>(head * experts + e)] * own[at];
    }
    return sum;
  };
  Values h(static_cast<std::size_t>(hidden)), y(static_cast<std::size_t>(width));
  for (Index f = 0; f < hidden; ++f) {
    double pre = mixed("fc1.bias", static_cast<std::size_t>(f), 0);
    for (Index d = 0; d < width; ++d)
      pre += mixed("fc1.weight", static_cast<std::size_t>(f * width + d), d) * x[d];
    h[static_cast<std::size_t>(f)] = act(pre);
  }
  for (Index d = 0; d < width; ++d) {
    double z = mixed("fc2.bias", static_cast<std::size_t>(d), d);
    for (Index f = 0; f < hidden; ++f) {
      z += mixed("fc2.weight", static_cast<std::size_t>(d * hidden + f), d) * h[static_cast<std::size_t>(f)];
    }
    y[static_cast<std::size_t>(d)] = z;
  }
  return y;
}

template <class L>
Values run_layer(const L& layer, const moe::LayerInput<double>& in, moe::RouteStats* stats = nullptr) {
  Values y(static_cast<std::size_t>(in.x.rows * layer.width()), -7);
  moe::LayerOutput<double> out(view(y, layer.width()), stats);
  moe::Workspace workspace;
  layer.forward(in, out, workspace, serial());
  return y;
}
template <class L>
Values train_layer(const L& layer, const moe::LayerInput<double>& in, typename L::Tape& tape) {
  Values y(static_cast<std::size_t>(in.x.rows * layer.width()), -7);
  moe::LayerOutput<double> out(view(y, layer.width()));
  moe::Workspace workspace;
  layer.forward_train(in, out, tape, workspace, serial());
  return y;
}

/// Largest |a - b|; infinite for another size or a NaN.
inline double distance(const Values& a, const Values& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const double d = std::fabs(a[i] - b[i]);
    most = d <= most ? most : (std::isnan(d) ? INFINITY : d);
  }
  return most;
}

/// d sum(dy * y) / d theta by central differences, with the draws of one call, of every number of every
/// parameter against what backward gives; returns the largest difference over 1 + |gradient|.
/// `more(gradients)` may freeze parts.
template <class L>
double gradient_error(L& layer, const moe::LayerInput<double>& call, std::uint64_t seed) {
  const Index width = layer.width();
  const Values dy = random_rows(call.x.rows, width, 77);
  moe::DrawCounter draws(seed);
  moe::LayerInput<double> in = call;
  const auto value = [&] {
    moe::DrawCounter same(seed);
    in.draws = &same;
    auto tape = layer.make_tape();
    const Values y = train_layer(layer, in, tape);
    double sum = 0;
    for (Index t = 0; t < in.x.rows; ++t) {
      for (Index j = 0; j < width; ++j) {
        const auto i = static_cast<std::size_t>(t * width + j);
        if (std::isfinite(y[i])) sum += dy[i] * y[i];
      }
    }
    return sum;
  };
  auto tape = layer.make_tape();
  in.draws = &draws;
  train_layer(layer, in, tape);
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  layer.backward(tape, typename L::LayerGradients(view(dy, width), {}, gradients), workspace, serial());
  double worst = 0;
  const ParameterVisit<double> compare = [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        const double own = p.value(o, i), step = 1e-5;
        p.value(o, i) = own + step;
        const double above = value();
        p.value(o, i) = own - step;
        const double below = value();
        p.value(o, i) = own;
        const double got = p.gradient(o, i);
        worst = std::max(worst, std::fabs((above - below) / (2 * step) - got) / (1 + std::fabs(got)));
      }
    }
  };
  layer.visit_parameters(gradients, compare);
  return worst;
}

}  // namespace test
