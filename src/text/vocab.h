/* vocab.h - the tokens and added tokens of a tokenizer as they are kept in memory; how they are read is vocab.c's matter. */
#ifndef QVL_TEXT_VOCAB_H
#define QVL_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "text/bpe.h"
#include "text/tokenizer.h"

/* A token that is recognised in the text before anything else. */
struct qvl_added {
    uint32_t *cp; /* its text as code points */
    size_t n;
    int32_t id;
    uint8_t special, lstrip, rstrip;
};
/* Sorted by text, so that the candidates at a position are found by narrowing a range. */
struct qvl_added_set {
    struct qvl_added *v;
    size_t n, cap;
    uint8_t first[128]; /* ASCII characters with which one begins */
    int first_other;    /* one begins with something else */
};

enum { QVL_TOKEN_TEXT = 1, QVL_TOKEN_ADDED = 2, QVL_TOKEN_SPECIAL = 4 };

struct qvl_tokenizer {
    size_t n_ids;        /* largest id + 1 */
    struct qvl_buf pool; /* raw bytes of all tokens */
    struct qvl_token {
        uint32_t at, len; /* in pool */
        uint8_t flags;    /* QVL_TOKEN_ bits */
    } * token;            /* [n_ids] */
    struct qvl_bpe bpe;
    int nfc;                          /* normalise ordinary text */
    struct qvl_added_set raw, normal; /* matched in the text as given, and after normalisation */
};

#endif
