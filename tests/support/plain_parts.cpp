#include "support/plain_parts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/exact_assignment.hpp"

namespace test {

namespace {

using moe::DrawStream;
using Batch = PlainBatch;
using Step = PlainStep;
constexpr std::size_t kOutputs = PlainBatch::kOutputs;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Step scorer(Vector (*row)(const Batch&, std::size_t)) {
  return [row](Batch& b) {
    for (std::size_t t = 0; t < b.rows(); ++t) b.logit.push_back(row(b, t));
  };
}
Step map(Vector (*of)(const Vector&)) {
  return [of](Batch& b) {
    for (Vector& row : b.logit) row = of(row);
  };
}
/// Scores of single logits; their shares are the probabilities.
Step score(double (*of)(double)) {
  return [of](Batch& b) {
    for (const Vector& logit : b.logit) {
      Vector s, share;
      for (const double l : logit) s.push_back(of(l));
      for (const double v : s) share.push_back(total(s) > 0 ? v / total(s) : 0);
      b.score.push_back(s);
      b.probability.push_back(share);
    }
  };
}
/// The active rows' ids, of those that are open.
Step selection(std::vector<ExpertId> (*row)(const Batch&, std::size_t)) {
  return [row](Batch& b) {
    for (const std::size_t t : b.active_rows()) {
      for (const ExpertId e : row(b, t)) {
        if (b.choice[t][static_cast<std::size_t>(e)] != -kInfinity) b.chosen[t].push_back(e);
      }
    }
  };
}
/// Weights of a row's choices from their scores; all are kept.
Step weighting(Vector (*row)(const Batch&, std::size_t t, const Vector& kept)) {
  return [row](Batch& b) {
    for (std::size_t t = 0; t < b.rows(); ++t) {
      Vector kept;
      for (const ExpertId e : b.chosen[t]) kept.push_back(b.score[t][static_cast<std::size_t>(e)]);
      b.weight.push_back(kept.empty() ? Vector() : row(b, t, kept));
      b.keep[t].assign(kept.size(), true);
    }
  };
}

double sigmoid(double v) {
  return 1 / (1 + std::exp(-v));
}
double softplus(double v) {
  return std::log1p(std::exp(v));
}
Vector over(Vector v, double divisor) {
  for (double& of : v) of /= divisor == 0 ? 1 : divisor;
  return v;
}
double norm(const Vector& v) {
  double sum = 0;
  for (const double of : v) sum += of * of;
  return std::sqrt(sum);
}
void softmax_probability(Batch& b) {
  for (const Vector& logit : b.logit) b.probability.push_back(softmax(logit));
}
/// Kept scores of ids below `first`, divided by their sum; 0 for the others.
Vector leading(const Batch& b, std::size_t t, Vector kept, std::size_t first) {
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (static_cast<std::size_t>(b.chosen[t][i]) >= first) kept[i] = 0;
  }
  return over(kept, total(kept));
}
}  // namespace

const std::map<std::string, PlainStep>& plain_parts() {
  static const std::map<std::string, PlainStep> table = [] {
    std::map<std::string, PlainStep> all{
        {"scorer linear", scorer([](const Batch& b, std::size_t t) {
           Vector x = b.x(t);
           const auto draw = b.draws(DrawStream::jitter);
           for (std::size_t j = 0; b.call.training && j < x.size(); ++j)
             x[j] *=
                 1 + b.options.jitter * (2 * draw.uniform(b.call.key[t], static_cast<std::uint32_t>(j)) - 1);
           return b.affine("gate", x);
         })},
        {"scorer two_layer", scorer([](const Batch& b, std::size_t t) {
           Vector hidden = b.affine("gate.0", b.x(t));
           for (double& v : hidden) v = std::tanh(v);
           return b.affine("gate.2", hidden);
         })},
        {"scorer cosine", scorer([](const Batch& b, std::size_t t) {
           const Vector z = b.affine("cosine_projector", b.x(t));
           const double factor = std::min(std::exp(b.parameter.at("temperature")[0][0]), 100.0);
           Vector logit;
           for (std::size_t e = 0; e < kOutputs; ++e) {
             Vector s;
             for (const Vector& row : b.parameter.at("sim_matrix")) s.push_back(row[e]);
             double product = 0;
             for (std::size_t i = 0; i < s.size(); ++i) product += z[i] * s[i];
             logit.push_back(product / (norm(z) * norm(s)) * factor);
           }
           return logit;
         })},
        {"scorer bi_level", scorer([](const Batch& b, std::size_t t) {
           const Vector group = b.affine("gate.group", b.x(t)), local = b.affine("gate.local", b.x(t));
           Vector logit;
           for (std::size_t e = 0; e < kOutputs; e += 2) {  // two of a group
             for (const double q : softmax({local[e], local[e + 1]}))
               logit.push_back(group[e / 2] + std::log(q));
           }
           return logit;
         })},
        {"scorer mixture", scorer([](const Batch& b, std::size_t t) {
           const Vector logits = b.affine("sub_routers", b.x(t));
           const Vector share = softmax(b.affine("main_router", b.x(t)));
           Vector mixed(kOutputs, 0);
           for (std::size_t i = 0; i < share.size(); ++i) {
             const auto first = logits.begin() + static_cast<Index>(i * kOutputs);
             const Vector p = softmax({first, first + static_cast<Index>(kOutputs)});
             for (std::size_t e = 0; e < kOutputs; ++e) mixed[e] += share[i] * p[e];
           }
           for (double& s : mixed) s = std::log(s);
           return mixed;
         })},
        {"scorer hyper", scorer([](const Batch& b, std::size_t t) {
           // Layer l of the frozen network: weights and, in the last column, biases in +-1 / sqrt(inputs).
           const auto frozen = [](std::uint64_t l, std::size_t inputs, std::size_t o, std::size_t i) {
             const double u =
                 moe::KeyedRandom(0, l, DrawStream::initialise).uniform(o, static_cast<std::uint32_t>(i));
             return (2 * u - 1) / std::sqrt(static_cast<double>(inputs));
           };
           const Vector x = b.x(t), z = b.parameter.at("embedding")[0];
           Vector units, logit;
           for (std::size_t h = 0; h < 6; ++h) {
             double sum = frozen(0, z.size(), h, z.size());
             for (std::size_t j = 0; j < z.size(); ++j) sum += frozen(0, z.size(), h, j) * z[j];
             units.push_back(std::max(sum, 0.0));
           }
           for (std::size_t e = 0; e < kOutputs; ++e) {
             logit.push_back(0);
             for (std::size_t j = 0; j <= x.size(); ++j) {
               const std::size_t o = e * (x.size() + 1) + j;
               double w = frozen(1, 6, o, 6);
               for (std::size_t h = 0; h < 6; ++h) w += frozen(1, 6, o, h) * units[h];
               logit[e] += j < x.size() ? w * x[j] : w;
             }
           }
           return logit;
         })},
        {"scorer attention", scorer([](const Batch& b, std::size_t t) {
           const Vector q = b.affine("query", b.x(t)), k = b.affine("key", b.x(t)),
                        v = b.affine("value", b.x(t));
           Vector logit;
           for (const double of : q) {
             Vector product = k;
             for (double& p : product) p *= of;
             const Vector a = softmax(product);
             logit.push_back(0);
             for (std::size_t j = 0; j < v.size(); ++j) logit.back() += a[j] * v[j];
           }
           return logit;
         })},
        {"scorer block_mean", scorer([](const Batch& b, std::size_t t) {
           const Vector x = b.x(t);
           Vector logit;
           for (std::size_t e = 0; e < kOutputs; ++e) {
             const bool local = b.call.columns.ints.at("device")[t] == static_cast<int>(e / 2);
             logit.push_back((x[2 * e] + x[2 * e + 1]) / 2 + (local ? 0.3 : 0));
           }
           return logit;
         })},
        {"scorer uncertain", scorer([](const Batch& b, std::size_t t) {
           Matrix passes;  // each number over 1 - 0.4, or dropped
           for (std::size_t m = 0; b.call.training && m < 8; ++m) {
             Vector x = b.x(t);
             for (std::size_t j = 0; j < x.size(); ++j) {
               const auto lane = static_cast<std::uint32_t>(m * x.size() + j);
               x[j] = b.draws(DrawStream::jitter).uniform(b.call.key[t], lane) < 0.4 ? 0 : x[j] / 0.6;
             }
             passes.push_back(b.affine("gate", x));
           }
           Vector mean = b.call.training ? column_means(passes) : b.affine("gate", b.x(t));
           for (std::size_t e = 0; e < kOutputs; ++e) {
             double variance = 0;
             for (const Vector& pass : passes) variance += std::pow(pass[e] - mean[e], 2) / 7;
             for (std::size_t j = 0; passes.empty() && j < b.x(t).size(); ++j)
               variance += 0.4 / 0.6 * std::pow(b.parameter.at("gate.weight")[e][j] * b.x(t)[j], 2);
             mean[e] /= std::sqrt(variance + 1e-6);
           }
           return mean;
         })},
        {"scorer centroid", scorer([](const Batch& b, std::size_t t) {
           const Vector x = b.x(t);
           Vector logit;
           for (std::size_t e = 0; e < kOutputs; ++e) {
             Vector c;
             double product = 0;
             for (std::size_t j = 0; j < x.size(); ++j) {
               c.push_back(b.parameter.at("centroids")[e * x.size() + j][0]);
               product += c[j] * x[j];
             }
             logit.push_back(product / norm(x) / norm(c));
           }
           return logit;
         })},
        {"scorer noisy",
         [](Batch& b) {
           const auto draw = b.draws(DrawStream::logit_noise);
           for (std::size_t t = 0; t < b.rows(); ++t) {
             b.clean.push_back(b.affine("gate", b.x(t)));
             b.noise.push_back(b.affine("noise_gate", b.x(t)));
             b.logit.push_back(b.clean[t]);
             for (std::size_t e = 0; e < b.logit[t].size(); ++e) {
               double& s = b.noise[t][e] = softplus(b.noise[t][e]);
               if (b.call.training)
                 b.logit[t][e] += s * draw.normal(b.call.key[t], static_cast<std::uint32_t>(e));
             }
           }
         }},

        {"map soft_cap", map([](const Vector& row) {
           Vector capped = row;
           for (double& h : capped) h = 1.5 * std::tanh(h / 1.5);
           return capped;
         })},
        {"map spread", map([](const Vector& row) {
           const double mean = total(row) / static_cast<double>(row.size());
           Vector from_mean = row;
           for (double& h : from_mean) h -= mean;
           return over(row, norm(from_mean) / std::sqrt(static_cast<double>(row.size() - 1)) / 1.5);
         })},

        {"score softmax",
         [](Batch& b) {
           softmax_probability(b);
           b.score = b.probability;
         }},
        {"score identity",
         [](Batch& b) {
           softmax_probability(b);
           b.score = b.logit;
         }},
        {"score group_softmax",
         [](Batch& b) {
           for (const Vector& logit : b.logit) {
             Vector s;
             for (std::size_t e = 0; e < kOutputs; e += 2) {  // two of a group
               for (const double l : {logit[e], logit[e + 1]})
                 s.push_back(l == -kInfinity ? 0 : 1 / (std::exp(logit[e] - l) + std::exp(logit[e + 1] - l)));
             }
             b.score.push_back(s);
             b.probability.push_back(over(s, total(s)));
           }
         }},
        {"score sigmoid", score(sigmoid)},
        {"score relu", score([](double v) { return std::max(v, 0.0); })},
        {"score sqrt_softplus", score([](double v) { return std::sqrt(softplus(v)); })},
        {"score relu_rms",
         [](Batch& b) {
           for (const Vector& logit : b.logit) {
             Vector s;
             for (const double l : logit) s.push_back(std::max(l, 0.0));
             const double squares = norm(s) * norm(s) / static_cast<double>(s.size());
             b.score.push_back(over(s, std::sqrt(squares + 1e-6)));
             b.probability.push_back(over(b.score.back(), total(b.score.back())));
           }
         }},

        {"selection top_k", selection([](const Batch& b, std::size_t t) {
           return best(b.choice[t], static_cast<Index>(b.options.k));
         })},
        {"selection group_limited", selection([](const Batch& b, std::size_t t) {
           Vector choice = b.choice[t], group;
           for (std::size_t g = 0; g < 4; ++g) {  // of two experts
             const double high = std::max(choice[2 * g], choice[2 * g + 1]);
             const double low = std::min(choice[2 * g], choice[2 * g + 1]);
             group.push_back(b.options.group != "highest" && low != -kInfinity ? high + low : high);
           }
           const auto order = best(group, 4);
           for (std::size_t i = 2; i < 4; ++i) {
             const auto g = static_cast<std::size_t>(order[i]);
             choice[2 * g] = choice[2 * g + 1] = -kInfinity;
           }
           auto ids = best(choice, 3);
           std::erase_if(ids, [&](ExpertId e) { return choice[static_cast<std::size_t>(e)] == -kInfinity; });
           return ids;
         })},
        {"selection positive", selection([](const Batch& b, std::size_t t) {
           auto ids = best(b.choice[t], kOutputs);
           std::erase_if(ids, [&](ExpertId e) { return !(b.choice[t][static_cast<std::size_t>(e)] > 0); });
           return ids;
         })},
        {"selection table", selection([](const Batch& b, std::size_t t) {
           const ExpertId id = b.call.token_id[t];
           return std::vector<ExpertId>{id % 8, (id + 2) % 8, (id + 4) % 8};
         })},
        {"selection top_p", selection([](const Batch& b, std::size_t t) {
           std::vector<ExpertId> ids;
           double sum = 0;
           for (const ExpertId e : best(b.choice[t], kOutputs)) {
             const double with = sum + b.score[t][static_cast<std::size_t>(e)];
             const bool enough = ids.size() >= b.options.least;
             if (enough && (b.options.mass == "exceeds" ? sum > 0.6 : sum >= 0.6)) break;
             if (enough && b.options.mass == "within" && with > 0.6) break;
             ids.push_back(e);
             sum = with;
           }
           return ids;
         })},
        {"selection adaptive_top_two", selection([](const Batch& b, std::size_t t) {
           const auto ids = best(b.choice[t], 2);
           const double gap =
               b.score[t][static_cast<std::size_t>(ids[0])] - b.score[t][static_cast<std::size_t>(ids[1])];
           return gap > 0.1 ? std::vector{ids[0]} : ids;
         })},
        {"selection threshold", selection([](const Batch& b, std::size_t t) {
           std::vector<ExpertId> ids;
           for (const ExpertId e : best(b.choice[t], b.call.training ? Index{kOutputs} : 3)) {
             const bool above = b.choice[t][static_cast<std::size_t>(e)] > 0.15;
             if (!b.call.training || above || ids.size() < 2) ids.push_back(e);
           }
           return ids;
         })},
        {"selection each_group", selection([](const Batch& b, std::size_t t) {
           std::vector<ExpertId> ids;
           for (std::size_t e = 0; e < kOutputs; e += 2)
             ids.push_back(static_cast<ExpertId>(b.choice[t][e + 1] > b.choice[t][e] ? e + 1 : e));
           return ids;
         })},
        {"selection importance_top_k", selection([](const Batch& b, std::size_t t) {
           const double importance = b.call.columns.reals.at("features")[3 * t + 1];
           return best(b.choice[t], importance > 2.0 / 3 ? 3 : importance > 1.0 / 3 ? 2 : 1);
         })},
        {"selection plackett_luce", selection([](const Batch& b, std::size_t t) {
           Vector key = b.logit[t];
           const auto draw = b.draws(DrawStream::choice);
           for (std::size_t e = 0; b.call.training && e < kOutputs; ++e)
             key[e] -= std::log(-std::log(draw.uniform(b.call.key[t], static_cast<std::uint32_t>(e))));
           return best(key, 3);
         })},
        {"selection sparse_mixer", selection([](const Batch& b, std::size_t t) {
           if (!b.call.training) return best(b.logit[t], 3);
           std::vector<ExpertId> ids;
           Vector rest = b.logit[t];
           const auto draw = b.draws(DrawStream::choice);
           for (std::uint32_t lane = 0; ids.size() < 3; lane += kOutputs) {
             const double top = *std::max_element(rest.begin(), rest.end());
             if (top == -kInfinity) break;
             Vector key = rest;
             for (std::size_t e = 0; e < kOutputs; ++e) {
               const double u = draw.uniform(b.call.key[t], lane + static_cast<std::uint32_t>(e));
               const bool far = (top - rest[e]) / std::max(std::abs(rest[e]), top) > 2 * 0.3;
               key[e] = far || rest[e] == -kInfinity ? -kInfinity : rest[e] - std::log(-std::log(u));
             }
             ids.push_back(best(key, 1)[0]);
             rest[static_cast<std::size_t>(ids.back())] = -kInfinity;
           }
           return ids;
         })},
        {"selection column_top_k",
         [](Batch& b) {
           for (std::size_t e = 0; e < kOutputs; ++e) {
             for (const auto& [first, last] : b.segments()) {
               std::vector<std::pair<double, std::size_t>> open;  // best and first row first
               double active = 0;
               for (std::size_t t = first; t < last; ++t) {
                 active += b.active(t) ? 1 : 0;
                 if (b.active(t) && b.choice[t][e] > 0) open.emplace_back(-b.choice[t][e], t);
               }
               std::sort(open.begin(), open.end());
               const double capacity = std::max(1.0, std::floor(active * 2 / kOutputs));
               for (std::size_t i = 0; i < open.size() && static_cast<double>(i) < capacity; ++i)
                 b.chosen[open[i].second].push_back(static_cast<ExpertId>(e));
             }
           }
         }},

        {"selection assignment",
         [](Batch& b) {
           Matrix choice;
           for (const std::size_t t : b.active_rows()) choice.push_back(b.choice[t]);
           auto output = exact_assignment(choice);
           for (std::size_t r = 0; r < choice.size() && !b.call.training; ++r)
             output[r] = static_cast<std::size_t>(best(choice[r], 1)[0]);
           for (std::size_t r = 0; r < choice.size(); ++r)
             b.chosen[b.active_rows()[r]].push_back(static_cast<ExpertId>(output[r]));
         }},

        {"selection sinkhorn_top_k",
         [](Batch& b) {
           const auto rows = b.active_rows();
           Matrix k;  // of those that take part
           Vector v(kOutputs, 1);
           double open = 0;
           for (const std::size_t t : rows) {
             k.emplace_back();
             for (const double l : b.logit[t]) k.back().push_back(std::exp(l / 0.7));
           }
           for (std::size_t e = 0; e < kOutputs; ++e)
             open += std::any_of(k.begin(), k.end(), [&](const Vector& row) { return row[e] > 0; }) ? 1 : 0;
           const auto plan = [&] {
             Matrix p = k;
             for (Vector& row : p) {
               for (std::size_t e = 0; e < kOutputs; ++e) row[e] *= v[e];
               row = over(row, total(row));
             }
             return p;
           };
           for (int i = 0; i < 20; ++i) {
             Vector sum(kOutputs, 0);
             for (const Vector& row : plan()) {
               for (std::size_t e = 0; e < kOutputs; ++e) sum[e] += row[e];
             }
             for (std::size_t e = 0; e < kOutputs; ++e)
               v[e] *= sum[e] > 0 ? static_cast<double>(rows.size()) / open / sum[e] : 1;
           }
           const Matrix p = plan();
           for (std::size_t r = 0; r < rows.size(); ++r) {
             const auto ids = best(b.call.training ? p[r] : b.choice[rows[r]], 2);
             for (const ExpertId e : ids) {
               if (b.logit[rows[r]][static_cast<std::size_t>(e)] != -kInfinity)
                 b.chosen[rows[r]].push_back(e);
             }
           }
         }},

        {"selection capacity_aware_top_k",
         [](Batch& b) {
           for (const auto& [first, last] : b.segments()) {
             double active = 0;
             for (std::size_t t = first; t < last; ++t) active += b.active(t) ? 1 : 0;
             const double places = active == 1 ? 1 : std::min(std::ceil(0.8 * 2 * active / kOutputs), active);
             std::map<std::size_t, std::vector<std::pair<double, ExpertId>>> got;
             for (std::size_t e = 0; e < kOutputs; ++e) {
               std::vector<std::pair<double, std::size_t>> want;
               for (std::size_t t = first; t < last; ++t) {
                 if (!b.active(t) || b.choice[t][e] == -kInfinity) continue;
                 const auto two = best(b.choice[t], 2);
                 const bool own = two[0] == static_cast<ExpertId>(e) || two[1] == static_cast<ExpertId>(e);
                 const bool local = b.call.columns.ints.at("device")[t] == static_cast<int>(e / 2);
                 if (own || (local && active > 1)) want.emplace_back(-b.choice[t][e], t);
               }
               std::sort(want.begin(), want.end());
               for (std::size_t i = 0; i < want.size() && static_cast<double>(i) < places; ++i)
                 got[want[i].second].emplace_back(want[i].first, static_cast<ExpertId>(e));
             }
             for (auto& [t, pairs] : got) {
               std::sort(pairs.begin(), pairs.end());
               for (const auto& pair : pairs) b.chosen[t].push_back(pair.second);
             }
           }
         }},

        {"selection rectified_top_k",
         [](Batch& b) {
           for (const auto& [first, last] : b.segments()) {
             std::vector<std::size_t> rows;
             for (std::size_t t = first; t < last; ++t) {
               if (b.active(t)) rows.push_back(t);
             }
             const auto size = static_cast<double>(rows.size());
             std::vector<std::size_t> free(
                 kOutputs, static_cast<std::size_t>(std::min(std::ceil(0.8 * 2 * size / 8), size)));
             std::map<std::size_t, std::vector<ExpertId>> rank, got;
             for (const std::size_t t : rows) {
               rank[t] = best(b.choice[t], kOutputs);
               std::erase_if(rank[t], [&](ExpertId e) {
                 return b.choice[t][static_cast<std::size_t>(e)] == -kInfinity;
               });
             }
             const auto serve = [&](std::size_t from, std::size_t to) {
               for (std::size_t e = 0; e < kOutputs; ++e) {
                 std::vector<std::pair<double, std::size_t>> want;
                 for (const std::size_t t : rows) {
                   for (std::size_t r = from; r < to && r < rank[t].size(); ++r) {
                     if (static_cast<std::size_t>(rank[t][r]) == e) want.emplace_back(-b.choice[t][e], t);
                   }
                 }
                 std::sort(want.begin(), want.end());
                 for (std::size_t i = 0; i < want.size() && free[e] > 0; ++i, --free[e])
                   got[want[i].second].push_back(static_cast<ExpertId>(e));
               }
             };
             serve(0, 2);
             for (std::size_t r = 2; r < kOutputs; ++r) serve(r, r + 1);
             for (const std::size_t t : rows) {
               const bool second_half = 2 * (t - first) >= last - first;
               for (const ExpertId e : rank[t]) {
                 const bool has = std::find(got[t].begin(), got[t].end(), e) != got[t].end();
                 if (!has && got[t].size() < 2 && (e >= 4) == second_half) got[t].push_back(e);
               }
               for (const ExpertId e : rank[t]) {
                 if (std::find(got[t].begin(), got[t].end(), e) != got[t].end()) b.chosen[t].push_back(e);
               }
             }
           }
         }},

        {"weighting gather", weighting([](const Batch& b, std::size_t, const Vector& kept) {
           const double sum = total(kept);
           double divisor = 1, powers = 0;
           for (const double s : kept) powers += std::pow(std::abs(s), b.options.p);
           if (b.options.normalise == "sum") divisor = sum;
           if (b.options.normalise == "sum_plus_eps") divisor = sum + b.options.eps;
           if (b.options.normalise == "max_with_eps") divisor = std::max(sum, b.options.eps);
           if (b.options.normalise == "p_norm") divisor = std::pow(powers, 1 / b.options.p);
           return over(over(kept, divisor), 1 / b.options.scale);
         })},
        {"weighting softmax",
         weighting([](const Batch&, std::size_t, const Vector& kept) { return softmax(kept); })},
        {"weighting unit",
         weighting([](const Batch&, std::size_t, const Vector& kept) { return Vector(kept.size(), 1); })},
        {"weighting sigmoid", weighting([](const Batch&, std::size_t, const Vector& kept) {
           Vector w;
           for (const double s : kept) w.push_back(sigmoid(s));
           return w;
         })},
        {"weighting leading",
         [](Batch& b) {
           weighting(
               [](const Batch& of, std::size_t t, const Vector& kept) { return leading(of, t, kept, 7); })(b);
           for (std::size_t t = 0; t < b.rows(); ++t) {
             for (std::size_t i = 0; i < b.chosen[t].size(); ++i)
               b.keep[t][i] = !b.options.elide || b.chosen[t][i] < 7;
           }
         }},
        {"weighting sparse_mixer", weighting([](const Batch& b, std::size_t t, const Vector& kept) {
           Vector rest = b.logit[t], w;
           for (std::size_t i = 0; i < kept.size(); ++i) {
             double sum = 0;
             for (const double h : rest) {
               const bool far = (kept[i] - h) / std::max(std::abs(h), kept[i]) > 2 * 0.3;
               if (h != -kInfinity && !far) sum += std::exp(h - kept[i]);
             }
             w.push_back(1 / sum);
             rest[static_cast<std::size_t>(b.chosen[t][i])] = -kInfinity;
           }
           return w;
         })},
        {"weighting grin",
         [](Batch& b) {
           weighting([](const Batch& of, std::size_t t, const Vector& kept) {
             Vector rest = of.logit[t], w;
             for (std::size_t i = 0; i < kept.size(); ++i) {
               const double top = *std::max_element(rest.begin(), rest.end());
               double sum = 0;
               for (const double h : rest) {
                 const bool far = (top - h) / std::max(std::abs(h), top) > 2 * 0.3;
                 if (h != -kInfinity && !far) sum += std::exp(h - top);
               }
               const double u =
                   of.draws(DrawStream::multiplier).uniform(of.call.key[t], static_cast<std::uint32_t>(i));
               const bool third = of.call.training && kept[i] != top && u <= 0.75;
               w.push_back(std::exp(kept[i] - top) / sum / (third ? 3 : 1));
               rest[static_cast<std::size_t>(of.chosen[t][i])] = -kInfinity;
             }
             return w;
           })(b);
         }},
        {"weighting equal", weighting([](const Batch&, std::size_t, const Vector& kept) {
           return Vector(kept.size(), 1 / static_cast<double>(kept.size()));
         })},
        {"weighting random_second",
         [](Batch& b) {
           weighting([](const Batch&, std::size_t, const Vector& kept) { return over(kept, total(kept)); })(
               b);
           for (const std::size_t t : b.active_rows()) {
             const double draw = b.draws(DrawStream::second_expert).uniform(b.call.key[t], 0);
             for (std::size_t i = 1; i < b.weight[t].size(); ++i)
               b.keep[t][i] = !b.call.training || draw < std::min(1.0, 2 * b.weight[t][i]);
           }
         }},
        {"weighting gate",
         [](Batch& b) {
           weighting([](const Batch& of, std::size_t t, const Vector& kept) {
             Vector w;
             for (const double s : kept) w.push_back(of.options.straight ? 1 : 0.6 * s);
             for (std::size_t i = 0; of.options.straight && i < w.size(); ++i)
               w[i] = of.chosen[t][i] == 0 && of.score[t][0] < 0.2 ? 0 : 1;
             return w;
           })(b);
           for (std::size_t t = 0; t < b.rows(); ++t) {
             for (std::size_t i = 0; i < b.chosen[t].size(); ++i) b.keep[t][i] = b.chosen[t][i] < 7;
           }
         }},
        {"weighting moe_plus_plus", weighting([](const Batch& b, std::size_t t, const Vector& kept) {
           if (b.options.weights == "probability") return kept;
           return leading(b, t, kept, b.options.weights == "shares" ? 1000 : b.options.first_zero);
         })},
    };
    const auto losses = plain_balance_parts();
    all.insert(losses.begin(), losses.end());
    return all;
  }();
  return table;
}

}  // namespace test
