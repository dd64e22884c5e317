// What tests of layers of layers share: rows, one training call, and a Mixture-of-Experts row by row in plain
// loops over the parameters that a layer shows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/visits.hpp"

namespace test {

using Values = std::vector<double>;

/// Standard normal rows [tokens, width].
template <class Real = double>
std::vector<Real> normal_rows(std::uint64_t seed, moe::Index tokens, moe::Index width) {
  std::mt19937_64 random(seed);
  std::normal_distribution<Real> normal;
  std::vector<Real> x(static_cast<std::size_t>(tokens * width));
  for (Real& v : x) v = normal(random);
  return x;
}
template <class Real>
moe::ConstMatrixView<Real> rows_of(const std::vector<Real>& x, moe::Index width) {
  return {x.data(), static_cast<moe::Index>(x.size()) / width, width};
}
template <class Real>
moe::MatrixView<Real> rows_of(std::vector<Real>& x, moe::Index width) {
  return {x.data(), static_cast<moe::Index>(x.size()) / width, width};
}

/// Normal parameters over the root of their inputs.
template <class L>
void draw_parameters(L& layer, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  using Real = typename L::Real;
  const ParameterVisit<Real> draw = [&](const moe::Parameter<Real>& p) {
    const double scale = 1 / std::sqrt(static_cast<double>(p.value.cols));
    for (moe::Index i = 0; i < p.value.size(); ++i) {
      p.value(i / p.value.cols, i % p.value.cols) = static_cast<Real>(scale * normal(random));
    }
  };
  layer.visit_parameters(draw);
}

/// All gradients of a layer, in the order of its storage.
template <class L>
std::vector<typename L::Real> flat_gradients(L& layer, typename L::Gradients& gradients) {
  using Real = typename L::Real;
  std::vector<Real> all;
  const StorageVisit<Real> append = [&](const char*, Real*, Real* g, moe::Index n) {
    all.insert(all.end(), g, g + n);
  };
  layer.visit_storage(gradients, append);
  return all;
}
/// Those of a part of one.
template <class Part>
Values part_gradients(Part& part, typename Part::Gradients& gradients) {
  Values all;
  const StorageVisit<double> append = [&](const char*, double*, double* g, moe::Index n) {
    all.insert(all.end(), g, g + n);
  };
  part.visit_storage(&gradients, append);
  return all;
}

/// y, dx, losses and gradients of one training call, the losses taken `scale` times.
template <class L>
struct Trained {
  using Real = typename L::Real;
  std::vector<Real> y, dx;
  double losses = 0;
  typename L::Tape tape;
  typename L::Gradients gradients;

  Trained(const L& layer, const moe::LayerInput<Real>& in, const std::vector<Real>& dy, double scale = 0.7)
      : y(dy.size()),
        dx(static_cast<std::size_t>(in.x.rows * in.x.cols)),
        tape(layer.make_tape()),
        gradients(layer.make_gradients()) {
    moe::Workspace workspace;
    const moe::Index out_width = in.x.rows == 0 ? in.x.cols : static_cast<moe::Index>(dy.size()) / in.x.rows;
    moe::LayerOutput<Real> out(rows_of(y, out_width));
    layer.forward_train(in, out, tape, workspace, serial());
    losses = out.losses.total();
    typename L::LayerGradients to(rows_of(dy, out_width), rows_of(dx, in.x.cols), gradients);
    to.auxiliary_scale = scale;
    layer.backward(tape, to, workspace, serial());
  }
};

/// A Mixture of SiLU experts (fc1, fc2) behind a softmax, of the k best, read from a layer's parameters whose
/// names begin with `prefix`; long double.
class PlainMixture {
 public:
  template <class L>
  PlainMixture(const L& layer, const std::string& gate, const std::string& experts, moe::Index k) : k_(k) {
    using Real = typename L::Real;
    const ParameterVisit<const Real> list = [&](const moe::Parameter<const Real>& p) {
      const std::string name = p.name;
      const auto is = [&](const std::string& prefix) { return name.starts_with(prefix); };
      if (!is(gate + "gate.") && !is(experts + "experts.")) return;
      Matrix& m = matrix_[is(gate + "gate.") ? name.substr(gate.size()) : name.substr(experts.size())];
      m.cols = p.value.cols;
      for (moe::Index i = 0; i < p.value.size(); ++i) {
        m.value.push_back(p.value(i / p.value.cols, i % p.value.cols));
      }
    };
    layer.visit_parameters(list);
  }

  using Row = std::vector<long double>;
  moe::Index experts() const { return matrix_.at("gate.weight").rows(); }
  Row logits(const Row& x) const { return matrix_.at("gate.weight").times(x); }
  Row shares(const Row& x) const { return softmax(logits(x)); }
  static Row softmax(Row v) {
    const long double most = *std::max_element(v.begin(), v.end());
    long double sum = 0;
    for (long double& p : v) sum += p = std::exp(p - most);
    for (long double& p : v) p /= sum;
    return v;
  }
  Row expert(moe::Index e, const Row& x) const {
    const std::string name = "experts." + std::to_string(e);
    Row hidden = matrix_.at(name + ".fc1.weight").times(x);
    for (long double& h : hidden) h /= 1 + std::exp(-h);
    return matrix_.at(name + ".fc2.weight").times(hidden);
  }
  /// Sum of the k best experts' results, by their shares of all.
  Row operator()(const Row& x) const {
    const Row p = shares(x);
    std::vector<moe::Index> order(p.size());
    std::iota(order.begin(), order.end(), moe::Index{0});
    std::stable_sort(order.begin(), order.end(), [&](moe::Index a, moe::Index b) {
      return p[static_cast<std::size_t>(a)] > p[static_cast<std::size_t>(b)];
    });
    Row y(x.size());
    for (moe::Index i = 0; i < k_; ++i) {
      const moe::Index e = order[static_cast<std::size_t>(i)];
      const Row z = expert(e, x);
      for (std::size_t j = 0; j < y.size(); ++j) y[j] += p[static_cast<std::size_t>(e)] * z[j];
    }
    return y;
  }

 private:
  struct Matrix {
    moe::Index cols = 0;
    Row value;
    moe::Index rows() const { return static_cast<moe::Index>(value.size()) / cols; }
    Row times(const Row& x) const {
      Row y(static_cast<std::size_t>(rows()));
      for (std::size_t i = 0; i < value.size(); ++i) {
        y[i / static_cast<std::size_t>(cols)] += value[i] * x[i % static_cast<std::size_t>(cols)];
      }
      return y;
    }
  };

  std::map<std::string, Matrix> matrix_;
  moe::Index k_;
};

/// Row t of rows [T, width].
inline PlainMixture::Row plain_row(const Values& x, moe::Index t, moe::Index width) {
  return {x.begin() + t * width, x.begin() + (t + 1) * width};
}

/// Whether all of `actual` are within `relative` times the largest of `expected` (and 1).
inline bool close_rows(const Values& actual, const PlainMixture::Row& expected, double relative) {
  long double most = 1;
  for (const long double v : expected) most = std::max(most, std::fabs(v));
  if (actual.size() != expected.size()) return false;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!(std::fabs(actual[i] - expected[i]) <= relative * most)) return false;
  }
  return true;
}

}  // namespace test
