// Trains six small language models of bytes that differ in one thing: how the tokens find their experts. One
// of them is dense, with as many multiplications per token as two of eight experts. By default the text is
// this library's own sources and documents. It ends with a table, two plots and the trained parameters.
//
//   04_train_text [--text FILE] [--steps N] [--seed N] [--threads N] [--out FOLDER] [--quick]
#define EIGEN_DONT_PARALLELIZE  // the threads are the executor's

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <numbers>
#include <string>
#include <thread>
#include <vector>

#include "moe/moe.hpp"
#include "moe/router/named/null_experts.hpp"
#include "moe/router/named/relu.hpp"
#include "support/progress.hpp"
#include "support/svg.hpp"
#include "support/text.hpp"
#include "support/text_model.hpp"

using namespace example;

constexpr Index kWidth = 64;      // D
constexpr Index kHidden = 128;    // F
constexpr Index kExperts = 8;     // E
constexpr Index kChosen = 2;      // K
constexpr Index kContext = 16;    // bytes that a token sees
constexpr Index kSequences = 16;  // of a batch
constexpr Index kLength = 64;     // bytes of a sequence

struct Options {
  std::string text;  // a file; empty: the repository
  Index steps = 1600;
  std::uint64_t seed = 1;
  Index threads = std::max(1u, std::thread::hardware_concurrency());
  std::filesystem::path out = MOE_EXAMPLE_OUT;
  bool quick = false;
};

struct Result {
  Series curve;  // held-out bits per byte over steps, on a part of the held-out text
  bool causal = true;
  bool routed = true;
  double bits = 0;  // per byte of the whole held-out text
  double experts_per_token = 0;
  double max_violation = 0;
  double tokens_per_second = 0;
  std::vector<std::vector<double>> loads;  // by block and expert, in units of the mean
};

// ---- 1. The layers. Each is a router and a bank of experts; everything else is the same for all. ----

auto make_bank(Index experts, Index hidden, std::uint64_t seed) {
  moe::Glu<moe::Silu> bank({.experts = experts, .width = kWidth, .hidden = hidden});
  bank.initialise(seed);
  return bank;
}

template <class Router>
auto make_layer(Router router, std::uint64_t seed) {
  if constexpr (requires { router.scorer(); }) router.scorer().initialise(seed);
  return moe::MoeLayer(std::move(router), make_bank(kExperts, kHidden, seed));
}

/// One expert as wide as K of the others, which a table of one entry per byte sends every token to.
auto dense_layer(std::uint64_t seed) {
  const std::vector<moe::ExpertId> everything_to_0(256, 0);
  moe::HashRouter<float> router(moe::HashTable::own(everything_to_0, 256, 1));
  return moe::MoeLayer(std::move(router), make_bank(1, kChosen * kHidden, seed));
}
auto top_k_layer(std::uint64_t seed) {
  return make_layer(moe::top_k_softmax<float>({.width = kWidth, .experts = kExperts, .k = kChosen}), seed);
}
/// Experts choose tokens: K experts per token on average. A sequence is a segment; within it the choice looks
/// at later tokens too, so this model could not write text byte by byte.
auto expert_choice_layer(std::uint64_t seed) {
  return make_layer(
      moe::expert_choice<float>({.width = kWidth, .experts = kExperts, .capacity_factor = kChosen}), seed);
}
/// The current byte alone says which experts. The table is fixed: balanced by the bytes' counts in the text.
auto hash_layer(const Text& text, std::uint64_t seed) {
  return make_layer(moe::HashRouter<float>(moe::HashTable::balanced(text.counts(), kExperts, kChosen)), seed);
}
/// Experts whose logit is positive. The L1 loss that holds them at K per token on average adapts gently,
/// because the run is short.
auto relu_layer(std::uint64_t seed) {
  return make_layer(
      moe::relu_router<float>(
          {.width = kWidth, .experts = kExperts, .k = kChosen, .coefficient = 1e-3, .growth = 1.02}),
      seed);
}
/// 4 of 8 experts and 8 nulls: 2 real experts per token on average.
auto null_expert_layer(std::uint64_t seed) {
  return make_layer(
      moe::null_expert_router<float>(
          {.width = kWidth, .experts = kExperts, .nulls = kExperts, .k = 2 * kChosen, .load_balance = 0.1}),
      seed);
}

// ---- 2. Training. ----

/// Held-out bits per byte, of every `stride`-th batch.
template <class Model>
double held_out_bits(Model& model, const Text& text, Index stride) {
  double nats = 0;
  Index batches = 0;
  for (Index i = 0; i < text.held_out_batches(); i += stride, ++batches) nats += model.loss(text.held_out(i));
  return nats / static_cast<double>(batches) / std::numbers::ln2;
}

/// Warm-up over a twentieth of the steps, then half a cosine down to a tenth.
moe::WarmUp<moe::CosineSchedule> learning_rate(Index steps) {
  const Index warm = steps / 20 + 1;
  return {{.from = 0, .steps = warm},
          moe::CosineSchedule({.from = 8e-3, .to = 8e-4, .steps = std::max(Index{1}, steps - warm)})};
}

/// `make_layer(seed)` makes one MoE layer of the kind in question.
template <class MakeLayer>
Result train(const char* name, const Options& options, const Text& text, moe::PoolExecutor& pool,
             MakeLayer&& make_layer_of) {
  const auto make_model = [&](std::uint64_t seed) {
    return TextModel(kContext, make_layer_of(seed + 100), make_layer_of(seed + 200), seed, pool);
  };
  auto model = make_model(options.seed);
  moe::AdamW<float> optimiser({.beta2 = 0.99, .decay = 0.1});
  const auto rate = learning_rate(options.steps);

  Result result;
  result.curve.name = name;
  Progress progress(options.steps);
  const Index stride = std::max(Index{1}, text.held_out_batches() / 4);
  double seconds = 0, loss = 0;
  for (Index step = 0; step <= options.steps; ++step) {
    if (step % std::max(Index{1}, options.steps / 40) == 0 || step == options.steps) {
      result.curve.points.emplace_back(step, held_out_bits(model, text, stride));
      model.clear_stats();
    }
    if (step == options.steps) break;

    const auto start = std::chrono::steady_clock::now();
    const Batch batch = text.training(options.seed, static_cast<std::uint64_t>(step));
    loss = model.add_gradients(batch);
    moe::clip_by_global_norm(model, 1, pool);
    optimiser.step(model, rate.at(step), pool);
    model.on_step_end();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

    if (progress.wants(step + 1)) {
      char line[256];
      std::snprintf(line, sizeof line, "%-13s step %4td  loss %.3f  held-out %.3f  %5.0fk/s  %s %s", name,
                    step + 1, loss / std::numbers::ln2, result.curve.points.back().second,
                    static_cast<double>((step + 1) * text.batch_tokens()) / seconds / 1000,
                    load_bars(model.stats(0)).c_str(), load_bars(model.stats(1)).c_str());
      progress.show(line);
    }
    model.clear_stats();
  }
  progress.finish();
  result.tokens_per_second = static_cast<double>(options.steps * text.batch_tokens()) / seconds;

  // The whole held-out text, and what the routers did with it.
  model.clear_stats();
  result.bits = held_out_bits(model, text, 1);
  for (Index b = 0; b < model.blocks(); ++b) {
    const moe::RouteStats& stats = model.stats(b);
    result.experts_per_token += stats.experts_per_token() / static_cast<double>(model.blocks());
    result.max_violation = std::max(result.max_violation, stats.max_violation());
    const double mean = static_cast<double>(stats.pairs()) / static_cast<double>(stats.experts());
    std::vector<double> loads;
    for (const Index load : stats.load) loads.push_back(static_cast<double>(load) / mean);
    result.loads.push_back(loads);
  }

  // Saved and loaded into a model with other parameters, it must give the same bits.
  const std::string path = (options.out / (std::string(name) + ".moe")).string();
  model.save(path.c_str());
  auto loaded = make_model(options.seed + 1);
  loaded.load(path.c_str());
  if (held_out_bits(loaded, text, 1) != result.bits)
    throw std::runtime_error(path + " gives another held-out loss");
  return result;
}

// ---- 3. The contest. ----

std::vector<Result> train_all(const Options& options, const Text& text, Index threads) {
  moe::PoolExecutor pool(threads);
  std::vector<Result> all;
  const auto add = [&](const char* name, const char* colour, auto make_layer_of) -> Result& {
    all.push_back(train(name, options, text, pool, make_layer_of));
    all.back().curve.colour = colour;
    return all.back();
  };
  Result& dense = add("dense", "#555555", dense_layer);
  dense.routed = false;
  dense.curve.dashed = true;
  add("top-k", "#0072b2", top_k_layer);
  Result& choice = add("expert-choice", "#d55e00", expert_choice_layer);
  choice.causal = false;
  choice.curve.dashed = true;
  add("hash", "#e69f00", [&](std::uint64_t seed) { return hash_layer(text, seed); });
  add("relu", "#009e73", relu_layer);
  add("null-experts", "#aa4499", null_expert_layer);
  return all;
}

void print_table(const std::vector<Result>& all) {
  std::printf("\n%-16s %14s %16s %16s %12s\n", "router", "held-out bits", "experts/token", "max violation",
              "tokens/s");
  for (const Result& r : all) {
    const std::string name = r.curve.name + (r.causal ? "" : " *");
    std::printf("%-16s %14.4f ", name.c_str(), r.bits);
    if (r.routed) {
      std::printf("%16.2f %16.2f", r.experts_per_token, r.max_violation);
    } else {
      std::printf("%16s %16s", "1, twice as wide", "-");
    }
    std::printf(" %12.0f\n", r.tokens_per_second);
  }
  std::printf(
      "held-out bits: per byte. max violation: load of the busiest expert over the mean, minus 1.\n"
      "* not causal: its routes look at later bytes, so its figure does not compare.\n");
}

void draw(const Options& options, const std::vector<Result>& all) {
  std::vector<Series> curves;
  std::vector<std::pair<std::string, std::vector<double>>> loads;
  double top = 0;
  for (const Result& r : all) {
    curves.push_back(r.curve);
    if (!r.causal) curves.back().name += " (not causal)";
    // The curves' second eighth is where the plot begins: before it they all fall from 8.
    top =
        std::max(top, r.curve.points[std::min(r.curve.points.size() - 1, r.curve.points.size() / 8)].second);
    for (std::size_t b = 0; r.routed && b < r.loads.size(); ++b) {
      loads.emplace_back(r.curve.name + ", block " + std::to_string(b + 1), r.loads[b]);
    }
  }
  const auto curve_path = options.out / "bits_per_byte.svg", load_path = options.out / "expert_loads.svg";
  draw_lines(curve_path, "Bits per byte on a part of the held-out text, same compute per token", "step",
             "bits per byte", curves, std::ceil(top * 5) / 5);
  draw_cells(load_path, "Load of every expert on the held-out text (1 = mean)", "expert", loads);
  std::printf("\nwritten: %s\n         %s\n         and the parameters, %s, which load to the same bits\n",
              curve_path.string().c_str(), load_path.string().c_str(),
              (options.out / "*.moe").string().c_str());
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--quick") {
      options.quick = true;
      options.steps = 12;
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
  const Text text(options.text.empty() ? read_repository(MOE_EXAMPLE_ROOT) : read_file(options.text),
                  kContext, kSequences, kLength, options.quick ? 4 : 48);
  std::printf(
      "%td bytes of text, %td steps of %td bytes, %td threads\n"
      "loss and held-out in bits per byte; tokens per second; load of the experts in both blocks\n",
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
  std::fprintf(stderr, "04_train_text: %s\n", error.what());
  return 1;
}
