#include "moe/product/row_mix.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;

/// Groups of 3, 0, 1 and 70 in rows and 2, 3, 5 and 40 out rows, wider than two panels and no multiple.
template <class T>
struct Mixing {
  static constexpr Index kWidth = 2 * moe::kPanel<T> + 5;
  std::vector<Index> in_offsets{0, 3, 3, 4, 74}, out_offsets{0, 2, 5, 10, 50};
  std::vector<std::vector<T>> in, weight, out;
  std::vector<const T*> in_row, weight_row;
  std::vector<T*> out_row;

  Mixing() {
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    const auto draw = [&](std::size_t n) {
      std::vector<T> row(n);
      for (T& v : row) v = static_cast<T>(normal(random));
      return row;
    };
    for (Index r = 0; r < in_offsets.back(); ++r) in.push_back(draw(kWidth));
    for (std::size_t g = 0; g + 1 < out_offsets.size(); ++g) {
      for (Index o = out_offsets[g]; o < out_offsets[g + 1]; ++o) {
        weight.push_back(draw(static_cast<std::size_t>(in_offsets[g + 1] - in_offsets[g])));
        out.push_back(draw(kWidth));
      }
    }
    for (const auto& row : in) in_row.push_back(row.data());
    for (const auto& row : weight) weight_row.push_back(row.data());
    for (auto& row : out) out_row.push_back(row.data());
  }
  moe::RowMix<T> mix() const {
    return {4, in_offsets.data(), out_offsets.data(), in_row.data(), weight_row.data(), kWidth};
  }
  std::size_t group_of(std::size_t o) const {
    std::size_t g = 0;
    while (out_offsets[g + 1] <= static_cast<Index>(o)) ++g;
    return g;
  }
  /// f(out row, in row, place of the in row in its group).
  template <class F>
  void each(F f) const {
    for (std::size_t o = 0; o < out.size(); ++o) {
      const std::size_t g = group_of(o);
      for (Index i = in_offsets[g]; i < in_offsets[g + 1]; ++i) {
        f(o, static_cast<std::size_t>(i), static_cast<std::size_t>(i - in_offsets[g]));
      }
    }
  }
};

template <class T>
moe::Arena arena_for(moe::Workspace& memory) {
  moe::Arena measuring;
  moe::measure_mix_rows<T>(measuring, 4, 74, Mixing<T>::kWidth);
  measuring.rewind(0);
  moe::measure_mix_weight_gradients<T>(measuring, 4, 74, Mixing<T>::kWidth, 3);
  return memory.arena(measuring.bytes());
}

}  // namespace

TEMPLATE_TEST_CASE("rows are mixed in their groups", "[product][smoke]", float, double) {
  using T = TestType;
  const bool add = GENERATE(false, true);
  Mixing<T> m;
  m.in_row[2] = nullptr;  // counts as zeros
  for (T& v : m.in[2]) v = 0;
  std::vector<std::vector<double>> expected(m.out.size()), size = expected;
  for (std::size_t o = 0; o < m.out.size(); ++o) {
    expected[o].assign(Mixing<T>::kWidth, 0);
    size[o].assign(Mixing<T>::kWidth, 0);
    for (std::size_t j = 0; add && j < expected[o].size(); ++j) {
      expected[o][j] = static_cast<double>(m.out[o][j]);
      size[o][j] = std::abs(expected[o][j]);
    }
  }
  m.each([&](std::size_t o, std::size_t i, std::size_t place) {
    for (std::size_t j = 0; j < expected[o].size(); ++j) {
      const double term = static_cast<double>(m.weight[o][place]) * static_cast<double>(m.in[i][j]);
      expected[o][j] += term;
      size[o][j] += std::abs(term);
    }
  });
  moe::Workspace memory;
  moe::Arena arena = arena_for<T>(memory);
  moe::PoolExecutor pool(3);
  moe::mix_rows(m.mix(), m.out_row.data(), add, arena, pool);
  const double u = 75 * std::numeric_limits<T>::epsilon();
  bool close = true;
  for (std::size_t o = 0; o < m.out.size(); ++o) {
    for (std::size_t j = 0; j < expected[o].size(); ++j) {
      close = close && std::abs(static_cast<double>(m.out[o][j]) - expected[o][j]) <= u * size[o][j];
    }
  }
  CHECK(close);
}

TEMPLATE_TEST_CASE("weights of mixed rows get their gradients, and are transposed", "[product]", float,
                   double) {
  using T = TestType;
  const Mixing<T> m;
  std::vector<std::vector<T>> d = m.weight;
  std::vector<T*> d_row;
  std::vector<const T*> dout;
  for (auto& row : d) d_row.push_back(row.data());
  for (const auto& row : m.out) dout.push_back(row.data());
  moe::Workspace memory;
  moe::Arena arena = arena_for<T>(memory);
  moe::PoolExecutor pool(3);
  moe::mix_weight_gradients(m.mix(), dout.data(), d_row.data(), arena, pool);
  bool close = true;
  m.each([&](std::size_t o, std::size_t i, std::size_t place) {
    double sum = 0, size = 0;
    for (std::size_t j = 0; j < m.in[i].size(); ++j) {
      const double term = static_cast<double>(m.out[o][j]) * static_cast<double>(m.in[i][j]);
      sum += term, size += std::abs(term);
    }
    const double u = 80 * std::numeric_limits<T>::epsilon();
    close = close && std::abs(static_cast<double>(d[o][place]) - sum) <= u * size;
  });
  CHECK(close);

  std::vector<std::vector<T>> turned(m.in.size());
  std::vector<T*> turned_row;
  for (std::size_t i = 0; i < m.in.size(); ++i) {
    turned[i].resize(i < 3 ? 2 : i < 4 ? 5 : 40);
    turned_row.push_back(turned[i].data());
  }
  moe::transpose_weights(m.mix(), m.weight_row.data(), turned_row.data(), pool);
  bool equal = true;
  m.each([&](std::size_t o, std::size_t i, std::size_t place) {
    const auto at = o - static_cast<std::size_t>(m.out_offsets[m.group_of(o)]);
    equal = equal && turned[i][at] == m.weight[o][place];
  });
  CHECK(equal);
}
