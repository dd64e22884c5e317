#include "moe/layer/shared/none.hpp"

#include "expert/naive_two_layer.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/shared/shared_experts.hpp"

using moe::Index;

namespace {

using Glu = moe::Glu<moe::Silu, double>;
using Shared = moe::SharedExperts<Glu>;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;

constexpr Index kTokens = 6, kWidth = 5, kStride = 7;
constexpr bool kActive[kTokens] = {true, false, true, true, false, true};

Shared make_shared(bool gated) {
  Shared shared(Glu({2, kWidth, 19, true}), gated);
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(-1, 1);
  auto fill = [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i) p.value(i / p.value.cols, i % p.value.cols) = uniform(random);
  };
  shared.visit_parameters(nullptr, fill);
  return shared;
}

/// Rows of a call; those that take no part hold NaN where they are read.
struct Call {
  std::vector<double> x, y, dy, dx;
  Call() {
    std::mt19937_64 random(4);
    for (auto* v : {&x, &y, &dy, &dx}) test::fill_random(*v, kTokens * kStride, random);
    for (Index t = 0; t < kTokens; ++t) {
      if (!kActive[t]) x[at(t, 1)] = dy[at(t, 1)] = std::numeric_limits<double>::quiet_NaN();
    }
  }
  static std::size_t at(Index t, Index j) { return static_cast<std::size_t>(t * kStride + j); }
  static View view(std::vector<double>& v) { return {v.data(), kTokens, kWidth, kStride}; }
};

template <class S, class X>
std::vector<double> run(const S& shared, Call call, typename S::Tape* tape, X& executor) {
  test::ExactArena arena(test::measured_bytes(
      shared, [&](const S& s, moe::Arena& a) { s.measure(a, kTokens, executor.concurrency()); }));
  shared.forward(ConstView(Call::view(call.x)), kActive, Call::view(call.y), tape, arena.get(), executor);
  return call.y;
}

template <class X>
std::vector<double> run_back(const Shared& shared, Call call, const Shared::Tape& tape,
                             Shared::Gradients* gradients, bool wants_dx, X& executor) {
  test::ExactArena arena(test::measured_bytes(shared, [&](const Shared& s, moe::Arena& a) {
    s.measure_backward(a, kTokens, executor.concurrency());
  }));
  shared.backward(tape, ConstView(Call::view(call.x)), ConstView(Call::view(call.dy)),
                  wants_dx ? Call::view(call.dx) : View{}, gradients, arena.get(), executor);
  return call.dx;
}

std::vector<double> flat(Shared& shared, Shared::Gradients& gradients) {
  std::vector<double> all;
  auto append = [&](const char*, double*, double* g, Index n) { all.insert(all.end(), g, g + n); };
  shared.visit_storage(&gradients, append);
  return all;
}

}  // namespace

TEST_CASE("shared experts add their gated sum to every active row", "[expert][smoke]") {
  test::unit_roundoff = 0x1p-53;
  moe::SerialExecutor serial;
  for (const bool gated : {false, true}) {
    Shared shared = make_shared(gated);
    REQUIRE(shared.gated() == gated);
    const Call call;
    const std::vector<double> y = run(shared, call, nullptr, serial);
    const test::NamedParameters parameter = test::parameters_of(shared.bank());
    std::vector<double> gate(kWidth, 0);
    auto read_gate = [&](const moe::Parameter<double>& p) {
      for (Index j = 0; std::string(p.name) == "shared_expert_gate.weight" && j < kWidth; ++j) {
        gate[static_cast<std::size_t>(j)] = p.value(0, j);
      }
    };
    shared.visit_parameters(nullptr, read_gate);
    Index wrong = 0;
    for (Index t = 0; t < kTokens; ++t) {
      test::Row x, w, z[2];
      for (Index j = 0; j < kWidth; ++j) {
        x.push_back(call.x[Call::at(t, j)]);
        w.push_back(gate[static_cast<std::size_t>(j)]);
      }
      for (int e = 0; e < 2 && kActive[t]; ++e) {
        z[e] = test::NaiveTwoLayer{parameter, "experts." + std::to_string(e) + ".", true, test::Act::silu}
                   .forward(x)
                   .z;
      }
      for (Index j = 0; j < kStride; ++j) {
        const double before = call.y[Call::at(t, j)], after = y[Call::at(t, j)];
        if (!kActive[t] || j >= kWidth) {
          wrong += after != before;
          continue;
        }
        const test::Bounded g = gated ? test::sigmoid(test::dot(x, w)) : test::Bounded(1);
        const auto i = static_cast<std::size_t>(j);
        wrong += !test::within(after, test::Bounded(before) + g * z[0][i] + g * z[1][i]);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("shared experts: the same bits with a tape and for any executor; frozen parts change nothing",
          "[expert]") {
  Shared shared = make_shared(true);
  const Call call;
  moe::SerialExecutor serial;
  Shared::Tape tape;
  const std::vector<double> y = run(shared, call, nullptr, serial);
  CHECK(test::same_bits(y, run(shared, call, &tape, serial)));
  Shared::Gradients gradients = shared.make_gradients();
  const std::vector<double> dx = run_back(shared, call, tape, &gradients, true, serial);
  for (const Index threads : {2, 3}) {
    moe::PoolExecutor pool(threads);
    Shared::Tape other;
    Shared::Gradients again = shared.make_gradients();
    CHECK(test::same_bits(y, run(shared, call, &other, pool)));
    CHECK(test::same_bits(dx, run_back(shared, call, other, &again, true, pool)));
    CHECK(test::same_bits(flat(shared, gradients), flat(shared, again)));
  }
  CHECK(test::same_bits(dx, run_back(shared, call, tape, nullptr, true, serial)));
  Shared::Gradients without_dx = shared.make_gradients();
  CHECK(test::same_bits(call.dx, run_back(shared, call, tape, &without_dx, false, serial)));
  CHECK(test::same_bits(flat(shared, gradients), flat(shared, without_dx)));
}

TEST_CASE("shared experts: gradients agree with central differences", "[expert]") {
  moe::SerialExecutor serial;
  for (const bool gated : {false, true}) {
    Shared shared = make_shared(gated);
    Call call;
    Shared::Tape tape;
    Shared::Gradients gradients = shared.make_gradients();
    run(shared, call, &tape, serial);
    const std::vector<double> dx = run_back(shared, call, tape, &gradients, true, serial);
    const auto f = [&] {
      const std::vector<double> y = run(shared, call, nullptr, serial);
      double sum = 0;
      for (Index t = 0; t < kTokens; ++t) {
        for (Index j = 0; kActive[t] && j < kWidth; ++j) sum += call.dy[Call::at(t, j)] * y[Call::at(t, j)];
      }
      return sum;
    };
    const double noise = 0x1p-53 * 1024 * kTokens * kWidth;  // factors below 1, some hundred roundings each
    auto compare = [&](const moe::Parameter<double>& p) {
      INFO(p.name);
      Index wrong = 0;
      for (Index i = 0; i < p.value.size(); i += 3) {
        const Index row = i / p.value.cols, col = i % p.value.cols;
        wrong += !test::agrees_with_difference(p.value(row, col), p.gradient(row, col), noise, f);
      }
      CHECK(wrong == 0);
    };
    shared.visit_parameters(&gradients, compare);
    Index wrong = 0;
    for (Index t = 0; t < kTokens; ++t) {
      for (Index j = 0; j < kStride; ++j) {
        const std::size_t at = Call::at(t, j);
        if (kActive[t] && j < kWidth) {  // added to what was there
          wrong += !test::agrees_with_difference(call.x[at], dx[at] - call.dx[at], noise, f);
        } else {
          wrong += dx[at] != call.dx[at];
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("shared experts: names of parameters and flat ranges", "[expert]") {
  Shared shared = make_shared(true);
  std::vector<std::string> names, ranges;
  auto name = [&](const moe::Parameter<double>& p) { names.push_back(p.name); };
  shared.visit_parameters(nullptr, name);
  CHECK(names.front() == "shared_experts.0.gate_proj.weight");
  CHECK(names.back() == "shared_expert_gate.weight");
  CHECK(names.size() == 2 * 6 + 1);
  auto range = [&](const char* n, double*, double*, Index) { ranges.push_back(n); };
  shared.visit_storage(nullptr, range);
  CHECK(ranges == std::vector<std::string>{"shared_experts.gate_up", "shared_experts.down",
                                           "shared_experts.gate_up.bias", "shared_experts.down.bias",
                                           "shared_expert_gate.weight"});
}

TEST_CASE("shared experts may be rows that exist already, or nothing", "[expert]") {
  const moe::SharedExperts<moe::ZeroComputation<double>> copies(
      moe::ZeroComputation<double>({.width = kWidth, .zero = 1, .copy = 2}));
  const Call call;
  moe::SerialExecutor serial;
  const std::vector<double> y = run(copies, call, nullptr, serial);
  for (Index t = 0; t < kTokens; ++t) {
    for (Index j = 0; j < kWidth; ++j) {
      const double x = call.x[Call::at(t, j)], before = call.y[Call::at(t, j)];
      CHECK(y[Call::at(t, j)] == (kActive[t] ? (before + x) + x : before));
    }
  }
  std::vector<double> untouched = call.y;
  moe::Arena none;
  moe::NoShared().forward(ConstView(call.x.data(), kTokens, kWidth, kStride), kActive,
                          View(untouched.data(), kTokens, kWidth, kStride), nullptr, none, serial);
  CHECK(test::same_bits(untouched, call.y));
}
