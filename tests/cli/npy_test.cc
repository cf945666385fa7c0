#include "cli/npy.h"

#include <gtest/gtest.h>

#include <cstring>

#include "evenkeel/error.h"
#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

class Npy : public testing::Test {
 protected:
  // What the reader says about a file of these bytes.
  std::string error_of(const std::string& bytes) {
    write_file(path_, bytes);
    try {
      const NpyReader reader(path_);
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(path_ + ": ")) << error.what();
      return error.what();
    }
    return "no error";
  }
  void expect_error(const std::string& bytes, const std::string& part) {
    const std::string error = error_of(bytes);
    EXPECT_NE(error.find(part), std::string::npos) << error;
  }

  TemporaryDirectory folder_;
  std::string path_ = folder_ / "x.npy";
  const std::vector<float> six_ = {0, 1, 2, 3, 4, 5};
};

TEST_F(Npy, ReadsFloat32) {
  write_file(path_, npy_bytes(npy_dictionary("<f4", "(2, 3)"), bytes_of(six_)));
  NpyReader reader(path_);
  EXPECT_EQ(reader.header().type, NpyHeader::Type::float32);
  EXPECT_EQ(reader.header().shape, (std::vector<std::int64_t>{2, 3}));
  std::vector<float> values(6);
  reader.read(values.data(), 4);
  reader.read(values.data() + 1, 20);
  EXPECT_EQ(values, six_);
  reader.rewind();
  reader.read(values.data(), 8);
  EXPECT_EQ(values[1], 1);
}

TEST_F(Npy, ReadsFloat64OfEveryShape) {
  const std::vector<double> one = {1.5};
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes = {
      {"()", {}}, {"(1,)", {1}}, {"(1, 1)", {1, 1}}, {"(1L, 1L)", {1, 1}}, {"(1,1,1)", {1, 1, 1}}};
  for (const auto& [shape, sizes] : shapes) {
    write_file(path_, npy_bytes(npy_dictionary("<f8", shape), bytes_of(one)));
    NpyReader reader(path_);
    EXPECT_EQ(reader.header().type, NpyHeader::Type::float64);
    EXPECT_EQ(reader.header().shape, sizes);
    double value = 0;
    reader.read(&value, 8);
    EXPECT_EQ(value, 1.5);
  }
  write_file(path_, npy_bytes(npy_dictionary("<f8", "(0, 7)"), ""));
  EXPECT_EQ(NpyReader(path_).header().shape, (std::vector<std::int64_t>{0, 7}));
}

// Versions 2 and 3 have four bytes for the length of the header.
TEST_F(Npy, ReadsVersions2And3) {
  for (const char version : {'\x02', '\x03'}) {
    std::string header = npy_dictionary("<f4", "(6,)") + "\n";
    std::string bytes = std::string("\x93NUMPY") + version + '\0';
    bytes += static_cast<char>(header.size());
    bytes += std::string(3, '\0');
    write_file(path_, bytes + header + bytes_of(six_));
    NpyReader reader(path_);
    std::vector<float> values(6);
    reader.read(values.data(), 24);
    EXPECT_EQ(values, six_);
  }
}

// The keys may come in any order and in either quotes.
TEST_F(Npy, ReadsAnyPythonDictionary) {
  write_file(path_,
             npy_bytes(R"({"shape":(2,3),"fortran_order":False,"descr":"<f4"})", bytes_of(six_)));
  EXPECT_EQ(NpyReader(path_).header().shape, (std::vector<std::int64_t>{2, 3}));
}

// Of one dimension, or with one that is not 1, the orders are the same.
TEST_F(Npy, ReadsFortranOrderWhereItIsCOrder) {
  for (const char* shape : {"(6,)", "(6, 1)", "(1, 6)", "(1, 6, 1)"}) {
    write_file(path_, npy_bytes(npy_dictionary("<f4", shape, "True"), bytes_of(six_)));
    NpyReader reader(path_);
    std::vector<float> values(6);
    reader.read(values.data(), 24);
    EXPECT_EQ(values, six_) << shape;
  }
  for (const char* shape : {"()", "(1,)", "(1, 1)"}) {
    write_file(path_, npy_bytes(npy_dictionary("<f4", shape, "True"), std::string(4, '\0')));
    EXPECT_NO_THROW(NpyReader{path_}) << shape;
  }
  write_file(path_, npy_bytes(npy_dictionary("<f4", "(0, 7)", "True"), ""));
  EXPECT_NO_THROW(NpyReader{path_});
}

// Fields may be named as the keys of the header are, in any order of the keys.
TEST_F(Npy, NamesStructuredTypesAsSuch) {
  const std::string six = bytes_of(six_);
  for (const std::string descr : {"[('a', '<f4')]", "[('shape', '<f4')]",
                                  "[('shape', '<f4', (2, 3)), ('fortran_order', '|b1')]",
                                  "[(('shape', 'descr'), '<f4'), ('descr', [('shape', '<f4')])]",
                                  R"([("it's", '<f4'), ('a\'shape', '<f4')])"}) {
    expect_error(
        npy_bytes("{'descr': " + descr + ", 'fortran_order': False, 'shape': (6,), }", six),
        "holds a structured array");
    expect_error(npy_bytes("{'shape': (6,), 'fortran_order': False, 'descr': " + descr + "}", six),
                 "holds a structured array");
  }
}

// Followed, the advice loses nothing that a type that is read could keep.
TEST_F(Npy, TheRemedyKeepsThePrecision) {
  const std::vector<std::pair<std::string, std::string>> remedies = {
      {">f4", "astype('<f4'), which keeps every value"},
      {">f8", "astype('<f8'), which keeps every value"},
      {"<f2", "astype('<f4'), which keeps every value"},
      {"<f16", "astype('<f8'), the most precise"},
      {"|b1", "astype('<f4'), which keeps every value"},
      {"|i1", "astype('<f4'), which keeps every value"},
      {"|u1", "astype('<f4'), which keeps every value"},
      {"<i2", "astype('<f4'), which keeps every value"},
      {">u2", "astype('<f4'), which keeps every value"},
      {"<i4", "astype('<f8'), which keeps every value"},
      {">u4", "astype('<f8'), which keeps every value"},
      {"<i8", "astype('<f8'), which keeps integers up to 2^53"},
      {">u8", "astype('<f8'), which keeps integers up to 2^53"},
      {"<c8", "numpy.stack([array.real, array.imag]"},
      {"|O", "save an array of numbers"},
      {"<U5", "save an array of numbers"},
      {"|S3", "save an array of numbers"},
      {"<M8[ns]", "save an array of numbers"},
      {"", "save an array of numbers"}};
  for (const auto& [type, remedy] : remedies) {
    const std::string error = error_of(npy_bytes(npy_dictionary(type, "(6,)"), bytes_of(six_)));
    EXPECT_NE(error.find("holds elements of type '" + type + "', expected float32"),
              std::string::npos)
        << error;
    EXPECT_NE(error.find(remedy), std::string::npos) << error;
  }
}

TEST_F(Npy, RefusesWhatItCannotRead) {
  const std::string six = bytes_of(six_);
  expect_error(npy_bytes(npy_dictionary("<f4", "(2, 3)", "True"), six), "ascontiguousarray");
  expect_error(npy_bytes(npy_dictionary("<f4", "(1, 2, 3)", "True"), six), "Fortran");
}

TEST_F(Npy, RefusesDamagedFiles) {
  const std::string six = bytes_of(six_);
  const std::string good = npy_bytes(npy_dictionary("<f4", "(2, 3)"), six);
  expect_error("", "wrong magic");
  expect_error("PK\x03\x04 a zip archive", "wrong magic");
  std::string version = good;
  version[6] = 4;
  expect_error(version, "version 4");
  // Cut anywhere, the file is refused.
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_NE(error_of(good.substr(0, length)), "no error") << length;
  }
  expect_error(good.substr(0, good.size() - 1),
               "truncated: 23 bytes of elements, the header announces 24");
  expect_error(good + "x", "1 bytes more than the header announces");
  expect_error(npy_bytes(npy_dictionary("<f4", "(-6,)"), six), "damaged");
  expect_error(npy_bytes(npy_dictionary("<f4", "(6"), six), "damaged");
  expect_error(npy_bytes(npy_dictionary("<f4", "(6.0,)"), six), "damaged");
  expect_error(npy_bytes(npy_dictionary("<f4", "(99999999999999999999,)"), six), "damaged");
  // 2^62 * 2^2 elements overflow 64 bits to 0.
  expect_error(npy_bytes(npy_dictionary("<f4", "(4611686018427387904, 4)"), six), "too large");
  expect_error(npy_bytes(npy_dictionary("<f4", "(6,)", "Maybe"), six), "damaged");
  expect_error(npy_bytes("{'shape': (6,), 'fortran_order': False}", six), "damaged");
  expect_error(npy_bytes("not a dictionary", six), "damaged");
  expect_error(npy_bytes("{'descr': None, 'fortran_order': False, 'shape': (6,)}", six), "damaged");
  expect_error(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape'", six), "damaged");
  expect_error(npy_bytes("{'descr': '<f4", six), "damaged");
  expect_error(npy_bytes("{'descr': '<f4\\", six), "damaged");
  std::string long_header = good;
  long_header.replace(6, 6, std::string("\x02\0\xff\xff\xff\x7f", 6));
  expect_error(long_header, "damaged .npy header: a length of");
}

TEST_F(Npy, RefusesWhatIsNoFile) {
  EXPECT_THROW(NpyReader(folder_ / "missing.npy"), Error);
  EXPECT_THROW(NpyReader(folder_.path()), Error);
  EXPECT_THROW(NpyReader("/dev/null"), Error);
}

TEST_F(Npy, NoticesAFileThatShrinksWhileItIsRead) {
  const std::vector<float> many(100000, 1.0F);
  write_file(path_, npy_bytes(npy_dictionary("<f4", "(100000,)"), bytes_of(many)));
  NpyReader reader(path_);
  std::filesystem::resize_file(path_, 200000);
  std::vector<float> values(100000);
  EXPECT_THROW(reader.read(values.data(), 400000), Error);
}

// The layout that the format's description asks for, compared with bytes made independently.
TEST_F(Npy, WritesVersion1) {
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {6}, {2, 3}, {1, 2, 3}};
  const std::vector<std::string> texts = {"()", "(6,)", "(2,3,)", "(1,2,3,)"};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    NpyWriter writer(path_, {NpyHeader::Type::float32, shapes[i]});
    writer.write(six_.data(), 12);
    writer.write(six_.data() + 3, 12);
    writer.commit();
    const std::string written = read_file(path_);
    EXPECT_EQ(written, npy_bytes(npy_dictionary("<f4", texts[i]), bytes_of(six_)));
    EXPECT_EQ((written.size() - 24) % 64, 0U);
  }
}

TEST_F(Npy, WhatIsWrittenIsRead) {
  const NpyHeader header{NpyHeader::Type::float64, {3, 1, 2}};
  const std::vector<double> values = {0.1, -0.0, 1e300, 5e-324, 2, 3};
  NpyWriter writer(path_, header);
  writer.write(values.data(), 48);
  writer.commit();
  NpyReader reader(path_);
  EXPECT_EQ(reader.header().type, header.type);
  EXPECT_EQ(reader.header().shape, header.shape);
  std::vector<double> read(6);
  reader.read(read.data(), 48);
  EXPECT_EQ(bytes_of(read), bytes_of(values));
}

}  // namespace
}  // namespace evenkeel::cli
