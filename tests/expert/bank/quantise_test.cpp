#include "moe/expert/bank/quantise.hpp"

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/compressed.hpp"
#include "moe/expert/bank/latent.hpp"
#include "moe/expert/bank/memory.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/expert/bank/whole_results.hpp"
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

TEST_CASE("quantise rounds the experts within other banks and keeps what is around them", "[expert]") {
  using To = moe::Int8Groups<>;
  using Exact = moe::Mlp<moe::Relu>;
  const auto batch = test::random_batch<float>(6, {3, 2}, 4);
  const auto check = [&](const auto& exact, const auto& want) {
    const auto made = moe::quantise<To>(exact);
    static_assert(std::is_same_v<decltype(made), std::remove_reference_t<decltype(want)>>);
    CHECK(test::same_bits(test::run_forward(made, batch), test::run_forward(want, batch)));
    CHECK_FALSE(test::same_bits(test::run_forward(made, batch), test::run_forward(exact, batch)));
  };
  Exact inner({.experts = 2, .width = 6, .hidden = 9});
  inner.initialise(1);
  const moe::Mlp<moe::Relu, To> rounded(inner);

  const auto normed = [](auto bank) {
    moe::NormedExperts made(std::move(bank), {.eps = 0.1});
    const auto fill = [](const char* name, double* values, Index n) {
      const bool mean = std::string_view(name) == "experts.norm.mean";
      for (Index i = 0; i < n; ++i) values[i] = (mean ? -0.2 : 0.4) + 0.03 * static_cast<double>(i);
    };
    made.visit_state(fill);
    made.visit_parameters(nullptr, [](const moe::Parameter<float>& p) {
      for (Index i = 0; test::contains(p.name, ".norm.") && i < p.value.rows; ++i) {
        p.value(i, 0) = 0.5f + 0.1f * static_cast<float>(i);
      }
    });
    return made;
  };
  check(normed(inner), normed(rounded));
  CHECK_THROWS_AS(normed(inner).with_inner(Exact({.experts = 3, .width = 6, .hidden = 2})), moe::shape_error);

  Exact narrow({.experts = 2, .width = 3, .hidden = 9, .output = 6});
  narrow.initialise(2);
  const auto latent = [](auto bank) {
    moe::LatentBank made(6, std::move(bank));
    made.map().initialise(7);
    return made;
  };
  check(latent(narrow), latent(moe::Mlp<moe::Relu, To>(narrow)));
  check(moe::WholeResults(inner, moe::LengthResponse{}), moe::WholeResults(rounded, moe::LengthResponse{}));

  // What has no matrices is copied.
  const moe::CompressedExperts<float> vectors({.experts = 2, .width = 6});
  static_assert(std::is_same_v<decltype(moe::quantise<To>(vectors)), moe::CompressedExperts<float>>);
  CHECK(moe::quantise<To>(moe::Composite(inner, vectors, moe::MemoryExpert<float>(6))).experts() == 5);
}
