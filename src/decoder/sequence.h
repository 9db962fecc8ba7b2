/* sequence.h - text -> decoder: token ids, the stretches that are pictures, and three positions for each token. */
#ifndef QVL_DECODER_SEQUENCE_H
#define QVL_DECODER_SEQUENCE_H

#include <stdint.h>

#include "qvl.h"
#include "vision/encoder.h"

struct qvl_span {            /* the pads of one picture, or of one frame pair of a clip */
    int64_t first, n;        /* tokens [first, first+n) */
    int rows, cols;          /* merged grid, n = rows*cols */
    int media;               /* which picture of the conversation */
    uint64_t key[2];         /* hash of its content and size: equal keys have equal features */
    const struct qvl_vision_features *features; /* borrowed; NULL until encoded. Row i belongs to token first+i */
};

struct qvl_sequence {
    int32_t *id;             /* [n] */
    int32_t *pos;            /* [3][cap]: temporal, height, width of token i at pos[axis*cap + i] */
    int64_t n, cap;
    struct qvl_span *span;   /* in token order, not overlapping */
    int64_t n_span, cap_span;
    int64_t next;            /* position of the token that will follow; delta = next - n */
};

/* Room for `cap` tokens; contents are kept. */
int qvl_sequence_reserve(struct qvl_sequence *s, int64_t cap, qvl_err *err);
void qvl_sequence_free(struct qvl_sequence *s);
void qvl_sequence_clear(struct qvl_sequence *s);
/* A text token; needs room. All axes get `next`, which grows by one. */
void qvl_sequence_add_text(struct qvl_sequence *s, int32_t id);
/* Takes back the last n tokens, which must be text. */
void qvl_sequence_drop_text(struct qvl_sequence *s, int64_t n);
/* rows*cols pads of a picture: (next, next+r, next+c) row by row, then next += max(rows, cols). Needs room for the tokens. */
int qvl_sequence_add_media(struct qvl_sequence *s, int32_t pad, int rows, int cols, int media, const uint64_t key[2], qvl_err *err);
/* Number of leading tokens that are the same in both: ids, and for pads the picture's key. */
int64_t qvl_sequence_common(const struct qvl_sequence *a, const struct qvl_sequence *b);

#endif
