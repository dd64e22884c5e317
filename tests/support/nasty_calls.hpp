// Calls that must end in a documented exception or in the right answer, whatever is handed in: counted, and
// those that end otherwise reported.
#pragma once

#include <exception>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "support/catch.hpp"

namespace test {

/// One bit each.
enum Ending : unsigned {
  answer = 1,
  shape = 2,
  config = 4,
  routing = 8,
  numeric = 16,
  workspace = 32,
  size = 64,
  state = 128,
  format = 256,
  file = 512,
  anything_else = 1024
};

struct Outcome {
  Ending ending = answer;
  std::string text;
};

template <class Call>
Outcome outcome_of(const Call& call) {
  const auto of = [](Ending ending, const std::exception& error) { return Outcome{ending, error.what()}; };
  try {
    call();
  } catch (const moe::shape_error& error) {
    return of(shape, error);
  } catch (const moe::config_error& error) {
    return of(config, error);
  } catch (const moe::route_error& error) {
    return of(routing, error);
  } catch (const moe::numeric_error& error) {
    return of(numeric, error);
  } catch (const moe::workspace_error& error) {
    return of(workspace, error);
  } catch (const moe::size_error& error) {
    return of(size, error);
  } catch (const moe::state_error& error) {
    return of(state, error);
  } catch (const moe::format_error& error) {
    return of(format, error);
  } catch (const moe::file_error& error) {
    return of(file, error);
  } catch (const std::exception& error) {
    return of(anything_else, error);
  }
  return {};
}

/// The endings that are right for a call; an exception's text names the argument ("": any).
struct Ends {
  unsigned endings;
  std::string argument = {};
};

class NastyCalls {
 public:
  /// `written`: what the call has written and must not, "" for nothing.
  void check(const std::string& name, const Ends& want, const Outcome& got, const std::string& written) {
    ++count_;
    const bool refused = got.ending != answer;
    const bool right = (got.ending & want.endings) != 0;
    const bool told =
        !refused || (got.text.rfind("moe: ", 0) == 0 && got.text.find(want.argument) != std::string::npos &&
                     got.text.find("expected") != std::string::npos);
    if (right && told && written.empty()) return;
    FAIL_CHECK(name << ": expected endings " << want.endings << " of " << want.argument << ", got "
                    << got.ending << " (" << got.text << ")" << (written.empty() ? "" : "; written:")
                    << written);
  }
  int count() const noexcept { return count_; }

 private:
  int count_ = 0;
};

}  // namespace test
