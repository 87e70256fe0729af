// The same in C++, with the installed C++ header.
#include <iostream>
#include <pagewise.hpp>

int main() {
    pagewise::vector<int> numbers(1 << 20);
    for (int i = 0; i < 100000; i++) numbers.push_back(i);
    std::cout << "consumed: " << numbers.size() << " numbers\n";
    return numbers[99999] == 99999 ? 0 : 1;
}
