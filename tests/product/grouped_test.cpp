#include "moe/product/grouped.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::Index;
using moe::kPanel;
using moe::native_arch;
using moe::PackedView;
using test::AlignedBlock;
using test::ProductSum;

/// Runs tasks last to first, as if by many workers: what an order of the tasks could change, it changes.
struct BackwardsExecutor {
  Index workers;
  Index concurrency() const noexcept { return workers; }
  template <class F>
  void parallel_for(Index n, F&& f) const noexcept {
    for (Index i = n - 1; i >= 0; --i) f(i, i % workers);
  }
};

/// Rows sorted by group, at odd addresses, each exactly as long as it may be read.
template <class T>
struct Rows {
  Rows(const std::vector<Index>& counts, const std::vector<Index>& lengths, std::uint64_t seed) {
    for (std::size_t g = 0; g < counts.size(); ++g) {
      for (Index i = 0; i < counts[g]; ++i) {
        const Index shift = static_cast<Index>(memory.size() % 3);
        memory.push_back(test::numbers<T>(lengths[g] + shift, seed * 1000 + memory.size()));
        pointer.push_back(memory.back().data() + shift);
      }
    }
  }
  std::vector<std::vector<T>> memory;
  std::vector<const T*> pointer;
};

/// One packed matrix [K][columns] a group, its padding zero.
template <class T>
struct Matrices {
  Matrices(const std::vector<Index>& rows, Index columns, std::uint64_t seed) : columns_(columns) {
    const Index panels = moe::plain_panels<T>(columns);
    for (std::size_t g = 0; g < rows.size(); ++g) {
      blocks_.emplace_back(moe::packed_size<T>(rows[g], panels));
      views_.push_back({blocks_.back().data(), rows[g], panels});
      test::Draw draw(seed + g);
      for (Index k = 0; k < rows[g]; ++k) {
        for (Index n = 0; n < columns; ++n) views_.back().at(k, n) = draw.next<T>();
      }
    }
  }
  Index columns() const { return columns_; }
  const PackedView<T>& operator[](Index g) const { return views_[static_cast<std::size_t>(g)]; }
  bool intact() const {
    return std::all_of(blocks_.begin(), blocks_.end(), [](const auto& block) { return block.intact(); });
  }

 private:
  Index columns_;
  std::vector<AlignedBlock<T>> blocks_;
  std::vector<PackedView<T>> views_;
};

std::vector<Index> offsets_of(const std::vector<Index>& counts) {
  std::vector<Index> offsets = {0};
  for (const Index count : counts) offsets.push_back(offsets.back() + count);
  return offsets;
}

/// Results [P][stride]; counts how often each element was handed over.
template <class T>
struct Results {
  Results(Index rows, Index columns) : stride(moe::round_up(columns, kPanel<T>)), size(rows * stride) {
    values.assign(static_cast<std::size_t>(size), std::numeric_limits<T>::quiet_NaN());
    times.assign(static_cast<std::size_t>(size), 0);
  }
  void take(Index first, Index m, Index panel, const T* tile) noexcept {
    for (Index i = 0; i < m; ++i) {
      for (Index c = 0; c < kPanel<T>; ++c) {
        const auto at = static_cast<std::size_t>((first + i) * stride + panel * kPanel<T> + c);
        values[at] = tile[i * kPanel<T> + c];
        ++times[at];
      }
    }
  }
  T* row(Index p) { return values.data() + p * stride; }
  bool once_each() const {
    return std::all_of(times.begin(), times.end(), [](int n) { return n == 1; });
  }
  Index stride, size;
  std::vector<T> values;
  std::vector<int> times;
};

/// Groups with no, one and many rows; the depth of each.
struct Shape {
  std::vector<Index> counts;
  std::vector<Index> rows;  // of each group's matrix: K
  Index columns;            // N
};

std::vector<Shape> shapes() {
  return {{{1}, {1}, 1},
          {{0, 1, 0}, {3, 17, 31}, 17},
          {{2, 0, 5, 70}, {33, 8, 33, 100}, 33},
          {{7, 9, 1, 0, 17}, {31, 31, 31, 31, 31}, 100},
          {{0, 0}, {5, 5}, 5},
          {{300, 3}, {17, 17}, 70},
          {{13}, {1000}, 3},
          {{7, 12, 18, 19}, {64, 65, 200, 129}, 70}};  // two to four tiles, depths about chunks of 64
}

template <class T>
struct Case {
  explicit Case(const Shape& s)
      : shape(s),
        offsets(offsets_of(s.counts)),
        weights(s.rows, s.columns, 3),
        groups(std::ssize(s.counts)) {}
  /// Asking for a group without rows is an error: its expert may not be there.
  PackedView<T> view(Index g) const noexcept {
    if (shape.counts[static_cast<std::size_t>(g)] == 0) ++asked_in_vain;
    return weights[g];
  }
  Index pairs() const { return offsets.back(); }

  Shape shape;
  std::vector<Index> offsets;
  Matrices<T> weights;
  Index groups;
  mutable std::atomic<Index> asked_in_vain{0};
};

template <class T, class X>
Results<T> forward(const Case<T>& c, const std::vector<const T*>& rows, X& executor) {
  Results<T> y(c.pairs(), c.shape.columns);
  AlignedBlock<Index> tasks(moe::task_list_size(c.groups));
  moe::grouped_gemm<native_arch>(
      rows.data(), c.offsets.data(), c.groups,
      [&](Index g) noexcept -> PackedView<const T> { return c.view(g); },
      [&](Index, Index first, Index m, Index panel, const T* tile) noexcept {
        y.take(first, m, panel, tile);
      },
      tasks.data(), executor);
  CHECK(tasks.intact());
  return y;
}

template <class T, class X>
Results<T> transposed(const Case<T>& c, Index depth, const std::vector<const T*>& rows, X& executor) {
  Results<T> y(c.pairs(), *std::max_element(c.shape.rows.begin(), c.shape.rows.end()));
  std::fill(y.times.begin(), y.times.end(), 1);  // groups with fewer columns leave the rest alone
  for (Index g = 0; g < c.groups; ++g) {
    for (Index p = c.offsets[static_cast<std::size_t>(g)]; p < c.offsets[static_cast<std::size_t>(g + 1)];
         ++p) {
      std::fill_n(y.times.begin() + p * y.stride, moe::round_up(c.weights[g].rows, kPanel<T>), 0);
    }
  }
  AlignedBlock<Index> tasks(moe::task_list_size(c.groups));
  AlignedBlock<T> scratch(Index{executor.concurrency()} * moe::grouped_scratch<T>());
  moe::grouped_gemm_transposed<native_arch>(
      rows.data(), depth, c.offsets.data(), c.groups,
      [&](Index g) noexcept -> PackedView<const T> { return c.view(g); },
      [&](Index, Index first, Index m, Index block, const T* tile) noexcept {
        y.take(first, m, block, tile);
      },
      tasks.data(), scratch.data(), executor);
  CHECK(tasks.intact());
  CHECK(scratch.intact());
  return y;
}

/// gradients += left^T right; all groups' left rows have the width of their gradient.
template <class T, class X>
void outer(const Case<T>& c, Index left_width, const std::vector<const T*>& left,
           const std::vector<const T*>& right, Index right_width, X& executor) {
  AlignedBlock<Index> tasks(moe::task_list_size(c.groups));
  AlignedBlock<T> scratch(Index{executor.concurrency()} * moe::grouped_scratch<T>());
  moe::grouped_outer<native_arch>(
      left.data(), left_width, right.data(), right_width, c.offsets.data(), c.groups,
      [&](Index g) noexcept { return c.view(g); }, tasks.data(), scratch.data(), executor);
  CHECK(tasks.intact());
  CHECK(scratch.intact());
}

/// f(executor) for one thread, several, and an unkind order.
template <class F>
void with_executors(F f) {
  for (const Index threads : {1, 2, 3, 4, 8}) {
    moe::PoolExecutor pool(threads);
    f(pool);
  }
  BackwardsExecutor backwards{64};
  f(backwards);
}

}  // namespace

TEMPLATE_TEST_CASE("grouped_gemm is every group's product, each tile once", "[expert][smoke]", float,
                   double) {
  using T = TestType;
  for (const Shape& shape : shapes()) {
    const Case<T> c(shape);
    const Rows<T> rows(shape.counts, shape.rows, 1);
    moe::SerialExecutor serial;
    Results<T> y = forward(c, rows.pointer, serial);
    CHECK(y.once_each());
    bool right = true;
    for (Index g = 0; g < c.groups; ++g) {
      for (Index p = c.offsets[static_cast<std::size_t>(g)]; p < c.offsets[static_cast<std::size_t>(g + 1)];
           ++p) {
        for (Index n = 0; n < y.stride; ++n) {
          ProductSum sum;
          for (Index k = 0; k < c.weights[g].rows; ++k) {
            sum.add(rows.pointer[static_cast<std::size_t>(p)][k], c.weights[g].at(k, n));
          }
          right = right && sum.admits(y.row(p)[n]);
        }
      }
    }
    CHECK(right);
    CHECK(c.asked_in_vain == 0);
  }
}

TEMPLATE_TEST_CASE("grouped_gemm_transposed is the product with the transpose, rows ending inside a panel",
                   "[expert][smoke]", float, double) {
  using T = TestType;
  for (const Shape& shape : shapes()) {
    const Case<T> c(shape);
    const Rows<T> rows(shape.counts, std::vector<Index>(shape.counts.size(), shape.columns), 2);
    moe::SerialExecutor serial;
    Results<T> y = transposed(c, shape.columns, rows.pointer, serial);
    CHECK(y.once_each());
    bool right = true;
    for (Index g = 0; g < c.groups; ++g) {
      for (Index p = c.offsets[static_cast<std::size_t>(g)]; p < c.offsets[static_cast<std::size_t>(g + 1)];
           ++p) {
        for (Index k = 0; k < c.weights[g].rows; ++k) {
          ProductSum sum;
          for (Index n = 0; n < shape.columns; ++n) {
            sum.add(rows.pointer[static_cast<std::size_t>(p)][n], c.weights[g].at(k, n));
          }
          right = right && sum.admits(y.row(p)[k]);
        }
      }
    }
    CHECK(right);
    CHECK(c.asked_in_vain == 0);
  }
}

TEMPLATE_TEST_CASE("grouped_gemm_transposed: depths of several slices, and rows longer than the weights",
                   "[expert]", float, double) {
  using T = TestType;
  const Case<T> c({{3, 9}, {5, 40}, 5000});
  const Index positions = moe::round_up(Index{5000}, kPanel<T>);
  const Rows<T> rows({3, 9}, {positions, positions}, 4);
  moe::SerialExecutor serial;
  Results<T> y = transposed(c, 5000, rows.pointer, serial);
  bool right = true;
  for (Index p = 0; p < 12; ++p) {
    const PackedView<T>& weight = c.weights[p < 3 ? 0 : 1];
    for (Index k = 0; k < weight.rows; ++k) {
      ProductSum sum;
      T chain = 0;
      for (Index n = 0; n < 5000; ++n) {
        sum.add(rows.pointer[static_cast<std::size_t>(p)][n], weight.at(k, n));
        chain = moe::fma(rows.pointer[static_cast<std::size_t>(p)][n], weight.at(k, n), chain);
      }
      right = right && sum.admits(y.row(p)[k]);
      if (test::kScalarsRoundLikeVectors) right = right && test::same_bits(&chain, y.row(p) + k, 1);
    }
  }
  CHECK(right);
  Results<T> whole = transposed(c, positions + 1000, rows.pointer, serial);
  Results<T> exact = transposed(c, positions, rows.pointer, serial);
  CHECK(test::same_bits(whole.values.data(), exact.values.data(), whole.size));
}

TEMPLATE_TEST_CASE("grouped_outer adds every group's sum of outer products and leaves the padding",
                   "[expert][smoke]", float, double) {
  using T = TestType;
  for (const Index width : {1, 3, 17, 33, 300}) {
    for (const Index columns : {1, 17, 33, 100}) {
      const std::vector<Index> counts = {0, 1, 7, 600};
      const Shape shape{counts, std::vector<Index>(counts.size(), width), columns};
      const Case<T> before(shape), c(shape);
      const Rows<T> left(counts, shape.rows, 5), right(counts, std::vector<Index>(counts.size(), columns), 6);
      moe::SerialExecutor serial;
      outer(c, width, left.pointer, right.pointer, columns, serial);
      bool near = true, padded = true;
      for (Index g = 0; g < c.groups; ++g) {
        for (Index k = 0; k < width; ++k) {
          for (Index n = 0; n < moe::round_up(columns, kPanel<T>); ++n) {
            ProductSum sum;
            sum.add(before.weights[g].at(k, n), 1);
            for (Index p = c.offsets[static_cast<std::size_t>(g)];
                 n < columns && p < c.offsets[static_cast<std::size_t>(g + 1)]; ++p) {
              sum.add(left.pointer[static_cast<std::size_t>(p)][k],
                      right.pointer[static_cast<std::size_t>(p)][n]);
            }
            near = near && sum.admits(c.weights[g].at(k, n));
            if (n >= columns) padded = padded && c.weights[g].at(k, n) == 0;
          }
        }
      }
      INFO(width << " x " << columns);
      CHECK(near);
      CHECK(padded);
      CHECK(c.weights.intact());
      CHECK(c.asked_in_vain == 0);
    }
  }
}

TEMPLATE_TEST_CASE("grouped products: a row alone has the bits it has in any batch", "[expert]", float,
                   double) {
  using T = TestType;
  moe::SerialExecutor serial;
  for (Index batch = 1; batch <= 70; ++batch) {
    const Index depth = 37, columns = 40;
    const Case<T> many({{batch}, {depth}, columns}), one({{1}, {depth}, columns});
    const Rows<T> rows({batch}, {depth}, 7), back({batch}, {columns}, 8);
    Results<T> y = forward(many, rows.pointer, serial), dx = transposed(many, columns, back.pointer, serial);
    bool same = true;
    for (Index p = 0; p < batch; ++p) {
      const auto at = static_cast<std::size_t>(p);
      Results<T> alone = forward(one, {rows.pointer[at]}, serial);
      same = same && test::same_bits(alone.row(0), y.row(p), y.stride);
      Results<T> alone_dx = transposed(one, columns, {back.pointer[at]}, serial);
      same = same && test::same_bits(alone_dx.row(0), dx.row(p), dx.stride);
    }
    INFO("batch " << batch);
    CHECK(same);
  }
}

TEMPLATE_TEST_CASE("grouped products: same bits for any executor", "[expert][threads]", float, double) {
  using T = TestType;
  moe::SerialExecutor serial;
  const Index width = 290, columns = 230;
  const std::vector<Index> counts = {3, 0, 150, 1, 40};
  const Shape shape{counts, std::vector<Index>(counts.size(), width), columns};
  const Case<T> c(shape);
  const Rows<T> rows(counts, shape.rows, 9), back(counts, std::vector<Index>(counts.size(), columns), 10);
  const Results<T> y = forward(c, rows.pointer, serial);
  const Results<T> dx = transposed(c, columns, back.pointer, serial);
  const Case<T> dw(shape);
  outer(dw, width, rows.pointer, back.pointer, columns, serial);
  with_executors([&](auto& executor) {
    INFO("concurrency " << executor.concurrency());
    const Results<T> other_y = forward(c, rows.pointer, executor);
    CHECK(other_y.once_each());
    CHECK(test::same_bits(other_y.values.data(), y.values.data(), y.size));
    const Results<T> other_dx = transposed(c, columns, back.pointer, executor);
    CHECK(other_dx.once_each());
    CHECK(test::same_bits(other_dx.values.data(), dx.values.data(), dx.size));
    const Case<T> other(shape);
    outer(other, width, rows.pointer, back.pointer, columns, executor);
    bool same = true;
    for (Index g = 0; g < c.groups; ++g) {
      same = same && test::same_bits(other.weights[g].data, dw.weights[g].data, dw.weights[g].size());
    }
    CHECK(same);
    CHECK(c.asked_in_vain == 0);
  });
}
