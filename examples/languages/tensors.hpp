// Reads the files of `rnn-harness vectors`; docs/other-languages.md explains them. Numbers become doubles.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

using Tensors = std::map<std::string, std::vector<double>>;

inline Tensors read_tensors(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), {});
    unsigned long long size = 0, start = 0, end = 0;
    std::memcpy(&size, all.data(), 8);
    const std::string header = all.substr(8, size);
    const char* data = all.data() + 8 + size;
    Tensors found;
    for (std::size_t at = 0; (at = header.find("\":{\"dtype\":\"F", at)) != std::string::npos; ++at) {
        const auto begin = header.rfind('"', at - 1) + 1;
        const bool wide = header.compare(at + 13, 2, "64") == 0;
        std::sscanf(header.c_str() + header.find("data_offsets", at), "data_offsets\":[%llu,%llu", &start, &end);
        for (; start < end; start += wide ? 8 : 4) {
            double number; float narrow;
            std::memcpy(&number, data + start, wide ? 8 : 4), std::memcpy(&narrow, data + start, 4);
            found[header.substr(begin, at - begin)].push_back(wide ? number : narrow);
        }
    }
    return found;
}
