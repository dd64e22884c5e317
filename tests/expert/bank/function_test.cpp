#include "moe/expert/bank/function.hpp"

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/forward_experts.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using In = moe::ConstMatrixView<double>;
using Out = moe::MatrixView<double>;

constexpr Index kWidth = 5, kExperts = 4;

/// z = tanh(x W) + b, row by row, so that a row's bits do not depend on the others. Parameters of its own.
struct Net {
  std::vector<Rows> w, dw;  // [D, D] each
  std::vector<Rows> b, db;  // [1, D] each

  Net() {
    for (Index e = 0; e < kExperts; ++e) {
      w.push_back(Rows::Random(kWidth, kWidth));
      b.push_back(Rows::Random(1, kWidth));
      dw.push_back(Rows::Zero(kWidth, kWidth));
      db.push_back(Rows::Zero(1, kWidth));
    }
  }
  void forward(Index e, In x, Out z) const {
    const auto i = static_cast<std::size_t>(e);
    REQUIRE(x.rows > 0);
    REQUIRE((x.stride == x.cols && z.stride == z.cols));  // a Map without strides
    const Eigen::Map<const Rows> rows(x.data, x.rows, x.cols);
    Eigen::Map<Rows> results(z.data, z.rows, z.cols);
    for (Index r = 0; r < x.rows; ++r) {
      for (Index j = 0; j < kWidth; ++j) {
        double pre = 0;
        for (Index k = 0; k < kWidth; ++k) pre += rows(r, k) * w[i](k, j);
        results(r, j) = std::tanh(pre) + b[i](0, j);
      }
    }
  }
  void backward(Index e, In x, In z, In dz, Out dx, bool trained) {
    const auto i = static_cast<std::size_t>(e);
    for (Index r = 0; r < x.rows; ++r) {
      for (Index k = 0; k < kWidth; ++k) dx(r, k) = 0;
      for (Index j = 0; j < kWidth; ++j) {
        const double act = z(r, j) - b[i](0, j), dpre = dz(r, j) * (1 - act * act);
        for (Index k = 0; k < kWidth; ++k) dx(r, k) += dpre * w[i](k, j);
        if (!trained) continue;
        for (Index k = 0; k < kWidth; ++k) dw[i](k, j) += x(r, k) * dpre;
        db[i](0, j) += dz(r, j);
      }
    }
  }
};

/// The net as a bank whose parameters the fixture's checks can walk over.
auto bank_of(Net& net) {
  return moe::function_experts<double>(
      {.experts = kExperts, .width = kWidth}, [&net](Index e, In x, Out z) { net.forward(e, x, z); },
      [&net](Index e, In x, In z, In dz, Out dx, bool trained) { net.backward(e, x, z, dz, dx, trained); });
}

TEST_CASE("experts as a function obey the laws of banks", "[expert][smoke]") {
  Net net;
  auto bank = bank_of(net);
  static_assert(moe::TrainableExpertBank<decltype(bank)>);
  test::check_bank_laws(bank, test::random_batch<double>(kWidth, {3, 0, 5, 1}, 1));
  test::check_bank_laws(bank, test::random_batch<double>(kWidth, {0, 0, 0, 0}, 2));
}

TEST_CASE("experts as a function give what the function gives", "[expert][smoke]") {
  Net net;
  const auto bank = bank_of(net);
  const auto batch = test::random_batch<double>(kWidth, {2, 4, 0, 3}, 3);
  const std::vector<double> z = test::run_forward(bank, batch);
  for (Index e = 0; e < kExperts; ++e) {
    const auto i = static_cast<std::size_t>(e);
    for (Index s = batch.offsets[i]; s < batch.offsets[i + 1]; ++s) {
      for (Index j = 0; j < kWidth; ++j) {
        long double pre = 0, magnitude = 0;
        for (Index k = 0; k < kWidth; ++k) {
          const long double term =
              static_cast<long double>(batch.x[static_cast<std::size_t>(s * kWidth + k)]) * net.w[i](k, j);
          pre += term;
          magnitude += std::abs(term);
        }
        // gamma_6 of the product, tanh within 2 units, the sum with b.
        const long double bound = 0x1p-53L * (2 * 6 * magnitude + 8);
        CHECK(std::abs(z[static_cast<std::size_t>(s * kWidth + j)] - (std::tanh(pre) + net.b[i](0, j))) <=
              bound);
      }
    }
  }
}

TEST_CASE("gradients of experts as a function agree with central differences", "[expert][smoke]") {
  Net net;
  auto bank = bank_of(net);
  auto batch = test::random_batch<double>(kWidth, {2, 3, 0, 4}, 4);
  test::check_bank_gradients(bank, batch, 1);  // x and weights
  for (std::size_t e = 0; e < net.w.size(); ++e) net.dw[e].setZero(), net.db[e].setZero();
  moe::SerialExecutor serial;
  decltype(bank)::Tape tape;
  decltype(bank)::Gradients gradients = bank.make_gradients();
  test::run_forward(bank, batch, &tape, serial);
  test::run_backward(bank, batch, tape, nullptr, true, serial);
  for (std::size_t e = 0; e < net.w.size(); ++e)
    CHECK((net.dw[e].isZero(0) && net.db[e].isZero(0)));  // frozen
  test::run_backward(bank, batch, tape, &gradients, true, serial);
  const double noise = 0x1p-53 * 512 * static_cast<double>(batch.slots() * kWidth);
  Index wrong = 0;
  for (std::size_t e = 0; e < net.w.size(); ++e) {
    const auto f = [&] { return test::objective(bank, batch); };
    for (Index i = 0; i < kWidth * kWidth; ++i) {
      wrong += !test::agrees_with_difference(net.w[e].data()[i], net.dw[e].data()[i], noise, f);
    }
    for (Index i = 0; i < kWidth; ++i) {
      wrong += !test::agrees_with_difference(net.b[e].data()[i], net.db[e].data()[i], noise, f);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("experts as a function need no backward, and stand beside other banks", "[expert][smoke]") {
  const auto twice = [](Index e, In x, Out z) noexcept {
    for (Index r = 0; r < x.rows; ++r) {
      for (Index j = 0; j < x.cols; ++j) z(r, j) = static_cast<double>(e + 2) * x(r, j);
    }
  };
  const auto bank = moe::function_experts<double>({.experts = 2, .width = 3}, twice);
  using Bank = std::remove_const_t<decltype(bank)>;
  static_assert(moe::ExpertBank<Bank> && !moe::TrainableExpertBank<Bank>);
  const moe::Composite<moe::ZeroComputation<double>, Bank> both(
      moe::ZeroComputation<double>({.width = 3, .copy = 1}), bank);
  const Rows x = Rows::Random(6, 3);
  const moe::ExpertId ids[] = {0, 0, 1, 2, 2, 2};
  Rows y(6, 3), ones = Rows::Ones(6, 1);
  moe::Workspace workspace;
  moe::forward_experts(both, x, moe::ConstMatrixView<moe::ExpertId>(ids, 6, 1), ones, y, workspace);
  for (Index t = 0; t < 6; ++t) CHECK(y.row(t) == (ids[t] + 1) * x.row(t));
}

TEST_CASE("experts as a function refuse bad sizes and tapes", "[expert][smoke]") {
  const auto nothing = [](Index, In, Out) noexcept {};
  CHECK_THROWS_AS(moe::function_experts<double>({.experts = 0, .width = 3}, nothing), moe::config_error);
  CHECK_THROWS_AS(moe::function_experts<double>({.experts = 2, .width = 0}, nothing), moe::config_error);
  Net net;
  auto bank = bank_of(net);
  decltype(bank)::Tape tape;
  moe::SerialExecutor serial;
  const auto batch = test::random_batch<double>(kWidth, {1, 1, 1, 1}, 6);
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, test::random_batch<double>(kWidth, {2, 1, 1, 1}, 6), &tape, serial);
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
}

}  // namespace
