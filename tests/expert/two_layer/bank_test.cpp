#include "moe/expert/two_layer/bank.hpp"

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"

using moe::Index;

namespace {

using DoubleGlu = moe::Glu<moe::Silu, double>;
using FloatMlp = moe::Mlp<moe::AnyActivation, float>;

DoubleGlu random_glu(Index experts, Index width, Index hidden, bool bias) {
  DoubleGlu bank({experts, width, hidden, bias});
  test::randomise_bank(bank, 9);
  return bank;
}

}  // namespace

TEST_CASE("a bank's bits depend on the row alone", "[expert]") {
  for (const bool bias : {false, true}) {
    for (const Index width : {1, 17, 70}) {
      for (const Index hidden : {3, 33}) {
        INFO("D " << width << " F " << hidden << " bias " << bias);
        DoubleGlu glu = random_glu(4, width, hidden, bias);
        test::check_bank_laws(glu, test::random_batch<double>(width, {1, 0, 40, 3}, 5));
      }
    }
  }
  FloatMlp mlp({3, 65, 37, true}, {moe::ActivationKind::gelu_erf});
  test::randomise_bank(mlp, 10);
  test::check_bank_laws(mlp, test::random_batch<float>(65, {0, 21, 2}, 6));
}

TEST_CASE("frozen slots move the blocks of rows that gradients are summed over", "[expert]") {
  DoubleGlu glu = random_glu(3, 17, 9, true);
  test::check_frozen_slots(glu, test::random_batch<double>(17, {300, 0, 140}, 7));
  FloatMlp mlp({2, 9, 20, true}, {moe::ActivationKind::silu});
  test::randomise_bank(mlp, 11);
  test::check_frozen_slots(mlp, test::random_batch<float>(9, {129, 400}, 8));
}

TEST_CASE("a bank without rows does nothing", "[expert]") {
  DoubleGlu bank = random_glu(2, 3, 5, true);
  test::check_bank_laws(bank, test::random_batch<double>(3, {0, 0}, 1));
}

TEST_CASE("a row of infinities and NaN spoils its own result and its expert's gradients only", "[expert]") {
  DoubleGlu bank = random_glu(2, 5, 19, true);
  auto batch = test::random_batch<double>(5, {3, 2}, 4);
  auto spoiled = batch;
  spoiled.x[5] = std::numeric_limits<double>::infinity();
  spoiled.x[7] = std::numeric_limits<double>::quiet_NaN();
  moe::SerialExecutor serial;
  DoubleGlu::Tape tape;
  DoubleGlu::Gradients gradients = bank.make_gradients();
  const auto z = test::run_forward(bank, batch), other = test::run_forward(bank, spoiled, &tape, serial);
  const auto back = test::run_backward(bank, spoiled, tape, &gradients, true, serial);
  for (std::size_t i = 0; i < z.size(); ++i) {
    const bool own = i >= 5 && i < 10;
    CHECK(std::isnan(other[i]) == own);
    CHECK(std::isnan(back.dx[i]) == own);
    CHECK((own || other[i] == z[i]));
  }
  Index finite_of_other = 0;
  bank.visit_parameters(&gradients, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.gradient.size(); ++i) {
      const double g = p.gradient(i / p.gradient.cols, i % p.gradient.cols);
      finite_of_other += test::contains(p.name, "experts.1.") && std::isfinite(g);
    }
  });
  CHECK(finite_of_other == 3 * 5 * 19 + 2 * 19 + 5);
}

TEST_CASE("gradients are added to", "[expert]") {
  DoubleGlu bank = random_glu(2, 17, 33, true);
  const auto batch =
      test::random_batch<double>(17, {1, 1}, 3);  // one row each: a second pass doubles exactly
  moe::SerialExecutor serial;
  DoubleGlu::Tape tape;
  test::run_forward(bank, batch, &tape, serial);
  DoubleGlu::Gradients gradients = bank.make_gradients();
  test::run_backward(bank, batch, tape, &gradients, false, serial);
  const std::vector<double> once = test::flat_gradients(bank, gradients);
  test::run_backward(bank, batch, tape, &gradients, false, serial);
  const std::vector<double> twice = test::flat_gradients(bank, gradients);
  Index different = 0;
  for (std::size_t i = 0; i < once.size(); ++i) different += !(twice[i] == 2 * once[i]);
  CHECK(different == 0);
}

TEST_CASE("a tape of another batch, gradients of another bank and too small a workspace are refused",
          "[expert]") {
  DoubleGlu bank = random_glu(2, 5, 19, true);
  const auto batch = test::random_batch<double>(5, {3, 2}, 4);
  moe::SerialExecutor serial;
  DoubleGlu::Tape tape;
  DoubleGlu::Gradients gradients = random_glu(2, 5, 19, false).make_gradients();
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, batch, &tape, serial);
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &gradients, true, serial), moe::shape_error);
  CHECK_THROWS_AS(test::run_backward(bank, batch.alone(0), tape, nullptr, true, serial), moe::state_error);
  DoubleGlu::Tape wider;
  DoubleGlu other = random_glu(2, 5, 40, true);
  test::run_forward(other, batch, &wider, serial);
  CHECK_THROWS_AS(test::run_backward(bank, batch, wider, nullptr, true, serial), moe::state_error);

  moe::Arena measuring;
  bank.measure(measuring, batch.slots(), 1);
  // What is measured beyond alignment's slack is needed: an aligned block with one line less does not do.
  moe::Buffer<std::byte> memory(measuring.bytes() - 2 * moe::kAlignment);
  moe::Arena small(memory.data(), memory.size());
  test::SlotRows<double> z(batch.slots(), 5);
  const auto row = batch.rows(batch.x);
  const moe::RowBatch<double> in{row.data(), batch.token.data(), batch.offsets.data(), 2};
  CHECK_THROWS_AS(bank.forward(in, z.sink(), small, serial), moe::workspace_error);
  for (const double v : z.data) CHECK(v == test::SlotRows<double>::kUntouched);
}
