// Numbers that know how wrong a computation of working precision may have got them: value in double, and a
// bound on |computed - value| by running error analysis (Higham, Accuracy and Stability, section 3.3). Sums
// bound any order.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

namespace test {

/// Unit roundoff of the computation that is judged: 2^-24 for float, 2^-53 for double.
inline double unit_roundoff = 0x1p-24;

struct Bounded {
  double v = 0;
  double e = 0;
  Bounded() = default;
  Bounded(double value, double error = 0) : v(value), e(error) {}  // NOLINT(google-explicit-constructor)
};
using Row = std::vector<Bounded>;

/// `value` came out of an operation whose operands carried `error`, and was rounded `roundings` times.
inline Bounded rounded(double value, double error, double roundings = 1) {
  const double u = unit_roundoff;
  // 2^-120: a product that underflows in float is off by less; the factor pays for rounding in this file.
  return {value, (error + roundings * u * (std::abs(value) + error)) * (1 + 1e-6) + 0x1p-120};
}
inline Bounded operator+(Bounded a, Bounded b) {
  return rounded(a.v + b.v, a.e + b.e);
}
inline Bounded operator-(Bounded a, Bounded b) {
  return rounded(a.v - b.v, a.e + b.e);
}
inline Bounded operator*(Bounded a, Bounded b) {
  return rounded(a.v * b.v, std::abs(a.v) * b.e + std::abs(b.v) * a.e + a.e * b.e);
}
/// The divisor must be farther from 0 than its error.
inline Bounded operator/(Bounded a, Bounded b) {
  const double least = std::max(std::abs(b.v) - b.e, 1e-300);
  return rounded(a.v / b.v, (a.e + std::abs(a.v / b.v) * b.e) / least);
}

/// sum of a[i] * b[i] in any order, fused or not: n roundings of everything.
inline Bounded dot(const Row& a, const Row& b) {
  double sum = 0, magnitude = 0, error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i].v * b[i].v;
    magnitude += (std::abs(a[i].v) + a[i].e) * (std::abs(b[i].v) + b[i].e);
    error += std::abs(a[i].v) * b[i].e + std::abs(b[i].v) * a[i].e + a[i].e * b[i].e;
  }
  const double n = static_cast<double>(a.size()) + 1;
  return {sum, error * (1 + 1e-6) + n * unit_roundoff / (1 - n * unit_roundoff) * magnitude + n * 0x1p-120};
}
inline Bounded sum(const Row& a) {
  return dot(a, Row(a.size(), Bounded(1)));
}

/// What weights are stored in: `dense` as the numbers that are computed with, the others in blocks. In the
/// order of moe::Storages.
enum class Format { dense, bf16, int8, int4, int8_channels, q4_k, q6_k };
inline constexpr std::initializer_list<Format> kBlockFormats = {
    Format::bf16, Format::int8, Format::int4, Format::int8_channels, Format::q4_k, Format::q6_k};

/// Rows as kernels of a block format read them: by half a step more wrong than they were. bf16 has 8 bits of
/// precision, steps of up to 2^-7 of a number. 8-bit codes of a group of 32, or of the row, have steps of
/// largest / 127; 2^-14 pays for the roundings of steps and codes, 2^-118 for groups that count as zeros.
inline Row rounded_row(Row row, Format format) {
  if (format == Format::dense) return row;
  const std::size_t group = format == Format::int8_channels ? row.size() : 32;
  for (std::size_t first = 0; first < row.size(); first += group) {
    const std::size_t last = std::min(row.size(), first + group);
    double largest = 0;
    for (std::size_t i = first; i < last; ++i) largest = std::max(largest, std::abs(row[i].v) + row[i].e);
    for (std::size_t i = first; i < last; ++i) {
      const double step = format == Format::bf16 ? 0x1p-7 * (std::abs(row[i].v) + row[i].e) : largest / 127;
      row[i].e += step / 2 * (1 + 0x1p-14) + 0x1p-118;
    }
  }
  return row;
}

/// f(x) with |f'| <= lipschitz near x and an implementation good to `ulps` units of roundoff of `scale`.
inline Bounded function(double value, Bounded x, double lipschitz, double ulps, double scale) {
  return {value, (lipschitz * x.e + ulps * unit_roundoff * scale) * (1 + 1e-6) + 0x1p-120};
}
inline Bounded exp(Bounded x) {
  const double value = std::exp(x.v);
  return function(value, x, value * std::exp(std::min(x.e, 50.0)), 8, value);
}
inline Bounded sigmoid(Bounded x) {
  const double value = 1 / (1 + std::exp(-x.v));
  return function(value, x, 0.25, 8, value);
}

/// softmax; entries of -inf get 0.
inline Row softmax(const Row& logit) {
  double top = -INFINITY;
  for (const Bounded& l : logit) top = std::max(top, l.v);
  Row p;
  for (const Bounded& l : logit) p.push_back(l.v == -INFINITY ? Bounded(0) : exp(l - Bounded(top)));
  const Bounded total = sum(p);
  for (Bounded& q : p) q = q / total;
  return p;
}

/// True if `a` (index i) comes before `b` (index j): higher first, then the lower index. Sets `ambiguous`
/// when rounding errors could have decided otherwise.
inline bool before(Bounded a, int i, Bounded b, int j, bool& ambiguous) {
  const bool exact_tie = a.v == b.v && a.e + b.e == 0;
  if (i != j && !exact_tie && std::abs(a.v - b.v) <= a.e + b.e) ambiguous = true;
  return a.v != b.v ? a.v > b.v : i < j;
}

/// Indices `of` in the order of before(). Every decision is looked at.
inline std::vector<int> ranked(const Row& s, std::vector<int> of, bool& ambiguous) {
  for (std::size_t i = 0; i < of.size(); ++i) {
    for (std::size_t j = i + 1; j < of.size(); ++j) {
      const auto a = static_cast<std::size_t>(of[j]), b = static_cast<std::size_t>(of[i]);
      if (before(s[a], of[j], s[b], of[i], ambiguous)) std::swap(of[i], of[j]);
    }
  }
  return of;
}

enum class Act { relu, relu_squared, silu, gelu_erf, gelu_tanh };

inline Bounded activate(Act act, Bounded x) {
  const double v = x.v;
  switch (act) {
    case Act::relu:
      return function(std::max(v, 0.0), x, 1, 0, 0);
    case Act::relu_squared:
      return v > 0 ? x * x : Bounded(0, x.e * x.e);
    case Act::silu:
      return x * sigmoid(x);
    case Act::gelu_erf:
      return function(0.5 * v * std::erfc(-v * M_SQRT1_2), x, 1.2, 16, std::abs(v));
    case Act::gelu_tanh:
      break;
  }
  const double t = std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v));
  return function(0.5 * v * (1 + t), x, 1.2, 16, std::abs(v));
}

}  // namespace test
