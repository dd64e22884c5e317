#include "moe/expert/bank/normed.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"

using moe::Index;

namespace {

using Mlp = moe::Mlp<moe::Silu, double>;
using Bank = moe::NormedExperts<Mlp>;
using Plain = moe::NormedExperts<Mlp, moe::Identity>;

static_assert(moe::TrainableExpertBank<Bank>);
static_assert(moe::impl::bank_coupling<Bank>(true) == moe::Coupling::per_batch);
static_assert(moe::impl::bank_coupling<Bank>(false) == moe::Coupling::row_independent);
static_assert(moe::impl::bank_coupling<moe::Composite<Mlp, Bank>>(true) == moe::Coupling::per_batch);
static_assert(moe::impl::bank_coupling<moe::Composite<Mlp, Bank>>(false) == moe::Coupling::row_independent);

Mlp mlp(Index experts, Index width) {
  Mlp bank({.experts = experts, .width = width, .hidden = 6, .bias = true});
  test::randomise_bank(bank, 1);
  return bank;
}

void set_state(Bank& bank) {
  auto f = [](const char* name, auto* values, Index n) {
    for (Index i = 0; i < n; ++i)
      values[i] =
          test::contains(name, "mean") ? 0.1 * static_cast<double>(i) : 0.5 + static_cast<double>(i % 3);
  };
  bank.visit_state(f);
}

/// Two experts with weights that add up to 1 over 12 rows, all rows to both.
struct Trained {
  std::vector<double> x = std::vector<double>(12 * 5), y = x, dy = x, dx = x;
  moe::Workspace workspace;

  Trained() {
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal;
    for (double& v : x) v = normal(random);
    for (double& v : dy) v = normal(random);
  }
  moe::MatrixView<double> rows(std::vector<double>& of) const { return {of.data(), 12, 5}; }
  template <class L>
  void forward(const L& layer, typename L::Tape& tape, moe::Mode mode) {
    moe::LayerOutput<double> out(rows(y));
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 12, 5));
    in.mode = mode;
    layer.forward_train(in, out, tape, workspace);
  }
};

}  // namespace

TEST_CASE("normed experts that do not train keep rows apart, and their gradients are right", "[expert]") {
  Bank bank(mlp(3, 7));
  test::randomise_bank(bank, 2);
  set_state(bank);
  test::check_bank_laws(bank, test::random_batch<double>(7, {20, 0, 3}, 3));
  test::check_bank_gradients(bank, test::random_batch<double>(7, {3, 0, 2}, 4), 1);
}

TEST_CASE("saved statistics norm by the formula", "[expert][smoke]") {
  Bank bank(mlp(2, 4), {.eps = 0.3});
  set_state(bank);
  const auto batch = test::random_batch<double>(4, {3, 2}, 5);
  const auto raw = test::run_forward(bank.inner(), batch), z = test::run_forward(bank, batch);
  for (std::size_t i = 0; i < z.size(); ++i) {
    const std::size_t at = (i < 12 ? 0 : 4) + i % 4;
    const double u =
        (raw[i] - 0.1 * static_cast<double>(at)) / std::sqrt(0.5 + static_cast<double>(at % 3) + 0.3);
    CHECK(std::abs(z[i] - u / (1 + std::exp(-u))) <= 1e-15 * 8);
  }
}

TEST_CASE("in training every expert's results have mean 0 and variance 1; statistics are saved by steps",
          "[expert]") {
  Trained call;
  moe::MoeLayer layer(moe::top_k_softmax<double>({.width = 5, .experts = 1, .k = 1}),
                      Plain(mlp(1, 5), {.eps = 1e-12, .momentum = 1}));
  auto tape = layer.make_tape();
  call.forward(layer, tape, moe::Mode::training);
  for (std::size_t j = 0; j < 5; ++j) {
    double mean = 0, square = 0;
    for (std::size_t t = 0; t < 12; ++t)
      mean += call.y[5 * t + j], square += call.y[5 * t + j] * call.y[5 * t + j];
    CHECK(std::abs(mean / 12) <= 1e-14);
    CHECK(std::abs(square / 12 - 1) <= 1e-9);
  }

  // With momentum 1 the saved statistics are the step's, of two calls like one of both.
  auto gradients = layer.make_gradients();
  using Back = decltype(layer)::LayerGradients;
  const auto first = call.x;
  std::vector<double> raw;
  for (int half = 0; half < 2; ++half) {
    for (double& v : call.x) v += half;
    call.forward(layer, tape, moe::Mode::training);
    layer.backward(tape, Back(call.rows(call.dy), call.rows(call.dx), gradients), call.workspace);
    auto batch = test::random_batch<double>(5, {12}, 1);
    batch.x = call.x;
    const auto own = test::run_forward(layer.experts().inner(), batch);
    raw.insert(raw.end(), own.begin(), own.end());
  }
  layer.experts().take_statistics(gradients.experts);
  std::vector<double> saved;
  auto f = [&](const char*, auto* v, Index n) { saved.insert(saved.end(), v, v + n); };
  layer.visit_state(f);
  REQUIRE(saved.size() == 10);
  for (std::size_t j = 0; j < 5; ++j) {
    double mean = 0, square = 0;
    for (std::size_t t = 0; t < 24; ++t) mean += raw[5 * t + j] / 24;
    for (std::size_t t = 0; t < 24; ++t) square += (raw[5 * t + j] - mean) * (raw[5 * t + j] - mean) / 23;
    CHECK(std::abs(saved[j] - mean) <= 1e-14);
    CHECK(std::abs(saved[5 + j] - square) <= 1e-13);
  }
  CHECK(gradients.experts.count[0] == 0);
  // Nothing new: nothing moves.
  layer.experts().take_statistics(gradients.experts);
  const auto before = saved;
  saved.clear();
  layer.visit_state(f);
  CHECK(saved == before);
}

TEST_CASE("what is saved of a norm is checked, as are its options", "[expert]") {
  CHECK_THROWS_AS(Bank(mlp(1, 3), {.eps = 0}), moe::config_error);
  CHECK_THROWS_AS(Bank(mlp(1, 3), {.eps = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(Bank(mlp(1, 3), {.momentum = 1.5}), moe::config_error);
  Bank bank(mlp(2, 3));
  auto bad = [](const char*, auto* values, Index) { values[0] = -1; };
  CHECK_THROWS_AS(bank.visit_state(bad), moe::numeric_error);
  const auto batch = test::random_batch<double>(3, {2, 1}, 1);
  moe::SerialExecutor serial;
  Bank::Tape tape;
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, batch, &tape, serial);
  auto other = Bank(mlp(2, 4)).make_gradients();
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &other, true, serial), moe::shape_error);
  CHECK_THROWS_AS(bank.take_statistics(other), moe::shape_error);
}
