/* unicode.h - what the tokenizer needs to know about code points: letter, number, white space, and NFC.
 *
 * The tables are generated from the reference's own answers (tools/reference/make_unicode_tables.py) rather than taken from
 * a Unicode library: the reference sorts letters by Unicode 16 but normalises by Unicode 9, and a prompt must give the same
 * ids whatever version of a library a system has. Code points travel as uint32_t whose upper 8 bits belong to the caller
 * (the tokenizer keeps the trust of the text there); QVL_CP() removes them. */
#ifndef QVL_TEXT_UNICODE_H
#define QVL_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "qvl.h"

#define QVL_CP(x)           ((x)&0x1fffffu)
#define QVL_TAG(x)          ((x) >> 24)
#define QVL_TAGGED(cp, tag) ((uint32_t)(cp) | (uint32_t)(tag) << 24)

enum {
    QVL_UC_LETTER = 1, /* \p{L} */
    QVL_UC_NUMBER = 2, /* \p{N} */
    QVL_UC_SPACE = 4,  /* \s */
    QVL_UC_ACTIVE = 8  /* NFC may change it or join it to what stands before; everything else starts afresh */
};
unsigned qvl_uc_lookup(uint32_t cp); /* QVL_UC_ bits; cp without tag */

/* Growable list of tagged code points. */
struct qvl_cps {
    uint32_t *cp;
    size_t n, cap;
};
int qvl_cps_reserve(struct qvl_cps *c, size_t more, qvl_err *err);
void qvl_cps_free(struct qvl_cps *c);

/* NFC of in[0..n), appended to out. A composed character gets the smallest tag of its parts. Linear time, also for endless
 * runs of combining marks. */
int qvl_nfc(struct qvl_cps *out, const uint32_t *in, size_t n, qvl_err *err);
/* 1 if NFC certainly leaves the text as it is. */
int qvl_nfc_is_plain(const uint32_t *in, size_t n);

/* Generated tables. _class and _ccc: start << 8 | value, valid up to the next start. _decomp: full canonical decompositions
 * (without Hangul, which is arithmetic) in _pool. _comp: pairs that compose, sorted. */
struct qvl_uc_decomp {
    uint32_t cp;
    uint16_t at, n;
};
struct qvl_uc_comp {
    uint32_t a, b, c;
};
extern const uint32_t qvl_uc_class[], qvl_uc_ccc[], qvl_uc_pool[];
extern const struct qvl_uc_decomp qvl_uc_decomp[];
extern const struct qvl_uc_comp qvl_uc_comp[];
extern const size_t qvl_uc_class_n, qvl_uc_ccc_n, qvl_uc_pool_n, qvl_uc_decomp_n, qvl_uc_comp_n;

#endif
