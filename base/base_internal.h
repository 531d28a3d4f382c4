// What base's files share with each other and with base's own tests; not for other folders.
#ifndef RAGD_BASE_INTERNAL_H
#define RAGD_BASE_INTERNAL_H

#include "base/base.h"

// The CRC32C of machines without the instruction: tested against the fast one.
uint32_t rag_base__crc32c_table(uint32_t crc, const void *data, size_t size);
bool rag_base__crc32c_is_hardware(void);

#endif
