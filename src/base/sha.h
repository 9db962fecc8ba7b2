/* sha.h - SHA-1 and SHA-256 (FIPS 180-4) of a stream of bytes: what hubs name and check their files by. */
#ifndef QVL_BASE_SHA_H
#define QVL_BASE_SHA_H

#include <stddef.h>
#include <stdint.h>

enum qvl_sha_kind { QVL_SHA1, QVL_SHA256 };

struct qvl_sha {
    enum qvl_sha_kind kind;
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64]; /* [bytes % 64] not yet used */
};

#define QVL_SHA_HEX 65 /* room for the longer digest in hexadecimal, with its NUL */

void qvl_sha_init(struct qvl_sha *s, enum qvl_sha_kind kind);
void qvl_sha_add(struct qvl_sha *s, const void *data, size_t len);
/* The digest in lower case, 40 or 64 characters. The state is used up. */
void qvl_sha_hex(struct qvl_sha *s, char out[QVL_SHA_HEX]);

#endif
