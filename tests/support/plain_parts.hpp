// Every part of the router lists again, as plain loops in double over a batch, written from the formulas that
// the headers and their papers state: what tests/router/parts_differential_test.cpp compares the parts with.
// Of the library: parameters and state by their names, and the keyed draws.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/random.hpp"
#include "support/plain_routing.hpp"

namespace test {

/// Options of the parts, as test::sample_part and the test set them; else the documented defaults.
struct PlainOptions {
  std::size_t k = 3;  // of top_k
  double jitter = 0.1;
  std::string group = "highest";           // group_limited
  std::string mass = "exceeds";            // top_p
  std::size_t least = 1;                   // top_p
  double order = 2;                        // entropy
  bool fraction = true;                    // entropy
  std::string normalise = "none";          // gather
  double eps = 0, scale = 1, p = 1;        // gather
  std::string weights = "probability";     // moe_plus_plus
  std::size_t first_zero = 1, nulls = 0;   // moe_plus_plus; load_balance
  bool elide = false, first_only = false;  // leading; load_balance
  bool of_chosen = false;                  // sequence_balance
  bool most_likely = false;                // load_balance
  bool straight = false;                   // gate
  bool above = false;                      // ratio
};

/// A call on its way through the parts: each is a step that fills what the next ones read.
struct PlainBatch {
  static constexpr Index kOutputs = 8;

  const RouterCall<double>& call;
  const std::map<std::string, Matrix>& parameter;  // and state
  PlainOptions options{};
  Matrix logit{}, clean{}, noise{}, score{}, probability{}, choice{}, weight{};
  std::vector<std::vector<ExpertId>> chosen{};
  std::vector<std::vector<bool>> keep{};
  std::map<std::string, double> losses{};

  PlainBatch(const RouterCall<double>& c, const std::map<std::string, Matrix>& p, const PlainOptions& o)
      : call(c), parameter(p), options(o), chosen(rows()), keep(rows()) {}

  std::size_t rows() const { return static_cast<std::size_t>(call.tokens); }
  bool active(std::size_t t) const { return call.valid.empty() || call.valid[static_cast<Index>(t)]; }
  Vector x(std::size_t t) const {
    const auto first = call.x.begin() + static_cast<Index>(t) * call.width;
    return {first, first + call.width};
  }
  moe::KeyedRandom draws(moe::DrawStream stream) const { return {call.seed, call.step, stream}; }
  /// W x + b, without b where there is none.
  Vector affine(const std::string& name, const Vector& in) const {
    Vector y;
    const Matrix& w = parameter.at(name + ".weight");
    const auto b = parameter.find(name + ".bias");
    for (std::size_t o = 0; o < w.size(); ++o) {
      y.push_back(b == parameter.end() ? 0 : b->second[o][0]);
      for (std::size_t i = 0; i < in.size(); ++i) y[o] += w[o][i] * in[i];
    }
    return y;
  }
  std::vector<std::size_t> active_rows() const {
    std::vector<std::size_t> all;
    for (std::size_t t = 0; t < rows(); ++t) {
      if (active(t)) all.push_back(t);
    }
    return all;
  }
  /// [first, last) of every segment.
  std::vector<std::pair<std::size_t, std::size_t>> segments() const {
    if (call.segments.empty()) return {{0, rows()}};
    std::vector<std::pair<std::size_t, std::size_t>> all;
    for (std::size_t s = 0; s + 1 < call.segments.size(); ++s)
      all.emplace_back(call.segments[s], call.segments[s + 1]);
    return all;
  }
  /// Choices of active rows per output, the first `ranks` of each.
  Vector counts(std::size_t ranks = 1000) const { return test::counts(chosen, kOutputs, ranks); }
  Vector counts_with_outside(std::size_t ranks = 1000) const {
    Vector c = counts(ranks);
    for (std::size_t e = 0; e < call.outside_counts.size(); ++e) c[e] += call.outside_counts[e];
    return c;
  }
  Vector mean_probability(std::size_t first, std::size_t last) const {
    Matrix of;
    for (std::size_t t = first; t < last; ++t) {
      if (active(t)) of.push_back(probability[t]);
    }
    return column_means(of);
  }
};

/// Fills what the next steps read. "selection_bias" stands between score and selection.
using PlainStep = std::function<void(PlainBatch&)>;

/// By family and kName: "score softmax", "selection top_k", ...
const std::map<std::string, PlainStep>& plain_parts();
/// Those of them of the family "balance".
std::map<std::string, PlainStep> plain_balance_parts();

}  // namespace test
