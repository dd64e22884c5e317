// Pieces of routing again, as plain loops in double: what the tests of single routers compare with. No code
// of the library but its parameters' values and its keyed draws.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "support/router_laws.hpp"

namespace test {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;

/// Rounding of double in the tests' small routers: sums of less than 100 terms of size 1 or so, some dozens
/// of operations deep, are good to 1e4 units of 1e-16.
inline constexpr double kRounding = 1e-12;

inline bool near(double a, double b, double bound = kRounding) {
  return std::abs(a - b) <= bound * (1 + std::abs(b));
}

/// A parameter by its name, [out][in].
template <class R>
Matrix parameter(R& router, const std::string& name) {
  Matrix found;
  auto look = [&](const moe::Parameter<typename R::Real>& p) {
    if (name != p.name) return;
    for (Index o = 0; o < p.value.rows; ++o) {
      found.emplace_back();
      for (Index i = 0; i < p.value.cols; ++i) found.back().push_back(static_cast<double>(p.value(o, i)));
    }
  };
  router.visit_parameters(nullptr, look);
  REQUIRE(!found.empty());
  return found;
}

/// Sets a parameter.
template <class R>
void set_parameter(R& router, const std::string& name, const Matrix& values) {
  bool found = false;
  auto set = [&](const moe::Parameter<typename R::Real>& p) {
    if (name != p.name) return;
    found = true;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        p.value(o, i) =
            static_cast<typename R::Real>(values[static_cast<std::size_t>(o)][static_cast<std::size_t>(i)]);
      }
    }
  };
  router.visit_parameters(nullptr, set);
  REQUIRE(found);
}

/// The identity: a router whose logits are its rows.
inline Matrix identity(Index n) {
  Matrix m(static_cast<std::size_t>(n), Vector(static_cast<std::size_t>(n), 0));
  for (std::size_t i = 0; i < m.size(); ++i) m[i][i] = 1;
  return m;
}

/// A call with these rows.
template <class Real = double>
RouterCall<Real> call_of(const Matrix& rows) {
  RouterCall<Real> call =
      random_call<Real>(static_cast<Index>(rows.size()), static_cast<Index>(rows.at(0).size()), 1);
  auto to = call.x.begin();
  for (const Vector& row : rows) {
    for (const double v : row) *to++ = static_cast<Real>(v);
  }
  return call;
}

/// Logarithms, as logits whose softmax these are.
inline Matrix logs(Matrix rows) {
  for (Vector& row : rows) {
    for (double& v : row) v = std::log(v);
  }
  return rows;
}

template <class Real>
Matrix linear(const Matrix& weight, const RouterCall<Real>& call) {
  Matrix y;
  for (Index t = 0; t < call.tokens; ++t) {
    y.emplace_back();
    for (const Vector& w : weight) {
      double sum = 0;
      for (std::size_t i = 0; i < w.size(); ++i) {
        sum += w[i] * static_cast<double>(call.x[static_cast<std::size_t>(t * call.width) + i]);
      }
      y.back().push_back(sum);
    }
  }
  return y;
}

inline Vector softmax(const Vector& logit) {
  const double top = *std::max_element(logit.begin(), logit.end());
  Vector p;
  double sum = 0;
  for (const double l : logit) sum += std::exp(l - top);
  for (const double l : logit) p.push_back(std::exp(l - top) / sum);
  return p;
}

/// Ids by descending score, equal ones by ascending id; the first k.
inline std::vector<ExpertId> best(const Vector& score, Index k) {
  std::vector<ExpertId> ids(score.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::sort(ids.begin(), ids.end(), [&](ExpertId a, ExpertId b) {
    const double of_a = score[static_cast<std::size_t>(a)], of_b = score[static_cast<std::size_t>(b)];
    return of_a != of_b ? of_a > of_b : a < b;
  });
  ids.resize(static_cast<std::size_t>(k));
  return ids;
}

/// How many of the rows' choices fell on each of n outputs, the first `ranks` of each row.
inline Vector counts(const std::vector<std::vector<ExpertId>>& chosen, Index n, std::size_t ranks = 1000) {
  Vector c(static_cast<std::size_t>(n), 0);
  for (const auto& ids : chosen) {
    for (std::size_t i = 0; i < ids.size() && i < ranks; ++i) c[static_cast<std::size_t>(ids[i])] += 1;
  }
  return c;
}

inline double total(const Vector& v) {
  return std::accumulate(v.begin(), v.end(), 0.0);
}

/// Mean over rows of every column.
inline Vector column_means(const Matrix& rows) {
  Vector mean(rows.at(0).size(), 0);
  for (const Vector& row : rows) {
    for (std::size_t e = 0; e < row.size(); ++e) mean[e] += row[e] / static_cast<double>(rows.size());
  }
  return mean;
}

/// N sum of f_e P_e.
inline double load_balance(const Vector& count, const Matrix& probability) {
  const Vector mean = column_means(probability);
  double sum = 0;
  for (std::size_t e = 0; e < mean.size(); ++e) sum += count[e] / total(count) * mean[e];
  return sum * static_cast<double>(mean.size());
}

/// Variance over squared mean; 0 for zeros.
inline double squared_variation(const Vector& v) {
  const double mean = total(v) / static_cast<double>(v.size());
  if (mean == 0) return 0;
  double variance = 0;
  for (const double x : v) variance += (x - mean) * (x - mean) / static_cast<double>(v.size());
  return variance / (mean * mean);
}

/// The pairs of a token, weights to rounding.
template <class Real>
void check_pairs(const Routed<Real>& routed, Index t, const std::vector<ExpertId>& ids, const Vector& weights,
                 double bound = kRounding) {
  INFO("token " << t);
  REQUIRE(routed.experts_of(t) == ids);
  const auto actual = routed.weights_of(t);
  REQUIRE(actual.size() == weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    INFO("choice " << i << ": " << actual[i] << ", expected " << weights[i]);
    CHECK(near(static_cast<double>(actual[i]), weights[i], bound));
  }
}

/// A loss by its name.
template <class Real>
double loss_of(const Routed<Real>& routed, const std::string& name) {
  for (std::size_t i = 0; i < routed.losses.size(); ++i) {
    if (routed.loss_names[i] == name) return routed.losses[i];
  }
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace test
