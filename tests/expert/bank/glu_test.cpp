#include "moe/expert/bank/glu.hpp"

#include "expert/naive_two_layer.hpp"
#include "moe/expert/concept.hpp"
#include "support/errors.hpp"

using moe::Index;
using test::Act;

static_assert(moe::TrainableExpertBank<moe::Glu<moe::Silu, double>>);
static_assert(moe::TrainableExpertBank<moe::Glu<moe::AnyActivation>>);
static_assert(!std::is_constructible_v<moe::Glu<moe::ClampedGate<moe::Silu>>, moe::TwoLayerOptions>);

namespace {

using Bank = moe::Glu<moe::Silu, double>;

template <class B>
void matches_naive(Index width, Index hidden, bool bias, B bank, Act act) {
  INFO("D " << width << " F " << hidden << " bias " << bias);
  test::randomise_bank(bank, static_cast<unsigned>(width * 100 + hidden));
  const auto batch = test::random_batch<typename B::Real>(width, {1, 0, 21}, 7);
  test::check_against_naive(bank, batch, true, act);
}

}  // namespace

TEST_CASE("Glu matches plain loops, forward and backward", "[expert]") {
  for (const Index width : {1, 3, 17, 33}) {
    for (const Index hidden : {1, 3, 17, 33}) {
      for (const bool bias : {false, true}) {
        matches_naive(width, hidden, bias, Bank({3, width, hidden, bias}), Act::silu);
      }
    }
  }
}

TEST_CASE("Glu in float, with an activation chosen at run time, stays within the bounds of float",
          "[expert][smoke]") {
  using Any = moe::Glu<moe::AnyActivation, float>;
  matches_naive(33, 17, true, Any({3, 33, 17, true}, {moe::ActivationKind::silu}), Act::silu);
  matches_naive(17, 35, false, Any({3, 17, 35}, {moe::ActivationKind::relu}), Act::relu);
}

TEST_CASE("Glu gradients agree with central differences", "[expert]") {
  for (const bool bias : {false, true}) {
    Bank small({3, 3, 5, bias});
    test::randomise_bank(small, 1);
    test::check_bank_gradients(small, test::random_batch<double>(3, {2, 0, 3}, 2), 1);
    Bank large({2, 17, 33, bias});
    test::randomise_bank(large, 3);
    test::check_bank_gradients(large, test::random_batch<double>(17, {1, 4}, 4), 13);
  }
}

TEST_CASE("Glu takes a gate: clamped SwiGLU with an offset and biases", "[expert]") {
  using Gate = moe::ClampedGate<moe::QuickGelu>;
  moe::Glu<Gate, double> bank({1, 2, 2, true}, Gate{.limit = 0.75, .offset = 1});
  test::randomise_bank(bank, 5);
  const auto batch = test::random_batch<double>(2, {3}, 6);
  const std::vector<double> z = test::run_forward(bank, batch);
  const test::NamedParameters p = test::parameters_of(bank);
  const auto affine = [&](const std::string& name, const double* x, std::size_t o) {
    const test::Row& w = p.at("experts.0." + name + ".weight")[o];
    return w[0].v * x[0] + w[1].v * x[1] + p.at("experts.0." + name + ".bias")[o][0].v;
  };
  bool clamped = false;
  for (std::size_t s = 0; s < 3; ++s) {
    double h[2];
    for (std::size_t f = 0; f < 2; ++f) {
      const double g = affine("gate_proj", &batch.x[2 * s], f), u = affine("up_proj", &batch.x[2 * s], f);
      clamped = clamped || g > 0.75 || std::abs(u) > 0.75;
      const double low = std::min(g, 0.75), middle = std::max(-0.75, std::min(u, 0.75));
      h[f] = low / (1 + std::exp(-1.702 * low)) * (middle + 1);
    }
    // Every factor is below 4 and there are 30 operations on the way.
    for (std::size_t j = 0; j < 2; ++j)
      CHECK(std::abs(z[2 * s + j] - affine("down_proj", h, j)) <= 64 * 64 * 0x1p-53);
  }
  CHECK(clamped);
}

TEST_CASE("Glu::load takes published matrices and names what does not fit", "[expert]") {
  std::mt19937_64 random(8);
  std::vector<double> values[3];
  for (auto& v : values) test::fill_random(v, 20 * 8, random);
  using View = moe::ConstMatrixView<double>;
  const View gate(values[0].data(), 19, 5, 8), up(values[1].data(), 19, 5, 7),
      down(values[2].data(), 5, 19, 20);
  Bank bank({2, 5, 19});
  bank.load(1, gate, up, down);
  bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    INFO(name);
    if (test::contains(name, "experts.0.")) {
      for (Index i = 0; i < p.value.size(); ++i) CHECK(p.value(i / p.value.cols, i % p.value.cols) == 0);
      return;
    }
    const View& from = test::contains(name, "gate") ? gate : test::contains(name, "up") ? up : down;
    REQUIRE(p.value.rows == from.rows);
    REQUIRE(p.value.cols == from.cols);
    for (Index o = 0; o < from.rows; ++o) {
      for (Index i = 0; i < from.cols; ++i) CHECK(p.value(o, i) == from(o, i));
    }
  });

  const auto refused = [&](Index e, const View& g, const View& u, const View& d) {
    return test::message_of<std::invalid_argument>([&] { bank.load(e, g, u, d); });
  };
  CHECK(test::contains(refused(2, gate, up, down), "expert"));
  CHECK(test::contains(refused(-1, gate, up, down), "expert"));
  CHECK(test::contains(refused(0, down, up, down), "gate"));
  CHECK(test::contains(refused(0, gate, down, down), "up"));
  CHECK(test::contains(refused(0, gate, up, up), "down"));
  CHECK(test::parameters_of(bank).at("experts.0.gate_proj.weight")[0][0].v == 0);
}
