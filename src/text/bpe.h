/* bpe.h - byte pair merging of one word. */
#ifndef QVL_TEXT_BPE_H
#define QVL_TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "text/tokenizer.h"

/* One merge: the pair (a, b) becomes id; low ranks first. */
struct qvl_merge {
    int32_t a, b;
    int32_t rank, id; /* rank -1: empty slot */
};

struct qvl_bpe {
    int32_t byte_id[256];
    struct qvl_merge *slot; /* open addressing, [mask + 1] */
    size_t mask;
    int32_t *id_of_rank; /* [n_merges] */
};

/* Makes room for n merges. */
int qvl_bpe_init(struct qvl_bpe *b, size_t n, qvl_err *err);
void qvl_bpe_free(struct qvl_bpe *b);
/* rank < n. A pair added twice keeps the later rank, as in the reference. */
void qvl_bpe_add(struct qvl_bpe *b, int32_t left, int32_t right, size_t rank, int32_t id);

/* Scratch of an encoding; grows to the longest word. */
struct qvl_bpe_work {
    struct symbol *sym;
    uint64_t *heap;
    size_t cap;
};
void qvl_bpe_work_free(struct qvl_bpe_work *w);
/* Appends the ids of a word of n bytes. O(n log n). */
int qvl_bpe_encode(const struct qvl_bpe *b, struct qvl_bpe_work *w, const char *word, size_t n, struct qvl_ids *out,
                   qvl_err *err);

#endif
