// The result of a token's experts in double, with a bound on what the benchmarked computation may differ.
#pragma once

#include <string>
#include <vector>

#include "suite.hpp"
#include "support/bounded.hpp"

namespace bench {

/// How a bank rounds the rows of its products. Its weights are read back from it, so they are exact.
enum class RowFormat { exact, bfloat16, int8_groups, int8_row };

/// An expert's matrices as published, row-major: gate and up [F, D], down [D, F].
struct ExpertWeights {
  std::vector<double> gate, up, down;
};

/// y = sum over experts of weight * Wd (silu(Wg x) * (Wu x)) for one row x [D].
///
/// Exact rows: every element has a bound by running error analysis. Rounded rows: worst cases of thousands of
/// roundings that all conspire would bound nothing, so the norm of the difference is held against the
/// expected one: uniformly distributed errors of each row's own steps, through both products.
class RowReference {
 public:
  /// `unit`: roundoff of the arithmetic, 2^-24 for float.
  RowReference(const Shape& shape, std::vector<double> x, RowFormat format, double unit);
  void add(const ExpertWeights& expert, double weight);
  /// What is wrong with y [D]; empty if nothing.
  std::string difference(const std::vector<double>& y) const;

 private:
  Shape shape_;
  RowFormat format_;
  test::Row x_;
  std::vector<test::Row> terms_;  // [D], one entry an expert
  test::Row weights_;
  double variance_ = 0;  // of the whole difference's norm
};

}  // namespace bench
