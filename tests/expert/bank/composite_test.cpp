#include "moe/expert/bank/composite.hpp"

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "support/errors.hpp"

using moe::Index;

namespace {

using Glu = moe::Glu<moe::Silu, double>;
using Zero = moe::ZeroComputation<double>;
using Bank = moe::Composite<Glu, Zero, Glu>;

static_assert(moe::TrainableExpertBank<Bank>);
static_assert(Bank::coupling == moe::Coupling::row_independent);

/// The least that an ExpertBank is: f(x) = 2 x, coupled per batch.
struct DoublingBank {
  using Real = double;
  static constexpr moe::Coupling coupling = moe::Coupling::per_batch;
  Index experts() const { return 1; }
  Index width() const { return 3; }
  template <moe::Executor X>
  void forward(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, moe::Arena&, X&) const {
    for (Index s = 0; s < batch.slots(); ++s) {
      for (Index j = 0; j < 3; ++j) sink.row(s)[j] = 2 * batch.row[s][j];
    }
  }
};
/// Trainable, and calls what it shows as it likes.
struct NamingBank : DoublingBank {
  struct Tape {};
  struct Gradients {
    moe::Buffer<double> own{1};
  };
  void measure_backward(moe::Arena&, Index, Index) const {}
  template <moe::Executor X>
  void forward_train(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, Tape&,
                     moe::Arena& arena, X& executor) const {
    forward(batch, sink, arena, executor);
  }
  template <moe::Executor X>
  void backward(const moe::RowBatch<double>&, const Tape&, const moe::RowGradients<double>&, Gradients*,
                moe::Arena&, X&) const {}
  Gradients make_gradients() const { return {}; }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    for (const char* name : {"w", "", "experts", "experts.w", "expertsw"}) {
      moe::visit_buffer(f, name, values, gradients, &Gradients::own);
    }
  }
  template <class Visitor>
  void visit_packed(Visitor& f) {
    f("w", nullptr, Index{0});
  }
  moe::Buffer<double> values{1};
};

/// Keeps the counts of a step.
struct CountingBank : DoublingBank {
  void on_step_end(const moe::RouteStats& stats) { seen = stats; }
  moe::RouteStats seen;
};

template <class Bank>
inline constexpr bool kMoved = requires(Bank& bank, const moe::RouteStats& stats) {
  bank.on_step_end(stats);
};

using Untrainable = moe::Composite<Zero, DoublingBank>;
static_assert(moe::ExpertBank<Untrainable> && !moe::TrainableExpertBank<Untrainable>);
static_assert(Untrainable::coupling == moe::Coupling::per_batch);

Bank make_bank(Index width) {
  Bank bank(Glu({2, width, 5, true}), Zero({.width = width, .zero = 1, .copy = 1, .constant = 1}),
            Glu({1, width, 19}));
  test::randomise_bank(bank, 3);
  return bank;
}

}  // namespace

TEST_CASE("a composite gives each bank the slots of its experts", "[expert][smoke]") {
  const Bank bank = make_bank(3);
  REQUIRE(bank.experts() == 6);
  REQUIRE(bank.width() == 3);
  const auto batch = test::random_batch<double>(3, {2, 1, 2, 1, 3, 4}, 4);
  const std::vector<double> z = test::run_forward(bank, batch);
  for (Index s = 0; s < batch.slots(); ++s) {
    auto one = batch.alone(s);
    std::vector<double> want;
    const auto cut = [&](Index first, Index last) {
      return std::vector<Index>(one.offsets.begin() + first, one.offsets.begin() + last + 1);
    };
    const auto all = one;
    if (s < 3) {
      one.offsets = cut(0, 2);
      want = test::run_forward(bank.bank<0>(), one);
    } else if (s < 9) {
      one.offsets = cut(2, 5);
      want = test::run_forward(bank.bank<1>(), one);
    } else {
      one.offsets = cut(5, 6);
      want = test::run_forward(bank.bank<2>(), one);
    }
    CHECK(test::same_bits(want, std::vector<double>(z.begin() + 3 * s, z.begin() + 3 * s + 3)));
    CHECK(test::same_bits(want, test::run_forward(bank, all)));
  }
}

TEST_CASE("a composite obeys the laws of banks and its gradients central differences", "[expert]") {
  Bank bank = make_bank(17);
  test::check_bank_laws(bank, test::random_batch<double>(17, {20, 0, 2, 1, 3, 18}, 5));
  test::check_bank_laws(bank, test::random_batch<double>(17, {0, 0, 0, 0, 0, 1}, 5));
  Bank small = make_bank(3);
  test::check_bank_gradients(small, test::random_batch<double>(3, {2, 1, 2, 1, 1, 2}, 6), 1);
}

TEST_CASE("parameters of a composite carry global ids, flat ranges the range of their bank",
          "[expert][smoke]") {
  Bank bank = make_bank(3);
  Bank::Gradients gradients = bank.make_gradients();
  std::vector<std::string> names;
  bank.visit_parameters(&gradients, [&](const moe::Parameter<double>& p) { names.push_back(p.name); });
  CHECK(names == std::vector<std::string>{
                     "experts.0.gate_proj.weight", "experts.0.gate_proj.bias", "experts.0.up_proj.weight",
                     "experts.0.up_proj.bias", "experts.0.down_proj.weight", "experts.0.down_proj.bias",
                     "experts.1.gate_proj.weight", "experts.1.gate_proj.bias", "experts.1.up_proj.weight",
                     "experts.1.up_proj.bias", "experts.1.down_proj.weight", "experts.1.down_proj.bias",
                     "experts.2.constant", "experts.2.constant_gate.weight", "experts.5.gate_proj.weight",
                     "experts.5.up_proj.weight", "experts.5.down_proj.weight"});
  names.clear();
  bank.visit_storage(&gradients, [&](const char* name, double* v, double* g, Index n) {
    names.push_back(name);
    CHECK((v != nullptr && g != nullptr && n > 0));
  });
  CHECK(names == std::vector<std::string>{"experts.0-1.gate_up", "experts.0-1.down",
                                          "experts.0-1.gate_up.bias", "experts.0-1.down.bias",
                                          "experts.2-4.constant", "experts.2-4.constant_gate",
                                          "experts.5-5.gate_up", "experts.5-5.down"});

  names.clear();
  moe::Composite naming(NamingBank{}, NamingBank{});
  auto naming_gradients = naming.make_gradients();
  naming.visit_storage(&naming_gradients,
                       [&](const char* name, double*, double*, Index) { names.push_back(name); });
  naming.visit_packed([&](const char* name, std::byte*, Index) { names.push_back(name); });
  CHECK(names == std::vector<std::string>{"experts.0-0.w", "experts.0-0.", "experts.0-0.experts",
                                          "experts.0-0.w", "experts.0-0.expertsw", "experts.1-1.w",
                                          "experts.1-1.", "experts.1-1.experts", "experts.1-1.w",
                                          "experts.1-1.expertsw", "experts.0-0.w", "experts.1-1.w"});

  moe::Composite nested(Zero({.width = 3, .copy = 4}), make_bank(3));
  names.clear();
  nested.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    names.push_back(p.name);
    CHECK(!p.gradient);
  });
  CHECK(names.front() == "experts.4.gate_proj.weight");
  CHECK(names.back() == "experts.9.down_proj.weight");
}

TEST_CASE("a composite with a bank that cannot be trained still runs", "[expert]") {
  const Untrainable bank(Zero({.width = 3, .copy = 1}), DoublingBank{});
  const auto batch = test::random_batch<double>(3, {1, 2}, 4);
  moe::SerialExecutor serial;
  test::ExactArena arena(
      test::measured_bytes(bank, [](const Untrainable& b, moe::Arena& a) { b.measure(a, 3, 1); }));
  const auto row = batch.rows(batch.x);
  test::SlotRows<double> z(3, 3);
  bank.forward({row.data(), batch.token.data(), batch.offsets.data(), 2}, z.sink(), arena.get(), serial);
  const std::vector<double> rows = test::collect_rows(z.result, 3);
  for (std::size_t i = 0; i < 9; ++i) CHECK(rows[i] == batch.x[i] * (i < 3 ? 1 : 2));
}

TEST_CASE("banks of different widths do not compose", "[expert]") {
  const std::string message = test::message_of<moe::config_error>([] {
    moe::Composite bank(Glu({1, 3, 5}), Zero({.width = 4, .copy = 1}));
  });
  CHECK(test::contains(message, "width"));
  CHECK(test::contains(message, "got 4"));
}

TEST_CASE("a composite gives each bank the counts of its experts at a step's end", "[expert]") {
  moe::Composite bank(CountingBank{}, Zero({.width = 3, .copy = 2}), CountingBank{});
  moe::RouteStats stats;
  stats.tokens = 7;
  stats.dropped = 2;
  stats.load.assign(5, 0);
  stats.gate_mass.assign(5, 0);
  for (Index e = 0; e < 5; ++e) {  // one behind the bank's experts, as of a router with null experts
    stats.load[e] = 10 + e;
    stats.gate_mass[e] = 0.5 + static_cast<double>(e);
  }
  bank.on_step_end(stats);
  for (const auto& [seen, e] : {std::pair(&bank.bank<0>().seen, 0), std::pair(&bank.bank<2>().seen, 3)}) {
    CHECK((seen->experts() == 1 && seen->load[0] == 10 + e && seen->gate_mass[0] == 0.5 + e));
    CHECK((seen->tokens == 7 && seen->dropped == 2));
  }
  stats.load.resize(3);
  CHECK(test::message_of<moe::shape_error>([&] { bank.on_step_end(stats); }) ==
        "moe: statistics: expected at least 4 experts, got 3");
  using Plain = moe::Composite<Zero, DoublingBank>;
  static_assert(!kMoved<Plain> && kMoved<decltype(bank)>);
}
