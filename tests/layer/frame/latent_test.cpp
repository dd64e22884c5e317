#include "moe/layer/frame/latent.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/bounded.hpp"

using moe::Index;

namespace {

using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
using Frame = moe::LatentFrame<double>;

constexpr Index kTokens = 5;
constexpr bool kActive[kTokens] = {true, false, true, false, true};

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A layer whose experts square every latent number: y = Wout (Win x)^2. Inactive rows hold NaN where only
/// they are read, before, between and behind.
struct SquareLayer {
  Index width, latent;
  Frame frame;
  std::vector<double> x, dy;

  SquareLayer(Index d, Index l, bool norm = false)
      : width(d), latent(l), frame(d, l, {.enabled = norm, .eps = 0.3}) {
    std::mt19937_64 random(static_cast<unsigned>(100 * d + l));
    std::uniform_real_distribution<double> uniform(-1, 1);
    frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      for (Index i = 0; i < p.value.size(); ++i)
        p.value(i / p.value.cols, i % p.value.cols) = uniform(random);
    });
    for (auto* v : {&x, &dy}) {
      test::fill_random(*v, static_cast<std::size_t>(kTokens * width), random);
      for (Index t = 0; t < kTokens; ++t) {
        if (!kActive[t]) (*v)[static_cast<std::size_t>(t * width)] = kNaN;
      }
    }
  }

  template <class X>
  std::vector<double> forward(Frame::Tape* tape, X& executor) const {
    test::ExactArena memory(test::measured_bytes(
        frame, [&](const Frame& f, moe::Arena& a) { f.measure(a, kTokens, executor.concurrency()); }));
    std::vector<double> y(x.size(), kNaN);
    const View rows(y.data(), kTokens, width);
    const ConstView inner_x = frame.before(ConstView(x.data(), kTokens, width), tape, memory.get(), executor);
    const View inner_y = frame.inner_y(rows, memory.get());
    for (Index t = 0; t < kTokens; ++t) {
      for (Index l = 0; l < latent; ++l) inner_y(t, l) = kActive[t] ? inner_x(t, l) * inner_x(t, l) : kNaN;
    }
    frame.after(inner_y, rows, kActive, tape, memory.get(), executor);
    return y;
  }

  template <class X>
  std::vector<double> backward(const Frame::Tape& tape, Frame::Gradients* gradients, bool wants_dx,
                               X& executor) const {
    test::ExactArena memory(test::measured_bytes(frame, [&](const Frame& f, moe::Arena& a) {
      f.measure_backward(a, kTokens, executor.concurrency());
    }));
    std::vector<double> dx(x.size(), kNaN);
    const View dx_rows = wants_dx ? View(dx.data(), kTokens, width) : View{};
    const ConstView in(x.data(), kTokens, width);
    const ConstView dinner =
        frame.after_backward(tape, ConstView(dy.data(), kTokens, width), gradients, memory.get(), executor);
    const ConstView inner_x = frame.inner_x(tape, in);
    const View inner_dx = frame.inner_dx(dx_rows, kTokens, memory.get());
    for (Index t = 0; t < kTokens; ++t) {
      for (Index l = 0; l < latent; ++l) inner_dx(t, l) = kActive[t] ? 2 * inner_x(t, l) * dinner(t, l) : 0;
    }
    frame.before_backward(tape, in, inner_dx, dx_rows, gradients, memory.get(), executor);
    return dx;
  }

  double objective() const {
    moe::SerialExecutor serial;
    const std::vector<double> y = forward(nullptr, serial);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (kActive[i / static_cast<std::size_t>(width)]) sum += dy[i] * y[i];
    }
    return sum;
  }
};

std::vector<double> flat(Frame& frame, Frame::Gradients& gradients) {
  std::vector<double> all;
  frame.visit_storage(&gradients,
                      [&](const char*, double*, double* g, Index n) { all.insert(all.end(), g, g + n); });
  return all;
}

}  // namespace

TEST_CASE("a latent frame projects rows in and their sum out", "[layer][smoke]") {
  test::unit_roundoff = 0x1p-53;
  moe::SerialExecutor serial;
  for (const Index width : {1, 17, 33}) {
    for (const Index latent : {1, 3, 19}) {
      INFO("D " << width << " Dl " << latent);
      SquareLayer layer(width, latent);
      CHECK(layer.frame.inner_width(0) == latent);
      CHECK(layer.frame.outer_width(0) == width);
      std::vector<test::Row> in, out;
      layer.frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
        auto& rows = std::string(p.name) == "latent_in.weight" ? in : out;
        CHECK((&rows == &in || std::string(p.name) == "latent_out.weight"));
        for (Index o = 0; o < p.value.rows; ++o) {
          rows.emplace_back();
          for (Index i = 0; i < p.value.cols; ++i) rows.back().push_back(p.value(o, i));
        }
      });
      REQUIRE(in.size() == static_cast<std::size_t>(latent));
      REQUIRE(out.size() == static_cast<std::size_t>(width));
      const std::vector<double> y = layer.forward(nullptr, serial);
      Index wrong = 0;
      for (std::size_t t = 0; t < kTokens; ++t) {
        test::Row x, h;
        for (std::size_t j = 0; j < in[0].size(); ++j) x.push_back(layer.x[t * in[0].size() + j]);
        for (const test::Row& w : in) {
          const test::Bounded b = test::dot(w, x);
          h.push_back(b * b);
        }
        for (std::size_t j = 0; j < out.size(); ++j) {
          const test::Bounded want = kActive[t] ? test::dot(out[j], h) : test::Bounded(0);
          wrong += std::abs(y[t * out.size() + j] - want.v) <= 2 * want.e ? 0 : 1;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a latent norm divides the sum by its root mean square", "[layer]") {
  SquareLayer plain(6, 4), normed(6, 4, true);
  normed.frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    if (name == "latent_norm.weight") {
      for (Index l = 0; l < 4; ++l) p.value(l, 0) = 1 + static_cast<double>(l);
      return;
    }
    plain.frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& q) {
      if (name != q.name) return;
      for (Index i = 0; i < p.value.size(); ++i) {
        p.value(i / p.value.cols, i % p.value.cols) = q.value(i / p.value.cols, i % p.value.cols);
      }
    });
  });
  normed.x = plain.x;
  Frame::Tape tape, normed_tape;
  moe::SerialExecutor serial;
  plain.forward(&tape, serial);
  normed.forward(&normed_tape, serial);
  CHECK(tape.y_normed.empty());
  for (Index t = 0; t < kTokens; ++t) {
    if (!kActive[t]) continue;
    double squares = 0;
    for (Index l = 0; l < 4; ++l) squares += tape.y_inner[4 * t + l] * tape.y_inner[4 * t + l];
    for (Index l = 0; l < 4; ++l) {
      const double want =
          tape.y_inner[4 * t + l] / std::sqrt(squares / 4 + 0.3) * (1 + static_cast<double>(l));
      CHECK(std::abs(normed_tape.y_normed[4 * t + l] - want) <= 16 * 0x1p-52 * std::abs(want));
    }
  }
}

TEST_CASE("gradients of a latent frame agree with central differences, whatever inactive rows hold",
          "[layer]") {
  moe::SerialExecutor serial;
  for (const Index width : {3, 17}) {
    for (const Index latent : {1, 5, -5}) {
      SquareLayer layer(width, std::abs(latent), latent < 0);
      Frame::Tape tape;
      Frame::Gradients gradients = layer.frame.make_gradients();
      layer.forward(&tape, serial);
      const std::vector<double> dx = layer.backward(tape, &gradients, true, serial);
      const auto f = [&] { return layer.objective(); };
      // |Win x|^2 <= D^2, and each of the objective's terms has fewer than 256 roundings.
      const double terms = static_cast<double>(kTokens * width * layer.latent * width * width);
      const double noise = 0x1p-53 * 256 * terms;
      layer.frame.visit_parameters(&gradients, [&](const moe::Parameter<double>& p) {
        INFO(p.name);
        Index wrong = 0;
        for (Index i = 0; i < p.value.size(); ++i) {
          const Index row = i / p.value.cols, col = i % p.value.cols;
          wrong += !test::agrees_with_difference(p.value(row, col), p.gradient(row, col), noise, f);
        }
        CHECK(wrong == 0);
      });
      Index wrong = 0;
      for (std::size_t i = 0; i < dx.size(); ++i) {
        if (kActive[i / static_cast<std::size_t>(width)]) {
          wrong += !test::agrees_with_difference(layer.x[i], dx[i], noise, f);
        } else {
          wrong += dx[i] != 0;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a latent frame gives the same bits with a tape, for any executor, with parts frozen", "[layer]") {
  const bool norm = GENERATE(false, true);
  SquareLayer layer(33, 19, norm);
  moe::SerialExecutor serial;
  Frame::Tape tape;
  const std::vector<double> y = layer.forward(nullptr, serial);
  CHECK(test::same_bits(y, layer.forward(&tape, serial)));
  Frame::Gradients gradients = layer.frame.make_gradients(), without_dx = gradients;
  const std::vector<double> dx = layer.backward(tape, &gradients, true, serial);
  CHECK(test::same_bits(dx, layer.backward(tape, nullptr, true, serial)));
  layer.backward(tape, &without_dx, false, serial);
  CHECK(test::same_bits(flat(layer.frame, gradients), flat(layer.frame, without_dx)));
  for (const Index threads : {2, 3}) {
    moe::PoolExecutor pool(threads);
    Frame::Tape other;
    Frame::Gradients again = layer.frame.make_gradients();
    CHECK(test::same_bits(y, layer.forward(&other, pool)));
    CHECK(test::same_bits(dx, layer.backward(other, &again, true, pool)));
    CHECK(test::same_bits(flat(layer.frame, gradients), flat(layer.frame, again)));
  }
}

TEST_CASE("in a layer, a latent frame gets its gradients without dx as well", "[layer]") {
  moe::MoeLayer layer(moe::softmax_top_k<double>({.width = 5, .experts = 3, .k = 2}),
                      moe::Mlp<moe::Silu, double>({3, 4, 6}), moe::Dropless{}, moe::NoShared{}, Frame(5, 4));
  layer.experts().initialise(1);
  layer.frame().initialise(2);
  CHECK(layer.width() == 5);
  std::mt19937_64 random(3);
  std::vector<double> x, dy, y(7 * 5), dx(7 * 5);
  test::fill_random(x, 7 * 5, random);
  test::fill_random(dy, 7 * 5, random);
  const moe::LayerInput<double> in(ConstView(x.data(), 7, 5));
  moe::LayerOutput<double> out(View(y.data(), 7, 5));
  decltype(layer)::Tape tape;
  moe::Workspace workspace;
  layer.forward_train(in, out, tape, workspace);
  auto with = layer.make_gradients(), without = layer.make_gradients();
  decltype(layer)::LayerGradients all(ConstView(dy.data(), 7, 5), View(dx.data(), 7, 5), with);
  decltype(layer)::LayerGradients parameters_only(ConstView(dy.data(), 7, 5), View{}, without);
  layer.backward(tape, all, workspace);
  layer.backward(tape, parameters_only, workspace);
  CHECK(test::same_bits(flat(layer.frame(), with.frame), flat(layer.frame(), without.frame)));
  Index zeros = 0;
  for (Index i = 0; i < with.frame.in.weight.size(); ++i) zeros += with.frame.in.weight[i] == 0;
  CHECK(with.frame.in.weight.size() - zeros == 4 * 5);  // all but the padding
}

TEST_CASE("a latent frame starts by seed, with different matrices, and refuses widths below 1", "[layer]") {
  const auto values = [](std::uint64_t seed) {
    Frame frame(4, 4);
    frame.initialise(seed);
    std::vector<double> all;
    frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      for (Index i = 0; i < p.value.size(); ++i) all.push_back(p.value(i / 4, i % 4));
    });
    return all;
  };
  const std::vector<double> once = values(1);
  CHECK(once == values(1));
  CHECK(once != values(2));
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(once[i] != once[16 + i]);
    CHECK(std::abs(once[i]) <= 0.5);
  }
  CHECK_THROWS_AS(Frame(0, 1), moe::config_error);
  CHECK_THROWS_AS(Frame(1, 0), moe::config_error);
  CHECK_THROWS_AS(Frame(1, 1, {.enabled = true, .eps = -1}), moe::config_error);
}
