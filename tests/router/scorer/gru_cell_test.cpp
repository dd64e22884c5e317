#include "moe/router/scorer/gru_cell.hpp"

#include <cmath>
#include <limits>

#include "support/plain_routing.hpp"

namespace {

using moe::Index;
using Cell = moe::GruCell<double>;
using test::Matrix;
using test::Vector;

constexpr Index kTokens = 6, kInputs = 3, kState = 5;

moe::ConstMatrixView<double> view(const std::vector<double>& v, Index columns) {
  return {v.data(), static_cast<Index>(v.size()) / columns, columns};
}
std::vector<double> numbers(Index n, std::uint64_t seed) {
  return test::random_call<double>(1, n, seed).x;
}

std::vector<double> forward(const Cell& cell, const std::vector<double>& q, const std::vector<double>& h,
                            Cell::Tape* tape = nullptr) {
  std::vector<double> next(q.size() / kInputs * kState);
  test::MeasuredMemory memory([&](moe::Arena& a) { cell.measure(a, kTokens, 3); });
  moe::Arena arena = memory.arena();
  test::BackwardsExecutor executor;
  cell.forward(view(q, kInputs), h.empty() ? moe::ConstMatrixView<double>{} : view(h, kState),
               moe::MatrixView<double>(next.data(), static_cast<Index>(q.size()) / kInputs, kState), tape,
               arena, executor);
  return next;
}

double sum(const Matrix& w, const Matrix& b, std::size_t row, const double* x) {
  double s = b[row][0];
  for (std::size_t j = 0; j < w[row].size(); ++j) s += w[row][j] * x[j];
  return s;
}
double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

TEST_CASE("a GRU cell is torch's: gates r, z, n, the reset over the state's sum with its bias",
          "[gru_cell]") {
  Cell cell(kInputs, kState);
  test::randomise(cell, 3);
  const Matrix wi = test::parameter(cell, "gru.input.weight"), bi = test::parameter(cell, "gru.input.bias");
  const Matrix wh = test::parameter(cell, "gru.hidden.weight"), bh = test::parameter(cell, "gru.hidden.bias");
  REQUIRE((wi.size() == 15 && wi[0].size() == 3 && wh.size() == 15 && wh[0].size() == 5));
  const auto q = numbers(kTokens * kInputs, 1), h = numbers(kTokens * kState, 2);
  Cell::Tape tape;
  const auto next = forward(cell, q, h, &tape);
  CHECK(next == forward(cell, q, h));
  for (std::size_t t = 0; t < kTokens; ++t) {
    const double *const x = q.data() + t * kInputs, *const s = h.data() + t * kState;
    for (std::size_t j = 0; j < kState; ++j) {
      const double r = sigmoid(sum(wi, bi, j, x) + sum(wh, bh, j, s));
      const double z = sigmoid(sum(wi, bi, 5 + j, x) + sum(wh, bh, 5 + j, s));
      const double n = std::tanh(sum(wi, bi, 10 + j, x) + r * sum(wh, bh, 10 + j, s));
      CHECK(test::near(next[t * kState + j], (1 - z) * n + z * s[j]));
    }
  }
  CHECK(forward(cell, q, {}) == forward(cell, q, std::vector<double>(kTokens * kState)));  // no state: 0
}

TEST_CASE("a GRU cell's gradients match central differences", "[gru_cell]") {
  Cell cell(kInputs, kState);
  test::randomise(cell, 4);
  auto q = numbers(kTokens * kInputs, 1), h = numbers(kTokens * kState, 2);
  const auto dnext = numbers(kTokens * kState, 3);
  const std::int32_t rows[] = {0, 1, 3, 4};
  for (const bool with_state : {true, false}) {
    const auto loss = [&] {
      const auto next = forward(cell, q, with_state ? h : std::vector<double>{});
      double s = 0;
      for (const auto t : rows) {
        for (Index j = 0; j < kState; ++j) {
          const auto i = static_cast<std::size_t>(t * kState + j);
          s += next[i] * dnext[i];
        }
      }
      return s;
    };
    Cell::Tape tape;
    forward(cell, q, with_state ? h : std::vector<double>{}, &tape);
    auto gradients = cell.make_gradients();
    std::vector<double> dq(q.size(), 1), dh(h.size(), 2);  // added to
    test::MeasuredMemory memory([&](moe::Arena& a) { cell.measure_backward(a, kTokens, 3); });
    moe::Arena arena = memory.arena();
    test::BackwardsExecutor executor;
    cell.backward(
        rows, 4, view(q, kInputs), with_state ? view(h, kState) : moe::ConstMatrixView<double>{}, tape,
        view(dnext, kState), moe::MatrixView<double>(dq.data(), kTokens, kInputs),
        with_state ? moe::MatrixView<double>(dh.data(), kTokens, kState) : moe::MatrixView<double>{},
        &gradients, arena, executor);
    const auto agrees = [&](double& value, double gradient) {
      const double held = value, step = 1e-5;
      value = held + step;
      const double up = loss();
      value = held - step;
      const double down = loss();
      value = held;
      CHECK(std::abs((up - down) / (2 * step) - gradient) < 1e-8);  // step^2 and 1e-16 / step, both below
    };
    for (std::size_t i = 0; i < q.size(); ++i) agrees(q[i], dq[i] - 1);
    for (std::size_t i = 0; with_state && i < h.size(); ++i) agrees(h[i], dh[i] - 2);
    for (const auto& e : test::elements(cell, gradients)) agrees(*e.value, *e.gradient);
  }
}

TEST_CASE("a GRU cell shows what is not finite, also where a gate would hide it", "[gru_cell]") {
  Cell cell(kInputs, kState);
  test::randomise(cell, 5);
  const auto q = numbers(kTokens * kInputs, 1), h = numbers(kTokens * kState, 2);
  const auto whole = forward(cell, q, h);
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan(""), 1e308}) {
    for (const bool state : {false, true}) {
      auto q2 = q, h2 = h;
      for (Index j = 0; j < (state ? kState : kInputs); ++j)
        (state ? h2[static_cast<std::size_t>(2 * kState + j)]
               : q2[static_cast<std::size_t>(2 * kInputs + j)]) = bad;
      const auto next = forward(cell, q2, h2);
      for (std::size_t i = 0; i < next.size(); ++i) {
        if (i / kState != 2) CHECK(next[i] == whole[i]);
        if (i / kState == 2 && bad != 1e308) CHECK(std::isnan(next[i]));
      }
    }
  }
}

TEST_CASE("a GRU cell starts at zero and refuses sizes that are none", "[gru_cell]") {
  Cell cell(2, 3);
  double all = 0;
  auto add = [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) all += std::abs(p.value(o, 0));
  };
  cell.visit_parameters(nullptr, add);
  CHECK(all == 0);
  cell.initialise(1);
  cell.visit_parameters(nullptr, add);
  CHECK(all > 0);
  CHECK_THROWS_AS(Cell(0, 3), moe::config_error);
  CHECK_THROWS_AS(Cell(2, 0), moe::config_error);
  CHECK_THROWS_AS(Cell(2, INT32_MAX), moe::config_error);
}
