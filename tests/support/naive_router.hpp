// Routing again, as plain loops over Bounded numbers: token choice, expert choice, hash. Shares no code with
// the library.
#pragma once

#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "support/bounded.hpp"

namespace test {

struct NaiveCall {
  std::vector<Row> x;
  std::vector<int> segment_end, token_id;
  std::vector<bool> valid;
  std::vector<std::vector<double>> mask;  // [T][N] or empty
};

struct NaivePair {
  int token, expert, rank;
  Bounded weight;
};

struct NaiveRouter {
  enum class Routing { token_choice, expert_choice, hash } routing = Routing::token_choice;
  enum class Score { softmax, sigmoid, relu, identity } score = Score::softmax;
  enum class Select { top_k, groups, positive } select = Select::top_k;
  enum class Weight { gather, kept_softmax } weight = Weight::gather;
  enum class Divide { none, sum, sum_plus_eps, max_with_eps } divide = Divide::none;
  int experts = 1, k = 1, groups = 1, kept_groups = 1;  // ids from `experts` on are null experts
  bool top_two = false;
  double eps = 0, scale = 1, factor = 1;
  std::vector<double> selection_bias;  // [N] or empty
  std::vector<std::vector<int>> hash;  // [H][V]
  bool ambiguous = false;              // a decision hung on less than the rounding errors

  Row scores(const Row& logit) const {
    if (score == Score::softmax) return softmax(logit);
    Row s = logit;
    for (Bounded& b : s) {
      if (score == Score::sigmoid) b = b.v == -INFINITY ? Bounded(0) : sigmoid(b);
      if (score == Score::relu) b = b.v > 0 ? b : Bounded(0, b.v == -INFINITY ? 0 : b.e);
    }
    return s;
  }

  Bounded group_score(const Row& choice, const std::vector<int>& open) {
    if (open.empty()) return -INFINITY;
    const std::vector<int> order = ranked(choice, open, ambiguous);
    return top_two && open.size() > 1 ? choice[order[0]] + choice[order[1]] : choice[order[0]];
  }

  std::vector<int> choose(const Row& logit, const Row& s) {
    const int n = static_cast<int>(s.size()), size = n / groups;
    Row choice = s;
    for (int e = 0; e < n && !selection_bias.empty(); ++e) choice[e] = choice[e] + selection_bias[e];
    std::vector<int> open;
    for (int e = 0; e < n; ++e) {
      if (select == Select::positive && std::abs(logit[e].v) <= logit[e].e) ambiguous = true;
      if (logit[e].v != -INFINITY && (select != Select::positive || logit[e].v > 0)) open.push_back(e);
    }
    if (select == Select::groups) {
      Row of_group;
      std::vector<int> every(groups), kept;
      std::iota(every.begin(), every.end(), 0);
      for (int g = 0; g < groups; ++g) {
        std::vector<int> members;
        for (const int e : open) {
          if (e / size == g) members.push_back(e);
        }
        of_group.push_back(group_score(choice, members));
      }
      every = ranked(of_group, every, ambiguous);
      every.resize(kept_groups);
      for (const int e : open) {
        if (std::count(every.begin(), every.end(), e / size) > 0) kept.push_back(e);
      }
      open = kept;
    }
    open = ranked(choice, open, ambiguous);
    if (select != Select::positive && static_cast<int>(open.size()) > k) open.resize(k);
    return open;
  }

  void weigh(int t, const std::vector<int>& chosen, const Row& s, std::vector<NaivePair>& pairs) const {
    Row kept;
    std::vector<int> ids;
    for (const int e : chosen) {
      if (e >= experts) continue;
      kept.push_back(s[e]);
      ids.push_back(e);
    }
    Bounded by = divide == Divide::none ? Bounded(1) : sum(kept);
    if (divide == Divide::sum_plus_eps) by = by + Bounded(eps);
    if (divide == Divide::max_with_eps && by.v < eps) by = eps;
    if (by.v == 0) by = 1;
    if (weight == Weight::kept_softmax) kept = softmax(kept);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const Bounded w = weight == Weight::kept_softmax ? kept[i] : kept[i] / by * Bounded(scale);
      pairs.push_back({t, ids[i], static_cast<int>(i), w});
    }
  }

  std::vector<NaivePair> route(const NaiveCall& call, const std::vector<Row>& logits) {
    std::vector<NaivePair> pairs;
    std::vector<Row> s(call.x.size());
    for (int t = 0; t < static_cast<int>(call.x.size()); ++t) {
      if (!call.valid[t]) continue;
      for (int h = 0; h < static_cast<int>(hash.size()); ++h)
        pairs.push_back({t, hash[h][call.token_id[t]], h, 1});
      if (routing == Routing::hash) continue;
      Row logit = logits[t];
      for (std::size_t e = 0; e < logit.size() && !call.mask.empty(); ++e) {
        logit[e] = call.mask[t][e] == -INFINITY ? Bounded(-INFINITY) : logit[e] + Bounded(call.mask[t][e]);
      }
      s[t] = scores(logit);
      if (routing == Routing::token_choice) weigh(t, choose(logit, s[t]), s[t], pairs);
    }
    if (routing == Routing::expert_choice) take_tokens(call, s, pairs);
    return pairs;
  }

  void take_tokens(const NaiveCall& call, const std::vector<Row>& s, std::vector<NaivePair>& pairs) {
    int first = 0;
    for (const int last : call.segment_end) {
      int active = 0;
      for (int t = first; t < last; ++t) active += call.valid[t] ? 1 : 0;
      const std::size_t places = std::max(1, static_cast<int>(active * factor / experts));
      for (int e = 0; e < experts; ++e) {
        Row column(call.x.size());
        std::vector<int> open;
        for (int t = first; t < last; ++t) {
          if (!call.valid[t] || s[t][e].v == 0) continue;
          column[t] = s[t][e];
          open.push_back(t);
        }
        open = ranked(column, open, ambiguous);
        for (std::size_t i = 0; i < std::min(places, open.size()); ++i) {
          int rank = 0;  // experts in ascending order
          for (const NaivePair& p : pairs) rank += p.token == open[i] ? 1 : 0;
          pairs.push_back({open[i], e, rank, column[open[i]]});
        }
      }
      first = last;
    }
  }
};

}  // namespace test
