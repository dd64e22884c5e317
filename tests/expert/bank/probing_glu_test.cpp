#include "moe/expert/bank/probing_glu.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Bank = moe::ProbingGlu<moe::Silu, double>;
static_assert(moe::ProbingBank<Bank> && moe::ProbingBank<moe::ProbingGlu<moe::Relu>>);

}  // namespace

TEST_CASE("ProbingGlu: parameters as published, drawn within their bounds, by seed", "[expert]") {
  Bank bank({.experts = 3, .width = 16, .probe = 4, .hidden = 9}), other = bank;
  bank.initialise(1);
  std::vector<std::string> names;
  Index numbers = 0;
  bank.visit_parameters(
      nullptr,
      [&](const moe::Parameter<double>& p) {
        names.emplace_back(p.name);
        numbers += p.value.size();
        double largest = 0;
        for (Index i = 0; i < p.value.size(); ++i)
          largest = std::fmax(largest, std::abs(p.value(i / p.value.cols, i % p.value.cols)));
        CHECK(largest <= 1 / std::sqrt(static_cast<double>(p.value.cols)));
        CHECK(largest >= 0.5 / std::sqrt(static_cast<double>(p.value.cols)));
      },
      10);
  CHECK(names[0] == "experts.probe.weight");
  CHECK(names[1] == "experts.10.gate_proj.weight");
  CHECK(names.back() == "experts.12.down_proj.weight");
  CHECK(names.size() == 10);
  CHECK(numbers == 3 * (4 * 16 + 9 * 4 + 2 * 9 * 16));
  const auto values = [](Bank& of) {
    std::vector<double> all;
    of.visit_storage(nullptr,
                     [&](const char*, double* v, double*, Index n) { all.insert(all.end(), v, v + n); });
    return all;
  };
  other.initialise(1);
  CHECK(values(other) == values(bank));
  other.initialise(2);
  CHECK(values(other) != values(bank));
}

TEST_CASE("ProbingGlu: a batch without probes, foreign tapes and gradients are refused", "[expert]") {
  Bank bank({.experts = 2, .width = 3, .probe = 2, .hidden = 4});
  const std::vector<double> x{1, 2, 3};
  const double* row = x.data();
  const std::int32_t token = 0;
  const std::vector<Index> offsets{0, 1, 1};
  std::vector<double> z(8);
  const double* result = z.data();
  moe::RowBatch<double> batch{&row, &token, offsets.data(), 2};
  const moe::RowSink<double> sink{z.data(), 8, &result};
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(1 << 20);
  moe::SerialExecutor serial;
  CHECK_THROWS_AS(bank.forward(batch, sink, arena, serial), moe::state_error);
  const auto probes = bank.carve_probes(arena, 1);
  const std::int32_t first = 0;
  bank.probe({moe::ConstMatrixView<double>(x.data(), 1, 3), &first, 1}, probes, arena, serial);
  batch.probes = &probes;
  bank.forward(batch, sink, arena, serial);
  const Bank wide({.experts = 2, .width = 3, .probe = 3, .hidden = 4});
  CHECK_THROWS_AS(wide.forward(batch, sink, arena, serial), moe::state_error);

  Bank::Tape tape;
  double weight = 1, dweight = 0;
  std::vector<double> dy{1, 1, 1};
  const double* dy_row = dy.data();
  const moe::RowGradients<double> rows{&dy_row, &weight, &dweight};
  CHECK_THROWS_AS(bank.backward(batch, tape, rows, nullptr, arena, serial), moe::state_error);
  bank.forward_train(batch, sink, tape, arena, serial);
  auto gradients = wide.make_gradients();
  CHECK_THROWS_AS(bank.backward(batch, tape, rows, &gradients, arena, serial), moe::shape_error);
  bank.backward(batch, tape, rows, nullptr, arena, serial);

  for (Index moe::ProbingGluOptions::*size :
       {&moe::ProbingGluOptions::experts, &moe::ProbingGluOptions::width, &moe::ProbingGluOptions::probe,
        &moe::ProbingGluOptions::hidden}) {
    moe::ProbingGluOptions bad{.experts = 2, .width = 3, .probe = 2, .hidden = 4};
    bad.*size = 0;
    CHECK_THROWS_AS(Bank(bad), moe::config_error);
  }
  CHECK_THROWS_AS(Bank({.experts = 1 << 20, .width = 3, .probe = 1 << 20, .hidden = 4}), moe::config_error);
}
