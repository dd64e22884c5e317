#include "moe/expert/bank/gru.hpp"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/mlp.hpp"

using moe::Index;

static_assert(moe::TrainableExpertBank<moe::GruExperts<double>>);

namespace {

using Bank = moe::GruExperts<double>;

Bank bank_of(Index experts, Index width, unsigned seed) {
  Bank bank({.experts = experts, .width = width});
  test::randomise_bank(bank, seed);
  return bank;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

TEST_CASE("a GRU expert is one step from the zero state, against plain loops", "[expert][smoke]") {
  for (const Index width : {1, 7, 33}) {
    Bank bank = bank_of(2, width, 3);
    const auto batch = test::random_batch<double>(width, {3, 2}, 4);
    const auto z = test::run_forward(bank, batch);
    std::map<std::string, moe::ParameterView<double>> of;
    bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { of[p.name] = p.value; });
    CHECK(of.size() == 14);
    double worst = 0;
    for (Index s = 0; s < 5; ++s) {
      const std::string expert = s < 3 ? "experts.0." : "experts.1.";
      const auto map = [&](const std::string& name, Index o) {
        double sum = of.at(expert + name + ".bias")(o, 0);
        for (Index j = 0; j < width; ++j)
          sum += of.at(expert + name + ".weight")(o, j) * batch.x[static_cast<std::size_t>(s * width + j)];
        return sum;
      };
      for (Index o = 0; o < width; ++o) {
        // PyTorch's step with h = 0: W_hn h + b_hn is b_hn alone.
        const double r = sigmoid(map("reset", o)), u = sigmoid(map("update", o));
        const double n = std::tanh(map("candidate", o) + r * of.at(expert + "candidate.hidden_bias")(o, 0));
        worst = std::max(worst, std::abs(z[static_cast<std::size_t>(s * width + o)] - (1 - u) * n));
      }
    }
    // Sums of `width` products below 1, through functions of slope 1 at most.
    CHECK(worst <= 0x1p-53 * static_cast<double>(8 * width + 64));
  }
}

TEST_CASE("gradients of GRU experts agree with central differences", "[expert]") {
  for (const Index width : {1, 6}) {
    Bank bank = bank_of(2, width, 5);
    test::check_bank_gradients(bank, test::random_batch<double>(width, {3, 2}, 6), 1);
  }
}

TEST_CASE("rows of GRU experts do not feel the batch", "[expert]") {
  Bank bank = bank_of(3, 18, 7);
  test::check_bank_laws(bank, test::random_batch<double>(18, {20, 0, 13}, 8));
  moe::GruExperts<> single({.experts = 2, .width = 33});
  test::randomise_bank(single, 9);
  test::check_bank_laws(single, test::random_batch<float>(33, {150, 131}, 10));
}

TEST_CASE("a GRU expert with an open update gate forgets everything, with a closed one it is the candidate",
          "[expert]") {
  Bank bank({.experts = 1, .width = 3});
  const auto set = [&](const std::string& part, double value) {
    bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      for (Index o = 0; p.name == "experts.0." + part && o < 3; ++o) p.value(o, 0) = value;
    });
  };
  const auto batch = test::random_batch<double>(3, {2}, 1);
  set("candidate.bias", 0.5);
  set("candidate.hidden_bias", 0.25);
  set("reset.bias", 800);
  set("update.bias", 800);
  for (const double z : test::run_forward(bank, batch)) CHECK(z == 0);
  set("update.bias", -800);
  for (const double z : test::run_forward(bank, batch)) CHECK(std::abs(z - std::tanh(0.75)) < 1e-15);
  set("reset.bias", -800);
  for (const double z : test::run_forward(bank, batch)) CHECK(std::abs(z - std::tanh(0.5)) < 1e-15);
}

TEST_CASE("GRU and feed-forward experts stand behind one range of ids", "[expert]") {
  moe::Mlp<moe::Relu, double> mlp({.experts = 2, .width = 5, .hidden = 7, .bias = true});
  test::randomise_bank(mlp, 2);
  moe::Composite both(bank_of(1, 5, 1), mlp);
  const auto batch = test::random_batch<double>(5, {3, 2, 2}, 3);
  test::check_bank_laws(both, batch);
  std::vector<std::string> names;
  both.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { names.emplace_back(p.name); });
  CHECK(names.front() == "experts.0.reset.weight");
  CHECK(names.back() == "experts.2.fc2.bias");
}
