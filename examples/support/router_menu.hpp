// The menu: every router of the library by name. 04_train_text --router trains them, moe_bench route/<name>
// times them. A router is one line of the table of its group, in menu/*.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "any_router.hpp"
#include "moe/core/input.hpp"

namespace example {

/// What a router is made for.
struct RouterSetting {
  Index width = 0;                     // D
  Index experts = 0;                   // E, a power of two >= 8
  Index k = 0;                         // K: experts of a row, or about as many on average
  Index steps = 1;                     // of the training
  std::uint64_t number = 0;            // of the layer: what is drawn and never trained differs between layers
  std::vector<std::int64_t> counts{};  // [256] of the bytes in the text
  Index layers = 1;                    // of the model

  /// Blocks of 2 K experts.
  Index groups() const { return experts / (2 * k); }
};

/// What a line may say besides.
struct MenuExtras {
  const char* reads = "";  // columns, as RouterColumns makes them
  /// Options of the calls when `part` of the training is over, in [0, 1].
  moe::CallOptions (*options)(const RouterSetting&, double part) = nullptr;
  /// Its last experts compute nothing: one constant, one copy, one zero (expert/bank/zero_computation.hpp).
  bool zero_computation = false;
  /// Its choices are sampled, and it learns from what they cost: the backward brings an advantage.
  bool sampled = false;
  /// Its task is that of a sequence's first byte, for all of its rows.
  bool task_by_segment = false;
  /// It looks at a sequence, and yet at nothing of later rows.
  bool causal = false;
};

struct MenuRouter {
  const char* name;
  const char* paper;  // arXiv id
  const char* what;
  std::function<AnyRouter(const RouterSetting&)> make;  // not initialised
  MenuExtras extras;

  /// `make_router(setting)` gives a router of the library.
  template <class F>
  MenuRouter(const char* name_, const char* paper_, const char* what_, F make_router, MenuExtras extras_ = {})
      : name(name_),
        paper(paper_),
        what(what_),
        make([make_router](const RouterSetting& s) { return AnyRouter(make_router(s)); }),
        extras(extras_) {}
};

/// Ordered by name.
const std::vector<MenuRouter>& router_menu();

/// Null if there is none of that name.
const MenuRouter* find_router(const std::string& name);
/// Throws std::runtime_error with the names that are nearest.
const MenuRouter& router_named(const std::string& name);
/// What to say of a name that none of `names` is: those that are nearest.
std::string nothing_called(const std::string& name, const std::vector<std::string>& names);

}  // namespace example
