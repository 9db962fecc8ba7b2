/* draft.h - guessing the next tokens from what was said before, so that one step can confirm several.
 *
 * Answers about documents, JSON and edits repeat long stretches of the prompt or of themselves. The last few tokens are
 * looked up in the sequence, and what followed them there is the draft. The model computes all drafted tokens in one
 * step; each is kept only if it is what would have been chosen anyway, so the answer is the same as without drafts. */
#ifndef QVL_ENGINE_DRAFT_H
#define QVL_ENGINE_DRAFT_H

#include <stdint.h>

enum { QVL_DRAFT_MAX = 7 }; /* with the token before it, 8: the most that a step computes for little more than one */

struct qvl_draft {
    int off;            /* never draft */
    int length;         /* tokens to draft next: grows while drafts are right, shrinks when they are wrong */
    int pause;          /* steps until drafting is tried again */
    double plain_ms;    /* running mean of a step of one token; 0 = not measured */
    double draft_ms;    /* running mean of a drafted step ... */
    double draft_gain;  /* ... and of the tokens that it brought */
    uint32_t drafted, accepted; /* totals */
};

void qvl_draft_init(struct qvl_draft *d, int off);
/* Fills out[0..length) with a guess of what follows id[0..n); returns its length, 0 when there is none or drafting does
 * not pay at present. A draft ends in front of picture pads. At most `most` tokens. */
int qvl_draft_guess(struct qvl_draft *d, int32_t *out, const int32_t *id, int64_t n, int32_t image, int32_t video, int64_t most);
/* A step of 1 + n_drafted tokens took ms and brought 1 + n_accepted tokens. */
void qvl_draft_learn(struct qvl_draft *d, int n_drafted, int n_accepted, double ms);

#endif
