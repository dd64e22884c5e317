// Runs a bank of experts by itself, on workspaces of exactly the measured size, full of NaN, at an odd
// address: batches, laws that hold for every bank, gradients against central differences.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "moe/core/executor.hpp"
#include "moe/core/workspace.hpp"
#include "moe/executor/pool.hpp"
#include "moe/expert/concept.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"
#include "support/visits.hpp"

namespace test {

using moe::Index;

/// Rows by expert, what arrives for each, and its weight.
template <class Real>
struct BankBatch {
  Index width = 0;
  std::vector<Index> offsets;
  std::vector<std::int32_t> token;
  std::vector<Real> x, dy;  // [P, D]
  std::vector<Real> weight;

  Index slots() const { return offsets.back(); }
  Index experts() const { return static_cast<Index>(offsets.size()) - 1; }
  std::vector<const Real*> rows(const std::vector<Real>& of) const {
    std::vector<const Real*> pointers;
    for (Index s = 0; s < slots(); ++s) pointers.push_back(of.data() + s * width);
    return pointers;
  }
  /// The batch of row s only.
  BankBatch alone(Index s) const {
    BankBatch one{width, {}, {token[static_cast<std::size_t>(s)]},
                  {},    {}, {weight[static_cast<std::size_t>(s)]}};
    for (const Index o : offsets) one.offsets.push_back(o > s ? 1 : 0);
    one.x.assign(x.begin() + s * width, x.begin() + (s + 1) * width);
    one.dy.assign(dy.begin() + s * width, dy.begin() + (s + 1) * width);
    return one;
  }
  /// The batch without the rows where frozen[s].
  BankBatch without(const bool* frozen) const {
    BankBatch rest{width, {0}, {}, {}, {}, {}};
    for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
      for (Index s = offsets[e]; s < offsets[e + 1]; ++s) {
        if (frozen[s]) continue;
        rest.token.push_back(static_cast<std::int32_t>(rest.weight.size()));
        rest.weight.push_back(weight[static_cast<std::size_t>(s)]);
        rest.x.insert(rest.x.end(), x.begin() + s * width, x.begin() + (s + 1) * width);
        rest.dy.insert(rest.dy.end(), dy.begin() + s * width, dy.begin() + (s + 1) * width);
      }
      rest.offsets.push_back(static_cast<Index>(rest.weight.size()));
    }
    return rest;
  }
};

template <class Real>
void fill_random(std::vector<Real>& values, std::size_t n, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  values.resize(n);
  for (Real& v : values) v = static_cast<Real>(uniform(random));
}

/// `counts`: rows of each expert.
template <class Real>
BankBatch<Real> random_batch(Index width, const std::vector<Index>& counts, unsigned seed) {
  std::mt19937_64 random(seed);
  BankBatch<Real> batch{width, {0}, {}, {}, {}, {}};
  for (const Index n : counts) batch.offsets.push_back(batch.offsets.back() + n);
  const auto slots = static_cast<std::size_t>(batch.slots());
  for (std::size_t s = 0; s < slots; ++s) batch.token.push_back(static_cast<std::int32_t>(s));
  fill_random(batch.x, slots * static_cast<std::size_t>(width), random);
  fill_random(batch.dy, slots * static_cast<std::size_t>(width), random);
  fill_random(batch.weight, slots, random);
  return batch;
}

/// A block of exactly `bytes`, every byte 0xFF (which makes NaNs), not aligned.
class ExactArena {
 public:
  explicit ExactArena(Index bytes)
      : block_(static_cast<std::size_t>(bytes + 1), std::byte{0xFF}), arena_(block_.data() + 1, bytes) {}
  moe::Arena& get() { return arena_; }

 private:
  std::vector<std::byte> block_;
  moe::Arena arena_;
};

template <class Bank, class F>
Index measured_bytes(const Bank& bank, F&& measure) {
  moe::Arena arena;
  measure(bank, arena);
  return arena.bytes();
}

template <class Real>
std::vector<Real> collect_rows(const std::vector<const Real*>& result, Index width) {
  std::vector<Real> all;
  for (const Real* row : result) {
    for (Index j = 0; j < width; ++j) all.push_back(row == nullptr ? Real{0} : row[j]);
  }
  return all;
}

/// Storage for one row per slot, with a gap behind each that must stay as it is.
template <class Real>
struct SlotRows {
  static constexpr Index kGap = 3;
  static constexpr Real kUntouched = 12345;
  Index width;
  std::vector<Real> data;
  std::vector<const Real*> result;

  SlotRows(Index slots, Index columns)
      : width(columns), data(static_cast<std::size_t>(slots * (columns + kGap)), kUntouched) {
    for (Index s = 0; s < slots; ++s) result.push_back(data.data() + s * (width + kGap));
  }
  moe::RowSink<Real> sink() { return {data.data(), width + kGap, result.data()}; }
  void check_gaps() const {
    Index touched = 0;
    for (std::size_t i = 0; i < data.size(); ++i) {
      const bool gap = static_cast<Index>(i) % (width + kGap) >= width;
      touched += gap && data[i] != kUntouched ? 1 : 0;
    }
    CHECK(touched == 0);
  }
};

/// z [P, D]; with a tape: forward_train.
template <class Bank>
std::vector<typename Bank::Real> run_forward(const Bank& bank, const BankBatch<typename Bank::Real>& batch,
                                             typename Bank::Tape* tape, AnyExecutor executor) {
  using Real = typename Bank::Real;
  ExactArena arena(measured_bytes(
      bank, [&](const Bank& b, moe::Arena& a) { b.measure(a, batch.slots(), executor.concurrency()); }));
  const std::vector<const Real*> row = batch.rows(batch.x);
  SlotRows<Real> z(batch.slots(), batch.width);
  const moe::RowBatch<Real> in{row.data(), batch.token.data(), batch.offsets.data(), batch.experts()};
  if (tape != nullptr) {
    moe::impl::forward_train_of(bank, in, z.sink(), *tape, arena.get(), executor);
  } else {
    bank.forward(in, z.sink(), arena.get(), executor);
  }
  z.check_gaps();
  return collect_rows(z.result, batch.width);
}

template <class Bank>
std::vector<typename Bank::Real> run_forward(const Bank& bank, const BankBatch<typename Bank::Real>& batch) {
  return run_forward(bank, batch, nullptr, serial());
}

template <class Real>
struct BankBackward {
  std::vector<Real> dweight;  // [P]
  std::vector<Real> dx;       // [P, D], empty unless asked for
};

template <class Bank>
BankBackward<typename Bank::Real> run_backward(const Bank& bank, const BankBatch<typename Bank::Real>& batch,
                                               const typename Bank::Tape& tape,
                                               typename Bank::Gradients* gradients, bool wants_dx,
                                               AnyExecutor executor, const bool* frozen = nullptr) {
  using Real = typename Bank::Real;
  ExactArena arena(measured_bytes(bank, [&](const Bank& b, moe::Arena& a) {
    b.measure_backward(a, batch.slots(), executor.concurrency());
  }));
  const std::vector<const Real*> row = batch.rows(batch.x), dy = batch.rows(batch.dy);
  SlotRows<Real> dx(batch.slots(), batch.width);
  BankBackward<Real> out{std::vector<Real>(batch.weight.size(), std::numeric_limits<Real>::quiet_NaN()), {}};
  const moe::RowBatch<Real> in{row.data(), batch.token.data(), batch.offsets.data(), batch.experts()};
  bank.backward(in, tape,
                {dy.data(), batch.weight.data(), out.dweight.data(),
                 wants_dx ? dx.sink() : moe::RowSink<Real>{}, frozen},
                gradients, arena.get(), executor);
  dx.check_gaps();
  if (wants_dx) out.dx = collect_rows(dx.result, batch.width);
  return out;
}

/// All flat ranges of the gradients, one behind the other.
template <class Bank>
std::vector<typename Bank::Real> flat_gradients(Bank& bank, typename Bank::Gradients& gradients) {
  using Real = typename Bank::Real;
  std::vector<Real> all;
  const StorageVisit<Real> append = [&](const char*, Real*, Real* g, Index n) {
    all.insert(all.end(), g, g + n);
  };
  bank.visit_storage(&gradients, append);
  return all;
}

/// Every element of every parameter uniform in [-1, 1], whatever its name.
template <class Bank>
void randomise_bank(Bank& bank, unsigned seed) {
  using Real = typename Bank::Real;
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const ParameterVisit<Real> draw = [&](const moe::Parameter<Real>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = static_cast<Real>(uniform(random));
    }
  };
  bank.visit_parameters(nullptr, draw);
}

/// Frozen slots: dx and d weight are what they were, gradients those of a batch without them, by any number
/// of threads, and dx not asked for.
template <class Bank>
void check_frozen_slots(Bank& bank, const BankBatch<typename Bank::Real>& batch) {
  using Real = typename Bank::Real;
  static_assert(moe::impl::kFreezesPairs<Bank>);
  const AnyExecutor serial = test::serial();
  moe::PoolExecutor pool(3);
  typename Bank::Tape tape, rest_tape;
  run_forward(bank, batch, &tape, serial);
  typename Bank::Gradients all = bank.make_gradients();
  const BankBackward<Real> plain = run_backward(bank, batch, tape, &all, true, serial);
  moe::Buffer<bool> frozen(batch.slots());
  for (Index share : {0, 1, 2, 3}) {  // nobody, every second, all but every third, all
    INFO("frozen slots, share " << share);
    for (Index s = 0; s < batch.slots(); ++s)
      frozen[s] = share == 3 || (share == 1 && s % 2 == 0) || (share == 2 && s % 3 != 0);
    const BankBatch<Real> rest = batch.without(frozen.data());
    run_forward(bank, rest, &rest_tape, serial);
    typename Bank::Gradients want = bank.make_gradients(), got = bank.make_gradients(),
                             threads = bank.make_gradients();
    run_backward(bank, rest, rest_tape, &want, true, serial);
    const BankBackward<Real> back = run_backward(bank, batch, tape, &got, true, serial, frozen.data());
    run_backward(bank, batch, tape, &threads, false, pool, frozen.data());
    CHECK(same_bits(back.dweight, plain.dweight));
    CHECK(same_bits(back.dx, plain.dx));
    CHECK(same_bits(flat_gradients(bank, want), flat_gradients(bank, got)));
    CHECK(same_bits(flat_gradients(bank, want), flat_gradients(bank, threads)));
  }
}

/// forward == forward_train; serial == 2 and 3 threads, forward and backward; a row alone == in its batch;
/// frozen parts and slots do not change the others; padding keeps gradient 0: all bit for bit.
template <class Bank>
void check_bank_laws(Bank& bank, const BankBatch<typename Bank::Real>& batch) {
  using Real = typename Bank::Real;
  const AnyExecutor serial = test::serial();
  typename Bank::Tape tape;
  const std::vector<Real> z = run_forward(bank, batch, nullptr, serial);
  CHECK(same_bits(z, run_forward(bank, batch, &tape, serial)));
  typename Bank::Gradients gradients = bank.make_gradients();
  const BankBackward<Real> back = run_backward(bank, batch, tape, &gradients, true, serial);
  const std::vector<Real> flat = flat_gradients(bank, gradients);

  for (const Index threads : {2, 3}) {
    moe::PoolExecutor pool(threads);
    typename Bank::Tape other;
    typename Bank::Gradients again = bank.make_gradients();
    CHECK(same_bits(z, run_forward(bank, batch, nullptr, pool)));
    CHECK(same_bits(z, run_forward(bank, batch, &other, pool)));
    const BankBackward<Real> parallel = run_backward(bank, batch, other, &again, true, pool);
    CHECK(same_bits(back.dweight, parallel.dweight));
    CHECK(same_bits(back.dx, parallel.dx));
    CHECK(same_bits(flat, flat_gradients(bank, again)));
  }

  const BankBackward<Real> frozen = run_backward(bank, batch, tape, nullptr, true, serial);
  CHECK(same_bits(back.dweight, frozen.dweight));
  CHECK(same_bits(back.dx, frozen.dx));
  typename Bank::Gradients without_dx = bank.make_gradients();
  CHECK(same_bits(back.dweight, run_backward(bank, batch, tape, &without_dx, false, serial).dweight));
  CHECK(same_bits(flat, flat_gradients(bank, without_dx)));
  CHECK(same_bits(back.dweight, run_backward(bank, batch, tape, nullptr, false, serial).dweight));

  const auto row_of = [&](const std::vector<Real>& rows, Index s) {
    return std::vector<Real>(rows.begin() + s * batch.width, rows.begin() + (s + 1) * batch.width);
  };
  for (Index s = 0; s < batch.slots(); ++s) {
    const BankBatch<Real> one = batch.alone(s);
    CHECK(same_bits(row_of(z, s), run_forward(bank, one, &tape, serial)));
    const BankBackward<Real> own = run_backward(bank, one, tape, nullptr, true, serial);
    CHECK(same_bits(row_of(back.dx, s), own.dx));
    CHECK(same_bits({back.dweight[static_cast<std::size_t>(s)]}, own.dweight));
  }

  if constexpr (moe::impl::kFreezesPairs<Bank>) check_frozen_slots(bank, batch);

  std::size_t shown = 0, stored = 0;
  const ParameterVisit<Real> count = [&](const moe::Parameter<Real>& p) {
    for (Index o = 0; o < p.gradient.rows; ++o) {
      for (Index i = 0; i < p.gradient.cols; ++i) shown += p.gradient(o, i) != 0;
    }
  };
  bank.visit_parameters(&gradients, count);
  for (const Real g : flat) stored += g != 0;
  CHECK(shown == stored);
}

/// sum over slots of weight * <dy, z>: what backward differentiates.
template <class Bank>
double objective(const Bank& bank, const BankBatch<double>& batch) {
  const std::vector<double> z = run_forward(bank, batch);
  double sum = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    sum += batch.weight[i / static_cast<std::size_t>(batch.width)] * batch.dy[i] * z[i];
  }
  return sum;
}

/// |analytic - central difference| at two steps: the truncation error of the extrapolated difference is below
/// the difference of the two, that of rounding below `noise` / step.
template <class F>
bool agrees_with_difference(double& at, double analytic, double noise, const F& f) {
  const double value = at;
  const auto slope = [&](double step) {
    at = value + step;
    const double above = f();
    at = value - step;
    const double below = f();
    at = value;
    return (above - below) / (2 * step);
  };
  constexpr double kStep = 0x1p-10;
  const double wide = slope(kStep), narrow = slope(kStep / 2);
  const double error = std::abs(analytic - (4 * narrow - wide) / 3);
  return error <= std::abs(wide - narrow) + 2 * noise / kStep;
}

/// Every parameter kind, x and weight against central differences; of the elements of a parameter one in
/// `every`.
template <class Bank>
void check_bank_gradients(Bank& bank, BankBatch<double> batch, std::size_t every) {
  const AnyExecutor serial = test::serial();
  typename Bank::Tape tape;
  run_forward(bank, batch, &tape, serial);
  typename Bank::Gradients gradients = bank.make_gradients();
  const BankBackward<double> back = run_backward(bank, batch, tape, &gradients, true, serial);
  const auto f = [&] { return objective(bank, batch); };
  // All factors are at most about 1, hence the objective's terms too; each carries a few hundred roundings.
  const double noise = 0x1p-53 * 512 * static_cast<double>(batch.slots() * batch.width);

  struct Named {
    std::string name;
    moe::ParameterView<double> value, gradient;
  };
  std::vector<Named> all;
  const ParameterVisit<double> list = [&](const moe::Parameter<double>& p) {
    all.push_back({p.name, p.value, p.gradient});
  };
  bank.visit_parameters(&gradients, list);
  for (const Named& p : all) {
    INFO(p.name);
    Index wrong = 0;
    for (Index i = 0; i < p.value.size(); i += static_cast<Index>(every)) {
      const Index row = i / p.value.cols, col = i % p.value.cols;
      wrong += agrees_with_difference(p.value(row, col), p.gradient(row, col), noise, f) ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
  Index wrong_dx = 0, wrong_dweight = 0;
  for (std::size_t i = 0; i < batch.x.size(); i += every) {
    wrong_dx += agrees_with_difference(batch.x[i], back.dx[i], noise, f) ? 0 : 1;
  }
  for (std::size_t s = 0; s < batch.weight.size(); ++s) {
    wrong_dweight += agrees_with_difference(batch.weight[s], back.dweight[s], noise, f) ? 0 : 1;
  }
  CHECK(wrong_dx == 0);
  CHECK(wrong_dweight == 0);
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace test
