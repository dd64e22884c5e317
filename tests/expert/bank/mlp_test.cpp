#include "moe/expert/bank/mlp.hpp"

#include "expert/naive_two_layer.hpp"
#include "moe/expert/concept.hpp"
#include "support/errors.hpp"

using moe::Index;
using test::Act;

static_assert(moe::TrainableExpertBank<moe::Mlp<moe::ReluSquared, double>>);
static_assert(moe::TrainableExpertBank<moe::Mlp<moe::AnyActivation>>);

namespace {

using Bank = moe::Mlp<moe::AnyActivation, double>;

template <class B>
void matches_naive(Index width, Index hidden, bool bias, B bank, Act act) {
  INFO("D " << width << " F " << hidden << " bias " << bias);
  test::randomise_bank(bank, static_cast<unsigned>(width * 100 + hidden));
  const auto batch = test::random_batch<typename B::Real>(width, {1, 0, 21}, 7);
  test::check_against_naive(bank, batch, false, act);
}

}  // namespace

TEST_CASE("Mlp matches plain loops, forward and backward", "[expert]") {
  for (const Index width : {1, 3, 17, 33}) {
    for (const Index hidden : {1, 3, 17, 33}) {
      for (const bool bias : {false, true}) {
        const auto kind = bias ? moe::ActivationKind::silu : moe::ActivationKind::relu_squared;
        matches_naive(width, hidden, bias, Bank({3, width, hidden, bias}, {kind}),
                      bias ? Act::silu : Act::relu_squared);
      }
    }
  }
}

TEST_CASE("Mlp in float stays within the bounds of float", "[expert][smoke]") {
  matches_naive(33, 17, true, moe::Mlp<moe::Relu>({3, 33, 17, true}), Act::relu);
}

TEST_CASE("Mlp gradients agree with central differences", "[expert]") {
  for (const bool bias : {false, true}) {
    Bank small({3, 3, 5, bias}, {moe::ActivationKind::gelu_erf});
    test::randomise_bank(small, 1);
    test::check_bank_gradients(small, test::random_batch<double>(3, {2, 0, 3}, 2), 1);
    Bank large({2, 17, 33, bias}, {moe::ActivationKind::silu});
    test::randomise_bank(large, 3);
    test::check_bank_gradients(large, test::random_batch<double>(17, {1, 4}, 4), 13);
  }
}

TEST_CASE("Mlp::load takes published matrices and names what does not fit", "[expert]") {
  std::mt19937_64 random(8);
  std::vector<double> values[2];
  for (auto& v : values) test::fill_random(v, 20 * 20, random);
  using View = moe::ConstMatrixView<double>;
  const View fc1(values[0].data(), 19, 5, 8), fc2(values[1].data(), 5, 19, 20);
  Bank bank({2, 5, 19});
  bank.load(1, fc1, fc2);
  bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    INFO(name);
    const View& from = test::contains(name, "fc1") ? fc1 : fc2;
    REQUIRE(p.value.rows == from.rows);
    REQUIRE(p.value.cols == from.cols);
    for (Index o = 0; o < from.rows; ++o) {
      for (Index i = 0; i < from.cols; ++i) {
        CHECK(p.value(o, i) == (test::contains(name, "experts.1.") ? from(o, i) : 0));
      }
    }
  });

  const auto refused = [&](Index e, const View& first, const View& second) {
    return test::message_of<std::invalid_argument>([&] { bank.load(e, first, second); });
  };
  CHECK(test::contains(refused(2, fc1, fc2), "expert"));
  CHECK(test::contains(refused(0, fc2, fc2), "fc1"));
  CHECK(test::contains(refused(0, fc1, fc1), "fc2"));
  CHECK(test::parameters_of(bank).at("experts.0.fc1.weight")[0][0].v == 0);
}
