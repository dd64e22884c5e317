#include "moe/layer/soft/home_soft.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/mixing.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;
using Layer = moe::HomeSoftLayer<Bank, Bank>;
constexpr Index kWidth = 4, kGroup = 3, kExperts = 2, kSlots = 2, kSecond = 3;

Layer make(Index slots = kSlots, moe::NonFinite policy = moe::NonFinite::throw_) {
  Layer layer = moe::home_soft({.width = kWidth,
                                .group = kGroup,
                                .experts = kExperts,
                                .slots = slots,
                                .second_experts = kSecond,
                                .non_finite = policy},
                               Bank({.experts = kExperts, .width = kWidth, .hidden = 5}),
                               Bank({.experts = kSecond, .width = kWidth, .hidden = 3}));
  unsigned seed = 1;
  layer.visit_parameters([&](const auto& p) {
    const auto values = test::normal_rows(p.value.rows, p.value.cols, seed++);
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        p.value(o, i) = values[static_cast<std::size_t>(o * p.value.cols + i)];
      }
    }
  });
  return layer;
}

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;

double inner(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
Vector normed(const Vector& x, const Vector& gain) {
  const double rms = std::sqrt(inner(x, x) / static_cast<double>(x.size()) + 1e-16);
  Vector y = x;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[i] / rms * gain[i];
  return y;
}
Vector mean_of(const Matrix& rows, std::size_t first, std::size_t last) {
  Vector mean(kWidth);
  for (std::size_t r = first; r < last; ++r) {
    for (std::size_t j = 0; j < kWidth; ++j) mean[j] += rows[r][j] / static_cast<double>(last - first);
  }
  return mean;
}
Vector softmax(Vector p) {
  double sum = 0;
  for (double& v : p) sum += v = std::exp(v);
  for (double& v : p) v /= sum;
  return p;
}

struct Plain {
  std::map<std::string, Matrix> w;
  explicit Plain(const Layer& layer) {
    layer.visit_parameters([&](const auto& p) {
      for (Index o = 0; o < p.value.rows; ++o) {
        w[p.name].emplace_back();
        for (Index i = 0; i < p.value.cols; ++i) w[p.name].back().push_back(p.value(o, i));
      }
    });
  }

  Vector expert(const std::string& prefix, std::size_t e, const Vector& x) {
    const std::string name = prefix + "experts." + std::to_string(e);
    Vector hidden, y;
    for (std::size_t f = 0; f < w[name + ".gate_proj.weight"].size(); ++f) {
      const double gate = inner(w[name + ".gate_proj.weight"][f], x);
      hidden.push_back(gate / (1 + std::exp(-gate)) * inner(w[name + ".up_proj.weight"][f], x));
    }
    for (const auto& row : w[name + ".down_proj.weight"]) y.push_back(inner(row, hidden));
    return y;
  }
  /// Direction number `part` of a mean.
  Vector direction(const std::string& prefix, const Vector& mean, std::size_t part) {
    Vector raw;
    for (std::size_t j = 0; j < kWidth; ++j) {
      raw.push_back(inner(w[prefix + "slots.weight"][part * kWidth + j], mean));
    }
    return normed(raw, w[prefix + "slots.norm"][0]);
  }

  /// A segment, from the authors' formulas.
  Matrix segment(const Matrix& x) {
    Matrix z, weights;  // [slots of all groups], [rows] their weights of the group's slots
    constexpr std::size_t kEach = kExperts * kSlots;
    for (std::size_t first = 0; first < x.size(); first += kGroup) {
      const std::size_t last = std::min(first + kGroup, x.size());
      const Vector mean = mean_of(x, first, last);
      Matrix slots(kEach, Vector(kWidth));
      for (std::size_t t = first; t < last; ++t) {
        Vector logit;
        for (std::size_t s = 0; s < kEach; ++s) {
          logit.push_back(inner(normed(x[t], w["norm"][0]), direction("", mean, s)));
        }
        weights.push_back(softmax(logit));
        for (std::size_t s = 0; s < kEach; ++s) {
          for (std::size_t j = 0; j < kWidth; ++j) slots[s][j] += weights[t][s] * x[t][j];
        }
      }
      const double score = inner(w["group_gate.weight"][0], mean) + w["group_gate.bias"][0][0];
      const double gate = std::clamp(1 / (1 + std::exp(-score)), 0.01, 1.0);
      for (std::size_t s = 0; s < kEach; ++s) {
        z.push_back(expert("", s / kSlots, slots[s]));
        for (double& v : z.back()) v *= gate * w["expert_scale"][0][s / kSlots];
      }
    }
    const Matrix back = second(z);
    Matrix y;
    for (std::size_t t = 0; t < x.size(); ++t) {
      y.emplace_back(kWidth);
      for (std::size_t s = 0; s < kEach; ++s) {
        for (std::size_t j = 0; j < kWidth; ++j) y[t][j] += weights[t][s] * back[t / kGroup * kEach + s][j];
      }
    }
    return y;
  }
  Matrix second(const Matrix& z) {
    Matrix x, y;
    for (const Vector& row : z) x.push_back(normed(row, w["between.norm"][0]));
    Matrix directions;
    std::vector<std::size_t> expert_of;
    for (std::size_t e = 0; e < kSecond; ++e) {
      for (std::size_t first = 0; first < x.size(); first += kSecond) {
        directions.push_back(direction("second.", mean_of(x, first, std::min(first + kSecond, x.size())), e));
        expert_of.push_back(e);
      }
    }
    Matrix logit;
    for (const Vector& row : x) {
      logit.emplace_back();
      for (const Vector& direction : directions) logit.back().push_back(inner(row, direction));
    }
    y.assign(x.size(), Vector(kWidth));
    for (std::size_t s = 0; s < directions.size(); ++s) {
      Vector column, slot(kWidth);
      for (const Vector& row : logit) column.push_back(row[s]);
      column = softmax(column);
      for (std::size_t r = 0; r < x.size(); ++r) {
        for (std::size_t j = 0; j < kWidth; ++j) slot[j] += column[r] * x[r][j];
      }
      const Vector result = expert("second.", expert_of[s], slot);
      for (std::size_t r = 0; r < x.size(); ++r) {
        const double c = softmax(logit[r])[s];
        for (std::size_t j = 0; j < kWidth; ++j) y[r][j] += c * result[j];
      }
    }
    return y;
  }
};

}  // namespace

TEST_CASE("HoME's soft experts are the published code's, segment by segment", "[layer][smoke]") {
  const Layer layer = make();
  const Vector x = test::normal_rows(12, kWidth, 70);
  Plain plain(layer);
  Vector expected;
  const std::vector<Index> ends{0, 5, 5, 12};
  for (std::size_t s = 0; s + 1 < ends.size(); ++s) {
    Matrix rows;
    for (Index t = ends[s]; t < ends[s + 1]; ++t) {
      rows.emplace_back(x.begin() + t * kWidth, x.begin() + (t + 1) * kWidth);
    }
    for (const Vector& row : plain.segment(rows)) expected.insert(expected.end(), row.begin(), row.end());
  }
  test::check_close(test::forward_rows(layer, x, ends), expected);
}

TEST_CASE("HoME's soft experts keep the laws of layers", "[layer]") {
  test::check_layer(
      "HomeSoft", [] { return make(); }, [] { return make(1); });
}

TEST_CASE("one group, one expert of one slot: all rows get one result", "[layer]") {
  const auto layer = moe::home_soft({.width = kWidth, .group = 8, .experts = 1, .second_experts = 2},
                                    Bank({.experts = 1, .width = kWidth, .hidden = 3}),
                                    Bank({.experts = 2, .width = kWidth, .hidden = 3}));
  const Vector x = test::normal_rows(5, kWidth, 8), y = test::forward_rows(layer, x, {0, 5});
  for (std::size_t i = kWidth; i < y.size(); ++i) CHECK(y[i] == y[i - kWidth]);
}

TEST_CASE("rows that take no part are in no group, mean or slot", "[layer]") {
  const Layer layer = make(kSlots, moe::NonFinite::isolate_row);
  Vector x = test::normal_rows(6, kWidth, 9), others;
  for (const Index t : {0, 1, 3, 4, 5}) {  // of the first group two rows are left
    others.insert(others.end(), x.begin() + t * kWidth, x.begin() + (t + 1) * kWidth);
  }
  x[2 * kWidth] = std::numeric_limits<double>::quiet_NaN();
  const bool padding = GENERATE(true, false);
  bool valid[] = {true, true, !padding, true, true, true};
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 6, kWidth));
  in.valid = {valid, 6};
  in.segments = moe::Segments::uniform(6);
  Vector y(x.size());
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 6, kWidth));
  moe::Workspace workspace;
  layer.forward(in, out, workspace);
  CHECK((padding ? y[2 * kWidth] == 0 : std::isnan(y[2 * kWidth])));
  CHECK(std::isfinite(y[0]));
  x[2 * kWidth] = 5;  // what it holds does not matter
  valid[2] = false;
  Vector again(x.size());
  moe::LayerOutput<double> to(moe::MatrixView<double>(again.data(), 6, kWidth));
  layer.forward(in, to, workspace);
  for (std::size_t t = 0; t < 6; ++t) {
    if (t != 2) CHECK(again[t * kWidth] == y[t * kWidth]);
  }
}

TEST_CASE("parts of HoME's soft experts have names, the second level's apart", "[layer]") {
  Layer layer = make();
  std::string names;
  layer.visit_names(
      [&](const char* role, const char* name) { names += std::string(role) + ":" + name + " "; });
  CHECK(names ==
        "router:mean_slots experts:glu weights:double second router:mean_slots second experts:glu "
        "weights:double ");
  std::vector<std::string> parameters;
  layer.visit_parameters([&](const auto& p) { parameters.emplace_back(p.name); });
  std::sort(parameters.begin(), parameters.end());
  CHECK(std::adjacent_find(parameters.begin(), parameters.end()) == parameters.end());
  CHECK(std::count(parameters.begin(), parameters.end(), "second.slots.weight") == 1);
  layer.visit_packed([](const char*, const std::byte*, Index) { FAIL("dense experts are not packed"); });
}

TEST_CASE("the state of both levels is saved, the second's under its own names", "[layer]") {
  using Normed = moe::NormedExperts<Bank>;
  const auto normed = [](double mean) {
    const auto bank = [](Index experts) {
      return Normed(Bank({.experts = experts, .width = kWidth, .hidden = 3}));
    };
    auto layer =
        moe::home_soft({.width = kWidth, .group = 2, .experts = 2, .second_experts = 2}, bank(2), bank(2));
    layer.visit_state([&](const char*, double* values, Index n) {
      for (Index i = 0; i < n; ++i) values[i] = mean++;
    });
    return layer;
  };
  const auto state_of = [](const auto& layer) {
    Vector all;
    layer.visit_state(
        [&](const char*, const double* values, Index n) { all.insert(all.end(), values, values + n); });
    return all;
  };
  const auto first = normed(1);
  auto second = normed(100);
  moe::ArchiveWriter writer;
  writer.add_layer("layer", first);
  moe::Archive::from_bytes(writer.bytes()).load_layer("layer", second);
  CHECK(state_of(second) == state_of(first));
  CHECK(!state_of(first).empty());
}

TEST_CASE("HoME's soft experts refuse banks and parameters that do not fit", "[layer]") {
  CHECK(test::message_of<moe::config_error>([] {
          moe::home_soft({.width = kWidth, .group = 2, .experts = 2, .second_experts = 2},
                         Bank({.experts = 2, .width = kWidth, .hidden = 3}),
                         Bank({.experts = 3, .width = kWidth, .hidden = 3}));
        }) == "moe: layer: expected as many experts in the bank as the router has, 2, got 3");
  CHECK_THROWS_AS(moe::home_soft({.width = kWidth, .group = 0, .experts = 2, .second_experts = 2},
                                 Bank({.experts = 2, .width = kWidth, .hidden = 3}),
                                 Bank({.experts = 2, .width = kWidth, .hidden = 3})),
                  moe::config_error);
  Layer layer = make();
  layer.visit_parameters([](const auto& p) {
    if (std::string(p.name) == "group_gate.bias") p.value(0, 0) = std::nan("");
  });
  CHECK(test::message_of<moe::numeric_error>([&] {
          test::forward_rows(layer, test::normal_rows(3, kWidth, 1), {0, 3});
        }) == "moe: gates: expected finite parameters, got others");
  STATIC_REQUIRE(Layer::coupling(false) == moe::Coupling::per_segment);
}
