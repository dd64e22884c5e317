#include "moe/layer/probe/compete_smoe.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::CompeteOptions;
using moe::Index;
using Glu = moe::Glu<moe::Silu, double>;
using Values = std::vector<double>;

constexpr Index kWidth = 5, kExperts = 4, kTokens = 7;

CompeteOptions options(double rate, Index k = 2) {
  CompeteOptions o{.router = {.width = kWidth, .experts = kExperts, .k = k, .z_loss = 0.001}};
  o.rate = rate;
  return o;
}

Glu bank(Index experts = kExperts) {
  Glu made({.experts = experts, .width = kWidth, .hidden = 6, .bias = true});
  made.initialise(5);
  made.visit_parameters(nullptr, [](const moe::Parameter<double>& p) {
    for (Index o = 0; p.value.cols == 1 && o < p.value.rows; ++o)
      p.value(o, 0) = 0.3 * std::sin(3.0 * static_cast<double>(o));
  });
  return made;
}

Values normal(Index n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> draw;
  Values v(static_cast<std::size_t>(n));
  for (double& a : v) a = draw(random);
  return v;
}

moe::ConstMatrixView<double> rows_of(const Values& v) {
  return {v.data(), static_cast<Index>(v.size()) / kWidth, kWidth};
}
moe::MatrixView<double> rows_of(Values& v) {
  return {v.data(), static_cast<Index>(v.size()) / kWidth, kWidth};
}

/// One training call, and all that comes out of it.
template <class Layer>
struct Call {
  Values y, dx;
  typename Layer::Tape tape;
  typename Layer::Gradients gradients;
  moe::AuxiliaryLosses losses;

  Call(const Layer& layer, const Values& x, const Values& dy, double scale = 1, std::uint64_t calls = 0)
      : y(x.size()), dx(x.size()), tape(layer.make_tape()), gradients(layer.make_gradients()) {
    moe::Workspace workspace;
    moe::DrawCounter draws(11, calls);
    moe::LayerInput<double> in(rows_of(x));
    in.draws = &draws;
    moe::LayerOutput<double> out(rows_of(y));
    layer.forward_train(in, out, tape, workspace, test::serial());
    losses = out.losses;
    typename Layer::LayerGradients back(rows_of(dy), rows_of(dx), gradients);
    back.auxiliary_scale = scale;
    layer.backward(tape, back, workspace, test::serial());
  }
  double loss(const std::string& name) const {
    for (const auto& l : losses) {
      if (name == l.name) return l.value;
    }
    FAIL("no loss " << name);
    return 0;
  }
};

/// Results [T][E][D] of all experts, each row alone at each expert.
std::vector<std::vector<Values>> results_of(const Glu& experts, const Values& x) {
  std::vector<std::vector<Values>> all;
  test::AnyExecutor& serial = test::serial();
  for (Index t = 0; t < rows_of(x).rows; ++t) {
    all.emplace_back();
    for (Index e = 0; e < experts.experts(); ++e) {
      Values z(kWidth);
      const double *row = x.data() + t * kWidth, *result = z.data();
      const std::int32_t token = 0;
      std::vector<Index> offsets(static_cast<std::size_t>(experts.experts() + 1));
      for (Index g = e + 1; g <= experts.experts(); ++g) offsets[static_cast<std::size_t>(g)] = 1;
      moe::Workspace workspace;
      moe::Arena arena = workspace.arena(1 << 16);
      experts.forward({&row, &token, offsets.data(), experts.experts()}, {z.data(), kWidth, &result}, arena,
                      serial);
      all.back().push_back(z);
    }
  }
  return all;
}

double dot(const Values& a, const Values& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
Values softmax(Values v) {
  double sum = 0;
  for (double& a : v) sum += a = std::exp(a);
  for (double& a : v) a /= sum;
  return v;
}

/// A competition in plain loops.
struct Plain {
  Values y;
  double load_balance = 0, distillation = 0, diversity = 0;
  std::vector<Index> first;
};
template <class Layer>
Plain plain(const Layer& layer, const Values& x, const CompeteOptions& o, bool v1) {
  const auto z = results_of(layer.experts().inner(), x);
  const Index tokens = rows_of(x).rows, k = o.router.k;
  const double t_count = static_cast<double>(tokens), n = kExperts;
  Plain p;
  Values count(kExperts), mass(kExperts), weight;
  test::visit_layer(layer, [&](const auto& parameter) {
    for (Index i = 0; std::string("gate.weight") == parameter.name && i < parameter.value.size(); ++i)
      weight.push_back(parameter.value(i / kWidth, i % kWidth));
  });
  for (Index t = 0; t < tokens; ++t) {
    const auto& own = z[static_cast<std::size_t>(t)];
    Values a(kExperts), logit(kExperts);
    for (std::size_t e = 0; e < a.size(); ++e) {
      if (v1) a[e] = std::sqrt(dot(own[e], own[e]));
      for (const double v : own[e]) a[e] += v1 ? 0 : std::log1p(std::exp(v)) / kWidth;
      for (std::size_t j = 0; j < kWidth; ++j)
        logit[e] += weight[e * kWidth + j] * x[static_cast<std::size_t>(t) * kWidth + j];
    }
    std::vector<std::size_t> order{0, 1, 2, 3};
    std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return a[i] > a[j]; });
    p.first.push_back(static_cast<Index>(order[0]));
    const Values shares = softmax(a), q = softmax(logit);
    double sum = 0;
    for (Index i = 0; i < k; ++i)
      sum += v1 ? std::exp(a[order[static_cast<std::size_t>(i)]]) : a[order[static_cast<std::size_t>(i)]];
    Values y(kWidth), m = v1 ? Values(kExperts) : shares;
    std::vector<bool> chosen(kExperts);
    for (Index i = 0; i < k; ++i) {
      const std::size_t e = order[static_cast<std::size_t>(i)];
      const double w = (v1 ? std::exp(a[e]) : a[e]) / sum;
      for (std::size_t j = 0; j < kWidth; ++j) y[j] += w * own[e][j];
      count[e] += 1 / (t_count * static_cast<double>(k));
      chosen[e] = true;
      if (v1) m[e] = w;
      for (Index l = 0; l < k; ++l) {
        const std::size_t f = order[static_cast<std::size_t>(l)];
        if (f != e)
          p.diversity += dot(own[e], own[f]) / std::sqrt(dot(own[e], own[e]) * dot(own[f], own[f])) /
                         static_cast<double>(k * k) / t_count;
      }
    }
    p.y.insert(p.y.end(), y.begin(), y.end());
    for (std::size_t e = 0; e < m.size(); ++e) {
      mass[e] += shares[e] / t_count / (v1 ? static_cast<double>(k) : 1.0);
      if (o.divergence) {
        p.distillation += q[e] * std::log(q[e] / std::max(m[e], 1e-6)) / t_count;
      } else {
        p.distillation += (q[e] - m[e]) * (q[e] - m[e]) *
                          (1 / n + (chosen[e] ? o.theta / static_cast<double>(k) : 0)) / t_count;
      }
    }
  }
  p.load_balance = o.load_balance * n * dot(count, mass);
  p.distillation *= o.distill;
  p.diversity *= o.diversity;
  return p;
}

template <class Layer>
Layer drawn(Layer layer) {
  std::mt19937_64 random(9);
  std::normal_distribution<double> draw;
  test::visit_layer(layer, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string("gate.weight") == p.name && i < p.value.size(); ++i)
      p.value(i / kWidth, i % kWidth) = draw(random);
  });
  return layer;
}

}  // namespace

TEST_CASE("CompeteSMoE: laws of layers", "[compete]") {
  // The target of version 2 is a constant, which differences do not know.
  CompeteOptions without = options(1);
  without.distill = 0;
  test::check_layer(
      "version 2, a competition", [&] { return moe::compete_smoe(bank(), without); },
      [&] {
        CompeteOptions other = without;
        other.router.experts = 5;
        return moe::compete_smoe(bank(5), other);
      });
  test::check_layer("version 2, no competition", [] { return moe::compete_smoe(bank(), options(0)); });
  test::check_layer("version 2, drawn", [] { return moe::compete_smoe(bank(), options(0.5)); },
                    {.gradients = false});
  for (const bool divergence : {false, true}) {
    CompeteOptions v1 = options(1);
    v1.distill = 0.7;
    v1.divergence = divergence;
    test::check_layer("version 1, a competition", [&] { return moe::compete_smoe_v1(bank(), v1); });
  }
}

TEST_CASE("CompeteSMoE: plain loops; the first choice has the largest response", "[compete]") {
  const Values x = normal(kTokens * kWidth, 1), dy = normal(kTokens * kWidth, 2);
  const auto check = [&](const auto& layer, const CompeteOptions& o, bool v1) {
    const Plain want = plain(layer, x, o, v1);
    const Call call(layer, x, dy);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::abs(call.y[i] - want.y[i]) <= 1e-14);
    CHECK(std::abs(call.loss("load_balance") - want.load_balance) <= 1e-15);
    CHECK(std::abs(call.loss("distillation") - want.distillation) <= 1e-15 * (1 + want.distillation));
    if (!v1) CHECK(std::abs(call.loss("diversity") - want.diversity) <= 1e-15);
    const auto& table = call.tape.routes();
    for (Index t = 0; t < kTokens; ++t)
      CHECK(table.expert[table.offsets[t]] == want.first[static_cast<std::size_t>(t)]);
    CHECK(call.tape.probes().width == kWidth);
  };
  for (const Index k : {1, 3}) {
    CompeteOptions o = options(1, k);
    o.theta = 0.4;
    o.distill = 0.5;
    check(drawn(moe::compete_smoe(bank(), o)), o, false);
    check(drawn(moe::compete_smoe_v1(bank(), o)), o, true);
    o.theta = 0;
    o.divergence = true;
    check(drawn(moe::compete_smoe_v1(bank(), o)), o, true);
  }
}

TEST_CASE("CompeteSMoE: without a competition it is a top-k layer, bit for bit", "[compete]") {
  const Values x = normal(kTokens * kWidth, 3), dy = normal(kTokens * kWidth, 4);
  const auto never = drawn(moe::compete_smoe(bank(), options(0)));
  auto off = drawn(moe::compete_smoe(bank(), options(0.5)));
  off.router().set_compete(moe::Compete::never);
  const auto plain_layer = drawn(moe::MoeLayer(moe::top_k_softmax<double>(options(0).router), bank()));
  Values want(x.size()), dx(x.size());
  moe::Workspace workspace;
  auto tape = plain_layer.make_tape();
  auto gradients = plain_layer.make_gradients();
  moe::LayerOutput<double> out(rows_of(want));
  plain_layer.forward_train(rows_of(x), out, tape, workspace, test::serial());
  plain_layer.backward(tape, {rows_of(dy), rows_of(dx), gradients}, workspace, test::serial());
  const auto numbers = [](const auto& layer, auto& of) {
    Values all;
    layer.visit_storage(
        of, [&](const char*, const double*, double* g, Index n) { all.insert(all.end(), g, g + n); });
    return all;
  };
  for (const auto* layer : {&never, &std::as_const(off)}) {
    Call call(*layer, x, dy);
    CHECK(test::same_bits(call.y, want));
    CHECK(test::same_bits(call.dx, dx));
    CHECK(test::same_bits(Values{call.losses.total()}, Values{out.losses.total()}));
    CHECK(test::same_bits(numbers(*layer, call.gradients), numbers(plain_layer, gradients)));
    CHECK_FALSE(call.tape.probes());
  }
  // Nor is there any in inference.
  const auto always = drawn(moe::compete_smoe(bank(), options(1)));
  Values y(x.size());
  moe::LayerOutput<double> to(rows_of(y));
  always.forward(rows_of(x), to, workspace, test::serial());
  CHECK(test::same_bits(y, want));
  CHECK(always.workspace_bytes(kTokens) == never.workspace_bytes(kTokens));
}

TEST_CASE("CompeteSMoE: a router that says what the responses say has no gradient", "[compete]") {
  const Values x = normal(kWidth, 6), dy = normal(kWidth, 7);
  CompeteOptions o = options(1);
  o.distill = 1;
  auto layer = moe::compete_smoe(bank(), o);
  const Call before(layer, x, dy);
  CHECK(before.loss("distillation") > 1e-6);
  // W = a x^T / |x|^2, so that W x = a.
  const double squares = dot(x, x);
  test::visit_layer(layer, [&](const moe::Parameter<double>& p) {
    for (Index e = 0; std::string("gate.weight") == p.name && e < kExperts; ++e) {
      for (Index j = 0; j < kWidth; ++j)
        p.value(e, j) = before.tape.probes().response(0, e) * x[static_cast<std::size_t>(j)] / squares;
    }
  });
  Call call(layer, x, dy);
  CHECK(call.loss("distillation") <= 1e-30);
  layer.visit_parameters(call.gradients, [&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string("gate.weight") == p.name && i < p.value.size(); ++i)
      CHECK(std::abs(p.gradient(i / kWidth, i % kWidth)) <= 1e-15);
  });
}

TEST_CASE("CompeteSMoE: the router's gradient by differences; the target of version 2 is a constant",
          "[compete]") {
  const Values x = normal(kTokens * kWidth, 8), dy = normal(kTokens * kWidth, 9);
  CompeteOptions o = options(1);
  o.distill = 2;
  o.theta = 0.3;
  const auto check = [&](auto layer) {
    Call call(layer, x, dy, 0.5);
    layer.visit_parameters(call.gradients, [&](const moe::Parameter<double>& p) {
      if (std::string("gate.weight") != p.name) return;
      for (Index i = 0; i < p.value.size(); ++i) {
        double& w = p.value(i / kWidth, i % kWidth);
        const double old = w, h = 1e-5;
        w = old + h;
        const double above = Call(layer, x, dy).loss("distillation");
        w = old - h;
        const double below = Call(layer, x, dy).loss("distillation");
        w = old;
        CHECK(std::abs(0.5 * (above - below) / (2 * h) - p.gradient(i / kWidth, i % kWidth)) <= 1e-9);
      }
    });
  };
  check(drawn(moe::compete_smoe(bank(), o)));
  check(drawn(moe::compete_smoe_v1(bank(), o)));

  // Without the other losses the experts' gradients of version 2 are those without a distillation.
  o.load_balance = o.diversity = 0;
  const auto with = drawn(moe::compete_smoe(bank(), o));
  o.distill = 0;
  const auto without = drawn(moe::compete_smoe(bank(), o));
  Call a(with, x, dy), b(without, x, dy);
  Values of_a, of_b;
  const auto experts = [](Values& to) {
    return [&to](const char* name, const double*, double* g, Index n) {
      if (std::string(name).rfind("experts", 0) == 0) to.insert(to.end(), g, g + n);
    };
  };
  with.visit_storage(a.gradients, experts(of_a));
  without.visit_storage(b.gradients, experts(of_b));
  CHECK(test::same_bits(of_a, of_b));
  CHECK_FALSE(of_a.empty());
}

namespace {

struct Calls {
  Index forward = 0, backward = 0, slots = 0;
};

/// A bank that counts what it is asked.
class Counted : public Glu {
 public:
  Counted(Glu experts, Calls* calls) : Glu(std::move(experts)), calls_(calls) {}
  template <moe::Executor X>
  void forward(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, moe::Arena& arena,
               X& executor) const {
    count(batch);
    Glu::forward(batch, sink, arena, executor);
  }
  template <moe::Executor X>
  void forward_train(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, Tape& tape,
                     moe::Arena& arena, X& executor) const {
    count(batch);
    Glu::forward_train(batch, sink, tape, arena, executor);
  }
  template <moe::Executor X>
  void backward(const moe::RowBatch<double>& batch, const Tape& tape, const moe::RowGradients<double>& rows,
                Gradients* gradients, moe::Arena& arena, X& executor) const {
    ++calls_->backward;
    Glu::backward(batch, tape, rows, gradients, arena, executor);
  }

 private:
  void count(const moe::RowBatch<double>& batch) const {
    ++calls_->forward;
    calls_->slots += batch.slots();
  }
  Calls* calls_;
};

}  // namespace

TEST_CASE("CompeteSMoE: a competition runs every expert once, and what was chosen not again", "[compete]") {
  const Values x = normal(kTokens * kWidth, 8), dy = normal(kTokens * kWidth, 9);
  for (const double rate : {0.0, 1.0}) {
    Calls calls;
    const auto layer = drawn(moe::compete_smoe(Counted(bank(), &calls), options(rate)));
    const Call call(layer, x, dy);
    CHECK(calls.forward == 1);
    CHECK(calls.backward == 1);
    CHECK(calls.slots == (rate == 0 ? 2 : kExperts) * kTokens);
    moe::Workspace workspace;
    Values y(x.size());
    moe::LayerOutput<double> out(rows_of(y));
    moe::LayerInput<double> in(rows_of(x));
    in.mode = moe::Mode::training;
    layer.forward(in, out, workspace, test::serial());
    CHECK(calls.forward == 2);
    CHECK(test::same_bits(y, call.y));
  }
}

TEST_CASE("CompeteSMoE: one coin for a layer and call", "[compete]") {
  const Values x = normal(kTokens * kWidth, 8), dy = normal(kTokens * kWidth, 9);
  const auto layer = moe::compete_smoe(bank(), options(0.3));
  int competed = 0;
  for (std::uint64_t c = 0; c < 400; ++c) competed += Call(layer, x, dy, 1, c).tape.probes() ? 1 : 0;
  CHECK(std::abs(competed - 120) <= 4 * 9.2);  // standard deviation sqrt(400 x 0.3 x 0.7)
  Values y(x.size());
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  moe::LayerOutput<double> out(rows_of(y));
  CHECK_THROWS_AS(layer.forward_train(rows_of(x), out, tape, workspace, test::serial()), moe::config_error);
  layer.forward(rows_of(x), out, workspace, test::serial());  // inference draws nothing

  auto scheduled = moe::compete_smoe(bank(), options(0.3));
  scheduled.router().set_compete(moe::Compete::always);
  scheduled.forward_train(rows_of(x), out, tape = scheduled.make_tape(), workspace, test::serial());
  CHECK(tape.probes());
  scheduled.router().set_rate(0.6);
  CHECK(scheduled.router().options().rate == 0.6);
  CHECK(scheduled.router().compete() == moe::Compete::always);
  CHECK_THROWS_AS(scheduled.router().set_rate(1.1), moe::config_error);
}

TEST_CASE("CompeteSMoE: rows that are not finite, and bad arguments", "[compete]") {
  CompeteOptions o = options(1);
  o.router.non_finite = moe::NonFinite::isolate_row;
  const auto layer = drawn(moe::compete_smoe(bank(), o)),
             strict = drawn(moe::compete_smoe(bank(), options(1)));
  Values x = normal(kTokens * kWidth, 30);
  const Values dy = normal(kTokens * kWidth, 31);
  const Call whole(layer, x, dy);
  for (const double bad : {std::nan(""), -std::numeric_limits<double>::infinity()}) {
    x[2 * kWidth + 1] = bad;
    CHECK_THROWS_AS(Call(strict, x, dy), moe::numeric_error);
    Call call(layer, x, dy);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (i / kWidth == 2) {
        CHECK(std::isnan(call.y[i]));
      } else {
        CHECK(call.y[i] == whole.y[i]);
      }
    }
    layer.visit_storage(call.gradients, [](const char*, const double*, double* g, Index n) {
      for (Index i = 0; i < n; ++i) CHECK(std::isfinite(g[i]));
    });
  }

  for (const double rate : {-0.1, 1.5, std::nan("")})
    CHECK_THROWS_AS(moe::compete_smoe(bank(), options(rate)), moe::config_error);
  for (double CompeteOptions::*value : {&CompeteOptions::load_balance, &CompeteOptions::diversity,
                                        &CompeteOptions::distill, &CompeteOptions::theta}) {
    CompeteOptions wrong = options(1);
    wrong.*value = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(moe::compete_smoe(bank(), wrong), moe::config_error);
  }
  CompeteOptions wrong = options(1);
  wrong.divergence = true;
  CHECK_THROWS_AS(moe::compete_smoe(bank(), wrong), moe::config_error);
  wrong.theta = 1;
  CHECK_THROWS_AS(moe::compete_smoe_v1(bank(), wrong), moe::config_error);
  CHECK_THROWS_AS(moe::compete_smoe(bank(3), options(1)), moe::config_error);
  CHECK_THROWS_AS(moe::compete_smoe(bank(), options(1, 5)), moe::config_error);
  CHECK_THROWS_AS(moe::compete_smoe_v1(bank(), options(1, 0)), moe::config_error);
}

TEST_CASE("CompeteSMoE: gradients of a row's experts are kept apart where rows are copied for the cache",
          "[compete]") {
  // Rows of 4 KiB, and 16 of them: what the bank's products read is copied, once for all slots that share a
  // row.
  constexpr Index kLong = 512, kMany = 16;
  CompeteOptions o = options(1);
  o.router.width = kLong;
  o.router.experts = 2;
  o.distill = o.load_balance = o.diversity = 0;
  Glu experts({.experts = 2, .width = kLong, .hidden = 1});
  experts.initialise(3);
  const auto layer = moe::compete_smoe(experts, o);
  const Values x = normal(kMany * kLong, 1), dy = normal(kMany * kLong, 2);
  const auto dx_of = [&](Index first, Index count) {
    const auto size = static_cast<std::size_t>(count * kLong);
    Values y(size), dx(size);
    moe::Workspace workspace;
    auto tape = layer.make_tape();
    const auto rows = [&](const Values& of) {
      return moe::ConstMatrixView<double>(of.data() + first * kLong, count, kLong);
    };
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), count, kLong));
    layer.forward_train(rows(x), out, tape, workspace, test::serial());
    layer.backward(tape, {rows(dy), moe::MatrixView<double>(dx.data(), count, kLong)}, workspace,
                   test::serial());
    return dx;
  };
  const Values all = dx_of(0, kMany);
  for (const Index t : {0, 7, 15})
    CHECK(test::same_bits(dx_of(t, 1), Values(all.begin() + t * kLong, all.begin() + (t + 1) * kLong)));
}
