// Trains small language models of bytes that differ in one thing: how the tokens find their experts. One of
// them is dense, with as many multiplications per token as two of eight experts. By default the text is this
// library's own sources and documents. It ends with a table, two plots and the trained parameters.
//
//   04_train_text [--router NAME[,NAME...]|all] [--list]
//                 [--text FILE] [--steps N] [--seed N] [--threads N] [--out FOLDER] [--quick]
//
// --list prints the routers there are, the menu of support/router_menu.hpp, the techniques that are more than
// a router, support/layer_menu.hpp, and those that are no layer of this model, with the reason. The dense
// model and top_k_softmax run beside whatever is named.
#define EIGEN_DONT_PARALLELIZE  // the threads are the executor's

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <numbers>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/moe.hpp"
#include "support/any_bank.hpp"
#include "support/any_layer.hpp"
#include "support/any_router.hpp"
#include "support/layer_menu.hpp"
#include "support/progress.hpp"
#include "support/router_menu.hpp"
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

constexpr const char* kDense = "dense";
constexpr const char* kBaseline = "top_k_softmax";

struct Options {
  std::vector<std::string> routers{"expert_choice", "hash", "relu", "null_experts"};
  bool list = false;
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

// ---- 1. The layers. Most are a router and a bank of experts; everything else is the same for all. ----

constexpr Index kBlocks = 2;

/// What differs between the models.
struct Contestant {
  std::string name;
  std::function<std::unique_ptr<TextLayers>(const LayerSetting&)> layers;
  MenuExtras extras{};
  bool dense = false;
};

LayerSetting setting_of(const std::vector<std::int64_t>& counts, Index steps) {
  LayerSetting s;
  s.width = kWidth;
  s.experts = kExperts;
  s.k = kChosen;
  s.steps = steps;
  s.counts = counts;
  s.layers = kBlocks;
  s.hidden = kHidden;
  s.length = kLength;
  return s;
}

using FeedForward = moe::Glu<moe::Silu>;

AnyBank experts_of(const LayerSetting& s, bool zero_computation) {
  FeedForward experts({.experts = s.experts, .width = s.width, .hidden = s.hidden});
  experts.initialise(s.seed);
  if (!zero_computation) return AnyBank(std::move(experts));
  moe::ZeroComputation<float> rest({.width = s.width, .zero = 1, .copy = 1, .constant = 1});
  return AnyBank(moe::Composite(std::move(experts), std::move(rest)));
}

/// One expert as wide as K of the others, which a table of one entry per byte sends every token to.
Contestant dense() {
  const auto layer = [](const LayerSetting& s) {
    const std::vector<moe::ExpertId> everything_to_0(256, 0);
    return plain_layer(AnyRouter(moe::HashRouter<float>(moe::HashTable::own(everything_to_0, 256, 1))),
                       glu_bank(1, s.width, s.k * s.hidden, s.seed));
  };
  return {.name = kDense,
          .layers = [=](const LayerSetting& s) { return MenuLayer::separate(s, layer); },
          .dense = true};
}
Contestant of_the_menu(const std::string& name) {
  if (const MenuLayer* const layer = find_layer(name)) {
    return {.name = name, .layers = layer->make, .extras = layer->extras};
  }
  const MenuRouter& router = router_named(name);
  const auto layer = [&router](const LayerSetting& s) {
    return plain_layer(menu_router(router.name, s), experts_of(s, router.extras.zero_computation));
  };
  return {.name = name,
          .layers = [=](const LayerSetting& s) { return MenuLayer::separate(s, layer); },
          .extras = router.extras};
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

Result train(const Contestant& who, const Options& options, const Text& text, moe::PoolExecutor& pool) {
  LayerSetting setting = setting_of(text.counts(), options.steps);
  const auto columns_of = [&](const Batch& batch) {
    RouterColumns columns(batch.token_id, batch.length, setting.counts, kExperts, kChosen);
    columns.set_task_by_segment(who.extras.task_by_segment);
    return columns;
  };
  const auto make_model = [&](std::uint64_t seed) {
    setting.seed = seed;
    return TextModel(kContext, who.layers(setting), columns_of, seed, pool);
  };
  const auto options_at = [&](Index step) {
    const double part = static_cast<double>(step) / static_cast<double>(options.steps);
    return who.extras.options == nullptr ? moe::CallOptions{} : who.extras.options(setting, part);
  };
  const char* const name = who.name.c_str();
  auto model = make_model(options.seed);
  model.set_sampled(who.extras.sampled);
  moe::AdamW<float> optimiser({.beta2 = 0.99, .decay = 0.1});
  const auto rate = learning_rate(options.steps);

  Result result;
  result.curve.name = name;
  result.causal = model.by_row() || who.extras.causal;
  result.routed = !who.dense;
  Progress progress(options.steps);
  const Index stride = std::max(Index{1}, text.held_out_batches() / 4);
  double seconds = 0, loss = 0;
  for (Index step = 0; step <= options.steps; ++step) {
    model.set_options(options_at(step));
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
      std::snprintf(line, sizeof line, "%-20s step %4td  loss %.3f  held-out %.3f  %5.0fk/s  %s %s", name,
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
  loaded.set_options(options_at(options.steps));
  loaded.load(path.c_str());
  if (held_out_bits(loaded, text, 1) != result.bits)
    throw std::runtime_error(path + " gives another held-out loss");
  return result;
}

// ---- 3. The contest. ----

constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#e69f00", "#009e73", "#aa4499",
                                    "#56b4e9", "#882255", "#999933", "#44aa99", "#332288"};

std::vector<Result> train_all(const Options& options, const Text& text, Index threads) {
  moe::PoolExecutor pool(threads);
  std::vector<Result> all{train(dense(), options, text, pool)};
  all[0].curve.dashed = true;
  all[0].curve.colour = "#555555";
  std::vector<std::string> names{kBaseline};
  for (const std::string& name : options.routers) {
    if (name != kDense && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    Result result = train(of_the_menu(names[i]), options, text, pool);
    result.curve.dashed = !result.causal;
    result.curve.colour = kColours[i % std::size(kColours)];
    all.push_back(std::move(result));
  }
  return all;
}

/// Every name once, with what is said of it; layers first.
struct MenuLine {
  const char *name, *paper, *what;
  const MenuExtras* extras;
};
std::vector<MenuLine> menu_lines() {
  std::vector<MenuLine> lines;
  for (const MenuLayer& l : layer_menu()) lines.push_back({l.name, l.paper, l.what, &l.extras});
  for (const MenuRouter& r : router_menu()) {
    if (find_layer(r.name) == nullptr) lines.push_back({r.name, r.paper, r.what, &r.extras});
  }
  std::sort(lines.begin(), lines.end(),
            [](const MenuLine& a, const MenuLine& b) { return std::string_view(a.name) < b.name; });
  return lines;
}

/// Whether a trained model of that name lets a byte depend on later ones.
bool is_causal(const MenuLine& line, const std::vector<std::int64_t>& counts) {
  LayerSetting setting = setting_of(counts, 1);
  return line.extras->causal || of_the_menu(line.name).layers(setting)->by_row();
}

void print_list() {
  const std::vector<std::int64_t> counts(256, 1);
  for (const MenuLine& line : menu_lines()) {
    std::printf("%-24s %-11s %s%s\n", line.name, line.paper, line.what, is_causal(line, counts) ? "" : " *");
    if (*line.extras->reads != '\0') std::printf("%36s reads %s\n", "", line.extras->reads);
  }
  std::printf(
      "* not causal: a byte's prediction sees later bytes of its batch; trained all the same, and marked.\n"
      "\nNot here:\n");
  for (const NotOnTheMenu& other : not_on_the_menu()) {
    std::printf("%-24s %-11s %s\n", other.name, other.paper, other.why);
  }
}

void print_table(const std::vector<Result>& all) {
  std::printf("\n%-26s %14s %16s %16s %12s\n", "router", "held-out bits", "experts/token", "max violation",
              "tokens/s");
  for (const Result& r : all) {
    const std::string name = r.curve.name + (r.causal ? "" : " *");
    std::printf("%-26s %14.4f ", name.c_str(), r.bits);
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

/// "a,b" or all of the menu. Throws for a name that is not on it.
std::vector<std::string> names_of(const std::string& text) {
  std::vector<std::string> all, names;
  for (const MenuLine& line : menu_lines()) all.push_back(line.name);
  if (text == "all") return all;
  all.push_back(kDense);
  std::istringstream in(text);
  for (std::string name; std::getline(in, name, ',');) {
    for (const NotOnTheMenu& other : not_on_the_menu()) {
      if (name == other.name) throw std::runtime_error(name + " is not trained here: it " + other.why);
    }
    if (std::find(all.begin(), all.end(), name) == all.end()) {
      throw std::runtime_error(nothing_called(name, all));
    }
    names.push_back(name);
  }
  return names;
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
    if (option == "--list") {
      options.list = true;
      continue;
    }
    if (i + 1 == argc) throw std::runtime_error("unknown option or missing value: " + option);
    const std::string value = argv[++i];
    if (option == "--router") {
      options.routers = names_of(value);
    } else if (option == "--text") {
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
  if (options.list) {
    print_list();
    return 0;
  }
  std::filesystem::create_directories(options.out);
  const Text text(options.text.empty() ? read_repository(MOE_EXAMPLE_ROOT) : read_file(options.text),
                  kContext, kSequences, kLength, options.quick ? 2 : 48);
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
