// A trained model without a layer: ranges of plain numbers, a parameter each.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"

namespace test {

using moe::Index;

template <class T>
struct PlainModel {
  using Real = T;
  struct Range {
    std::string name;
    Index rows, cols;
    bool frozen = false;
    std::vector<T> values, gradients;

    Range(const char* name_, Index rows_, Index cols_)
        : name(name_),
          rows(rows_),
          cols(cols_),
          values(static_cast<std::size_t>(size())),
          gradients(values) {}
    Index size() const { return rows * cols; }
  };
  std::vector<Range> ranges;

  /// Standard normal values, zero gradients.
  explicit PlainModel(std::vector<Range> shapes, std::uint64_t seed = 1) : ranges(std::move(shapes)) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (Range& r : ranges) {
      for (T& w : r.values) w = static_cast<T>(normal(random));
    }
  }

  /// Normal, a tenth of them 0.
  void draw_gradients(std::uint64_t seed, double size = 1) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (Range& r : ranges) {
      for (T& g : r.gradients) g = random() % 10 == 0 ? T{0} : static_cast<T>(size * normal(random));
    }
  }

  template <class Visitor>
  void visit_storage(Visitor&& f) {
    for (Range& r : ranges) {
      f(r.name.c_str(), r.values.data(), r.frozen ? nullptr : r.gradients.data(), r.size());
    }
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    for (Range& r : ranges) {
      f(moe::Parameter<T>{r.name.c_str(), {r.values.data(), r.rows, r.cols, 1, r.cols, 1}, {}});
    }
  }
};

/// A matrix of some stretches and a bit, a matrix and a vector.
template <class T>
PlainModel<T> plain_model(std::uint64_t seed = 1) {
  return PlainModel<T>({{"a.weight", 301, 100}, {"b.weight", 3, 5}, {"b.bias", 7, 1}}, seed);
}

template <class T>
bool same_values(const PlainModel<T>& a, const PlainModel<T>& b) {
  bool same = a.ranges.size() == b.ranges.size();
  for (std::size_t i = 0; same && i < a.ranges.size(); ++i) {
    same = a.ranges[i].values == b.ranges[i].values && a.ranges[i].gradients == b.ranges[i].gradients;
  }
  return same;
}

}  // namespace test
