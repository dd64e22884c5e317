#include "moe/expert/bank/feature_gated.hpp"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/normed.hpp"

using moe::Index;

namespace {

using Inner = moe::Mlp<moe::Silu, double>;
using Bank = moe::FeatureGated<Inner>;

static_assert(moe::TrainableExpertBank<Bank>);
static_assert(moe::TrainableExpertBank<moe::NormedExperts<Bank>>);

Bank bank_of(Index experts, Index width, Index rank) {
  return {Inner({.experts = experts, .width = width, .hidden = 5, .bias = true}), rank};
}

}  // namespace

TEST_CASE("gates of 0 leave the experts' bits; else they read x o 2 sigmoid(B A x), by plain loops",
          "[expert]") {
  Bank bank = bank_of(2, 4, 3);
  test::randomise_bank(bank, 1);
  const auto batch = test::random_batch<double>(4, {3, 2}, 2);
  moe::SerialExecutor serial;
  std::map<std::string, moe::ParameterView<double>> gate;
  bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { gate[p.name] = p.value; });
  auto gated = batch;
  for (std::size_t s = 0; s < 5; ++s) {
    const std::string name = std::string("feature_gate.experts.") + (s < 3 ? "0" : "1");
    const auto a = gate.at(name + ".fc1.weight"), b = gate.at(name + ".fc2.weight");
    for (Index i = 0; i < 4; ++i) {
      double map = 0;
      for (Index k = 0; k < 3; ++k) {
        double down = 0;
        for (Index j = 0; j < 4; ++j) down += a(k, j) * batch.x[4 * s + static_cast<std::size_t>(j)];
        map += b(i, k) * down;
      }
      gated.x[4 * s + static_cast<std::size_t>(i)] *= 2 / (1 + std::exp(-map));
    }
  }
  const auto z = test::run_forward(bank, batch, nullptr, serial);
  const auto want = test::run_forward(bank.inner(), gated, nullptr, serial);
  for (std::size_t i = 0; i < z.size(); ++i) CHECK(std::abs(z[i] - want[i]) <= 1e-13);

  for (auto& [name, values] : gate) {
    if (!test::contains(name, "feature_gate")) continue;
    for (Index i = 0; i < values.size(); ++i) values(i / values.cols, i % values.cols) = 0;
  }
  CHECK(test::same_bits(test::run_forward(bank, batch, nullptr, serial),
                        test::run_forward(bank.inner(), batch, nullptr, serial)));
}

TEST_CASE("gradients of gated experts agree with central differences", "[expert]") {
  Bank bank = bank_of(2, 6, 3);
  test::randomise_bank(bank, 3);
  test::check_bank_gradients(bank, test::random_batch<double>(6, {2, 3}, 4), 1);
}

TEST_CASE("rows of gated experts do not feel the batch", "[expert]") {
  moe::FeatureGated<moe::Mlp<moe::Relu>> bank(moe::Mlp<moe::Relu>({.experts = 3, .width = 33, .hidden = 20}),
                                              7);
  test::randomise_bank(bank, 5);
  test::check_bank_laws(bank, test::random_batch<float>(33, {20, 0, 13}, 6));
}

TEST_CASE("what gated experts refuse", "[expert]") {
  CHECK_THROWS_AS(bank_of(2, 4, 0), moe::config_error);
  Bank bank = bank_of(2, 4, 3);
  const auto batch = test::random_batch<double>(4, {3, 2}, 2);
  std::vector<const double*> dy = batch.rows(batch.dy);
  std::vector<double> dweight(5);
  const std::vector<const double*> x = batch.rows(batch.x);
  const moe::RowBatch<double> rows{x.data(), batch.token.data(), batch.offsets.data(), 2};
  moe::Arena none;
  moe::SerialExecutor serial;
  CHECK_THROWS_AS(bank.backward(rows, Bank::Tape{}, {dy.data(), batch.weight.data(), dweight.data(), {}},
                                nullptr, none, serial),
                  moe::state_error);
}
