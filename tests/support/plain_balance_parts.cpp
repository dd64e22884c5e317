// The balancing parts of plain_parts.hpp.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "support/plain_parts.hpp"

namespace test {

namespace {

using Batch = PlainBatch;
using Step = PlainStep;
constexpr std::size_t kOutputs = PlainBatch::kOutputs;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Of training calls.
Step loss(const std::string& name, double coefficient, double (*of)(const Batch&)) {
  return [=](Batch& b) {
    if (b.call.training) b.losses[name] = b.active_rows().empty() ? 0 : coefficient * of(b);
  };
}

/// sum over groups of f_j P_j, P_j the group's sum of the mean probabilities.
double over_groups(const Batch& b, const Vector& f) {
  const Vector p = b.mean_probability(0, b.rows());
  double sum = 0;
  for (std::size_t e = 0; e < p.size(); ++e) sum += f[e / (p.size() / f.size())] * p[e];
  return sum;
}

/// What DeepSeek-V3's loss counts of row t: its choices, or as many of its highest scores.
std::vector<ExpertId> counted(const Batch& b, std::size_t t) {
  if (b.options.of_chosen) return b.chosen[t];
  Vector open = b.score[t];
  for (std::size_t e = 0; e < open.size(); ++e) {
    if (b.logit[t][e] == -kInfinity) open[e] = -kInfinity;
  }
  return best(open, static_cast<Index>(b.chosen[t].size()));
}

}  // namespace

std::map<std::string, PlainStep> plain_balance_parts() {
  return {
      {"balance selection_bias",
       [](Batch& b) {
         for (Vector& row : b.choice) {
           for (std::size_t e = 0; e < row.size(); ++e)
             row[e] += b.parameter.at("e_score_correction_bias")[e][0];
         }
       }},
      {"balance load_balance",
       loss("load_balance", 0.01,
            [](const Batch& b) {
              Vector count = b.counts_with_outside(b.options.most_likely  ? 0
                                                   : b.options.first_only ? 1
                                                                          : 1000);
              for (const std::size_t t : b.active_rows()) {
                if (b.options.most_likely) count[static_cast<std::size_t>(best(b.probability[t], 1)[0])] += 1;
              }
              const Vector p = b.mean_probability(0, b.rows());
              const double all = total(count);
              const std::size_t n = count.size(), first = n - b.options.nulls;
              const double of_nulls = total({count.begin() + static_cast<Index>(first), count.end()});
              double sum = 0;
              for (std::size_t e = 0; e < n; ++e) {
                const double c = e < first ? count[e] : of_nulls / static_cast<double>(b.options.nulls);
                sum += static_cast<double>(n) * (c / all) * p[e];
              }
              return sum;
            })},
      {"balance sequence_balance", loss("sequence_balance", 1e-4,
                                        [](const Batch& b) {
                                          Vector of_segment;
                                          for (const auto& [first, last] : b.segments()) {
                                            Vector count(kOutputs, 0);
                                            for (std::size_t t = first; t < last; ++t) {
                                              for (const ExpertId e : counted(b, t))
                                                count[static_cast<std::size_t>(e)] += 1;
                                            }
                                            if (total(count) == 0) continue;
                                            const Vector p = b.mean_probability(first, last);
                                            double sum = 0;
                                            for (std::size_t e = 0; e < p.size(); ++e)
                                              sum += 8 * count[e] / total(count) * p[e];
                                            of_segment.push_back(sum);
                                          }
                                          return total(of_segment) / static_cast<double>(of_segment.size());
                                        })},
      {"balance device_balance",
       loss("device_balance", 0.4,
            [](const Batch& b) {
              const Vector count = b.counts_with_outside();
              Vector f;  // the mean of f_e = N * share over the two experts of a group
              for (std::size_t j = 0; j < 4; ++j)
                f.push_back(8 * (count[2 * j] + count[2 * j + 1]) / total(count) / 2);
              return over_groups(b, f);
            })},
      {"balance communication_balance",
       loss("communication_balance", 0.4,
            [](const Batch& b) {
              Vector f(4, 0);  // G / (M T) for every token with a choice in the group
              for (const std::size_t t : b.active_rows()) {
                std::set<int> groups;
                for (const ExpertId e : b.chosen[t]) groups.insert(e / 2);
                for (const int j : groups)
                  f[static_cast<std::size_t>(j)] += 4 / (2 * static_cast<double>(b.active_rows().size()));
              }
              return over_groups(b, f);
            })},
      {"balance importance", loss("importance", 0.1,
                                  [](const Batch& b) {
                                    Vector sum(kOutputs, 0);
                                    for (const std::size_t t : b.active_rows()) {
                                      for (std::size_t i = 0; i < b.chosen[t].size(); ++i)
                                        sum[static_cast<std::size_t>(b.chosen[t][i])] += b.weight[t][i];
                                    }
                                    return squared_variation(sum);
                                  })},
      {"balance share_importance", loss("share_importance", 0.005,
                                        [](const Batch& b) {
                                          Vector sum(kOutputs, 0);
                                          for (const std::size_t t : b.active_rows()) {
                                            const Vector p =
                                                softmax(b.clean.empty() ? b.logit[t] : b.clean[t]);
                                            for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += p[e];
                                          }
                                          return squared_variation(sum);
                                        })},
      {"balance load", loss("load", 0.1,
                            [](const Batch& b) {
                              Vector load(kOutputs, 0);
                              for (const std::size_t t : b.active_rows()) {
                                for (std::size_t e = 0; e < load.size(); ++e) {
                                  if (b.logit[t][e] == -kInfinity) continue;
                                  Vector others = b.logit[t];
                                  others.erase(others.begin() + static_cast<Index>(e));
                                  std::sort(others.rbegin(), others.rend());
                                  const double margin =
                                      (b.clean[t][e] - others[b.options.k - 1]) / b.noise[t][e];
                                  load[e] += std::erfc(-margin / std::sqrt(2.0)) / 2;
                                }
                              }
                              return squared_variation(load);
                            })},
      {"balance z_loss", loss("z_loss", 1e-3,
                              [](const Batch& b) {
                                double sum = 0;
                                for (const std::size_t t : b.active_rows()) {
                                  double exps = 0;
                                  for (const double l : b.clean.empty() ? b.logit[t] : b.clean[t])
                                    exps += std::exp(l);
                                  sum += std::log(exps) * std::log(exps);
                                }
                                return sum / static_cast<double>(b.active_rows().size());
                              })},
      {"balance entropy", loss("entropy", 0.4,
                               [](const Batch& b) {
                                 double sum = 0;
                                 for (const std::size_t t : b.active_rows()) {
                                   double shannon = 0, squares = 0, open = 0;
                                   for (std::size_t e = 0; e < kOutputs; ++e) {
                                     const double p = b.probability[t][e];
                                     if (p > 0) shannon -= p * std::log(p);
                                     squares += p * p;
                                     open += b.logit[t][e] == -kInfinity ? 0 : 1;
                                   }
                                   const double entropy = b.options.order == 1 ? shannon : 1 - squares;
                                   const double largest =
                                       b.options.order == 1 ? std::log(open) : 1 - 1 / open;
                                   sum += b.options.fraction ? (open > 1 ? entropy / largest : 0) : entropy;
                                 }
                                 return sum / static_cast<double>(b.active_rows().size());
                               })},
      {"balance local_balance", loss("local_balance", 0.4,
                                     [](const Batch& b) {
                                       const Vector count = b.counts_with_outside();
                                       const Vector p = b.mean_probability(0, b.rows());
                                       double f[2] = {0, 0}, q[2] = {0, 0};
                                       for (std::size_t e = 0; e < kOutputs; ++e) {
                                         f[e % 2] += count[e] / total(count);
                                         q[e % 2] += p[e];
                                       }
                                       return 2 * (f[0] * q[0] + f[1] * q[1]);
                                     })},
      {"balance group_alignment", loss("group_alignment", 0.4,
                                       [](const Batch& b) {
                                         double sum = 0;
                                         for (const std::size_t t : b.active_rows()) {
                                           const Vector& p = b.probability[t];
                                           const double last =
                                               p[static_cast<std::size_t>(b.chosen[t].back())];
                                           for (std::size_t e = 0; e < kOutputs; ++e) {
                                             if (static_cast<ExpertId>(e) / 2 != b.chosen[t][0] / 2)
                                               sum += std::max(p[e] - last, 0.0);
                                           }
                                         }
                                         return sum / static_cast<double>(b.active_rows().size());
                                       })},
      {"balance adaptive_l1", loss("adaptive_l1", 1,
                                   [](const Batch& b) {
                                     const Vector count = b.counts();
                                     const auto tokens = static_cast<double>(b.active_rows().size());
                                     double sum = 0;  // k = 1
                                     for (const std::size_t t : b.active_rows()) {
                                       for (std::size_t e = 0; e < count.size(); ++e)
                                         sum += 8 / tokens * count[e] * b.score[t][e] / tokens;
                                     }
                                     return b.parameter.at("adaptive_l1.coefficient")[0][0] * sum;
                                   })},
      {"balance activation_locality",
       loss("activation_locality", 0.4,
            [](const Batch& b) {
              Vector terms;
              for (const auto& [first, last] : b.segments()) {
                std::vector<std::size_t> rows;
                for (std::size_t t = first; t < last; ++t) {
                  if (b.active(t)) rows.push_back(t);
                }
                for (std::size_t i = 1; i < rows.size(); ++i) {
                  for (std::size_t e = 0; e < kOutputs; ++e) {
                    const double z = 3 * b.logit[rows[i - 1]][e], now = 3 * b.logit[rows[i]][e];
                    if (z == -kInfinity || now == -kInfinity) continue;
                    const double target = 1 / (1 + std::exp(-now)), p = 1 / (1 + std::exp(-z));
                    terms.push_back(-target * std::log(p) - (1 - target) * std::log(1 - p));
                  }
                }
              }
              return total(terms) / static_cast<double>(terms.size());
            })},
      {"balance chunk_sparsity", loss("chunk_sparsity", 0.4,
                                      [](const Batch& b) {
                                        Vector touched;  // by chunks of two rows and experts
                                        for (const auto& [first, last] : b.segments()) {
                                          std::vector<std::size_t> rows;
                                          for (std::size_t t = first; t < last; ++t) {
                                            if (b.active(t)) rows.push_back(t);
                                          }
                                          for (std::size_t i = 0; i < rows.size(); i += 2) {
                                            for (std::size_t e = 0; e < kOutputs; ++e) {
                                              double none = 1;
                                              for (std::size_t j = i; j < i + 2 && j < rows.size(); ++j) {
                                                const Vector& s = b.score[rows[j]];
                                                none *= 1 - s[e] / (total(s) + 1e-5) + 1e-5;
                                              }
                                              touched.push_back(1 - none);
                                            }
                                          }
                                        }
                                        return total(touched) / static_cast<double>(touched.size());
                                      })},
      {"balance sparsity_l1", loss("sparsity_l1", 0.1,
                                   [](const Batch& b) {
                                     double sum = 0;
                                     for (const std::size_t t : b.active_rows()) {
                                       double squares = 0;
                                       for (const double p : b.probability[t]) squares += p * p;
                                       sum += total(b.probability[t]) / std::sqrt(squares);
                                     }
                                     return sum / static_cast<double>(b.active_rows().size());
                                   })},
      {"balance mean_importance", loss("mean_importance", 0.1,
                                       [](const Batch& b) {
                                         double sum = 0;
                                         for (const double p : b.mean_probability(0, b.rows()))
                                           sum += 8 * p * p;
                                         return sum;
                                       })},
      {"balance dirichlet_prior", loss("dirichlet_prior", 0.01,
                                       [](const Batch& b) {
                                         double sum = 0;  // alpha 1, so that each is Beta(1, 7)
                                         for (std::size_t e = 0; e < kOutputs; ++e) {
                                           Vector p;
                                           for (const std::size_t t : b.active_rows()) {
                                             if (b.logit[t][e] != -kInfinity)
                                               p.push_back(b.probability[t][e]);
                                           }
                                           std::sort(p.begin(), p.end());
                                           const auto n = static_cast<double>(p.size());
                                           for (std::size_t i = 0; i < p.size(); ++i) {
                                             const double miss = 1 - std::pow(1 - p[i], 7) -
                                                                 static_cast<double>(i + 1) / (n + 1);
                                             sum += miss * miss / n;
                                           }
                                         }
                                         return sum;
                                       })},
      {"balance locality",
       loss("locality", 0.4,
            [](const Batch& b) {
              double local = 0;
              for (const std::size_t t : b.active_rows()) {
                const auto first = 2 * static_cast<std::size_t>(b.call.columns.ints.at("device")[t]);
                local += b.probability[t][first] + b.probability[t][first + 1];
              }
              local /= static_cast<double>(b.active_rows().size());
              return local * std::log(local / 0.6) + (1 - local) * std::log((1 - local) / 0.4);
            })},
      {"balance cluster_variance", loss("cluster_variance", 0.4,
                                        [](const Batch& b) {
                                          double sum = 0;  // four clusters of two
                                          for (const std::size_t t : b.active_rows()) {
                                            const Vector& p = b.probability[t];
                                            for (std::size_t c = 0; c < 4; ++c) {
                                              const double mean = (p[2 * c] + p[2 * c + 1]) / 2,
                                                           off = p[2 * c] - mean, all = total(p) / 8;
                                              sum += 64 * (off * off - 0.5 * (mean - all) * (mean - all)) / 4;
                                            }
                                          }
                                          return sum / static_cast<double>(b.active_rows().size());
                                        })},
      {"balance overload", loss("overload", 0.3,
                                [](const Batch& b) {
                                  const Vector count = b.counts();
                                  const double mean = total(count) / 8;
                                  double sum = 0;
                                  for (const std::size_t t : b.active_rows()) {
                                    for (const ExpertId id : b.chosen[t]) {
                                      const auto e = static_cast<std::size_t>(id);
                                      sum += (count[e] - mean) / mean * b.score[t][e];
                                    }
                                  }
                                  return sum / static_cast<double>(b.active_rows().size());
                                })},
      {"balance pool_balance", loss("pool_balance", 0.4,
                                    [](const Batch& b) {
                                      const Vector p = b.mean_probability(0, b.rows());
                                      double sum = 0;  // of two layers
                                      for (std::size_t e = 0; e < kOutputs; ++e)
                                        sum += 4 * b.parameter.at("pool_balance.share")[e][0] * p[e];
                                      return sum;
                                    })},
      {"balance ratio", loss("ratio", 0.4,
                             [](const Batch& b) {
                               double used = 0;
                               for (const std::size_t t : b.active_rows()) {
                                 for (std::size_t i = 0; b.options.above && i < b.chosen[t].size(); ++i)
                                   used += b.chosen[t][i] == 2 && b.weight[t][i] > 0 ? 1 : 0;
                               }
                               used /= static_cast<double>(b.active_rows().size());
                               if (b.options.above) return std::max(0.0, used - 0.3);
                               return std::pow(b.mean_probability(0, b.rows())[2] - 0.3, 2);
                             })},
      {"balance target", loss("target", 1,
                              [](const Batch& b) {
                                double sum = 0;
                                for (const std::size_t t : b.active_rows()) {
                                  for (std::size_t e = 0; e < kOutputs; ++e) {
                                    if (b.logit[t][e] == -kInfinity) continue;
                                    const double m = b.call.columns.reals.at("target")[t * kOutputs + e],
                                                 p = 1 / (1 + std::exp(-b.logit[t][e]));
                                    sum -= (m * std::log(p) + (1 - m) * std::log(1 - p)) / 8;
                                  }
                                }
                                return sum / static_cast<double>(b.active_rows().size());
                              })},
  };
}

}  // namespace test
