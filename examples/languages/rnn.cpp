// A recurrent layer in C++, checked by `rnn-harness check exec:./rnn`; docs/other-languages.md explains the protocol.
//   c++ -O2 rnn.cpp -o rnn
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

using Numbers = std::vector<double>;

// The text behind a field's name in the header, which is one line, with one space behind each colon.
static std::string field(const std::string& header, const std::string& name) {
    const auto at = header.find("\"" + name + "\": ");
    return at == std::string::npos ? "null" : header.substr(at + name.size() + 4);
}
static int number(const std::string& header, const char* name) { return std::atoi(field(header, name).c_str()); }
static bool flag(const std::string& header, const char* name) { return field(header, name)[0] == 't'; }

int main() {
    std::puts("{\"protocol\": 1, \"offers\": {\"dtype\": [\"float64\"]}, \"software\": \"rnn.cpp\"}");
    std::fflush(stdout);
    for (std::string header; std::getline(std::cin, header);) {
        Numbers all(number(header, "bytes") / sizeof(double));  // the arrays, one behind the other
        std::cin.read(reinterpret_cast<char*>(all.data()), all.size() * sizeof(double));
        if (flag(header, "training") && std::atof(field(header, "dropout").c_str()) > 0) {
            std::puts("{\"unsupported\": \"dropout in training\"}");
            std::fflush(stdout);
            continue;
        }
        const int T = number(header, "T"), N = number(header, "N"), I = number(header, "input_size");
        const int H = number(header, "hidden_size"), L = number(header, "num_layers");
        const int D = flag(header, "bidirectional") ? 2 : 1;
        const bool bias = flag(header, "bias"), first = flag(header, "batch_first");
        const bool relu = field(header, "nonlinearity").rfind("\"relu\"", 0) == 0;
        const double* next = all.data();
        const auto take = [&next](int count) { next += count; return next - count; };

        // x is (T, N, I), or (N, T, I) with batch_first. Here a layer's input is always (T, N, features).
        const double* x = take(T * N * I);
        const double* h = take(L * D * N * H);
        const auto place = [&](int t, int n) { return first ? n * T + t : t * N + n; };
        int features = I;
        Numbers input(T * N * I), h_n(h, h + L * D * N * H);
        for (int t = 0; t < T; ++t)
            for (int n = 0; n < N; ++n)
                for (int i = 0; i < I; ++i) input[(t * N + n) * I + i] = x[place(t, n) * I + i];

        for (int layer = 0; layer < L; ++layer) {
            Numbers output(T * N * D * H);
            for (int d = 0; d < D; ++d) {
                const double *W_ih = take(H * features), *W_hh = take(H * H);
                const double *b_ih = bias ? take(H) : nullptr, *b_hh = bias ? take(H) : nullptr;
                for (int step = 0; step < T; ++step)
                    for (int n = 0, t = d ? T - 1 - step : step; n < N; ++n) {
                        double* state = &h_n[((layer * D + d) * N + n) * H];
                        const Numbers before(state, state + H);
                        for (int j = 0; j < H; ++j) {
                            double sum = bias ? b_ih[j] + b_hh[j] : 0;
                            const double* x_t = &input[(t * N + n) * features];
                            for (int i = 0; i < features; ++i) sum += W_ih[j * features + i] * x_t[i];
                            for (int k = 0; k < H; ++k) sum += W_hh[j * H + k] * before[k];
                            state[j] = !relu ? std::tanh(sum) : sum < 0 ? 0 : sum;
                            output[((t * N + n) * D + d) * H + j] = state[j];
                        }
                    }
            }
            input = output, features = D * H;
        }
        Numbers output(input.size());
        for (int t = 0; t < T; ++t)
            for (int n = 0; n < N; ++n)
                for (int j = 0; j < D * H; ++j) output[place(t, n) * D * H + j] = input[(t * N + n) * D * H + j];
        std::printf("{\"arrays\": {\"output\": [%d, %d, %d], \"h_n\": [%d, %d, %d]}}\n", first ? N : T, first ? T : N,
                    D * H, L * D, N, H);
        std::fwrite(output.data(), sizeof(double), output.size(), stdout);
        std::fwrite(h_n.data(), sizeof(double), h_n.size(), stdout);
        std::fflush(stdout);
    }
}
