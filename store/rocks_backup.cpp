// RocksDB's backup engine behind C (rocks_backup.h says why). No exception crosses this file.
//
// What a backup folder of the engine holds is its own business, but for meta/N, which backup.c reads once, when the
// backup has just been made: the list of files with their CRC32C.
#include "store/rocks_backup.h"

#include <rocksdb/db.h>
#include <rocksdb/utilities/backup_engine.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

// As RocksDB's c.cc has it.
struct rocksdb_t {
  rocksdb::DB *rep;
};
struct rocksdb_options_t {
  rocksdb::Options rep;
};

// `lock` guards tick and ctx, and hands what lies behind them to the engine's threads, whose own hand-over is right, but
// in a library that ThreadSanitizer cannot look into. It is made before the threads are.
struct rag_rocks_backup {
  std::mutex lock;
  bool (*tick)(void *ctx) = nullptr;
  void *ctx = nullptr;
  std::unique_ptr<rocksdb::BackupEngine> engine; // ends first, and its threads with it
};

namespace {

char *message_of(const rocksdb::Status &status) {
  return status.ok() ? nullptr : strdup(status.ToString().c_str());
}

// Runs `body`, which gives a status, and turns exceptions into messages.
template <typename Body> char *guarded(Body body) {
  try {
    return message_of(body());
  } catch (const std::exception &e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("unknown exception");
  }
}

} // namespace

extern "C" char *rag_rocks_backup_open(const char *folder, rag_rocks_backup **out) {
  return guarded([&]() -> rocksdb::Status {
    auto holder = std::make_unique<rag_rocks_backup>();
    rocksdb::BackupEngineOptions options(folder);
    options.share_table_files = true;
    options.share_files_with_checksum = true; // names hold session and size: files of two histories never meet
    options.sync = true;
    options.backup_log_files = true; // families are flushed one after the other; the log brings them to one point
    options.max_background_operations = 1;
    options.callback_trigger_interval_size = RAG_ROCKS_BACKUP_TICK_BYTES;
    rocksdb::BackupEngine *engine = nullptr;
    rocksdb::Status status = rocksdb::BackupEngine::Open(options, rocksdb::Env::Default(), &engine);
    if (!status.ok()) return status;
    holder->engine.reset(engine);
    *out = holder.release();
    return status;
  });
}

extern "C" void rag_rocks_backup_close(rag_rocks_backup *engine) {
  delete engine;
}

extern "C" char *rag_rocks_backup_create(rag_rocks_backup *engine, rocksdb_t *db, bool (*tick)(void *ctx), void *ctx,
                                         uint32_t *out_id) {
  {
    std::lock_guard<std::mutex> hold(engine->lock);
    engine->tick = tick;
    engine->ctx = ctx;
  }
  char *message = guarded([&]() -> rocksdb::Status {
    rocksdb::CreateBackupOptions options;
    options.flush_before_backup = true;
    options.progress_callback = [engine] {
      std::lock_guard<std::mutex> hold(engine->lock);
      if (!engine->tick(engine->ctx)) engine->engine->StopBackup();
    };
    rocksdb::BackupID id = 0;
    rocksdb::Status status = engine->engine->CreateNewBackup(options, db->rep, &id);
    if (status.ok()) *out_id = id;
    return status;
  });
  std::lock_guard<std::mutex> hold(engine->lock);
  return message;
}

extern "C" char *rag_rocks_backup_delete(rag_rocks_backup *engine, uint32_t id) {
  return guarded([&]() -> rocksdb::Status {
    rocksdb::Status status = engine->engine->DeleteBackup(id);
    return status.IsNotFound() ? rocksdb::Status(engine->engine->GarbageCollect()) : status;
  });
}

extern "C" void rag_rocks_identity_apart(rocksdb_options_t *options) {
  options->rep.write_dbid_to_manifest = false;
}

extern "C" char *rag_rocks_identity(rocksdb_t *db, char *out, size_t out_size) {
  return guarded([&]() -> rocksdb::Status {
    std::string identity;
    rocksdb::Status status = db->rep->GetDbIdentity(identity);
    if (status.ok()) snprintf(out, out_size, "%s", identity.c_str());
    return status;
  });
}

extern "C" char *rag_rocks_verify_tables(rocksdb_t *db) {
  return guarded([&]() -> rocksdb::Status { return db->rep->VerifyChecksum(); });
}
