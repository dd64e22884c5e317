// A transport plan between rows and outputs: every row hands out 1, every output gets the same, and what is
// handed out follows the scores as far as that allows. Cuturi 1306.0895; in logarithms.
#pragma once

#include <algorithm>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/log_softmax.hpp"

MOE_NAMESPACE_BEGIN

/// The plan P >= 0 [R, N] that maximises <P, z> - <P, ln P>, with rows that sum to 1 and columns that sum to
/// R / M, M the outputs that are open (z is not -inf) to some row. P is the softmax of the rows of z + g, and
/// an iteration adds ln(R / M) - ln(column sum) to g, which is 0 at first: rows are always exact. In double,
/// columns added up over fixed stretches of rows in ascending order: the same bits on any number of threads.
class Sinkhorn {
 public:
  static void measure(Arena& arena, Index rows, Index outputs) { Sinkhorn(arena, rows, outputs); }

  /// Memory for calls of up to so many rows and outputs.
  Sinkhorn(Arena& arena, Index rows, Index outputs)
      : scratch_(arena.take<double>(checked_product("plan", ceil_div(rows, kRows), 3, outputs))),
        log_(arena.take<double>(rows)),
        sum_(arena.take<double>(outputs)),
        log_sum_(arena.take<double>(outputs)),
        slope_(arena.take<double>(outputs)),
        open_(arena.take<bool>(outputs)) {}

  /// Iterates until no column sum is further than tolerance * R / M from R / M, `most` times at most; returns
  /// how often it did. g of iteration i is written to g + i * stride [N], the last one behind it: stride 0
  /// keeps one.
  template <Executor X>
  Index run(const double* z, Index rows, Index outputs, double tolerance, Index most, double* g, Index stride,
            X& executor) const {
    std::fill_n(g, outputs, 0.0);
    const double share = find_share(z, rows, outputs);
    for (Index i = 0; i < most; ++i) {
      add_columns(z, rows, outputs, g, executor);
      double off = 0;
      for (Index e = 0; e < outputs; ++e) {
        const double by = sum_[e] / share - 1;
        if (open_[e]) off = (std::max)(off, by < 0 ? -by : by);
      }
      if (off <= tolerance) return i;
      double* const next = g + stride;
      for (Index e = 0; e < outputs; ++e) {
        next[e] = open_[e] ? g[e] + (math::log_positive(share) - log_sum_[e]) : 0.0;
      }
      g = next;
    }
    return most;
  }

  /// p = softmax of z + g: a row of the plan.
  static void plan_row(const double* z, const double* g, double* p, Index outputs) noexcept {
    for (Index e = 0; e < outputs; ++e) p[e] = z[e] + g[e];
    softmax_row(p, p, outputs);
  }

  /// d [R, N] comes in as the gradient of the plan after `iterations` and goes out as that of z, through all
  /// of them; g as run() wrote it with stride N.
  template <Executor X>
  void backward(const double* z, Index rows, Index outputs, const double* g, Index iterations, double* d,
                X& executor) const {
    find_share(z, rows, outputs);
    g += iterations * outputs;
    add_up(z, rows, outputs, g, executor, [=](Index t, const double* p, double* u) noexcept {
      std::fill_n(u, outputs, 0.0);
      softmax_backward_row(p, d + t * outputs, u, outputs);
      std::copy_n(u, outputs, d + t * outputs);
      return u;
    });
    std::copy_n(sum_, outputs, slope_);  // what g is worth
    for (Index i = iterations; i-- > 0;) {
      g -= outputs;
      add_columns(z, rows, outputs, g, executor);
      // ln(column sum e) by z_tf + g_f: q_te ([e is f] - p_tf), with q_te = p_te / sum_e.
      add_up(z, rows, outputs, g, executor, [=, this](Index t, const double* p, double* u) noexcept {
        double inner = 0;
        for (Index e = 0; e < outputs; ++e) {
          const double log_q = z[t * outputs + e] + g[e] - log_[t] - log_sum_[e];
          u[e] = open_[e] ? slope_[e] * math::exp_nonpositive(log_q) : 0.0;
          inner += u[e];
        }
        for (Index e = 0; e < outputs; ++e) {
          u[e] = p[e] * inner - u[e];
          d[t * outputs + e] += u[e];
        }
        return u;
      });
      add_row(sum_, slope_, outputs);
    }
  }

 private:
  static constexpr Index kRows = 32;  // a worker takes at once

  /// R / M; fills open_.
  double find_share(const double* z, Index rows, Index outputs) const noexcept {
    Index open = 0;
    for (Index e = 0; e < outputs; ++e) {
      open_[e] = false;
      for (Index t = 0; t < rows && !open_[e]; ++t) open_[e] = !is_neg_inf(z[t * outputs + e]);
      open += open_[e] ? 1 : 0;
    }
    return open == 0 ? 1.0 : static_cast<double>(rows) / static_cast<double>(open);
  }

  /// sum_ [N] = the rows `of(t, p, u)` of the plan's rows p, added up; u is scratch. Fills log_ as well.
  template <Executor X, class Of>
  void add_up(const double* z, Index rows, Index outputs, const double* g, X& executor, Of of) const {
    const Index stretches = ceil_div(rows, kRows);
    executor.parallel_for(stretches, [&](Index stretch, Index) noexcept {
      double* const p = scratch_ + 3 * stretch * outputs;
      double* const u = p + outputs;
      double* const part = u + outputs;
      std::fill_n(part, outputs, 0.0);
      for (Index t = stretch * kRows; t < rows && t < (stretch + 1) * kRows; ++t) {
        for (Index e = 0; e < outputs; ++e) p[e] = z[t * outputs + e] + g[e];
        const Index best = std::max_element(p, p + outputs) - p;
        const double top = p[best];
        softmax_row(p, p, outputs);
        log_[t] = top - math::log_positive(p[best]);
        add_row(of(t, p, u), part, outputs);
      }
    });
    std::fill_n(sum_, outputs, 0.0);
    for (Index i = 0; i < stretches; ++i) add_row(scratch_ + (3 * i + 2) * outputs, sum_, outputs);
  }

  /// sum_ = the plan's column sums, log_sum_ = their logarithms where a column is open.
  template <Executor X>
  void add_columns(const double* z, Index rows, Index outputs, const double* g, X& executor) const {
    add_up(z, rows, outputs, g, executor, [](Index, const double* p, double*) noexcept { return p; });
    for (Index e = 0; e < outputs; ++e) {
      if (!open_[e]) continue;
      log_sum_[e] = sum_[e] >= kTiny ? math::log_positive(sum_[e]) : log_column(z, rows, outputs, g[e], e);
    }
  }
  /// The logarithm of a column sum whose terms are too small for numbers.
  double log_column(const double* z, Index rows, Index outputs, double g, Index e) const noexcept {
    const auto log_of = [&](Index t) { return z[t * outputs + e] + g - log_[t]; };
    return impl::log_sum_exp(rows, log_of);
  }

  static constexpr double kTiny = 1e-280;  // sums below it have lost terms

  double* scratch_;  // [stretches, 3 N]
  double* log_;      // [R] ln of the rows' denominators
  double* sum_;      // [N]
  double* log_sum_;  // [N]
  double* slope_;    // [N]
  bool* open_;       // [N]
};

MOE_NAMESPACE_END
