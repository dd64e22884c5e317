// Reverse-mode differentiation of computations on Bounded numbers: values and gradients that know how wrong
// float arithmetic may have got them. One tape at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "support/bounded.hpp"

namespace test {

class Recording {
 public:
  struct Node {
    Bounded value;
    std::size_t first, count;  // of its parents
  };
  std::vector<Node> nodes;
  std::vector<std::uint32_t> parent;
  std::vector<Bounded> partial;

  std::uint32_t add(Bounded value, std::initializer_list<std::pair<std::uint32_t, Bounded>> from) {
    nodes.push_back({value, parent.size(), from.size()});
    for (const auto& [p, d] : from) {
      parent.push_back(p);
      partial.push_back(d);
    }
    return static_cast<std::uint32_t>(nodes.size() - 1);
  }

  /// d (sum of seeds * nodes) / d node, for every node.
  std::vector<Bounded> backward(const std::vector<std::pair<std::uint32_t, double>>& seeds) const {
    std::vector<Bounded> adjoint(nodes.size());
    for (const auto& [id, seed] : seeds) adjoint[id] = adjoint[id] + Bounded(seed);
    for (std::size_t i = nodes.size(); i-- > 0;) {
      const Bounded own = adjoint[i];
      if (own.v == 0 && own.e == 0) continue;
      for (std::size_t p = nodes[i].first; p < nodes[i].first + nodes[i].count; ++p) {
        adjoint[parent[p]] = adjoint[parent[p]] + own * partial[p];
      }
    }
    return adjoint;
  }
};

inline Recording* recording = nullptr;

/// A number on the tape.
struct Var {
  std::uint32_t id = 0;
  Var() : Var(Bounded(0)) {}
  Var(double exact) : Var(Bounded(exact)) {}             // NOLINT(google-explicit-constructor)
  Var(Bounded value) : id(recording->add(value, {})) {}  // NOLINT(google-explicit-constructor)
  static Var of(std::uint32_t id) {
    Var v(id, 0);
    return v;
  }
  Bounded value() const { return recording->nodes[id].value; }

 private:
  Var(std::uint32_t i, int) : id(i) {}
};
using Vars = std::vector<Var>;

inline Var operator+(Var a, Var b) {
  return Var::of(recording->add(a.value() + b.value(), {{a.id, 1}, {b.id, 1}}));
}
inline Var operator-(Var a, Var b) {
  return Var::of(recording->add(a.value() - b.value(), {{a.id, 1}, {b.id, -1}}));
}
inline Var operator*(Var a, Var b) {
  return Var::of(recording->add(a.value() * b.value(), {{a.id, b.value()}, {b.id, a.value()}}));
}
inline Var operator/(Var a, Var b) {
  const Bounded q = a.value() / b.value();
  return Var::of(recording->add(q, {{a.id, Bounded(1) / b.value()}, {b.id, Bounded(-1) * (q / b.value())}}));
}
inline Var dot(const Vars& a, const Vars& b) {
  Row x, y;
  for (const Var& v : a) x.push_back(v.value());
  for (const Var& v : b) y.push_back(v.value());
  const std::uint32_t id = recording->add(dot(x, y), {});
  Recording::Node& node = recording->nodes[id];
  node.count = 2 * a.size();
  for (std::size_t i = 0; i < a.size(); ++i) {
    recording->parent.push_back(a[i].id);
    recording->partial.push_back(y[i]);
    recording->parent.push_back(b[i].id);
    recording->partial.push_back(x[i]);
  }
  return Var::of(id);
}
inline Var sum(const Vars& a) {
  return dot(a, Vars(a.size(), Var(1.0)));
}

/// f(x), from f and its derivative in double; implementations good to 16 units of roundoff of |f| and of
/// 1 + |x| times |f'| (activation_policy.hpp: gelu (14 + 2 x^2), x below 4 where that matters).
template <class F, class D>
Var apply(const F& f, const D& derivative, Var x) {
  const Bounded in = x.value();
  const double v = f(in.v), d = derivative(in.v);
  // Slopes over the interval that the argument's error spans, ends and middle.
  double slope = std::abs(d), change = 0;
  for (const double at : {in.v - in.e, in.v + in.e}) {
    slope = std::max(slope, std::abs(derivative(at)));
    change = std::max(change, std::abs(derivative(at) - d));
  }
  const double u = unit_roundoff, units = 16 * (1 + std::abs(in.v));
  const Bounded value(v, slope * in.e * 1.01 + units * u * std::abs(v) + 0x1p-120);
  const Bounded partial(d, change * 1.01 + units * u * std::abs(d) + 16 * u * std::abs(v) + 0x1p-120);
  return Var::of(recording->add(value, {{x.id, partial}}));
}

inline double logistic(double x) {
  return 1 / (1 + std::exp(-x));
}
inline Var sigmoid(Var x) {
  return apply(
      logistic, [](double v) { return logistic(v) * logistic(-v); }, x);
}
inline Var tanh(Var x) {
  return apply([](double v) { return std::tanh(v); },
               [](double v) { return 1 / (std::cosh(v) * std::cosh(v)); }, x);
}
inline Var exp(Var x) {
  const auto f = [](double v) { return std::exp(v); };
  return apply(f, f, x);
}
inline Var sqrt(Var x) {
  return apply([](double v) { return std::sqrt(std::max(v, 0.0)); },
               [](double v) { return 0.5 / std::sqrt(std::max(v, 1e-30)); }, x);
}
inline Var softplus(Var x) {
  return apply([](double v) { return v > 0 ? v + std::log1p(std::exp(-v)) : std::log1p(std::exp(v)); },
               logistic, x);
}
/// min(max(x, low), high).
inline Var clamp(Var x, double low, double high) {
  return apply([=](double v) { return std::min(std::max(v, low), high); },
               [=](double v) { return v < low || v > high ? 0.0 : 1.0; }, x);
}
/// softmax of those with their bit in `counts`; 0 for the others.
inline Vars softmax(const Vars& logit, const std::vector<bool>& counts) {
  double top = -INFINITY;
  for (std::size_t i = 0; i < logit.size(); ++i) {
    if (counts[i]) top = std::max(top, logit[i].value().v);
  }
  Vars p(logit.size()), terms;
  for (std::size_t i = 0; i < logit.size(); ++i) {
    if (!counts[i]) continue;
    p[i] = exp(logit[i] - Var(top));
    terms.push_back(p[i]);
  }
  const Var total = sum(terms);
  for (std::size_t i = 0; i < logit.size(); ++i) {
    if (counts[i]) p[i] = p[i] / total;
  }
  return p;
}

}  // namespace test
