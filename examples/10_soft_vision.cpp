// Classifies small images, cut into patches, by models that differ in one thing: how patches find experts.
// Tokens choose their expert, experts choose their tokens, or every expert reads mixtures of all patches
// (Soft MoE), with the same number of rows through the experts; and one dense model of the same width. The
// images are digits that the program draws, or IDX files such as MNIST's. It ends with a table and a plot.
//
//   10_soft_vision [--idx IMAGES LABELS] [--save-idx FOLDER] [--steps N] [--images N] [--seed N]
//                  [--threads N] [--out FOLDER] [--quick]
//
// Of the images a fifth is held out.
#define EIGEN_DONT_PARALLELIZE  // the threads are the executor's

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/catalogue.hpp"
#include "support/images.hpp"
#include "support/progress.hpp"
#include "support/svg.hpp"
#include "support/vision_model.hpp"

using namespace example;

constexpr Index kWidth = 64;    // D
constexpr Index kHidden = 128;  // F
constexpr Index kExperts = 8;   // E
constexpr Index kPatch = 4;     // pixels across
constexpr Index kBatch = 32;    // images

struct Options {
  std::string idx_images, idx_labels;  // files; empty: drawn digits
  std::filesystem::path save_idx;      // a folder; empty: nowhere
  Index steps = 1200;
  Index images = 20000;  // to draw
  std::uint64_t seed = 1;
  Index threads = std::max(1u, std::thread::hardware_concurrency());
  std::filesystem::path out = MOE_EXAMPLE_OUT;
  bool quick = false;
};

struct Result {
  Series curve;  // errors over steps, in % of the held-out images
  double loss = 0, error = 0;
  double rows = 0;    // through the experts, for a patch
  double mixing = 0;  // multiplications of dense products for a patch, over those of an expert
  double images_per_second = 0;
};

// ---- 1. The layers: a router, and experts that are the same for all. ----

using FeedForward = moe::Glu<moe::Silu>;

FeedForward make_experts(Index count, std::uint64_t seed) {
  FeedForward experts({.experts = count, .width = kWidth, .hidden = kHidden});
  experts.initialise(seed);
  return experts;
}

auto dense(std::uint64_t seed, Index) {
  return moe::MoeLayer(moe::EveryExpert<float>(1), make_experts(1, seed));
}

auto token_choice(std::uint64_t seed, Index) {
  auto router = moe::switch_router<float>({.width = kWidth, .experts = kExperts});
  router.scorer().initialise(seed);
  return moe::MoeLayer(std::move(router), make_experts(kExperts, seed));
}

auto expert_choice(std::uint64_t seed, Index) {
  auto router = moe::expert_choice<float>({.width = kWidth, .experts = kExperts, .capacity_factor = 1});
  router.scorer().initialise(seed);
  return moe::MoeLayer(std::move(router), make_experts(kExperts, seed));
}

/// As many slots as patches, rounded down.
Index slots_of(Index patches) {
  return std::max<Index>(1, patches / kExperts);
}

auto soft(std::uint64_t seed, Index patches) {
  auto router = moe::soft_moe<float>({.width = kWidth, .experts = kExperts, .slots = slots_of(patches)});
  router.scorer().initialise(seed);
  router.scorer().set_scale(8);  // of cosines; with 1 every slot would begin as the mean of all patches
  return moe::SoftLayer(std::move(router), make_experts(kExperts, seed));
}

// ---- 2. Training. ----

/// Which images are learned from, and which are not.
struct Split {
  std::vector<Index> training, held_out;

  Split(Index count, std::uint64_t seed) {
    const moe::KeyedRandom random(seed, 3, moe::DrawStream::user);
    for (Index i = 0; i < count; ++i) {
      (random.uniform(static_cast<std::uint64_t>(i), 0) < 0.2 ? held_out : training).push_back(i);
    }
    if (held_out.empty() || static_cast<Index>(training.size()) < kBatch) {
      throw std::runtime_error("images: expected more than " + std::to_string(count));
    }
  }
};

std::vector<Index> labels_of(const Images& images, const std::vector<Index>& which) {
  std::vector<Index> label;
  for (const Index i : which) label.push_back(images.label[static_cast<std::size_t>(i)]);
  return label;
}

/// Mean loss, and errors in %, of up to `most` held-out images.
template <class Model>
std::pair<double, double> held_out(Model& model, const Images& images, const Patches& patches,
                                   const Split& split, std::size_t most) {
  const std::size_t count = std::min(most, split.held_out.size());
  double loss = 0;
  Index right = 0;
  for (std::size_t first = 0; first < count; first += kBatch) {
    const std::size_t last = std::min<std::size_t>(count, first + kBatch);
    const std::vector<Index> which(split.held_out.begin() + static_cast<Index>(first),
                                   split.held_out.begin() + static_cast<Index>(last));
    const auto score = model.score(patches.rows(which), labels_of(images, which));
    loss += score.loss * static_cast<double>(which.size());
    right += score.right;
  }
  const auto n = static_cast<double>(count);
  return {loss / n, 100 * (1 - static_cast<double>(right) / n)};
}

template <class Make>
Result train(const char* name, const char* colour, const Make& make, const Options& options,
             const Images& images, moe::PoolExecutor& pool) {
  const Patches patches(images, kPatch);
  const Index n = patches.per_image();
  const Split split(images.count(), options.seed);
  VisionModel model(n, patches.size(), make(options.seed + 100, n), make(options.seed + 200, n), options.seed,
                    pool);
  moe::AdamW<float> optimiser({.beta2 = 0.99, .decay = 0.05});
  const Index warm = options.steps / 20 + 1;
  const moe::WarmUp<moe::CosineSchedule> rate{
      {.from = 0, .steps = warm},
      moe::CosineSchedule({.from = 4e-3, .to = 1e-4, .steps = std::max(Index{1}, options.steps - warm)})};
  const moe::KeyedRandom random(options.seed, 5, moe::DrawStream::user);

  Result result;
  result.curve.name = name;
  result.curve.colour = colour;
  Progress progress(options.steps);
  double seconds = 0;
  for (Index step = 0; step <= options.steps; ++step) {
    if (step % std::max(Index{1}, options.steps / 40) == 0 || step == options.steps) {
      result.curve.points.emplace_back(step, held_out(model, images, patches, split, 256).second);
      model.clear_stats();
    }
    if (step == options.steps) break;

    const auto start = std::chrono::steady_clock::now();
    std::vector<Index> which;
    for (Index i = 0; i < kBatch; ++i) {
      const double draw = random.uniform(static_cast<std::uint64_t>(step), static_cast<std::uint32_t>(i));
      which.push_back(
          split.training[static_cast<std::size_t>(draw * static_cast<double>(split.training.size()))]);
    }
    const double loss = model.add_gradients(patches.rows(which), labels_of(images, which)).loss;
    moe::clip_by_global_norm(model, 1, pool);
    optimiser.step(model, rate.at(step), pool);
    model.on_step_end();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

    if (progress.wants(step + 1)) {
      char line[256];
      std::snprintf(line, sizeof line, "%-14s step %4td  loss %.3f  errors %5.1f %%  %5.0f images/s  %s %s",
                    name, step + 1, loss, result.curve.points.back().second,
                    static_cast<double>((step + 1) * kBatch) / seconds, load_bars(model.stats(0)).c_str(),
                    load_bars(model.stats(1)).c_str());
      progress.show(line);
    }
    model.clear_stats();
  }
  progress.finish();
  result.images_per_second = static_cast<double>(options.steps * kBatch) / seconds;
  std::tie(result.loss, result.error) = held_out(model, images, patches, split, split.held_out.size());
  result.rows = static_cast<double>(model.stats(0).pairs()) / static_cast<double>(model.stats(0).tokens);
  return result;
}

// ---- 3. The contest. ----

std::vector<Result> train_all(const Options& options, const Images& images, Index threads) {
  moe::PoolExecutor pool(threads);
  std::vector<Result> all;
  all.push_back(train("dense", "#555555", dense, options, images, pool));
  all.back().curve.dashed = true;
  all.push_back(train("token choice", "#0072b2", token_choice, options, images, pool));
  all.push_back(train("expert choice", "#d55e00", expert_choice, options, images, pool));
  all.push_back(train("Soft MoE", "#009e73", soft, options, images, pool));
  // Logits, dispatch and combine of a patch: three products with all slots; an expert has three matrices.
  const Index slots = kExperts * slots_of(Patches(images, kPatch).per_image());
  all.back().mixing = static_cast<double>(3 * slots * kWidth) / static_cast<double>(3 * kWidth * kHidden);
  return all;
}

void print_table(const std::vector<Result>& all) {
  std::printf("\n%-16s %12s %12s %16s %10s %12s\n", "model", "errors", "loss", "expert rows", "mixing",
              "images/s");
  for (const Result& r : all) {
    std::printf("%-16s %10.2f %% %12.4f %16.2f %10.2f %12.0f\n", r.curve.name.c_str(), r.error, r.loss,
                r.rows, r.mixing, r.images_per_second);
  }
  std::printf(
      "errors and loss of the held-out images; expert rows: through an expert, for a patch; mixing: the "
      "dense\n"
      "products of Soft MoE for a patch, over the multiplications of an expert; images/s in training.\n");
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--quick") {
      options.quick = true;
      options.steps = 12;
      options.images = 200;
      continue;
    }
    const int values = option == "--idx" ? 2 : 1;
    if (i + values >= argc) throw std::runtime_error("unknown option or missing value: " + option);
    const std::string value = argv[++i];
    if (option == "--idx") {
      options.idx_images = value;
      options.idx_labels = argv[++i];
    } else if (option == "--save-idx") {
      options.save_idx = value;
    } else if (option == "--steps") {
      options.steps = std::max(1L, std::stol(value));
    } else if (option == "--images") {
      options.images = std::max(1L, std::stol(value));
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
  const Images images = options.idx_images.empty() ? draw_digits(options.images, options.seed)
                                                   : read_idx(options.idx_images, options.idx_labels);
  if (!options.save_idx.empty()) {
    std::filesystem::create_directories(options.save_idx);
    write_idx(images, options.save_idx / "images.idx", options.save_idx / "labels.idx");
  }
  const Index patches = Patches(images, kPatch).per_image();
  std::printf("%td images of %td x %td, %td patches each, %td steps of %td images, %td threads\n",
              images.count(), images.side, images.side, patches, options.steps, kBatch, options.threads);
  const std::vector<Result> all = train_all(options, images, options.threads);
  print_table(all);
  std::vector<Series> curves;
  double top = 0;
  for (const Result& r : all) {
    curves.push_back(r.curve);
    top = std::max(top, r.curve.points[r.curve.points.size() / 8].second);
  }
  const auto path = options.out / "errors.svg";
  draw_lines(path, "Errors on a part of the held-out images, one row through an expert for each patch",
             "step", "errors, %", curves, std::ceil(top / 10) * 10);
  std::printf("\nwritten: %s\n", path.string().c_str());

  if (options.quick) {  // the numbers must not depend on the number of threads
    const Index other = options.threads == 1 ? 2 : 1;
    const std::vector<Result> again = train_all(options, images, other);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].curve.points != again[i].curve.points || all[i].loss != again[i].loss) {
        throw std::runtime_error(all[i].curve.name + ": other numbers with another number of threads");
      }
    }
    std::printf("same numbers with %td threads and %td\n", options.threads, other);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "10_soft_vision: %s\n", error.what());
  return 1;
}
