#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace bench {
namespace {

/// test::dot of every row of W [rows, x.size()] with x, without its copies.
test::Row product(const std::vector<double>& w, Index rows, const test::Row& x) {
  const std::size_t n = x.size();
  std::vector<double> value(n), most(n);
  bool exact = true;
  for (std::size_t i = 0; i < n; ++i) {
    value[i] = x[i].v, most[i] = std::abs(x[i].v) + x[i].e;
    exact = exact && x[i].e == 0;
  }
  const double count = static_cast<double>(n) + 1, u = test::unit_roundoff;
  test::Row out;
  for (std::size_t o = 0; o < static_cast<std::size_t>(rows); ++o) {
    double sum = 0, magnitude = 0, error = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sum += w[o * n + i] * value[i];
      magnitude += std::abs(w[o * n + i]) * most[i];
    }
    for (std::size_t i = 0; i < n && !exact; ++i) error += std::abs(w[o * n + i]) * x[i].e;
    out.emplace_back(sum, error * (1 + 1e-6) + count * u / (1 - count * u) * magnitude + count * 0x1p-120);
  }
  return out;
}

/// Expected square of the relative error of a row that is rounded: steps of 2^-8 of each number's power of
/// two, or of the largest number's 127th part in each group of 32, or in the row; uniform errors have
/// variance step^2 / 12.
double relative_variance(const test::Row& row, RowFormat format) {
  const std::size_t group = format == RowFormat::int8_row ? std::max<std::size_t>(row.size(), 1) : 32;
  double error = 0, norm = 0;
  for (std::size_t begin = 0; begin < row.size(); begin += group) {
    const std::size_t end = std::min(begin + group, row.size());
    double largest = 0;
    for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(row[i].v));
    for (std::size_t i = begin; i < end; ++i) {
      const double step = format == RowFormat::bfloat16 ? std::abs(row[i].v) * 0x1p-7 : largest / 127;
      norm += row[i].v * row[i].v;
      error += step * step / 12;
    }
  }
  return norm > 0 ? error / norm : 0;
}

}  // namespace

RowReference::RowReference(const Shape& shape, std::vector<double> x, RowFormat format, double unit)
    : shape_(shape), format_(format), terms_(static_cast<std::size_t>(shape.D)) {
  test::unit_roundoff = unit;
  for (const double v : x) x_.emplace_back(v);
}

void RowReference::add(const ExpertWeights& expert, double weight) {
  test::Row hidden = product(expert.gate, shape_.F, x_);
  const test::Row up = product(expert.up, shape_.F, x_);
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    hidden[i] = test::activate(test::Act::silu, hidden[i]) * up[i];
  }
  const test::Row z = product(expert.down, shape_.D, hidden);
  weights_.emplace_back(weight);
  double norm = 0;
  for (std::size_t j = 0; j < z.size(); ++j) {
    terms_[j].push_back(z[j]);
    norm += weight * weight * z[j].v * z[j].v;
  }
  if (format_ == RowFormat::exact) return;
  // A relative error of x comes through gate and up, each with a slope of about one.
  variance_ += norm * (2 * relative_variance(x_, format_) + relative_variance(hidden, format_));
}

std::string RowReference::difference(const std::vector<double>& y) const {
  constexpr double kSlack = 2;  // over the expected norm: measured, all formats come within 1.2
  double square = 0;
  char text[160];
  for (std::size_t j = 0; j < y.size(); ++j) {
    const test::Bounded want = test::dot(terms_[j], weights_);
    const double off = std::abs(y[j] - want.v);
    square += off * off;
    if (format_ == RowFormat::exact && !(off <= 2 * want.e)) {
      std::snprintf(text, sizeof text, "column %zu: expected %g +- %g, got %g", j, want.v, 2 * want.e, y[j]);
      return text;
    }
  }
  if (format_ != RowFormat::exact && !(square <= kSlack * kSlack * variance_)) {
    std::snprintf(text, sizeof text, "norm of the difference: expected at most %g, got %g",
                  kSlack * std::sqrt(variance_), std::sqrt(square));
    return text;
  }
  return {};
}

}  // namespace bench
