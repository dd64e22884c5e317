#include "moe/layer/soft/twin_merging.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "layer/soft/plain_merging.hpp"
#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"
#include "support/task_vectors.hpp"

using moe::Index;
using test::Values;

namespace {

constexpr Index kWidth = 6, kHidden = 5, kExperts = 3;
using Gated = moe::Glu<moe::Silu, double>;
using Plain = moe::Mlp<moe::Silu, double>;
using Reading = test::ParameterVisit<const double>;
using Visit = test::ParameterVisit<double>;

template <class Bank>
Bank drawn(Index experts, unsigned seed, Index width = kWidth, Index hidden = kHidden, bool bias = true) {
  Bank bank({experts, width, hidden, bias});
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  using Real = typename Bank::Real;
  const test::ParameterVisit<Real> draw = [&](const moe::Parameter<Real>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = static_cast<Real>(0.5 * normal(random));
    }
  };
  bank.visit_parameters(nullptr, draw);
  return bank;
}
template <class Bank>
moe::TwinMerging<Bank> make(Index rank, double keep = 1, moe::TwinMergingOptions options = {}) {
  auto layer = moe::twin_merging(
      moe::twin_experts(drawn<Bank>(1, 1), drawn<Bank>(kExperts, 2), {.rank = rank, .keep = keep}), options);
  std::mt19937_64 random(9);
  std::normal_distribution<double> normal;
  const Visit draw = [&](const moe::Parameter<double>& p) {
    if (std::string(p.name).find("gate.") != 0) return;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = normal(random);
    }
  };
  layer.visit_parameters(draw);
  return layer;
}
moe::LayerInput<double> input(const Values& x, Index width = kWidth) {
  moe::LayerInput<double> in(test::view(x, width));
  in.segments = moe::Segments::uniform(3);
  return in;
}
/// The parameters of the mixture p, as published, one after the other.
template <class Bank>
Values merged(const moe::TwinExperts<Bank>& twin, const Values& p, test::AnyExecutor executor) {
  moe::Arena measuring;
  twin.take_merged(measuring);
  twin.measure_merge(measuring, executor.concurrency());
  moe::Workspace memory;
  moe::Arena arena = memory.arena(measuring.bytes());
  const auto one = twin.take_merged(arena);
  twin.merge(p.data(), one, arena, executor);
  Bank shown = twin.shared();
  Values all;
  shown.visit_storage(nullptr, [&](const char* name, double* values, double*, Index n) {
    const std::string kind = name;
    const double* const from =
        kind.ends_with(".bias")
            ? (kind.find("experts.gate_up") == 0 || kind.find("experts.fc1") == 0 ? one.first_biases
                                                                                  : one.second_biases)
            : (kind == "experts.gate_up" || kind == "experts.fc1" ? one.first.data : one.second.data);
    for (Index i = 0; i < n; ++i) values[i] = from[i];
  });
  const Reading list = [&](const moe::Parameter<const double>& q) {
    for (Index o = 0; o < q.value.rows; ++o) {
      for (Index i = 0; i < q.value.cols; ++i) all.push_back(q.value(o, i));
    }
  };
  moe::visit_parameters(shown, list);
  return all;
}
template <class Bank>
Values parameters(const Bank& bank, Index e) {
  Values all;
  const std::string own = "experts." + std::to_string(e) + ".";
  const Reading list = [&](const moe::Parameter<const double>& q) {
    for (Index o = 0; std::string(q.name).find(own) == 0 && o < q.value.rows; ++o) {
      for (Index i = 0; i < q.value.cols; ++i) all.push_back(q.value(o, i));
    }
  };
  moe::visit_parameters(bank, list);
  return all;
}

}  // namespace

TEST_CASE("Twin-Merging: laws of layers", "[layer]") {
  test::LayerCall call;
  call.draw_parameters = false;
  call.gradients = false;  // dx is without the mixer's part: the features are those of a frozen model
  test::check_layer(
      "twin", [] { return make<Plain>(2); }, call);
  test::check_layer(
      "gated twin", [] { return make<Gated>(2); }, call);
}

TEST_CASE("the mixer's gradient is that of the merged parameters; nothing else is trained", "[layer]") {
  auto layer = make<Gated>(2);
  const Values x = test::random_rows(9, kWidth, 3), dy = test::random_rows(9, kWidth, 4);
  auto tape = layer.make_tape();
  test::train_layer(layer, input(x), tape);
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  using Back = decltype(layer)::LayerGradients;
  layer.backward(tape, Back(test::view(dy, kWidth), {}, gradients), workspace, test::serial());
  Index gates = 0, frozen = 0;
  const Visit compare = [&](const moe::Parameter<double>& p) {
    if (!p.gradient) {
      ++frozen;
      return;
    }
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        const double own = p.value(o, i), step = 1e-5;
        double value[2];
        for (const int side : {0, 1}) {
          p.value(o, i) = side == 0 ? own + step : own - step;
          const Values y = test::run_layer(layer, input(x));
          value[side] = 0;
          for (std::size_t j = 0; j < y.size(); ++j) value[side] += dy[j] * y[j];
        }
        p.value(o, i) = own;
        CHECK(std::fabs((value[0] - value[1]) / (2 * step) - p.gradient(o, i)) <= 1e-8);
        ++gates;
      }
    }
  };
  layer.visit_parameters(gradients, compare);
  CHECK(gates == kExperts * (kWidth + 1));
  CHECK(frozen == 6 + kExperts * (3 * 3));
}

TEST_CASE("full rank and one expert's weight give that expert back", "[layer]") {
  const auto check = [](const auto& shared, const auto& experts) {
    const auto twin = moe::twin_experts(shared, experts, {.rank = std::min(kWidth, kHidden)});
    moe::PoolExecutor pool(3);
    for (Index e = 0; e < kExperts; ++e) {
      Values p(kExperts, 0);
      p[static_cast<std::size_t>(e)] = 1;
      const Values one = merged(twin, p, test::serial());
      CHECK(test::distance(one, parameters(experts, e)) <= 1e-14);
      CHECK(test::same_bits(one, merged(twin, p, pool)));
    }
    const Values none(kExperts, 0);
    CHECK(test::same_bits(merged(twin, none, test::serial()), parameters(shared, 0)));
  };
  check(drawn<Plain>(1, 1), drawn<Plain>(kExperts, 2));
  check(drawn<Gated>(1, 1), drawn<Gated>(kExperts, 2));
}

TEST_CASE("of a lower rank the largest singular values are left: no other difference of it is nearer",
          "[layer]") {
  const auto shared = drawn<Plain>(1, 1, 7, 9, false);
  const double singular[] = {0.25, 5, 1, 0.5, 3, 0.125, 2};
  // Reflections of unit vectors: orthogonal matrices.
  const auto reflection = [](Index n, Index o, Index k) {
    double norm = 0;
    for (Index i = 0; i < n; ++i) norm += static_cast<double>((i + 1) * (i + 1));
    return (o == k ? 1.0 : 0.0) - 2 * static_cast<double>((o + 1) * (k + 1)) / norm;
  };
  auto experts = drawn<Plain>(2, 2, 7, 9, false);
  const Values base = parameters(shared, 0);
  std::size_t at = 0;
  const Visit set = [&](const moe::Parameter<double>& p) {
    if (std::string(p.name).find("experts.1.") != 0) return;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        double d = 0;
        for (Index k = 0; k < 7; ++k) {
          d += reflection(p.value.rows, o, k) * singular[k] * reflection(p.value.cols, i, k);
        }
        p.value(o, i) = base[at++] + d;
      }
    }
  };
  experts.visit_parameters(nullptr, set);
  std::vector<double> sorted(singular, singular + 7);
  std::sort(sorted.begin(), sorted.end());
  const Values want = parameters(experts, 1);
  for (Index rank = 1; rank <= 7; ++rank) {
    const auto twin = moe::twin_experts(shared, experts, {.rank = rank});
    const Values one = merged(twin, {0, 1}, test::serial());
    // Eckart and Young: a matrix's squared error is the sum of the squares of the other singular values.
    double discarded = 0, error = 0;
    for (Index k = 0; k < 7 - rank; ++k)
      discarded += 2 * sorted[static_cast<std::size_t>(k)] * sorted[static_cast<std::size_t>(k)];
    for (std::size_t i = 0; i < one.size(); ++i) error += (one[i] - want[i]) * (one[i] - want[i]);
    CHECK(std::fabs(error - discarded) <= 1e-12);
  }
}

TEST_CASE("the trim keeps the largest differences of an expert over all its parameters", "[layer]") {
  const auto shared = drawn<Plain>(1, 1), experts = drawn<Plain>(kExperts, 2);
  const auto twin = moe::twin_experts(shared, experts, {.rank = 5, .keep = 0.25});
  const Values base = parameters(shared, 0);
  for (Index e = 0; e < kExperts; ++e) {
    Values p(kExperts, 0);
    p[static_cast<std::size_t>(e)] = 1;
    const Values one = merged(twin, p, test::serial()), own = parameters(experts, e);
    std::vector<double> sizes;
    for (std::size_t i = 0; i < own.size(); ++i) sizes.push_back(std::fabs(own[i] - base[i]));
    std::sort(sizes.rbegin(), sizes.rend());
    const std::size_t kept = (own.size() + 3) / 4;
    Index wrong = 0;
    for (std::size_t i = 0; i < own.size(); ++i) {
      const bool stays = std::fabs(own[i] - base[i]) >= sizes[kept - 1];
      wrong += !(std::fabs(one[i] - (stays ? own[i] : base[i])) <= 1e-14);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("the mixer reads features of a frozen model, which get no gradient", "[layer]") {
  const auto layer = make<Plain>(2, 1, {.features = 4});
  const Values x = test::random_rows(6, kWidth, 5), dy = test::random_rows(6, kWidth, 6);
  Values features = test::random_rows(6, 4, 7);
  auto in = input(x);
  in.router_x = test::view(std::as_const(features), 4);
  auto tape = layer.make_tape();
  const Values y = test::train_layer(layer, in, tape);
  Values router_dx(features.size(), 3);
  std::remove_cvref_t<decltype(layer)>::LayerGradients out(test::view(dy, kWidth), {});
  out.router_dx = test::view(router_dx, 4);
  moe::Workspace workspace;
  layer.backward(tape, out, workspace, test::serial());
  for (const double v : router_dx) CHECK(v == 0);
  features[0] += 1;
  CHECK(test::distance(test::run_layer(layer, in), y) > 1e-6);
}

TEST_CASE("float twins agree with double ones, of sizes of several panels", "[layer]") {
  const auto shared = drawn<moe::Glu<moe::Silu, float>>(1, 1, 70, 50, false);
  const auto experts = drawn<moe::Glu<moe::Silu, float>>(4, 2, 70, 50, false);
  auto layer = moe::twin_merging(moe::twin_experts(shared, experts, {.rank = 50}));
  CHECK(layer.experts().bytes() > shared.bytes());
  // Equal shares: the mean of the experts.
  moe::Glu<moe::Silu, float> mean({1, 70, 50});
  const float p[] = {0.25f, 0.25f, 0.25f, 0.25f};
  moe::SerialExecutor serial;
  experts.merge_into(p, mean, serial);
  const Values rows = test::random_rows(5, 70, 8);
  std::vector<float> x(rows.begin(), rows.end()), y(x.size()), want(x.size());
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), 5, 70));
  in.segments = moe::Segments::uniform(5);
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), 5, 70));
  moe::Workspace workspace;
  layer.forward(in, out, workspace, test::serial());
  moe::Arena measuring;
  mean.measure(measuring, 5, 1);
  moe::Arena arena = workspace.arena(measuring.bytes());
  const float* row[5];
  const float* result[5];
  for (Index t = 0; t < 5; ++t) row[t] = x.data() + t * 70;
  const std::int32_t token[] = {0, 1, 2, 3, 4};
  const Index offsets[] = {0, 5};
  mean.forward(moe::RowBatch<float>{row, token, offsets, 1}, moe::RowSink<float>{want.data(), 70, result},
               arena, serial);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::fabs(y[i] - want[i]) <= 2e-3f);
}

TEST_CASE("banks that do not go together, ranks and shares out of range are refused", "[layer]") {
  const auto build = [](const Plain& shared, const Plain& experts, moe::TaskVectorOptions o) {
    return test::message_of<moe::config_error>([&] { moe::twin_experts(shared, experts, o); });
  };
  const auto one = drawn<Plain>(1, 1), three = drawn<Plain>(3, 2);
  CHECK(build(one, three, {.rank = 6}) == "moe: rank of the task vectors: expected a value in [1, 5], got 6");
  CHECK(build(one, three, {.rank = 0}) == "moe: rank of the task vectors: expected a value in [1, 5], got 0");
  CHECK(build(three, three, {.rank = 1}) ==
        "moe: experts of the shared bank: expected a value in [1, 1], got 3");
  CHECK(build(one, three, {.rank = 1, .keep = 0}) ==
        "moe: share of the differences to keep: expected a value in (0, 1], got 0");
  CHECK(build(one, three, {.rank = 1, .keep = NAN}) ==
        "moe: share of the differences to keep: expected a value in (0, 1], got nan");
  CHECK(build(drawn<Plain>(1, 1, 6, 4), three, {.rank = 1}) ==
        "moe: shared expert: expected one of the experts' shape 6 x 5 with biases, got 6 x 4 with biases");
  auto bad = three;
  const Visit spoil = [](const moe::Parameter<double>& p) { p.value(0, 0) = INFINITY; };
  bad.visit_parameters(nullptr, spoil);
  CHECK(test::message_of<moe::numeric_error>([&] { moe::twin_experts(one, bad, {.rank = 1}); }) ==
        "moe: experts.0.fc1.weight: expected a finite difference from the shared expert, got inf");
  CHECK_THROWS_AS(moe::twin_merging(moe::twin_experts(one, three, {.rank = 1}), {.features = -1}),
                  moe::config_error);
}
