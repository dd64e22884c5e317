#include "moe/layer/frame/output_bias.hpp"

#include <random>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"

using moe::Index;

namespace {

using Frame = moe::OutputBias<double>;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;

constexpr Index kTokens = 5;
constexpr bool kActive[kTokens] = {true, true, false, true, false};

std::vector<double> random_values(Index n, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<double> values(static_cast<std::size_t>(n));
  for (double& v : values) v = uniform(random);
  return values;
}

}  // namespace

TEST_CASE("the output bias is added once to every active row", "[layer][smoke]") {
  for (const Index width : {1, 3, 17, 300}) {
    Frame frame(width);
    CHECK(frame.inner_width(0) == width);
    CHECK(frame.outer_width(0) == width);
    const std::vector<double> bias = random_values(width, 1), sum = random_values(kTokens * (width + 2), 2);
    frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      CHECK(std::string(p.name) == "output.bias");
      CHECK(!p.gradient);
      p.value.assign({bias.data(), width, 1});
    });
    moe::PoolExecutor pool(2);
    moe::Arena none;
    std::vector<double> y = sum, x(static_cast<std::size_t>(width));
    const View rows(y.data(), kTokens, width, width + 2);
    CHECK(frame.inner_y(rows, none).data == y.data());
    CHECK(frame.before(ConstView(x.data(), 1, width), nullptr, none, pool).data == x.data());
    frame.after(rows, rows, kActive, nullptr, none, pool);
    Index wrong = 0;
    for (Index t = 0; t < kTokens; ++t) {
      for (Index j = 0; j < width + 2; ++j) {
        const auto at = static_cast<std::size_t>(t * (width + 2) + j);
        const bool added = kActive[t] && j < width;
        wrong += y[at] != (added ? sum[at] + bias[static_cast<std::size_t>(j)] : sum[at]);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("the gradient of the output bias is the sum of active dY, in order, for any executor", "[layer]") {
  constexpr Index kWidth = 300;
  Frame frame(kWidth);
  Frame::Tape tape;
  moe::SerialExecutor serial;
  moe::Arena none;
  std::vector<double> y(kTokens * kWidth), dy = random_values(kTokens * kWidth, 3);
  for (std::size_t j = 0; j < kWidth; ++j) dy[2 * kWidth + j] = std::numeric_limits<double>::quiet_NaN();
  const View rows(y.data(), kTokens, kWidth);
  frame.after(rows, rows, kActive, &tape, none, serial);
  const ConstView in(dy.data(), kTokens, kWidth);

  Frame::Gradients gradients = frame.make_gradients();
  gradients.bias.fill(2);  // added to
  Frame::Gradients parallel = gradients;
  CHECK(frame.after_backward(tape, in, &gradients, none, serial).data == dy.data());
  moe::PoolExecutor pool(3);
  frame.after_backward(tape, in, &parallel, none, pool);
  CHECK(frame.after_backward(tape, in, nullptr, none, serial).data == dy.data());
  Index wrong = 0;
  for (Index j = 0; j < kWidth; ++j) {
    const auto at = static_cast<std::size_t>(j);
    wrong += gradients.bias[j] != ((2 + dy[at]) + dy[kWidth + at]) + dy[3 * kWidth + at];
    wrong += parallel.bias[j] != gradients.bias[j];
  }
  CHECK(wrong == 0);

  std::vector<double> dx(kTokens * kWidth, 7);
  const View dx_rows(dx.data(), kTokens, kWidth);
  CHECK(frame.inner_dx(dx_rows, kTokens, none).data == dx.data());
  CHECK(!frame.inner_dx(View{}, kTokens, none));
  CHECK(frame.inner_x(tape, in).data == dy.data());

  Frame::Gradients other = Frame(kWidth + 1).make_gradients();
  CHECK_THROWS_AS(frame.after_backward(tape, in, &other, none, serial), moe::shape_error);
  frame.visit_storage(&gradients, [&](const char* name, double*, double* g, Index n) {
    CHECK(std::string(name) == "output.bias");
    CHECK(g == gradients.bias.data());
    CHECK(n == kWidth);
  });
  CHECK_THROWS_AS(Frame(0), moe::config_error);
}
