#include "moe/expert/bank/film.hpp"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "support/bounded.hpp"

using moe::Index;

static_assert(moe::TrainableExpertBank<moe::FilmExperts<double>>);
static_assert(moe::TrainableExpertBank<moe::FilmExperts<>>);

namespace {

using Bank = moe::FilmExperts<double>;

Bank bank_of(Index experts, Index width, unsigned seed) {
  Bank bank({.experts = experts, .width = width});
  test::randomise_bank(bank, seed);
  return bank;
}

}  // namespace

TEST_CASE("FiLM experts agree with plain loops", "[expert][smoke]") {
  test::unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
  for (const Index width : {1, 7, 16, 33}) {
    Bank bank = bank_of(2, width, 3);
    const auto batch = test::random_batch<double>(width, {3, 2}, 4);
    const auto z = test::run_forward(bank, batch);
    std::map<std::string, std::vector<test::Row>> all;
    bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      for (Index o = 0; o < p.value.rows; ++o) {
        all[p.name].emplace_back();
        for (Index i = 0; i < p.value.cols; ++i) all[p.name].back().push_back(test::Bounded(p.value(o, i)));
      }
    });
    CHECK(all.size() == 8);
    Index wrong = 0;
    for (Index s = 0; s < 5; ++s) {
      const std::string expert = s < 3 ? "experts.0." : "experts.1.";
      test::Row x;
      for (Index j = 0; j < width; ++j)
        x.push_back(test::Bounded(batch.x[static_cast<std::size_t>(s * width + j)]));
      const auto map = [&](const std::string& name, std::size_t o) {
        return test::dot(all.at(expert + name + ".weight")[o], x) + all.at(expert + name + ".bias")[o][0];
      };
      for (std::size_t o = 0; o < x.size(); ++o) {
        const test::Bounded want = map("gamma", o) * x[o] + map("beta", o);
        wrong += std::abs(z[static_cast<std::size_t>(s * width) + o] - want.v) > 2 * want.e;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("FiLM experts with gamma 1 and beta 0 return their rows", "[expert]") {
  Bank bank = bank_of(3, 5, 1);
  bank.set_identity();
  const auto batch = test::random_batch<double>(5, {2, 0, 3}, 2);
  CHECK(test::same_bits(test::run_forward(bank, batch), batch.x));
}

TEST_CASE("gradients of FiLM experts agree with central differences", "[expert]") {
  for (const Index width : {1, 6}) {
    Bank bank = bank_of(2, width, 5);
    test::check_bank_gradients(bank, test::random_batch<double>(width, {3, 2}, 6), 1);
  }
}

TEST_CASE("rows of FiLM experts do not feel the batch", "[expert]") {
  Bank bank = bank_of(3, 18, 7);
  test::check_bank_laws(bank, test::random_batch<double>(18, {20, 0, 13}, 8));
  moe::FilmExperts<> single({.experts = 2, .width = 33});
  test::randomise_bank(single, 9);
  test::check_bank_laws(single, test::random_batch<float>(33, {150, 131}, 10));
}

TEST_CASE("FiLM experts start uniform, by seed", "[expert]") {
  const auto values = [](std::uint64_t seed, Index experts) {
    Bank bank({.experts = experts, .width = 20});
    bank.initialise(seed);
    std::vector<double> all;
    bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
      for (Index o = 0; o < p.value.rows; ++o)
        for (Index i = 0; i < p.value.cols; ++i) all.push_back(p.value(o, i));
    });
    return all;
  };
  const auto two = values(3, 2), one = values(3, 1);
  CHECK(two == values(3, 2));
  CHECK(two != values(4, 2));
  CHECK(std::vector<double>(two.begin(), two.begin() + static_cast<std::ptrdiff_t>(one.size())) == one);
  double largest = 0, square = 0;
  for (const double v : two) largest = std::max(largest, std::abs(v)), square += v * v;
  CHECK(largest <= 1 / std::sqrt(20.0));
  CHECK(std::abs(square / 1600 - 1 / 60.0) < 6 * (1 / 60.0) / std::sqrt(1600.0));  // 1600 of them are not 0
}

TEST_CASE("sizes of FiLM experts are checked", "[expert]") {
  CHECK_THROWS_AS(Bank({.experts = 0, .width = 3}), moe::config_error);
  CHECK_THROWS_AS(Bank({.experts = 1, .width = 0}), moe::config_error);
  CHECK_THROWS_AS(Bank({.experts = INT32_MAX, .width = INT32_MAX}), moe::size_error);
  Bank bank = bank_of(2, 4, 1);
  const auto batch = test::random_batch<double>(4, {1, 2}, 2);
  moe::SerialExecutor serial;
  Bank::Tape tape;
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, batch, &tape, serial);
  auto other = bank_of(2, 5, 1).make_gradients();
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &other, true, serial), moe::shape_error);
  Bank taken = std::move(bank);
  CHECK_THROWS_AS(test::run_forward(bank, batch), moe::state_error);  // NOLINT(bugprone-use-after-move)
}
