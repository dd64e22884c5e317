#include "moe/expert/bank/nested.hpp"

#include "expert/bank_fixture.hpp"
#include "expert/naive_two_layer.hpp"
#include "moe/expert/bank/composite.hpp"
#include "support/errors.hpp"

using moe::Index;

namespace {

using Mlp = moe::NestedMlp<moe::Relu, double>;
using Glu = moe::NestedGlu<moe::Silu, double>;

constexpr Index kWidths[] = {3, 16, 21, 5};  // ends inside and at the end of a panel

static_assert(moe::TrainableExpertBank<Mlp> && moe::TrainableExpertBank<Glu>);
static_assert(moe::TrainableExpertBank<moe::NestedGlu<moe::ClampedGate<moe::QuickGelu>>>);

template <class Bank>
Bank nested(Index width, std::span<const Index> widths, bool bias, unsigned seed) {
  Bank bank({.width = width, .widths = widths, .bias = bias});
  test::randomise_bank(bank, seed);
  return bank;
}

/// A bank of one expert with the first hidden units of `from`.
template <class Dense, class Nested>
Dense prefix(Nested& from, Index hidden) {
  Dense dense({.experts = 1, .width = from.width(), .hidden = hidden, .bias = from.has_bias()});
  std::vector<moe::ParameterView<double>> values;
  from.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { values.push_back(p.value); });
  std::size_t at = 0;
  dense.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o)
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = values[at](o, i);
    ++at;
  });
  return dense;
}

/// Rows of expert e alone, as a batch of `experts` whose expert `as` gets them.
test::BankBatch<double> rows_of(const test::BankBatch<double>& batch, Index e, Index as, Index experts) {
  const auto first = batch.offsets[static_cast<std::size_t>(e)],
             last = batch.offsets[static_cast<std::size_t>(e) + 1];
  test::BankBatch<double> own{batch.width, {0}, {}, {}, {}, {}};
  for (Index i = 0; i < experts; ++i) own.offsets.push_back(i < as ? 0 : last - first);
  for (Index s = first; s < last; ++s) {
    own.token.push_back(static_cast<std::int32_t>(s - first));
    own.weight.push_back(batch.weight[static_cast<std::size_t>(s)]);
  }
  own.x.assign(batch.x.begin() + first * batch.width, batch.x.begin() + last * batch.width);
  own.dy.assign(batch.dy.begin() + first * batch.width, batch.dy.begin() + last * batch.width);
  return own;
}

/// Every expert has the bits of a bank that is no wider, forward and backward; the widest those of the dense
/// one, gradients too.
template <class Nested, class Dense>
void prefixes_are_banks(bool bias) {
  Nested bank = nested<Nested>(19, kWidths, bias, 3);
  moe::SerialExecutor serial;
  const auto batch = test::random_batch<double>(19, {40, 7, 9, 2}, 4);
  typename Nested::Tape tape;
  typename Dense::Tape dense_tape;
  for (Index e = 0; e < 4; ++e) {
    INFO("expert " << e << " bias " << bias);
    Dense dense = prefix<Dense>(bank, kWidths[e]);
    const auto own = rows_of(batch, e, e, 4), alone = rows_of(batch, e, 0, 1);
    CHECK(test::same_bits(test::run_forward(bank, own, &tape, serial),
                          test::run_forward(dense, alone, &dense_tape, serial)));
    auto gradients = bank.make_gradients();
    auto dense_gradients = dense.make_gradients();
    const auto back = test::run_backward(bank, own, tape, &gradients, true, serial);
    const auto want = test::run_backward(dense, alone, dense_tape, &dense_gradients, true, serial);
    CHECK(test::same_bits(back.dx, want.dx));
    CHECK(test::same_bits(back.dweight, want.dweight));
    std::vector<moe::ParameterView<double>> shared;
    bank.visit_parameters(&gradients, [&](const moe::Parameter<double>& p) { shared.push_back(p.gradient); });
    std::size_t at = 0, wrong = 0, beyond = 0;
    dense.visit_parameters(&dense_gradients, [&](const moe::Parameter<double>& p) {
      for (Index o = 0; o < shared[at].rows; ++o) {
        for (Index i = 0; i < shared[at].cols; ++i) {
          const bool in = o < p.gradient.rows && i < p.gradient.cols;
          wrong += in && !(shared[at](o, i) == p.gradient(o, i));
          beyond += !in && shared[at](o, i) != 0;
        }
      }
      ++at;
    });
    CHECK(wrong == 0);
    CHECK(beyond == 0);
  }
}

}  // namespace

TEST_CASE("a nested expert is the bank of its width, bit for bit; the widest is the dense layer",
          "[expert][smoke]") {
  for (const bool bias : {false, true}) {
    prefixes_are_banks<Mlp, moe::Mlp<moe::Relu, double>>(bias);
    prefixes_are_banks<Glu, moe::Glu<moe::Silu, double>>(bias);
  }
}

TEST_CASE("nested experts agree with plain loops", "[expert]") {
  for (const bool gated : {false, true}) {
    const auto check = [&](auto bank) {
      const auto batch = test::random_batch<double>(7, {3, 0, 2, 4}, 6);
      const std::vector<double> z = test::run_forward(bank, batch);
      test::unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
      const test::NamedParameters all = test::parameters_of(bank);
      Index wrong = 0;
      for (std::size_t e = 0; e < 4; ++e) {
        test::NamedParameters own;  // the first units of each matrix
        for (const auto& [name, rows] : all) {
          const bool second = test::contains(name, gated ? "down" : "fc2");
          auto& to = own[name];
          for (std::size_t o = 0; o < rows.size(); ++o) {
            if (!second && o >= static_cast<std::size_t>(kWidths[e])) continue;
            const bool cut = second && test::contains(name, "weight");
            to.emplace_back(rows[o].begin(), cut ? rows[o].begin() + kWidths[e] : rows[o].end());
          }
        }
        const test::NaiveTwoLayer naive{own, "experts.", gated, gated ? test::Act::silu : test::Act::relu};
        for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
          test::Row x;
          for (Index j = 0; j < 7; ++j)
            x.push_back(test::Bounded(batch.x[static_cast<std::size_t>(s * 7 + j)]));
          const test::Row want = naive.forward(x).z;
          for (std::size_t j = 0; j < 7; ++j)
            wrong += !test::within(z[static_cast<std::size_t>(s * 7) + j], want[j]);
        }
      }
      CHECK(wrong == 0);
    };
    gated ? check(nested<Glu>(7, kWidths, true, 5)) : check(nested<Mlp>(7, kWidths, true, 5));
  }
}

TEST_CASE("gradients of nested experts agree with central differences", "[expert]") {
  Glu glu = nested<Glu>(5, kWidths, true, 7);
  test::check_bank_gradients(glu, test::random_batch<double>(5, {2, 1, 2, 0}, 8), 1);
}

TEST_CASE("rows of nested experts do not feel the batch", "[expert]") {
  Glu glu = nested<Glu>(13, kWidths, true, 9);
  test::check_bank_laws(glu, test::random_batch<double>(13, {20, 3, 0, 15}, 10));
  moe::NestedMlp<moe::Silu> mlp({.width = 18, .widths = kWidths});
  test::randomise_bank(mlp, 11);
  test::check_bank_laws(mlp, test::random_batch<float>(18, {150, 2, 131, 1}, 12));
}

TEST_CASE("gradients of overlapping prefixes are added expert after expert", "[expert]") {
  Glu bank = nested<Glu>(9, kWidths, true, 13);
  const auto batch = test::random_batch<double>(9, {4, 3, 5, 2}, 14);
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(3);
  Glu::Tape tape;
  auto together = bank.make_gradients(), by_turns = bank.make_gradients();
  test::run_forward(bank, batch, &tape, serial);
  test::run_backward(bank, batch, tape, &together, true, pool);
  for (Index e = 0; e < 4; ++e) {
    const auto own = rows_of(batch, e, e, 4);
    test::run_forward(bank, own, &tape, serial);
    test::run_backward(bank, own, tape, &by_turns, true, serial);
  }
  CHECK(test::same_bits(test::flat_gradients(bank, together), test::flat_gradients(bank, by_turns)));
}

TEST_CASE("a dense expert is nested by the importance of its hidden units", "[expert]") {
  const Index widths[] = {2, 6};
  for (const bool bias : {false, true}) {
    moe::Glu<moe::Silu, double> dense({.experts = 1, .width = 4, .hidden = 6, .bias = bias});
    test::randomise_bank(dense, 15);
    Glu bank({.width = 4, .widths = widths, .bias = bias});
    const double importance[] = {1, 5, 2, 5, 0, 2};
    constexpr Index kOrder[] = {1, 3, 2, 5, 0, 4};
    moe::nest_expert(dense, importance, bank);
    const auto from = test::parameters_of(dense), to = test::parameters_of(bank);
    Index wrong = 0;
    for (std::size_t j = 0; j < 6; ++j) {
      const auto of = static_cast<std::size_t>(kOrder[j]);
      for (std::size_t i = 0; i < 4; ++i) {
        for (const char* name : {"gate_proj", "up_proj"}) {
          const std::string matrix = std::string(name) + ".weight";
          wrong += to.at("experts." + matrix)[j][i].v != from.at("experts.0." + matrix)[of][i].v;
        }
        wrong += to.at("experts.down_proj.weight")[i][j].v != from.at("experts.0.down_proj.weight")[i][of].v;
      }
    }
    CHECK(wrong == 0);
    auto alone = test::random_batch<double>(4, {5}, 16), wide = alone;
    wide.offsets = {0, 0, 5};
    const auto z = test::run_forward(bank, wide), want = test::run_forward(dense, alone);
    // 6 products in another order, of terms below 2 * 4^2 in magnitude.
    for (std::size_t i = 0; i < z.size(); ++i) CHECK(std::abs(z[i] - want[i]) <= 6 * 6 * 32 * 0x1p-52);
    moe::nest_expert(dense, {}, bank);
    CHECK(test::same_bits(test::run_forward(bank, wide), want));
  }
}

TEST_CASE("nested experts in a composite are told apart by their range", "[expert]") {
  moe::Composite both(nested<Glu>(4, kWidths, false, 1), nested<Glu>(4, kWidths, false, 2));
  std::vector<std::string> names;
  both.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { names.emplace_back(p.name); });
  CHECK(names == std::vector<std::string>{"experts.0-3.gate_proj.weight", "experts.0-3.up_proj.weight",
                                          "experts.0-3.down_proj.weight", "experts.4-7.gate_proj.weight",
                                          "experts.4-7.up_proj.weight", "experts.4-7.down_proj.weight"});
}

TEST_CASE("sizes of nested experts are checked", "[expert]") {
  const auto message = [](Index width, std::span<const Index> widths) {
    return test::message_of<moe::config_error>([&] { Glu bank({.width = width, .widths = widths}); });
  };
  CHECK(test::contains(message(0, kWidths), "width"));
  CHECK(test::contains(message(3, {}), "experts"));
  const Index bad[] = {4, 0};
  CHECK(test::contains(message(3, bad), "hidden width of a nested expert"));

  Glu bank = nested<Glu>(4, kWidths, false, 1);
  const auto batch = test::random_batch<double>(4, {1, 0, 2, 0}, 2);
  moe::SerialExecutor serial;
  Glu::Tape tape;
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, nullptr, true, serial), moe::state_error);
  test::run_forward(bank, batch, &tape, serial);
  auto other = nested<Glu>(4, kWidths, true, 1).make_gradients();
  CHECK_THROWS_AS(test::run_backward(bank, batch, tape, &other, true, serial), moe::shape_error);
  Glu taken = std::move(bank);
  CHECK(taken.experts() == 4);
  CHECK_THROWS_AS(test::run_forward(bank, batch), moe::state_error);  // NOLINT(bugprone-use-after-move)

  moe::Glu<moe::Silu, double> dense({.experts = 1, .width = 4, .hidden = 21});
  const double nan[21] = {std::numeric_limits<double>::quiet_NaN()};
  CHECK_THROWS_AS(moe::nest_expert(dense, nan, taken), moe::numeric_error);
  CHECK_THROWS_AS(moe::nest_expert(dense, std::span<const double>(nan, 20), taken), moe::shape_error);
  moe::Glu<moe::Silu, double> two({.experts = 2, .width = 4, .hidden = 21}),
      narrow({.experts = 1, .width = 4, .hidden = 20}),
      biased({.experts = 1, .width = 4, .hidden = 21, .bias = true});
  CHECK_THROWS_AS(moe::nest_expert(two, {}, taken), moe::config_error);
  CHECK_THROWS_AS(moe::nest_expert(narrow, {}, taken), moe::config_error);
  CHECK_THROWS_AS(moe::nest_expert(biased, {}, taken), moe::config_error);
}
