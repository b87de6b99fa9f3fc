// One tanh layer, one direction and one sum of both biases, in float64; docs/how-to-devices.md calls it from Python.
#include <cmath>

extern "C" void rnn(const double* x, const double* h0, const double* W_ih, const double* W_hh, const double* b,
                    double* output, int T, int N, int I, int H) {
    for (int t = 0; t < T; ++t)
        for (int n = 0; n < N; ++n) {
            const double* h = t ? output + ((t - 1) * N + n) * H : h0 + n * H;
            for (int j = 0; j < H; ++j) {
                double sum = b[j];
                for (int i = 0; i < I; ++i) sum += x[(t * N + n) * I + i] * W_ih[j * I + i];
                for (int k = 0; k < H; ++k) sum += h[k] * W_hh[j * H + k];
                output[(t * N + n) * H + j] = std::tanh(sum);
            }
        }
}
