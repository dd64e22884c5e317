// The message of an exception, for tests that compare all of it.
#pragma once

#include <exception>
#include <string>
#include <typeinfo>

namespace test {

/// what() if `call` throws an Error and no type derived from it; else what happened instead.
template <class Error, class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return typeid(error) == typeid(Error) ? error.what() : "derived type: " + std::string(error.what());
  } catch (const std::exception& error) {
    return "other type: " + std::string(error.what());
  }
  return "nothing thrown";
}

}  // namespace test
