// Reads the files of `rnn-harness vectors`; docs/other-languages.md explains them. Numbers become doubles.
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

using Tensors = std::map<std::string, std::vector<double>>;

inline Tensors read_tensors(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), {});
    std::uint64_t size = 0;
    std::memcpy(&size, all.data(), 8);
    const std::string header = all.substr(8, size);
    const char* data = all.data() + 8 + size;
    const std::regex one(R"re("([^"]+)": \{"dtype": "F(\d+)", "shape": [^\]]*\], "data_offsets": \[(\d+), (\d+)\])re");
    Tensors found;
    for (std::sregex_iterator it(header.begin(), header.end(), one), end; it != end; ++it) {
        const bool wide = (*it)[2] == "64";
        for (auto at = std::stoull((*it)[3]); at < std::stoull((*it)[4]); at += wide ? 8 : 4) {
            double number; float narrow;
            std::memcpy(&number, data + at, wide ? 8 : 4), std::memcpy(&narrow, data + at, 4);
            found[(*it)[1]].push_back(wide ? number : narrow);
        }
    }
    return found;
}
