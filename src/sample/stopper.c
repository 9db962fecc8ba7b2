/* stopper.c - finds stop strings in text that comes in pieces.
 *
 * Each string is followed by the Knuth-Morris-Pratt automaton: its state is the length of the longest prefix of the string
 * that the text ends with. The text that may still turn into a stop string is therefore the largest of the states. */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "sample/sampler.h"

enum { MAX_STOP = 1024, MAX_STOP_LEN = 1 << 16 };

/* fail[i] = length of the longest proper prefix of s[0..i] that is also its suffix. */
static void failure_function(const char *s, size_t n, size_t *fail)
{
    fail[0] = 0;
    for (size_t i = 1, k = 0; i < n; i++) {
        while (k && s[i] != s[k])
            k = fail[k - 1];
        k += s[i] == s[k];
        fail[i] = k;
    }
}

int qvl_stopper_init(struct qvl_stopper *s, const char *const *stop, size_t n_stop, size_t max_piece, qvl_err *err)
{
    size_t total = 0, longest = 1;
    *s = (struct qvl_stopper){.stop = stop, .n_stop = n_stop};
    if (n_stop > MAX_STOP)
        return qvl_fail(err, QVL_E_LIMIT, "stop: %zu strings, the limit is %d", n_stop, MAX_STOP);
    for (size_t i = 0; i < n_stop; i++) {
        size_t n = stop[i] ? strlen(stop[i]) : 0;
        if (n == 0)
            return qvl_fail(err, QVL_E_ARG, "stop[%zu]: is empty", i);
        if (n > MAX_STOP_LEN)
            return qvl_fail(err, QVL_E_LIMIT, "stop[%zu]: %zu bytes, the limit is %d", i, n, MAX_STOP_LEN);
        total += n;
        longest = n > longest ? n : longest;
    }
    s->hold = longest - 1;
    if (qvl_add_size(&s->cap, s->hold, max_piece))
        return qvl_fail(err, QVL_E_ARG, "stop: a piece of %zu bytes", max_piece);
    s->tail = qvl_alloc(s->cap, 1);
    s->len = qvl_alloc(n_stop, sizeof *s->len);
    s->fail = qvl_alloc(total, sizeof *s->fail);
    s->state = qvl_calloc(n_stop, sizeof *s->state);
    if (!s->tail || !s->len || !s->fail || !s->state) {
        qvl_stopper_free(s);
        return qvl_fail_nomem(err, s->cap + total * sizeof *s->fail, "stop strings");
    }
    for (size_t i = 0, at = 0; i < n_stop; at += s->len[i++]) {
        s->len[i] = strlen(stop[i]);
        failure_function(stop[i], s->len[i], s->fail + at);
    }
    return 0;
}

void qvl_stopper_free(struct qvl_stopper *s)
{
    if (!s)
        return;
    qvl_mem_free(s->tail);
    qvl_mem_free(s->len);
    qvl_mem_free(s->fail);
    qvl_mem_free(s->state);
    *s = (struct qvl_stopper){0};
}

/* Feeds one byte to every automaton; returns the length of the longest string that is complete now, else 0. */
static size_t step(struct qvl_stopper *s, char c)
{
    size_t found = 0;
    const size_t *fail = s->fail;
    for (size_t i = 0; i < s->n_stop; fail += s->len[i++]) {
        size_t k = s->state[i];
        while (k && (k == s->len[i] || s->stop[i][k] != c))
            k = fail[k - 1];
        k += s->stop[i][k] == c;
        s->state[i] = k;
        if (k == s->len[i] && k > found)
            found = k;
    }
    return found;
}

/* Forgets what the last call handed out. */
static void drop_given(struct qvl_stopper *s)
{
    s->n_tail -= s->n_out;
    if (s->n_tail && s->n_out)
        memmove(s->tail, s->tail + s->n_out, s->n_tail);
    s->n_out = 0;
}

int qvl_stopper_push(struct qvl_stopper *s, const char *text, size_t len, const char **out, size_t *out_len)
{
    drop_given(s);
    *out = s->tail;
    *out_len = 0;
    if (len > s->cap - s->n_tail)
        return QVL_E_STATE;
    for (size_t i = 0; i < len; i++) {
        s->tail[s->n_tail++] = text[i];
        size_t found = step(s, text[i]);
        if (found) {
            *out_len = s->n_tail - found;
            s->n_out = s->n_tail; /* the string and what follows are gone */
            memset(s->state, 0, s->n_stop * sizeof *s->state);
            return 1;
        }
    }
    size_t withheld = 0;
    for (size_t i = 0; i < s->n_stop; i++)
        withheld = s->state[i] > withheld ? s->state[i] : withheld;
    *out_len = s->n_out = s->n_tail - withheld;
    return 0;
}

void qvl_stopper_flush(struct qvl_stopper *s, const char **out, size_t *out_len)
{
    drop_given(s);
    *out = s->tail;
    *out_len = s->n_out = s->n_tail;
    memset(s->state, 0, s->n_stop * sizeof *s->state);
}
