#include "moe/expert/bank/latent.hpp"

#include <Eigen/Core>

#include "expert/bank_fixture.hpp"
#include "expert/naive_two_layer.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/quantise.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/decompositions.hpp"
#include "support/errors.hpp"

using moe::Index;

namespace {

using Glu = moe::Glu<moe::Silu, double>;
using Bank = moe::LatentBank<Glu>;

static_assert(moe::TrainableExpertBank<Bank>);
static_assert(moe::TrainableExpertBank<moe::LatentBank<moe::Mlp<moe::Relu>>>);

Bank bank_of(Index experts, Index width, Index latent, Index hidden, bool bias = false) {
  return {width, Glu({.experts = experts, .width = latent, .hidden = hidden, .bias = bias, .output = width})};
}

template <class B>
void visit(B& of, const test::ParameterVisit<double>& f) {
  of.visit_parameters(nullptr, f);
}

/// The same rows, with tokens, two slots each where there is a second expert.
moe::RowBatch<double> with_tokens(const test::BankBatch<double>& batch, const std::vector<const double*>& row,
                                  Index tokens) {
  return {row.data(), batch.token.data(), batch.offsets.data(), batch.experts(), tokens};
}

}  // namespace

TEST_CASE("latent experts agree with plain loops", "[expert][smoke]") {
  test::unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
  for (const bool bias : {false, true}) {
    Bank bank = bank_of(3, 19, 5, 7, bias);
    test::randomise_bank(bank, 1);
    const auto batch = test::random_batch<double>(19, {4, 0, 3}, 2);
    const auto z = test::run_forward(bank, batch);
    const test::NamedParameters all = test::parameters_of(bank);
    Index wrong = 0;
    for (std::size_t e = 0; e < 3; ++e) {
      const test::NaiveTwoLayer naive{all, "experts." + std::to_string(e) + ".", true, test::Act::silu};
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        test::Row x, h;
        for (Index j = 0; j < 19; ++j)
          x.push_back(test::Bounded(batch.x[static_cast<std::size_t>(s * 19 + j)]));
        for (const test::Row& a : all.at("experts.latent.weight")) h.push_back(test::dot(a, x));
        const test::Row want = naive.forward(h).z;
        for (std::size_t j = 0; j < 19; ++j)
          wrong += !test::within(z[static_cast<std::size_t>(s * 19) + j], want[j]);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("gradients of latent experts agree with central differences", "[expert]") {
  Bank bank = bank_of(2, 6, 3, 5, true);
  test::randomise_bank(bank, 3);
  test::check_bank_gradients(bank, test::random_batch<double>(6, {2, 3}, 4), 1);
}

TEST_CASE("rows of latent experts do not feel the batch", "[expert]") {
  Bank bank = bank_of(3, 18, 17, 9, true);
  test::randomise_bank(bank, 5);
  test::check_bank_laws(bank, test::random_batch<double>(18, {20, 0, 13}, 6));
  moe::LatentBank<moe::Mlp<moe::Relu>> mlp(
      33, moe::Mlp<moe::Relu>({.experts = 2, .width = 4, .hidden = 20, .output = 33}));
  test::randomise_bank(mlp, 7);
  test::check_bank_laws(mlp, test::random_batch<float>(33, {150, 131}, 8));
}

TEST_CASE("a token's latent row is the same for all its experts, and computed once", "[expert]") {
  Bank bank = bank_of(2, 7, 3, 5);
  test::randomise_bank(bank, 9);
  auto batch = test::random_batch<double>(7, {3, 3}, 10);
  for (std::size_t s = 0; s < 6; ++s) batch.token[s] = static_cast<std::int32_t>(s % 3);
  for (std::size_t i = 0; i < 21; ++i) batch.x[21 + i] = batch.x[i];
  auto row = batch.rows(batch.x);
  for (std::size_t s = 3; s < 6; ++s) row[s] = row[s - 3];
  moe::SerialExecutor serial;
  const auto run = [&](Index tokens, Bank::Tape& tape) {
    test::ExactArena arena(
        test::measured_bytes(bank, [&](const Bank& b, moe::Arena& a) { b.measure(a, batch.slots(), 1); }));
    test::SlotRows<double> z(6, 7);
    bank.forward_train(with_tokens(batch, row, tokens), z.sink(), tape, arena.get(), serial);
    return test::collect_rows(z.result, 7);
  };
  Bank::Tape by_slot, by_token;
  CHECK(test::same_bits(run(0, by_slot), run(3, by_token)));
  CHECK(
      test::same_bits(run(7, by_slot), run(3, by_token)));  // more tokens than slots: no room to look them up
  for (Index s = 0; s < 6; ++s) {
    CHECK(by_slot.row_of[s] == s);
    CHECK(by_token.row_of[s] == s % 3);
  }
}

TEST_CASE(
    "experts of rank r together are latent experts of r columns; else what is lost are the squares of "
    "the singular values left out",
    "[expert]") {
  for (const bool bias : {false, true}) {
    Glu dense({.experts = 3, .width = 8, .hidden = 5, .bias = bias});
    test::randomise_bank(dense, 11);
    Eigen::MatrixXd w(30, 8);
    Index stacked = 0;
    visit(dense, [&](const moe::Parameter<double>& p) {
      if (!test::contains(p.name, "weight") || test::contains(p.name, "down")) return;
      for (Index o = 0; o < 5; ++o, ++stacked)
        for (Index i = 0; i < 8; ++i) w(stacked, i) = p.value(o, i);
    });
    const test::Svd svd = test::svd_of(w);
    const auto squares_from = [&](Index first) {
      double sum = 0;
      for (Index k = first; k < 8; ++k) sum += svd.values(k) * svd.values(k);
      return sum;
    };
    const double all = squares_from(0);
    for (const Index r : {1, 3, 7, 8}) {
      INFO("r " << r);
      Bank bank = bank_of(3, 8, r, 5, bias);
      const double lost = moe::factor_experts(dense, bank);
      const double want = squares_from(r);
      CHECK(std::abs(lost - want) <= 1e-13 * all);
      Eigen::MatrixXd a(r, 8), b(30, r);
      Index row = 0;
      visit(bank, [&](const moe::Parameter<double>& p) {
        if (test::contains(p.name, "latent")) {
          for (Index o = 0; o < r; ++o)
            for (Index i = 0; i < 8; ++i) a(o, i) = p.value(o, i);
        } else if (test::contains(p.name, "weight") && !test::contains(p.name, "down")) {
          for (Index o = 0; o < 5; ++o, ++row)
            for (Index i = 0; i < r; ++i) b(row, i) = p.value(o, i);
        }
      });
      CHECK(std::abs(test::squared_distance(w, test::product(b, a)) - want) <= 1e-13 * all);
    }

    // First layers of rank 3 together.
    const Eigen::MatrixXd low = test::product(svd.u.leftCols(3), w.topRows(3));
    const double size = test::squared_distance(low, Eigen::MatrixXd::Zero(30, 8));
    Index row = 0;
    visit(dense, [&](const moe::Parameter<double>& p) {
      if (!test::contains(p.name, "weight") || test::contains(p.name, "down")) return;
      for (Index o = 0; o < 5; ++o, ++row)
        for (Index i = 0; i < 8; ++i) p.value(o, i) = low(row, i);
    });
    Bank bank = bank_of(3, 8, 3, 5, bias);
    CHECK(moe::factor_experts(dense, bank) <= 1e-28 * size);
    const auto batch = test::random_batch<double>(8, {4, 2, 3}, 12);
    const auto z = test::run_forward(bank, batch), same = test::run_forward(dense, batch);
    double worst = 0;
    for (std::size_t i = 0; i < z.size(); ++i) worst = std::max(worst, std::abs(z[i] - same[i]));
    CHECK(worst <= 1e-13);  // numbers of magnitude 1, a few dozen roundings
  }
}

TEST_CASE("latent experts in int4, and groups of them in a composite", "[expert]") {
  using Small = moe::Glu<moe::Silu, moe::Int4Groups<>>;
  moe::Glu<moe::Silu> dense({.experts = 2, .width = 32, .hidden = 32, .output = 48});
  dense.initialise(1);
  moe::LatentBank<Small> bank(48, moe::quantise<moe::Int4Groups<>>(dense));
  bank.map().initialise(2);
  test::check_bank_laws(bank, test::random_batch<float>(48, {9, 5}, 3));
  moe::Composite both(bank_of(2, 8, 3, 5), bank_of(3, 8, 4, 5));
  test::randomise_bank(both, 4);
  test::check_bank_gradients(both, test::random_batch<double>(8, {1, 2, 0, 1, 2}, 5), 3);
  std::vector<std::string> names;
  visit(both, [&](const moe::Parameter<double>& p) { names.emplace_back(p.name); });
  CHECK(names.front() == "experts.0-1.latent.weight");
  CHECK(std::count(names.begin(), names.end(), "experts.2-4.latent.weight") == 1);
}

TEST_CASE("sizes of latent experts are checked", "[expert]") {
  CHECK(test::contains(
      test::message_of<moe::config_error>([] { Bank bank(8, Glu({.experts = 1, .width = 3, .hidden = 5})); }),
      "results of 8 columns, got 3"));
  CHECK_THROWS_AS(Glu({.experts = 1, .width = 3, .hidden = 5, .output = -1}), moe::config_error);
  // A bank of other results than rows goes into no layer or composite by itself.
  const Glu rectangular({.experts = 2, .width = 3, .hidden = 5, .output = 4});
  CHECK_THROWS_AS(moe::MoeLayer(moe::top_k_softmax<double>({.width = 3, .experts = 2, .k = 1}), rectangular),
                  moe::config_error);
  CHECK_THROWS_AS(moe::Composite(Glu({.experts = 1, .width = 3, .hidden = 5}), rectangular),
                  moe::config_error);
  CHECK_THROWS_AS(moe::Composite(rectangular), moe::config_error);

  Bank bank = bank_of(2, 4, 2, 3);
  const auto batch = test::random_batch<double>(4, {1, 2}, 2);
  moe::SerialExecutor serial;
  Bank::Tape tape;
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, batch, &tape, serial);
  auto other = bank_of(2, 4, 3, 3).make_gradients();
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &other, true, serial), moe::shape_error);
  Bank taken = std::move(bank);
  CHECK_THROWS_AS(test::run_forward(bank, batch), moe::state_error);  // NOLINT(bugprone-use-after-move)

  Glu dense({.experts = 2, .width = 4, .hidden = 3}), narrow({.experts = 2, .width = 4, .hidden = 2});
  CHECK_THROWS_AS(moe::factor_experts(narrow, taken), moe::config_error);
  Bank wide = bank_of(2, 4, 5, 3);
  CHECK_THROWS_AS(moe::factor_experts(dense, wide), moe::config_error);
  visit(dense,
        [](const moe::Parameter<double>& p) { p.value(0, 0) = std::numeric_limits<double>::infinity(); });
  CHECK_THROWS_AS(moe::factor_experts(dense, taken), moe::numeric_error);
}
