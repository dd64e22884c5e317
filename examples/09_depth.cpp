// Trains four small transformers of bytes that spend about the same number of multiplications on a byte, and
// spend them differently: every byte through 4 blocks; Mixture-of-Depths, 6 blocks of which every other one
// takes a third of the bytes; Mixture-of-Recursions, one block passed 1, 2 or 3 times between two of its own;
// and chains of experts in place of the feed-forward layers. Attention is the program's own, in Eigen
// (support/depth_model.hpp); which bytes a block works on is the library's. By default the text is this
// library's own sources and documents. It ends with a table and a plot.
//
//   09_depth [--text FILE] [--steps N] [--seed N] [--threads N] [--out FOLDER] [--quick]
#define EIGEN_DONT_PARALLELIZE  // the threads are the executor's

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <numbers>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "moe/depth/chain_of_experts.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/depth/mixture_of_depths.hpp"
#include "moe/depth/recursion.hpp"
#include "moe/moe.hpp"
#include "moe/router/kind/every.hpp"
#include "support/depth_model.hpp"
#include "support/progress.hpp"
#include "support/svg.hpp"
#include "support/text.hpp"

using namespace example;

constexpr Index kWidth = 64;  // D
constexpr Index kHeads = 4;
constexpr Index kHidden = 128;    // F of a feed-forward layer
constexpr Index kExperts = 8;     // of a chain, half as wide; it takes one a step, in two steps
constexpr Index kSequences = 16;  // of a batch
constexpr Index kLength = 64;     // bytes of a sequence

struct Options {
  std::string text;  // a file; empty: the repository
  Index steps = 1200;
  std::uint64_t seed = 1;
  Index threads = std::max(1u, std::thread::hardware_concurrency());
  std::filesystem::path out = MOE_EXAMPLE_OUT;
  bool quick = false;
};

struct Result {
  Series curve;                     // held-out bits per byte over steps, on a part of the held-out text
  double bits = 0;                  // per byte of the whole held-out text
  double multiplications = 0;       // of the blocks, per byte in training, forward
  double visits = 0, foretold = 0;  // blocks that a byte goes through: in training, in inference
  Index parameters = 0;
  double bytes_per_second = 0;
};

// ---- 1. The blocks and the layers around them. ----

using Bank = moe::Glu<moe::Silu>;
using Dense = moe::MoeLayer<moe::EveryExpert<float>, Bank>;
using DenseBlock = TransformerBlock<Dense>;
using ChainBlock = TransformerBlock<moe::ChainOfExperts<Bank>>;
/// A block that every byte goes through: the plain residual block.
template <class Block>
using Always = moe::DepthLayer<moe::EveryExpert<float>, Block>;

Bank make_bank(Index experts, Index hidden, std::uint64_t seed) {
  Bank bank({.experts = experts, .width = kWidth, .hidden = hidden});
  bank.initialise(seed);
  return bank;
}
DenseBlock dense_block(std::uint64_t seed) {
  return DenseBlock(kHeads, Dense(moe::EveryExpert<float>(1), make_bank(1, kHidden, seed)), seed + 1);
}

using Pieces = std::vector<std::unique_ptr<Piece>>;
template <class Layer>
std::unique_ptr<Piece> piece(Layer layer) {
  return std::make_unique<LayerPiece<Layer>>(std::move(layer));
}
template <class Block>
std::unique_ptr<Piece> always(Block block) {
  return piece(Always<Block>(moe::EveryExpert<float>(1), std::move(block)));
}

/// Scorers start at 0, where ties would decide; a little noise makes them differ.
template <class Layer>
Layer with_scorers(Layer layer, std::uint64_t seed) {
  for (auto& router : layer.routers()) router.scorer().initialise(seed++);
  return layer;
}

struct Contestant {
  const char* name;
  const char* colour;
  Pieces (*make)(std::uint64_t seed, std::vector<std::unique_ptr<Bank>>& banks);
  std::vector<double> shares;  // of the bytes that each pass of a block takes in training
};

Pieces plain(std::uint64_t seed, std::vector<std::unique_ptr<Bank>>&) {
  Pieces all;
  for (std::uint64_t i = 0; i < 4; ++i) all.push_back(always(dense_block(seed + 10 * i)));
  return all;
}
/// 3 blocks of all bytes and 3 of a third.
Pieces depths(std::uint64_t seed, std::vector<std::unique_ptr<Bank>>&) {
  Pieces all;
  for (std::uint64_t i = 0; i < 6; ++i) {
    DenseBlock block = dense_block(seed + 10 * i);
    if (i % 2 == 0) {
      all.push_back(always(std::move(block)));
    } else {
      all.push_back(piece(with_scorers(
          moe::mixture_of_depths({.width = kWidth, .share = 1.0 / 3}, std::move(block)), seed + 10 * i)));
    }
  }
  return all;
}
/// 1 + (1 + 2/3 + 1/3) + 1 blocks.
Pieces recursions(std::uint64_t seed, std::vector<std::unique_ptr<Bank>>&) {
  Pieces all;
  all.push_back(always(dense_block(seed)));
  all.push_back(piece(
      with_scorers(moe::mixture_of_recursions({.width = kWidth, .shares = {1, 2.0 / 3, 1.0 / 3}, .scale = 1},
                                              dense_block(seed + 10)),
                   seed + 10)));
  all.push_back(always(dense_block(seed + 20)));
  return all;
}
/// Two steps of one expert each, which together are as wide as a feed-forward layer. A chain refers to its
/// bank, which lives in `banks`.
Pieces chains(std::uint64_t seed, std::vector<std::unique_ptr<Bank>>& banks) {
  Pieces all;
  for (std::uint64_t i = 0; i < 4; ++i) {
    banks.push_back(std::make_unique<Bank>(make_bank(kExperts, kHidden / 2, seed + 10 * i)));
    moe::ChainOfExperts<Bank> chain = moe::chain_of_experts(
        {.steps = 2, .router = {.width = kWidth, .experts = kExperts, .k = 1}}, *banks.back());
    for (auto& step : chain.layers()) step.router().scorer().initialise(seed + 10 * i + 5);
    all.push_back(always(ChainBlock(kHeads, std::move(chain), seed + 10 * i + 1)));
  }
  return all;
}

std::vector<Contestant> contestants() {
  constexpr double kThird = 1.0 / 3;
  return {{"plain, 4 blocks", "#555555", plain, {1, 1, 1, 1}},
          {"Mixture-of-Depths", "#0072b2", depths, {1, kThird, 1, kThird, 1, kThird}},
          {"Mixture-of-Recursions", "#d55e00", recursions, {1, 1, 2 * kThird, kThird, 1}},
          {"Chain-of-Experts", "#009e73", chains, {1, 1, 1, 1}}};
}

/// Multiplications of a block per byte, where it takes `share` of a sequence's bytes: projections,
/// feed-forward layer, and attention to half of the taken ones. Routers come to a hundredth of it.
double multiplications(double share) {
  const double taken = share * static_cast<double>(kLength);
  const double d = kWidth, dense = 4 * d * d + 3 * d * kHidden;
  return share * (dense + d * (taken + 1));
}

// ---- 2. Training. ----

/// Held-out bits per byte, of every `stride`-th batch: in inference, so that nothing looks ahead.
double held_out_bits(DepthModel& model, const Text& text, Index stride) {
  double nats = 0;
  Index batches = 0;
  for (Index i = 0; i < text.held_out_batches(); i += stride, ++batches) nats += model.loss(text.held_out(i));
  return nats / static_cast<double>(batches) / std::numbers::ln2;
}

moe::WarmUp<moe::CosineSchedule> learning_rate(Index steps) {
  const Index warm = steps / 20 + 1;
  return {{.from = 0, .steps = warm},
          moe::CosineSchedule({.from = 4e-3, .to = 4e-4, .steps = std::max(Index{1}, steps - warm)})};
}

double all_visits(const DepthModel& model) {
  double visits = 0;
  for (std::size_t i = 0; i < model.pieces(); ++i) visits += model.visits(i);
  return visits;
}

Result train(const Contestant& who, const Options& options, const Text& text, moe::PoolExecutor& pool) {
  std::vector<std::unique_ptr<Bank>> banks;
  DepthModel model(kWidth, who.make(options.seed + 100, banks), options.seed, pool);
  moe::AdamW<float> optimiser({.beta2 = 0.99, .decay = 0.1});
  const auto rate = learning_rate(options.steps);
  Result result;
  result.curve.name = who.name;
  result.curve.colour = who.colour;
  result.curve.dashed = who.make == plain;
  result.parameters = model.parameters();
  Progress progress(options.steps);
  const Index stride = std::max(Index{1}, text.held_out_batches() / 4);
  double seconds = 0, loss = 0;
  for (Index step = 0; step <= options.steps; ++step) {
    if (step % std::max(Index{1}, options.steps / 25) == 0 || step == options.steps) {
      model.clear_counts();
      result.curve.points.emplace_back(step, held_out_bits(model, text, stride));
      result.foretold = all_visits(model);
    }
    if (step == options.steps) break;

    model.clear_counts();
    const auto start = std::chrono::steady_clock::now();
    const Batch batch = text.training(options.seed, static_cast<std::uint64_t>(step));
    loss = model.add_gradients(batch);
    moe::clip_by_global_norm(model, 1, pool);
    optimiser.step(model, rate.at(step), pool);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.visits = all_visits(model);
    if (progress.wants(step + 1)) {
      char line[256];
      std::snprintf(line, sizeof line,
                    "%-22s step %4td  loss %.3f  held-out %.3f  %5.1fk/s  blocks a byte: %.2f, foretold %.2f",
                    who.name, step + 1, loss / std::numbers::ln2, result.curve.points.back().second,
                    static_cast<double>((step + 1) * text.batch_tokens()) / seconds / 1000, result.visits,
                    result.foretold);
      progress.show(line);
    }
  }
  progress.finish();
  result.bytes_per_second = static_cast<double>(options.steps * text.batch_tokens()) / seconds;
  for (const double share : who.shares) result.multiplications += multiplications(share);
  model.clear_counts();
  result.bits = held_out_bits(model, text, 1);
  result.foretold = all_visits(model);
  return result;
}

// ---- 3. The contest. ----

std::vector<Result> train_all(const Options& options, const Text& text, Index threads) {
  moe::PoolExecutor pool(threads);
  std::vector<Result> all;
  for (const Contestant& who : contestants()) all.push_back(train(who, options, text, pool));
  return all;
}

void print_table(const std::vector<Result>& all) {
  std::printf("\n%-22s %13s %12s %20s %16s %10s\n", "model", "held-out bits", "parameters",
              "multiplications/byte", "blocks a byte", "bytes/s");
  for (const Result& r : all) {
    std::printf("%-22s %13.4f %12td %20.0f %7.2f (%5.2f) %10.0f\n", r.curve.name.c_str(), r.bits,
                r.parameters, r.multiplications, r.visits, r.foretold, r.bytes_per_second);
  }
  std::printf(
      "held-out bits: per byte, in inference, where no byte's result depends on a later one. Multiplications "
      "of\n"
      "the blocks, forward, in training. Blocks a byte goes through in training, and in inference "
      "(foretold).\n");
}

void draw(const Options& options, const std::vector<Result>& all) {
  std::vector<Series> curves;
  double top = 0;
  for (const Result& r : all) {
    curves.push_back(r.curve);
    // Before the curves' second eighth they all fall from 8.
    const auto& points = r.curve.points;
    top = std::max(top, points[std::min(points.size() - 1, points.size() / 8)].second);
  }
  const auto path = options.out / "depth_bits_per_byte.svg";
  draw_lines(path, "Bits per byte on a part of the held-out text, same compute per byte", "step",
             "bits per byte", curves, std::ceil(top * 5) / 5);
  std::printf("\nwritten: %s\n", path.string().c_str());
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--quick") {
      options.quick = true;
      options.steps = 8;
      continue;
    }
    if (i + 1 == argc) throw std::runtime_error("unknown option or missing value: " + option);
    const std::string value = argv[++i];
    if (option == "--text") {
      options.text = value;
    } else if (option == "--steps") {
      options.steps = std::max(1L, std::stol(value));
    } else if (option == "--seed") {
      options.seed = std::stoull(value);
    } else if (option == "--threads") {
      options.threads = std::stol(value);
    } else if (option == "--out") {
      options.out = value;
    } else {
      throw std::runtime_error("unknown option " + option);
    }
  }
  return options;
}

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  std::filesystem::create_directories(options.out);
  const Text text(options.text.empty() ? read_repository(MOE_EXAMPLE_ROOT) : read_file(options.text), 1,
                  kSequences, kLength, options.quick ? 2 : 48);
  std::printf("%td bytes of text, %td steps of %td bytes, %td threads; loss and held-out in bits per byte\n",
              text.size(), options.steps, text.batch_tokens(), options.threads);
  const std::vector<Result> all = train_all(options, text, options.threads);
  print_table(all);
  draw(options, all);

  if (options.quick) {  // the numbers must not depend on the number of threads
    const Index other = options.threads == 1 ? 2 : 1;
    const std::vector<Result> again = train_all(options, text, other);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].curve.points != again[i].curve.points || all[i].bits != again[i].bits) {
        throw std::runtime_error(all[i].curve.name + ": other numbers with another number of threads");
      }
    }
    std::printf("same numbers with %td threads and %td\n", options.threads, other);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "09_depth: %s\n", error.what());
  return 1;
}
