#ifndef KONTIKI_CCHECKSUM_H
#define KONTIKI_CCHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `count` bytes, continued from `crc`; begin with 0.
uint32_t kontiki_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same by table lookup only; tests compare both.
uint32_t kontiki_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

#endif
