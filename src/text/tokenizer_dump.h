/* tokenizer_dump.h - a tokenizer as the lists that GGUF metadata hold: the other direction of tokenizer_lists.h. */
#ifndef QVL_TEXT_TOKENIZER_DUMP_H
#define QVL_TEXT_TOKENIZER_DUMP_H

#include "base/buf.h"
#include "text/tokenizer_lists.h"

/* Appends the text of an id: ordinary tokens in the byte alphabet, added tokens as they are, "[PAD17]" for ids without text. Ids at
 * and behind qvl_tokenizer_size are such ids, too. As converters do, tokens of the form <|...|> are control tokens even where they
 * are not marked special. */
enum qvl_token_kind qvl_tokenizer_entry(const struct qvl_tokenizer *t, int32_t id, struct qvl_buf *out);

/* The merges in order of rank, as ids of their two sides. *list is from qvl_alloc. */
struct qvl_merge_pair {
    int32_t left, right, rank;
};
int qvl_tokenizer_merges(const struct qvl_tokenizer *t, struct qvl_merge_pair **list, size_t *n, qvl_err *err);

#endif
