#include "moe/expert/bank/zero_computation.hpp"

#include "expert/bank_fixture.hpp"
#include "support/bounded.hpp"
#include "support/errors.hpp"

using moe::Index;

static_assert(moe::TrainableExpertBank<moe::ZeroComputation<double>>);
static_assert(moe::TrainableExpertBank<moe::ZeroComputation<>>);

namespace {

using Bank = moe::ZeroComputation<double>;

/// z of a constant expert by the formula of the paper: softmax(Wc x) mixes x and v.
template <class B>
void constant_matches_formula(B bank) {
  using Real = typename B::Real;
  test::unit_roundoff = std::numeric_limits<Real>::epsilon() / 2;
  test::randomise_bank(bank, 2);
  const Index width = bank.width();
  const auto batch = test::random_batch<Real>(width, {3, 2}, 3);
  const std::vector<Real> z = test::run_forward(bank, batch);
  Index wrong = 0;
  for (Index s = 0; s < 5; ++s) {
    test::Row x, logit[2], v;
    const std::string name = "experts." + std::to_string(s < 3 ? 0 : 1) + ".constant";
    bank.visit_parameters(nullptr, [&](const moe::Parameter<Real>& p) {
      for (Index j = 0; j < width; ++j) {
        if (p.name == name) v.push_back(test::Bounded(p.value(j, 0)));
        for (Index r = 0; p.name == name + "_gate.weight" && r < 2; ++r)
          logit[r].push_back(test::Bounded(p.value(r, j)));
      }
    });
    for (Index j = 0; j < width; ++j)
      x.push_back(test::Bounded(batch.x[static_cast<std::size_t>(s * width + j)]));
    const test::Row a = test::softmax({test::dot(logit[0], x), test::dot(logit[1], x)});
    for (std::size_t j = 0; j < x.size(); ++j) {
      const test::Bounded want = a[0] * x[j] + a[1] * v[j];
      wrong += std::abs(z[static_cast<std::size_t>(s * width) + j] - want.v) <= 2 * want.e ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("constant experts mix the row and a vector", "[expert][smoke]") {
  for (const Index width : {1, 3, 17, 33}) constant_matches_formula(Bank({.width = width, .constant = 2}));
  constant_matches_formula(moe::ZeroComputation<float>({.width = 19, .constant = 2}));
}

TEST_CASE("copies are the row itself, zeros are nothing, and neither is stored", "[expert]") {
  Bank bank({.width = 3, .zero = 1, .copy = 2, .constant = 1});
  REQUIRE(bank.experts() == 4);
  test::randomise_bank(bank, 1);
  const auto batch = test::random_batch<double>(3, {1, 2, 1, 2}, 4);  // constant, copy, copy, zero
  const auto row = batch.rows(batch.x);
  test::SlotRows<double> z(batch.slots(), 3);
  const moe::RowBatch<double> in{row.data(), batch.token.data(), batch.offsets.data(), 4};
  moe::SerialExecutor serial;
  moe::Arena none;
  bank.forward(in, z.sink(), none, serial);
  CHECK(z.result[0] == z.data.data());
  for (std::size_t s = 1; s < 4; ++s) CHECK(z.result[s] == row[s]);
  CHECK(z.result[4] == nullptr);
  CHECK(z.result[5] == nullptr);
  for (std::size_t i = 3; i < z.data.size(); ++i) CHECK(z.data[i] == test::SlotRows<double>::kUntouched);

  Bank::Tape tape;
  bank.forward_train(in, z.sink(), tape, none, serial);
  const auto back = test::run_backward(bank, batch, tape, nullptr, true, serial);
  for (std::size_t i = 3; i < 12; ++i) CHECK(back.dx[i] == batch.weight[i / 3] * batch.dy[i]);
  for (std::size_t i = 12; i < 18; ++i) CHECK(back.dx[i] == 0);
  CHECK(back.dweight[4] == 0);
  CHECK(back.dweight[5] == 0);
}

TEST_CASE("gradients of zero, copy and constant experts agree with central differences", "[expert]") {
  for (const Index width : {1, 3, 17}) {
    Bank bank({.width = width, .zero = 1, .copy = 1, .constant = 2});
    test::randomise_bank(bank, 5);
    test::check_bank_gradients(bank, test::random_batch<double>(width, {3, 1, 2, 1}, 6), 1);
  }
}

TEST_CASE("a row of a zero-computation expert does not feel the batch", "[expert]") {
  Bank bank({.width = 19, .zero = 1, .copy = 1, .constant = 2});
  test::randomise_bank(bank, 5);
  test::check_bank_laws(bank, test::random_batch<double>(19, {20, 0, 3, 15}, 6));
  Bank cheap({.width = 2, .copy = 1});
  test::check_bank_laws(cheap, test::random_batch<double>(2, {2}, 6));
}

TEST_CASE("constant experts start normal and uniform, by seed", "[expert]") {
  const auto values = [](std::uint64_t seed, Index constants) {
    Bank bank({.width = 500, .constant = constants});
    bank.initialise(seed);
    std::vector<double> all;
    bank.visit_storage(nullptr,
                       [&](const char*, double* v, double*, Index n) { all.insert(all.end(), v, v + n); });
    return all;
  };
  const std::vector<double> two = values(3, 2), one = values(3, 1);
  CHECK(two == values(3, 2));
  CHECK(two != values(4, 2));
  CHECK(std::vector<double>(two.begin(), two.begin() + 500) ==
        std::vector<double>(one.begin(), one.begin() + 500));
  double square = 0, outside = 0;
  for (std::size_t i = 0; i < 1000; ++i) square += two[i] * two[i];
  for (std::size_t i = 1000; i < 3000; ++i) outside += std::abs(two[i]) > 1 / std::sqrt(500.0);
  CHECK(std::abs(square / 1000 - 1) < 0.27);  // 6 standard deviations of sqrt(2 / 1000)
  CHECK(outside == 0);
}

TEST_CASE("counts and widths of zero-computation experts are checked", "[expert]") {
  const auto message = [](const moe::ZeroComputationOptions& options) {
    return test::message_of<moe::config_error>([&] { Bank bank(options); });
  };
  CHECK(test::contains(message({.width = 0, .copy = 1}), "width"));
  CHECK(test::contains(message({.width = 2, .zero = -1, .copy = 3}), "zero experts"));
  CHECK(test::contains(message({.width = 2, .copy = -1}), "copy experts"));
  CHECK(test::contains(message({.width = 2, .constant = -1}), "constant experts"));
  CHECK(test::contains(message({.width = 2}), "together"));
  CHECK_THROWS_AS(Bank({.width = Index{1} << 62, .constant = 2}), moe::size_error);

  Bank bank({.width = 2, .constant = 1}), other({.width = 3, .constant = 1});
  const auto batch = test::random_batch<double>(2, {2}, 1);
  moe::SerialExecutor serial;
  Bank::Tape tape;
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, batch, &tape, serial);
  Bank::Gradients gradients = other.make_gradients();
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &gradients, true, serial), moe::shape_error);
}
