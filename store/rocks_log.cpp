// RocksDB's own log, into ours. Without a logger of ours RocksDB writes a file LOG beside the data, and the RocksDB of
// Debian 12, which is built with assertions, ends the process at the second line that it cannot write there: a full
// disk would stop the server instead of the writes (tests/fault/power met it). It is one file less that could keep user
// data, too.
//
// No exception crosses this file. Threads: the sink is immutable after creation.
#include "store/rocks_log.h"

#include <rocksdb/env.h>

#include <cstdarg>
#include <cstdio>
#include <memory>

// As RocksDB's c.cc has it: the C interface can take a logger and has nothing that makes one.
struct rocksdb_logger_t {
  std::shared_ptr<rocksdb::Logger> rep;
};

namespace {

constexpr size_t LINE_BYTES = 2048;

class SinkLogger final : public rocksdb::Logger {
public:
  explicit SinkLogger(rag_store_rocks_sink sink) : Logger(rocksdb::InfoLogLevel::WARN_LEVEL), sink_(sink) {}

  using Logger::Logv;
  // What has passed the level, with the level's name before it.
  void Logv(const char *format, va_list args) override {
    char line[LINE_BYTES];
    vsnprintf(line, sizeof line, format, args);
    sink_(line);
  }
  void LogHeader(const char *, va_list) override {} // the options, a hundred lines of them

private:
  rag_store_rocks_sink sink_;
};

} // namespace

extern "C" bool rag_store_rocks_log(rocksdb_options_t *options, rag_store_rocks_sink sink) {
  try {
    rocksdb_logger_t logger{std::make_shared<SinkLogger>(sink)};
    rocksdb_options_set_info_log(options, &logger);
    return true;
  } catch (...) {
    return false;
  }
}
