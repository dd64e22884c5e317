#include "moe/layer/frame/quantised.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/layer/frame/concept.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
using Values = std::vector<double>;
using Frame = moe::QuantisedFrame<double>;

static_assert(moe::Frame<Frame, double> && moe::Frame<moe::QuantisedFrame<float>, float>);

constexpr Index kTokens = 5, kWidth = 4, kCodes = 3;
constexpr bool kActive[kTokens] = {true, false, true, false, true};
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Plain loops; v is the code, x0 the row, of the call: no gradient goes there.
Values drawn(const double* x, const double* x0, const double* v, double c) {
  Values z;
  for (Index i = 0; i < kWidth; ++i) z.push_back((1 - c) * x[i] + c * (v[i] - x0[i]));
  return z;
}
Values norm(const Values& x, const Values& scale, const Values& shift, double eps) {
  double mean = 0, variance = eps;
  for (const double v : x) mean += v / kWidth;
  for (const double v : x) variance += (v - mean) * (v - mean) / kWidth;
  Values y;
  for (std::size_t i = 0; i < kWidth; ++i) {
    y.push_back((x[i] - mean) / std::sqrt(variance) * scale[i] + shift[i]);
  }
  return y;
}

/// A layer whose experts square every number. Inactive rows hold NaN where only they are read.
struct SquareLayer {
  moe::CodebookRouter<double> codebook;
  double c, eps = 0.3;
  Frame frame;
  Values scale, shift, x, dy;

  explicit SquareLayer(double contribution)
      : codebook({.width = kWidth, .experts = kCodes}), c(contribution), frame(codebook, c, eps) {
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal;
    Values codes;
    for (auto* v : {&codes, &scale, &shift, &x, &dy}) {
      const Index rows = v == &codes ? kCodes : v == &x || v == &dy ? kTokens : 1;
      for (Index i = 0; i < rows * kWidth; ++i) v->push_back(normal(random));
    }
    codebook.set_codes(ConstView(codes.data(), kCodes, kWidth));
    for (Index t = 0; t < kTokens; ++t) {
      if (!kActive[t])
        x[static_cast<std::size_t>(t * kWidth)] = dy[static_cast<std::size_t>(t * kWidth)] = kNaN;
    }
    show();
  }
  void show() {
    Index part = 0;
    frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      for (Index i = 0; i < kWidth; ++i) {
        p.value(i, 0) = (part == 0 ? scale : shift)[static_cast<std::size_t>(i)];
      }
      ++part;
    });
    CHECK(part == 2);
  }

  Values forward(Frame::Tape* tape) const {
    moe::SerialExecutor serial;
    test::ExactArena memory(
        test::measured_bytes(frame, [&](const Frame& f, moe::Arena& a) { f.measure(a, kTokens, 1); }));
    Values y(x.size(), kNaN);
    const View rows(y.data(), kTokens, kWidth);
    const ConstView inner_x = frame.before(ConstView(x.data(), kTokens, kWidth), tape, memory.get(), serial);
    const View inner_y = frame.inner_y(rows, memory.get());
    for (Index t = 0; t < kTokens; ++t) {
      for (Index i = 0; i < kWidth; ++i) inner_y(t, i) = kActive[t] ? inner_x(t, i) * inner_x(t, i) : kNaN;
    }
    frame.after(inner_y, rows, kActive, tape, memory.get(), serial);
    return y;
  }
  Values backward(const Frame::Tape& tape, Frame::Gradients* gradients, bool wants_dx) const {
    moe::SerialExecutor serial;
    test::ExactArena memory(test::measured_bytes(
        frame, [&](const Frame& f, moe::Arena& a) { f.measure_backward(a, kTokens, 1); }));
    Values dx(x.size(), kNaN);
    const View dx_rows = wants_dx ? View(dx.data(), kTokens, kWidth) : View{};
    const ConstView in(x.data(), kTokens, kWidth);
    const ConstView dinner =
        frame.after_backward(tape, ConstView(dy.data(), kTokens, kWidth), gradients, memory.get(), serial);
    const ConstView inner_x = frame.inner_x(tape, in);
    const View inner_dx = frame.inner_dx(dx_rows, kTokens, memory.get());
    for (Index t = 0; t < kTokens; ++t) {
      for (Index i = 0; i < kWidth; ++i)
        inner_dx(t, i) = kActive[t] ? 2 * inner_x(t, i) * dinner(t, i) : kNaN;
    }
    frame.before_backward(tape, in, inner_dx, dx_rows, gradients, memory.get(), serial);
    return dx;
  }
  /// y of row t, and sum dy y, with what is stopped as it was at x0.
  Values plain(Index t, const Values& x0) const {
    const double* const code = codebook.code(codebook.nearest(&x0[static_cast<std::size_t>(t * kWidth)]));
    Values z = norm(
        drawn(&x[static_cast<std::size_t>(t * kWidth)], &x0[static_cast<std::size_t>(t * kWidth)], code, c),
        scale, shift, eps);
    for (double& v : z) v *= v;
    return norm(z, scale, shift, eps);
  }
  double objective(const Values& x0) const {
    double sum = 0;
    for (Index t = 0; t < kTokens; ++t) {
      if (!kActive[t]) continue;
      const Values y = plain(t, x0);
      for (std::size_t i = 0; i < kWidth; ++i) sum += dy[static_cast<std::size_t>(t * kWidth) + i] * y[i];
    }
    return sum;
  }
};

}  // namespace

TEST_CASE("a quantised frame: normed rows drawn to their codes, a normed sum; slopes behind what is stopped",
          "[layer]") {
  for (const double c : {0.0, 0.05, 0.5, 1.0}) {
    INFO("c " << c);
    SquareLayer layer(c);
    Frame::Tape tape;
    const Values y = layer.forward(&tape), x0 = layer.x;
    CHECK(test::same_bits(layer.forward(nullptr), y));
    for (Index t = 0; t < kTokens; ++t) {
      const Values want = kActive[t] ? layer.plain(t, x0) : Values(kWidth, 0);
      for (std::size_t i = 0; i < kWidth; ++i) {
        CHECK(std::abs(y[static_cast<std::size_t>(t * kWidth) + i] - want[i]) <= 1e-13);
      }
    }
    Frame::Gradients gradients = layer.frame.make_gradients();
    const Values dx = layer.backward(tape, &gradients, true);
    const auto slope = [&](double& at) {
      const double start = at, h = 1e-3;
      const auto value = [&](double by) {
        at = start + by;
        return layer.objective(x0);
      };
      const double of = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
      at = start;
      return of;
    };
    for (Index t = 0; t < kTokens; ++t) {
      for (Index i = t * kWidth; i < (t + 1) * kWidth; ++i) {
        const auto at = static_cast<std::size_t>(i);
        CHECK(std::abs(dx[at] - (kActive[t] ? slope(layer.x[at]) : 0)) <= 1e-8);
      }
    }
    for (Index i = 0; i < kWidth; ++i) {
      CHECK(std::abs(gradients.scale[i] - slope(layer.scale[static_cast<std::size_t>(i)])) <= 1e-8);
      CHECK(std::abs(gradients.shift[i] - slope(layer.shift[static_cast<std::size_t>(i)])) <= 1e-8);
    }
    Frame::Gradients again = layer.frame.make_gradients();
    layer.backward(tape, &again, false);
    for (Index i = 0; i < kWidth; ++i) CHECK(again.scale[i] == gradients.scale[i]);
    CHECK(test::same_bits(layer.backward(tape, nullptr, true), dx));
  }
}

TEST_CASE("a quantised frame is not straight-through: its value is (1 - 2 c) x + c v", "[layer]") {
  SquareLayer layer(0.25);
  Frame::Tape tape;
  layer.forward(&tape);
  for (const Index t : {0, 2, 4}) {
    const double* const x = &layer.x[static_cast<std::size_t>(t * kWidth)];
    const double* const v = layer.codebook.code(layer.codebook.nearest(x));
    for (Index i = 0; i < kWidth; ++i) {
      CHECK(std::abs(tape.drawn[t * kWidth + i] - (0.5 * x[i] + 0.25 * v[i])) <= 1e-15);
    }
  }
}

TEST_CASE("a quantised frame takes the codes that its codebook found, and the sum of several", "[layer]") {
  moe::CodebookRouter<double> codebook({.width = 2, .experts = 2, .levels = 2}), other = codebook;
  const Values codes{8, 0, 0, 8, 1, 0, 0, 1}, x{7, 2, 1, 6};
  codebook.set_codes(ConstView(codes.data(), 4, 2));
  const Frame frame(codebook, 0.25);
  moe::SerialExecutor serial;
  const auto drawn_by = [&](const void* by, std::vector<std::int32_t> found) {
    moe::RouteTable<double> table;
    table.code = found.data();
    table.coded_by = by;
    Frame::Tape tape;
    test::ExactArena memory(
        test::measured_bytes(frame, [&](const Frame& f, moe::Arena& a) { f.measure(a, 2, 1); }));
    frame.before(ConstView(x.data(), 2, 2), table, &tape, memory.get(), serial);
    return Values(tape.drawn.data(), tape.drawn.data() + 4);
  };
  const Values looked_up{3.5 + 0.25 * 8, 1 + 0.25, 0.5 + 0.25, 3 + 0.25 * 8};
  CHECK(drawn_by(nullptr, {1, 1, 1, 1}) == looked_up);
  CHECK(drawn_by(&other, {1, 1, 1, 1}) == looked_up);
  CHECK(drawn_by(&codebook, {0, 1, 1, 0}) == looked_up);
  CHECK(drawn_by(&codebook, {1, 0, -1, -1}) == Values{3.5 + 0.25, 1 + 0.25 * 8, 0.5, 3});
}

TEST_CASE("what a quantised frame refuses", "[layer]") {
  SquareLayer layer(0.25);
  CHECK(layer.frame.inner_width(0) == kWidth);
  CHECK(layer.frame.outer_width(0) == kWidth);
  CHECK(&layer.frame.codebook() == &layer.codebook);
  for (const double bad : {-0.1, 1.1, kNaN}) CHECK_THROWS_AS(Frame(layer.codebook, bad), moe::config_error);
  for (const double bad : {-0.1, kNaN}) CHECK_THROWS_AS(Frame(layer.codebook, 0, bad), moe::config_error);
  CHECK_THROWS_AS(layer.backward(Frame::Tape{}, nullptr, true), moe::state_error);
  Frame::Tape tape;
  layer.forward(&tape);
  Frame::Gradients other;
  CHECK_THROWS_AS(layer.backward(tape, &other, true), moe::shape_error);
}
