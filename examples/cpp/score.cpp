// Scores images with an exported model: thfr_score DIR IMAGE...
//
// Prints a line an image: score, verdict, file. The model holds everything but decoding and resizing; the resize
// below gives Pillow's bytes (export.json, preprocessing.resize), since another filter gives another score.

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int kBits = 22;  // of the fixed-point weights

struct Taps {
  int first;
  std::vector<int32_t> weights;
};

// The triangle filter, as wide as an output pixel where the image shrinks: anti-aliased bilinear.
std::vector<Taps> make_taps(int source, int size) {
  const double scale = static_cast<double>(source) / size, width = std::max(scale, 1.0);
  std::vector<Taps> taps(size);
  for (int i = 0; i < size; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - width + 0.5), 0);
    const int last = std::min(static_cast<int>(centre + width + 0.5), source);
    std::vector<double> shares;
    double total = 0;
    for (int x = first; x < last; ++x) {
      shares.push_back(std::max(1 - std::abs((x - centre + 0.5) / width), 0.0));
      total += shares.back();
    }
    taps[i].first = first;
    for (double share : shares) {
      taps[i].weights.push_back(static_cast<int32_t>(0.5 + share / total * (1 << kBits)));
    }
  }
  return taps;
}

// One pass of the resize: `lines` runs of `source` pixels, `step` pixels apart within a run.
void resize_pass(const uint8_t* in, uint8_t* out, int lines, int in_line, int out_line, int step, const std::vector<Taps>& taps) {
  for (int line = 0; line < lines; ++line) {
    for (size_t i = 0; i < taps.size(); ++i) {
      for (int c = 0; c < 3; ++c) {
        const uint8_t* pixel = in + 3 * (line * in_line + taps[i].first * step) + c;
        int32_t sum = 1 << (kBits - 1);
        for (size_t k = 0; k < taps[i].weights.size(); ++k) sum += pixel[3 * k * step] * taps[i].weights[k];
        out[3 * (line * out_line + static_cast<int>(i) * step) + c] = static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255));
      }
    }
  }
}

std::vector<uint8_t> resized(const uint8_t* pixels, int width, int height, int size) {
  std::vector<uint8_t> across(pixels, pixels + 3 * static_cast<size_t>(width) * height);
  if (width != size) {
    across.resize(3 * static_cast<size_t>(size) * height);
    resize_pass(pixels, across.data(), height, width, size, 1, make_taps(width, size));
  }
  if (height == size) return across;
  std::vector<uint8_t> result(3 * static_cast<size_t>(size) * size);
  resize_pass(across.data(), result.data(), size, 1, 1, size, make_taps(height, size));
  return result;
}

void score(ov::InferRequest& request, int size, const char* file) {
  int width = 0, height = 0, channels = 0;
  uint8_t* pixels = stbi_load(file, &width, &height, &channels, 3);  // RGB
  if (pixels == nullptr) throw std::runtime_error(std::string(file) + ": " + stbi_failure_reason());
  std::vector<uint8_t> input = resized(pixels, width, height, size);
  stbi_image_free(pixels);
  const auto edge = static_cast<size_t>(size);
  request.set_tensor("image", ov::Tensor(ov::element::u8, {1, edge, edge, 3}, input.data()));
  request.infer();
  const float value = request.get_tensor("score").data<float>()[0];
  const bool bad = *static_cast<const uint8_t*>(request.get_tensor("verdict").data()) != 0;
  std::printf("%.9g\t%s\t%s\n", value, bad ? "bad" : "good", file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: thfr_score DIR IMAGE...\n");
    return 2;
  }
  try {
    const auto model = std::filesystem::path(argv[1]) / "model.onnx";
    ov::CompiledModel compiled = ov::Core().compile_model(model.string(), "CPU", ov::hint::inference_precision(ov::element::f32));
    const int size = static_cast<int>(compiled.input("image").get_partial_shape()[1].get_length());
    ov::InferRequest request = compiled.create_infer_request();
    for (int i = 2; i < argc; ++i) score(request, size, argv[i]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "thfr_score: %s\n", error.what());
    return 1;
  }
  return 0;
}
