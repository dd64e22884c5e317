#include "moe/expert/bank/multiplied.hpp"

#include <map>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"

using moe::Index;

namespace {

template <class Inner>
moe::MultipliedExperts<Inner> bank_of(Index experts, Index width, Index hidden, bool bias) {
  return {Inner({.experts = 1, .width = width, .hidden = hidden, .bias = bias}),
          Inner({.experts = experts, .width = width, .hidden = hidden, .bias = bias})};
}
using Mlp = moe::Mlp<moe::Silu, double>;
using Glu = moe::Glu<moe::Silu, double>;
static_assert(moe::TrainableExpertBank<moe::MultipliedExperts<Mlp>>);

/// A bank that holds the products.
template <class Inner>
Inner products(moe::MultipliedExperts<Inner>& of, Inner bank) {
  std::map<std::string, moe::ParameterView<double>> from;
  of.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { from[p.name] = p.value; });
  bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    const std::string name = p.name, matrix = name.substr(name.find('.', 8));
    const auto own = from.at(name), shared = from.at("shared.experts.0" + matrix);
    const bool is_bias = name.find("bias") != std::string::npos;
    for (Index i = 0; i < p.value.size(); ++i) {
      const Index o = i / p.value.cols, j = i % p.value.cols;
      p.value(o, j) = is_bias ? shared(o, j) + own(o, j) : shared(o, j) * own(o, j);
    }
  });
  return bank;
}

}  // namespace

TEST_CASE("multiplied experts have the bits of a bank that holds the products, forward and of rows back",
          "[expert]") {
  auto bank = bank_of<Glu>(3, 7, 20, true);
  test::randomise_bank(bank, 1);
  const Glu whole = products(bank, Glu({.experts = 3, .width = 7, .hidden = 20, .bias = true}));
  const auto batch = test::random_batch<double>(7, {4, 0, 3}, 2);
  moe::SerialExecutor serial;
  CHECK(test::same_bits(test::run_forward(bank, batch, nullptr, serial),
                        test::run_forward(whole, batch, nullptr, serial)));
  auto plain = bank_of<Mlp>(2, 4, 3, false);
  test::randomise_bank(plain, 3);
  plain.visit_parameters(nullptr, [](const moe::Parameter<double>& p) {
    for (Index i = 0; test::contains(p.name, "shared") && i < p.value.size(); ++i) {
      p.value(i / p.value.cols, i % p.value.cols) = 1;
    }
  });
  const auto few = test::random_batch<double>(4, {2, 3}, 2);
  CHECK(test::same_bits(test::run_forward(plain, few, nullptr, serial),
                        test::run_forward(plain.own(), few, nullptr, serial)));
}

TEST_CASE("gradients of multiplied experts agree with central differences", "[expert]") {
  auto bank = bank_of<Mlp>(2, 5, 3, true);
  test::randomise_bank(bank, 3);
  test::check_bank_gradients(bank, test::random_batch<double>(5, {2, 3}, 4), 1);
}

TEST_CASE("rows of multiplied experts do not feel the batch", "[expert]") {
  auto bank = bank_of<moe::Mlp<moe::Relu>>(3, 33, 20, true);
  test::randomise_bank(bank, 5);
  test::check_bank_laws(bank, test::random_batch<float>(33, {20, 0, 13}, 6));
}

TEST_CASE("what multiplied experts refuse", "[expert]") {
  using Bank = moe::MultipliedExperts<Mlp>;
  const auto of = [](Index experts, Index width, Index hidden, bool bias) {
    return Mlp({.experts = experts, .width = width, .hidden = hidden, .bias = bias});
  };
  CHECK_THROWS_AS(Bank(of(2, 4, 3, true), of(2, 4, 3, true)), moe::config_error);
  CHECK_THROWS_AS(Bank(of(1, 5, 3, true), of(2, 4, 3, true)), moe::config_error);
  CHECK_THROWS_AS(Bank(of(1, 4, 2, true), of(2, 4, 3, true)), moe::config_error);
  CHECK_THROWS_AS(Bank(of(1, 4, 3, false), of(2, 4, 3, true)), moe::config_error);
}
