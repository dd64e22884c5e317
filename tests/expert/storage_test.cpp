// Banks of every storage format: rounding, forward within the format's step, backward, and the laws of banks.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <tuple>
#include <utility>

#include "expert/naive_two_layer.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/storage/list.hpp"
#include "moe/storage/packed_blocks.hpp"
#include "support/close.hpp"
#include "support/errors.hpp"

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
  test::randomise_bank(bank, seed);  // biases
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
    to.clear();  // a float bank shows its weights as well
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

template <class Storage>
constexpr test::Format kFormat = test::Format::dense;
template <>
constexpr test::Format kFormat<moe::BFloat16> = test::Format::bf16;
template <class Scale>
constexpr test::Format kFormat<moe::Int8Groups<Scale>> = test::Format::int8;
template <class Scale>
constexpr test::Format kFormat<moe::Int4Groups<Scale>> = test::Format::int4;

template <>
constexpr test::Format kFormat<moe::Int8Channels> = test::Format::int8_channels;
template <>
constexpr test::Format kFormat<moe::Q4K> = test::Format::q4_k;
template <>
constexpr test::Format kFormat<moe::Q6K> = test::Format::q6_k;

template <class Bank>
struct Kind;
template <class S>
struct Kind<Gated<S>> {
  using Storage = S;
  static constexpr bool kGated = true;
  static constexpr test::Act kAct = test::Act::silu;
};
template <class S>
struct Kind<Plain<S>> {
  using Storage = S;
  static constexpr bool kGated = false;
  static constexpr test::Act kAct = test::Act::relu;
};

/// z [P, D] from rows an odd number of floats apart, the first at an odd address of floats; so are the
/// results.
template <class Bank>
std::vector<float> run_misaligned(const Bank& bank, const test::BankBatch<float>& batch) {
  const Index d = batch.width, slots = batch.slots(), gap = d % 2 == 0 ? 5 : 6;
  std::vector<float> x(static_cast<std::size_t>(slots * (d + gap) + 1), NAN);
  std::vector<float> y(x.size(), 12345.0f);
  std::vector<const float*> row, result;
  for (Index s = 0; s < slots; ++s) {
    float* const at = x.data() + 1 + s * (d + gap);
    std::copy_n(batch.x.data() + s * d, d, at);
    row.push_back(at);
    result.push_back(y.data() + 1 + s * (d + gap));
  }
  moe::SerialExecutor serial;
  test::ExactArena arena(
      test::measured_bytes(bank, [&](const Bank& b, moe::Arena& a) { b.measure(a, slots, 1); }));
  const moe::RowBatch<float> in{row.data(), batch.token.data(), batch.offsets.data(), batch.experts()};
  bank.forward(in, {y.data() + 1, d + gap, result.data()}, arena.get(), serial);
  Index touched = y[0] == 12345.0f ? 0 : 1;
  for (Index i = 0; i < slots * (d + gap); ++i) {
    touched += i % (d + gap) >= d && y[static_cast<std::size_t>(i + 1)] != 12345.0f ? 1 : 0;
  }
  CHECK(touched == 0);
  return test::collect_rows(result, d);
}

/// `rows`: of each expert; of all results, about 40 rows and 150 columns are looked at.
template <class Bank>
void forward_is_within_the_formats_step(Index width, Index hidden, bool bias,
                                        const std::vector<Index>& rows = {1, 0, 21}) {
  using K = Kind<Bank>;
  constexpr test::Format format = kFormat<typename K::Storage>;
  INFO("D " << width << " F " << hidden << " bias " << bias << " gated " << K::kGated);
  auto bank = random_bank<Bank>(static_cast<Index>(rows.size()), width, hidden, bias, 11);
  const auto batch = test::random_batch<float>(width, rows, 7);
  test::unit_roundoff = 0x1p-24;
  const std::vector<float> z = run_misaligned(bank, batch);
  CHECK(test::same_bits(z, test::run_forward(bank, batch)));
  const test::NamedParameters parameter = parameters_with_weights(bank);
  const Index row_step = 1 + (width * hidden > 20000 ? batch.slots() / 3 : batch.slots() / 40);
  const Index column_step = 1 + width / 150;
  Index wrong = 0, e = 0;
  double off = 0, size = 0;
  for (Index s = 0; s < batch.slots(); s += row_step) {
    while (batch.offsets[static_cast<std::size_t>(e + 1)] <= s) ++e;
    const test::NaiveTwoLayer naive{parameter, "experts." + std::to_string(e) + ".", K::kGated, K::kAct,
                                    format};
    Row x;
    for (Index j = 0; j < width; ++j)
      x.emplace_back(static_cast<double>(batch.x[static_cast<std::size_t>(s * width + j)]));
    const Row h = test::rounded_row(naive.first_layer(x).hidden, format);
    for (Index j = s % column_step; j < width; j += column_step) {
      const Bounded w = naive.affine_at(K::kGated ? "down_proj" : "fc2", h, static_cast<std::size_t>(j));
      const double got = static_cast<double>(z[static_cast<std::size_t>(s * width + j)]);
      wrong += std::abs(got - w.v) <= w.e ? 0 : 1;
      off += std::abs(got - w.v);
      size += std::abs(w.v);
    }
  }
  CHECK(wrong == 0);
  CHECK(off < size / 16);  // steps of 1/127 and finer that do not conspire stay far below the bound
  CHECK(size > 0);
}

}  // namespace

TEMPLATE_TEST_CASE("a bank of a block storage multiplies with what it unpacks, within the step of its rows",
                   "[expert][smoke]", moe::BFloat16, moe::Int8Groups<>, moe::Int4Groups<moe::Float16>,
                   moe::Int8Channels, moe::Q4K, moe::Q6K) {
  for (const Index width : {1, 17, 33, 64}) {
    for (const Index hidden : {3, 31, 33, 100}) {
      forward_is_within_the_formats_step<Gated<TestType>>(width, hidden, (width + hidden) % 2 == 0);
    }
  }
}

TEMPLATE_TEST_CASE("banks of odd and of large sizes, at any address, with 0, 1 and many rows of an expert",
                   "[expert]", float, moe::BFloat16, moe::Int8Groups<>, moe::Int4Groups<>, moe::Int8Channels,
                   moe::Q4K, moe::Q6K) {
  const std::pair<Index, Index> sizes[] = {{1, 1},     {1, 100},  {3, 17},    {17, 1},   {31, 33},  {100, 31},
                                           {33, 1000}, {1000, 3}, {1000, 17}, {2880, 1}, {31, 2880}};
  for (const auto& [width, hidden] : sizes) {
    forward_is_within_the_formats_step<Gated<TestType>>(width, hidden, hidden % 2 == 0, {0, 1, 70, 0, 9});
    forward_is_within_the_formats_step<Plain<TestType>>(width, hidden, hidden % 2 != 0, {1, 0, 35});
  }
  forward_is_within_the_formats_step<Plain<TestType>>(2880, 100, true, {1, 0, 19});
}

TEMPLATE_TEST_CASE("rows and weights at the ends of the range", "[expert]", moe::BFloat16, moe::Int8Groups<>,
                   moe::Int8Groups<moe::Float16>, moe::Int4Groups<>, moe::Int4Groups<moe::Float16>,
                   moe::Int8Channels, moe::Q4K, moe::Q6K) {
  // Rows of one size, or of two by turns within a group; weights that bring them back to where float can hold
  // results.
  constexpr Index kWidth = 40, kHidden = 40;
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr test::Format format = kFormat<TestType>;
  test::unit_roundoff = 0x1p-24;
  for (const auto& [even, odd] : std::initializer_list<std::pair<float, float>>{{0.0f, 0.0f},
                                                                                {1e-45f, 1e-39f},
                                                                                {1e-35f, 1e-35f},
                                                                                {1e35f, 1e35f},
                                                                                {1e35f, 1e-35f},
                                                                                {kLargest, -kLargest},
                                                                                {kLargest, 1e-45f},
                                                                                {1e35f, kLargest},
                                                                                {1e34f, 0.0f},
                                                                                {1.0f, 1e35f},
                                                                                {-kLargest, 1e38f},
                                                                                {0x1.fep127f, -1e-30f}}) {
    for (const float weight : {1e-3f, 1e-6f, 1e-30f}) {
      INFO("rows of " << even << " and " << odd << ", weights of " << weight);
      auto bank = random_bank<Plain<TestType>>(1, kWidth, kHidden, false, 21);
      Matrices m = unpack(bank, 0);
      for (float& w : m.part[0]) w *= weight;
      for (float& w : m.second) w *= 0x1p-6f;
      load(bank, 0, m);
      auto batch = test::random_batch<float>(kWidth, {3}, 4);
      for (std::size_t i = 0; i < batch.x.size(); ++i) batch.x[i] = i % 2 == 0 ? even : odd;
      const std::vector<float> z = test::run_forward(bank, batch);
      const test::NamedParameters parameter = parameters_with_weights(bank);
      const test::NaiveTwoLayer naive{parameter, "experts.0.", false, test::Act::relu, format};
      for (Index s = 0; s < 3; ++s) {
        Row x;
        for (Index j = 0; j < kWidth; ++j)
          x.emplace_back(static_cast<double>(batch.x[static_cast<std::size_t>(s * kWidth + j)]));
        const Row h = test::rounded_row(naive.first_layer(x).hidden, format);
        for (Index j = 0; j < kWidth; ++j) {
          const Bounded want = naive.affine_at("fc2", h, static_cast<std::size_t>(j));
          REQUIRE(std::abs(want.v) + want.e < static_cast<double>(kLargest));
          CHECK(test::within(z[static_cast<std::size_t>(s * kWidth + j)], want.v, want.e));
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("weights beyond what a storage can multiply with are refused", "[expert]", moe::BFloat16,
                   moe::Int8Groups<>, moe::Int8Groups<moe::Float16>, moe::Int4Groups<>,
                   moe::Int4Groups<moe::Float16>, moe::Int8Channels, moe::Q4K, moe::Q6K) {
  Plain<TestType> bank({1, 3, 2, false});
  Matrices m(3, 2);
  const auto largest = static_cast<float>(moe::kLargestWeight<TestType>);
  std::fill(m.part[0].begin(), m.part[0].end(), 1e-30f);
  m.second[4] = -largest;
  CHECK_NOTHROW(load(bank, 0, m));
  const std::vector<float> z = test::run_forward(bank, test::random_batch<float>(3, {2}, 4));
  for (const float value : z) CHECK(moe::is_finite(value));
  for (const float bad : {std::nextafter(largest, INFINITY), INFINITY, NAN}) {
    m.second[4] = bad;
    CHECK_THROWS_AS(load(bank, 0, m), moe::numeric_error);
  }
}

/// The storages of the list that round.
template <class List>
struct WithoutFirst;
template <class First, class... Rest>
struct WithoutFirst<moe::TypeList<First, Rest...>> {
  static_assert(moe::DenseStorage<First> && (moe::BlockStorage<Rest> && ...));
  using type = std::tuple<Rest...>;
};
using BlockStorages = WithoutFirst<moe::Storages>::type;

TEMPLATE_LIST_TEST_CASE("odd sizes backwards: rounded weights, within the step of the rows", "[expert]",
                        BlockStorages) {
  const std::pair<Index, Index> sizes[] = {{1, 33}, {33, 3}, {31, 17}, {17, 100}, {100, 1}, {33, 31}};
  for (const auto& [width, hidden] : sizes) {
    INFO("D " << width << " F " << hidden);
    auto bank = random_bank<Gated<TestType>>(3, width, hidden, hidden % 2 == 0, 12);
    Gated<float> names({3, width, hidden, hidden % 2 == 0});  // shows all gradients
    test::check_against_naive(bank, test::random_batch<float>(width, {1, 0, 18}, 8), true, test::Act::silu,
                              parameters_with_weights(bank), names, kFormat<TestType>);
  }
}

TEMPLATE_LIST_TEST_CASE("unpacked weights load to themselves and take the room of their format", "[expert]",
                        BlockStorages) {
  constexpr double kBits = std::is_same_v<TestType, moe::BFloat16>       ? 16
                           : std::is_same_v<TestType, moe::Int8Groups<>> ? 8 + 16.0 / 32
                           : std::is_same_v<TestType, moe::Int8Channels> ? 8 + 32.0 / 256
                           : std::is_same_v<TestType, moe::Q4K>          ? 4 + 16.0 / 32 + 32.0 / 256
                           : std::is_same_v<TestType, moe::Q6K>          ? 6 + 8.0 / 16 + 16.0 / 256
                                                                         : 4 + 16.0 / 32;
  auto bank = random_bank<Gated<TestType>>(2, 256, 256, false, 3);
  CHECK(static_cast<double>(bank.bytes()) == kBits / 8 * 2 * 3 * 256 * 256);
  Matrices once = unpack(bank, 1);
  load(bank, 0, once);
  CHECK(once == unpack(bank, 0));
  CHECK(once == unpack(bank, 1));
  CHECK(std::any_of(once.second.begin(), once.second.end(), [](float w) { return w != 0; }));
}

TEMPLATE_LIST_TEST_CASE("initialise draws what a float bank draws, rounded", "[expert]", BlockStorages) {
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

TEMPLATE_LIST_TEST_CASE("a block storage's bits depend on the row alone", "[expert]", BlockStorages) {
  for (const Index width : {1, 70}) {
    for (const Index hidden : {3, 49}) {
      auto bank = random_bank<Gated<TestType>>(4, width, hidden, true, 9);
      test::check_bank_laws(bank, test::random_batch<float>(width, {1, 0, 40, 3}, 5));
    }
  }
}

TEMPLATE_TEST_CASE("rows shared by tokens are prepared once, with the same bits", "[expert]", float,
                   moe::BFloat16, moe::Int8Groups<>, moe::Int8Channels, moe::Q4K, moe::Q6K) {
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

/// Number i of a row of weights that a storage holds as they are: its scale is that of the first numbers.
template <class Storage>
int exact_weight(Storage, Index i, std::mt19937_64& random) {
  return i == 0 ? 127 : std::uniform_int_distribution<int>(-126, 126)(random);
}
int exact_weight(moe::Int4Groups<>, Index i, std::mt19937_64& random) {  // 8 becomes -8 times -1
  return i == 0 ? 8 : std::uniform_int_distribution<int>(-7, 7)(random);
}
int exact_weight(moe::Q4K, Index i, std::mt19937_64& random) {
  return 63 * (i == 0 ? -1 : i == 1 ? 14 : std::uniform_int_distribution<int>(-1, 14)(random));
}
int exact_weight(moe::Q6K, Index i, std::mt19937_64& random) {
  return 127 * (i % 16 == 0 ? -32 : std::uniform_int_distribution<int>(-31, 31)(random));
}

TEMPLATE_LIST_TEST_CASE("backward of rounded weights is that of a float bank with the same numbers",
                        "[expert]", BlockStorages) {
  // Numbers that both banks sum exactly, so that their tapes agree: one group of 32 inputs, x in {-127, 0,
  // 127}, weights of fc1 codes times a scale, small integers all of them.
  constexpr Index kWidth = 32, kHidden = 50;
  std::mt19937_64 random(4);
  std::uniform_int_distribution<int> sign(-1, 1);
  Plain<TestType> bank({2, kWidth, kHidden, true});
  Plain<float> exact({2, kWidth, kHidden, true});
  for (Index e = 0; e < 2; ++e) {
    Matrices m(kWidth, kHidden);
    for (auto* v : {&m.part[0], &m.second}) {
      for (std::size_t i = 0; i < v->size(); ++i) {
        (*v)[i] = static_cast<float>(exact_weight(TestType{}, static_cast<Index>(i) % kWidth, random));
      }
    }
    load(bank, e, m);
    Matrices rounded = unpack(bank, e);
    CHECK(rounded.part[0] == m.part[0]);
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
  auto gradients = bank.make_weight_gradients();
  auto exact_gradients = exact.make_gradients();
  const auto back = test::run_backward(bank, batch, tape, &gradients, true, serial);
  const auto want = test::run_backward(exact, batch, exact_tape, &exact_gradients, true, serial);
  CHECK(test::same_bits(back.dx, want.dx));
  CHECK(test::same_bits(back.dweight, want.dweight));
  CHECK(std::any_of(want.dx.begin(), want.dx.end(), [](float g) { return g != 0; }));
  // The gradients are a float bank's, wherever they come from.
  CHECK(
      test::same_bits(test::flat_gradients(exact, gradients), test::flat_gradients(exact, exact_gradients)));

  // Unless asked for, there are only those that can be applied, and the others change nothing.
  auto applied = bank.make_gradients();
  CHECK(!applied.has_weights());
  const auto frozen = test::run_backward(bank, batch, tape, &applied, true, serial);
  CHECK(test::same_bits(frozen.dx, want.dx));
  CHECK(test::same_bits(frozen.dweight, want.dweight));
  CHECK(test::same_bits(test::flat_gradients(bank, applied), test::flat_gradients(bank, gradients)));
  CHECK(test::message_of<moe::shape_error>(
            [&] { test::run_backward(exact, batch, exact_tape, &applied, true, serial); }) ==
        "moe: gradients of the experts: expected those of 2 experts 32 x 50 x 32 with biases (ask "
        "make_gradients()), got 2 experts 32 x 50 x 32 with biases and no weights");
}

TEMPLATE_TEST_CASE("gradients of rounded experts take no memory but for the biases", "[expert][smoke]",
                   moe::BFloat16, moe::Int8Groups<>, moe::Int4Groups<>) {
  Gated<TestType> bank({8, 96, 160, true}), plain({8, 96, 160, false});
  CHECK(plain.make_gradients().bytes() == 0);
  CHECK(bank.make_gradients().bytes() < bank.bytes() / 8);
  CHECK(plain.make_weight_gradients().bytes() == Gated<float>({8, 96, 160}).make_gradients().bytes());
  test::check_bank_laws(bank, test::random_batch<float>(96, {2, 0, 1, 3, 0, 1, 1, 1}, 5));
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
  CHECK_NOTHROW(load(bank, 0, m));
  CHECK(test::contains(message(half), "fc2"));
  Matrices after = unpack(half, 0);
  CHECK(std::all_of(after.second.begin(), after.second.end(), [](float w) { return w == 0; }));
}
