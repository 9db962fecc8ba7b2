/* sampler.h - logits -> token id, in the reference's order (section 9 of the model notes):
 * repetition penalty, frequency and presence penalty, [temperature, top-k, top-p, min-p, softmax, one draw]. */
#ifndef QVL_SAMPLE_SAMPLER_H
#define QVL_SAMPLE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "qvl.h"

struct qvl_sampler_params {
    int greedy;
    float temperature;
    int top_k;
    float top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    uint64_t seed;
};

struct qvl_sampler {
    struct qvl_sampler_params p;
    int n_vocab;
    uint64_t rng[4];       /* xoshiro256**, seeded by splitmix64 */
    uint32_t *count;       /* [n_vocab] how often generated */
    uint8_t *seen;         /* [n_vocab] in prompt or answer */
    float *score;          /* [n_vocab] work copy */
    int32_t *order;        /* [n_vocab] work */
    const uint8_t *banned; /* [n_vocab] 1 = never (rows without text), or NULL; borrowed */
};

/* Takes its memory from the arena (counting pass included). */
void qvl_sampler_take(struct qvl_sampler *s, struct qvl_arena *a, int n_vocab);
/* Checks ranges (QVL_E_ARG naming the field) and starts a new answer. */
int qvl_sampler_begin(struct qvl_sampler *s, const struct qvl_sampler_params *p, const uint8_t *banned,
                      const int32_t *prompt, size_t n_prompt, qvl_err *err);
/* Picks the next id and counts it. Deterministic for the same logits, parameters and seed. No allocation. NaN logits never
 * win; QVL_E_STATE when no id is possible. */
int qvl_sampler_pick(struct qvl_sampler *s, const float *logits, int32_t *id, qvl_err *err);
/* The first half of a pick, for tests: scores after every processor in s->score (-INFINITY = ruled out), the ids that are
 * left in s->order, ascending. Returns their number; 1 when greedy. */
size_t qvl_sampler_filter(struct qvl_sampler *s, const float *logits);

/* Stop strings, found across token borders: text goes in, the part that certainly does not belong to a stop string comes
 * out. */
struct qvl_stopper {
    const char *const *stop; /* borrowed */
    size_t n_stop, hold;     /* hold: length of the longest - 1 */
    char *tail;              /* [hold+1] withheld text, from qvl_alloc */
    size_t n_tail, cap;
    size_t n_out;       /* of the tail: handed out by the last call, dropped by the next */
    size_t *len, *fail; /* [n_stop] lengths; the failure functions of all strings, one after the other */
    size_t *state;      /* [n_stop] how much of each string the text ends with */
};
/* max_piece: longest text that one push will bring. */
int qvl_stopper_init(struct qvl_stopper *s, const char *const *stop, size_t n_stop, size_t max_piece, qvl_err *err);
void qvl_stopper_free(struct qvl_stopper *s);
/* Returns 1 when a stop string was found (then *out is the text in front of it), else 0. *out points into the stopper and
 * is valid until the next call. Only text that could be the beginning of a stop string is withheld. The string that is
 * complete first wins, of those that end together the longest: so the result does not depend on how the text is cut.
 * QVL_E_STATE when len is over max_piece (then nothing was taken). No allocation, linear time. */
int qvl_stopper_push(struct qvl_stopper *s, const char *text, size_t len, const char **out, size_t *out_len);
/* The withheld rest, at the end. */
void qvl_stopper_flush(struct qvl_stopper *s, const char **out, size_t *out_len);

#endif
