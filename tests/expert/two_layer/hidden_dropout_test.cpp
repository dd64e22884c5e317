#include "moe/expert/two_layer/hidden_dropout.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/errors.hpp"

namespace {

using moe::HiddenDropout;
using moe::Index;

/// A bank that always trains, on draws of its own: what the laws and differences of banks are asked of.
template <class B>
struct Drawing {
  using Real = typename B::Real;
  using Tape = typename B::Tape;
  using Gradients = typename B::Gradients;
  static constexpr moe::Coupling coupling = B::coupling;
  B bank;
  moe::RowDraws draws{moe::DrawKey{3, 7}, {}};

  Index experts() const { return bank.experts(); }
  Index width() const { return bank.width(); }
  void measure(moe::Arena& arena, Index pairs, Index n) const { bank.measure(arena, pairs, n); }
  void measure_backward(moe::Arena& arena, Index pairs, Index n) const {
    bank.measure_backward(arena, pairs, n);
  }
  template <class X>
  void forward(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, moe::Arena& arena,
               X& executor) const {
    Tape tape;
    forward_train(batch, sink, tape, arena, executor);
  }
  template <class X>
  void forward_train(moe::RowBatch<Real> batch, const moe::RowSink<Real>& sink, Tape& tape, moe::Arena& arena,
                     X& executor) const {
    batch.draws = &draws;
    bank.forward_train(batch, sink, tape, arena, executor);
  }
  template <class X>
  void backward(const moe::RowBatch<Real>& batch, const Tape& tape, const moe::RowGradients<Real>& rows,
                Gradients* gradients, moe::Arena& arena, X& executor) const {
    bank.backward(batch, tape, rows, gradients, arena, executor);
  }
  Gradients make_gradients() const { return bank.make_gradients(); }
  template <class F>
  void visit_parameters(Gradients* gradients, F&& f) {
    bank.visit_parameters(gradients, f);
  }
  template <class F>
  void visit_storage(Gradients* gradients, F&& f) {
    bank.visit_storage(gradients, f);
  }
};

template <class B>
Drawing<B> dropped(B bank, double rate, std::uint64_t seed = 0) {
  test::randomise_bank(bank, 5);
  bank.set_dropout(HiddenDropout({.rate = rate, .seed = seed}));
  return {std::move(bank)};
}
using Gated = moe::Glu<moe::Silu, double>;
using Plain = moe::Mlp<moe::AnyActivation, double>;

}  // namespace

TEST_CASE("a value is dropped with its probability, and kept ones make up for it", "[expert]") {
  const HiddenDropout dropout({.rate = 0.4});
  const auto draw = dropout.draw({1, 2});
  Index kept_count = 0, differ = 0;
  for (std::uint64_t row = 0; row < 100; ++row) {
    std::vector<double> h(100, 3), again(100, 3);
    bool kept[100], kept_again[100];
    dropout.apply(draw, row, 2, 100, 0, 100, h.data(), kept);
    for (Index j = 0; j < 100; ++j) {
      CHECK(h[static_cast<std::size_t>(j)] == (kept[j] ? 3 * (1 / 0.6) : 0));
      kept_count += kept[j] ? 1 : 0;
    }
    // Column by column, from an odd one on as well: the same draws.
    for (Index j = 0; j < 100; j += 1 + j % 2)
      dropout.apply(draw, row, 2, 100, j, std::min<Index>(1 + j % 2, 100 - j), again.data() + j,
                    kept_again + j);
    CHECK(again == h);
    dropout.apply(draw, row, 3, 100, 0, 100, again.data(), kept_again);
    for (Index j = 0; j < 100; ++j) differ += kept[j] != kept_again[j] ? 1 : 0;
  }
  CHECK(std::abs(static_cast<double>(kept_count) / 1e4 - 0.6) < 0.02);  // 4 standard errors
  CHECK(std::abs(static_cast<double>(differ) / 1e4 - 0.48) < 0.02);     // experts draw apart: 2 * 0.4 * 0.6
}

TEST_CASE("banks with dropout keep the laws of banks", "[expert]") {
  for (const Index hidden : {5, 33}) {
    auto gated = dropped(Gated({3, 4, hidden, true}), 0.4);
    test::check_bank_laws(gated, test::random_batch<double>(4, {2, 0, 5}, 1));
    auto single = dropped(moe::Mlp<moe::Relu, float>({2, 9, hidden}), 0.7);
    test::check_bank_laws(single, test::random_batch<float>(9, {3, 8}, 2));
  }
}

TEST_CASE("gradients under dropout agree with central differences", "[expert]") {
  auto gated = dropped(Gated({2, 3, 9, true}), 0.5);
  test::check_bank_gradients(gated, test::random_batch<double>(3, {2, 3}, 1), 1);
  auto plain = dropped(Plain({2, 5, 17, true}, {moe::ActivationKind::gelu_erf}), 0.3);
  test::check_bank_gradients(plain, test::random_batch<double>(5, {1, 4}, 4), 3);
}

TEST_CASE("the mean over draws is the bank without dropout", "[expert]") {
  const auto batch = test::random_batch<double>(3, {2, 1}, 6);
  auto bank = dropped(Gated({2, 3, 8}), 0.4);
  const auto plain = test::run_forward(dropped(Gated({2, 3, 8}), 0), batch);
  CHECK(test::same_bits(plain, test::run_forward(bank.bank, batch)));  // inference
  constexpr int kCalls = 4000;
  std::vector<double> sum(plain.size(), 0), squares(plain.size(), 0);
  for (int i = 0; i < kCalls; ++i) {
    bank.draws.key = moe::DrawKey{1, static_cast<std::uint64_t>(i)};
    const auto z = test::run_forward(bank, batch);
    for (std::size_t j = 0; j < z.size(); ++j) sum[j] += z[j], squares[j] += z[j] * z[j];
  }
  for (std::size_t j = 0; j < plain.size(); ++j) {
    const double mean = sum[j] / kCalls;
    const double error = std::sqrt((squares[j] / kCalls - mean * mean) / kCalls);
    CHECK(std::abs(mean - plain[j]) < 5 * error + 1e-12);
  }
}

TEST_CASE("draws go by row key, call and seed", "[expert]") {
  const auto batch = test::random_batch<double>(3, {2, 2}, 6);
  auto bank = dropped(Gated({2, 3, 8}), 0.4);
  const auto z = test::run_forward(bank, batch);
  const std::vector<std::uint64_t> keys{0, 1, 2, 3}, others{5, 6, 7, 8};
  bank.draws.row_key = keys;
  CHECK(test::same_bits(z, test::run_forward(bank, batch)));
  bank.draws.row_key = others;
  CHECK(!test::same_bits(z, test::run_forward(bank, batch)));
  bank.draws.row_key = {};
  bank.draws.key = moe::DrawKey{3, 8};
  CHECK(!test::same_bits(z, test::run_forward(bank, batch)));
  CHECK(!test::same_bits(z, test::run_forward(dropped(Gated({2, 3, 8}), 0.4, 1), batch)));
}

TEST_CASE("a layer drops in training alone, and asks for draws", "[expert]") {
  using Layer = moe::MoeLayer<moe::SoftmaxTopK<double>, moe::Composite<Gated, Plain>>;
  Plain plain({1, 4, 6, false}, {moe::ActivationKind::relu});
  Gated gated({2, 4, 6});
  gated.initialise(1);
  plain.initialise(2);
  plain.set_dropout(HiddenDropout({.rate = 0.5}));
  auto router = moe::softmax_top_k<double>({.width = 4, .experts = 3, .k = 3});
  router.scorer().initialise(3);
  std::vector<double> x, y(40), again(40);
  for (int i = 0; i < 40; ++i) x.push_back(std::sin(1 + 3 * i));
  moe::Workspace workspace;
  const moe::MatrixView<double> to(y.data(), 10, 4), to_again(again.data(), 10, 4);
  const auto train = [&](const Layer& layer, moe::DrawCounter* draws, const moe::MatrixView<double>& out) {
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 10, 4));
    in.draws = draws;
    Layer::Tape tape;
    moe::LayerOutput<double> output(out);
    layer.forward_train(in, output, tape, workspace);
  };
  moe::Composite<Gated, Plain> bank(gated, plain);
  const Layer layer(std::move(router), std::move(bank));
  // The composite's second bank draws; the first has no dropout.
  moe::DrawCounter draws(4), same(4);
  train(layer, &draws, to);
  train(layer, &same, to_again);
  CHECK(test::same_bits(y, again));
  train(layer, &draws, to_again);
  CHECK(!test::same_bits(y, again));
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 10, 4));
  moe::LayerOutput<double> output(to);
  layer.forward(in, output, workspace);
  CHECK(!test::same_bits(y, again));
  const auto before = y;
  const auto refused = test::message_of<moe::config_error>([&] { train(layer, nullptr, to); });
  CHECK(test::contains(refused, "draws: expected a DrawCounter for expert dropout"));
  CHECK(test::same_bits(y, before));
}

TEST_CASE("rates of dropout are checked", "[expert]") {
  for (const double bad : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(HiddenDropout({.rate = bad}), moe::config_error);
  CHECK(!HiddenDropout().active());
  auto bank = dropped(Gated({2, 3, 8}), 0.4);
  bank.draws.key.reset();
  CHECK_THROWS_AS(test::run_forward(bank, test::random_batch<double>(3, {2, 2}, 6)), moe::config_error);
}
