#include "moe/router/sinkhorn.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/exact_assignment.hpp"
#include "support/plain_routing.hpp"

namespace {

using moe::Index;
using test::Matrix;
using test::near;
using test::Vector;
constexpr double kMasked = -std::numeric_limits<double>::infinity();

struct Planned {
  Matrix plan;
  Index iterations = 0;
  Matrix gradient;
};

/// On memory of exactly the measured size; with the gradient of the plan's product with `dplan`, if given.
template <class X = moe::SerialExecutor>
Planned planned(const Matrix& z, double tolerance, Index most, const Matrix& dplan = {}, X executor = X{}) {
  const std::size_t n = z.at(0).size();
  const auto rows = static_cast<Index>(z.size()), outputs = static_cast<Index>(n);
  test::MeasuredMemory memory([&](moe::Arena& a) { moe::Sinkhorn::measure(a, rows, outputs); });
  moe::Arena arena = memory.arena();
  const moe::Sinkhorn sinkhorn(arena, rows, outputs);
  Vector flat, d, g(static_cast<std::size_t>(most + 1) * n);
  for (const Vector& row : z) flat.insert(flat.end(), row.begin(), row.end());
  Planned result;
  result.iterations = sinkhorn.run(flat.data(), rows, outputs, tolerance, most, g.data(), outputs, executor);
  Vector last(n);
  CHECK(sinkhorn.run(flat.data(), rows, outputs, tolerance, most, last.data(), 0, executor) ==
        result.iterations);
  CHECK(std::equal(last.begin(), last.end(), g.begin() + result.iterations * outputs));
  for (const Vector& row : z) {
    Vector p(n);
    moe::Sinkhorn::plan_row(row.data(), last.data(), p.data(), outputs);
    result.plan.push_back(p);
  }
  for (const Vector& row : dplan) d.insert(d.end(), row.begin(), row.end());
  if (d.empty()) return result;
  sinkhorn.backward(flat.data(), rows, outputs, g.data(), result.iterations, d.data(), executor);
  for (auto at = d.begin(); at != d.end(); at += outputs) result.gradient.emplace_back(at, at + outputs);
  return result;
}
Matrix uniform(std::size_t rows, std::size_t n, double scale, unsigned seed) {
  std::mt19937_64 draw(seed);
  std::uniform_real_distribution<double> number(-scale, scale);
  Matrix z(rows, Vector(n));
  for (Vector& row : z) {
    for (double& v : row) v = number(draw);
  }
  return z;
}
double column(const Matrix& plan, std::size_t e) {
  double sum = 0;
  for (const Vector& row : plan) sum += row[e];
  return sum;
}

}  // namespace

TEST_CASE("rows of a plan sum to 1, columns to their share: logits up to 300", "[router]") {
  for (const double scale : {0.0, 1.0, 10.0, 100.0, 300.0}) {
    INFO("logits to " << scale);
    const auto result = planned(uniform(33, 5, scale, 3), 1e-4, 20000);
    CHECK(result.iterations < 20000);
    for (const Vector& row : result.plan) CHECK(near(test::total(row), 1));
    for (std::size_t e = 0; e < 5; ++e) CHECK(std::abs(column(result.plan, e) - 6.6) <= 6.6e-4);
  }
}

TEST_CASE("a plan by hand, at a regularisation of 0.5", "[router]") {
  const auto plan = planned({{0.73 / 0.5, 0.27 / 0.5}, {0.27 / 0.5, 0.73 / 0.5}}, 1e-9, 100).plan;
  CHECK(std::abs(plan[0][0] - 0.715) < 5e-4);
  CHECK(std::abs(plan[0][1] - 0.285) < 5e-4);
  CHECK(near(plan[1][1], plan[0][0]));
}

TEST_CASE("a constant per row and per column leaves the plan, and alone makes it uniform", "[router]") {
  const Matrix z = uniform(20, 4, 3, 5);
  Matrix moved = z, constants(20, Vector(4));
  for (std::size_t t = 0; t < 20; ++t) {
    for (std::size_t e = 0; e < 4; ++e) {
      constants[t][e] = 7 * std::sin(static_cast<double>(t)) + 50 * static_cast<double>(e);
      moved[t][e] += constants[t][e];
    }
  }
  const Matrix want = planned(z, 1e-12, 5000).plan, got = planned(moved, 1e-12, 5000).plan;
  const Matrix flat = planned(constants, 1e-12, 5000).plan;  // e^z is of rank 1
  for (std::size_t t = 0; t < 20; ++t) {
    for (std::size_t e = 0; e < 4; ++e) {
      CHECK(near(got[t][e], want[t][e], 1e-10));
      CHECK(near(flat[t][e] / 20, 1.0 / (20 * 4), 1e-10));
    }
  }
}

TEST_CASE("with little regularisation the plan is the assignment of the greatest sum", "[router]") {
  const Matrix value = uniform(12, 3, 1, 8);
  Matrix z = value;
  for (Vector& row : z) {
    for (double& v : row) v /= 0.002;
  }
  const auto of = test::exact_assignment(value);
  const Matrix plan = planned(z, 1e-3, 20000).plan;
  for (std::size_t t = 0; t < 12; ++t) CHECK(plan[t][of[t]] > 0.9);
}

TEST_CASE("masked entries get nothing; columns closed to all have no share", "[router]") {
  const Matrix plan =
      planned({{kMasked, 1, 2, kMasked}, {kMasked, 0, 1, 1}, {kMasked, kMasked, 3, 0}}, 1e-6, 1000).plan;
  CHECK(plan[0][3] == 0);
  CHECK(plan[2][1] == 0);
  CHECK(column(plan, 0) == 0);
  for (const std::size_t e : {1u, 2u, 3u}) CHECK(std::abs(column(plan, e) - 1) <= 1e-6);
  // Column sums of e^-900 are no numbers; their logarithms are.
  const auto far = planned({{0, -900}, {0, -1000}}, 0.01, 1000);
  CHECK(far.iterations < 1000);
  CHECK(std::abs(far.plan[0][1] - 1) <= 0.01);
  // Both rows want what one of them may have: no such plan, and every row still sums to 1.
  for (const Vector& row :
       planned({{0, kMasked, kMasked}, {0, kMasked, kMasked}, {0, 0, 0}}, 1e-6, 50).plan) {
    CHECK(near(test::total(row), 1));
  }
}

TEST_CASE("the gradient through all iterations matches central differences", "[router]") {
  for (const Index iterations : {0, 1, 4, 30}) {
    INFO(iterations << " iterations");
    Matrix z = uniform(40, 4, 2, 9);
    z[2][1] = kMasked;
    for (Vector& row : z) row[3] -= 3;
    const Matrix c = uniform(40, 4, 1, 10);
    const auto worth = [&] {
      const Matrix plan = planned(z, 0, iterations).plan;
      double sum = 0;
      for (std::size_t t = 0; t < plan.size(); ++t) {
        for (std::size_t e = 0; e < 4; ++e) sum += c[t][e] * plan[t][e];
      }
      return sum;
    };
    const Matrix gradient = planned(z, 0, iterations, c).gradient;
    for (const std::size_t t : {0u, 2u, 33u, 39u}) {
      for (std::size_t e = 0; e < 4; ++e) {
        if (z[t][e] == kMasked) {
          CHECK(gradient[t][e] == 0);
          continue;
        }
        const double start = z[t][e];
        const auto at = [&](double by) {
          z[t][e] = start + by;
          const double sum = worth();
          z[t][e] = start;
          return sum;
        };
        const double h = 1e-3, difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        CHECK(std::abs(gradient[t][e] - difference) < 1e-9);
      }
    }
  }
}

TEST_CASE("threads change no bit of a plan or its gradient", "[router][threads]") {
  const Matrix z = uniform(150, 7, 5, 4), c = uniform(150, 7, 1, 6);
  const auto want = planned(z, 1e-6, 40, c);
  for (const Index threads : {2, 5, 8}) {
    moe::PoolExecutor pool(threads);
    test::MeasuredMemory memory([](moe::Arena& a) { moe::Sinkhorn::measure(a, 150, 7); });
    moe::Arena arena = memory.arena();
    const moe::Sinkhorn sinkhorn(arena, 150, 7);
    Vector flat, d, g(41 * 7), last(7);
    for (std::size_t t = 0; t < 150; ++t) {
      flat.insert(flat.end(), z[t].begin(), z[t].end());
      d.insert(d.end(), c[t].begin(), c[t].end());
    }
    const Index iterations = sinkhorn.run(flat.data(), 150, 7, 1e-6, 40, g.data(), 7, pool);
    CHECK(iterations == want.iterations);
    sinkhorn.backward(flat.data(), 150, 7, g.data(), iterations, d.data(), pool);
    for (std::size_t t = 0; t < 150; ++t) {
      Vector p(7);
      moe::Sinkhorn::plan_row(z[t].data(), g.data() + iterations * 7, p.data(), 7);
      CHECK(p == want.plan[t]);
      CHECK(std::equal(want.gradient[t].begin(), want.gradient[t].end(),
                       d.begin() + static_cast<Index>(7 * t)));
    }
  }
}
