// Banks of every storage format: rounding, forward within the format's step, backward, and the laws of banks.
#include <algorithm>

#include "expert/naive_two_layer.hpp"
#include "moe/expert/glu.hpp"
#include "moe/expert/mlp.hpp"
#include "moe/kernel/activation.hpp"

using moe::Index;
using test::Bounded;
using test::Row;

namespace {

template <class Storage>
using Gated = moe::Glu<moe::Silu, Storage>;
template <class Storage>
using Plain = moe::Mlp<moe::Relu, Storage>;

/// The matrices of an expert, row-major.
struct Matrices {
  Index width, hidden;
  std::vector<float> part[2], second;

  Matrices(Index d, Index f)
      : width(d),
        hidden(f),
        part{std::vector<float>(static_cast<std::size_t>(d * f)),
             std::vector<float>(static_cast<std::size_t>(d * f))},
        second(static_cast<std::size_t>(d * f)) {}
  template <class T>
  moe::MatrixView<T> first_view(std::size_t p) {
    return {part[p].data(), hidden, width};
  }
  template <class T>
  moe::MatrixView<T> second_view() {
    return {second.data(), width, hidden};
  }
  friend bool operator==(const Matrices&, const Matrices&) = default;
};

template <class S>
void load(Gated<S>& bank, Index e, Matrices& m) {
  bank.load(e, m.first_view<const float>(0), m.first_view<const float>(1), m.second_view<const float>());
}
template <class S>
void load(Plain<S>& bank, Index e, Matrices& m) {
  bank.load(e, m.first_view<const float>(0), m.second_view<const float>());
}
template <class S>
Matrices unpack(const Gated<S>& bank, Index e) {
  Matrices m(bank.width(), bank.hidden());
  bank.unpack(e, m.first_view<float>(0), m.first_view<float>(1), m.second_view<float>());
  return m;
}
template <class S>
Matrices unpack(const Plain<S>& bank, Index e) {
  Matrices m(bank.width(), bank.hidden());
  bank.unpack(e, m.first_view<float>(0), m.second_view<float>());
  return m;
}

/// Random weights and biases, rounded to the storage.
template <class Bank>
Bank random_bank(Index experts, Index width, Index hidden, bool bias, unsigned seed) {
  Bank bank({experts, width, hidden, bias});
  test::randomise(bank, seed);  // biases
  std::mt19937_64 random(seed);
  for (Index e = 0; e < experts; ++e) {
    Matrices m(width, hidden);
    for (auto* v : {&m.part[0], &m.part[1], &m.second}) test::fill_random(*v, v->size(), random);
    load(bank, e, m);
  }
  return bank;
}

template <class Bank>
test::NamedParameters parameters_with_weights(Bank& bank) {
  test::NamedParameters all = test::parameters_of(bank);
  constexpr bool kGated = requires {
    bank.load(0, {}, {}, {});
  };
  const auto add = [&](const std::string& name, const std::vector<float>& values, Index rows, Index cols) {
    std::vector<Row>& to = all[name];
    for (Index o = 0; o < rows; ++o) {
      to.emplace_back();
      for (Index i = 0; i < cols; ++i) {
        to.back().emplace_back(static_cast<double>(values[static_cast<std::size_t>(o * cols + i)]));
      }
    }
  };
  for (Index e = 0; e < bank.experts(); ++e) {
    const std::string prefix = "experts." + std::to_string(e) + ".";
    const Matrices m = unpack(bank, e);
    add(prefix + (kGated ? "gate_proj" : "fc1") + ".weight", m.part[0], m.hidden, m.width);
    if (kGated) add(prefix + "up_proj.weight", m.part[1], m.hidden, m.width);
    add(prefix + (kGated ? "down_proj" : "fc2") + ".weight", m.second, m.width, m.hidden);
  }
  return all;
}

/// Rows as they are rounded before a product: by half a step more wrong than they were. bf16 has 8 bits of
/// precision; 8-bit codes of a group of 32 have steps of largest / 127.
template <class Storage>
Row rounded_row(Row row) {
  for (std::size_t g = 0; g < row.size(); g += 32) {
    const std::size_t end = std::min(row.size(), g + 32);
    double largest = 0;
    for (std::size_t i = g; i < end; ++i) largest = std::max(largest, std::abs(row[i].v) + row[i].e);
    for (std::size_t i = g; i < end; ++i) {
      const double size =
          std::is_same_v<Storage, moe::BFloat16> ? 0x1p-8 * (std::abs(row[i].v) + row[i].e) : largest / 127;
      row[i].e += size / 2 * (1 + 0x1p-20) + 0x1p-120;
    }
  }
  return row;
}

template <class Storage>
void forward_is_within_the_formats_step(Index width, Index hidden, bool bias) {
  INFO("D " << width << " F " << hidden << " bias " << bias);
  auto bank = random_bank<Gated<Storage>>(3, width, hidden, bias, 11);
  const auto batch = test::random_batch<float>(width, {1, 0, 21}, 7);
  test::unit_roundoff = 0x1p-24;
  const std::vector<float> z = test::run_forward(bank, batch);
  const test::NamedParameters parameter = parameters_with_weights(bank);
  Index wrong = 0;
  double off = 0, size = 0;
  for (Index s = 0; s < batch.slots(); ++s) {
    const test::NaiveTwoLayer naive{parameter, s == 0 ? "experts.0." : "experts.2.", true, test::Act::silu};
    Row x;
    for (Index j = 0; j < width; ++j)
      x.emplace_back(static_cast<double>(batch.x[static_cast<std::size_t>(s * width + j)]));
    x = rounded_row<Storage>(x);
    const Row gate = naive.affine("gate_proj", x), up = naive.affine("up_proj", x);
    Row h;
    for (std::size_t f = 0; f < gate.size(); ++f)
      h.push_back(test::activate(test::Act::silu, gate[f]) * up[f]);
    const Row want = naive.affine("down_proj", rounded_row<Storage>(h));
    for (Index j = 0; j < width; ++j) {
      const Bounded& w = want[static_cast<std::size_t>(j)];
      wrong += test::within(static_cast<double>(z[static_cast<std::size_t>(s * width + j)]), w) ? 0 : 1;
      off += std::abs(static_cast<double>(z[static_cast<std::size_t>(s * width + j)]) - w.v);
      size += std::abs(w.v);
    }
  }
  CHECK(wrong == 0);
  CHECK(off < size / 16);  // steps of 1/127 and finer that do not conspire stay far below the bound
}

}  // namespace

TEMPLATE_TEST_CASE("a bank of a block storage multiplies with what it unpacks, within the step of its rows",
                   "[expert][smoke]", moe::BFloat16, moe::Int8Groups<>, moe::Int4Groups<moe::Float16>) {
  for (const Index width : {1, 17, 33, 64}) {
    for (const Index hidden : {3, 31, 33, 100}) {
      forward_is_within_the_formats_step<TestType>(width, hidden, (width + hidden) % 2 == 0);
    }
  }
}

TEMPLATE_TEST_CASE("unpacked weights load to themselves and take the room of their format", "[expert]",
                   moe::BFloat16, moe::Int8Groups<>, moe::Int4Groups<>) {
  constexpr double kBits = std::is_same_v<TestType, moe::BFloat16>       ? 16
                           : std::is_same_v<TestType, moe::Int8Groups<>> ? 8 + 16.0 / 32
                                                                         : 4 + 16.0 / 32;
  auto bank = random_bank<Gated<TestType>>(2, 64, 128, false, 3);
  CHECK(static_cast<double>(bank.bytes()) <= 1.03 * kBits / 8 * 2 * 3 * 64 * 128);
  Matrices once = unpack(bank, 1);
  load(bank, 0, once);
  CHECK(once == unpack(bank, 0));
  CHECK(once == unpack(bank, 1));
  CHECK(std::any_of(once.second.begin(), once.second.end(), [](float w) { return w != 0; }));
}

TEMPLATE_TEST_CASE("initialise draws what a float bank draws, rounded", "[expert]", moe::BFloat16,
                   moe::Int8Groups<>, moe::Int4Groups<>) {
  Gated<float> exact({3, 33, 50});
  Gated<TestType> bank({3, 33, 50}), loaded({3, 33, 50});
  moe::PoolExecutor pool(2);
  exact.initialise(5);
  bank.initialise(5, pool);
  for (Index e = 0; e < 3; ++e) {
    Matrices m = unpack(exact, e);
    load(loaded, e, m);
    CHECK(unpack(loaded, e) == unpack(bank, e));
  }
}

TEMPLATE_TEST_CASE("a block storage's bits depend on the row alone", "[expert]", moe::BFloat16,
                   moe::Int8Groups<>, moe::Int4Groups<>) {
  for (const Index width : {1, 70}) {
    for (const Index hidden : {3, 49}) {
      auto bank = random_bank<Gated<TestType>>(4, width, hidden, true, 9);
      test::check_bank_laws(bank, test::random_batch<float>(width, {1, 0, 40, 3}, 5));
    }
  }
}

TEMPLATE_TEST_CASE("rows shared by tokens are prepared once, with the same bits", "[expert]", float,
                   moe::BFloat16, moe::Int8Groups<>) {
  // 1024 floats: rows 4 KiB apart, which a dense storage copies from 16 tokens on.
  const Index width = std::is_same_v<TestType, float> ? 1024 : 40, tokens = 20;
  auto bank = random_bank<Plain<TestType>>(2, width, 33, false, 2);
  auto batch = test::random_batch<float>(width, {tokens, tokens - 3}, 8);
  std::copy_n(batch.x.begin(), (tokens - 3) * width, batch.x.begin() + tokens * width);
  const std::vector<float> alone = test::run_forward(bank, batch);
  std::vector<const float*> row = batch.rows(batch.x);
  for (Index s = tokens; s < batch.slots(); ++s) {
    row[static_cast<std::size_t>(s)] = row[static_cast<std::size_t>(s - tokens)];
    batch.token[static_cast<std::size_t>(s)] = static_cast<std::int32_t>(s - tokens);
  }
  moe::SerialExecutor serial;
  test::ExactArena arena(
      test::measured_bytes(bank, [&](const auto& b, moe::Arena& a) { b.measure(a, batch.slots(), 1); }));
  test::SlotRows<float> z(batch.slots(), width);
  const moe::RowBatch<float> in{row.data(), batch.token.data(), batch.offsets.data(), 2, tokens};
  bank.forward(in, z.sink(), arena.get(), serial);
  CHECK(test::same_bits(alone, test::collect_rows(z.result, width)));
}

TEMPLATE_TEST_CASE("backward of rounded weights is that of a float bank with the same numbers", "[expert]",
                   moe::BFloat16, moe::Int8Groups<>, moe::Int4Groups<>) {
  // Numbers that both banks sum exactly, so that their tapes agree: one group of 32 inputs, x in {-127, 0,
  // 127}, weights small integers or, in 4 bits, 4-bit codes times a scale of 8 bits.
  constexpr Index kWidth = 32, kHidden = 50;
  constexpr bool kFour = std::is_same_v<TestType, moe::Int4Groups<>>;
  std::mt19937_64 random(4);
  std::uniform_int_distribution<int> weight(kFour ? -7 : -126, kFour ? 7 : 126), sign(-1, 1);
  Plain<TestType> bank({2, kWidth, kHidden, true});
  Plain<float> exact({2, kWidth, kHidden, true});
  for (Index e = 0; e < 2; ++e) {
    Matrices m(kWidth, kHidden);
    for (auto* v : {&m.part[0], &m.second}) {
      for (float& w : *v) w = static_cast<float>(weight(random));
    }
    for (Index f = 0; f < kHidden; ++f) m.part[0][static_cast<std::size_t>(f * kWidth)] = kFour ? 8 : 127;
    load(bank, e, m);
    Matrices rounded = unpack(bank, e);
    load(exact, e, rounded);
  }
  auto batch = test::random_batch<float>(kWidth, {3, 20}, 6);
  for (float& x : batch.x) x = static_cast<float>(127 * sign(random));
  for (Index s = 0; s < batch.slots(); ++s) batch.x[static_cast<std::size_t>(s * kWidth)] = 127;

  moe::SerialExecutor serial;
  typename Plain<TestType>::Tape tape;
  Plain<float>::Tape exact_tape;
  test::run_forward(bank, batch, &tape, serial);
  test::run_forward(exact, batch, &exact_tape, serial);
  auto gradients = bank.make_gradients();
  auto exact_gradients = exact.make_gradients();
  const auto back = test::run_backward(bank, batch, tape, &gradients, true, serial);
  const auto want = test::run_backward(exact, batch, exact_tape, &exact_gradients, true, serial);
  CHECK(test::same_bits(back.dx, want.dx));
  CHECK(test::same_bits(back.dweight, want.dweight));
  CHECK(std::any_of(want.dx.begin(), want.dx.end(), [](float g) { return g != 0; }));
  // The gradients are a float bank's, wherever they come from.
  CHECK(
      test::same_bits(test::flat_gradients(exact, gradients), test::flat_gradients(exact, exact_gradients)));
}

TEST_CASE("numbers that a block storage cannot round are refused by name", "[expert]") {
  Plain<moe::Int8Groups<moe::Float16>> half({1, 3, 5});
  Plain<moe::BFloat16> bank({1, 3, 5});
  Matrices m(3, 5);
  const auto message = [&](auto& to) {
    return test::message_of<moe::numeric_error>([&] { load(to, 0, m); });
  };
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    m.second[7] = bad;
    CHECK(test::contains(message(bank), "fc2"));
    CHECK(test::contains(message(bank), "row 1, column 2"));
  }
  m.second[7] = 1e8f;  // beyond 127 * 65504
  CHECK(message(bank).empty());
  CHECK(test::contains(message(half), "fc2"));
  Matrices after = unpack(half, 0);
  CHECK(std::all_of(after.second.begin(), after.second.end(), [](float w) { return w == 0; }));
}
