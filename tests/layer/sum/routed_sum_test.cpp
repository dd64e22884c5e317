#include "moe/layer/sum/routed_sum.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/executor/pool.hpp"
#include "moe/expert/bank/function.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/capacity/place_limit.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/router/named/top_k.hpp"

namespace {

using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
using Router = moe::SoftmaxTopK<double>;
using Bank = moe::Glu<moe::Silu, double>;
using Sum = moe::RoutedSum<Router, Bank>;

constexpr Index kTokens = 7, kWidth = 6, kExperts = 5;

Router router() {
  Router r = moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2});
  r.scorer().initialise(4, 2);
  r.set_non_finite(moe::NonFinite::isolate_row);
  return r;
}
Bank bank() {
  Bank b({.experts = kExperts, .width = kWidth, .hidden = 4});
  b.initialise(5);
  return b;
}

struct Rows {
  std::vector<double> x, y, dy, dx;
  std::vector<std::uint64_t> key;
  std::optional<moe::DrawKey> draws;
  explicit Rows(Index tokens = kTokens) {
    std::mt19937_64 random(6);
    const auto n = static_cast<std::size_t>(tokens * kWidth);
    for (auto* v : {&x, &y, &dy, &dx}) test::fill_random(*v, n, random);
  }
  Index tokens() const { return static_cast<Index>(x.size()) / kWidth; }
  ConstView of(const std::vector<double>& v) const { return {v.data(), tokens(), kWidth}; }
  View of(std::vector<double>& v) const { return {v.data(), tokens(), kWidth}; }
  moe::RouterInput<double> input(const bool* valid = nullptr) const {
    moe::RouterInput<double> in;
    in.x = of(x);
    in.row_key = key;
    in.draws = draws;
    if (valid != nullptr) in.valid = {valid, static_cast<std::size_t>(tokens())};
    return in;
  }
};

template <class S, class X>
moe::Routed<double> forward(const S& sum, Rows& rows, moe::SumFrom from, typename S::Tape* tape, X& executor,
                            const bool* valid = nullptr) {
  const moe::CallShape shape{rows.tokens(), 1};
  test::ExactArena arena(test::measured_bytes(
      sum, [&](const S& s, moe::Arena& a) { s.measure(a, shape, executor.concurrency()); }));
  const moe::SumRows<double> at{rows.of(rows.x), rows.of(rows.y), from};
  const moe::RouterInput<double> in = rows.input(valid);
  if constexpr (S::kTrainable) {
    if (tape != nullptr) return sum.forward_train(in, at, *tape, arena.get(), executor);
  }
  return sum.forward(in, at, arena.get(), executor);
}

template <class S, class X>
void backward(const S& sum, Rows& rows, moe::SumFrom from, const typename S::Tape& tape,
              typename S::Gradients* gradients, X& executor) {
  const moe::CallShape shape{rows.tokens(), 1};
  test::ExactArena arena(test::measured_bytes(
      sum, [&](const S& s, moe::Arena& a) { s.measure_backward(a, shape, executor.concurrency()); }));
  const moe::SumGradients<double> out{rows.of(rows.dy), rows.of(rows.dx), from};
  const double* const dweight =
      sum.backward_experts(tape, rows.of(rows.x), out, gradients == nullptr ? nullptr : &gradients->experts,
                           arena.get(), executor);
  const moe::RouteGradients<double> at_router{dweight, 1, rows.of(rows.dx)};
  sum.backward_router(tape, rows.input(), at_router, gradients == nullptr ? nullptr : &gradients->router,
                      arena.get(), executor);
}

TEST_CASE("a routed sum is the weighted sum of its experts, from zero or onto y", "[layer][smoke]") {
  const Sum sum(router(), bank());
  CHECK(sum.width() == kWidth);
  CHECK(Sum::coupling(true) == moe::Coupling::row_independent);
  CHECK(sum.max_pairs({kTokens, 1}) == 2 * kTokens);
  const bool valid[kTokens] = {true, true, false, true, true, true, true};
  Rows rows, onto = rows;
  rows.x[1] = onto.x[1] = std::nan("");  // a spoiled row: no pairs
  const std::vector<double> before = onto.y;
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(3);
  Sum::Tape tape;
  forward(sum, rows, moe::SumFrom::zero, &tape, serial, valid);
  forward(sum, onto, moe::SumFrom::y, nullptr, pool, valid);
  CHECK(tape.routes().spoiled[0]);
  for (Index t = 0; t < kTokens; ++t) {
    for (Index j = 0; j < kWidth; ++j) {
      const auto at = static_cast<std::size_t>(t * kWidth + j);
      if (t == 0 || t == 2) {
        CHECK(rows.y[at] == 0);
        CHECK(onto.y[at] == before[at]);
        continue;
      }
      // Two terms of a few units: four roundings each way.
      CHECK(std::abs(onto.y[at] - (before[at] + rows.y[at])) <= 16 * 0x1p-53 * (1 + std::abs(rows.y[at])));
    }
  }
  // Expert by expert, from the plan.
  const moe::DispatchPlan<double>& plan = tape.plan();
  std::vector<double> want(rows.y.size(), 0);
  for (Index e = 0; e < kExperts; ++e) {
    for (Index s = plan.offsets[e]; s < plan.offsets[e + 1]; ++s) {
      test::BankBatch<double> one{kWidth, {}, {0}, {}, {}, {1}};
      for (Index i = 0; i <= kExperts; ++i) one.offsets.push_back(i > e ? 1 : 0);
      const auto begin = rows.x.begin() + Index{plan.token[s]} * kWidth;
      one.x.assign(begin, begin + kWidth);
      const std::vector<double> z = test::run_forward(sum.experts(), one);
      moe::axpy_row(plan.weight[s], z.data(), want.data() + Index{plan.token[s]} * kWidth, kWidth);
    }
  }
  CHECK(test::same_bits(want, rows.y));
}

TEST_CASE("a routed sum: a row's bits do not depend on batch, tape or executor", "[layer][smoke]") {
  const Sum sum(router(), bank());
  Rows rows, again = rows, taped = rows;
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(3);
  Sum::Tape tape, other;
  forward(sum, rows, moe::SumFrom::zero, nullptr, serial);
  forward(sum, again, moe::SumFrom::zero, &other, pool);
  forward(sum, taped, moe::SumFrom::zero, &tape, serial);
  CHECK(test::same_bits(rows.y, again.y));
  CHECK(test::same_bits(rows.y, taped.y));
  backward(sum, taped, moe::SumFrom::zero, tape, nullptr, serial);
  backward(sum, again, moe::SumFrom::zero, other, nullptr, pool);
  CHECK(test::same_bits(taped.dx, again.dx));
  for (Index t = 0; t < kTokens; ++t) {
    Rows one(1);
    const auto row = [&](const std::vector<double>& of) {
      return std::vector<double>(of.begin() + t * kWidth, of.begin() + (t + 1) * kWidth);
    };
    one.x = row(rows.x);
    one.dy = row(rows.dy);
    forward(sum, one, moe::SumFrom::zero, &tape, serial);
    CHECK(test::same_bits(one.y, row(rows.y)));
    backward(sum, one, moe::SumFrom::zero, tape, nullptr, serial);
    CHECK(test::same_bits(one.dx, row(taped.dx)));
  }
}

TEST_CASE("gradients of a routed sum agree with central differences", "[layer]") {
  Sum sum(router(), bank());
  moe::SerialExecutor serial;
  for (const moe::SumFrom from : {moe::SumFrom::zero, moe::SumFrom::y}) {
    Rows rows, start = rows;
    Sum::Tape tape;
    Sum::Gradients gradients = sum.make_gradients();
    forward(sum, rows, from, &tape, serial);
    backward(sum, rows, from, tape, &gradients, serial);
    const auto f = [&] {
      Rows here = start;
      forward(sum, here, from, nullptr, serial);
      double all = 0;
      for (std::size_t i = 0; i < here.y.size(); ++i) all += here.dy[i] * here.y[i];
      return all;
    };
    const double noise = 0x1p-53 * 1024 * kTokens * kWidth;  // factors of a few units, some hundred roundings
    Index wrong = 0;
    for (std::size_t i = 0; i < rows.x.size(); ++i) {
      const double added = from == moe::SumFrom::y ? start.dx[i] : 0;
      wrong += !test::agrees_with_difference(start.x[i], rows.dx[i] - added, noise, f);
    }
    const auto compare = [&](const moe::Parameter<double>& p) {
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) {
          wrong += !test::agrees_with_difference(p.value(o, i), p.gradient(o, i), noise, f);
        }
      }
    };
    sum.experts().visit_parameters(&gradients.experts, compare);
    sum.router().visit_parameters(&gradients.router, compare);
    CHECK(wrong == 0);
  }
}

TEST_CASE("a pair that was dropped has no gradient", "[layer][smoke]") {
  const moe::RoutedSum<Router, Bank, moe::FixedCapacity> sum(router(), bank(),
                                                             moe::FixedCapacity({.tokens_per_expert = 2}));
  using Capped = std::remove_const_t<decltype(sum)>;
  Rows rows;
  moe::SerialExecutor serial;
  Capped::Tape tape;
  forward(sum, rows, moe::SumFrom::zero, &tape, serial);
  const moe::DispatchPlan<double>& plan = tape.plan();
  REQUIRE(plan.dropped_count > 0);
  test::ExactArena arena(test::measured_bytes(sum, [](const Capped& s, moe::Arena& a) {
    s.measure_backward(a, {kTokens, 1}, 1);
  }));
  const double* const dweight =
      sum.backward_experts(tape, rows.of(rows.x), {rows.of(rows.dy), rows.of(rows.dx), moe::SumFrom::zero},
                           nullptr, arena.get(), serial);
  for (Index i = 0; i < plan.dropped_count; ++i) CHECK(dweight[plan.dropped[i]] == 0);
  for (Index s = 0; s < plan.slots(); ++s) CHECK(dweight[plan.pair[s]] != 0);
}

TEST_CASE("padding reaches nothing, capacity drops, experts may be functions", "[layer][smoke]") {
  const auto negate = [](Index, ConstView x, View z) noexcept {
    for (Index r = 0; r < x.rows; ++r) {
      for (Index j = 0; j < x.cols; ++j) z(r, j) = -x(r, j);
    }
  };
  auto experts = moe::function_experts<double>({.experts = 2, .width = kWidth}, negate);
  const moe::RoutedSum<moe::EveryExpert<double>, decltype(experts), moe::FixedCapacity> sum(
      moe::EveryExpert<double>(2), std::move(experts), moe::FixedCapacity({.tokens_per_expert = 3}));
  static_assert(!decltype(sum)::kTrainable);
  CHECK(decltype(sum)::coupling(false) == moe::Coupling::per_segment);
  const bool valid[kTokens] = {true, false, true, true, true, true, false};
  Rows rows;
  for (const Index t : {1, 6}) rows.x[static_cast<std::size_t>(t * kWidth)] = std::nan("");
  moe::SerialExecutor serial;
  forward(sum, rows, moe::SumFrom::zero, nullptr, serial, valid);
  for (Index t = 0; t < kTokens; ++t) {
    const bool kept = t == 0 || t == 2 || t == 3;  // the first three that take part
    for (Index j = 0; j < kWidth; ++j) {
      const auto at = static_cast<std::size_t>(t * kWidth + j);
      CHECK(rows.y[at] == (kept ? -2 * rows.x[at] : 0));
    }
  }
}

TEST_CASE("a capacity draws by the row keys of the call", "[layer]") {
  const auto copy = [](Index, ConstView x, View z) noexcept {
    for (Index r = 0; r < x.rows; ++r) {
      for (Index j = 0; j < x.cols; ++j) z(r, j) = x(r, j);
    }
  };
  auto experts = moe::function_experts<double>({.experts = 1, .width = kWidth}, copy);
  const moe::RoutedSum<moe::EveryExpert<double>, decltype(experts), moe::FixedCapacity> sum(
      moe::EveryExpert<double>(1), experts,
      moe::FixedCapacity({.tokens_per_expert = 3, .order = moe::CapacityOrder::random_rows_first}));
  Rows rows;
  rows.key = {70, 60, 50, 40, 30, 20, 10};
  moe::SerialExecutor serial;
  CHECK_THROWS_AS(forward(sum, rows, moe::SumFrom::zero, nullptr, serial), moe::config_error);
  rows.draws = moe::DrawKey{5, 2};
  forward(sum, rows, moe::SumFrom::zero, nullptr, serial);
  const moe::RowDraws draws{.key = rows.draws, .row_key = rows.key};
  for (Index t = 0; t < kTokens; ++t) {
    Index before = 0;
    for (Index other = 0; other < kTokens; ++other) before += draws.bits(other) < draws.bits(t) ? 1 : 0;
    const auto at = static_cast<std::size_t>(t * kWidth);
    CHECK(rows.y[at] == (before < 3 ? rows.x[at] : 0));
  }
}

TEST_CASE("a routed sum refuses parts that do not fit and tapes of other calls", "[layer][smoke]") {
  CHECK_THROWS_AS(Sum(router(), Bank({.experts = kExperts - 1, .width = kWidth, .hidden = 4})),
                  moe::config_error);
  const Sum sum(router(), bank());
  Sum::Tape tape;
  Rows rows, one(1);
  moe::SerialExecutor serial;
  const std::vector<double> dx = rows.dx;
  CHECK_THROWS_AS(backward(sum, rows, moe::SumFrom::zero, tape, nullptr, serial), moe::state_error);
  forward(sum, one, moe::SumFrom::zero, &tape, serial);
  CHECK_THROWS_AS(backward(sum, rows, moe::SumFrom::zero, tape, nullptr, serial), moe::state_error);
  CHECK(test::same_bits(dx, rows.dx));
}

TEST_CASE("what a step takes is given back", "[layer][smoke]") {
  moe::Arena arena;
  const Index mark = arena.mark();
  moe::scoped(arena, [&] { arena.take<double>(100); });
  CHECK(arena.mark() == mark);
  CHECK(arena.bytes() >= 800);
}

}  // namespace
