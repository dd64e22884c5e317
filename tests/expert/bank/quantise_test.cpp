#include "moe/expert/bank/quantise.hpp"

#include "expert/bank_fixture.hpp"
#include "moe/kernel/activation.hpp"
#include "support/errors.hpp"

using moe::Index;

TEST_CASE("quantise rounds what load rounds, and keeps biases and the activation", "[expert]") {
  using Exact = moe::Glu<moe::AnyActivation>;
  Exact exact({2, 33, 50, true}, {moe::ActivationKind::gelu_erf});
  test::randomise_bank(exact, 3);
  const auto rounded = moe::quantise<moe::Int8Groups<>>(exact);
  moe::Glu<moe::AnyActivation, moe::Int8Groups<>> loaded({2, 33, 50, true}, {moe::ActivationKind::gelu_erf});
  test::randomise_bank(loaded, 5);
  for (Index e = 0; e < 2; ++e) {
    std::vector<float> gate(33 * 50), up(gate), down(gate);
    exact.unpack(e, {gate.data(), 50, 33}, {up.data(), 50, 33}, {down.data(), 33, 50});
    loaded.load(e, {gate.data(), 50, 33}, {up.data(), 50, 33}, {down.data(), 33, 50});
  }
  std::vector<moe::ParameterView<float>> biases;
  exact.visit_parameters(nullptr, [&](const moe::Parameter<float>& p) {
    if (test::contains(p.name, "bias")) biases.push_back(p.value);
  });
  std::size_t at = 0;
  loaded.visit_parameters(nullptr, [&](const moe::Parameter<float>& p) {
    for (Index o = 0; o < p.value.rows; ++o) p.value(o, 0) = biases[at](o, 0);
    ++at;
  });
  REQUIRE(at == biases.size());
  const auto batch = test::random_batch<float>(33, {3, 9}, 4);
  CHECK(test::same_bits(test::run_forward(rounded, batch), test::run_forward(loaded, batch)));
  // Back to float: the same numbers, in another arithmetic.
  const Exact back = moe::quantise<float>(rounded);
  CHECK(test::same_bits(test::run_forward(moe::quantise<moe::Int8Groups<>>(back), batch),
                        test::run_forward(rounded, batch)));
}

TEST_CASE("quantise names what it cannot round", "[expert]") {
  moe::Mlp<moe::Relu> bank({2, 3, 4});
  bank.visit_parameters(nullptr, [](const moe::Parameter<float>& p) {
    if (test::contains(p.name, "experts.1.fc2")) p.value(2, 1) = INFINITY;
  });
  const std::string text = test::message_of<moe::numeric_error>([&] { moe::quantise<moe::BFloat16>(bank); });
  CHECK(test::contains(text, "fc2"));
  CHECK(test::contains(text, "row 2, column 1"));
}
