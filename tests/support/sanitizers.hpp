// MOE_TEST_SANITIZED: 1 in a program whose memory a sanitizer manages (g++ says so by a macro, clang by a
// feature).
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOE_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MOE_TEST_SANITIZED 1
#endif
#endif
#ifndef MOE_TEST_SANITIZED
#define MOE_TEST_SANITIZED 0
#endif
