/* tokenizer_lists.h - a tokenizer from lists of tokens and merges, as GGUF metadata hold it. */
#ifndef QVL_TEXT_TOKENIZER_LISTS_H
#define QVL_TEXT_TOKENIZER_LISTS_H

#include "base/buf.h"
#include "text/tokenizer.h"

struct qvl_token_text {
    const char *s; /* not terminated */
    size_t len;
};

/* Kinds of tokens, with the numbers that tokenizer.ggml.token_type uses. */
enum qvl_token_kind {
    QVL_KIND_NORMAL = 1, /* in the byte alphabet */
    QVL_KIND_UNKNOWN = 2,
    QVL_KIND_CONTROL = 3, /* recognised in text; not shown in answers */
    QVL_KIND_USER = 4,    /* recognised in text; shown */
    QVL_KIND_UNUSED = 5,  /* a row without text */
    QVL_KIND_BYTE = 6
};

struct qvl_token_lists {
    const struct qvl_token_text *tokens; /* [n_tokens], by id */
    const int32_t *kinds;                /* [n_tokens] */
    size_t n_tokens;
    const struct qvl_token_text *merges; /* [n_merges] "left right", in order of rank */
    size_t n_merges;
};

/* The lists as the tokenizer.json that they came from. Release b with qvl_buf_free, also after a failure. */
int qvl_token_lists_json(struct qvl_buf *b, const struct qvl_token_lists *l, size_t *n_skipped, const char *what, qvl_err *err);
/* Pre-tokenisation and NFC are those of the Qwen family. Merges of pieces that are no tokens are left out and counted in
 * *n_skipped. `what` names the source in messages. */
int qvl_tokenizer_from_lists(struct qvl_tokenizer **out, const struct qvl_token_lists *l, size_t *n_skipped, const char *what,
                             qvl_err *err);

#endif
