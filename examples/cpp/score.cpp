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
#include <fstream>
#include <iterator>
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

std::vector<uint8_t> resized(const uint8_t* pixels, int width, int height, int to_width, int to_height) {
  std::vector<uint8_t> across(pixels, pixels + 3 * static_cast<size_t>(width) * height);
  if (width != to_width) {
    across.resize(3 * static_cast<size_t>(to_width) * height);
    resize_pass(pixels, across.data(), height, width, to_width, 1, make_taps(width, to_width));
  }
  if (height == to_height) return across;
  std::vector<uint8_t> result(3 * static_cast<size_t>(to_width) * to_height);
  resize_pass(across.data(), result.data(), to_width, 1, 1, to_width, make_taps(height, to_height));
  return result;
}

// What export.json says of a model beside its input's size.
struct Settings {
  bool letterbox = false;
  float limit = 0;
};

Settings read_settings(const std::filesystem::path& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto value_of = [&](const std::string& name) {
    const size_t at = text.find("\"" + name + "\":");
    if (at == std::string::npos) throw std::runtime_error(path.string() + ": no " + name);
    return text.substr(text.find_first_not_of(' ', at + name.size() + 3), 24);
  };
  if (text.find("\"png\":") != std::string::npos) {
    throw std::runtime_error(path.string() + ": a region of interest, which this example does not fill");
  }
  return {value_of("keeps_aspect_ratio").rfind("true", 0) == 0, std::stof(value_of("limit"))};
}

// Where in the input an image lies: all of it, or letterboxed in its middle (preprocessing.resize.box).
struct Box {
  int top, left, height, width;
};

Box box_of(int width, int height, int to_width, int to_height, bool letterbox) {
  if (!letterbox) return {0, 0, to_height, to_width};
  const double scale = std::min(static_cast<double>(to_height) / height, static_cast<double>(to_width) / width);
  const int h = std::clamp(static_cast<int>(std::nearbyint(height * scale)), 1, to_height);
  const int w = std::clamp(static_cast<int>(std::nearbyint(width * scale)), 1, to_width);
  return {(to_height - h) / 2, (to_width - w) / 2, h, w};
}

void score(ov::InferRequest& request, int to_width, int to_height, const Settings& settings, const char* file) {
  constexpr uint8_t kFill[3] = {124, 116, 104};
  int width = 0, height = 0, channels = 0;
  uint8_t* pixels = stbi_load(file, &width, &height, &channels, 3);  // RGB
  if (pixels == nullptr) throw std::runtime_error(std::string(file) + ": " + stbi_failure_reason());
  if (to_width == 0) to_width = width, to_height = height;  // the model resizes by itself
  const Box box = box_of(width, height, to_width, to_height, settings.letterbox);
  const std::vector<uint8_t> image = resized(pixels, width, height, box.width, box.height);
  stbi_image_free(pixels);
  std::vector<uint8_t> input(3 * static_cast<size_t>(to_width) * to_height);
  for (size_t i = 0; i < input.size(); ++i) input[i] = kFill[i % 3];
  for (int y = 0; y < box.height; ++y) {
    const auto* row = image.data() + 3 * static_cast<size_t>(y) * box.width;
    std::copy(row, row + 3 * box.width, input.data() + 3 * (static_cast<size_t>(box.top + y) * to_width + box.left));
  }
  const auto rows = static_cast<size_t>(to_height), columns = static_cast<size_t>(to_width);
  request.set_tensor("image", ov::Tensor(ov::element::u8, {1, rows, columns, 3}, input.data()));
  request.infer();
  float value = request.get_tensor("score").data<float>()[0];
  bool bad = *static_cast<const uint8_t*>(request.get_tensor("verdict").data()) != 0;
  if (settings.letterbox) {  // the model does not know where the image lies
    const float* map = request.get_tensor("map").data<float>();
    value = -INFINITY;
    for (int y = box.top; y < box.top + box.height; ++y) {
      const float* row = map + static_cast<size_t>(y) * to_width + box.left;
      value = std::max(value, *std::max_element(row, row + box.width));
    }
    bad = value > settings.limit;
  }
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
    const Settings settings = read_settings(std::filesystem::path(argv[1]) / "export.json");
    const auto shape = compiled.input("image").get_partial_shape();
    const bool native = shape[1].is_dynamic();  // thfr export --input native
    const int height = native ? 0 : static_cast<int>(shape[1].get_length());
    const int width = native ? 0 : static_cast<int>(shape[2].get_length());
    ov::InferRequest request = compiled.create_infer_request();
    for (int i = 2; i < argc; ++i) score(request, width, height, settings, argv[i]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "thfr_score: %s\n", error.what());
    return 1;
  }
  return 0;
}
