// UniqueFunction: a callback that is moved, not copied, so that it may own what it captures.
// (std::move_only_function is C++23.) Small callables are stored in place.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

template <typename Signature>
class UniqueFunction;

// Calling an empty one is a bug (CHECK). Not thread-safe; may be moved across threads.
template <typename R, typename... Args>
class UniqueFunction<R(Args...)> {
 public:
  UniqueFunction() = default;
  UniqueFunction(std::nullptr_t) {}  // NOLINT: implicit on purpose
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, UniqueFunction> && std::is_invocable_r_v<R, F&, Args...>)
      UniqueFunction(F&& f) {  // NOLINT: implicit on purpose
    using Callable = std::remove_cvref_t<F>;
    if constexpr (fits<Callable>()) {
      ::new (storage_) Callable(std::forward<F>(f));
      operations_ = &kInPlace<Callable>;
    } else {
      *reinterpret_cast<Callable**>(storage_) = new Callable(std::forward<F>(f));
      operations_ = &kOnHeap<Callable>;
    }
  }
  UniqueFunction(UniqueFunction&& other) noexcept { take(other); }
  UniqueFunction& operator=(UniqueFunction&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~UniqueFunction() { reset(); }

  explicit operator bool() const { return operations_ != nullptr; }
  R operator()(Args... args) {
    CHECK(operations_ != nullptr);
    return operations_->call(storage_, std::forward<Args>(args)...);
  }

 private:
  struct Operations {
    R (*call)(void*, Args&&...);
    void (*move)(void* to, void* from);
    void (*destroy)(void*);
  };
  static constexpr size_t kSize = 6 * sizeof(void*);
  template <typename F>
  static constexpr bool fits() {
    return sizeof(F) <= kSize && alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;
  }
  template <typename F>
  static constexpr Operations kInPlace = {
      [](void* p, Args&&... args) -> R { return (*static_cast<F*>(p))(std::forward<Args>(args)...); },
      [](void* to, void* from) {
        ::new (to) F(std::move(*static_cast<F*>(from)));
        static_cast<F*>(from)->~F();
      },
      [](void* p) { static_cast<F*>(p)->~F(); }};
  template <typename F>
  static constexpr Operations kOnHeap = {
      [](void* p, Args&&... args) -> R { return (**static_cast<F**>(p))(std::forward<Args>(args)...); },
      [](void* to, void* from) { *static_cast<F**>(to) = *static_cast<F**>(from); },
      [](void* p) { delete *static_cast<F**>(p); }};

  void take(UniqueFunction& other) {
    operations_ = std::exchange(other.operations_, nullptr);
    if (operations_ != nullptr) operations_->move(storage_, other.storage_);
  }
  void reset() {
    if (operations_ != nullptr) std::exchange(operations_, nullptr)->destroy(storage_);
  }

  const Operations* operations_ = nullptr;
  alignas(std::max_align_t) std::byte storage_[kSize];
};

}  // namespace trilog
