/* draft.c - look-up of repeated token runs, and the decision whether drafting pays. */
#include "engine/draft.h"

#include <string.h>

enum { LONGEST = 4, SHORTEST = 2, FIRST_LENGTH = 4, RETRY_AFTER = 24 };

void qvl_draft_init(struct qvl_draft *d, int off) { *d = (struct qvl_draft){.off = off, .length = FIRST_LENGTH}; }

/* Place behind the latest earlier occurrence of the last `run` tokens, or -1. */
static int64_t find_run(const int32_t *id, int64_t n, int run)
{
    const int32_t *tail = id + n - run;
    for (int64_t at = n - run - 1; at >= 0; at--)
        if (id[at] == tail[0] && memcmp(id + at, tail, (size_t)run * sizeof *id) == 0)
            return at + run;
    return -1;
}

int qvl_draft_guess(struct qvl_draft *d, int32_t *out, const int32_t *id, int64_t n, int32_t image, int32_t video, int64_t most)
{
    if (d->off || d->plain_ms == 0) /* the first step is a plain one: there must be something to compare with */
        return 0;
    if (d->pause > 0) {
        d->pause--;
        return 0;
    }
    int64_t from = -1;
    for (int run = LONGEST; run >= SHORTEST && from < 0; run--)
        if (n > run)
            from = find_run(id, n, run);
    int count = 0;
    while (from >= 0 && count < d->length && count < most && from + count < n && id[from + count] != image && id[from + count] != video) {
        out[count] = id[from + count];
        count++;
    }
    return count;
}

static void mean(double *m, double value) { *m = *m == 0 ? value : 0.8 * *m + 0.2 * value; }

void qvl_draft_learn(struct qvl_draft *d, int n_drafted, int n_accepted, double ms)
{
    if (!n_drafted) {
        mean(&d->plain_ms, ms);
        return;
    }
    d->drafted += (uint32_t)n_drafted;
    d->accepted += (uint32_t)n_accepted;
    mean(&d->draft_ms, ms);
    mean(&d->draft_gain, 1.0 + n_accepted);
    d->length = n_accepted == n_drafted ? d->length + 2 : n_accepted + 1;
    if (d->length > QVL_DRAFT_MAX)
        d->length = QVL_DRAFT_MAX;
    if (d->length < SHORTEST)
        d->length = SHORTEST;
    if (d->draft_gain * d->plain_ms < d->draft_ms) { /* slower than one by one: rest, then try afresh */
        d->pause = RETRY_AFTER;
        d->draft_ms = d->draft_gain = 0;
    }
}
