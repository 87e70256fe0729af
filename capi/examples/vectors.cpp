// The C++ header: a vector that never moves its elements, std::pmr containers on an arena, and exceptions for refusals.
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "pagewise.hpp"

static int wrong = 0;
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::cerr << __FILE__ << ":" << __LINE__ << ": " << #condition << "\n";                \
            ++wrong;                                                                               \
        }                                                                                          \
    } while (0)

static void vectors() {
    pagewise::options limited;
    const std::size_t page = pagewise_page_size();
    limited.limit = 16 * page;
    pagewise::vector<std::string> words(std::size_t{1} << 20, &limited);
    words.emplace_back("first");
    const std::string &first = words[0];
    try {
        for (;;) words.push_back("a word that is too long for the string itself: " + std::to_string(words.size()));
    } catch (const pagewise::error &error) {
        CHECK(error.status() == PAGEWISE_ERROR_LIMIT);
        std::cout << words.size() << " words, then: " << error.what() << "\n";
    }
    CHECK(words.size() == 16 * page / sizeof(std::string));
    CHECK(&first == &words[0] && first == "first"); // nothing moved
    std::size_t letters = 0;
    for (const std::string &word : words) letters += word.size();
    CHECK(letters > words.size() * 40);
    pagewise::vector<std::string> others = std::move(words);
    CHECK(words.size() == 0 && words.begin() == words.end() && others.back().size() > 40);
    others.resize(3);
    CHECK(others.size() == 3 && others.at(0) == "first");
    try {
        others.at(3) = "";
        CHECK(false);
    } catch (const std::out_of_range &) {
    }

    // Elements are destroyed once.
    auto counted = std::make_shared<int>(7);
    {
        pagewise::vector<std::shared_ptr<int>> shared(1000);
        shared.resize(10);
        for (int i = 0; i < 500; i++) shared.push_back(counted);
        shared.pop_back();
        CHECK(counted.use_count() == 500);
        pagewise::vector<std::shared_ptr<int>> assigned(1);
        assigned.push_back(counted);
        assigned = std::move(shared);
        CHECK(counted.use_count() == 500 && assigned.size() == 509);
        try {
            while (true) assigned.push_back(counted);
        } catch (const std::length_error &) {
            CHECK(assigned.size() == 1000);
        }
    }
    CHECK(counted.use_count() == 1);
}

static void memory_resources() {
    pagewise::options limited;
    limited.limit = std::size_t{1} << 20;
    pagewise::arena arena(std::size_t{1} << 30, &limited);
    pagewise::memory_resource resource(arena), same(arena);
    CHECK(resource == same);
    {
        std::pmr::vector<std::pmr::string> names(&resource);
        for (int i = 0; i < 100; i++) names.emplace_back("a name that is kept in the arena, too: " + std::to_string(i));
        CHECK(names[99].size() > 40 && names[99].get_allocator().resource() == &resource);
        CHECK(arena.used() > 4000 && arena.committed() >= arena.used());
    }
    try {
        std::pmr::vector<char> large(std::size_t{2} << 20, &resource);
        CHECK(false);
    } catch (const std::bad_alloc &) {
    }
    arena.reset();
    const std::size_t start = arena.checkpoint();
    CHECK(arena.allocate(100, 64) != nullptr && arena.used() >= 100);
    arena.rewind(start);
    CHECK(arena.used() == 0);
}

static void attempts() {
    pagewise::budget budget(4 * pagewise_page_size());
    pagewise::options options;
    options.budget = budget.get();
    pagewise::region region(100 * pagewise_page_size(), &options);
    volatile std::byte *bytes = region.data();
    try {
        pagewise::attempt([&] {
            for (std::size_t at = 0; at < region.size(); at += 8) bytes[at] = std::byte{7};
        });
        CHECK(false);
    } catch (const pagewise::refused &refused) {
        CHECK(refused.status() == PAGEWISE_ERROR_LIMIT && refused.refusal().region == region.data());
        CHECK(refused.refusal().offset == region.committed() && region.stats().refused == 1);
        std::cout << refused.what() << "\n";
    }
    // An exception that is thrown inside goes on; what is not refused returns.
    try {
        pagewise::attempt([] { throw std::string("thrown inside"); });
        CHECK(false);
    } catch (const std::string &text) {
        CHECK(text == "thrown inside");
    }
    int runs = 0;
    pagewise::attempt([&] { ++runs; });
    CHECK(runs == 1);
    region.decommit(0, region.size());
    CHECK(budget.used() == 0);
    char byte = 5;
    region.write(3, &byte, 1);
    region.read(2, &byte, 1);
    CHECK(byte == 0);
    try {
        region.commit(region.size(), 1);
        CHECK(false);
    } catch (const pagewise::error &error) {
        CHECK(error.status() == PAGEWISE_ERROR_ARGUMENT);
    }
    pagewise::region moved = std::move(region);
    CHECK(moved.size() == 100 * pagewise_page_size());
}

int main() {
    vectors();
    memory_resources();
    attempts();
    return wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
