#include "moe/core/near_miss.hpp"

#include "support/catch.hpp"

namespace {

using moe::impl::Hook;

template <class Part, Hook... kHooks>
constexpr bool kNear = moe::impl::near_miss<Part, kHooks...>();

// One edit of each kind.
struct Inserted {
  const double* selection_biass() const { return nullptr; }
};
struct Deleted {
  const double* selection_bis() const { return nullptr; }
};
struct Replaced {
  const double* selection_bins() const { return nullptr; }
};
struct Swapped {
  const double* selection_bais() const { return nullptr; }
};
static_assert(kNear<Inserted, Hook::selection_bias> && kNear<Deleted, Hook::selection_bias> &&
              kNear<Replaced, Hook::selection_bias> && kNear<Swapped, Hook::selection_bias>);
static_assert(!kNear<Inserted, Hook::backward> && kNear<Inserted, Hook::backward, Hook::selection_bias>);

// At the first and the last letter, at a doubled letter, an underscore.
struct Ends {
  void oward();  // two edits
  void ebackward();
  void mostt();
  void selec();
  void coeficient();
  void visitstate();
};
static_assert(!kNear<Ends, Hook::forward> && kNear<Ends, Hook::backward> && kNear<Ends, Hook::most> &&
              kNear<Ends, Hook::select> && kNear<Ends, Hook::coefficient> && kNear<Ends, Hook::visit_state>);
struct Tripled {
  void coeffficient();
};
struct Carried {
  int cary_width() const { return 0; }
};
static_assert(kNear<Carried, Hook::carry_width> && !kNear<Tripled, Hook::carry_width>);
struct TwoEdits {
  void coefffficient();
  void on_stp_edn();
};
static_assert(kNear<Tripled, Hook::coefficient> && !kNear<TwoEdits, Hook::coefficient, Hook::on_step_end>);

struct Sampled {
  double log_probabilty() const { return 0; }
  void log_probability_backwards() {}
};
static_assert(kNear<Sampled, Hook::log_probability> && kNear<Sampled, Hook::log_probability_backward> &&
              !kNear<Sampled, Hook::probability, Hook::probability_backward>);

// Members of any kind, of a base as well, public or not.
struct Template {
  template <class Visitor>
  void visit_states(Visitor&) {}
};
struct Overloads {
  void on_step_edn() {}
  void on_step_edn(int) {}
};
struct Data {
  int check0 = 0;  // digits are no letters
  int checks = 0;
};
struct Type {
  using couplings = int;
};
struct Derived : Template {};
class Private {
  void backwards() {}
  int some() const { return check_; }
  int check_ = 0;  // how the house calls private data
};
static_assert(kNear<Template, Hook::visit_state> && kNear<Overloads, Hook::on_step_end> &&
              kNear<Data, Hook::check> && kNear<Type, Hook::coupling> && kNear<Derived, Hook::visit_state>);
static_assert(kNear<Private, Hook::backward> && !kNear<Private, Hook::check>);

// Whoever has the hook may have a neighbour of it too.
struct Both {
  int measures = 0;
  void measure() {}
  template <class Visitor>
  void visit_state(Visitor&) {}
  void visit_stat() {}
};
static_assert(!kNear<Both, Hook::measure, Hook::visit_state>);
static_assert(moe::impl::refuse_near_misses<Both, Hook::measure, Hook::visit_state, Hook::limit>());

// Unknown names.
struct Final final {
  void backwards() {}
};
union Union {
  int checks;
};
static_assert(!kNear<Final, Hook::backward> && !kNear<Union, Hook::check> && !kNear<int, Hook::check>);

}  // namespace

// Parts of the library, by the namespace that they are in, whatever they hold; and what is no such part.
MOE_NAMESPACE_BEGIN
namespace near_miss_test {
template <class>
struct Ours {
  void backwards() {}
};
}  // namespace near_miss_test
MOE_NAMESPACE_END

namespace {

template <class>
struct Theirs {
  void backwards() {}
};
namespace moe_too {
using Alias = Theirs<int>;
}
template <class Part>
constexpr bool kIsOurs =
    !kNear<Part, Hook::backward> && moe::impl::refuse_near_misses<Part, Hook::backward>();
static_assert(kIsOurs<moe::near_miss_test::Ours<int>> && kIsOurs<moe::near_miss_test::Ours<Theirs<int>>>);
static_assert(kNear<Theirs<int>, Hook::backward> && kNear<moe_too::Alias, Hook::backward> &&
              kNear<Theirs<moe::near_miss_test::Ours<int>>, Hook::backward>);

// The name is right, the signature is not.
struct WrongArgument {
  void on_step_end(const char*) {}
};
template <class Part>
constexpr bool kStepEndFits = moe::impl::absent_or<Part, Hook::on_step_end>(requires(Part& part,
                                                                                     double stats) {
  part.on_step_end(stats);
});
struct RightArgument {
  void on_step_end(double) {}
};
static_assert(!kStepEndFits<WrongArgument> && kStepEndFits<RightArgument> && kStepEndFits<Data>);
static_assert(kStepEndFits<Final> && moe::impl::has_member<Private, Hook::backward>() == false);

// Every hook is looked for under its own name.
struct EveryHook {
  int forward, backward, measure, check, coefficient, selection_bias, on_step_end, visit_state,
      visit_parameters, visit_storage, visit_packed, make_gradients, add_gradients, coupling, most, select,
      probability, probability_backward, experts, limit;
};
struct NoHook {};
template <Hook... kHooks>
constexpr bool kAreNames =
    ((moe::impl::has_member<EveryHook, kHooks>() && !moe::impl::has_member<NoHook, kHooks>()) && ...) &&
    !kNear<EveryHook, kHooks...> && !kNear<NoHook, kHooks...>;
static_assert(kAreNames<Hook::forward, Hook::backward, Hook::measure, Hook::check, Hook::coefficient,
                        Hook::selection_bias, Hook::on_step_end, Hook::visit_state, Hook::visit_parameters,
                        Hook::visit_storage, Hook::visit_packed, Hook::make_gradients, Hook::add_gradients,
                        Hook::coupling, Hook::most, Hook::select, Hook::probability,
                        Hook::probability_backward, Hook::experts, Hook::limit>);

TEST_CASE("near misses are found at compile time", "[core]") {
  // The static_asserts above are the test; these show that it ran.
  CHECK(kNear<Inserted, Hook::selection_bias>);
  CHECK_FALSE(kNear<Both, Hook::measure>);
}

}  // namespace
