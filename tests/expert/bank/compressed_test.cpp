#include "moe/expert/bank/compressed.hpp"

#include "expert/bank_fixture.hpp"

using moe::Index;

static_assert(moe::TrainableExpertBank<moe::CompressedExperts<double>>);

namespace {
using Bank = moe::CompressedExperts<double>;
}  // namespace

TEST_CASE("a compressed expert scales its row, number by number; at first to nothing", "[expert]") {
  Bank bank({.experts = 2, .width = 5});
  const auto batch = test::random_batch<double>(5, {2, 3}, 1);
  for (const double z : test::run_forward(bank, batch)) CHECK(z == 0);
  test::randomise_bank(bank, 2);
  const auto z = test::run_forward(bank, batch);
  std::vector<double> c;
  bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    for (Index j = 0; j < 5; ++j) c.push_back(p.value(j, 0));
  });
  for (std::size_t i = 0; i < z.size(); ++i) CHECK(z[i] == batch.x[i] * c[(i < 10 ? 0 : 5) + i % 5]);
}

TEST_CASE("gradients of compressed experts agree with central differences, and rows do not feel the batch",
          "[expert]") {
  for (const Index width : {1, 6, 19}) {
    Bank bank({.experts = 3, .width = width});
    test::randomise_bank(bank, 3);
    test::check_bank_gradients(bank, test::random_batch<double>(width, {3, 0, 2}, 4), 1);
    test::check_bank_laws(bank, test::random_batch<double>(width, {20, 0, 3}, 5));
  }
}

TEST_CASE("sizes of compressed experts are checked", "[expert]") {
  CHECK_THROWS_AS(Bank({.experts = 0, .width = 3}), moe::config_error);
  CHECK_THROWS_AS(Bank({.experts = 1, .width = 0}), moe::config_error);
  CHECK_THROWS_AS(Bank({.experts = 8, .width = Index{1} << 61}), moe::size_error);
  Bank bank({.experts = 6, .width = 2});
  auto other = Bank({.experts = 4, .width = 3}).make_gradients();
  const auto batch = test::random_batch<double>(2, {1, 0, 0, 0, 0, 0}, 1);
  moe::SerialExecutor serial;
  Bank::Tape tape;
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &other, true, serial), moe::shape_error);
  Bank taken = std::move(bank);
  CHECK_THROWS_AS(test::run_forward(bank, batch), moe::state_error);  // NOLINT(bugprone-use-after-move)
}
