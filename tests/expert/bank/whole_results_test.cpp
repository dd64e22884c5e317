#include "moe/expert/bank/whole_results.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"

namespace {

using moe::Index;
using Glu = moe::Glu<moe::Silu, double>;
using Cheap = moe::Composite<Glu, moe::ZeroComputation<double>>;
using Bank = moe::WholeResults<Cheap, moe::SoftplusResponse>;
static_assert(moe::ProbingBank<Bank>);
static_assert(moe::ProbingBank<moe::WholeResults<moe::Glu<moe::Silu>, moe::DotResponse<float>>>);

Cheap cheap() {
  return Cheap(Glu({.experts = 2, .width = 5, .hidden = 3}),
               moe::ZeroComputation<double>({.width = 5, .zero = 1, .copy = 1, .constant = 1}));
}

}  // namespace

TEST_CASE("WholeResults: without probes it is the bank that it holds", "[expert]") {
  moe::WholeResults<Glu, moe::LengthResponse> bank(
      Glu({.experts = 3, .width = 5, .hidden = 4, .bias = true}));
  test::randomise_bank(bank, 1);
  const auto batch = test::random_batch<double>(5, {3, 0, 4}, 2);
  CHECK(test::run_forward(bank, batch) == test::run_forward(bank.inner(), batch));
  test::check_bank_laws(bank, batch);
}

TEST_CASE("WholeResults: probes are every expert's result of every row, also of those that compute nothing",
          "[expert]") {
  Bank bank(cheap());
  test::randomise_bank(bank, 3);
  const Index tokens = 4, d = 5, experts = bank.experts();
  REQUIRE(experts == 5);
  test::BankBatch<double> every = test::random_batch<double>(d, std::vector<Index>(5, tokens), 4);
  for (std::size_t i = 0; i < every.x.size(); ++i)
    every.x[i] = every.x[i % static_cast<std::size_t>(tokens * d)];
  for (std::size_t s = 0; s < every.token.size(); ++s) every.token[s] = static_cast<std::int32_t>(s) % 4;
  const std::vector<double> want = test::run_forward(bank.inner(), every);
  std::vector<double> x(every.x.begin(), every.x.begin() + tokens * d);
  x[static_cast<std::size_t>(d)] = std::numeric_limits<double>::quiet_NaN();  // row 1 takes no part
  x[static_cast<std::size_t>(3 * d)] = -std::numeric_limits<double>::infinity();
  const std::vector<std::int32_t> rows{0, 2, 3};
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(1 << 18);
  moe::PoolExecutor pool(2);
  const auto probes = bank.carve_probes(arena, tokens);
  bank.probe({moe::ConstMatrixView<double>(x.data(), tokens, d), rows.data(), 3}, probes, arena, pool);
  for (Index t = 0; t < tokens; ++t) {
    for (Index e = 0; e < experts; ++e) {
      const double response = probes.response(t, e);
      if (t == 1) CHECK(response == 0);
      if (t == 3) CHECK(std::isnan(response));
      if (t == 1 || t == 3) continue;
      double mean = 0;
      for (Index j = 0; j < d; ++j) {
        const double z = want[static_cast<std::size_t>((e * tokens + t) * d + j)];
        CHECK(probes.of(t, e)[j] == z);
        mean += std::log1p(std::exp(z)) / static_cast<double>(d);
      }
      CHECK(std::abs(response - mean) <= 1e-15 * (1 + mean));
    }
  }
  // Slots go on with the probe itself.
  const std::int32_t token = 2;
  std::vector<Index> offsets{0, 0, 1, 1, 1, 1};
  const double* row = x.data() + 2 * d;
  std::vector<double> z(8, 7);
  const double* result = z.data();
  moe::RowBatch<double> batch{&row, &token, offsets.data(), experts};
  batch.probes = &probes;
  moe::SerialExecutor serial;
  bank.forward(batch, {z.data(), 8, &result}, arena, serial);
  CHECK(result == probes.of(2, 1));
  CHECK(z == std::vector<double>(8, 7));

  Bank::Tape tape;
  double weight = 2, dweight = 0;
  const std::vector<double> dy{1, -1, 2, 0, 3};
  const double* dy_row = dy.data();
  const auto dprobes = bank.carve_probes(arena, tokens);
  moe::fill_row(0.0, dprobes.data, dprobes.size);
  moe::RowGradients<double> back{&dy_row, &weight, &dweight, {z.data(), 8, &result}};
  back.dprobes = &dprobes;
  CHECK_THROWS_AS(bank.backward(batch, tape, back, nullptr, arena, serial), moe::state_error);
  bank.forward_train(batch, {z.data(), 8, &result}, tape, arena, serial);
  bank.backward(batch, tape, back, nullptr, arena, serial);
  CHECK(result == nullptr);
  double want_dweight = 0;
  for (Index j = 0; j < d; ++j) {
    const auto i = static_cast<std::size_t>(j);
    CHECK(dprobes.of(2, 1)[j] == 2 * dy[i]);
    want_dweight += dy[i] * probes.of(2, 1)[j];
  }
  CHECK(std::abs(dweight - want_dweight) <= 1e-15);
  batch.probes = nullptr;
  CHECK_THROWS_AS(bank.backward(batch, tape, back, nullptr, arena, serial), moe::state_error);
}

TEST_CASE("responses: values by hand, derivatives by differences", "[expert]") {
  const std::vector<double> z{3, -4, 0.5};
  CHECK(std::abs(moe::LengthResponse{}.value(0, z.data(), 3) - std::sqrt(25.25)) <= 1e-15);
  moe::DotResponse<double> dot(2, 3);
  dot.visit_parameters(nullptr, [](const moe::Parameter<double>& p) {
    CHECK(p.value(1, 2) == 0);
    for (Index i = 0; i < 6; ++i) p.value(i / 3, i % 3) = static_cast<double>(i);
  });
  CHECK(dot.value(1, z.data(), 3) == 3 * 3 - 4 * 4 + 0.5 * 5);
  const auto check = [&](const auto& response) {
    const double value = response.value(1, z.data(), 3);
    std::vector<double> dz{1, 1, 1};
    response.backward(1, z.data(), 3, value, 2.0, dz.data());
    for (std::size_t j = 0; j < 3; ++j) {
      std::vector<double> up = z, down = z;
      up[j] += 1e-6, down[j] -= 1e-6;
      const double slope = (response.value(1, up.data(), 3) - response.value(1, down.data(), 3)) / 2e-6;
      CHECK(std::abs(dz[j] - 1 - 2 * slope) <= 1e-8);
    }
  };
  check(moe::SoftplusResponse{});
  check(moe::LengthResponse{});
  check(dot);
  const std::vector<double> none(3);
  std::vector<double> dz(3);
  moe::LengthResponse{}.backward(0, none.data(), 3, moe::LengthResponse{}.value(0, none.data(), 3), 1.0,
                                 dz.data());
  CHECK(dz == none);

  using Dot = moe::WholeResults<Glu, moe::DotResponse<double>>;
  CHECK_THROWS_AS(Dot(Glu({.experts = 2, .width = 4, .hidden = 3}), dot), moe::config_error);
  CHECK_THROWS_AS(Dot(Glu({.experts = 3, .width = 3, .hidden = 3}), dot), moe::config_error);
  CHECK_THROWS_AS(moe::DotResponse<double>(0, 3), moe::config_error);
  CHECK_THROWS_AS(moe::DotResponse<double>(3, 0), moe::config_error);
  Dot bank(Glu({.experts = 2, .width = 3, .hidden = 3}), dot);
  Dot::Gradients gradients = bank.make_gradients();
  gradients.response = moe::DotResponse<double>(3, 2).make_gradients();
  CHECK_THROWS_AS(bank.visit_storage(&gradients, [](auto&&...) {}), moe::shape_error);
}

TEST_CASE("WholeResults: the state of the bank that it holds is shown", "[expert]") {
  moe::WholeResults<moe::NormedExperts<Glu>, moe::LengthResponse> bank(
      moe::NormedExperts<Glu>(Glu({.experts = 2, .width = 5, .hidden = 3})));
  std::vector<std::string> names;
  const auto take = [&](const char* name, const double*, Index) { names.emplace_back(name); };
  std::as_const(bank).visit_state(take);
  bank.visit_state(take);
  CHECK(names == std::vector<std::string>{"experts.norm.mean", "experts.norm.variance", "experts.norm.mean",
                                          "experts.norm.variance"});
}
