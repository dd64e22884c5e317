// The whole layer again, as plain loops over Bounded numbers: the oracle of the random configurations. Shares
// no code with the library; parameters come by their published names.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "support/bounded.hpp"
#include "support/naive_router.hpp"

namespace test {

struct NaiveLayer {
  /// `shares`: places by factor and tau, as MoE++ has them, in the order of first choices.
  enum class Capacity { none, first_choices, best_scores, shares };
  NaiveRouter router;
  Capacity capacity = Capacity::none;
  int places = 0;                          // of each expert in a segment
  double factor = 1.1, tau = 0.75;         // of the places by shares
  double row_scale = 1;                    // of the rows that experts read
  int ffn = 1, constants = 0, copies = 0;  // expert ids in this order, then zero experts
  int shared = 0;
  Act act = Act::silu;
  Format format = Format::dense;  // of the routed experts
  bool glu = true, shared_gate = false, output_bias = false, latent = false;
  std::map<std::string, std::vector<Row>> parameter;  // [out][in]

  Row linear(const std::string& name, const Row& x) const {
    Row y;
    for (const Row& w : parameter.at(name + ".weight")) y.push_back(dot(w, x));
    const auto bias = parameter.find(name + ".bias");
    for (std::size_t i = 0; i < y.size() && bias != parameter.end(); ++i) y[i] = y[i] + bias->second[i][0];
    return y;
  }

  /// Rows are rounded in front of both products; weights are what the bank unpacks.
  Row feed_forward(const std::string& name, const Row& row, Format rounding) const {
    const Row x = rounded_row(row, rounding);
    Row h = linear(name + (glu ? "gate_proj" : "fc1"), x);
    for (Bounded& b : h) b = activate(act, b);
    if (glu) {
      const Row up = linear(name + "up_proj", x);
      for (std::size_t i = 0; i < h.size(); ++i) h[i] = h[i] * up[i];
    }
    return linear(name + (glu ? "down_proj" : "fc2"), rounded_row(h, rounding));
  }

  Row expert(int e, const Row& x) const {
    const std::string name = "experts." + std::to_string(e) + ".";
    if (e < ffn) return feed_forward(name, x, format);
    if (e < ffn + constants) {
      const Row mix = softmax(linear(name + "constant_gate", x));
      Row y;
      for (std::size_t i = 0; i < x.size(); ++i)
        y.push_back(mix[0] * x[i] + mix[1] * parameter.at(name + "constant")[i][0]);
      return y;
    }
    return e < ffn + constants + copies ? x : Row(x.size());
  }

  /// Pairs in the order in which they take places; ties of `best_scores` go to the lower token.
  bool sooner(const NaivePair& a, const NaivePair& b) {
    if (capacity != Capacity::best_scores) return std::tie(a.rank, a.token) < std::tie(b.rank, b.token);
    return a.expert == b.expert && before(a.weight, a.token, b.weight, b.token, router.ambiguous);
  }

  /// Of expert e, among the pairs of a segment.
  int places_of(int e, std::size_t pairs) const {
    if (capacity != Capacity::shares) return places;
    const double others = router.experts - ffn;
    const double share = (e < ffn ? tau : 1) * static_cast<double>(pairs) / (tau * ffn + others);
    return std::max(1, static_cast<int>(std::ceil(factor * share)));
  }

  std::vector<NaivePair> keep(const NaiveCall& call, const std::vector<NaivePair>& pairs) {
    if (capacity == Capacity::none) return pairs;
    std::vector<NaivePair> kept;
    int first = 0;
    for (const int last : call.segment_end) {
      std::vector<NaivePair> turn;
      for (const NaivePair& p : pairs) {
        if (p.token >= first && p.token < last) turn.push_back(p);
      }
      for (std::size_t i = 0; i < turn.size(); ++i) {
        for (std::size_t j = i + 1; j < turn.size(); ++j) {
          if (sooner(turn[j], turn[i])) std::swap(turn[i], turn[j]);
        }
      }
      std::map<int, int> taken;
      for (const NaivePair& p : turn) {
        if (taken[p.expert]++ < places_of(p.expert, turn.size())) kept.push_back(p);
      }
      first = last;
    }
    return kept;
  }

  std::vector<Row> forward(const NaiveCall& call) {
    std::vector<Row> logits, y;
    for (const Row& x : call.x) {
      logits.push_back(router.routing == NaiveRouter::Routing::hash ? Row() : linear("gate", x));
    }
    const std::vector<NaivePair> pairs = keep(call, router.route(call, logits));
    for (int t = 0; t < static_cast<int>(call.x.size()); ++t) {
      Row x = latent ? linear("latent_in", call.x[t]) : call.x[t];
      for (std::size_t j = 0; j < x.size() && row_scale != 1; ++j) x[j] = Bounded(row_scale) * x[j];
      std::vector<Row> terms(x.size()), weights(x.size());
      for (const NaivePair& p : pairs) {
        if (p.token != t) continue;
        const Row z = expert(p.expert, x);
        for (std::size_t j = 0; j < x.size(); ++j) {
          terms[j].push_back(z[j]);
          weights[j].push_back(p.weight);
        }
      }
      Row inner;
      for (std::size_t j = 0; j < x.size(); ++j) inner.push_back(dot(terms[j], weights[j]));
      y.push_back(call.valid[t] ? outer(call.x[t], inner) : Row(call.x[t].size()));
    }
    return y;
  }

  /// What follows the routed sum: frame, then shared experts.
  Row outer(const Row& x, const Row& inner) const {
    Row y = latent ? linear("latent_out", inner) : inner;
    for (std::size_t j = 0; j < y.size() && output_bias; ++j) y[j] = y[j] + parameter.at("output.bias")[j][0];
    const Bounded gate = shared_gate ? sigmoid(linear("shared_expert_gate", x)[0]) : Bounded(1);
    for (int e = 0; e < shared; ++e) {
      const Row z = feed_forward("shared_experts." + std::to_string(e) + ".", x, Format::dense);
      for (std::size_t j = 0; j < y.size(); ++j) y[j] = y[j] + gate * z[j];
    }
    return y;
  }
};

}  // namespace test
