#include "moe/router/balance/concept.hpp"

#include <string>
#include <vector>

#include "support/balance_case.hpp"

namespace {

using moe::Index;
using test::BalanceCase;

/// c * (p of token 0 and output 0); takes `bytes` while it works.
class ToyLoss {
 public:
  static constexpr const char* kName = "toy";
  ToyLoss() = default;
  explicit ToyLoss(double coefficient, Index bytes = 64) : coefficient_(coefficient), bytes_(bytes) {}
  double coefficient() const noexcept { return coefficient_; }
  void measure(moe::Arena& arena, Index, Index) const { arena.take<std::byte>(bytes_); }
  template <class Real>
  double forward(const moe::BalanceInput<Real>& in, moe::Arena& arena) const {
    arena.take<std::byte>(bytes_);
    return coefficient_ * static_cast<double>(in.probability(0, 0));
  }
  template <class Real>
  void backward(const moe::BalanceInput<Real>&, double scale, const moe::BalanceGradients<Real>& out,
                moe::Arena& arena) const {
    arena.take<std::byte>(bytes_);
    out.dprobability(0, 0) += static_cast<Real>(scale * coefficient_);
  }

 private:
  double coefficient_ = 0;
  Index bytes_ = 0;
};

/// A second loss type, so that a pack has two.
class OtherLoss : public ToyLoss {
 public:
  static constexpr const char* kName = "other";
  using ToyLoss::ToyLoss;
};

/// State and bias, no loss.
class ToyState {
 public:
  static constexpr const char* kName = "toy_state";
  const double* selection_bias() const noexcept { return bias; }
  void check(Index outputs) const { moe::require_extent("toy", "outputs", 2, outputs); }
  void on_step_end(const moe::RouteStats& stats) noexcept { seen += stats.tokens; }
  template <class Visitor>
  void visit_state(Visitor& f) {
    f("toy.bias", static_cast<double*>(bias), Index{2});
  }
  double bias[2] = {1, 2};
  Index seen = 0;
};

template <class Balance>
std::vector<moe::AuxiliaryLosses::Entry> losses(const Balance& balance, const BalanceCase& c) {
  test::MeasuredMemory memory([&](moe::Arena& a) { balance.measure(a, c.tokens, c.outputs); });
  moe::Arena arena = memory.arena();
  moe::AuxiliaryLosses all;
  balance.forward(c.input(), moe::impl::NoScorer{}, all, arena);
  return {all.begin(), all.end()};
}

}  // namespace

TEST_CASE("a pack adds the losses of its parts by name, in order", "[balancing]") {
  BalanceCase c(1, 2, 1);
  c.p(0, 0) = 0.25;
  const moe::Balancing<ToyLoss, ToyState, OtherLoss> balance(ToyLoss(2), ToyState(), OtherLoss(4));
  const auto all = losses(balance, c);
  REQUIRE(all.size() == 2);
  CHECK(std::string(all[0].name) == "toy");
  CHECK(all[0].value == 0.5);
  CHECK(std::string(all[1].name) == "other");
  CHECK(all[1].value == 1);

  std::vector<double> d(2, 10);
  const moe::MatrixView<double> view(d.data(), 1, 2);
  test::MeasuredMemory memory([&](moe::Arena& a) { balance.measure(a, 1, 2); });
  moe::Arena arena = memory.arena();
  balance.backward(c.input(), moe::impl::NoScorer{}, 0.5,
                   moe::BalanceGradients<double>{view, {}, {}, view, view, nullptr}, nullptr, nullptr, arena);
  CHECK(d == std::vector<double>{13, 10});  // 10 + (2 + 4) / 2
}

TEST_CASE("a coefficient of 0 switches a loss off", "[balancing]") {
  const BalanceCase c(1, 2, 1);
  CHECK(!moe::Balancing<>{}.has_loss());
  CHECK(!moe::Balancing<ToyState>{}.has_loss());
  CHECK(!moe::Balancing<ToyLoss, OtherLoss>{}.has_loss());
  CHECK(moe::Balancing<ToyLoss, OtherLoss>(ToyLoss(0), OtherLoss(1)).has_loss());
  const auto all = losses(moe::Balancing<ToyLoss, OtherLoss>(ToyLoss(0), OtherLoss(1)), c);
  REQUIRE(all.size() == 1);
  CHECK(std::string(all[0].name) == "other");
}

TEST_CASE("parts share memory: the largest decides", "[balancing]") {
  moe::Arena none, both;
  moe::Balancing<>{}.measure(none, 1, 2);
  moe::Balancing<ToyLoss, OtherLoss>(ToyLoss(1, 128), OtherLoss(1, 640)).measure(both, 1, 2);
  CHECK(both.bytes() - none.bytes() == 640);
  CHECK(both.mark() == 0);
}

TEST_CASE("bias, checks, steps and state reach the part that has them", "[balancing]") {
  moe::Balancing<ToyLoss, ToyState> balance(ToyLoss(1), ToyState());
  REQUIRE(balance.selection_bias() == balance.part<ToyState>().bias);
  CHECK(moe::Balancing<ToyLoss>{}.selection_bias() == nullptr);
  CHECK_NOTHROW(balance.check(2));
  CHECK_THROWS_AS(balance.check(3), moe::shape_error);
  moe::RouteStats stats;
  stats.tokens = 7;
  balance.on_step_end(stats);
  balance.on_step_end(stats);
  CHECK(balance.part<ToyState>().seen == 14);
  std::vector<std::string> names;
  auto visit = [&](const char* name, double* values, Index n) {
    names.emplace_back(name);
    REQUIRE(n == 2);
    values[1] = 9;
  };
  balance.visit_state(visit);
  CHECK(names == std::vector<std::string>{"toy.bias"});
  CHECK(balance.part<ToyState>().bias[1] == 9);
}
