#include "moe/core/moved.hpp"

#include <string>
#include <utility>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/taken.hpp"

using moe::Index;
using moe::impl::Identity;
using moe::impl::Movable;
using moe::impl::Writer;

// NOLINTBEGIN(clang-analyzer-cplusplus.Move): what moves leave is what is looked at

TEST_CASE("what a movable value is moved from is zero", "[core][smoke]") {
  Movable<Index> a = Index{3}, copy = a, moved = test::taken(a);
  CHECK((a == 0 && copy == 3 && moved == 3));
  a = test::taken(moved);
  CHECK((a == 3 && moved == 0));
  Movable<Index>& same = a;
  a = std::move(same);
  CHECK(a == 3);
  struct Pair {
    int x = 1, y = 2;
  };
  Movable<Pair> pair = Pair{5, 6};
  const Movable<Pair> taken = test::taken(pair);
  CHECK((pair->x == 1 && pair.get().y == 2 && taken->x == 5));
}

TEST_CASE("objects have identities, which moves take along and copies do not", "[core][smoke]") {
  Identity a, other;
  CHECK((a && a.number() != other.number()));
  const auto number = a.number();
  const Identity copy(a);
  CHECK((copy && copy.number() != number && copy.number() != other.number()));
  Identity moved(test::taken(a));
  CHECK((!a && moved.number() == number));
  CHECK(!Identity(a));
  other = test::taken(moved);
  CHECK((!moved && other.number() == number));
  moved = other;
  CHECK((moved && moved.number() != number));
  moved = a;
  CHECK(!moved);
}

TEST_CASE("a tape knows its writer", "[core][smoke]") {
  const Identity own, other;
  Writer tape;
  const auto message = [&](const Writer& of, const Identity& reader) {
    return test::message_of<moe::state_error>([&] { of.require("tape", reader); });
  };
  const std::string empty = "moe: tape: expected a tape of a finished forward_train, got an empty one";
  CHECK(message(tape, own) == empty);
  tape.set(own);
  CHECK(message(tape, own) == "nothing thrown");
  CHECK(message(tape, other) ==
        "moe: tape: expected that of a forward_train of the same object, got another one's");
  const Writer moved = test::taken(tape);
  CHECK(message(tape, own) == empty);
  CHECK(message(moved, own) == "nothing thrown");
  moe::Buffer<float> kept(6);
  CHECK(moe::impl::taped("part", kept, 6) == kept.data());
  CHECK(test::message_of<moe::state_error>([&] { moe::impl::taped("part", kept, 8); }) ==
        "moe: tape of part: expected that of this part and batch, 8 values, got 6");
}

// NOLINTEND(clang-analyzer-cplusplus.Move)
