#include "moe/product/projection.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using moe::Projection;

template <class Real>
std::vector<Real> random_numbers(Index n, std::uint64_t seed) {
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  std::vector<Real> v;
  for (Index i = 0; i < n; ++i) v.push_back(static_cast<Real>(draw.normal(static_cast<std::uint64_t>(i), 0)));
  return v;
}

std::size_t at(Index i) {
  return static_cast<std::size_t>(i);
}

/// A projection and its W [out, in] and b [out] in the published layout.
template <class Real>
struct Case {
  Projection<Real> projection;
  std::vector<Real> w, b;

  Case(Index in, Index out, bool bias)
      : projection(in, out, bias),
        w(random_numbers<Real>(in * out, 1)),
        b(random_numbers<Real>(bias ? out : 0, 2)) {
    auto fill = [&](const moe::Parameter<Real>& p) {
      const bool is_bias = std::string(p.name) == "p.bias";
      p.value.assign(moe::ConstMatrixView<Real>(is_bias ? b.data() : w.data(), out, is_bias ? 1 : in));
      CHECK(!p.gradient);
    };
    projection.visit_parameters("p", nullptr, fill);
  }
};

/// Memory of exactly the measured size.
class Memory {
 public:
  template <class Measure>
  explicit Memory(Measure&& measure) {
    moe::Arena measuring;
    measure(measuring);
    block_.assign(static_cast<std::size_t>(measuring.bytes()), std::byte{0xFF});
  }
  moe::Arena arena() { return {block_.data(), static_cast<Index>(block_.size())}; }

 private:
  std::vector<std::byte> block_;
};

template <class Real, class X>
std::vector<Real> forward(const Projection<Real>& p, const moe::ConstMatrixView<Real>& x, X& executor) {
  std::vector<Real> y(at(x.rows * p.out()), std::numeric_limits<Real>::quiet_NaN());
  Memory memory([&](moe::Arena& a) { p.measure(a, x.rows); });
  moe::Arena arena = memory.arena();
  p.forward(x, moe::MatrixView<Real>(y.data(), x.rows, p.out()), arena, executor);
  return y;
}

template <class Real>
struct Backward {
  std::vector<Real> dx;
  typename Projection<Real>::Gradients gradients;
};

/// From dx and gradients that start at `start`. Rows as listed, or all.
template <class Real, class X>
Backward<Real> backward(const Projection<Real>& p, const moe::ConstMatrixView<Real>& x,
                        const std::vector<Real>& dy, X& executor, Real start = 0,
                        const std::vector<std::int32_t>* rows = nullptr) {
  Backward<Real> b{std::vector<Real>(at(x.rows * p.in()), start), p.make_gradients()};
  Memory memory([&](moe::Arena& a) { p.measure_backward(a, x.rows, executor.concurrency()); });
  moe::Arena arena = memory.arena();
  const moe::ConstMatrixView<Real> d(dy.data(), x.rows, p.out());
  const moe::MatrixView<Real> dx(b.dx.data(), x.rows, p.in());
  if (rows == nullptr) {
    p.backward(x, d, dx, &b.gradients, arena, executor);
  } else {
    p.backward_rows(rows->data(), static_cast<Index>(rows->size()), x, d, dx, &b.gradients, arena, executor);
  }
  return b;
}

/// Elements of the weight gradient in the published layout, then the bias gradient.
template <class Real>
std::vector<Real> published(Case<Real>& c, typename Projection<Real>::Gradients& gradients) {
  std::vector<Real> all;
  auto collect = [&](const moe::Parameter<Real>& p) {
    std::vector<Real> part(at(p.gradient.size()));
    p.gradient.copy_to(moe::MatrixView<Real>(part.data(), p.gradient.rows, p.gradient.cols));
    all.insert(all.end(), part.begin(), part.end());
  };
  c.projection.visit_parameters("p", &gradients, collect);
  return all;
}

/// A sum of products in double, and what |a chain of n fused or unfused steps - it| may be in Real.
template <class Real>
struct Sum {
  double value = 0, size = 0;
  Index terms = 0;
  void add(double a, double b) {
    value += a * b;
    size += std::abs(a * b);
    ++terms;
  }
  void check(Real computed) const {
    const double u = static_cast<double>(std::numeric_limits<Real>::epsilon()) / 2;
    const double n = 2 * static_cast<double>(terms) + 2;  // ours and the double sum's
    CHECK(std::abs(static_cast<double>(computed) - value) <= n * u / (1 - n * u) * size);
  }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <class T>
std::vector<T> to_vector(const moe::Buffer<T>& b) {
  return {b.begin(), b.end()};
}

}  // namespace

TEMPLATE_TEST_CASE("projection: forward and backward match plain loops", "[projection]", float, double) {
  using Real = TestType;
  moe::SerialExecutor serial;
  for (const auto& [in, out, rows] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                      {5, 3, 7},
                                      {16, 32, 9},
                                      {33, 17, 130},
                                      {64, 31, 2},
                                      {7, 70, 5},
                                      {3, 4, 0}}) {
    for (const bool bias : {false, true}) {
      INFO(rows << " rows of " << in << " to " << out << (bias ? " with bias" : ""));
      Case<Real> c(in, out, bias);
      const Index stride = in + 3;
      const std::vector<Real> x = random_numbers<Real>(rows * stride + 1, 3),
                              dy = random_numbers<Real>(rows * out + 1, 4);
      const moe::ConstMatrixView<Real> view(x.data(), rows, in, stride);
      const std::vector<Real> y = forward(c.projection, view, serial);
      for (Index t = 0; t < rows; ++t) {
        for (Index o = 0; o < out; ++o) {
          Sum<Real> sum;
          for (Index i = 0; i < in; ++i)
            sum.add(static_cast<double>(view(t, i)), static_cast<double>(c.w[at(o * in + i)]));
          if (bias) sum.add(1, static_cast<double>(c.b[at(o)]));
          sum.check(y[at(t * out + o)]);
        }
      }
      // Added to what is there: starting from 1 must show.
      auto b = backward(c.projection, view, dy, serial, Real{1});
      for (Index t = 0; t < rows; ++t) {
        for (Index i = 0; i < in; ++i) {
          Sum<Real> sum;
          for (Index o = 0; o < out; ++o) {
            sum.add(static_cast<double>(dy[at(t * out + o)]), static_cast<double>(c.w[at(o * in + i)]));
          }
          sum.add(1, 1);
          sum.check(b.dx[at(t * in + i)]);
        }
      }
      const std::vector<Real> g = published(c, b.gradients);
      for (Index o = 0; o < out; ++o) {
        for (Index i = 0; i <= (bias ? in : in - 1); ++i) {
          Sum<Real> sum;
          for (Index t = 0; t < rows; ++t) {
            sum.add(static_cast<double>(dy[at(t * out + o)]),
                    i == in ? 1.0 : static_cast<double>(view(t, i)));
          }
          sum.check(g[at(i == in ? in * out + o : o * in + i)]);
        }
      }
    }
  }
}

TEST_CASE("projection: gradients add up over calls, and stay 0 in the padding", "[projection]") {
  Case<double> c(5, 3, true);
  moe::SerialExecutor serial;
  const std::vector<double> x = random_numbers<double>(20, 5), dy = random_numbers<double>(12, 6);
  const moe::ConstMatrixView<double> view(x.data(), 4, 5);
  auto once = backward(c.projection, view, dy, serial);
  auto twice = backward(c.projection, view, dy, serial);
  Memory memory([&](moe::Arena& a) { c.projection.measure_backward(a, 4, 1); });
  moe::Arena arena = memory.arena();
  // Without dx this time; the same is added again.
  c.projection.backward(view, moe::ConstMatrixView<double>(dy.data(), 4, 3), {}, &twice.gradients, arena,
                        serial);
  Index padding = 0, ranges = 0;
  auto visit = [&](const char* name, double* values, double* gradients, Index n) {
    const bool bias = std::string(name) == "p.bias";
    CHECK((bias || std::string(name) == "p.weight"));
    const auto& first = bias ? once.gradients.bias : once.gradients.weight;
    REQUIRE(n == first.size());
    for (Index i = 0; i < n; ++i) {
      CHECK(std::abs(gradients[i] - 2 * first[i]) <= 1e-14);
      if (values[i] == 0) {
        CHECK(gradients[i] == 0);
        ++padding;
      }
    }
    ++ranges;
  };
  c.projection.visit_storage("p", &twice.gradients, visit);
  CHECK(ranges == 2);
  CHECK(padding == 5 * (moe::kPanel<double> - 3));
}

TEST_CASE("projection: listed rows only, whatever the others hold", "[projection]") {
  const Index in = 6, out = 5, rows = 9;
  Case<double> c(in, out, true);
  moe::SerialExecutor serial;
  std::vector<double> x = random_numbers<double>(rows * in, 7), dy = random_numbers<double>(rows * out, 8);
  const std::vector<std::int32_t> listed{1, 2, 5, 8};
  std::vector<double> x_part, dy_part;
  for (const std::int32_t t : listed) {
    x_part.insert(x_part.end(), x.begin() + t * in, x.begin() + (t + 1) * in);
    dy_part.insert(dy_part.end(), dy.begin() + t * out, dy.begin() + (t + 1) * out);
  }
  for (Index t = 0; t < rows; ++t) {
    if (std::count(listed.begin(), listed.end(), t) > 0) continue;
    for (Index i = 0; i < in; ++i) x[at(t * in + i)] = std::numeric_limits<double>::quiet_NaN();
    for (Index o = 0; o < out; ++o) dy[at(t * out + o)] = std::numeric_limits<double>::quiet_NaN();
  }
  const auto b =
      backward(c.projection, moe::ConstMatrixView<double>(x.data(), rows, in), dy, serial, 0.5, &listed);
  const auto part =
      backward(c.projection, moe::ConstMatrixView<double>(x_part.data(), 4, in), dy_part, serial, 0.5);
  CHECK(same_bits(to_vector(b.gradients.weight), to_vector(part.gradients.weight)));
  CHECK(same_bits(to_vector(b.gradients.bias), to_vector(part.gradients.bias)));
  std::vector<double> expected(at(rows * in), 0.5);
  for (std::size_t i = 0; i < listed.size(); ++i) {
    std::copy_n(part.dx.begin() + static_cast<Index>(i) * in, in, expected.begin() + listed[i] * in);
  }
  CHECK(same_bits(b.dx, expected));
}

TEST_CASE("projection: a row's bits depend on the row alone, and on no executor", "[projection][threads]") {
  const Index in = 45, out = 50, rows = 150;
  Case<float> c(in, out, true);
  moe::SerialExecutor serial;
  const std::vector<float> x = random_numbers<float>(rows * in, 9),
                           dy = random_numbers<float>(rows * out, 10);
  const moe::ConstMatrixView<float> view(x.data(), rows, in);
  const std::vector<float> y = forward(c.projection, view, serial);
  const auto b = backward(c.projection, view, dy, serial);
  for (const Index t : {Index{0}, Index{7}, rows - 1}) {
    const moe::ConstMatrixView<float> row(view.row(t), 1, in);
    CHECK(same_bits(forward(c.projection, row, serial),
                    std::vector<float>(y.begin() + t * out, y.begin() + (t + 1) * out)));
    const std::vector<float> dy_row(dy.begin() + t * out, dy.begin() + (t + 1) * out);
    CHECK(same_bits(backward(c.projection, row, dy_row, serial).dx,
                    std::vector<float>(b.dx.begin() + t * in, b.dx.begin() + (t + 1) * in)));
  }
  for (const Index threads : {2, 3, 8}) {
    moe::PoolExecutor pool(threads);
    CHECK(same_bits(forward(c.projection, view, pool), y));
    const auto again = backward(c.projection, view, dy, pool);
    CHECK(same_bits(again.dx, b.dx));
    CHECK(same_bits(to_vector(again.gradients.weight), to_vector(b.gradients.weight)));
    CHECK(same_bits(to_vector(again.gradients.bias), to_vector(b.gradients.bias)));
  }
}

TEST_CASE("projection: initial weights", "[projection]") {
  Projection<double> p(25, 4, true);
  const auto weights = [&] {
    std::vector<double> all;
    auto collect = [&](const moe::Parameter<double>& q) {
      for (Index o = 0; o < q.value.rows; ++o) {
        for (Index i = 0; i < q.value.cols; ++i) all.push_back(q.value(o, i));
      }
    };
    p.visit_parameters("p", nullptr, collect);
    return all;
  };
  CHECK(weights() == std::vector<double>(104, 0));
  p.initialise(5, 0, 3);
  const std::vector<double> first = weights();
  double largest = 0, mean = 0;
  for (std::size_t i = 0; i < 100; ++i) {
    CHECK(std::abs(first[i]) < 3 * 0.2);
    largest = std::max(largest, std::abs(first[i]));
    mean += first[i] / 100;
  }
  CHECK(largest > 0.5);                                // all 100 below 5/6 of the bound: probability 1e-8
  CHECK(std::abs(mean) < 6 * 0.6 / std::sqrt(300.0));  // six standard deviations
  for (std::size_t i = 100; i < 104; ++i) CHECK(first[i] == 0);
  p.initialise(5, 1, 3);  // another projection of the same seed
  CHECK(weights() != first);
  p.initialise(5, 0, 3);
  CHECK(weights() == first);
}

TEST_CASE("projection: sizes and names", "[projection]") {
  const Projection<float> p(3, 2, false);
  CHECK(p.in() == 3);
  CHECK(p.out() == 2);
  CHECK(!p.has_bias());
  CHECK_THROWS_AS(Projection<float>(0, 2, false), moe::config_error);
  CHECK_THROWS_AS(Projection<float>(2, 0, false), moe::config_error);
}
