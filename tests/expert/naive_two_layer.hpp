// One expert of two layers as plain loops over numbers with error bounds, forward and backward; parameters by
// their published names. Shares no code with the library.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "support/bounded.hpp"

namespace test {

using NamedParameters = std::map<std::string, std::vector<Row>>;  // [out][in]

template <class Bank>
NamedParameters parameters_of(Bank& bank) {
  NamedParameters all;
  using Real = typename Bank::Real;
  const ParameterVisit<Real> list = [&](const moe::Parameter<Real>& p) {
    std::vector<Row>& rows = all[p.name];
    for (Index o = 0; o < p.value.rows; ++o) {
      rows.emplace_back();
      for (Index i = 0; i < p.value.cols; ++i) rows.back().push_back(Bounded(p.value(o, i)));
    }
  };
  bank.visit_parameters(nullptr, list);
  return all;
}

inline Bounded act_slope(Act act, Bounded x) {
  if (act == Act::relu) return {x.v > 0 ? 1.0 : 0.0};
  if (act == Act::relu_squared) return function(2 * std::max(x.v, 0.0), x, 2, 1, 2 * std::abs(x.v));
  const double s = 1 / (1 + std::exp(-x.v));  // silu; |silu''| <= 1/2
  return function(s * (1 + x.v * (1 - s)), x, 0.5, 24, 1.1);
}

struct NaiveTwoLayer {
  const NamedParameters& parameter;
  std::string prefix;  // "experts.3."
  bool gated;
  Act act;
  Format format = Format::dense;  // rounds rows in front of both products, as if it were the identity

  struct Values {
    Row gate, up, hidden, z;
  };

  Bounded affine_at(const std::string& matrix, const Row& x, std::size_t o) const {
    const auto bias = parameter.find(prefix + matrix + ".bias");
    const Bounded y = dot(parameter.at(prefix + matrix + ".weight")[o], x);
    return bias == parameter.end() ? y : y + bias->second[o][0];
  }
  Row affine(const std::string& matrix, const Row& x) const {
    Row y;
    const std::size_t outputs = parameter.at(prefix + matrix + ".weight").size();
    for (std::size_t o = 0; o < outputs; ++o) y.push_back(affine_at(matrix, x, o));
    return y;
  }
  /// In front of the second layer.
  Values first_layer(const Row& row) const {
    Values v;
    const Row x = rounded_row(row, format);
    v.gate = affine(gated ? "gate_proj" : "fc1", x);
    for (const Bounded& g : v.gate) v.hidden.push_back(activate(act, g));
    if (gated) {
      v.up = affine("up_proj", x);
      for (std::size_t f = 0; f < v.up.size(); ++f) v.hidden[f] = v.hidden[f] * v.up[f];
    }
    return v;
  }
  Values forward(const Row& x) const {
    Values v = first_layer(x);
    v.z = affine(gated ? "down_proj" : "fc2", rounded_row(v.hidden, format));
    return v;
  }

  /// Factors of the sums over rows, by parameter name: gradient[o][i] = sum of left[row][o] * right[row][i].
  struct Factors {
    std::vector<Row> left, right;
  };

  /// Returns dx of one row; appends its factors of every parameter's gradient.
  Row backward(const Row& x, const Row& dy, Bounded weight, std::map<std::string, Factors>& sums) const {
    const Values v = forward(x);
    const std::string second = gated ? "down_proj" : "fc2";
    const std::vector<Row>& w2 = parameter.at(prefix + second + ".weight");
    Row dz, dgate, dup;
    for (const Bounded& d : dy) dz.push_back(weight * d);
    for (std::size_t f = 0; f < v.hidden.size(); ++f) {
      Row column;
      for (const Row& w : w2) column.push_back(w[f]);
      const Bounded dh = weight * dot(dy, column);
      dgate.push_back(gated ? dh * v.up[f] * act_slope(act, v.gate[f]) : dh * act_slope(act, v.gate[f]));
      if (gated) dup.push_back(dh * activate(act, v.gate[f]));
    }
    const auto add = [&](const std::string& matrix, const Row& left, const Row& right) {
      sums[prefix + matrix + ".weight"].left.push_back(left);
      sums[prefix + matrix + ".weight"].right.push_back(right);
      if (parameter.count(prefix + matrix + ".bias") == 0) return;
      sums[prefix + matrix + ".bias"].left.push_back(left);
      sums[prefix + matrix + ".bias"].right.push_back({Bounded(1)});
    };
    add(second, dz, v.hidden);
    add(gated ? "gate_proj" : "fc1", dgate, x);
    if (gated) add("up_proj", dup, x);
    Row dx;
    for (std::size_t j = 0; j < x.size(); ++j) {
      Row terms, factors;
      const auto collect = [&](const std::string& matrix, const Row& d) {
        const std::vector<Row>& w = parameter.at(prefix + matrix + ".weight");
        for (std::size_t f = 0; f < d.size(); ++f) {
          terms.push_back(d[f]);
          factors.push_back(w[f][j]);
        }
      };
      collect(gated ? "gate_proj" : "fc1", dgate);
      if (gated) collect("up_proj", dup);
      dx.push_back(dot(terms, factors));
    }
    return dx;
  }
};

/// Both are off by at most the bound, in double arithmetic at least.
inline bool within(double computed, const Bounded& expected) {
  return std::abs(computed - expected.v) <= 2 * expected.e;
}

/// z, dweight, dx and every gradient of the bank against the naive expert. `names`: a bank that shows all
/// parameters of gradients like those of `bank`.
template <class Bank, class Names>
void check_against_naive(const Bank& bank, const BankBatch<typename Bank::Real>& batch, bool gated, Act act,
                         const NamedParameters& parameter, Names& names, Format format) {
  using Real = typename Bank::Real;
  unit_roundoff = std::numeric_limits<Real>::epsilon() / 2;
  moe::SerialExecutor serial;
  typename Bank::Tape tape;
  typename Bank::Gradients gradients = bank.make_weight_gradients();
  const std::vector<Real> z = run_forward(bank, batch, &tape, serial);
  const BankBackward<Real> back = run_backward(bank, batch, tape, &gradients, true, serial);

  std::map<std::string, NaiveTwoLayer::Factors> sums;
  Index wrong_z = 0, wrong_dx = 0, wrong_dweight = 0;
  for (Index e = 0; e < batch.experts(); ++e) {
    const NaiveTwoLayer naive{parameter, "experts." + std::to_string(e) + ".", gated, act, format};
    const auto expert = static_cast<std::size_t>(e);
    const auto first = static_cast<std::size_t>(batch.offsets[expert]);
    const auto last = static_cast<std::size_t>(batch.offsets[expert + 1]);
    for (std::size_t s = first; s < last; ++s) {
      const auto width = static_cast<std::size_t>(batch.width);
      Row x, dy;
      for (std::size_t j = 0; j < width; ++j) {
        x.push_back(Bounded(batch.x[s * width + j]));
        dy.push_back(Bounded(batch.dy[s * width + j]));
      }
      const Row want = naive.forward(x).z, dx = naive.backward(x, dy, batch.weight[s], sums);
      for (std::size_t j = 0; j < width; ++j) {
        wrong_z += within(z[s * width + j], want[j]) ? 0 : 1;
        wrong_dx += within(back.dx[s * width + j], dx[j]) ? 0 : 1;
      }
      wrong_dweight += within(back.dweight[s], dot(dy, want)) ? 0 : 1;
    }
  }
  CHECK(wrong_z == 0);
  CHECK(wrong_dx == 0);
  CHECK(wrong_dweight == 0);

  std::size_t seen = 0;
  names.visit_parameters(&gradients, [&](const moe::Parameter<Real>& p) {
    INFO(p.name);
    const NaiveTwoLayer::Factors& factor = sums[p.name];  // none: an expert without rows, gradient exactly 0
    Index wrong = 0;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        Row left, right;
        for (std::size_t s = 0; s < factor.left.size(); ++s) {
          left.push_back(factor.left[s][static_cast<std::size_t>(o)]);
          right.push_back(factor.right[s][static_cast<std::size_t>(i)]);
        }
        wrong += within(p.gradient(o, i), dot(left, right)) ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
    ++seen;
  });
  CHECK(seen == parameter.size());
}

template <class Bank>
void check_against_naive(Bank& bank, const BankBatch<typename Bank::Real>& batch, bool gated, Act act) {
  check_against_naive(bank, batch, gated, act, parameters_of(bank), bank, Format::dense);
}

}  // namespace test
