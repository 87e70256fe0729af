/* pagewise for C++17: owners of regions, reservations, budgets and arenas; a vector that never moves its elements; a
 * std::pmr::memory_resource; and exceptions in place of statuses. See pagewise.h for what each function does. */
#ifndef PAGEWISE_HPP
#define PAGEWISE_HPP

#include <cstddef>
#include <exception>
#include <initializer_list>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "pagewise.h"

namespace pagewise {

/* What a call that failed throws. */
class error : public std::runtime_error {
public:
    error(pagewise_status status, const std::string &text)
        : std::runtime_error(text), status_(status) {}
    pagewise_status status() const noexcept { return status_; }

private:
    pagewise_status status_;
};

/* What `attempt` throws for a refused access. */
class refused : public error {
public:
    explicit refused(const pagewise_refusal &refusal)
        : error(refusal.reason, text_of(refusal)), refusal_(refusal) {}
    const pagewise_refusal &refusal() const noexcept { return refusal_; }

private:
    static std::string text_of(const pagewise_refusal &refusal) {
        char text[200] = "";
        pagewise_refusal_text(&refusal, text, sizeof text);
        return text;
    }
    pagewise_refusal refusal_;
};

/* Throws the last error, unless the status is PAGEWISE_OK. */
inline void check(pagewise_status status) {
    if (status != PAGEWISE_OK) throw error(status, pagewise_last_error());
}

/* Options with their defaults. */
struct options : pagewise_options {
    options() { check(pagewise_options_default(this, sizeof(pagewise_options))); }
};

namespace detail {
template <class T, void (*Free)(T *)>
struct deleter {
    void operator()(T *object) const noexcept { Free(object); }
};
template <class T, void (*Free)(T *)>
using owner = std::unique_ptr<T, deleter<T, Free>>;
} // namespace detail

/* Memory that commits itself when it is touched. */
class region {
public:
    explicit region(std::size_t len, const pagewise_options *with = nullptr) {
        pagewise_region *made = nullptr;
        check(pagewise_region_new(len, with, &made));
        owned_.reset(made);
    }
    pagewise_region *get() const noexcept { return owned_.get(); }
    std::byte *data() const noexcept { return static_cast<std::byte *>(pagewise_region_ptr(get())); }
    std::size_t size() const noexcept { return pagewise_region_len(get()); }
    std::size_t committed() const noexcept { return pagewise_region_committed(get()); }
    pagewise_stats stats() const {
        pagewise_stats stats;
        check(pagewise_region_stats(get(), &stats, sizeof stats));
        return stats;
    }
    void commit(std::size_t offset, std::size_t len) { check(pagewise_region_commit(get(), offset, len)); }
    void decommit(std::size_t offset, std::size_t len) {
        check(pagewise_region_decommit(get(), offset, len));
    }
    void zero(std::size_t offset, std::size_t len) { check(pagewise_region_zero(get(), offset, len)); }
    void read(std::size_t offset, void *into, std::size_t len) const {
        check(pagewise_region_read(get(), offset, into, len, nullptr));
    }
    void write(std::size_t offset, const void *from, std::size_t len) {
        check(pagewise_region_write(get(), offset, from, len, nullptr));
    }

private:
    detail::owner<pagewise_region, pagewise_region_free> owned_;
};

/* Memory that is committed explicitly. */
class reservation {
public:
    explicit reservation(std::size_t len, const pagewise_options *with = nullptr) {
        pagewise_reservation *made = nullptr;
        check(pagewise_reservation_new(len, with, &made));
        owned_.reset(made);
    }
    pagewise_reservation *get() const noexcept { return owned_.get(); }
    std::byte *data() const noexcept {
        return static_cast<std::byte *>(pagewise_reservation_ptr(get()));
    }
    std::size_t size() const noexcept { return pagewise_reservation_len(get()); }
    std::size_t committed() const noexcept { return pagewise_reservation_committed(get()); }
    void commit(std::size_t offset, std::size_t len) {
        check(pagewise_reservation_commit(get(), offset, len));
    }
    void decommit(std::size_t offset, std::size_t len) {
        check(pagewise_reservation_decommit(get(), offset, len));
    }

private:
    detail::owner<pagewise_reservation, pagewise_reservation_free> owned_;
};

/* A commit limit that others share. */
class budget {
public:
    explicit budget(std::size_t bytes) {
        pagewise_budget *made = nullptr;
        check(pagewise_budget_new(bytes, &made));
        owned_.reset(made);
    }
    pagewise_budget *get() const noexcept { return owned_.get(); }
    std::size_t limit() const noexcept { return pagewise_budget_limit(get()); }
    std::size_t used() const noexcept { return pagewise_budget_used(get()); }
    std::size_t peak() const noexcept { return pagewise_budget_peak(get()); }

private:
    detail::owner<pagewise_budget, pagewise_budget_free> owned_;
};

/* Memory that is allocated by moving a pointer, and freed all at once. Destructors do not run. */
class arena {
public:
    explicit arena(std::size_t max_bytes, const pagewise_options *with = nullptr) {
        pagewise_arena *made = nullptr;
        check(pagewise_arena_new(max_bytes, with, &made));
        owned_.reset(made);
    }
    pagewise_arena *get() const noexcept { return owned_.get(); }
    void *allocate(std::size_t size, std::size_t align = 0) {
        void *memory = nullptr;
        check(pagewise_arena_alloc(get(), size, align, &memory));
        return memory;
    }
    std::size_t used() const noexcept { return pagewise_arena_used(get()); }
    std::size_t committed() const noexcept { return pagewise_arena_committed(get()); }
    std::size_t checkpoint() {
        std::size_t checkpoint = 0;
        check(pagewise_arena_checkpoint(get(), &checkpoint));
        return checkpoint;
    }
    void rewind(std::size_t checkpoint) { check(pagewise_arena_rewind(get(), checkpoint)); }
    void reset() { check(pagewise_arena_reset(get())); }

private:
    detail::owner<pagewise_arena, pagewise_arena_free> owned_;
};

/* An arena as the memory of std::pmr containers. It must outlive them, and be neither rewound nor reset below what they
 * hold. Deallocating does nothing. Where the arena is full it throws std::bad_alloc, as others do. */
class memory_resource : public std::pmr::memory_resource {
public:
    explicit memory_resource(arena &of) noexcept : arena_(&of) {}

private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override {
        void *memory = nullptr;
        if (pagewise_arena_alloc(arena_->get(), bytes, alignment, &memory) != PAGEWISE_OK)
            throw std::bad_alloc();
        return memory;
    }
    void do_deallocate(void *, std::size_t, std::size_t) noexcept override {}
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
        const auto *same = dynamic_cast<const memory_resource *>(&other);
        return same != nullptr && same->arena_ == arena_;
    }

    arena *arena_;
};

/* A vector whose elements never move: references and iterators stay valid while it grows. It has addresses for `max_size`
 * elements from the start, and commits them as it grows, an eighth ahead. */
template <class T>
class vector {
public:
    using value_type = T;
    using iterator = T *;
    using const_iterator = const T *;

    explicit vector(std::size_t max_size, const pagewise_options *with = nullptr)
        : memory_(bytes_of(max_size), with), max_size_(max_size) {
        static_assert(alignof(T) <= 4096, "elements are aligned as pages at most");
    }
    vector(vector &&other) noexcept
        : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, 0)),
          ready_(std::exchange(other.ready_, 0)), max_size_(std::exchange(other.max_size_, 0)) {}
    vector &operator=(vector &&other) noexcept {
        vector taken(std::move(other));
        std::swap(memory_, taken.memory_);
        std::swap(size_, taken.size_);
        std::swap(ready_, taken.ready_);
        std::swap(max_size_, taken.max_size_);
        return *this;
    }
    ~vector() { clear(); }

    T *data() noexcept { return reinterpret_cast<T *>(memory_.data()); }
    const T *data() const noexcept { return reinterpret_cast<const T *>(memory_.data()); }
    std::size_t size() const noexcept { return size_; }
    std::size_t max_size() const noexcept { return max_size_; }
    /* Elements that memory is committed for. */
    std::size_t capacity() const noexcept { return ready_; }
    bool empty() const noexcept { return size_ == 0; }
    T &operator[](std::size_t index) noexcept { return data()[index]; }
    const T &operator[](std::size_t index) const noexcept { return data()[index]; }
    T &at(std::size_t index) {
        if (index >= size_) throw std::out_of_range("pagewise::vector");
        return data()[index];
    }
    T &back() noexcept { return data()[size_ - 1]; }
    iterator begin() noexcept { return size_ == 0 ? nullptr : data(); }
    iterator end() noexcept { return size_ == 0 ? nullptr : data() + size_; }
    const_iterator begin() const noexcept { return size_ == 0 ? nullptr : data(); }
    const_iterator end() const noexcept { return size_ == 0 ? nullptr : data() + size_; }

    /* Commits memory for so many elements in all. */
    void reserve(std::size_t elements) {
        if (elements <= ready_) return;
        if (elements > max_size_) throw std::length_error("pagewise::vector");
        const std::size_t from = ready_ * sizeof(T);
        memory_.commit(from, elements * sizeof(T) - from);
        ready_ = elements;
    }
    template <class... Arguments>
    T &emplace_back(Arguments &&...arguments) {
        if (size_ == ready_) grow();
        T *made = ::new (static_cast<void *>(data() + size_)) T(std::forward<Arguments>(arguments)...);
        ++size_;
        return *made;
    }
    void push_back(const T &value) { emplace_back(value); }
    void push_back(T &&value) { emplace_back(std::move(value)); }
    void pop_back() noexcept {
        --size_;
        std::destroy_at(data() + size_);
    }
    void resize(std::size_t elements) {
        while (size_ > elements) pop_back();
        reserve(elements);
        while (size_ < elements) emplace_back();
    }
    /* The memory stays committed. */
    void clear() noexcept {
        while (size_ > 0) pop_back();
    }

private:
    static std::size_t bytes_of(std::size_t elements) {
        if (elements > std::numeric_limits<std::size_t>::max() / sizeof(T))
            throw std::length_error("pagewise::vector");
        return elements * sizeof(T);
    }
    void grow() {
        if (size_ == max_size_) throw std::length_error("pagewise::vector");
        const std::size_t page = pagewise_page_size() / sizeof(T) + 1;
        std::size_t ahead = size_ / 8 > page ? size_ / 8 : page;
        if (ahead > max_size_ - size_) ahead = max_size_ - size_;
        /* Where a limit refuses that, one element may still fit. */
        if (pagewise_reservation_commit(memory_.get(), size_ * sizeof(T), ahead * sizeof(T)) == PAGEWISE_OK)
            ready_ = size_ + ahead;
        else
            reserve(size_ + 1);
    }

    reservation memory_;
    std::size_t size_ = 0;
    std::size_t ready_ = 0;
    std::size_t max_size_;
};

/* Runs a function, and throws `refused` if an access in it is refused: see pagewise_try for what must not be skipped (every
 * destructor between the access and here is!). An exception that the function throws goes on in the caller. */
template <class Function>
void attempt(Function &&function) {
    struct call {
        std::remove_reference_t<Function> *function;
        std::exception_ptr thrown;
    } call{std::addressof(function), nullptr};
    const auto run = [](void *context) noexcept {
        auto *call = static_cast<struct call *>(context);
        try {
            (*call->function)();
        } catch (...) {
            call->thrown = std::current_exception();
        }
    };
    pagewise_refusal refusal{};
    refusal.reason = PAGEWISE_OK;
    const pagewise_status status = pagewise_try(+run, &call, &refusal);
    if (call.thrown) std::rethrow_exception(call.thrown);
    if (status != PAGEWISE_OK && refusal.reason != PAGEWISE_OK) throw refused(refusal);
    check(status);
}

} // namespace pagewise

#endif
